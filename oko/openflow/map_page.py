"""A page of a map's elements: as many as fit into one message, and a cursor that says where the next page begins.

The cursor is the keys of the last elements of the page, in their order. The kernel goes on behind an element that is
still there, and starts over behind one that is not; so the next page begins behind the last of them that is there.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from ofext.extension import NAME_LIMIT, MapEntry
from ofext.multipart import PART_LIMIT
from oko.errors import BadMapAccess
from oko.kernel.maps import Map

REMEMBERED: Final = 16
"""Keys in a cursor. A page can be followed by another as long as one of these elements is there."""

_HEAD: Final = 4 + 1 + NAME_LIMIT + 2
"""Bytes of a reply before its entries, without the cursor."""
_LENGTHS: Final = 4
"""Bytes that an entry has for the lengths of its key and value."""


def map_page(source: Map, limit: int, cursor: bytes, room: int = PART_LIMIT) -> tuple[tuple[MapEntry, ...], bytes]:
    """At most `limit` elements (0: any number) that take at most `room` bytes of a message, those behind `cursor`; and
    the cursor behind them, empty at the end of the map.

    An element that is there from the first page to the last comes at least once. Raises BadMapAccess for a cursor that
    is none, or whose elements are all gone, and KernelError.
    """
    if len(cursor) % source.key_size or len(cursor) > REMEMBERED * source.key_size:
        raise BadMapAccess(f"map {source.name}: {cursor.hex()} is no cursor: give one as a reply gave it")
    passed = deque(
        (cursor[at : at + source.key_size] for at in range(0, len(cursor), source.key_size)), maxlen=REMEMBERED
    )
    room -= REMEMBERED * source.key_size + _HEAD
    entries: list[MapEntry] = []
    while (key := _next(source, passed)) is not None:
        value = read_element(source, key)
        if value is None:  # deleted between the two calls
            continue
        room -= len(key) + len(value) + _LENGTHS
        if entries and (room < 0 or len(entries) == limit):
            return tuple(entries), b"".join(passed)
        passed.append(key)
        entries.append(MapEntry(key, value))
    return tuple(entries), b""


def read_element(source: Map, key: bytes) -> bytes | None:
    """The value behind a key, None if there is none; of a per-CPU map those of all possible CPUs, in order. Raises
    KernelError."""
    if not source.per_cpu:
        return source.lookup(key)
    values = source.lookup_percpu(key)
    return None if values is None else b"".join(values)


def _next(source: Map, passed: deque[bytes]) -> bytes | None:
    """The key behind the last of those passed that is still there, which becomes the last; None at the end."""
    if not passed:
        return source.next_key(None)
    while passed:
        following = source.next_key(passed[-1])
        # No element comes before the first one: the kernel has started over.
        if following is None or following != source.next_key(None):
            return following
        passed.pop()
    raise BadMapAccess(
        f"map {source.name}: the elements that the last page ended with are gone: begin again, or dump the map whole"
    )
