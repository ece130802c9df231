from __future__ import annotations

from tests.verifier.assembly import EXIT, ZERO, branch, goto, program
from verifier import isa
from verifier.isa import Instruction
from verifier.trace import trace

LOAD_QUEUE = Instruction(isa.LDX | isa.MEM | isa.W, 1, 1, 16)
ONE = Instruction(isa.ALU64 | isa.MOV, imm=1)
SPILL = Instruction(isa.STX | isa.MEM | isa.DW, 10, 1, -8)
COPY = Instruction(isa.ALU64 | isa.MOV | isa.X, 0, 1)


def test_what_has_changed_stands_before_each_instruction() -> None:
    assert list(trace(program([LOAD_QUEUE, SPILL, ZERO, EXIT]))) == [
        "f0:",
        "       | R1 context",
        "    0: r1 = *(u32 *)(r1 + 16)",
        "       | R1 number 0–0xffffffff",
        "    1: *(u64 *)(r10 - 8) = r1",
        "       | stack-8 number 0–0xffffffff",
        "    2: r0 = 0",
        "       | R0 number 0",
        "    3: exit",
    ]


def test_states_that_are_kept_apart_are_numbered() -> None:
    lines = list(trace(program([LOAD_QUEUE, ZERO, branch(1), ONE, EXIT])))
    assert lines[-3:] == ["       | state 1: R0 number 0", "       | state 2: R0 number 1", "    4: exit"]


def test_a_fault_stands_below_its_instruction() -> None:
    lines = list(trace(program([ZERO, LOAD_QUEUE, Instruction(isa.LDX | isa.MEM | isa.B, 0, 1), EXIT])))
    at = next(number for number, line in enumerate(lines) if line.startswith("       ^ not-a-pointer: "))
    assert lines[at - 1] == "    2: r0 = *(u8 *)(r1 + 0)"
    assert lines[at + 1] == "    3: exit   (not looked at)"


def test_more_states_than_are_shown_are_counted() -> None:
    body = [LOAD_QUEUE, ZERO]
    for value in range(6):
        body += [
            Instruction(isa.JMP | isa.JNE, 1, offset=2, imm=value),
            Instruction(isa.ALU64 | isa.MOV, imm=100 * value + 7),
            goto(3 * (5 - value)),
        ]
    lines = list(trace(program([*body, EXIT])))
    assert lines[-2] == "       | and 3 states more"
