"""The frames of `perf.attached_updates`: each with a stamp at its end, so that it is known where it arrives, whatever
rules have done to its headers."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from random import Random
from types import MappingProxyType
from typing import Final

from scapy.layers.inet import IP, TCP, UDP

from oko.flow.reference import FilterProgram

PORTS: Final = (1, 2, 3, 4)

PACKETS: Final = (
    b"\x08\x00" + bytes(IP(src="10.0.0.1", dst="10.0.1.1") / UDP(sport=1000, dport=80)),
    b"\x08\x00" + bytes(IP(src="10.0.0.1", dst="10.0.1.2") / UDP(sport=1000, dport=443)),
    b"\x08\x00" + bytes(IP(src="10.0.0.1", dst="10.0.1.1") / TCP(sport=1000, dport=443)),
    b"\x08\x00" + bytes(IP(src="10.0.0.1", dst="10.0.1.2") / TCP(sport=1000, dport=80)),
    b"\x88\xb6",
)
"""What is behind the addresses and the tags."""
DESTINATIONS: Final = ("03:00:00:00:00:00", "03:00:00:00:00:01")
"""Of groups, so that NORMAL floods: the reference switch has FLOOD."""
TAGS: Final = (
    b"",
    struct.pack(">HH", 0x8100, 5),
    struct.pack(">HH", 0x8100, 6),
    struct.pack(">HHHH", 0x88A8, 5, 0x8100, 6),
)

_MAGIC: Final = b"\xa5mixed\xa5"
_STAMP: Final = struct.Struct(">I")
_SIZE: Final = 64
"""Bytes before the stamp, at least."""
_LAST_OF_SOURCE: Final = 11


def _bit(number: int, wanted: int) -> FilterProgram:
    return lambda frame, in_port, now: int(frame[_LAST_OF_SOURCE] >> number & 1 == wanted)


PROGRAMS: Final[Mapping[int, tuple[str, FilterProgram]]] = MappingProxyType(
    {1: ("odd_source", _bit(0, 1)), 2: ("even_source", _bit(0, 0))}
)
"""By id, a filter program of ``perf/programs`` and what it says."""

FENCE_RULE: Final = "priority=60000,cookie=0xfe,dl_type=0x88b5,dl_dst=03:00:00:00:0f:0f,actions=in_port,all"
"""A frame that it is for arrives everywhere: what came in before by the same port has been decided then."""


def fence(number: int) -> bytes:
    """A frame for that rule."""
    return (bytes.fromhex("030000000f0f 0200000000f0 88b5") + _STAMP.pack(number)).ljust(_SIZE, b"\0")


def frame(random: Random, stamp: int) -> bytes:
    """A random one."""
    source = f"02:00:00:00:00:{random.randrange(4):02x}"
    addresses = bytes.fromhex((random.choice(DESTINATIONS) + source).replace(":", ""))
    made = addresses + random.choice(TAGS) + random.choice(PACKETS)
    return made.ljust(_SIZE, b"\0") + _MAGIC + _STAMP.pack(stamp)


def stamp_of(arrived: bytes) -> int | None:
    """None if the frame is of somebody else."""
    head, magic, stamp = arrived[: -len(_MAGIC) - 4], arrived[-len(_MAGIC) - 4 : -4], arrived[-4:]
    return _STAMP.unpack(stamp)[0] if head and magic == _MAGIC else None
