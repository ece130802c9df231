"""`Silences`: how long to wait for a marker from ports that have given none back.

A port gives none back when Open vSwitch does not read it, or not as this port, or when its queue is full whenever one
comes. The first time that costs all the patience there is; then a port is given little, as every change waits for it,
and all of it again now and then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

FULL: Final = 2.0
"""Seconds that a port has for a marker. A queue of the kernel's default size is read in much less."""
LITTLE: Final = 0.1
"""Seconds that one has that is known to be silent: enough for some markers, if it is silent no more."""
_FIRST: Final = 10.0
_LAST: Final = 320.0
"""Seconds until a silent port has the full time again: at first, and at most; each time twice as many as before."""


@dataclass(slots=True)
class _Silence:
    again: float
    pause: float = _FIRST


class Silences:
    """Of the ports of one bridge, by ifindex. Times are seconds, of a clock that does not go back."""

    def __init__(self) -> None:
        self._silent: dict[int, _Silence] = {}

    def patience(self, ifindex: int, now: float) -> float:
        """How long to wait for a marker of this port."""
        silence = self._silent.get(ifindex)
        return FULL if silence is None or now >= silence.again else LITTLE

    def silent(self, ifindex: int, patience: float, now: float) -> bool:
        """It has given none back within this time. Whether that is news."""
        silence = self._silent.get(ifindex)
        if silence is None:
            self._silent[ifindex] = _Silence(now + _FIRST)
        elif patience == FULL:
            silence.pause = min(2 * silence.pause, _LAST)
            silence.again = now + silence.pause
        return silence is None

    def heard(self, ifindex: int) -> None:
        """It has given one back, or is gone."""
        self._silent.pop(ifindex, None)
