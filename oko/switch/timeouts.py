"""`Timeouts`: which rules have stood long enough, or have matched nothing for long enough (OpenFlow 1.3.5, 5.5).

The kernel keeps no time of a rule's last packet, as that would cost every packet. A rule with an idle timeout is looked
at from time to time instead: one that has won packets since is as good as used just now. So it never goes too early,
and goes at most one interval late: a second, or an eighth of longer timeouts.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from oko.flow.rule import Entry

SECOND: Final = 10**9
_FRACTION: Final = 8
_FEWEST_STALE: Final = 64


class RemovalReason(Enum):
    """Why a rule went away, by the number on the wire (OpenFlow 1.3.5, 7.4.2)."""

    IDLE_TIMEOUT = 0
    HARD_TIMEOUT = 1
    DELETE = 2
    GROUP_DELETE = 3


@dataclass(slots=True)
class _Watched:
    entry: Entry
    packets: int
    used: int  # ns, monotonic


class Timeouts:
    """The rules that have a timeout, in the order in which they have to be looked at. Times are ns, monotonic."""

    def __init__(self) -> None:
        self._watched: dict[int, _Watched] = {}  # by age
        self._due: list[tuple[int, int]] = []  # (when to look at it, age)

    def watch(self, entry: Entry, now: int) -> None:
        """Look after a rule from now on, if it has a timeout. One that was changed goes on as it was."""
        rule = entry.rule
        if not rule.idle_timeout and not rule.hard_timeout:
            return
        known = self._watched.get(entry.age)
        if known is not None:
            if known.entry.slot != entry.slot:
                known.packets = 0
            known.entry = entry
            return
        self._watched[entry.age] = _Watched(entry, 0, now)
        heapq.heappush(self._due, (self._next(self._watched[entry.age], now), entry.age))

    def forget(self, entry: Entry) -> None:
        """The rule is gone."""
        self._watched.pop(entry.age, None)
        # What is due of rules that went away long before their time would pile up.
        if len(self._due) > 2 * len(self._watched) + _FEWEST_STALE:
            self._due = [item for item in self._due if item[1] in self._watched]
            heapq.heapify(self._due)

    def expired(self, now: int, packets: Callable[[int], int]) -> Iterator[tuple[Entry, RemovalReason]]:
        """The rules whose time is over. `packets` says how many packets a slot has counted. Each is yielded again a
        second later, and so on until it is forgotten."""
        again: list[tuple[int, int]] = []
        while self._due and self._due[0][0] <= now:
            _, age = heapq.heappop(self._due)
            watched = self._watched.get(age)
            if watched is None:
                continue
            reason = self._reason(watched, now, packets)
            if reason is None:
                again.append((self._next(watched, now), age))
            else:
                again.append((now + SECOND, age))
                yield watched.entry, reason
        for item in again:
            heapq.heappush(self._due, item)

    @staticmethod
    def _reason(watched: _Watched, now: int, packets: Callable[[int], int]) -> RemovalReason | None:
        """Why a rule's time is over, None if it is not."""
        rule, installed = watched.entry.rule, watched.entry.installed
        if rule.hard_timeout and installed + rule.hard_timeout * SECOND <= now:
            return RemovalReason.HARD_TIMEOUT
        if rule.idle_timeout:
            count = packets(watched.entry.slot)
            if count != watched.packets:
                watched.packets, watched.used = count, now
            if watched.used + rule.idle_timeout * SECOND <= now:
                return RemovalReason.IDLE_TIMEOUT
        return None

    @property
    def next(self) -> int | None:
        """When to ask again, None if no rule has a timeout."""
        return self._due[0][0] if self._due else None

    @staticmethod
    def _next(watched: _Watched, now: int) -> int:
        rule, times = watched.entry.rule, []
        if rule.hard_timeout:
            times.append(watched.entry.installed + rule.hard_timeout * SECOND)
        if rule.idle_timeout:
            interval = max(SECOND, rule.idle_timeout * SECOND // _FRACTION)
            times.append(min(now + interval, watched.used + rule.idle_timeout * SECOND))
        return min(times)
