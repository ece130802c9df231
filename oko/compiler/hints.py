"""Hints: which of many groups of hashed rules may have one for a packet.

To look into every group takes a hash for each. Where the masks of groups have bits in common, a rule of theirs can only
match a packet that agrees with it in those. So an array has, at a number that is made of these bits of a packet, which
groups have rules with them, and only these are looked into: one bit for each of up to 64 groups. A bit may be set that
need not be, as other bits may make the same number, or as the rule is gone; that costs a look and changes nothing. Bits
are set before the rule comes that they are for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from operator import and_
from typing import Final

from oko.compiler.counters import power_of_two
from oko.compiler.hint import Hint
from oko.compiler.image import ImageMap
from oko.compiler.plan import Group
from verifier.program import MapSpec, MapType

HINTS: Final = "hints"
"""The map: an array of numbers of 64 bits, host order."""

MOST_GROUPS: Final = 64
_FEWEST: Final = 1 << 10
_MOST: Final = 1 << 22
_SPREAD: Final = 4
"""Numbers for each value of the bits in common, at least, so that few values share one."""


@dataclass(slots=True)
class Hints:
    """The hints of an image: `entries` is the content of the map, by index."""

    size: int
    entries: dict[int, int] = field(default_factory=dict)
    _end: int = 0

    def add(self, groups: Sequence[Group]) -> Hint | None:
        """Hints for these groups, in this order, at most MOST_GROUPS; None if they would spare few looks."""
        mask = reduce(and_, (group.mask for group in groups))
        values = {value & mask for group in groups for value in group.candidates}
        bits = power_of_two(min(len(values) * _SPREAD, _MOST), _FEWEST).bit_length() - 1
        hint = Hint(self.size, mask, self._end, bits)
        indices = {value: hint.index(value) for value in values}
        found: dict[int, int] = {}
        for number, group in enumerate(groups):
            for value in group.candidates:
                index = indices[value & mask]
                found[index] = found.get(index, 0) | 1 << number
        rules = sum(len(group.candidates) for group in groups)
        looks = sum(found[indices[value & mask]].bit_count() for group in groups for value in group.candidates)
        # A hint costs about as much as one look, and without it a packet looks into half of the groups or more.
        if looks + rules > rules * len(groups) / 2:
            return None
        self.entries |= found
        self._end += 1 << bits
        return hint

    def maps(self) -> list[ImageMap]:
        """The map, if there are hints."""
        if not self._end:
            return []
        entries = {hint_key(index): hint_value(bits) for index, bits in self.entries.items()}
        return [ImageMap(HINTS, MapSpec(HINTS, MapType.ARRAY, 4, 8, self._end), shared=False, entries=entries)]


def hint_key(index: int) -> bytes:
    """The key of an element."""
    return index.to_bytes(4, "little")


def hint_value(bits: int) -> bytes:
    """The element that names these groups."""
    return bits.to_bytes(8, "little")


def named(entries: Mapping[bytes, bytes], key: bytes) -> int:
    """The groups that the element under `key` names."""
    return int.from_bytes(entries.get(key, b""), "little")
