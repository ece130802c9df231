"""Tristate numbers: which bits of a 64-bit number are known.

A tristate number is a pair (value, mask) of unsigned integers. A bit that is set in `mask` is unknown and clear in
`value`; every other bit is as in `value`. Its members are the numbers that agree with all known bits. The functions
on pairs give a pair that has every result among its members; results are taken modulo 2**64.
"""

from __future__ import annotations

from typing import Final

from verifier import isa

M64: Final = 0xFFFFFFFFFFFFFFFF
WIDTH: Final = 64

# Larger than every member: what `smallest_from` gives when there is none.
BEYOND: Final = 1 << WIDTH

Tristate = tuple[int, int]


def add(left: int, left_mask: int, right: int, right_mask: int) -> Tristate:
    """The sum. The carries of the smallest and the largest sum differ wherever any two sums' carries do."""
    smallest = left + right
    largest = smallest + left_mask + right_mask
    mask = ((smallest ^ largest) | left_mask | right_mask) & M64
    return smallest & ~mask & M64, mask


def subtract(left: int, left_mask: int, right: int, right_mask: int) -> Tristate:
    """The difference, by the same argument on borrows."""
    difference = left - right
    mask = ((difference + left_mask ^ difference - right_mask) | left_mask | right_mask) & M64
    return difference & ~mask & M64, mask


def multiply(left: int, left_mask: int, right: int, right_mask: int) -> Tristate:
    """The product. With left = l + X·2**i and right = r + Y·2**j, l and r known, it is l·r plus terms that are
    multiples of 2**i·r, 2**j·l and 2**(i+j); the bits below all of these are those of l·r."""
    known_left, known_right = _zeros_below(left_mask), _zeros_below(right_mask)
    known = min(known_left + _zeros_below(right), known_right + _zeros_below(left), known_left + known_right, WIDTH)
    low = (1 << known) - 1
    return left * right & low, M64 & ~low


def bitwise(operation: int, left: int, left_mask: int, right: int, right_mask: int) -> Tristate:
    """isa.AND, isa.OR or isa.XOR of two numbers."""
    if operation == isa.AND:
        value = left & right
        return value, (left | left_mask) & (right | right_mask) & ~value
    mask = left_mask | right_mask
    if operation == isa.OR:
        value = left | right
        return value, mask & ~value
    return (left ^ right) & ~mask, mask


def shift_left(value: int, mask: int, places: int) -> Tristate:
    """Shifted left by `places` bits, zeros coming in."""
    return value << places & M64, mask << places & M64


def shift_right(value: int, mask: int, places: int) -> Tristate:
    """Shifted right by `places` bits, zeros coming in."""
    return value >> places, mask >> places


def shift_right_signed(value: int, mask: int, places: int) -> Tristate:
    """Shifted right by `places` bits, copies of the highest bit coming in, known or not."""
    sign = 1 << WIDTH - 1
    return ((value ^ sign) - sign >> places) & M64, ((mask ^ sign) - sign >> places) & M64


def meet(left: int, left_mask: int, right: int, right_mask: int) -> Tristate | None:
    """What is a member of both; None if nothing is."""
    if (left ^ right) & ~left_mask & ~right_mask:
        return None
    return left | right, left_mask & right_mask


def within(value: int, mask: int, low: int, high: int) -> Tristate:
    """The members in `low` … `high`, both of which are members: the bits above the highest that differs are known."""
    below = (1 << (low ^ high).bit_length()) - 1
    return (value & below) | (low & ~below), mask & below


def smallest_from(bound: int, value: int, mask: int) -> int:
    """The smallest member that is at least `bound`, a number below 2**64; BEYOND if there is none."""
    wrong = (bound ^ value) & ~mask
    if not wrong:
        return bound
    # At the highest wrong bit the member differs from the bound; if it has a 1 there, it may be least below.
    below = (1 << wrong.bit_length()) - 1
    if value & (below ^ below >> 1):
        return (bound & ~below) | (value & below)
    # If it has a 0 there, it must exceed the bound further up: at the lowest unknown bit where the bound has a 0.
    raisable = mask & ~bound & ~below
    if not raisable:
        return BEYOND
    raised = raisable & -raisable
    return (bound & -raised) | raised | (value & raised - 1)


def largest_upto(bound: int, value: int, mask: int) -> int:
    """The largest member that is at most `bound`, a number below 2**64; negative if there is none."""
    if not (bound ^ value) & ~mask:
        return bound
    return M64 - smallest_from(M64 - bound, M64 & ~value & ~mask, mask)


def _zeros_below(bits: int) -> int:
    """How many bits are clear below the lowest that is set."""
    return (bits & -bits).bit_length() - 1 if bits else WIDTH
