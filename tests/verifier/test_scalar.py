"""Scalars as sets of numbers, through sequences of instructions, and as text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.verifier.scalars import (
    ANY,
    BINARY,
    COMPARISONS,
    IHL,
    LENGTH,
    M32,
    M64,
    MIN32,
    MIN64,
    NIBBLE,
    SHIFTS,
    U8,
    U32,
    Drawn,
    assert_sound,
    best,
    calculate,
    holds,
    numbers,
    op,
    scalars,
    unless,
    when,
)
from verifier import isa
from verifier.arithmetic import alu
from verifier.comparison import refine
from verifier.scalar import S64_MAX, S64_MIN, Scalar

# --- soundness --------------------------------------------------------------------------------------------------------


@given(scalars(), scalars())
@settings(max_examples=1000)
def test_join_and_covers_are_sound(left: Drawn, right: Drawn) -> None:
    (a, xs), (b, ys) = left, right
    both = a.join(b)
    assert_sound(both, xs + ys)
    assert both == b.join(a)
    assert both.covers(a)
    assert both.covers(b)
    assert a.covers(a)
    assert Scalar.unknown().covers(a)
    if a.covers(b):
        assert all(a.contains(y) for y in ys)
        assert both == a
    if not all(a.contains(y) for y in ys):
        assert not a.covers(b)


Step = tuple[str, int, bool, int]
kinds = {
    "alu": list(BINARY.values()),
    "refine": list(COMPARISONS.values()),
    "join": [0],
}
steps = st.one_of(
    [
        st.tuples(st.just(kind), st.sampled_from(choices), st.booleans(), st.integers(0, 8))
        for kind, choices in kinds.items()
    ]
)


@given(st.lists(st.lists(numbers, min_size=3, max_size=3), min_size=3, max_size=3), st.lists(steps, max_size=12))
@settings(max_examples=1000)
def test_a_sequence_of_instructions_is_sound(lanes: list[list[int]], sequence: list[Step]) -> None:
    """Three runs at a time, three registers each; shifts are by what the first one has, and at a branch those go on
    that go its way."""
    registers = [best(lane[index] for lane in lanes) for index in range(3)]
    for kind, number, wide, pair in sequence:
        i, j = divmod(pair, 3)
        if kind == "alu":
            count = lanes[0][j]
            registers[i] = alu(number, wide, registers[i], Scalar.constant(count) if number in SHIFTS else registers[j])
            for lane in lanes:
                lane[i] = calculate(number, wide, lane[i], count if number in SHIFTS else lane[j])
        elif kind == "join":
            registers[i] = registers[i].join(registers[j])
        elif i != j:
            taken, not_taken = refine(number, wide, registers[i], registers[j])
            outcome = holds(number, wide, lanes[0][i], lanes[0][j])
            lanes = [lane for lane in lanes if holds(number, wide, lane[i], lane[j]) is outcome]
            side = taken if outcome else not_taken
            assert side is not None
            registers[i], registers[j] = side
        for index, register in enumerate(registers):
            assert_sound(register, {lane[index] for lane in lanes})


# --- the value itself -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scalar", "expected"),
    [
        pytest.param(best([14, 18]), {"value": 2, "mask": 0x1C, "umin": 14, "umax": 18}, id="join-14-18"),
        pytest.param(best([-1, 1]), {"value": 1, "smin": -1, "smax": 1, "umin": 1, "s32min": -1}, id="join-signs"),
    ],
)
def test_known(scalar: Scalar, expected: dict[str, int]) -> None:
    assert {name: getattr(scalar, name) for name in expected} == expected


def test_unknown_is_one_object() -> None:
    assert Scalar.unknown() is Scalar.of_width(8) is Scalar.between(0, M64)
    assert best([0, M64, MIN64, 1, S64_MAX, MIN32, MIN32 - 1, M32]) is Scalar.unknown()
    assert op(isa.XOR, ANY, ANY) is Scalar.unknown()


def test_a_load_gives_all_of_its_width() -> None:
    assert Scalar.of_width(1) == best(range(256))


def test_constants() -> None:
    assert Scalar.constant(-1) == Scalar.constant(M64)
    assert hash(Scalar.constant(7)) == hash(Scalar.between(7, 7))
    assert Scalar.constant(-1).constant_value == M64
    assert not U8.is_constant
    with pytest.raises(ValueError, match="0–255 is not a constant"):
        _ = U8.constant_value


@pytest.mark.parametrize(
    ("scalar", "inside", "outside"),
    [
        pytest.param(IHL, [0, 60], [2, 64], id="bits-and-range"),
        pytest.param(Scalar.between(5, 250), [5, 250], [4, 251, -5], id="unsigned"),
        pytest.param(when(isa.JSLT, ANY, 5), [4, -1, S64_MIN], [5, S64_MAX], id="signed"),
        pytest.param(LENGTH, [0, 1500, 1 << 32, -1 << 32], [1501, -1], id="low-half"),
        pytest.param(
            when(isa.JSGE, when(isa.JSLE, ANY, 9, wide=False), -9, wide=False),
            [9, -9, 1 << 32, M32],
            [10, -10, MIN32],
            id="signed-low-half",
        ),
    ],
)
def test_contains(scalar: Scalar, inside: list[int], outside: list[int]) -> None:
    assert [number for number in inside + outside if scalar.contains(number)] == inside


@pytest.mark.parametrize(
    ("wider", "narrower"),
    [
        pytest.param(U8, NIBBLE, id="range"),
        pytest.param(Scalar.between(0, 60), IHL, id="bits"),
        pytest.param(ANY, LENGTH, id="low-half"),
        pytest.param(ANY, unless(isa.JSGT, ANY, 0), id="signed"),
        pytest.param(ANY, unless(isa.JSGT, ANY, 0, wide=False), id="signed-low-half"),
    ],
)
def test_covers(wider: Scalar, narrower: Scalar) -> None:
    assert wider.covers(narrower)
    assert not narrower.covers(wider)


@pytest.mark.parametrize(
    ("scalar", "text"),
    [
        (best([5]), "5"),
        (best([-1]), "-1"),
        (best([65535]), "65535"),
        (best([0x10000]), "0x10000"),
        (best([MIN64]), "0x8000000000000000"),
        (ANY, "unknown"),
        (U8, "0–255"),
        (U32, "0–0xffffffff"),
        (IHL, "multiple of 4 in 0–60"),
        (op(isa.ADD, IHL, 14), "2 more than a multiple of 4 in 14–74"),
        (op(isa.AND, ANY, -4), "multiple of 4"),
        (op(isa.OR, ANY, 1), "odd"),
        (op(isa.AND, NIBBLE, -2), "even in 0–14"),
        (best([14, 18]), "14 or 18"),
        (best([0, 1]), "0 or 1"),
        (best([-4, -2]), "-4 or -2"),
        (op(isa.SUB, U8, 14), "-14 to 241"),
        (when(isa.JSLT, when(isa.JSGT, ANY, -9), -4), "-8 to -5"),
        (op(isa.AND, ANY, 0x101), "0–257, bits 0xfe clear"),
        (op(isa.OR, ANY, 1 << 40), "bits 0x10000000000 set"),
        (LENGTH, "low half 0–1500"),
        (when(isa.JSGE, when(isa.JSLE, ANY, 9, wide=False), -9, wide=False), "low half -9 to 9"),
        (when(isa.JSGT, ANY, 0), "1–0x7fffffffffffffff"),
    ],
    ids=str,
)
def test_text(scalar: Scalar, text: str) -> None:
    assert str(scalar) == text
