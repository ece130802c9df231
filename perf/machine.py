"""What a figure was measured on, and who else used it meanwhile."""

from __future__ import annotations

import os
import re
import time
from datetime import date
from pathlib import Path
from typing import Final, Self

_LOOK: Final = 0.5  # seconds
_IDLE, _WAITING, _STEAL = 3, 4, 7  # of the numbers behind "cpu" in /proc/stat, proc(5)
_MOST_USED: Final = 0.10
_MOST_STOLEN: Final = 0.01


def machine() -> str:
    """Processor, cores, kernel and date in one line."""
    model = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    processor = model[1] if model else os.uname().machine
    return f"{processor}, {os.cpu_count()} cores, Linux {os.uname().release}, {date.today().isoformat()}"


class Neighbours:
    """Who else uses the processors: of all their time, `used` is the share that was used just before a benchmark, and
    `stolen` that which the host took away during it."""

    def __init__(self) -> None:
        self.used = 0.0
        self.stolen = 0.0
        self._times = _times()

    def __enter__(self) -> Self:
        before = _times()
        time.sleep(_LOOK)
        self._times = _times()
        passed = _since(before, self._times)
        self.used = 1 - (passed[_IDLE] + passed[_WAITING]) / max(sum(passed), 1)
        return self

    def __exit__(self, *_: object) -> None:
        passed = _since(self._times, _times())
        self.stolen = passed[_STEAL] / max(sum(passed), 1)

    @property
    def warning(self) -> str | None:
        """That figures are not to be trusted, None if they are."""
        if self.used <= _MOST_USED and self.stolen <= _MOST_STOLEN:
            return None
        return (
            f"The machine was busy: others used {self.used:.0%} of the processors before it, and {self.stolen:.1%} of "
            "their time was stolen. Figures, and less so ratios, are too low."
        )


def _times() -> list[int]:
    """Of all processors, in ticks since the start: user, nice, system, idle, iowait, irq, softirq, steal."""
    return [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]


def _since(before: list[int], after: list[int]) -> list[int]:
    return [late - early for early, late in zip(before, after, strict=True)]
