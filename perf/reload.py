"""Whether a reload of a filter program loses frames: swap images under full load, and account for every frame."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from statistics import median
from typing import Any, Final

from oko.errors import OkoError
from perf.account import Account
from perf.machine import machine
from perf.switches import OkoSwitch, oko
from perf.track import Track

PROGRAMS: Final = ("any", "ethernet")
"""Filter programs that differ, and that match every frame alike."""

_PROGRAM_ID: Final = 1
_RULE: Final = f"in_port=1,filter_prog={_PROGRAM_ID},actions=output:2"


_IN_FLIGHT: Final = 1024  # frames: more than the rings behind gen and p2 hold (VETH_RING_SIZE, 256 each)


@dataclass(frozen=True, slots=True)
class Reload:
    """`times` are ns of each reload, from the file to the swapped slot."""

    account: Account
    times: Sequence[int]
    generators: int

    def to_json(self) -> dict[str, Any]:
        """The result as json.dumps takes it."""
        return {
            "machine": machine(),
            "generators": self.generators,
            "reload_ns": list(self.times),
            "account": self.account.to_json(),
        }

    def __str__(self) -> str:
        milliseconds = [nanoseconds / 1e6 for nanoseconds in self.times]
        several = (
            f"{self.generators} generators wrote the counters of gen, without a lock: a gap before p1 may be theirs\n"
            if self.generators > 1
            else ""
        )
        return (
            f"{len(self.times)} reloads, each {median(milliseconds):.1f} ms "
            f"({min(milliseconds):.1f}–{max(milliseconds):.1f})\n{self.account}\n{several}{machine()}"
        )


def reload(reloads: int, generators: int) -> Reload:
    """Load a filter program so many times while frames pass, and see each pipeline forward before the next.

    Raises OkoError, also when a swap did not take effect.
    """
    with Track() as track, oko(_RULE, programs={_PROGRAM_ID: PROGRAMS[0]}) as switch:
        track.drain()
        before = track.account(switch)
        times = []
        with track.load(generators):
            track.await_frames(_IN_FLIGHT)
            for name in islice(cycle(reversed(PROGRAMS)), reloads):
                times.append(_swap(switch, name))
                track.await_frames(_IN_FLIGHT)
        track.drain()
        return Reload(track.account(switch).since(before), times, generators)


def _swap(switch: OkoSwitch, name: str) -> int:
    """Load the program; the time that took, in ns."""
    old = switch.pipeline()
    start = time.monotonic_ns()
    switch.load(_PROGRAM_ID, name)
    duration = time.monotonic_ns() - start
    if switch.pipeline() == old:
        raise OkoError(f"loading {name} left pipeline {old} in the slot")
    return duration
