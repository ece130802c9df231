"""The shim (`oko.flow.shim`) as Open vSwitch's rules see it: what matches it, and what marks Oko's own rules."""

from __future__ import annotations

from typing import Final

from ofext.messages import FlowMod
from ofext.oxm import Oxm
from oko.flow.shim import ETHERTYPE, IDS, METADATA_TYPE, NEXT_ETHERNET, SERVICE_INDEX, SIZE, frame

__all__ = [
    "DROP",
    "DROP_PRIORITY",
    "ETHERTYPE",
    "IDS",
    "OWN_COOKIE",
    "PRIORITY",
    "SIZE",
    "STAND_IN_COOKIE",
    "frame",
    "match",
]

OWN_COOKIE: Final = 1 << 63
"""A bit in the cookies of Oko's own rules. A change that is to spare them has it in its cookie's mask."""
STAND_IN_COOKIE: Final = 1 << 62
"""Another, in the cookies of those that stand in for plain rules (`oko.attached.stand_in`)."""
PRIORITY: Final = 65535
"""Of the rules that say what to do with a shim. Users' rules in table 0 do not have it, nor that of the rule below."""
DROP_PRIORITY: Final = PRIORITY - 1

_BASIC: Final = 0x8000
_EXPERIMENTER: Final = 0xFFFF
_NSH: Final = 0x005AD650  # the experimenter of Open vSwitch's NXOXM_NSH fields


def match(shim_id: int | None = None, *, port: int | None = None) -> tuple[Oxm, ...]:
    """What matches the frames with this shim, or with any; those that come in by `port`, or by any."""
    fields = [] if port is None else [Oxm(_BASIC, 0, port.to_bytes(4, "big"))]
    fields.append(Oxm(_BASIC, 5, ETHERTYPE.to_bytes(2, "big")))
    fields.append(_nsh(2, bytes((METADATA_TYPE,))))
    fields.append(_nsh(3, bytes((NEXT_ETHERNET,))))
    if shim_id is not None:
        fields.append(_nsh(4, shim_id.to_bytes(4, "big")))
    fields.append(_nsh(5, bytes((SERVICE_INDEX,))))
    return tuple(fields)


def _nsh(number: int, value: bytes) -> Oxm:
    return Oxm(_EXPERIMENTER, number, value, None, _NSH)


DROP: Final = FlowMod(cookie=OWN_COOKIE, priority=DROP_PRIORITY, match=match())
"""Adds the rule that drops every shim that no other rule knows."""
