"""Tristate numbers, by trying all of four bits: in the lowest bits of a number, and in the highest."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from verifier import isa, tristate
from verifier.tristate import BEYOND, M64, Tristate

BITS = range(4)
ALL: list[Tristate] = [
    (value, mask) for mask in range(1 << len(BITS)) for value in range(1 << len(BITS)) if not value & mask
]
SIGNED = 60  # shifted so far, the highest of the four bits is the sign


def members(number: Tristate, shift: int = 0) -> list[int]:
    value, mask = number
    return [x << shift for x in range(1 << len(BITS)) if not (x ^ value) & ~mask]


def shifted(number: Tristate, shift: int) -> Tristate:
    return number[0] << shift, number[1] << shift


def best(numbers: list[int]) -> Tristate:
    """The least tristate number with these members."""
    mask = 0
    for number in numbers:
        mask |= number ^ numbers[0]
    return numbers[0] & ~mask, mask


def is_in(number: int, of: Tristate) -> bool:
    return not (number ^ of[0]) & ~of[1]


@pytest.mark.parametrize(
    ("abstract", "concrete"),
    [
        pytest.param(tristate.add, lambda x, y: x + y, id="add"),
        pytest.param(tristate.subtract, lambda x, y: x - y, id="subtract"),
        pytest.param(lambda *pair: tristate.bitwise(isa.AND, *pair), lambda x, y: x & y, id="and"),
        pytest.param(lambda *pair: tristate.bitwise(isa.OR, *pair), lambda x, y: x | y, id="or"),
        pytest.param(lambda *pair: tristate.bitwise(isa.XOR, *pair), lambda x, y: x ^ y, id="xor"),
    ],
)
@pytest.mark.parametrize("shift", [0, SIGNED])
def test_exact(abstract: Callable[..., Tristate], concrete: Callable[[int, int], int], shift: int) -> None:
    for left, right in itertools.product(ALL, ALL):
        results = [concrete(x, y) & M64 for x, y in itertools.product(members(left, shift), members(right, shift))]
        assert abstract(*shifted(left, shift), *shifted(right, shift)) == best(results), (left, right)


@pytest.mark.parametrize("shift", [0, SIGNED])
def test_multiply_has_every_product_and_knows_the_lowest_bits(shift: int) -> None:
    for left, right in itertools.product(ALL, ALL):
        product = tristate.multiply(*left, *shifted(right, shift))
        results = [x * y & M64 for x, y in itertools.product(members(left), members(right, shift))]
        assert all(is_in(result, product) for result in results), (left, right)
        if left[1] == right[1] == 0:
            assert product == (results[0], 0)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        pytest.param((0, M64), (12, 0), (0, M64 & ~3), id="multiple-of-4"),
        pytest.param((1, M64 & ~7), (3, 0), (3, M64 & ~7), id="three-low-bits"),
        pytest.param((0, 0xF0), (0, 0xF00), (0, M64 & ~0xFFF), id="zeros-add-up"),
        pytest.param((0, 0), (0, M64), (0, 0), id="zero"),
        pytest.param((2, M64 & ~3), (2, M64 & ~3), (4, M64 & ~7), id="even-by-even"),
    ],
)
def test_multiply(left: Tristate, right: Tristate, expected: Tristate) -> None:
    assert tristate.multiply(*left, *right) == tristate.multiply(*right, *left) == expected


def signed_shift(number: int, count: int) -> int:
    return (number - (number >> 63 << 64) >> count) & M64


@pytest.mark.parametrize(
    ("abstract", "concrete"),
    [
        pytest.param(tristate.shift_left, lambda x, count: x << count & M64, id="left"),
        pytest.param(tristate.shift_right, lambda x, count: x >> count, id="right"),
        pytest.param(tristate.shift_right_signed, signed_shift, id="right-signed"),
    ],
)
@pytest.mark.parametrize("shift", [0, SIGNED])
def test_shifts(abstract: Callable[..., Tristate], concrete: Callable[[int, int], int], shift: int) -> None:
    for number in ALL:
        for places in (0, 1, 3, 31, 62, 63):
            results = [concrete(x, places) for x in members(number, shift)]
            assert abstract(*shifted(number, shift), places) == best(results)


def test_meet_is_exact() -> None:
    for left, right in itertools.product(ALL, ALL):
        both = [x for x in members(left) if x in members(right)]
        assert tristate.meet(*left, *right) == (best(both) if both else None)


@pytest.mark.parametrize("shift", [0, SIGNED])
def test_ends_and_ranges(shift: int) -> None:
    """Bounds beside members too: one more and one less than a multiple of 2**shift."""
    for number in ALL:
        value, mask = shifted(number, shift)
        inside = members(number, shift)
        for bound in {(x << shift) + d for x in range(1 << len(BITS)) for d in (-1, 0, 1)} - {-1}:
            assert tristate.smallest_from(bound, value, mask) == min((x for x in inside if x >= bound), default=BEYOND)
            assert tristate.largest_upto(bound, value, mask) == max((x for x in inside if x <= bound), default=-1)
        for low, high in itertools.combinations_with_replacement(inside, 2):
            fitted = tristate.within(value, mask, low, high)
            between = [x for x in inside if low <= x <= high]
            assert all(is_in(x, fitted) for x in between)
            above = -1 << (low ^ high).bit_length()
            assert fitted[1] & ~mask == fitted[1] & above == 0
