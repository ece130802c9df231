"""`Admission`: how many peers the endpoints that listen take at a time, and how many that have not said a word yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from oko.errors import LimitExceeded

_NEWCOMERS: Final = 4
"""What part of the limit those may be that are in the handshake of TLS, or owe their first message: a quarter."""


class Admission:
    """Of all those endpoints together. A peer is a newcomer until it is admitted. Newcomers take no place from the
    others, and of too many the one that has dawdled longest makes room for the next, so that they cannot keep anybody
    out. Peers are named by any object."""

    def __init__(self, limit: int) -> None:
        """`limit` is how many peers are admitted at a time."""
        self._limit = limit
        self._newcomers: dict[object, Callable[[], None]] = {}  # in the order of their arrival
        self._admitted: set[object] = set()

    def arrive(self, peer: object, leave: Callable[[], None]) -> None:
        """A peer comes; `leave` is called when it has to make room. Raises LimitExceeded when no more are admitted."""
        self._require_room()
        if len(self._newcomers) >= max(1, self._limit // _NEWCOMERS):
            self._newcomers.pop(next(iter(self._newcomers)))()
        self._newcomers[peer] = leave

    def admit(self, peer: object) -> None:
        """A peer has spoken; nothing happens when it is admitted already. Raises LimitExceeded."""
        if peer not in self._admitted:
            self._require_room()
            self._newcomers.pop(peer, None)
            self._admitted.add(peer)

    def forget(self, peer: object) -> None:
        """A peer has gone, whatever it was."""
        self._newcomers.pop(peer, None)
        self._admitted.discard(peer)

    def _require_room(self) -> None:
        if len(self._admitted) >= self._limit:
            raise LimitExceeded(
                "connections", len(self._admitted), self._limit, advice="max_connections has been reached"
            )
