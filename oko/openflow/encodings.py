"""`Encodings`: one event as the bytes that the peers are told it in, made once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable


class Encodings:
    """Of the event that was told last: the sessions of a bridge hear of it one after the other, and those that speak
    alike share the bytes."""

    def __init__(self) -> None:
        self._event: object = None
        self._encoded: dict[Hashable, bytes | None] = {}

    def encoded(self, event: object, form: Hashable, encode: Callable[[], bytes | None]) -> bytes | None:
        """What `encode` makes of the event for those who speak so; None if they have no words for it."""
        if event is not self._event:
            self._event, self._encoded = event, {}
        if form not in self._encoded:
            self._encoded[form] = encode()
        return self._encoded[form]
