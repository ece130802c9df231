"""What the pipeline counts, and in which maps: the one description for the emitter and for those who read."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final

from oko.errors import LimitExceeded
from verifier.program import MapSpec, MapType


class Drop(IntEnum):
    """Why a packet that no rule dropped was dropped all the same: the index in the map `drops`."""

    RUNT = 0
    """Shorter than an Ethernet header."""
    MISS = 1
    """No rule matched."""
    TO_INGRESS = 2
    """The winning rule sends to the port that the packet came from."""
    NO_PORT = 3
    """The winning rule sends to a port that is gone."""
    STRANGER = 4
    """It came from an interface that is no port of the bridge."""


COUNTER: Final = struct.Struct("<QQ")
"""A value of `counters` (index: a rule's slot) and `drops`: packets, bytes. Per CPU, host order."""

PROGRAM: Final = struct.Struct("<QQQ")
"""A value of `programs` (index: a program's slot): runs, matches, memo. Per CPU, host order. The memo is the
number of the packet that the program ran on last, shifted left by one, and its answer in bit 0."""

PROGRAM_LIMIT: Final = 64
_FEWEST_COUNTERS: Final = 1024


def counters(slots: int) -> MapSpec:
    """Packets and bytes of each rule, for `slots` rules. The size doubles, so that it seldom changes."""
    return MapSpec("counters", MapType.PERCPU_ARRAY, 4, COUNTER.size, power_of_two(slots, _FEWEST_COUNTERS))


DROPS: Final = MapSpec("drops", MapType.PERCPU_ARRAY, 4, COUNTER.size, len(Drop))
PROGRAMS: Final = MapSpec("programs", MapType.PERCPU_ARRAY, 4, PROGRAM.size, PROGRAM_LIMIT)
SEQUENCE: Final = MapSpec("sequence", MapType.PERCPU_ARRAY, 4, 8, 1)
"""The number of the packet in hand, counted only where a memo needs it."""


def program_slot(taken: set[int]) -> int:
    """The lowest free slot of `programs`. Raises LimitExceeded."""
    for slot in range(PROGRAM_LIMIT):
        if slot not in taken:
            return slot
    raise LimitExceeded("filter programs", len(taken) + 1, PROGRAM_LIMIT, advice="unload one first")


def power_of_two(needed: int, fewest: int) -> int:
    """The smallest power of two that is at least `needed` and `fewest`."""
    size = fewest
    while size < needed:
        size *= 2
    return size
