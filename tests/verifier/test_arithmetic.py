"""Arithmetic, against the formulas of RFC 9669 on members, and how precise it is where programs need it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import partial

import pytest
from hypothesis import example, given, settings

from tests.verifier.scalars import (
    ANY,
    BINARY,
    CORNERS,
    IHL,
    INTERVALS,
    LENGTH,
    M32,
    M64,
    MIN32,
    MIN64,
    NIBBLE,
    SHIFTS,
    U8,
    U16,
    U32,
    Drawn,
    Formula,
    assert_sound,
    assert_the_same,
    best,
    calculate,
    extended,
    interpreted,
    op,
    scalars,
    unless,
)
from verifier import isa
from verifier.arithmetic import alu, sign_extend, truncate
from verifier.isa import Instruction
from verifier.scalar import S64_MAX, Scalar

ZERO = Scalar.constant(0)


def formulas() -> Iterator[tuple[str, Formula, Formula]]:
    """Name, the interpreter's way, the way of the tests."""
    result = Instruction(isa.ALU64 | isa.MOV | isa.X, 0, 3)
    for wide in (True, False):
        kind = isa.ALU64 if wide else isa.ALU
        for name, operation in BINARY.items():
            run = interpreted(Instruction(kind | operation | isa.X, 3, 4), result)
            yield f"{name}{64 if wide else 32}", run, partial(calculate, operation, wide)
        for bits in (8, 16, 32) if wide else (8, 16):
            run = interpreted(Instruction(kind | isa.MOV | isa.X, 0, 3, bits))
            yield f"movsx{bits}-{64 if wide else 32}", run, of_first(partial(extended, bits, wide))


def of_first(formula: Callable[[int], int]) -> Formula:
    return lambda x, _: formula(x)


@pytest.mark.parametrize(("run", "formula"), [pytest.param(*rest, id=name) for name, *rest in formulas()])
def test_the_interpreter_has_the_same_formulas(run: Formula, formula: Formula) -> None:
    assert_the_same(run, formula)


@given(scalars(), scalars())
@settings(max_examples=1000)
@example((Scalar.unknown(), CORNERS), (Scalar.unknown(), CORNERS[::3]))
@example((best([MIN64]), [MIN64]), (best([M64, 0, 1]), [M64, 0, 1]))
def test_arithmetic_is_sound(left: Drawn, right: Drawn) -> None:
    (a, xs), (b, ys) = left, right
    for operation, wide in itertools.product(BINARY.values(), (True, False)):
        for source, members in [(Scalar.constant(y), [y]) for y in ys] if operation in SHIFTS else [(b, ys)]:
            result = alu(operation, wide, a, source)
            assert_sound(result, {calculate(operation, wide, x, y) for x in xs for y in members})
            if a.is_constant and source.is_constant:
                assert result.is_constant


@pytest.mark.parametrize("operation", SHIFTS, ids=hex)
def test_the_count_of_a_shift_is_constant(operation: int) -> None:
    with pytest.raises(ValueError, match="not a constant"):
        alu(operation, True, U8, NIBBLE)


@given(scalars())
@settings(max_examples=1000)
@example((Scalar.unknown(), CORNERS))
def test_casts_are_sound(drawn: Drawn) -> None:
    a, xs = drawn
    assert_sound(a, xs)
    for size in (1, 2, 4, 8):
        assert_sound(truncate(a, size), {x & (1 << 8 * size) - 1 for x in xs})
    for bits, wide in itertools.product((8, 16, 32), (True, False)):
        assert_sound(sign_extend(a, bits, wide), {extended(bits, wide, x) for x in xs})


@pytest.mark.parametrize("wide", [True, False], ids=["64", "32"])
@pytest.mark.parametrize("operation", [isa.ADD, isa.SUB, isa.MUL], ids=hex)
def test_arithmetic_on_small_ranges_is_exact(operation: int, wide: bool) -> None:
    for left, right in itertools.product(INTERVALS, INTERVALS):
        result = alu(operation, wide, best(left), best(right))
        exact = best(calculate(operation, wide, x, y) for x in left for y in right)
        assert (result.s32min, result.s32max) == (exact.s32min, exact.s32max), (left, right)
        assert not wide or (result.smin, result.smax) == (exact.smin, exact.smax), (left, right)


@pytest.mark.parametrize(
    ("scalar", "expected"),
    [
        pytest.param(NIBBLE, range(16), id="mask"),
        pytest.param(op(isa.AND, ANY, 15), range(16), id="mask-unknown"),
        pytest.param(op(isa.AND, ANY, 15, wide=False), range(16), id="mask32-unknown"),
        pytest.param(IHL, range(0, 61, 4), id="mask-times-4"),
        pytest.param(op(isa.LSH, NIBBLE, 2), range(0, 61, 4), id="mask-shifted"),
        pytest.param(op(isa.AND, op(isa.LSH, ANY, 2), 60), range(0, 61, 4), id="shift-masked"),
        pytest.param(op(isa.AND, op(isa.RSH, U8, 2), 60), range(0, 61, 4), id="data-offset"),
        pytest.param(op(isa.RSH, U8, 4), range(16), id="version"),
        pytest.param(op(isa.MUL, unless(isa.JLT, NIBBLE, 5), 4), range(20, 61, 4), id="header-length"),
        pytest.param(op(isa.ADD, IHL, 14), range(14, 75, 4), id="header-plus-offset"),
        pytest.param(truncate(best([-1]), 4), [M32], id="w1=r1-of-minus-1"),
        pytest.param(truncate(best([-3, -1]), 4), [M32 - 2, M32], id="w1=r1-of-negative"),
        pytest.param(truncate(best([-3, -1]), 1), [253, 255], id="low-byte-of-negative"),
        pytest.param(truncate(Scalar.between(0x1FE, 0x1FF), 1), [254, 255], id="low-byte-of-range"),
        pytest.param(truncate(LENGTH, 4), range(1501), id="compare32-then-zero-extend"),
        pytest.param(
            op(isa.ADD, best([14]), unless(isa.JGT, U32, 1500, wide=False)), range(14, 1515), id="compare32-then-add64"
        ),
        pytest.param(op(isa.RSH, op(isa.LSH, ANY, 32), 32), [0, MIN32 - 1, MIN32, M32], id="lsh32-rsh32"),
        pytest.param(op(isa.RSH, op(isa.LSH, LENGTH, 32), 32), range(1501), id="compare32-lsh32-rsh32"),
        pytest.param(op(isa.ARSH, op(isa.LSH, LENGTH, 32), 32), range(1501), id="compare32-lsh32-arsh32"),
        pytest.param(op(isa.ARSH, op(isa.LSH, best(range(-5, 8)), 32), 32), range(-5, 8), id="lsh32-arsh32-of-signed"),
        pytest.param(op(isa.RSH, op(isa.LSH, U16, 56), 56), range(256), id="lsh56-rsh56"),
        pytest.param(sign_extend(best(range(-3, 6)), 8, True), range(-3, 6), id="sign-extension-of-small"),
        pytest.param(sign_extend(U16, 16, True), range(-(1 << 15), 1 << 15), id="sign-extend-u16"),
        pytest.param(sign_extend(U32, 8, True), range(-128, 128), id="sign-extend-8-of-u32"),
        pytest.param(sign_extend(Scalar.between(0xFFF0, 0xFFF8), 16, True), range(-16, -7), id="sign-extend-negative"),
        pytest.param(sign_extend(U8, 32, True), range(256), id="sign-extend-nothing"),
        pytest.param(op(isa.SUB, U8, 14), range(-14, 242), id="sub-wraps"),
        pytest.param(op(isa.SUB, Scalar.between(10, 20), Scalar.between(5, 8)), range(2, 16), id="sub-ranges"),
        pytest.param(op(isa.SUB, Scalar.between(5, 8), Scalar.between(10, 20)), range(-15, -1), id="sub-below-zero"),
        pytest.param(op(isa.MUL, Scalar.between(2, 5), Scalar.between(3, 7)), range(6, 36), id="mul-ranges"),
        pytest.param(op(isa.SUB, ZERO, Scalar.between(1, 5)), range(-5, 0), id="neg"),
        pytest.param(op(isa.OR, NIBBLE, 1), range(1, 16, 2), id="or-1"),
        pytest.param(op(isa.XOR, NIBBLE, 16), range(16, 32), id="xor"),
    ],
)
def test_as_precise_as_can_be(scalar: Scalar, expected: Iterable[int]) -> None:
    assert scalar == best(expected)


@pytest.mark.parametrize(
    ("scalar", "expected"),
    [
        pytest.param(op(isa.OR, ANY, 1), {"value": 1, "mask": M64 - 1, "umin": 1, "u32min": 1}, id="odd"),
        pytest.param(op(isa.AND, ANY, -8), {"mask": M64 - 7, "umax": M64 - 7, "smax": S64_MAX - 7}, id="aligned"),
        pytest.param(
            op(isa.AND, op(isa.ADD, Scalar.between(0, 61), 3), -4),
            {"value": 0, "mask": 0x7C, "umin": 0, "umax": 64},
            id="round-up",
        ),
        pytest.param(op(isa.AND, op(isa.ARSH, ANY, 63), -13), {"smin": -16, "smax": 0}, id="branchless-errno"),
        pytest.param(op(isa.ADD, U32, U32), {"umax": 2 * M32, "smin": 0}, id="add-u32"),
        pytest.param(op(isa.MUL, U32, 60), {"umax": 60 * M32, "smin": 0, "mask": (1 << 38) - 4}, id="mul-u32"),
        pytest.param(op(isa.MUL, ANY, 12), {"value": 0, "mask": M64 - 3}, id="multiple-of-unknown"),
        pytest.param(op(isa.ARSH, op(isa.LSH, ANY, 32), 32), {"smin": -MIN32, "smax": MIN32 - 1}, id="lsh32-arsh32"),
        pytest.param(
            op(isa.ARSH, op(isa.LSH, ANY, 56), 58),
            {"smin": -32, "smax": 31, "s32min": -32, "s32max": 31},
            id="bitfield",
        ),
    ],
)
def test_known(scalar: Scalar, expected: dict[str, int]) -> None:
    assert {name: getattr(scalar, name) for name in expected} == expected
