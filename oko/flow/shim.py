"""The shim: the header that Oko puts before a packet, for Open vSwitch to continue with what an id stands for.

22 bytes: reserved Ethernet addresses, which no bridge forwards and NORMAL neither forwards nor learns; the ethertype of
NSH; and an NSH header (RFC 8300, section 2) of metadata type 2 without metadata, whose service path is the id. The
whole frame of the packet follows.
"""

from __future__ import annotations

from typing import Final

ETHERTYPE: Final = 0x894F
DESTINATION: Final = bytes.fromhex("0180c200000e")
"""The nearest bridge's: not forwarded by any (IEEE 802.1Q, table 8-1)."""
SOURCE: Final = bytes.fromhex("0200000c0000")
METADATA_TYPE: Final = 2
NEXT_ETHERNET: Final = 3
SERVICE_INDEX: Final = 0xFF
IDS: Final = range(1, 1 << 24)

HEAD: Final = (
    DESTINATION
    + SOURCE
    + ETHERTYPE.to_bytes(2, "big")
    + bytes((0x0F, 0xC2, METADATA_TYPE, NEXT_ETHERNET))  # version 0, TTL 63, two words long
)
"""What is the same in every shim; the path follows."""

SIZE: Final = len(HEAD) + 4
"""Bytes that the shim adds to a frame."""

MARKS: Final = (
    (12, ETHERTYPE.to_bytes(2, "big")),
    (16, bytes((METADATA_TYPE, NEXT_ETHERNET))),
    (21, bytes((SERVICE_INDEX,))),
)
"""By what Open vSwitch knows a shim, whatever its addresses, TTL and id are: offset and bytes."""


def path(shim_id: int) -> bytes:
    """The service path header: the last four bytes of the shim."""
    return shim_id.to_bytes(3, "big") + bytes((SERVICE_INDEX,))


def frame(shim_id: int, inner: bytes) -> bytes:
    """The frame that is `inner` behind a shim."""
    return HEAD + path(shim_id) + inner


def is_shim(arrived: bytes) -> bool:
    """Whether Open vSwitch would take a frame for one with a shim, or would but for a version or length that is wrong:
    what comes so from outside is a forgery."""
    return len(arrived) >= SIZE and all(arrived.startswith(mark, offset) for offset, mark in MARKS)
