"""A builder of instructions: registers, labels that are jumped to forward only, symbolic maps and functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Final

from oko.errors import LimitExceeded
from verifier import isa
from verifier.isa import Instruction
from verifier.program import Reference, ReferenceKind

REACH: Final = 1 << 14
"""Instructions that a jump goes over, at most. The format has room for twice as many, but the kernel puts several in
the place of one, such as a lookup, and refuses the program when that makes a jump too long."""

_MARGIN: Final = 8
"""Instructions by which an island may come later than it is first thought of."""
_GOTO: Final = isa.JMP | isa.JA


class Register(IntEnum):
    """R0 holds results, R1–R5 arguments (lost in calls), R6–R9 survive calls, R10 is the frame."""

    R0 = 0
    R1 = 1
    R2 = 2
    R3 = 3
    R4 = 4
    R5 = 5
    R6 = 6
    R7 = 7
    R8 = 8
    R9 = 9
    FRAME = 10


_SIZES: Final = {1: isa.B, 2: isa.H, 4: isa.W, 8: isa.DW}


@dataclass(eq=False, slots=True)
class Label:
    """A place to jump to. `position` is set by `Assembler.place`."""

    name: str
    position: int | None = None


@dataclass(slots=True)
class Assembler:
    """Collects one function. Widths are bytes."""

    instructions: list[Instruction] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)
    calls: list[tuple[int, str]] = field(default_factory=list)
    notes: list[tuple[int, str]] = field(default_factory=list)
    _jumps: list[tuple[int, Label]] = field(default_factory=list)

    def note(self, text: str) -> None:
        """Say what the next instruction begins."""
        if self.notes and self.notes[-1][0] == len(self.instructions):
            self.notes.pop()
        self.notes.append((len(self.instructions), text))

    def place(self, label: Label) -> None:
        """Make `label` mean the next instruction."""
        label.position = len(self.instructions)

    def copy(self, dst: Register, src: Register) -> None:
        """dst = src, 64 bits."""
        self._emit(isa.ALU64 | isa.MOV | isa.X, dst, src)

    def set(self, dst: Register, value: int) -> None:
        """dst = value, an unsigned number of up to 64 bits, in as few slots as it takes."""
        if value < 1 << 31:
            self._emit(isa.ALU64 | isa.MOV | isa.K, dst, imm=value)
        elif value >= (1 << 64) - (1 << 31):
            self._emit(isa.ALU64 | isa.MOV | isa.K, dst, imm=value - (1 << 64))
        elif value < 1 << 32:
            self._emit(isa.ALU | isa.MOV | isa.K, dst, imm=_signed32(value))
        else:
            self._emit(isa.LDDW, dst, imm=_signed32(value & 0xFFFFFFFF))
            self._emit(0, imm=_signed32(value >> 32))

    def load(self, width: int, dst: Register, src: Register, offset: int) -> None:
        """dst = the `width` bytes at src + offset, zero-extended."""
        self._emit(isa.LDX | isa.MEM | _SIZES[width], dst, src, offset)

    def store(self, width: int, dst: Register, offset: int, src: Register) -> None:
        """The low `width` bytes of src go to dst + offset."""
        self._emit(isa.STX | isa.MEM | _SIZES[width], dst, src, offset)

    def store_value(self, width: int, dst: Register, offset: int, value: int) -> None:
        """`value` (below 2**32, for 8 bytes below 2**31) goes to dst + offset."""
        self._emit(isa.ST | isa.MEM | _SIZES[width], dst, 0, offset, _signed32(value))

    def operate(self, operation: int, dst: Register, src: Register) -> None:
        """dst = dst `operation` src, 64 bits; `operation` is one of isa's ALU operations."""
        self._emit(isa.ALU64 | operation | isa.X, dst, src)

    def operate_value(self, operation: int, dst: Register, value: int) -> None:
        """dst = dst `operation` value, 64 bits; `value` is signed 32 bit."""
        self._emit(isa.ALU64 | operation | isa.K, dst, imm=value)

    def to_big_endian(self, width: int, dst: Register) -> None:
        """dst = its low `width` bytes (2, 4 or 8) in the other order, on a machine that is little-endian."""
        self._emit(isa.ALU | isa.END | isa.X, dst, imm=width * 8)

    def map(self, dst: Register, name: str) -> None:
        """dst = the map called `name` in the image."""
        self.references.append(Reference(len(self.instructions), ReferenceKind.MAP, name))
        self._emit(isa.LDDW, dst)
        self._emit(0)

    def map_value(self, dst: Register, name: str, offset: int = 0) -> None:
        """dst = the address of byte `offset` of the only element of the array called `name`."""
        self.references.append(Reference(len(self.instructions), ReferenceKind.MAP_VALUE, name, offset))
        self._emit(isa.LDDW, dst)
        self._emit(0)

    def jump(self, label: Label) -> None:
        self._jump(isa.JMP | isa.JA, label)

    def jump_if(self, comparison: int, dst: Register, src: Register, label: Label) -> None:
        """Jump when dst `comparison` src, 64 bits."""
        self._jump(isa.JMP | comparison | isa.X, label, dst, src)

    def jump_if_value(self, comparison: int, dst: Register, value: int, label: Label, *, wide: bool = False) -> None:
        """Jump when dst `comparison` value: the low 32 bits, or with `wide` all 64 against the sign-extended value."""
        self._jump((isa.JMP if wide else isa.JMP32) | comparison | isa.K, label, dst, imm=_signed32(value))

    def call_helper(self, number: int) -> None:
        self._emit(isa.OPCODE_CALL, imm=number)

    def call(self, function: str) -> None:
        """Call a function of the image by name; the linker fills in where it is."""
        self.calls.append((len(self.instructions), function))
        self._emit(isa.OPCODE_CALL, 0, isa.CALL_LOCAL, imm=-1)

    def exit(self) -> None:
        self._emit(isa.OPCODE_EXIT)

    def finish(self) -> tuple[Instruction, ...]:
        """The instructions with every jump resolved, without those that nothing reaches (which the kernel refuses)
        and without jumps to the next one. Jumps to what is far away go by islands. Positions in `references`, `calls`
        and `notes` follow. Raises LimitExceeded.
        """
        targets = {}
        for index, label in self._jumps:
            assert label.position is not None, f"the label '{label.name}' is used and never placed"
            targets[index] = label.position
        kept = self._kept(targets)
        out = _Layout()
        moved = []
        for index, instruction in enumerate(self.instructions):
            if kept[index] and instruction.opcode != 0:  # 0: the second half of an lddw
                out.make_islands()
            moved.append(len(out.instructions))
            out.arrive(index)
            if kept[index]:
                out.add(instruction, targets.get(index))
        self.references = [replace(r, instruction=moved[r.instruction]) for r in self.references if kept[r.instruction]]
        self.calls = [(moved[index], name) for index, name in self.calls if kept[index]]
        self.notes = [(moved[index], text) for index, text in self.notes if index < len(kept) and kept[index]]
        return tuple(out.instructions)

    def _kept(self, targets: Mapping[int, int]) -> list[bool]:
        """Which instructions stay. One pass is enough, as every jump goes forward."""
        count = len(self.instructions)
        reached = [False] * count + [True]
        reached[0] = True
        for index, instruction in enumerate(self.instructions):
            if not reached[index]:
                continue
            if index in targets:
                reached[targets[index]] = True
            if instruction.opcode not in (_GOTO, isa.OPCODE_EXIT):
                reached[index + 1] = True
        for index in range(count - 1, -1, -1):
            if (
                reached[index]
                and self.instructions[index].opcode == _GOTO
                and not any(reached[index + 1 : targets[index]])
            ):
                reached[index] = False
        return reached[:count]

    def _jump(self, opcode: int, label: Label, dst: int = 0, src: int = 0, imm: int = 0) -> None:
        self._jumps.append((len(self.instructions), label))
        self._emit(opcode, dst, src, 0, imm)

    def _emit(self, opcode: int, dst: int = 0, src: int = 0, offset: int = 0, imm: int = 0) -> None:
        self.instructions.append(Instruction(opcode, int(dst), int(src), offset, imm))


@dataclass(slots=True)
class _Layout:
    """Instructions in their final places, with the jumps whose targets have not been reached: target → places of the
    jumps, ascending; the target that has waited longest is first. Jumps that would become too long lead to an island
    in the stream, and a jump there goes on to the target."""

    instructions: list[Instruction] = field(default_factory=list)
    _open: dict[int, list[int]] = field(default_factory=dict)

    def add(self, instruction: Instruction, target: int | None) -> None:
        """The next instruction; `target` is where it jumps to, if it does."""
        if target is not None:
            self._open.setdefault(target, []).append(len(self.instructions))
        self.instructions.append(instruction)

    def arrive(self, target: int) -> None:
        """The next instruction is what `target` means."""
        for place in self._open.pop(target, ()):
            self._resolve(place)

    def make_islands(self) -> None:
        """Put an island here if some jump cannot wait for another one. It takes along what is halfway there, too.

        Raises LimitExceeded if there are too many targets for one island.
        """
        here, waiting = len(self.instructions), len(self._open)
        oldest = next(iter(self._open.values()), [here])[0]
        if here - oldest + waiting + _MARGIN < REACH:
            return
        if waiting > REACH // 4:
            raise LimitExceeded(
                "places that jumps lead to from before them all",
                waiting,
                REACH // 4,
                advice="use fewer different lists of actions, or fewer buckets",
            )
        behind = self.instructions[-1].opcode not in (_GOTO, isa.OPCODE_EXIT)
        if behind:
            self.instructions.append(Instruction(_GOTO))
        for target in [target for target, places in self._open.items() if here - places[0] > REACH // 2]:
            self.arrive(target)
            self.add(Instruction(_GOTO), target)
        if behind:
            self._resolve(here)

    def _resolve(self, place: int) -> None:
        """The jump at `place` leads to the next instruction."""
        distance = len(self.instructions) - place - 1
        self.instructions[place] = replace(self.instructions[place], offset=distance)


def _signed32(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 else value
