"""The token bucket of a meter's band, in plain Python: what bpf_programs/runtime/meter.c does, said again."""

from __future__ import annotations

from oko.flow.meter import Band


class TokenBucket:
    """Full at first. In each ns it gains `band.rate` tokens, up to `band.capacity`."""

    def __init__(self, band: Band) -> None:
        self._band = band
        self._tokens = band.capacity
        self._last = 0

    def take(self, cost: int, now: int) -> bool:
        """Take `cost` tokens at `now` (ns) if there are so many. Time that goes back is taken for standing still, until
        it has caught up."""
        if now > self._last:
            self._tokens = min(self._band.capacity, self._tokens + (now - self._last) * self._band.rate)
            self._last = now
        if self._tokens < cost:
            return False
        self._tokens -= cost
        return True
