"""`Hint`: the number under which an array has hints for packets, made of some bits of their keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from oko.compiler.layout import WORD

FACTOR: Final = 0x9E3779B97F4A7C15
"""2⁶⁴ divided by the golden ratio, odd: multiplying by it spreads the bits."""

_ALL: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Hint:
    """Where the hints for some groups are: `mask` is what their masks have in common, over a key of `size` bytes; the
    numbers are `bits` wide, and that of the element is by `base` more."""

    size: int
    mask: int
    base: int
    bits: int

    def index(self, value: int) -> int:
        """The element for a packet, or a rule, with this value of the key. The emitted code computes the same."""
        data, mask = (value & self.mask).to_bytes(self.size, "big"), self.mask.to_bytes(self.size, "big")
        state = 0
        for at in range(0, self.size, WORD):
            if any(mask[at : at + WORD]):
                state = ((state ^ int.from_bytes(data[at : at + WORD], "little")) * FACTOR) & _ALL
                state ^= state >> 32
        return self.base + (state >> (64 - self.bits))
