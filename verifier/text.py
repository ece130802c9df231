"""Instructions as text, in the syntax of LLVM's disassembler, with the names of helpers, maps and functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Protocol

from verifier import isa
from verifier.helpers import helper_name
from verifier.isa import Instruction
from verifier.program import Function, Program, Reference, ReferenceKind

_TYPES: Final = {isa.B: "u8", isa.H: "u16", isa.W: "u32", isa.DW: "u64"}
_SIGNED_TYPES: Final = {isa.B: "s8", isa.H: "s16", isa.W: "s32"}
_ALU: Final = {
    isa.ADD: "+=",
    isa.SUB: "-=",
    isa.MUL: "*=",
    isa.DIV: "/=",
    isa.OR: "|=",
    isa.AND: "&=",
    isa.LSH: "<<=",
    isa.RSH: ">>=",
    isa.MOD: "%=",
    isa.XOR: "^=",
    isa.MOV: "=",
    isa.ARSH: "s>>=",
}
_JUMPS: Final = {
    isa.JEQ: "==",
    isa.JGT: ">",
    isa.JGE: ">=",
    isa.JSET: "&",
    isa.JNE: "!=",
    isa.JSGT: "s>",
    isa.JSGE: "s>=",
    isa.JLT: "<",
    isa.JLE: "<=",
    isa.JSLT: "s<",
    isa.JSLE: "s<=",
}
_ATOMICS: Final = {isa.ADD: ("+=", "add"), isa.OR: ("|=", "or"), isa.AND: ("&=", "and"), isa.XOR: ("^=", "xor")}


class Code(Protocol):
    """What can be listed: a program, or an image."""

    @property
    def instructions(self) -> tuple[Instruction, ...]: ...

    @property
    def functions(self) -> tuple[Function, ...]: ...

    @property
    def references(self) -> tuple[Reference, ...]: ...


def text(instruction: Instruction, upper: Instruction | None = None) -> str:
    """One instruction. `upper` is the second slot of a lddw; without it the value is shown without its upper half."""
    match instruction.opcode & isa.CLASS_MASK:
        case isa.ALU | isa.ALU64:
            return _alu(instruction)
        case isa.JMP | isa.JMP32:
            return _jump(instruction)
        case isa.LDX:
            return _load(instruction)
        case isa.ST | isa.STX:
            return _store(instruction)
        case _:
            if instruction.opcode != isa.LDDW:
                return _unknown(instruction)
            value = (upper.imm & 0xFFFFFFFF if upper else 0) << 32 | instruction.imm & 0xFFFFFFFF
            return f"r{instruction.dst} = {value:#x} ll"


def text_at(program: Program, index: int) -> str:
    """The instruction at `index` of a program, which may name a map or a function."""
    return _text_at(program, index, {reference.instruction: reference for reference in program.references})


def listing(program: Program) -> Iterator[str]:
    """The whole program, a line per instruction, with function names and source lines between."""
    lines = {line.instruction: (f"{line.file}:{line.line}: {line.text.strip()}",) for line in program.lines}
    return commented(program, lines)


def commented(code: Code, comments: Mapping[int, Iterable[str]]) -> Iterator[str]:
    """A line per instruction, with function names, and before an instruction the comments on it (by index)."""
    references = {reference.instruction: reference for reference in code.references}
    for function in code.functions:
        yield f"{function.name}:"
        index = function.start
        while index < function.end:
            for comment in comments.get(index, ()):
                yield f"; {comment}"
            yield f"{index:5}: {_text_at(code, index, references)}"
            index += 2 if code.instructions[index].opcode == isa.LDDW else 1


def _text_at(code: Code, index: int, references: Mapping[int, Reference]) -> str:
    instruction = code.instructions[index]
    reference = references.get(index)
    if reference is not None:
        if reference.kind is ReferenceKind.RUNTIME:
            return f"call {reference.name}"
        offset = f" + {reference.offset}" if reference.offset else ""
        kind = "map" if reference.kind is ReferenceKind.MAP else "value of"
        return f"r{instruction.dst} = {kind} {reference.name}{offset} ll"
    if instruction.opcode == isa.OPCODE_CALL and instruction.src == isa.CALL_LOCAL:
        target = index + 1 + instruction.imm
        name = next((function.name for function in code.functions if function.start == target), None)
        return f"call {name}" if name else text(instruction)
    following = code.instructions[index + 1] if index + 1 < len(code.instructions) else None
    return text(instruction, following)


def _alu(instruction: Instruction) -> str:
    operation = instruction.opcode & isa.OPERATION_MASK
    wide = instruction.opcode & isa.CLASS_MASK == isa.ALU64
    register = "r" if wide else "w"
    dst, src = f"{register}{instruction.dst}", f"{register}{instruction.src}"
    if operation == isa.END:
        order = "bswap" if wide else "be" if instruction.opcode & isa.X else "le"
        return f"r{instruction.dst} = {order}{instruction.imm} r{instruction.dst}"
    if operation == isa.NEG:
        return f"{dst} = -{dst}"
    symbol = _ALU.get(operation)
    if symbol is None:
        return _unknown(instruction)
    if not instruction.opcode & isa.X:
        src = str(instruction.imm)
    if operation == isa.MOV and instruction.offset:
        return f"{dst} = (s{instruction.offset}){src}"
    signed = "s" if operation in (isa.DIV, isa.MOD) and instruction.offset else ""
    return f"{dst} {signed}{symbol} {src}"


def _jump(instruction: Instruction) -> str:
    operation = instruction.opcode & isa.OPERATION_MASK
    if instruction.opcode == isa.OPCODE_EXIT:
        return "exit"
    if instruction.opcode == isa.OPCODE_CALL:
        if instruction.src == isa.CALL_HELPER:
            return f"call {helper_name(instruction.imm)}#{instruction.imm}"
        return f"call {instruction.imm:+d}" if instruction.src == isa.CALL_LOCAL else _unknown(instruction)
    if instruction.opcode == isa.GOTO:
        return f"goto {instruction.offset:+d}"
    if instruction.opcode == isa.GOTO_LONG:
        return f"gotol {instruction.imm:+d}"
    symbol = _JUMPS.get(operation)
    if symbol is None:
        return _unknown(instruction)
    register = "r" if instruction.opcode & isa.CLASS_MASK == isa.JMP else "w"
    operand = f"{register}{instruction.src}" if instruction.opcode & isa.X else str(instruction.imm)
    return f"if {register}{instruction.dst} {symbol} {operand} goto {instruction.offset:+d}"


def _load(instruction: Instruction) -> str:
    size, mode = instruction.opcode & isa.SIZE_MASK, instruction.opcode & isa.MODE_MASK
    kind = {isa.MEM: _TYPES, isa.MEMSX: _SIGNED_TYPES}.get(mode, {}).get(size)
    if kind is None:
        return _unknown(instruction)
    return f"r{instruction.dst} = *({kind} *)({_address(instruction.src, instruction.offset)})"


def _store(instruction: Instruction) -> str:
    size, mode = instruction.opcode & isa.SIZE_MASK, instruction.opcode & isa.MODE_MASK
    kind = _TYPES[size]
    address = _address(instruction.dst, instruction.offset)
    if mode == isa.ATOMIC and instruction.opcode & isa.CLASS_MASK == isa.STX and size in (isa.W, isa.DW):
        return _atomic(instruction, kind, address)
    if mode != isa.MEM:
        return _unknown(instruction)
    if instruction.opcode & isa.CLASS_MASK == isa.ST:
        return f"*({kind} *)({address}) = {instruction.imm}"
    return f"*({kind} *)({address}) = r{instruction.src}"


def _atomic(instruction: Instruction, kind: str, address: str) -> str:
    register = "r" if kind == "u64" else "w"
    src = f"{register}{instruction.src}"
    width = "_64" if kind == "u64" else "32_32"
    if instruction.imm == isa.XCHG:
        return f"{src} = xchg{width}({address}, {src})"
    if instruction.imm == isa.CMPXCHG:
        return f"{register}0 = cmpxchg{width}({address}, {register}0, {src})"
    symbol, name = _ATOMICS.get(instruction.imm & ~isa.FETCH, (None, None))
    if symbol is None:
        return _unknown(instruction)
    if instruction.imm & isa.FETCH:
        return f"{src} = atomic_fetch_{name}(({kind} *)({address}), {src})"
    return f"lock *({kind} *)({address}) {symbol} {src}"


def _address(register: int, offset: int) -> str:
    return f"r{register} {'-' if offset < 0 else '+'} {abs(offset)}"


def _unknown(instruction: Instruction) -> str:
    return f"<unknown opcode {instruction.opcode:#04x}>"
