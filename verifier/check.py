"""The checker: `check` accepts a program or raises Rejected."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Final, NoReturn

from verifier import cfg, isa
from verifier.codes import INSTEAD, MENDS
from verifier.explanation import Note, note
from verifier.findings import Found, Tracking
from verifier.helpers import HELPERS, helper_name
from verifier.isa import Instruction
from verifier.limits import DEFAULT, Limits
from verifier.program import Function, Program, Reference
from verifier.rejection import Rejection
from verifier.runtime import RUNTIME_FUNCTIONS
from verifier.text import text_at
from verifier.tracking import track

_LOOP: Final = re.compile(r"\b(for|while|do|goto)\b")
_LINES_OF_LOOP: Final = 8
_REGISTERS: Final = 11
_SWAP_WIDTHS: Final = (16, 32, 64)
_CONDITIONS: Final = frozenset(
    (isa.JEQ, isa.JGT, isa.JGE, isa.JSET, isa.JNE, isa.JSGT, isa.JSGE, isa.JLT, isa.JLE, isa.JSLT, isa.JSLE)
)
_ARITHMETIC: Final = frozenset((isa.ADD, isa.SUB, isa.MUL, isa.OR, isa.AND, isa.XOR))
_SHIFTS: Final = frozenset((isa.LSH, isa.RSH, isa.ARSH))
_DIVISIONS: Final = frozenset((isa.DIV, isa.MOD))
_ATOMICS: Final = frozenset(
    (
        *(isa.ADD, isa.OR, isa.AND, isa.XOR),
        *(operation | isa.FETCH for operation in (isa.ADD, isa.OR, isa.AND, isa.XOR)),
        *(isa.XCHG, isa.CMPXCHG),
    )
)


def check(program: Program, limits: Limits = DEFAULT) -> Tracking:
    """Raises Rejected, with a code of verifier/codes.py and an explanation (verifier/rejection.py), if the program
    breaks a rule of the filter model. Otherwise tells what was found out about it.

    First its structure, then what its registers and its memory hold (verifier/tracking.py).
    """
    check_structure(program)
    try:
        return track(program, limits)
    except Found as found:
        raise Rejection.of(program, found).error() from None


def check_structure(program: Program) -> None:
    """Raises Rejected unless every instruction is well-formed, control stays inside functions and comes to an end, and
    only allowed helpers are called."""
    checker = _Checker(program)
    for function in program.functions:
        checker.instructions(function)
    checker.calls()
    for function in program.functions:
        checker.flow(function)
    checker.recursion()


class _Checker:
    """The checks of one program, each of which raises Rejected."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._references: dict[int, Reference] = {item.instruction: item for item in program.references}

    def instructions(self, function: Function) -> None:
        """Each instruction by itself, and that jumps meet the beginning of one."""
        code = self._program.instructions
        starts = set()
        index = function.start
        while index < function.end:
            starts.add(index)
            self._form(index, function)
            index += cfg.width(code[index])
        for index in starts:
            if cfg.is_jump(code[index]):
                target = cfg.jump_target(index, code[index])
                if not function.start <= target < function.end:
                    self._reject("bad-jump", index, f"jumps to instruction {target}, out of function {function.name}")
                if target not in starts:
                    self._reject("bad-wide-load", index, "jumps into the second half of a 64-bit load")
        last = max(starts)
        if code[last].opcode not in (isa.OPCODE_EXIT, isa.GOTO, isa.GOTO_LONG):
            self._reject(
                "falls-off-end", last, f"is the last of function {function.name}, and control goes on behind it"
            )

    def calls(self) -> None:
        """Calls meet the beginning of a function, of this program or of the switch, or a helper that is allowed."""
        starts = {function.start for function in self._program.functions}
        for function in self._program.functions:
            for index in cfg.indices(self._program, function):
                instruction = self._program.instructions[index]
                if instruction.opcode != isa.OPCODE_CALL:
                    continue
                if instruction.src == isa.CALL_HELPER:
                    if instruction.imm not in HELPERS:
                        name = helper_name(instruction.imm)
                        why = f"calls {name}, a helper that filter programs may not use"
                        self._reject("forbidden-helper", index, why, mend=INSTEAD.get(name))
                elif index in self._references:
                    name = self._references[index].name
                    if name not in RUNTIME_FUNCTIONS:
                        self._reject("bad-call", index, f"calls {name}, which the switch does not provide")
                elif instruction.src != isa.CALL_LOCAL:
                    self._reject("bad-call", index, "calls a function of the kernel (kfunc)")
                elif index + 1 + instruction.imm not in starts:
                    self._reject("bad-call", index, "calls an address where no function begins")

    def flow(self, function: Function) -> None:
        """Every instruction can be reached, none twice on one path."""
        graph = cfg.graph(self._program, function)
        unreachable = sorted(graph.blocks.keys() - cfg.reachable(graph))
        if unreachable:
            self._reject("unreachable", unreachable[0], "is never reached")
        loop = cfg.cycle(graph)
        if loop:
            self._reject_loop(loop)

    def recursion(self) -> None:
        """No function calls itself."""
        circle = cfg.recursion(self._program)
        if circle:
            call = next(
                item for item in cfg.calls(self._program) if item.caller == circle[-1] and item.callee == circle[0]
            )
            notes = tuple(
                note(self._program, f"calls {self._program.functions[item.callee].name}", item.instruction)
                for item in cfg.calls(self._program)
                if (item.caller, item.callee) in set(pairwise((*circle, circle[0])))
            )
            names = " → ".join(self._program.functions[number].name for number in (*circle, circle[0]))
            self._reject("recursion", call.instruction, f"closes a circle of calls: {names}", notes=notes)

    def _form(self, index: int, function: Function) -> None:
        instruction = self._program.instructions[index]
        if instruction.dst >= _REGISTERS or instruction.src >= _REGISTERS:
            self._reject(
                "bad-register", index, f"uses register {max(instruction.dst, instruction.src)}; the last is r10"
            )
        kind = instruction.opcode & isa.CLASS_MASK
        if kind in (isa.ALU, isa.ALU64):
            self._alu(index, instruction)
        elif kind in (isa.JMP, isa.JMP32):
            self._jump(index, instruction)
        elif kind == isa.LD:
            self._wide_load(index, instruction, function)
        elif kind == isa.LDX:
            self._load(index, instruction)
        else:
            self._store(index, instruction)

    def _alu(self, index: int, instruction: Instruction) -> None:
        operation = instruction.opcode & isa.OPERATION_MASK
        by_register = bool(instruction.opcode & isa.X)
        wide = instruction.opcode & isa.CLASS_MASK == isa.ALU64
        bits = 64 if wide else 32
        self._writes(index, instruction.dst)
        if operation == isa.END:
            if wide and by_register:
                self._unknown(index)
            self._zero(index, src=instruction.src, offset=instruction.offset)
            if instruction.imm not in _SWAP_WIDTHS:
                self._reject("bad-immediate", index, f"swaps {instruction.imm} bits; possible are 16, 32 and 64")
            return
        if operation == isa.NEG:
            if by_register:
                self._unknown(index)
            self._zero(index, src=instruction.src, offset=instruction.offset, imm=instruction.imm)
            return
        if operation not in _ARITHMETIC | _SHIFTS | _DIVISIONS | {isa.MOV}:
            self._unknown(index)
        if by_register:
            self._zero(index, imm=instruction.imm)
        else:
            self._zero(index, src=instruction.src)
            if operation in _SHIFTS and not 0 <= instruction.imm < bits:
                self._reject("bad-immediate", index, f"shifts by {instruction.imm}; possible are 0–{bits - 1}")
            if operation in _DIVISIONS and not instruction.imm:
                self._reject("bad-immediate", index, "divides by the constant zero")
        self._alu_offset(index, instruction, operation, by_register, bits)

    def _alu_offset(self, index: int, instruction: Instruction, operation: int, by_register: bool, bits: int) -> None:
        """The offset of an ALU instruction is 0 but for signed division and sign-extending moves (ISA v4)."""
        if operation in _DIVISIONS and instruction.offset == 1:
            return
        if operation == isa.MOV and by_register and instruction.offset in (8, 16, 32) and instruction.offset < bits:
            return
        self._zero(index, offset=instruction.offset)

    def _jump(self, index: int, instruction: Instruction) -> None:
        operation = instruction.opcode & isa.OPERATION_MASK
        by_register = bool(instruction.opcode & isa.X)
        if instruction.opcode == isa.GOTO:
            self._zero(index, dst=instruction.dst, src=instruction.src, imm=instruction.imm)
        elif instruction.opcode == isa.GOTO_LONG:
            self._zero(index, dst=instruction.dst, src=instruction.src, offset=instruction.offset)
        elif instruction.opcode == isa.OPCODE_CALL:
            self._zero(index, dst=instruction.dst, offset=instruction.offset)
        elif instruction.opcode == isa.OPCODE_EXIT:
            self._zero(index, dst=instruction.dst, src=instruction.src, offset=instruction.offset, imm=instruction.imm)
        elif operation not in _CONDITIONS:
            self._unknown(index)
        elif by_register:
            self._zero(index, imm=instruction.imm)
        else:
            self._zero(index, src=instruction.src)

    def _wide_load(self, index: int, instruction: Instruction, function: Function) -> None:
        if instruction.opcode != isa.LDDW:
            self._unknown(index)
        self._writes(index, instruction.dst)
        self._zero(index, offset=instruction.offset)
        if index + 1 >= function.end:
            self._reject("bad-wide-load", index, "lacks its second half")
        upper = self._program.instructions[index + 1]
        if upper.opcode or upper.dst or upper.src or upper.offset:
            self._reject("bad-wide-load", index, "has a second half that is an instruction of its own")
        if instruction.src:
            self._reject("bad-wide-load", index, f"has the source {instruction.src}: maps are named by relocations")

    def _load(self, index: int, instruction: Instruction) -> None:
        mode, size = instruction.opcode & isa.MODE_MASK, instruction.opcode & isa.SIZE_MASK
        if mode != isa.MEM and (mode != isa.MEMSX or size == isa.DW):
            self._unknown(index)
        self._writes(index, instruction.dst)
        self._zero(index, imm=instruction.imm)

    def _store(self, index: int, instruction: Instruction) -> None:
        mode, size = instruction.opcode & isa.MODE_MASK, instruction.opcode & isa.SIZE_MASK
        if instruction.opcode & isa.CLASS_MASK == isa.ST:
            if mode != isa.MEM:
                self._unknown(index)
            self._zero(index, src=instruction.src)
        elif mode == isa.ATOMIC:
            if size not in (isa.W, isa.DW) or instruction.imm not in _ATOMICS:
                self._unknown(index)
            if instruction.imm & isa.FETCH and instruction.imm != isa.CMPXCHG:
                self._writes(index, instruction.src)
        elif mode == isa.MEM:
            self._zero(index, imm=instruction.imm)
        else:
            self._unknown(index)

    def _writes(self, index: int, register: int) -> None:
        if register == isa.FRAME_POINTER:
            self._reject("frame-pointer-write", index, "writes r10, the frame pointer")

    def _zero(self, index: int, **fields: int) -> None:
        for name, value in fields.items():
            if value:
                self._reject("reserved-field", index, f"has {name}={value}, which must be 0")

    def _unknown(self, index: int) -> NoReturn:
        opcode = self._program.instructions[index].opcode
        self._reject("unknown-opcode", index, f"has opcode {opcode:#04x}, which filter programs may not use")

    def _last(self, block: cfg.Block) -> int:
        return max(cfg.indices(self._program, Function("", block.start, block.end)))

    def _reject_loop(self, loop: tuple[cfg.Block, ...]) -> NoReturn:
        """A cycle: its blocks, first to last."""
        written, notes, seen = False, [], set()
        for block in loop:
            for index in cfg.indices(self._program, Function("", block.start, block.end)):
                line = self._program.line_at(index)
                if line is None or (line.file, line.line) in seen:
                    continue
                seen.add((line.file, line.line))
                is_loop = _LOOP.search(line.text) is not None
                written = written or is_loop
                notes.append(note(self._program, "the loop" if is_loop else "in the loop", index))
        why, mend = f"goes back to instruction {loop[0].start}, so the program might not end", None
        if notes and not written:
            why += "; no for, while or goto stands on its lines: the compiler made the loop"
            mend = "look at macros, inlined functions and copies of large variables on these lines; write them out"
        self._reject("cycle", self._last(loop[-1]), why, mend=mend, notes=tuple(notes[:_LINES_OF_LOOP]))

    def _reject(
        self, code: str, index: int, why: str, *, mend: str | None = None, notes: tuple[Note, ...] = ()
    ) -> NoReturn:
        why = f"`{text_at(self._program, index)}` {why}"
        raise Rejection.at(self._program, code, index, why, mend or MENDS[code], notes).error()
