"""Programs made of instructions, for tests of what no compiler would make."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from verifier import isa
from verifier.btf import Btf, Int, Member, Struct, Void
from verifier.helpers import HELPERS
from verifier.isa import Instruction
from verifier.program import Function, MapSpec, MapType, Program, Reference, ReferenceKind

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


# ---- programs as text

MAPS: Final = (
    MapSpec("array", MapType.ARRAY, 4, 16, 4),
    MapSpec("hash", MapType.HASH, 8, 16, 4),
    MapSpec("ring", MapType.RINGBUF, 0, 0, 4096),
    MapSpec("locked", MapType.HASH, 4, 16, 4, value_type=3),
    MapSpec("constant", MapType.ARRAY, 4, 16, 4, flags=0x80),
    MapSpec(".rodata", MapType.ARRAY, 4, 8, 1, flags=0x80, initial=bytes(range(8)), frozen=True),
    MapSpec(".data", MapType.ARRAY, 4, 8, 1, initial=bytes(8)),
)
"""What programs in text may name. The spin lock of `locked` is 4 bytes into the value."""

_BTF: Final = Btf.of(
    (
        Void(),
        Int("unsigned int", 4, 32),
        Struct("bpf_spin_lock", 4, (Member("val", 1, 0),)),
        Struct("value", 16, (Member("before", 1, 0), Member("lock", 2, 32), Member("behind", 1, 64))),
    )
)

_ALU: Final = {
    "+=": isa.ADD,
    "-=": isa.SUB,
    "*=": isa.MUL,
    "/=": isa.DIV,
    "|=": isa.OR,
    "&=": isa.AND,
    "<<=": isa.LSH,
    ">>=": isa.RSH,
    "%=": isa.MOD,
    "^=": isa.XOR,
    "=": isa.MOV,
    "s>>=": isa.ARSH,
}
_JUMPS: Final = {
    "==": isa.JEQ,
    ">": isa.JGT,
    ">=": isa.JGE,
    "&": isa.JSET,
    "!=": isa.JNE,
    "s>": isa.JSGT,
    "s>=": isa.JSGE,
    "<": isa.JLT,
    "<=": isa.JLE,
    "s<": isa.JSLT,
    "s<=": isa.JSLE,
}
_ATOMICS: Final = {
    "add": isa.ADD,
    "or": isa.OR,
    "fetch_add": isa.ADD | isa.FETCH,
    "xchg": isa.XCHG,
    "cmpxchg": isa.CMPXCHG,
}
_SIZES: Final = {"8": isa.B, "16": isa.H, "32": isa.W, "64": isa.DW}
_NUMBERS: Final = {helper.name.removeprefix("bpf_"): helper.number for helper in HELPERS.values()}
_MEMORY: Final = r"([us])(\d+)\[r(\d+)([+-]\d+)?\]"
_OPERAND: Final = r"(?:([rw])(\d+)|(-?\w+))"


def assemble(source: str, maps: Sequence[MapSpec] = MAPS) -> tuple[Program, int]:
    """The program written in `source`, and the instruction marked with a ! in front of it (-1: none).

    One statement a line or between semicolons: ``fn NAME`` begins a function, ``NAME:`` is a place to jump to;
    ``r1 += w2``, ``r1 = s8 r2``, ``r1 = be16``, ``r1 = -r1``, ``r1 = u32[r2+4]``, ``u8[r10-1] = 5``,
    ``xchg u64[r1+0], r2``, ``r1 = map NAME``, ``r1 = value NAME+4``, ``r1 = 5 ll``, ``if w1 s< r2 goto NAME``,
    ``call NAME`` of a function, of a helper or of oko_in_port, ``exit``.
    """
    return _Assembler(maps).program(source)


class _Assembler:
    def __init__(self, maps: Sequence[MapSpec]) -> None:
        self._maps = maps
        self._code: list[Instruction] = []
        self._references: list[Reference] = []
        self._places: dict[str, int] = {}
        self._functions: dict[str, int] = {}
        self._open: list[tuple[int, str]] = []

    def program(self, source: str) -> tuple[Program, int]:
        marked = -1
        for statement in filter(None, (item.strip() for item in re.split(r"[;\n]", source))):
            if statement.startswith("!"):
                marked = len(self._code)
            self._statement(statement.lstrip("! "))
        for index, name in self._open:
            self._resolve(index, name)
        starts = self._functions or {"f0": 0}
        ends = [*list(starts.values())[1:], len(self._code)]
        functions = tuple(Function(name, start, end) for (name, start), end in zip(starts.items(), ends, strict=True))
        references = tuple(self._references)
        return Program("f0", "GPL", tuple(self._code), functions, tuple(self._maps), references, (), _BTF, ""), marked

    def _resolve(self, index: int, name: str) -> None:
        old = self._code[index]
        if old.opcode == isa.OPCODE_CALL:
            self._code[index] = Instruction(old.opcode, 0, isa.CALL_LOCAL, 0, self._functions[name] - index - 1)
        else:
            self._code[index] = Instruction(old.opcode, old.dst, old.src, self._places[name] - index - 1, old.imm)

    def _statement(self, text: str) -> None:
        here = len(self._code)
        if found := re.fullmatch(r"fn (\w+)", text):
            self._functions[found[1]] = here
        elif found := re.fullmatch(r"(\w+):", text):
            self._places[found[1]] = here
        elif text == "exit":
            self._code.append(EXIT)
        elif found := re.fullmatch(r"call (\w+)", text):
            self._call(found[1])
        elif found := re.fullmatch(r"goto (\w+)", text):
            self._open.append((here, found[1]))
            self._code.append(goto(0))
        elif found := re.fullmatch(rf"if ([rw])(\d+) (\S+) {_OPERAND} goto (\w+)", text):
            self._open.append((here, found[7]))
            kind = isa.JMP if found[1] == "r" else isa.JMP32
            self._code.append(_operation(kind | _JUMPS[found[3]], found[2], found[5], found[6]))
        elif found := re.fullmatch(rf"(\w+) {_MEMORY}, r(\d+)", text):
            opcode = isa.STX | isa.ATOMIC | _SIZES[found[3]]
            self._code.append(Instruction(opcode, int(found[4]), int(found[6]), int(found[5] or 0), _ATOMICS[found[1]]))
        elif found := re.fullmatch(rf"{_MEMORY} = {_OPERAND}", text):
            kind = isa.STX if found[6] else isa.ST
            made = _operation(kind | isa.MEM | _SIZES[found[2]], found[3], found[6], found[7])
            opcode = made.opcode if kind == isa.ST else made.opcode & ~isa.X | _SIZES[found[2]]
            self._code.append(Instruction(opcode, made.dst, made.src, int(found[4] or 0), made.imm))
        elif found := re.fullmatch(rf"r(\d+) = {_MEMORY}", text):
            mode = isa.MEM if found[2] == "u" else isa.MEMSX
            opcode = isa.LDX | mode | _SIZES[found[3]]
            self._code.append(Instruction(opcode, int(found[1]), int(found[4]), int(found[5] or 0)))
        elif found := re.fullmatch(r"r(\d+) = (map|value) ([.\w]+)(\+\d+)?", text):
            kind_of = ReferenceKind.MAP if found[2] == "map" else ReferenceKind.MAP_VALUE
            self._references.append(Reference(here, kind_of, found[3], int(found[4] or 0)))
            self._code += lddw(int(found[1]))
        elif found := re.fullmatch(r"r(\d+) = (\w+) ll", text):
            self._code += lddw(int(found[1]), int(found[2], 0))
        elif found := re.fullmatch(r"([rw])(\d+) = s(\d+) [rw](\d+)", text):
            kind = isa.ALU64 if found[1] == "r" else isa.ALU
            self._code.append(Instruction(kind | isa.MOV | isa.X, int(found[2]), int(found[4]), int(found[3])))
        elif found := re.fullmatch(r"r(\d+) = be(\d+)", text):
            self._code.append(Instruction(isa.ALU | isa.END | isa.X, int(found[1]), imm=int(found[2])))
        elif found := re.fullmatch(r"r(\d+) = -r\1", text):
            self._code.append(Instruction(isa.ALU64 | isa.NEG, int(found[1])))
        elif found := re.fullmatch(rf"([rw])(\d+) (\S+) {_OPERAND}", text):
            kind = isa.ALU64 if found[1] == "r" else isa.ALU
            self._code.append(_operation(kind | _ALU[found[3]], found[2], found[5], found[6]))
        else:
            raise ValueError(f"not a statement: {text}")

    def _call(self, name: str) -> None:
        here = len(self._code)
        if name in _NUMBERS:
            self._code.append(call(_NUMBERS[name]))
        elif name.startswith("oko_"):
            self._references.append(Reference(here, ReferenceKind.RUNTIME, name))
            self._code.append(call_local(-1))
        else:
            self._open.append((here, name))
            self._code.append(call_local(0))


def _operation(opcode: int, dst: str, src: str | None, number: str | None) -> Instruction:
    if src is not None:
        return Instruction(opcode | isa.X, int(dst), int(src))
    assert number is not None
    return Instruction(opcode, int(dst), imm=int(number, 0))
