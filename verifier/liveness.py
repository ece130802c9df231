"""Which registers still matter at the beginning of a block: those that some way reads before writing them.

What nobody reads any more need not be kept apart, which is most of what differs between two ways to one place.
"""

from __future__ import annotations

from typing import Final

from verifier import cfg, isa
from verifier.helpers import HELPERS
from verifier.isa import Instruction
from verifier.program import Program, ReferenceKind
from verifier.runtime import RUNTIME_FUNCTIONS

_ARGUMENTS: Final = 0b111110
_CLOBBERED: Final = 0b111111


def live_registers(program: Program, graphs: list[cfg.Graph]) -> dict[int, int]:
    """Bit masks of the registers that are live, by the start of the block. Functions must not recurse."""
    runtime = {item.instruction: item.name for item in program.references if item.kind is ReferenceKind.RUNTIME}
    live: dict[int, int] = {}
    done: dict[int, int] = {}  # what a function reads of its arguments, by its start
    callees: dict[int, set[int]] = {number: set() for number in range(len(graphs))}
    for call in cfg.calls(program):
        callees[call.caller].add(call.callee)

    def arguments(index: int, instruction: Instruction) -> int:
        if instruction.src == isa.CALL_HELPER:
            helper = HELPERS.get(instruction.imm)
            return (2 << len(helper.arguments)) - 2 if helper else _ARGUMENTS
        if index in runtime:
            return (2 << len(RUNTIME_FUNCTIONS[runtime[index]].arguments)) - 2
        return done.get(index + 1 + instruction.imm, _ARGUMENTS)

    waiting = list(range(len(graphs)))
    while waiting:
        number = next(item for item in waiting if not callees[item] & set(waiting))
        waiting.remove(number)
        graph = graphs[number]
        for start in reversed(order(graph)):
            block = graph.blocks[start]
            mask = 0
            for successor in block.successors:
                mask |= live[successor]
            for index in reversed(_indices(program, block)):
                instruction = program.instructions[index]
                reads, writes = _effect(instruction, arguments(index, instruction) if _is_call(instruction) else 0)
                mask = mask & ~writes | reads
            live[start] = mask
        done[graph.function.start] = live[graph.function.start] & _ARGUMENTS
    return live


def order(graph: cfg.Graph) -> list[int]:
    """The starts of the blocks so that every edge goes forward. The graph must be free of cycles."""
    seen: set[int] = set()
    finished: list[int] = []
    stack: list[tuple[int, bool]] = [(graph.function.start, False)]
    while stack:
        start, leaving = stack.pop()
        if leaving:
            finished.append(start)
        elif start not in seen:
            seen.add(start)
            stack.append((start, True))
            stack += [(successor, False) for successor in graph.blocks[start].successors]
    return finished[::-1]


def _indices(program: Program, block: cfg.Block) -> list[int]:
    found, index = [], block.start
    while index < block.end:
        found.append(index)
        index += cfg.width(program.instructions[index])
    return found


def _is_call(instruction: Instruction) -> bool:
    return instruction.opcode == isa.OPCODE_CALL


def _effect(instruction: Instruction, arguments: int) -> tuple[int, int]:
    """The registers that an instruction reads, and those that it writes."""
    opcode = instruction.opcode
    dst, src = 1 << instruction.dst, 1 << instruction.src
    kind, operation = opcode & isa.CLASS_MASK, opcode & isa.OPERATION_MASK
    if _is_call(instruction):
        return arguments, _CLOBBERED
    match kind:
        case isa.ALU | isa.ALU64:
            by_register = bool(opcode & isa.X) and operation != isa.END
            if operation == isa.MOV:
                return (src if by_register else 0), dst
            return dst | (src if by_register else 0), dst
        case isa.JMP | isa.JMP32:
            if opcode == isa.OPCODE_EXIT:
                return 1, 0
            if operation == isa.JA:
                return 0, 0
            return dst | (src if opcode & isa.X else 0), 0
        case isa.LDX:
            return src, dst
        case isa.ST:
            return dst, 0
        case isa.STX if opcode & isa.MODE_MASK == isa.ATOMIC and instruction.imm & isa.FETCH:
            if instruction.imm == isa.CMPXCHG:
                return dst | src | 1, 1
            return dst | src, src
        case isa.STX:
            return dst | src, 0
        case _:
            return 0, dst  # lddw
