"""`Backoff`: how long to wait before connecting again, as Open vSwitch's rconn waits."""

from __future__ import annotations

from typing import Final

FIRST: Final = 1.0
"""Seconds before the second attempt."""
PATIENCE: Final = 10.0
"""Seconds that an attempt has at least: with TLS it takes several round trips, and the peer may be busy."""


class Backoff:
    """Waits of 1, 2, 4 seconds and so on up to `ceiling`, for as long as no connection outlasts its wait."""

    def __init__(self, ceiling: float) -> None:
        self._ceiling = ceiling
        self._wait = 0.0

    @property
    def patience(self) -> float:
        """Seconds that the next attempt may take."""
        return max(PATIENCE, self._wait)

    def after(self, lasted: float) -> float:
        """Seconds to wait, after a connection that lasted so many; 0 when the attempt failed, however long it took."""
        self._wait = FIRST if self._wait == 0 or lasted > self._wait else 2 * self._wait
        self._wait = min(self._wait, self._ceiling)
        return self._wait
