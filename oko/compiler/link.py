"""Lays the functions of an image end to end and resolves what they say of each other.

The main function comes first, then what the switch provides (parser, port, clock …), then each filter program's
entry, as a *global* function that the kernel verifies once, and its subprograms. Instructions of a program
are copied as they were verified; only operands that were symbolic are filled in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from oko.compiler.assembler import Assembler
from oko.compiler.image import Filter
from oko.compiler.typeinfo import FunctionInfo, Prototype, SourceLine
from oko.errors import LimitExceeded
from verifier import isa
from verifier.isa import Instruction
from verifier.program import Function, Program, Reference, ReferenceKind

FUNCTION_LIMIT: Final = 256
"""Functions of one image, the main one included: BPF_MAX_SUBPROGS (<linux/bpf_verifier.h>)."""


@dataclass(frozen=True, slots=True)
class Part:
    """Something to be linked: one or more functions, laid end to end, the first of them called `name`."""

    name: str
    instructions: tuple[Instruction, ...]
    functions: tuple[FunctionInfo, ...]
    references: tuple[Reference, ...]
    calls: tuple[tuple[int, str], ...]
    lines: tuple[SourceLine, ...]


def generated(name: str, asm: Assembler, file: str, prototype: Prototype = Prototype.STATIC) -> Part:
    """A part that the compiler emitted. Its notes stand in for source lines."""
    instructions = asm.finish()
    notes = asm.notes if asm.notes and asm.notes[0][0] == 0 else [(0, name), *asm.notes]
    return Part(
        name,
        instructions,
        (FunctionInfo(name, 0, prototype),),
        tuple(asm.references),
        tuple(asm.calls),
        tuple(SourceLine(index, file, note, number, 0) for number, (index, note) in enumerate(notes, start=1)),
    )


def from_filter(item: Filter, substitutes: Mapping[int, str]) -> Part:
    """A filter program as a part. `substitutes` as in `from_program`."""
    part = from_program(str(item.id), item.program, Prototype.CONTEXT, substitutes)
    return replace(
        part,
        references=tuple(replace(reference, name=item.map_name(reference.name)) for reference in part.references),
    )


def from_program(name: str, program: Program, prototype: Prototype, substitutes: Mapping[int, str]) -> Part:
    """A program read from an object. Its first function is entered as `name` and has this prototype; its calls of
    runtime functions become calls by name. `substitutes` names functions that stand in for helpers, by helper
    number."""
    covered = {line.instruction for line in program.lines}
    lines = [SourceLine(line.instruction, line.file, line.text, line.line, line.column) for line in program.lines]
    lines += [
        SourceLine(function.start, program.name, function.name, 0, 0)
        for function in program.functions
        if function.start not in covered
    ]
    calls = [
        (reference.instruction, reference.name)
        for reference in program.references
        if reference.kind is ReferenceKind.RUNTIME
    ]
    calls += [
        (index, substitutes[instruction.imm])
        for index, instruction in enumerate(program.instructions)
        if instruction.opcode == isa.OPCODE_CALL
        and instruction.src == isa.CALL_HELPER
        and instruction.imm in substitutes
    ]
    return Part(
        name,
        program.instructions,
        tuple(
            FunctionInfo(function.name, function.start, prototype if function.start == 0 else Prototype.STATIC)
            for function in program.functions
        ),
        tuple(reference for reference in program.references if reference.kind is not ReferenceKind.RUNTIME),
        tuple(calls),
        tuple(sorted(lines, key=lambda line: line.instruction)),
    )


@dataclass(frozen=True, slots=True)
class Linked:
    """All parts in one address space."""

    instructions: tuple[Instruction, ...]
    functions: tuple[Function, ...]
    infos: tuple[FunctionInfo, ...]
    references: tuple[Reference, ...]
    lines: tuple[SourceLine, ...]


def link(parts: Sequence[Part]) -> Linked:
    """Lay `parts` end to end in this order and resolve their calls. Raises LimitExceeded."""
    instructions: list[Instruction] = []
    infos: list[FunctionInfo] = []
    references: list[Reference] = []
    lines: list[SourceLine] = []
    calls: list[tuple[int, str]] = []
    bases: dict[str, int] = {}
    for part in parts:
        base = bases[part.name] = len(instructions)
        instructions += part.instructions
        infos += (replace(info, start=base + info.start) for info in part.functions)
        references += (replace(reference, instruction=base + reference.instruction) for reference in part.references)
        lines += (replace(line, instruction=base + line.instruction) for line in part.lines)
        calls += ((base + index, name) for index, name in part.calls)
    if len(infos) > FUNCTION_LIMIT:
        raise LimitExceeded("functions of the image", len(infos), FUNCTION_LIMIT, advice="unload a filter program")
    for index, name in calls:
        instructions[index] = Instruction(isa.OPCODE_CALL, 0, isa.CALL_LOCAL, 0, bases[name] - index - 1)
    ends = [info.start for info in infos[1:]] + [len(instructions)]
    return Linked(
        tuple(instructions),
        tuple(Function(info.name, info.start, end) for info, end in zip(infos, ends, strict=True)),
        tuple(infos),
        tuple(references),
        tuple(lines),
    )
