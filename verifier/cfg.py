"""Control flow: basic blocks and edges per function, the calls between functions, and the cycles in either.

Everything here expects instructions whose jumps and calls have valid targets (verifier/check.py sees to that first).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from verifier import isa
from verifier.isa import Instruction
from verifier.program import Function, Program, ReferenceKind
from verifier.text import text_at

_Node = TypeVar("_Node")


@dataclass(frozen=True, slots=True)
class Block:
    """Instructions `start` … `end`-1, entered only at the first and left only at the last. `successors` are the
    starts of the blocks that can follow."""

    start: int
    end: int
    successors: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """The control-flow graph of one function; `blocks` by their start, ascending."""

    function: Function
    blocks: dict[int, Block]


@dataclass(frozen=True, slots=True)
class Call:
    """The instruction at `instruction` of the function number `caller` calls the function number `callee`."""

    instruction: int
    caller: int
    callee: int


def width(instruction: Instruction) -> int:
    """Slots that an instruction takes."""
    return 2 if instruction.opcode == isa.LDDW else 1


def is_jump(instruction: Instruction) -> bool:
    """Whether the instruction may go on elsewhere than behind itself, inside its function."""
    operation = instruction.opcode & isa.OPERATION_MASK
    return instruction.opcode & isa.CLASS_MASK in (isa.JMP, isa.JMP32) and operation not in (isa.CALL, isa.EXIT)


def jump_target(index: int, instruction: Instruction) -> int:
    """Where a jump at `index` goes when it is taken."""
    return index + 1 + (instruction.imm if instruction.opcode == isa.GOTO_LONG else instruction.offset)


def successors(index: int, instruction: Instruction) -> tuple[int, ...]:
    """The instructions that can follow the one at `index` in its function; the one behind it comes first."""
    behind = index + width(instruction)
    if instruction.opcode == isa.OPCODE_EXIT:
        return ()
    if instruction.opcode in (isa.GOTO, isa.GOTO_LONG):
        return (jump_target(index, instruction),)
    if is_jump(instruction):
        return (behind, jump_target(index, instruction))
    return (behind,)


def indices(program: Program, function: Function) -> Iterator[int]:
    """The instructions of a function, without the second slots of 64-bit loads."""
    index = function.start
    while index < function.end:
        yield index
        index += width(program.instructions[index])


def graph(program: Program, function: Function) -> Graph:
    """The control-flow graph of a function."""
    leaders = {function.start}
    for index in indices(program, function):
        instruction = program.instructions[index]
        if is_jump(instruction) or instruction.opcode == isa.OPCODE_EXIT:
            leaders.update(successors(index, instruction))
            leaders.add(index + 1)
    leaders.discard(function.end)
    blocks = {}
    start = last = function.start
    for index in indices(program, function):
        if index in leaders and index != start:
            blocks[start] = Block(start, index, successors(last, program.instructions[last]))
            start = index
        last = index
    blocks[start] = Block(start, function.end, successors(last, program.instructions[last]))
    return Graph(function, blocks)


def calls(program: Program) -> tuple[Call, ...]:
    """The calls between the program's own functions, ascending by instruction."""
    number = {function.start: index for index, function in enumerate(program.functions)}
    runtime = {item.instruction for item in program.references if item.kind is ReferenceKind.RUNTIME}
    return tuple(
        Call(index, caller, number[index + 1 + program.instructions[index].imm])
        for caller, function in enumerate(program.functions)
        for index in indices(program, function)
        if program.instructions[index].opcode == isa.OPCODE_CALL
        and program.instructions[index].src == isa.CALL_LOCAL
        and index not in runtime
    )


def reachable(graph: Graph) -> set[int]:
    """The starts of the blocks that can be reached from the function's first."""
    found = {graph.function.start}
    queue = [graph.function.start]
    while queue:
        for successor in graph.blocks[queue.pop()].successors:
            if successor not in found:
                found.add(successor)
                queue.append(successor)
    return found


def cycle(graph: Graph) -> tuple[Block, ...]:
    """The blocks of a cycle in the order in which they follow each other, none if there is no cycle. The last one ends
    in the jump back to the first, which is on the depth-first path that led there."""
    starts = _cycle([graph.function.start], lambda start: graph.blocks[start].successors)
    return tuple(graph.blocks[start] for start in starts)


def recursion(program: Program) -> tuple[int, ...]:
    """The numbers of functions that call each other in a circle, each the next and the last the first; none if no
    function calls itself."""
    callees: dict[int, list[int]] = {number: [] for number in range(len(program.functions))}
    for call in calls(program):
        callees[call.caller].append(call.callee)
    return _cycle(callees, lambda number: callees[number])


def _cycle(roots: Iterable[_Node], following: Callable[[_Node], Iterable[_Node]]) -> tuple[_Node, ...]:
    """A cycle that a depth-first walk from `roots` meets, first to last."""
    done: set[_Node] = set()
    for root in roots:
        path: dict[_Node, Iterator[_Node]] = {}  # keeps the order of the walk
        if root not in done:
            path[root] = iter(following(root))
        while path:
            node, rest = next(reversed(path.items()))
            successor = next((candidate for candidate in rest if candidate not in done), None)
            if successor is None:
                done.add(node)
                del path[node]
            elif successor in path:
                nodes = list(path)
                return tuple(nodes[nodes.index(successor) :])
            else:
                path[successor] = iter(following(successor))
    return ()


def dot(program: Program) -> str:
    """The control-flow graphs of all functions for Graphviz, one cluster each."""
    lines = ["digraph program {", '  node [shape=box fontname="monospace"];']
    for number, function in enumerate(program.functions):
        lines.append(f'  subgraph cluster_{number} {{ label="{function.name}";')
        for block in graph(program, function).blocks.values():
            body = "".join(
                f"{index}: {text_at(program, index)}\\l"
                for index in indices(program, Function("", block.start, block.end))
            )
            lines.append(f'    b{block.start} [label="{body}"];')
            lines.extend(f"    b{block.start} -> b{successor};" for successor in block.successors)
        lines.append("  }")
    return "\n".join([*lines, "}"]) + "\n"
