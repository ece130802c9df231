from __future__ import annotations

import contextlib
import itertools
import operator
import struct
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oko.kernel import maps as kernel
from oko.kernel.btf import load_btf
from oko.kernel.program import load_program
from tests.verifier.assembly import EXIT, ZERO, call, call_local, lddw, program
from tests.verifier.conftest import Compile
from verifier import isa
from verifier.check import check_structure
from verifier.elf import load
from verifier.interpreter import Interpreter, InterpreterFault
from verifier.isa import Instruction, encode
from verifier.maps import Map, RingBuffer
from verifier.program import MapSpec, MapType, Program, Reference, ReferenceKind

M64 = 0xFFFFFFFFFFFFFFFF
MIN64 = 1 << 63
PACKET = bytes(range(64))
REGISTERS = range(10)
ALU64 = isa.ALU64
X = isa.X


def run(made: Program, packet: bytes = PACKET, maps: dict[str, Map] | None = None) -> int:
    check_structure(made)
    return Interpreter(made, maps).run(packet, in_port=7, now=1 << 40, random=lambda: 0x1_2345_6789)


def result(*instructions: Instruction) -> int:
    """All 64 bits of R0 after the instructions."""
    low = run(program([*instructions, EXIT]))
    return low | run(program([*instructions, Instruction(ALU64 | isa.RSH, 0, imm=32), EXIT])) << 32


def binary(operation: int, left: int, right: int, offset: int = 0, kind: int = ALU64) -> int:
    return result(*lddw(0, left), *lddw(1, right), Instruction(kind | operation | X, 0, 1, offset))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(lambda: binary(isa.ADD, M64, 2), 1, id="add-wraps"),
        pytest.param(lambda: binary(isa.SUB, 1, 2), M64, id="sub-wraps"),
        pytest.param(lambda: binary(isa.ADD, M64, 1, kind=isa.ALU), 0, id="add32-zero-extends"),
        pytest.param(lambda: binary(isa.MOV, M64, M64, kind=isa.ALU), 0xFFFFFFFF, id="mov32"),
        pytest.param(lambda: binary(isa.DIV, 7, 0), 0, id="div-zero"),
        pytest.param(lambda: binary(isa.MOD, M64, 0), M64, id="mod-zero"),
        pytest.param(lambda: binary(isa.MOD, M64, 1 << 32, kind=isa.ALU), 0xFFFFFFFF, id="mod32-zero"),
        pytest.param(lambda: binary(isa.DIV, -7 & M64, 2, 1), -3 & M64, id="sdiv"),
        pytest.param(lambda: binary(isa.DIV, MIN64, M64, 1), MIN64, id="sdiv-overflow"),
        pytest.param(lambda: binary(isa.MOD, -7 & M64, 2, 1), M64, id="smod"),
        pytest.param(lambda: binary(isa.MOD, 7, -2 & M64, 1), 1, id="smod-negative-divisor"),
        pytest.param(lambda: binary(isa.LSH, 1, 65), 2, id="shift-masked"),
        pytest.param(lambda: binary(isa.RSH, 1 << 31, 33, kind=isa.ALU), 1 << 30, id="shift32-masked"),
        pytest.param(lambda: binary(isa.ARSH, MIN64, 63), M64, id="arsh"),
        pytest.param(lambda: binary(isa.ARSH, 1 << 31, 31, kind=isa.ALU), 0xFFFFFFFF, id="arsh32"),
        pytest.param(lambda: binary(isa.MOV, 0, 0x80, 8), -128 & M64, id="movsx8"),
        pytest.param(lambda: binary(isa.MOV, 0, 0x8000, 16, isa.ALU), 0xFFFF8000, id="movsx16-32"),
        pytest.param(
            lambda: result(*lddw(0, 0x0102030405060708), Instruction(isa.ALU | isa.END | X, 0, imm=32)),
            0x08070605,
            id="be32",
        ),
        pytest.param(
            lambda: result(*lddw(0, 0x0102030405060708), Instruction(isa.ALU | isa.END, 0, imm=16)), 0x0708, id="le16"
        ),
        pytest.param(
            lambda: result(*lddw(0, 0x0102030405060708), Instruction(ALU64 | isa.END, 0, imm=64)),
            0x0807060504030201,
            id="bswap64",
        ),
        pytest.param(lambda: result(ZERO, Instruction(ALU64 | isa.ADD, 0, imm=-1)), M64, id="immediate-sign-extends"),
        pytest.param(
            lambda: result(ZERO, Instruction(isa.ALU | isa.ADD, 0, imm=-1)), 0xFFFFFFFF, id="immediate32-zero-extends"
        ),
    ],
)
def test_arithmetic(value: object, expected: int) -> None:
    assert callable(value)
    assert value() == expected


COMPARISONS = {
    isa.JEQ: (operator.eq, False),
    isa.JNE: (operator.ne, False),
    isa.JGT: (operator.gt, False),
    isa.JGE: (operator.ge, False),
    isa.JLT: (operator.lt, False),
    isa.JLE: (operator.le, False),
    isa.JSGT: (operator.gt, True),
    isa.JSGE: (operator.ge, True),
    isa.JSLT: (operator.lt, True),
    isa.JSLE: (operator.le, True),
    isa.JSET: (operator.and_, False),
}
EDGES = (0, 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, MIN64 - 1, MIN64, M64)


@pytest.mark.parametrize("bits", [32, 64])
def test_comparisons(bits: int) -> None:
    """Every comparison of every pair of edges: a program per pair leaves one bit per comparison in R0."""
    kind = isa.JMP if bits == 64 else isa.JMP32
    for left, right in itertools.product(EDGES, EDGES):
        body = [*lddw(1, left), *lddw(2, right), ZERO]
        expected = 0
        for operation, (compare, signed) in COMPARISONS.items():
            body += [
                Instruction(ALU64 | isa.LSH, 0, imm=1),
                Instruction(ALU64 | isa.OR, 0, imm=1),
                Instruction(kind | operation | X, 1, 2, 1),
                Instruction(ALU64 | isa.AND, 0, imm=-2),
            ]
            size = bits // 8
            operands = [
                int.from_bytes(number.to_bytes(8, "little")[:size], "little", signed=signed) for number in (left, right)
            ]
            expected = expected << 1 | bool(compare(*operands))
        assert run(program([*body, EXIT])) == expected, (left, right)


@pytest.mark.parametrize(
    ("size", "compared", "old", "stored"),
    [
        pytest.param(isa.DW, 0x1_0000_0005, 0x1_0000_0005, 9, id="equal"),
        pytest.param(isa.DW, 0x2_0000_0005, 0x1_0000_0005, 0x1_0000_0005, id="unequal-in-the-upper-half"),
        pytest.param(isa.W, 0x2_0000_0005, 5, 0x1_0000_0009, id="32-bit-ignores-the-upper-half"),
        pytest.param(isa.W, 6, 5, 0x1_0000_0005, id="32-bit-unequal"),
    ],
)
def test_compare_and_exchange(size: int, compared: int, old: int, stored: int) -> None:
    """The stack holds 0x1_0000_0005, R2 (the new value) is 9."""
    body = [
        *lddw(3, 0x1_0000_0005),
        Instruction(isa.STX | isa.MEM | isa.DW, 10, 3, -8),
        Instruction(ALU64 | isa.MOV, 2, imm=9),
        *lddw(0, compared),
        Instruction(isa.STX | isa.ATOMIC | size, 10, 2, -8, isa.CMPXCHG),
    ]
    assert result(*body) == old
    assert result(*body, Instruction(isa.LDX | isa.MEM | isa.DW, 0, 10, -8)) == stored


def test_result_is_the_low_half() -> None:
    assert run(program([*lddw(0, 0xFFFFFFFF_00000005), EXIT])) == 5


def test_calls_save_registers_and_have_a_stack_of_their_own() -> None:
    store = Instruction(isa.ST | isa.MEM | isa.DW, 10, offset=-8, imm=5)
    callee = [
        Instruction(isa.ST | isa.MEM | isa.DW, 10, offset=-8, imm=9),
        Instruction(ALU64 | isa.MOV, 6, imm=1),
        Instruction(ALU64 | isa.MOV, 0, imm=100),
        EXIT,
    ]
    caller = [
        store,
        Instruction(ALU64 | isa.MOV, 6, imm=20),
        call_local(4),
        Instruction(ALU64 | isa.ADD | X, 0, 6),
        Instruction(isa.LDX | isa.MEM | isa.DW, 1, 10, -8),
        Instruction(ALU64 | isa.ADD | X, 0, 1),
        EXIT,
    ]
    assert run(program([*caller, *callee], starts=[0, 7])) == 125


def load_from(register: int, offset: int, size: int = isa.W) -> Instruction:
    return Instruction(isa.LDX | isa.MEM | size, 0, register, offset)


def store_to(register: int, offset: int, size: int = isa.W) -> Instruction:
    return Instruction(isa.ST | isa.MEM | size, register, offset=offset, imm=1)


DATA = load_from(1, 0)  # R0 = ctx->data
TABLE = MapSpec("table", MapType.ARRAY, 4, 4, 1)
RING = MapSpec("ring", MapType.RINGBUF, 0, 0, 4096)
KEY = (store_to(10, -4), Instruction(isa.ST | isa.MEM | isa.W, 10, offset=-4))
KEY_POINTER = (Instruction(ALU64 | isa.MOV | X, 2, 10), Instruction(ALU64 | isa.ADD, 2, imm=-4))

FAULTS: dict[str, tuple[Sequence[Instruction], str]] = {
    "null": ([ZERO, load_from(0, 0)], "reads 4 bytes at 0x0, which is no address"),
    "number": ([*lddw(2, M64), load_from(2, 8)], "which is no address"),
    "before-everything": ([ZERO, load_from(0, -8, isa.DW)], "reads 8 bytes at 0xfffffffffffffff8"),
    "packet-end": ([DATA, load_from(0, 61)], "reads 4 bytes at offset 61 of the packet, which has 64 read-only bytes"),
    "packet-end-byte": ([DATA, load_from(0, 64, isa.B)], "reads 1 bytes at offset 64 of the packet"),
    "packet-before": ([DATA, load_from(0, -1, isa.B)], "no address"),
    "packet-write": ([DATA, store_to(0, 0)], "writes 4 bytes at offset 0 of the packet"),
    "packet-write-byte": ([DATA, store_to(0, 0, isa.B)], "writes 1 bytes at offset 0 of the packet"),
    "context-end": ([load_from(1, 24)], "offset 24 of the context, which has 24"),
    "context-write": ([ZERO, store_to(1, 0)], "writes 4 bytes at offset 0 of the context"),
    "stack-above": ([load_from(10, 0, isa.B)], "offset 512 of a stack"),
    "stack-below": ([load_from(10, -516)], "16777212 of the context"),
    "atomic": (
        [DATA, Instruction(isa.STX | isa.ATOMIC | isa.W, 0, 1, 0, isa.ADD)],
        "writes 4 bytes at offset 0 of the packet",
    ),
    "map-itself": ([*lddw(1), load_from(1, 0)], "reads 4 bytes at the map table itself"),
    "value-end": (
        [*KEY, *KEY_POINTER, *lddw(1), call(1), load_from(0, 4)],
        "reads 4 bytes at offset 4 of a stack, map value or record, which has 4 bytes",
    ),
    "helper-map": ([Instruction(ALU64 | isa.MOV, 1, imm=5), *KEY_POINTER, call(1)], "R1 is not a map"),
    "helper-key": (
        [*lddw(1), Instruction(ALU64 | isa.MOV | X, 2, 10), call(1)],
        "the helper reads 4 bytes at offset 512 of a stack",
    ),
    "helper-ring": ([*lddw(1), call(131)], "map table is not a ring buffer"),
    "helper-record": ([ZERO, call(132)], "R1 is not a reserved record"),
    "helper-buffer": (
        [
            Instruction(ALU64 | isa.MOV, 2),
            Instruction(ALU64 | isa.MOV | X, 3, 10),
            Instruction(ALU64 | isa.MOV, 4, imm=4),
            call(189),
        ],
        "the helper writes 4 bytes at offset 512 of a stack",
    ),
}


@pytest.mark.parametrize(("instructions", "message"), FAULTS.values(), ids=list(FAULTS))
def test_fault(instructions: Sequence[Instruction], message: str) -> None:
    references = [
        Reference(index, ReferenceKind.MAP, "table")
        for index, instruction in enumerate(instructions)
        if instruction.opcode == isa.LDDW and instruction.dst == 1
    ]
    made = program([*instructions, EXIT], maps=[TABLE], references=references)
    with pytest.raises(InterpreterFault) as fault:
        run(made)
    assert message in str(fault.value)
    assert str(fault.value).startswith(f"instruction {len(instructions) - 1} `")


def test_interpreter_is_fit_for_use_after_a_fault() -> None:
    made = Interpreter(program([DATA, load_from(0, 20, isa.B), EXIT]))
    with pytest.raises(InterpreterFault):
        made.run(b"short", in_port=1, now=0, random=int)
    assert made.run(PACKET, in_port=1, now=0, random=int) == 20


def test_stack_of_a_function_that_has_returned() -> None:
    caller = [call_local(2), load_from(0, -8), EXIT]
    callee = [Instruction(ALU64 | isa.MOV | X, 0, 10), EXIT]
    with pytest.raises(InterpreterFault, match="no address"):
        run(program([*caller, *callee], starts=[0, 3]))


def test_calls_too_deep() -> None:
    chain = [instruction for _ in range(8) for instruction in (call_local(1), EXIT)]
    made = program([*chain, ZERO, EXIT], starts=range(0, 18, 2))
    with pytest.raises(InterpreterFault, match="more than 8 functions deep"):
        run(made)


# Reserves a record, keeps it in R6, writes to it and submits it.
SUBMISSION = [
    *lddw(1),
    Instruction(ALU64 | isa.MOV, 2, imm=8),
    Instruction(ALU64 | isa.MOV, 3),
    call(131),
    Instruction(ALU64 | isa.MOV | X, 6, 0),
    store_to(6, 4),
    Instruction(ALU64 | isa.MOV | X, 1, 6),
    Instruction(ALU64 | isa.MOV, 2),
    call(132),
]


def with_ring(instructions: Sequence[Instruction]) -> Interpreter:
    references = [Reference(0, ReferenceKind.MAP, "ring")]
    return Interpreter(program([*instructions, EXIT], maps=[RING], references=references))


def test_record() -> None:
    made = with_ring([*SUBMISSION, ZERO])
    for _ in range(2):
        assert made.run(PACKET, in_port=1, now=0, random=int) == 0
    ring = made.maps["ring"]
    assert isinstance(ring, RingBuffer)
    assert ring.records == [bytes.fromhex("0000000001000000")] * 2


@pytest.mark.parametrize(
    ("late", "message"),
    [
        pytest.param([load_from(6, 4)], "no address", id="read"),
        pytest.param([Instruction(ALU64 | isa.MOV | X, 1, 6), call(133)], "not a reserved record", id="discard"),
    ],
)
def test_record_after_submission(late: Sequence[Instruction], message: str) -> None:
    with pytest.raises(InterpreterFault, match=message):
        with_ring([*SUBMISSION, *late]).run(PACKET, in_port=1, now=0, random=int)


def test_surroundings() -> None:
    for instructions, expected in (
        ([call(5)], 0),
        ([call(5), Instruction(ALU64 | isa.RSH, 0, imm=32)], 1 << 8),
        ([call(125), Instruction(ALU64 | isa.RSH, 0, imm=32)], 1 << 8),
        ([call(160), Instruction(ALU64 | isa.RSH, 0, imm=32)], 1 << 8),
        ([call(7)], 0x2345_6789),
        ([call(8)], 0),
        ([load_from(1, 12)], 1),
        ([load_from(1, 16)], 0),
    ):
        assert run(program([*instructions, EXIT])) == expected
    reference = Reference(0, ReferenceKind.RUNTIME, "oko_in_port")
    assert run(program([call_local(-1), EXIT], references=[reference])) == 7


def frame(source: int) -> bytes:
    ethernet = bytes.fromhex("020000000002020000000001") + b"\x08\x00"
    ip = struct.pack("!BBHHHBBHII", 0x45, 0, 20, 0, 0, 64, 17, 0, source, 0x0A000002)
    return ethernet + ip


def test_compiled_program(compiled: Compile) -> None:
    made = load(compiled("accepted/connections"))
    check_structure(made)
    interpreter = Interpreter(made)

    def decide(packet: bytes, now: int) -> int:
        return interpreter.run(packet, in_port=3, now=now, random=int)

    # The first packet of a source gets the initial value of `first`, the next `limit` - 1 are within the limit.
    assert [decide(frame(1), now) for now in range(100, 105)] == [7, 1, 1, 0, 0]
    assert decide(frame(2), 200) == 7
    assert decide(b"\xff" * 34, 300) == 0
    assert decide(b"", 300) == 0
    ring = interpreter.maps["events"]
    assert isinstance(ring, RingBuffer)
    assert ring.records == [struct.pack("<II", source << 24, 3) for source in (1, 2)]
    assert [struct.unpack("<QII", value) for _, value in interpreter.maps["connections"].items()] == [
        (104, 5, 1),
        (200, 1, 0),
    ]
    assert Interpreter(made, interpreter.maps).run(frame(1), in_port=3, now=400, random=int) == 0


# --- the kernel as an oracle --------------------------------------------------------------------------------------

_registers = st.sampled_from(REGISTERS)
_immediates = st.integers(-(1 << 31), (1 << 31) - 1) | st.integers(-4, 70)
_classes = st.sampled_from([isa.ALU, isa.ALU64])
_plain = st.sampled_from([isa.ADD, isa.SUB, isa.MUL, isa.OR, isa.AND, isa.XOR, isa.MOV])
_divisions = st.sampled_from([isa.DIV, isa.MOD])
_shifts = st.sampled_from([isa.LSH, isa.RSH, isa.ARSH])
_conditions = st.sampled_from(
    [
        *(isa.JEQ, isa.JGT, isa.JGE, isa.JSET, isa.JNE, isa.JSGT),
        *(isa.JSGE, isa.JLT, isa.JLE, isa.JSLT, isa.JSLE),
    ]
)
_sizes = st.sampled_from([isa.B, isa.H, isa.W, isa.DW])
_slots = st.sampled_from([-32, -24, -16, -8])  # of the stack; all are initialised
_atomics = st.sampled_from(
    [
        *(isa.ADD, isa.OR, isa.AND, isa.XOR),
        *(operation | isa.FETCH for operation in (isa.ADD, isa.OR, isa.AND, isa.XOR)),
        *(isa.XCHG, isa.CMPXCHG),
    ]
)

_instructions = st.one_of(
    st.builds(
        lambda kind, op, d, s: Instruction(kind | op | X, d, s), _classes, _plain | _shifts, _registers, _registers
    ),
    st.builds(lambda kind, op, d, i: Instruction(kind | op, d, imm=i), _classes, _plain, _registers, _immediates),
    st.builds(
        lambda kind, op, d, s, signed: Instruction(kind | op | X, d, s, signed),
        *(_classes, _divisions, _registers, _registers, st.integers(0, 1)),
    ),
    st.builds(
        lambda kind, op, d, i, signed: Instruction(kind | op, d, offset=signed, imm=i),
        *(_classes, _divisions, _registers, _immediates.filter(bool), st.integers(0, 1)),
    ),
    st.builds(
        lambda kind, op, d, i: Instruction(kind | op, d, imm=i), _classes, _shifts, _registers, st.integers(0, 31)
    ),
    st.builds(lambda kind, d: Instruction(kind | isa.NEG, d), _classes, _registers),
    st.builds(
        lambda code, d, bits: Instruction(code | isa.END, d, imm=bits),
        *(st.sampled_from([isa.ALU, isa.ALU | X, ALU64]), _registers, st.sampled_from([16, 32, 64])),
    ),
    st.builds(
        lambda d, s, bits: Instruction(ALU64 | isa.MOV | X, d, s, bits),
        _registers,
        _registers,
        st.sampled_from([8, 16, 32]),
    ),
    st.builds(
        lambda d, s, bits: Instruction(isa.ALU | isa.MOV | X, d, s, bits),
        _registers,
        _registers,
        st.sampled_from([8, 16]),
    ),
    st.builds(
        lambda kind, op, d, s, skip: Instruction(kind | op | X, d, s, skip),
        *(st.sampled_from([isa.JMP, isa.JMP32]), _conditions, _registers, _registers, st.integers(0, 4)),
    ),
    st.builds(
        lambda kind, op, d, i, skip: Instruction(kind | op, d, offset=skip, imm=i),
        *(st.sampled_from([isa.JMP, isa.JMP32]), _conditions, _registers, _immediates, st.integers(0, 4)),
    ),
    st.builds(lambda size, d, at: Instruction(isa.LDX | isa.MEM | size, d, 10, at), _sizes, _registers, _slots),
    st.builds(
        lambda size, d, at: Instruction(isa.LDX | isa.MEMSX | size, d, 10, at),
        *(st.sampled_from([isa.B, isa.H, isa.W]), _registers, _slots),
    ),
    st.builds(lambda size, s, at: Instruction(isa.STX | isa.MEM | size, 10, s, at), _sizes, _registers, _slots),
    st.builds(lambda size, i, at: Instruction(isa.ST | isa.MEM | size, 10, 0, at, i), _sizes, _immediates, _slots),
    st.builds(
        lambda size, s, at, op: Instruction(isa.STX | isa.ATOMIC | size, 10, s, at, op),
        *(st.sampled_from([isa.W, isa.DW]), _registers, _slots, _atomics),
    ),
)
_values = st.integers(0, M64) | st.sampled_from([0, 1, M64, MIN64, MIN64 - 1, 1 << 31, (1 << 31) - 1, 1 << 32])


@st.composite
def _programs(draw: st.DrawFn) -> Program:
    """Registers and stack get random content, random instructions follow, R0 becomes a digest of all registers."""
    body = draw(st.lists(_instructions, min_size=1, max_size=25))
    for index, instruction in enumerate(body):
        if instruction.opcode & isa.CLASS_MASK in (isa.JMP, isa.JMP32):
            rest = len(body) - 1 - index
            offset = min(instruction.offset, rest)
            body[index] = Instruction(instruction.opcode, instruction.dst, instruction.src, offset, instruction.imm)
    start = [slot for register in REGISTERS for slot in lddw(register, draw(_values))]
    stack = [Instruction(isa.STX | isa.MEM | isa.DW, 10, register, -8 * register) for register in range(1, 5)]
    digest = [
        instruction
        for register in (*REGISTERS[1:], 0)
        for instruction in (
            Instruction(ALU64 | isa.MUL, 0, imm=0x01000193),
            Instruction(ALU64 | isa.XOR | X, 0, register) if register else Instruction(ALU64 | isa.MOV | X, 1, 0),
        )
    ]
    fold = [Instruction(ALU64 | isa.RSH, 1, imm=32), Instruction(ALU64 | isa.XOR | X, 0, 1), EXIT]
    return program([*start, *stack, *body, *digest, *fold])


@pytest.mark.needs_bpf
@settings(max_examples=300, deadline=None)
@given(_programs())
def test_agrees_with_the_kernel(made: Program) -> None:
    with load_program("oracle", encode(made.instructions), "GPL", references={}) as loaded:
        expected = loaded.test_run(PACKET).retval
    assert run(made) == expected


@pytest.mark.needs_bpf
@pytest.mark.parametrize("clang", ["clang", "clang-19"])
def test_helpers_agree_with_the_kernel(compiled: Compile, clang: str) -> None:
    made = load(compiled("accepted/helpers", clang=clang))
    check_structure(made)
    assert made.btf is not None
    interpreter = Interpreter(made)
    packets = [bytes((seed * index * 7 + index) & 0xFF for index in range(14 + seed)) for seed in range(50)]
    with contextlib.ExitStack() as owned:
        btf = owned.enter_context(load_btf(made.btf.raw))
        maps = {
            spec.name: owned.enter_context(
                kernel.Map.create(
                    spec.name,
                    int(spec.type),
                    spec.key_size,
                    spec.value_size,
                    spec.max_entries,
                    flags=spec.flags,
                    btf_fd=btf.fd,
                    key_type=spec.key_type,
                    value_type=spec.value_type,
                )
            )
            for spec in made.maps
        }
        references = {item.instruction: (maps[item.name], None) for item in made.references}
        loaded = owned.enter_context(
            load_program("helpers", encode(made.instructions), made.license, references=references, btf=btf)
        )
        for packet in packets:
            expected = loaded.test_run(packet).retval
            assert interpreter.run(packet, in_port=1, now=0, random=int) == expected
        for name, table in maps.items():
            assert sorted(interpreter.maps[name].items()) == sorted(table.items())
