"""Programs made of instructions, for tests of what no compiler would make."""

from __future__ import annotations

from collections.abc import Sequence

from verifier import isa
from verifier.isa import Instruction
from verifier.program import Function, MapSpec, Program, Reference

EXIT = Instruction(isa.OPCODE_EXIT)
ZERO = Instruction(isa.ALU64 | isa.MOV)


def program(
    instructions: Sequence[Instruction],
    *,
    starts: Sequence[int] = (0,),
    maps: Sequence[MapSpec] = (),
    references: Sequence[Reference] = (),
) -> Program:
    """A program whose functions f0, f1, … begin at `starts`."""
    ends = [*starts[1:], len(instructions)]
    functions = tuple(Function(f"f{number}", *span) for number, span in enumerate(zip(starts, ends, strict=True)))
    return Program("f0", "GPL", tuple(instructions), functions, tuple(maps), tuple(references), (), None, "")


def lddw(register: int, value: int = 0) -> tuple[Instruction, Instruction]:
    """r`register` = `value`."""
    return (
        Instruction(isa.LDDW, register, imm=_signed(value & 0xFFFFFFFF)),
        Instruction(0, imm=_signed(value >> 32 & 0xFFFFFFFF)),
    )


def goto(offset: int) -> Instruction:
    return Instruction(isa.GOTO, offset=offset)


def branch(offset: int) -> Instruction:
    """A jump that depends on R1."""
    return Instruction(isa.JMP | isa.JEQ, 1, offset=offset)


def call(number: int) -> Instruction:
    """The call of a helper."""
    return Instruction(isa.OPCODE_CALL, imm=number)


def call_local(offset: int) -> Instruction:
    return Instruction(isa.OPCODE_CALL, src=isa.CALL_LOCAL, imm=offset)


def _signed(word: int) -> int:
    return word - (word >> 31 << 32)
