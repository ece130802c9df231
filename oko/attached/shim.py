"""The shim: the header that Oko puts before a packet, for Open vSwitch to continue with what an id stands for.

22 bytes: reserved Ethernet addresses, which no bridge forwards and NORMAL neither forwards nor learns; the ethertype of
NSH; and an NSH header (RFC 8300, section 2) of metadata type 2 without metadata, whose service path is the id. The
whole frame of the packet follows.
"""

from __future__ import annotations

from typing import Final

from ofext.messages import FlowMod
from ofext.oxm import Oxm

ETHERTYPE: Final = 0x894F
DESTINATION: Final = bytes.fromhex("0180c200000e")
"""The nearest bridge's: not forwarded by any (IEEE 802.1Q, table 8-1)."""
SOURCE: Final = bytes.fromhex("0200000c0000")
SERVICE_INDEX: Final = 0xFF
IDS: Final = range(1, 1 << 24)

_METADATA_TYPE: Final = 2
_NEXT_ETHERNET: Final = 3
_BASE_HEADER: Final = bytes((0x0F, 0xC2, _METADATA_TYPE, _NEXT_ETHERNET))
"""Version 0, TTL 63, two words long."""

SIZE: Final = len(DESTINATION) + len(SOURCE) + 2 + len(_BASE_HEADER) + 4
"""Bytes that the shim adds to a frame."""

OWN_COOKIE: Final = 1 << 63
"""A bit in the cookies of Oko's own rules. A change that is to spare them has it in its cookie's mask."""
PRIORITY: Final = 65535
"""Of the rules that say what to do with a shim. Users' rules in table 0 do not have it, nor that of the rule below."""
DROP_PRIORITY: Final = PRIORITY - 1

_BASIC: Final = 0x8000
_EXPERIMENTER: Final = 0xFFFF
_NSH: Final = 0x005AD650  # the experimenter of Open vSwitch's NXOXM_NSH fields


def frame(shim_id: int, inner: bytes) -> bytes:
    """The frame that is `inner` behind a shim."""
    path = shim_id.to_bytes(3, "big") + bytes((SERVICE_INDEX,))
    return DESTINATION + SOURCE + ETHERTYPE.to_bytes(2, "big") + _BASE_HEADER + path + inner


def match(shim_id: int | None = None, *, port: int | None = None) -> tuple[Oxm, ...]:
    """What matches the frames with this shim, or with any; those that come in by `port`, or by any."""
    fields = [] if port is None else [Oxm(_BASIC, 0, port.to_bytes(4, "big"))]
    fields.append(Oxm(_BASIC, 5, ETHERTYPE.to_bytes(2, "big")))
    fields.append(_nsh(2, bytes((_METADATA_TYPE,))))
    fields.append(_nsh(3, bytes((_NEXT_ETHERNET,))))
    if shim_id is not None:
        fields.append(_nsh(4, shim_id.to_bytes(4, "big")))
    fields.append(_nsh(5, bytes((SERVICE_INDEX,))))
    return tuple(fields)


def _nsh(number: int, value: bytes) -> Oxm:
    return Oxm(_EXPERIMENTER, number, value, None, _NSH)


DROP: Final = FlowMod(cookie=OWN_COOKIE, priority=DROP_PRIORITY, match=match())
"""Adds the rule that drops every shim that no other rule knows."""
