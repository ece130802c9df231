"""The layout of `struct oko_key`, and matches as bytes and masks over it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

from oko.errors import NotReadable
from oko.flow.fields import FIELDS, FILTER_PROG, Field
from oko.flow.match import Match

WORD = 8
"""Bytes of the unit in which masked keys are hashed."""


@dataclass(frozen=True, slots=True)
class Lowered:
    """The header conditions of a match over the key: the key under `mask` must equal `value`.

    Both are as long as the key and big-endian, bit by bit where the packet's own bytes stand.
    """

    value: int
    mask: int


@dataclass(frozen=True)
class KeyLayout:
    """Where each field stands in the key: `size` bytes, `members` name → (offset, size in bytes)."""

    size: int
    members: dict[str, tuple[int, int]]
    lower: Callable[[Match], Lowered] = field(init=False, repr=False, compare=False)
    """The conditions of a match on headers, as one value and one mask. Cached: tables are lowered over and over."""

    def __post_init__(self) -> None:
        if self.size % WORD:
            raise NotReadable(f"struct oko_key is {self.size} bytes: it must be a multiple of {WORD}")
        for item in FIELDS:
            if item is not FILTER_PROG and item.member not in self.members:
                raise NotReadable(
                    f"struct oko_key has no member {item.member} for the field {item.name}: rebuild the objects"
                )
        object.__setattr__(self, "lower", lru_cache(maxsize=1 << 17)(self._lower))

    def _lower(self, match: Match) -> Lowered:
        value = mask = 0
        for condition in match.headers:
            shift = self._shift(condition.field)
            value |= condition.value << shift
            mask |= condition.mask << shift
        return Lowered(value, mask)

    def _shift(self, item: Field) -> int:
        offset, size = self.members[item.member]
        return (self.size - offset - size) * 8 + item.shift

    def words(self, number: int) -> tuple[bytes, ...]:
        """A value or mask of `Lowered` as the key's words, in the order of memory."""
        data = number.to_bytes(self.size, "big")
        return tuple(data[start : start + WORD] for start in range(0, self.size, WORD))
