"""Whether a reload of a filter program loses frames: images are swapped under full load, then every frame is counted."""

from __future__ import annotations

import threading
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


@dataclass(frozen=True, slots=True)
class Reload:
    """`times` are ns of each reload, from the file to the swapped slot. `in_flight` are the frames that were on
    their way when the generator had ended: whoever counts then takes them for lost."""

    account: Account
    times: Sequence[int]
    in_flight: int
    duration: int

    def to_json(self) -> dict[str, Any]:
        """The result as json.dumps takes it."""
        return {
            "machine": machine(),
            "reloads": len(self.times),
            "reload_ns": list(self.times),
            "duration_ns": self.duration,
            "in_flight": self.in_flight,
            "account": self.account.to_json(),
        }

    def __str__(self) -> str:
        milliseconds = [nanoseconds / 1e6 for nanoseconds in self.times]
        return (
            f"{len(self.times)} reloads in {self.duration / 1e9:.1f} s, each {median(milliseconds):.1f} ms "
            f"({min(milliseconds):.1f}–{max(milliseconds):.1f})\n"
            f"{self.account}; {self.in_flight} were on their way when the generator ended\n"
            f"{machine()}"
        )


def reload(reloads: int) -> Reload:
    """Load a filter program so many times while frames pass. Raises OkoError, also when a swap did not take effect."""
    with Track() as track, oko(_RULE, programs={_PROGRAM_ID: PROGRAMS[0]}) as switch:
        track.drain()
        before = track.account(switch)
        ended = threading.Event()
        generator = threading.Thread(target=track.send, args=(ended.is_set,), name="generator")
        start = time.monotonic_ns()
        generator.start()
        try:
            times = [_swap(switch, name) for name in islice(cycle(reversed(PROGRAMS)), reloads)]
        finally:
            ended.set()
            generator.join()
        in_flight = track.account(switch).since(before).lost
        duration = time.monotonic_ns() - start
        track.drain()
        return Reload(track.account(switch).since(before), times, in_flight, duration)


def _swap(switch: OkoSwitch, name: str) -> int:
    """Load the program; the time that took, in ns."""
    old = switch.pipeline()
    start = time.monotonic_ns()
    switch.load(_PROGRAM_ID, name)
    duration = time.monotonic_ns() - start
    if switch.pipeline() == old:
        raise OkoError(f"loading {name} left pipeline {old} in the slot")
    return duration
