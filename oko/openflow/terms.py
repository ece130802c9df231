"""`Terms`: on what terms the peer of a connection is served."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Terms:
    """`peer` is what the log calls it. `may_load`: whether it may load programs, write their maps and set observers.
    `may_read`: whether it may read maps and subscribe to events. `probe`: seconds of silence after which it is asked
    for an echo, and after as many again is given up; None never."""

    peer: str
    may_load: bool = False
    may_read: bool = False
    probe: float | None = None


TRUSTED: Final = Terms("a local peer", may_load=True, may_read=True)
"""Of a peer that could do everything by itself."""
