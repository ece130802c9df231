"""What the pipeline counts, and in which maps: the one description for the emitter and for those who read."""

from __future__ import annotations

import struct
from typing import Final

from oko.errors import LimitExceeded
from oko.flow.drop import Drop
from verifier.program import MapSpec, MapType

COUNTER: Final = struct.Struct("<QQ")
"""A value of `counters` (index: the slot of a rule, group or bucket) and `drops`: packets, bytes. Per CPU, host
order."""

PROGRAM: Final = struct.Struct("<QQ")
"""A value of `programs` (index: a program's slot): runs, matches. Per CPU, host order."""

PROGRAM_LIMIT: Final = 64
_FEWEST: Final = 1024
_MANY: Final = 1 << 16


def counters(slots: int) -> MapSpec:
    """Packets and bytes of each rule, for `slots` rules and more."""
    return MapSpec("counters", MapType.PERCPU_ARRAY, 4, COUNTER.size, room_for(slots))


SHIMS: Final = MapSpec("shims", MapType.ARRAY, 4, 4, 1)
"""Of an attached switch: a number of `oko.flow.attachment.Shims`, host order."""
DROPS: Final = MapSpec("drops", MapType.PERCPU_ARRAY, 4, COUNTER.size, len(Drop))
PROGRAMS: Final = MapSpec("programs", MapType.PERCPU_ARRAY, 4, PROGRAM.size, PROGRAM_LIMIT)


def program_slot(taken: set[int]) -> int:
    """The lowest free slot of `programs`. Raises LimitExceeded."""
    for slot in range(PROGRAM_LIMIT):
        if slot not in taken:
            return slot
    raise LimitExceeded("filter programs", len(taken) + 1, PROGRAM_LIMIT, advice="unload one first")


def room_for(elements: int) -> int:
    """How many elements a map of the tables is made for that has so many now: more of them go into it while packets
    read it, and when it is full everything is compiled anew."""
    return power_of_two(elements * (4 if elements < _MANY else 2), _FEWEST)


def power_of_two(needed: int, fewest: int) -> int:
    """The smallest power of two that is at least `needed` and `fewest`."""
    size = fewest
    while size < needed:
        size *= 2
    return size
