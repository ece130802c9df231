"""Comparisons, against the formulas of RFC 9669 on members, and what they teach where programs need it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from functools import partial

import pytest
from hypothesis import example, given, settings

from tests.verifier.scalars import (
    ANY,
    COMPARISONS,
    CORNERS,
    IHL,
    INTERVALS,
    LENGTH,
    M32,
    M64,
    MIN32,
    MIN64,
    NIBBLE,
    U8,
    U32,
    Drawn,
    Formula,
    assert_sound,
    assert_the_same,
    best,
    holds,
    interpreted,
    op,
    scalars,
    unless,
    when,
)
from verifier import isa
from verifier.comparison import refine
from verifier.isa import Instruction
from verifier.scalar import S64_MAX, S64_MIN, Scalar


def formulas() -> Iterator[tuple[str, Formula, Formula]]:
    """Name, the interpreter's way, the way of the tests."""
    one = Instruction(isa.ALU64 | isa.MOV | isa.K, 0, imm=1)
    for wide in (True, False):
        for name, comparison in COMPARISONS.items():
            jump = Instruction((isa.JMP if wide else isa.JMP32) | comparison | isa.X, 3, 4, 1)
            run = interpreted(one, jump, Instruction(isa.ALU64 | isa.MOV | isa.K, 0))
            yield f"{name}{64 if wide else 32}", run, partial(holds, comparison, wide)


@pytest.mark.parametrize(("run", "formula"), [pytest.param(*rest, id=name) for name, *rest in formulas()])
def test_the_interpreter_has_the_same_formulas(run: Formula, formula: Formula) -> None:
    assert_the_same(run, formula)


@given(scalars(), scalars())
@settings(max_examples=1000)
@example((Scalar.unknown(), CORNERS), (Scalar.unknown(), CORNERS[::3]))
def test_branches_are_sound(left: Drawn, right: Drawn) -> None:
    (a, xs), (b, ys) = left, right
    for comparison, wide in itertools.product(COMPARISONS.values(), (True, False)):
        sides = refine(comparison, wide, a, b)
        assert sides != (None, None)
        for side, outcome in zip(sides, (True, False), strict=True):
            pairs = [(x, y) for x in xs for y in ys if holds(comparison, wide, x, y) is outcome]
            if side is None:
                assert not pairs, (comparison, wide)
                continue
            refined, other = side
            assert_sound(refined, {x for x, _ in pairs})
            assert_sound(other, {y for _, y in pairs})
            assert a.covers(refined)
            assert b.covers(other)
        if a.is_constant and b.is_constant:
            assert None in sides


@pytest.mark.parametrize("wide", [True, False], ids=["64", "32"])
@pytest.mark.parametrize("comparison", [pytest.param(number, id=name) for name, number in COMPARISONS.items()])
def test_branches_on_small_ranges_are_exact(comparison: int, wide: bool) -> None:
    """The ranges that are compared, for all pairs of small ranges, end at numbers that satisfy the comparison."""
    signed = ("smin", "smax") if wide else ("s32min", "s32max")
    for left, right in itertools.product(INTERVALS, INTERVALS):
        sides = refine(comparison, wide, best(left), best(right))
        for side, outcome in zip(sides, (True, False), strict=True):
            pairs = [(x, y) for x in left for y in right if holds(comparison, wide, x, y) is outcome]
            if comparison == isa.JSET:
                # Bits and ranges do not tell all about AND.
                continue
            assert (side is None) == (not pairs), (left, right, outcome)
            if side is None:
                continue
            for refined, exact in zip(side, zip(*pairs, strict=True), strict=True):
                for end in signed:
                    assert getattr(refined, end) == getattr(best(exact), end), (left, right, outcome)


@pytest.mark.parametrize(
    ("scalar", "expected"),
    [
        pytest.param(when(isa.JLT, NIBBLE, 5), range(5), id="ihl-below-5"),
        pytest.param(unless(isa.JLT, NIBBLE, 5), range(5, 16), id="ihl-from-5"),
        pytest.param(when(isa.JLE, IHL, 50), range(0, 49, 4), id="range-ends-at-multiple"),
        pytest.param(unless(isa.JGE, IHL, 20), range(0, 17, 4), id="below-20-is-16"),
        pytest.param(unless(isa.JGT, U32, 1500, wide=False), range(1501), id="compare32-of-u32-refines-all"),
        pytest.param(when(isa.JSLT, U32, 0, wide=False), [MIN32, M32], id="signed-compare32-of-u32"),
        pytest.param(when(isa.JLE, op(isa.SUB, U8, 14), 100), range(101), id="one-compare-for-two"),
        pytest.param(when(isa.JNE, Scalar.between(0, 10), 0), range(1, 11), id="jne-lower-end"),
        pytest.param(when(isa.JNE, IHL, 60), range(0, 57, 4), id="jne-upper-end"),
        pytest.param(when(isa.JNE, best([0, 1]), 0), [1], id="jne-of-bool"),
        pytest.param(unless(isa.JNE, ANY, 7), [7], id="jne-not-taken"),
        pytest.param(when(isa.JEQ, Scalar.between(0, 20), Scalar.between(10, 30)), range(10, 21), id="jeq-ranges"),
        pytest.param(when(isa.JEQ, U32, -1, wide=False), [M32], id="jeq32-minus-1"),
        pytest.param(when(isa.JSET, best([0, 16]), 16), [16], id="jset"),
        pytest.param(unless(isa.JSET, best([0, 16]), 16), [0], id="jset-not-taken"),
        pytest.param(when(isa.JSET, NIBBLE, 12), range(4, 16), id="jset-mask"),
        pytest.param(unless(isa.JSET, NIBBLE, 12), range(4), id="jset-mask-not-taken"),
        pytest.param(when(isa.JSET, NIBBLE, 0xF8, wide=False), range(8, 16), id="jset32-one-bit-possible"),
        pytest.param(when(isa.JLT, Scalar.between(0, 100), Scalar.between(50, 60)), range(60), id="less-than-a-range"),
        pytest.param(unless(isa.JLT, Scalar.between(0, 100), Scalar.between(50, 60)), range(50, 101), id="at-least"),
        pytest.param(when(isa.JSGE, when(isa.JSLE, ANY, 10), -10), range(-10, 11), id="signed-both-ends"),
        pytest.param(
            unless(isa.JSGT, unless(isa.JSLT, U32, 0, wide=False), 64, wide=False), range(65), id="signed32-both-ends"
        ),
    ],
)
def test_as_precise_as_can_be(scalar: Scalar, expected: Iterable[int]) -> None:
    assert scalar == best(expected)


@pytest.mark.parametrize(
    ("scalar", "expected"),
    [
        pytest.param(when(isa.JSGT, ANY, 0), {"umin": 1, "umax": S64_MAX, "smin": 1}, id="positive"),
        pytest.param(unless(isa.JSGT, ANY, 0), {"umin": 0, "smin": S64_MIN, "smax": 0}, id="not-positive"),
        pytest.param(when(isa.JSLT, ANY, 0), {"value": MIN64, "umin": MIN64, "smax": -1}, id="negative"),
        pytest.param(unless(isa.JSET, ANY, 1 << 63), {"umax": S64_MAX, "smin": 0}, id="sign-bit-clear"),
        pytest.param(LENGTH, {"u32max": 1500, "s32min": 0, "umax": M64 - M32 + 1500}, id="low-half"),
        pytest.param(
            when(isa.JSET, ANY, 12, wide=False), {"umin": 4, "u32min": 4, "umax": M64}, id="jset32-of-unknown"
        ),
        pytest.param(when(isa.JSET, ANY, 12 << 40), {"umin": 4 << 40, "u32min": 0, "umax": M64}, id="jset-high-bits"),
        pytest.param(when(isa.JGE, op(isa.SUB, U8, 14), 1 << 63), {"smin": -14, "smax": -1}, id="wrapped"),
    ],
)
def test_known(scalar: Scalar, expected: dict[str, int]) -> None:
    assert {name: getattr(scalar, name) for name in expected} == expected


def test_both_operands_are_refined() -> None:
    taken, not_taken = refine(isa.JLT, True, Scalar.between(0, 100), Scalar.between(50, 120))
    assert taken == (Scalar.between(0, 100), Scalar.between(50, 120))
    assert not_taken == (Scalar.between(50, 100), Scalar.between(50, 100))


@pytest.mark.parametrize(
    ("comparison", "a", "b", "wide", "sides"),
    [
        pytest.param(isa.JGT, U8, 255, True, (False, True), id="u8-above-255"),
        pytest.param(isa.JLT, IHL, 61, True, (True, False), id="all-below"),
        pytest.param(isa.JEQ, IHL, 7, True, (False, True), id="not-a-multiple"),
        pytest.param(isa.JNE, IHL, 7, True, (True, False), id="differs-in-a-bit"),
        pytest.param(isa.JSET, IHL, 3, True, (False, True), id="bits-clear"),
        pytest.param(isa.JSET, op(isa.OR, ANY, 4), 12, True, (True, False), id="bit-set"),
        pytest.param(isa.JSLT, U32, 0, True, (False, True), id="u32-is-not-negative"),
        pytest.param(isa.JSLT, U32, 0, False, (True, True), id="its-low-half-may-be"),
        pytest.param(isa.JEQ, best([1 << 32]), 0, False, (True, False), id="low-halves-equal"),
        pytest.param(isa.JEQ, best([1 << 32]), 0, True, (False, True), id="not-the-whole"),
    ],
)
def test_decided(comparison: int, a: Scalar, b: int, wide: bool, sides: tuple[bool, bool]) -> None:
    taken, not_taken = refine(comparison, wide, a, Scalar.constant(b))
    assert (taken is not None, not_taken is not None) == sides
