"""`Progress`: what a long run tells of itself while it runs."""

from __future__ import annotations

import sys
import time
from typing import Final

INTERVAL: Final = 60.0
"""Seconds from one line to the next."""


class Progress:
    """Of a run that begins now."""

    def __init__(self) -> None:
        self._began = self._told = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._began

    def tell(self, line: str) -> None:
        """Write `line` to standard error, unless an earlier one is younger than INTERVAL."""
        if time.monotonic() - self._told > INTERVAL:
            self._told = time.monotonic()
            print(line, file=sys.stderr, flush=True)
