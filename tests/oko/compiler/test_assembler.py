from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from oko.compiler import assembler
from oko.compiler.assembler import REACH, Assembler, Label, Register
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


def walk(instructions: Sequence[Instruction], choices: Iterable[bool]) -> list[int]:
    """The constants that are set on the way to the exit; `choices` decides the conditional jumps."""
    choosing, place, seen = iter(choices), 0, []
    while instructions[place].opcode != isa.OPCODE_EXIT:
        instruction = instructions[place]
        place += 1
        if instruction.opcode == set_to(0).opcode:
            seen.append(instruction.imm)
        elif instruction.opcode == isa.LDDW:
            place += 1
        elif instruction.opcode == isa.JMP | isa.JA or next(choosing):
            place += instruction.offset
    return seen


@st.composite
def functions(draw: st.DrawFn) -> Assembler:
    """Constants in order, with jumps between them to places below."""
    asm = Assembler()
    length = draw(st.integers(20, 200))
    labels = [Label(f"place {number}") for number in range(length + 1)]
    for number in range(length):
        asm.place(labels[number])
        if draw(st.integers(0, 7)):
            asm.set(R0, number)
        else:
            target = labels[draw(st.integers(number + 1, length))]
            if draw(st.booleans()):
                asm.jump(target)
            else:
                asm.jump_if_value(isa.JEQ, R1, 0, target)
    asm.place(labels[length])
    asm.exit()
    return asm


@given(functions(), st.lists(st.booleans(), min_size=200, max_size=200))
def test_islands_change_no_way(asm: Assembler, choices: list[bool]) -> None:
    direct = copy.deepcopy(asm).finish()
    for reach in (40, 96):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(assembler, "REACH", reach)
            laid = copy.deepcopy(asm)
            try:
                found = laid.finish()
            except LimitExceeded:
                event("too many targets for one island")
                continue
        event(f"islands: {len(found) > len(direct)}")
        assert walk(found, choices) == walk(direct, choices)
        assert max(i.offset for i in found) < reach
        ended = [False, *(i.opcode in (isa.JMP | isa.JA, isa.OPCODE_EXIT) for i in found)]
        reached = {index + 1 + i.offset for index, i in enumerate(found) if i.opcode & isa.CLASS_MASK != isa.ALU64}
        assert all(index in reached or not ended[index] for index in range(len(found))), "dead code"


@pytest.mark.parametrize(
    ("between", "islands"),
    [
        (REACH // 2, 0),
        (REACH - 16, 0),
        pytest.param(REACH, 1, id="one island"),
        pytest.param(10 * REACH, 10, id="from island to island"),
    ],
)
def test_long_jumps_go_by_islands(between: int, islands: int) -> None:
    asm, end = Assembler(), Label("end")
    asm.jump_if_value(isa.JEQ, R1, 0, end)
    for _ in range(between):
        asm.set(R0, 0)
    asm.place(end)
    asm.map(R1, "known")
    asm.exit()
    made = asm.finish()
    assert len(made) == between + 4 + 2 * islands
    assert max(instruction.offset for instruction in made) < REACH
    assert walk(made, [True]) == []
    assert len(walk(made, [False])) == between
    assert made[asm.references[0].instruction].opcode == isa.LDDW


def test_the_halves_of_a_wide_instruction_stay_together() -> None:
    asm, end = Assembler(), Label("end")
    asm.jump_if_value(isa.JEQ, R1, 0, end)
    for _ in range(3 * REACH):
        asm.set(R0, 1 << 40)
    asm.place(end)
    asm.exit()
    made = asm.finish()
    assert len(made) > 6 * REACH + 2
    assert all(made[index + 1].opcode == 0 for index, each in enumerate(made) if each.opcode == isa.LDDW)


@pytest.mark.parametrize(("targets", "fits"), [(REACH // 4, True), (REACH // 4 + 1, False)])
def test_an_island_has_room_for_so_many(targets: int, fits: bool) -> None:
    asm, labels = Assembler(), [Label(f"target {number}") for number in range(targets)]
    for label in labels:
        asm.jump_if_value(isa.JEQ, R1, 0, label)
    for _ in range(REACH):
        asm.set(R0, 0)
    for label in labels:
        asm.place(label)
        asm.set(R0, 1)
    asm.exit()
    if fits:
        assert max(instruction.offset for instruction in asm.finish()) < REACH
    else:
        with pytest.raises(LimitExceeded) as raised:
            asm.finish()
        assert (raised.value.used, raised.value.limit) == (targets, targets - 1)


def test_a_later_note_at_the_same_place_counts() -> None:
    asm = Assembler()
    asm.note("rule")
    asm.note("program")
    asm.exit()
    asm.finish()
    assert asm.notes == [(0, "program")]
