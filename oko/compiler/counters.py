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
_FEWEST_COUNTERS: Final = 1024


def counters(slots: int) -> MapSpec:
    """Packets and bytes of each rule, for `slots` rules. The size doubles, so that it seldom changes."""
    return MapSpec("counters", MapType.PERCPU_ARRAY, 4, COUNTER.size, power_of_two(slots, _FEWEST_COUNTERS))


DROPS: Final = MapSpec("drops", MapType.PERCPU_ARRAY, 4, COUNTER.size, len(Drop))
PROGRAMS: Final = MapSpec("programs", MapType.PERCPU_ARRAY, 4, PROGRAM.size, PROGRAM_LIMIT)


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
