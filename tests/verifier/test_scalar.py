"""Scalars, against the formulas of RFC 9669 on their members, and how precise they are where programs need it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import partial, reduce

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.verifier.assembly import EXIT, program
from verifier import isa
from verifier.interpreter import Interpreter
from verifier.isa import Instruction
from verifier.scalar import (
    S64_MAX,
    S64_MIN,
    Scalar,
    Swap,
    alu,
    byte_swap,
    refine,
    sign_extend,
    truncate,
)

M64 = 0xFFFFFFFFFFFFFFFF
M32 = 0xFFFFFFFF
MIN64 = 1 << 63
MIN32 = 1 << 31
ZERO = Scalar.constant(0)

BINARY = {
    "add": isa.ADD,
    "sub": isa.SUB,
    "mul": isa.MUL,
    "div": isa.DIV,
    "or": isa.OR,
    "and": isa.AND,
    "lsh": isa.LSH,
    "rsh": isa.RSH,
    "neg": isa.NEG,
    "mod": isa.MOD,
    "xor": isa.XOR,
    "mov": isa.MOV,
    "arsh": isa.ARSH,
}
OPERATIONS = [(operation, False) for operation in BINARY.values()] + [(isa.DIV, True), (isa.MOD, True)]
COMPARISONS = {
    "jeq": isa.JEQ,
    "jne": isa.JNE,
    "jgt": isa.JGT,
    "jge": isa.JGE,
    "jlt": isa.JLT,
    "jle": isa.JLE,
    "jsgt": isa.JSGT,
    "jsge": isa.JSGE,
    "jslt": isa.JSLT,
    "jsle": isa.JSLE,
    "jset": isa.JSET,
}
SWAPS: tuple[Swap, ...] = ("to_le", "to_be", "swap")

# Numbers around which things change.
CORNERS = sorted(
    {
        number + distance & M64
        for number in (0, 4, 8, 32, 64, 255, 1 << 15, 1 << 16, MIN32, 1 << 32, MIN64, -MIN32, -(1 << 15), -128)
        for distance in (-1, 0, 1)
    }
    | {6, 20, 0x0800, 0x123456789ABCDEF0, 0xAAAAAAAAAAAAAAAA, -13 & M64}
)


# --- the formulas -----------------------------------------------------------------------------------------------------


def as_signed(number: int, bits: int = 64) -> int:
    number &= (1 << bits) - 1
    return number - (1 << bits) if number >> bits - 1 else number


def truncated_quotient(dividend: int, divisor: int) -> int:
    quotient = abs(dividend) // abs(divisor)
    return quotient if (dividend >= 0) == (divisor >= 0) else -quotient


def calculate(operation: int, wide: bool, x: int, y: int, signed: bool = False) -> int:
    bits = 64 if wide else 32
    mask = (1 << bits) - 1
    x, y = x & mask, y & mask
    count = y % bits
    if signed:
        x, y = as_signed(x, bits), as_signed(y, bits)
        quotient = truncated_quotient(x, y) if y else 0
        return (quotient if operation == isa.DIV else x - quotient * y) & mask
    result = {
        isa.ADD: x + y,
        isa.SUB: x - y,
        isa.MUL: x * y,
        isa.DIV: x // y if y else 0,
        isa.OR: x | y,
        isa.AND: x & y,
        isa.LSH: x << count,
        isa.RSH: x >> count,
        isa.NEG: -x,
        isa.MOD: x % y if y else x,
        isa.XOR: x ^ y,
        isa.MOV: y,
        isa.ARSH: as_signed(x, bits) >> count,
    }
    return result[operation] & mask


def holds(comparison: int, wide: bool, x: int, y: int) -> bool:
    bits = 64 if wide else 32
    mask = (1 << bits) - 1
    x, y = x & mask, y & mask
    p, q = as_signed(x, bits), as_signed(y, bits)
    return {
        isa.JEQ: x == y,
        isa.JNE: x != y,
        isa.JGT: x > y,
        isa.JGE: x >= y,
        isa.JLT: x < y,
        isa.JLE: x <= y,
        isa.JSGT: p > q,
        isa.JSGE: p >= q,
        isa.JSLT: p < q,
        isa.JSLE: p <= q,
        isa.JSET: bool(x & y),
    }[comparison]


def extended(bits: int, wide: bool, x: int) -> int:
    return as_signed(x, bits) & (M64 if wide else M32)


def swapped(kind: Swap, bits: int, x: int) -> int:
    low = (x & (1 << bits) - 1).to_bytes(bits // 8, "little")
    return int.from_bytes(low, "little" if kind == "to_le" else "big")


def interpreted(*instructions: Instruction) -> Callable[[int, int], int]:
    """All of R0 after the instructions, as a function of R3 and R4."""
    start = [
        Instruction(isa.LDX | isa.MEM | isa.W, 2, 1),
        Instruction(isa.LDX | isa.MEM | isa.DW, 3, 2),
        Instruction(isa.LDX | isa.MEM | isa.DW, 4, 2, 8),
        Instruction(isa.ALU64 | isa.MOV | isa.K, 0),
        *instructions,
    ]
    high = Instruction(isa.ALU64 | isa.RSH | isa.K, 0, imm=32)
    halves = [Interpreter(program([*start, EXIT])), Interpreter(program([*start, high, EXIT]))]

    def run(x: int, y: int) -> int:
        packet = x.to_bytes(8, "little") + y.to_bytes(8, "little")
        low_half, high_half = (half.run(packet, in_port=0, now=0, random=int) for half in halves)
        return low_half | high_half << 32

    return run


Formula = Callable[[int, int], int]


def of_first(formula: Callable[[int], int]) -> Formula:
    return lambda x, _: formula(x)


def interpreted_formulas() -> Iterator[tuple[str, Formula, Formula]]:
    """Name, the interpreter's way, the way of the formulas above."""
    result = Instruction(isa.ALU64 | isa.MOV | isa.X, 0, 3)
    for wide in (True, False):
        kind = isa.ALU64 if wide else isa.ALU
        for operation, signed in OPERATIONS:
            source = isa.K if operation == isa.NEG else isa.X
            run = interpreted(Instruction(kind | operation | source, 3, 4, int(signed)), result)
            name = next(name for name, number in BINARY.items() if number == operation)
            yield f"{'s' * signed}{name}{64 if wide else 32}", run, partial(calculate, operation, wide, signed=signed)
        for name, comparison in COMPARISONS.items():
            jump = Instruction((isa.JMP if wide else isa.JMP32) | comparison | isa.X, 3, 4, 1)
            one = Instruction(isa.ALU64 | isa.MOV | isa.K, 0, imm=1)
            run = interpreted(one, jump, Instruction(isa.ALU64 | isa.MOV | isa.K, 0))
            yield f"{name}{64 if wide else 32}", run, partial(holds, comparison, wide)
        for bits in (8, 16, 32) if wide else (8, 16):
            run = interpreted(Instruction(kind | isa.MOV | isa.X, 0, 3, bits))
            yield f"movsx{bits}-{64 if wide else 32}", run, of_first(partial(extended, bits, wide))
    opcodes = (isa.ALU | isa.END | isa.K, isa.ALU | isa.END | isa.X, isa.ALU64 | isa.END | isa.K)
    for swap, opcode in zip(SWAPS, opcodes, strict=True):
        for bits in (16, 32, 64):
            run = interpreted(Instruction(opcode, 3, imm=bits), result)
            yield f"{swap}{bits}", run, of_first(partial(swapped, swap, bits))


@pytest.mark.parametrize(("run", "formula"), [pytest.param(*rest, id=name) for name, *rest in interpreted_formulas()])
def test_the_interpreter_has_the_same_formulas(
    run: Callable[[int, int], int], formula: Callable[[int, int], int]
) -> None:
    for x, y in itertools.product(CORNERS[::2], CORNERS[1::3]):
        assert run(x, y) == formula(x, y), (hex(x), hex(y))


# --- soundness --------------------------------------------------------------------------------------------------------

numbers = st.one_of(st.sampled_from(CORNERS), st.integers(0, 100), st.integers(-100, -1), st.integers(0, M64)).map(
    lambda number: number & M64
)


def best(members: Iterable[int]) -> Scalar:
    """The least scalar with these members."""
    return reduce(Scalar.join, map(Scalar.constant, members))


@st.composite
def scalars(draw: st.DrawFn) -> tuple[Scalar, list[int]]:
    """A scalar and some of its members."""
    x, y, z = draw(numbers), draw(numbers), draw(numbers)
    match draw(st.integers(0, 5)):
        case 0:
            return Scalar.constant(x), [x]
        case 1:
            return best([x, y, z]), [x, y, z]
        case 2:
            low, middle, high = sorted((x, y, z))
            return Scalar.between(low, high), [low, middle, high]
        case 3:  # the bits of x under the mask y are known
            known = alu(isa.OR, True, alu(isa.AND, True, Scalar.unknown(), Scalar.constant(~y)), Scalar.constant(x & y))
            return known, [x, x & y, x & y | z & ~y & M64]
        case 4:  # a signed range of the low half
            low, middle, high = sorted((x, y, z), key=lambda number: as_signed(number, 32))
            some = Scalar.unknown()
            for comparison, end in ((isa.JSGE, low), (isa.JSLE, high)):
                taken, _ = refine(comparison, False, some, Scalar.constant(end))
                assert taken is not None
                some = taken[0]
            return some, [low, middle, high, middle ^ 1 << 40]
        case _:
            return Scalar.unknown(), [x, y, z]


def assert_sound(scalar: Scalar, members: Iterable[int]) -> None:
    """Besides: the scalar cannot be tightened any further, as its being equal to itself adds nothing."""
    for member in members:
        assert scalar.contains(member), (scalar, hex(member))
    assert refine(isa.JEQ, True, scalar, scalar)[0] == (scalar, scalar)


Drawn = tuple[Scalar, list[int]]


@given(scalars(), scalars())
@settings(max_examples=1000)
@example((Scalar.unknown(), CORNERS), (Scalar.unknown(), CORNERS[::3]))
@example((best([MIN64]), [MIN64]), (best([M64, 0, 1]), [M64, 0, 1]))
def test_arithmetic_is_sound(left: Drawn, right: Drawn) -> None:
    (a, xs), (b, ys) = left, right
    for (operation, signed), wide in itertools.product(OPERATIONS, (True, False)):
        result = alu(operation, wide, a, b, signed=signed)
        assert_sound(result, {calculate(operation, wide, x, y, signed) for x in xs for y in ys})
        if a.is_constant and b.is_constant:
            assert result.is_constant


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
    for bits, kind in itertools.product((16, 32, 64), SWAPS):
        assert_sound(byte_swap(a, bits, kind), {swapped(kind, bits, x) for x in xs})


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


Step = tuple[str, tuple[int, bool], bool, int]
kinds = {
    "alu": OPERATIONS,
    "refine": [(comparison, False) for comparison in COMPARISONS.values()],
    "join": [(0, False)],
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
    """Three runs at a time, three registers each; at a branch, those that go the first one's way go on."""
    registers = [best(lane[index] for lane in lanes) for index in range(3)]
    for kind, (number, signed), wide, pair in sequence:
        i, j = divmod(pair, 3)
        if kind == "alu":
            registers[i] = alu(number, wide, registers[i], registers[j], signed=signed)
            for lane in lanes:
                lane[i] = calculate(number, wide, lane[i], lane[j], signed)
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


# --- precision --------------------------------------------------------------------------------------------------------

SMALL = range(-3, 4)
INTERVALS = [range(low, high + 1) for low in SMALL for high in SMALL if low <= high]


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


@pytest.mark.parametrize("wide", [True, False], ids=["64", "32"])
@pytest.mark.parametrize("operation", [isa.ADD, isa.SUB, isa.MUL, isa.NEG, isa.MOV], ids=hex)
def test_arithmetic_on_small_ranges_is_exact(operation: int, wide: bool) -> None:
    for left, right in itertools.product(INTERVALS, INTERVALS):
        result = alu(operation, wide, best(left), best(right))
        exact = best(calculate(operation, wide, x, y) for x in left for y in right)
        assert (result.s32min, result.s32max) == (exact.s32min, exact.s32max), (left, right)
        assert not wide or (result.smin, result.smax) == (exact.smin, exact.smax), (left, right)


def op(operation: int, a: Scalar, b: Scalar | int, *, wide: bool = True, signed: bool = False) -> Scalar:
    return alu(operation, wide, a, Scalar.constant(b) if isinstance(b, int) else b, signed=signed)


def when(comparison: int, a: Scalar, b: Scalar | int, *, wide: bool = True) -> Scalar:
    """The left operand if the branch is taken."""
    taken, _ = refine(comparison, wide, a, Scalar.constant(b) if isinstance(b, int) else b)
    assert taken is not None
    return taken[0]


def unless(comparison: int, a: Scalar, b: Scalar | int, *, wide: bool = True) -> Scalar:
    """The left operand if it is not."""
    _, not_taken = refine(comparison, wide, a, Scalar.constant(b) if isinstance(b, int) else b)
    assert not_taken is not None
    return not_taken[0]


ANY = Scalar.unknown()
U8, U16, U32 = (Scalar.of_width(size) for size in (1, 2, 4))
NIBBLE = op(isa.AND, U8, 15)
IHL = op(isa.MUL, NIBBLE, 4)
LENGTH = unless(isa.JGT, ANY, 1500, wide=False)


@pytest.mark.parametrize(
    ("scalar", "expected"),
    [
        pytest.param(U8, range(256), id="load-u8"),
        pytest.param(NIBBLE, range(16), id="mask"),
        pytest.param(op(isa.AND, ANY, 15), range(16), id="mask-unknown"),
        pytest.param(op(isa.AND, ANY, 15, wide=False), range(16), id="mask32-unknown"),
        pytest.param(IHL, range(0, 61, 4), id="mask-times-4"),
        pytest.param(op(isa.LSH, NIBBLE, 2), range(0, 61, 4), id="mask-shifted"),
        pytest.param(op(isa.AND, op(isa.LSH, ANY, 2), 60), range(0, 61, 4), id="shift-masked"),
        pytest.param(op(isa.AND, op(isa.RSH, U8, 2), 60), range(0, 61, 4), id="data-offset"),
        pytest.param(op(isa.RSH, U8, 4), range(16), id="version"),
        pytest.param(when(isa.JLT, NIBBLE, 5), range(5), id="ihl-below-5"),
        pytest.param(unless(isa.JLT, NIBBLE, 5), range(5, 16), id="ihl-from-5"),
        pytest.param(op(isa.MUL, unless(isa.JLT, NIBBLE, 5), 4), range(20, 61, 4), id="header-length"),
        pytest.param(when(isa.JLE, IHL, 50), range(0, 49, 4), id="range-ends-at-multiple"),
        pytest.param(unless(isa.JGE, IHL, 20), range(0, 17, 4), id="below-20-is-16"),
        pytest.param(op(isa.ADD, IHL, 14), range(14, 75, 4), id="header-plus-offset"),
        pytest.param(byte_swap(U8, 16, "to_be"), range(0, 0xFF01, 256), id="be16-of-u8"),
        pytest.param(byte_swap(U16, 16, "to_be"), range(1 << 16), id="be16-of-u16"),
        pytest.param(op(isa.AND, byte_swap(U16, 16, "swap"), 0x1FFF), range(0x2000), id="fragment-offset"),
        pytest.param(byte_swap(U32, 16, "to_le"), range(1 << 16), id="le16-truncates"),
        pytest.param(truncate(best([-1]), 4), [M32], id="w1=r1-of-minus-1"),
        pytest.param(truncate(best([-3, -1]), 4), [M32 - 2, M32], id="w1=r1-of-negative"),
        pytest.param(truncate(best([-3, -1]), 1), [253, 255], id="low-byte-of-negative"),
        pytest.param(truncate(Scalar.between(0x1FE, 0x1FF), 1), [254, 255], id="low-byte-of-range"),
        pytest.param(op(isa.MOV, ZERO, LENGTH, wide=False), range(1501), id="compare32-then-zero-extend"),
        pytest.param(unless(isa.JGT, U32, 1500, wide=False), range(1501), id="compare32-of-u32-refines-all"),
        pytest.param(when(isa.JSLT, U32, 0, wide=False), [MIN32, M32], id="signed-compare32-of-u32"),
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
        pytest.param(when(isa.JLE, op(isa.SUB, U8, 14), 100), range(101), id="one-compare-for-two"),
        pytest.param(op(isa.SUB, Scalar.between(10, 20), Scalar.between(5, 8)), range(2, 16), id="sub-ranges"),
        pytest.param(op(isa.SUB, Scalar.between(5, 8), Scalar.between(10, 20)), range(-15, -1), id="sub-below-zero"),
        pytest.param(op(isa.MUL, Scalar.between(2, 5), Scalar.between(3, 7)), range(6, 36), id="mul-ranges"),
        pytest.param(op(isa.NEG, Scalar.between(1, 5), 0), range(-5, 0), id="neg"),
        pytest.param(op(isa.OR, NIBBLE, 1), range(1, 16, 2), id="or-1"),
        pytest.param(op(isa.XOR, NIBBLE, 16), range(16, 32), id="xor"),
        pytest.param(op(isa.MOD, U32, 10), range(10), id="mod"),
        pytest.param(op(isa.MOD, ANY, 64), range(64), id="mod-power-of-2"),
        pytest.param(op(isa.MOD, Scalar.between(3, 9), 10), range(3, 10), id="mod-of-smaller"),
        pytest.param(op(isa.MOD, Scalar.between(23, 27), 10), range(3, 8), id="mod-within-one-turn"),
        pytest.param(op(isa.DIV, U16, 100), range(656), id="div"),
        pytest.param(op(isa.DIV, IHL, 4), range(16), id="div-power-of-2"),
        pytest.param(op(isa.DIV, ANY, 0), [0], id="div-zero"),
        pytest.param(op(isa.MOD, IHL, 0), range(0, 61, 4), id="mod-zero"),
        pytest.param(op(isa.DIV, best(range(-7, 10)), 2, signed=True), range(-3, 5), id="sdiv"),
        pytest.param(op(isa.DIV, best(range(-7, 10)), -2, signed=True, wide=False), [0, 3, M32, M32 - 3], id="sdiv32"),
        pytest.param(op(isa.MOD, best(range(-7, 10)), 4, signed=True), range(-3, 4), id="smod"),
        pytest.param(op(isa.RSH, U8, Scalar.between(1, 3)), range(128), id="rsh-by-range"),
        pytest.param(op(isa.LSH, best([1]), Scalar.between(0, 3)), range(1, 9), id="lsh-by-range"),
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
        pytest.param(when(isa.JGE, op(isa.SUB, U8, 14), 1 << 63), {"smin": -14, "smax": -1}, id="wrapped"),
        pytest.param(best([14, 18]), {"value": 2, "mask": 0x1C, "umin": 14, "umax": 18}, id="join-14-18"),
        pytest.param(best([-1, 1]), {"value": 1, "smin": -1, "smax": 1, "umin": 1, "s32min": -1}, id="join-signs"),
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


# --- the value itself -------------------------------------------------------------------------------------------------


def test_unknown_is_one_object() -> None:
    assert Scalar.unknown() is Scalar.of_width(8) is Scalar.between(0, M64)
    assert best([0, M64, MIN64, 1, S64_MAX, MIN32, MIN32 - 1, M32]) is Scalar.unknown()
    assert op(isa.XOR, ANY, ANY) is Scalar.unknown()


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
