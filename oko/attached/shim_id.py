"""`ShimIds`: the numbers that shims carry, and the quarantine of those that have been given back."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from typing import Final

from oko.attached import shim
from oko.errors import LimitExceeded

MARKER: Final = shim.IDS[-1]
"""The id of all markers (`oko.attached.marker`). No rule is continued by it."""
SUSPENDED: Final = MARKER - 1
"""The id of packets of suspended filter rules (`oko.attached.filter_table`)."""
RULE_IDS: Final = range(shim.IDS[0], SUSPENDED)
"""The ids that rules are continued by."""


class ShimIds:
    """The ids of one bridge, those in `used` taken.

    One that is given up is in quarantine, as packets with it may be under way, and Open vSwitch may know what became of
    such packets: when both are over, `release` makes it free.
    """

    def __init__(self, used: Iterable[int] = ()) -> None:
        self._used = set(used)
        self._quarantine: set[int] = set()
        self._next = max(self._used, default=RULE_IDS[0] - 1) + 1
        self._free = sorted(set(range(RULE_IDS[0], self._next)) - self._used)

    @property
    def used(self) -> frozenset[int]:
        """The ids that are taken."""
        return frozenset(self._used)

    @property
    def quarantine(self) -> frozenset[int]:
        """The ids that have been given up and are not free."""
        return frozenset(self._quarantine)

    def take(self) -> int:
        """An id that is free. Raises LimitExceeded."""
        if self._free:
            number = heapq.heappop(self._free)
        elif self._next in RULE_IDS:
            number, self._next = self._next, self._next + 1
        else:
            taken = len(self._used) + len(self._quarantine)
            raise LimitExceeded(
                "rules that Open vSwitch continues", taken, len(RULE_IDS), advice="delete filter rules first"
            )
        self._used.add(number)
        return number

    def cancel(self, number: int) -> None:
        """Give back an id that no packet can have carried."""
        self._used.remove(number)
        heapq.heappush(self._free, number)

    def retire(self, number: int) -> None:
        """Give up an id: it goes into quarantine."""
        self._used.remove(number)
        self._quarantine.add(number)

    def release(self, numbers: Iterable[int]) -> None:
        """Make ids free that are in quarantine."""
        for number in numbers:
            self._quarantine.remove(number)
            heapq.heappush(self._free, number)
