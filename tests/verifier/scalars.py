"""Scalars for tests: some with some of their members, and the formulas of RFC 9669 on these."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from functools import reduce

from hypothesis import strategies as st

from tests.verifier.assembly import EXIT, program
from verifier import isa
from verifier.arithmetic import alu
from verifier.comparison import refine
from verifier.interpreter import Interpreter
from verifier.isa import Instruction
from verifier.scalar import Scalar

M64 = 0xFFFFFFFFFFFFFFFF
M32 = 0xFFFFFFFF
MIN64 = 1 << 63
MIN32 = 1 << 31

BINARY = {
    "add": isa.ADD,
    "sub": isa.SUB,
    "mul": isa.MUL,
    "or": isa.OR,
    "and": isa.AND,
    "lsh": isa.LSH,
    "rsh": isa.RSH,
    "xor": isa.XOR,
    "arsh": isa.ARSH,
}
SHIFTS = (isa.LSH, isa.RSH, isa.ARSH)
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


def calculate(operation: int, wide: bool, x: int, y: int) -> int:
    bits = 64 if wide else 32
    mask = (1 << bits) - 1
    x, y = x & mask, y & mask
    count = y % bits
    result = {
        isa.ADD: x + y,
        isa.SUB: x - y,
        isa.MUL: x * y,
        isa.OR: x | y,
        isa.AND: x & y,
        isa.LSH: x << count,
        isa.RSH: x >> count,
        isa.XOR: x ^ y,
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


Formula = Callable[[int, int], int]


def interpreted(*instructions: Instruction) -> Formula:
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


def assert_the_same(run: Formula, formula: Formula) -> None:
    for x, y in itertools.product(CORNERS[::2], CORNERS[1::3]):
        assert run(x, y) == formula(x, y), (hex(x), hex(y))


# --- scalars with members ---------------------------------------------------------------------------------------------

numbers = st.one_of(st.sampled_from(CORNERS), st.integers(0, 100), st.integers(-100, -1), st.integers(0, M64)).map(
    lambda number: number & M64
)

Drawn = tuple[Scalar, list[int]]


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


# --- the scalars of programs ------------------------------------------------------------------------------------------


def op(operation: int, a: Scalar, b: Scalar | int, *, wide: bool = True) -> Scalar:
    return alu(operation, wide, a, Scalar.constant(b) if isinstance(b, int) else b)


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

SMALL = range(-3, 4)
INTERVALS = [range(low, high + 1) for low in SMALL for high in SMALL if low <= high]
