from __future__ import annotations

import pytest

from oko.compiler.assembler import Assembler, Label, Register
from oko.errors import LimitExceeded
from verifier import isa
from verifier.isa import Instruction
from verifier.program import ReferenceKind

R0, R1 = Register.R0, Register.R1
EXIT = Instruction(isa.OPCODE_EXIT)


def set_to(value: int) -> Instruction:
    return Instruction(isa.ALU64 | isa.MOV | isa.K, 0, imm=value)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (0, "b7 00 0000 00000000"),
        (0x7FFFFFFF, "b7 00 0000 ffffff7f"),
        (0x80000000, "b4 00 0000 00000080"),
        (0xFFFFFFFF, "b4 00 0000 ffffffff"),
        (0x1_0000_0000, "18 00 0000 00000000 00 00 0000 01000000"),
        (0x8000_0000_FFFF_FFFF, "18 00 0000 ffffffff 00 00 0000 00000080"),
        (0xFFFF_FFFF_7FFF_FFFF, "18 00 0000 ffffff7f 00 00 0000 ffffffff"),
        (0xFFFF_FFFF_8000_0000, "b7 00 0000 00000080"),
        (0xFFFF_FFFF_FFFF_FFFF, "b7 00 0000 ffffffff"),
    ],
    ids=lambda shown: hex(shown) if isinstance(shown, int) else "",
)
def test_set(value: int, code: str) -> None:
    asm = Assembler()
    asm.set(R0, value)
    assert isa.encode(asm.instructions) == bytes.fromhex(code)


def test_jumps_are_resolved() -> None:
    asm, end = Assembler(), Label("end")
    asm.jump_if_value(isa.JEQ, R1, 7, end)
    asm.set(R0, 1)
    asm.place(end)
    asm.exit()
    assert asm.finish() == (Instruction(isa.JMP32 | isa.JEQ | isa.K, 1, 0, 1, 7), set_to(1), EXIT)


def test_what_nothing_reaches_is_left_out() -> None:
    asm, end, dead = Assembler(), Label("end"), Label("dead")
    asm.note("start")
    asm.set(R0, 1)
    asm.jump(end)
    asm.note("dead")
    asm.map(R1, "unused")
    asm.call("nobody")
    asm.jump_if(isa.JEQ, R0, R1, dead)
    asm.place(dead)
    asm.set(R0, 2)
    asm.place(end)
    asm.note("end")
    asm.map(R1, "used")
    asm.call("somebody")
    asm.exit()
    assert [i.opcode for i in asm.finish()] == [set_to(1).opcode, isa.LDDW, 0, isa.OPCODE_CALL, isa.OPCODE_EXIT]
    assert [(r.instruction, r.kind, r.name) for r in asm.references] == [(1, ReferenceKind.MAP, "used")]
    assert asm.calls == [(3, "somebody")]
    assert asm.notes == [(0, "start"), (1, "end")]


def test_jumps_to_the_next_instruction_are_left_out() -> None:
    """One behind the other, too, and what jumped to them arrives where they led."""
    asm, first, second, end = Assembler(), Label("first"), Label("second"), Label("end")
    asm.jump_if_value(isa.JNE, R1, 0, first, wide=True)
    asm.set(R0, 1)
    asm.place(first)
    asm.jump(second)
    asm.place(second)
    asm.jump(end)
    asm.place(end)
    asm.exit()
    assert asm.finish() == (Instruction(isa.JMP | isa.JNE | isa.K, 1, 0, 1, 0), set_to(1), EXIT)


@pytest.mark.parametrize(("between", "fits"), [(32767, True), (32768, False)])
def test_the_longest_jump(between: int, fits: bool) -> None:
    asm, end = Assembler(), Label("end")
    asm.jump_if_value(isa.JEQ, R1, 0, end)
    for _ in range(between):
        asm.set(R0, 0)
    asm.place(end)
    asm.exit()
    if fits:
        assert asm.finish()[0].offset == 32767
    else:
        with pytest.raises(LimitExceeded) as raised:
            asm.finish()
        assert (raised.value.used, raised.value.limit) == (32768, 32767)


def test_a_later_note_at_the_same_place_counts() -> None:
    asm = Assembler()
    asm.note("rule")
    asm.note("program")
    asm.exit()
    asm.finish()
    assert asm.notes == [(0, "program")]
