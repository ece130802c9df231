"""Branches: what a conditional jump proves on either side.

Where the kernel learns less than would be possible, a comment says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from verifier import cfg, isa
from verifier.comparison import refine
from verifier.findings import fail, value_in
from verifier.isa import Instruction
from verifier.scalar import Scalar
from verifier.state import State, Step
from verifier.values import MapValue, MapValueOrNull, Number, Packet, PacketEnd, Record, RecordOrNull, Value

# (comparison, the packet pointer is on the left): on which side the packet reaches to the pointer, and whether
# to the byte at the pointer too.
_PACKET_CHECKS: Final = {
    (isa.JGT, True): (False, 0),
    (isa.JGE, True): (False, 1),
    (isa.JLT, True): (True, 1),
    (isa.JLE, True): (True, 0),
    (isa.JLT, False): (False, 0),
    (isa.JLE, False): (False, 1),
    (isa.JGT, False): (True, 1),
    (isa.JGE, False): (True, 0),
}

_ORDERS: Final = frozenset((isa.JEQ, isa.JNE, isa.JGT, isa.JGE, isa.JLT, isa.JLE))
"""Comparisons that make sense between two places in the packet."""


def jump(state: State, index: int, instruction: Instruction) -> Iterator[tuple[int, State]]:
    """The sides of a jump that are possible: the instruction that comes next, and the state there, `state` in use for
    one of them. Raises Found."""
    target = cfg.jump_target(index, instruction)
    operation = instruction.opcode & isa.OPERATION_MASK
    if operation == isa.JA:
        yield target, state
        return
    left = value_in(instruction.dst, index, state)
    by_register = bool(instruction.opcode & isa.X)
    right: Value = Number(Scalar.constant(instruction.imm))
    if by_register:
        right = value_in(instruction.src, index, state)
    wide = instruction.opcode & isa.CLASS_MASK == isa.JMP
    for taken, branch in _sides(state, index, instruction, operation, wide, left, right):
        before = branch.way
        branch.way = Step(index, taken, before, before.length + 1 if before else 1)
        yield (target if taken else index + 1), branch


def _sides(
    state: State,
    index: int,
    instruction: Instruction,
    operation: int,
    wide: bool,
    left: Value,
    right: Value,
) -> Iterator[tuple[bool, State]]:
    """The sides of a branch that are possible, with what each proves."""
    if isinstance(left, Number) and isinstance(right, Number):
        yield from _number_sides(state, instruction, operation, wide, left, right)
        return
    # The kernel takes a comparison with a register that holds zero for no check.
    zero = not instruction.opcode & isa.X and instruction.imm == 0
    if wide and zero and operation in (isa.JEQ, isa.JNE) and not isinstance(left, Number):
        yield from _null_sides(state, operation, left)
        return
    if wide and operation in _ORDERS and isinstance(left, Packet) and isinstance(right, Packet):
        # The kernel learns nothing from that, and follows both sides.
        yield True, state.copy()
        yield False, state
        return
    packet = _packet_check(operation, left, right) if wide else None
    if packet is None:
        names = (instruction.dst, instruction.src) if instruction.opcode & isa.X else (instruction.dst,)
        fail(
            "pointer-comparison",
            index,
            state,
            f"{left} is compared with {right}",
            "compare packet pointers with data_end, and others with NULL",
            *names,
        )
    pointer, side, beyond = packet
    for taken in (True, False):
        branch = state.copy() if taken else state
        # The kernel learns nothing from a pointer that has not moved when the end itself is left out.
        if taken == side and pointer.offset >= beyond:
            branch.learn_safe(pointer, pointer.offset + beyond, index)
        yield taken, branch


def _packet_check(operation: int, left: Value, right: Value) -> tuple[Packet, bool, int] | None:
    """For a comparison of a packet pointer with the end: the pointer, the side that proves something, and whether that
    includes the byte at the pointer."""
    if isinstance(left, Packet) and isinstance(right, PacketEnd):
        pointer, key = left, (operation, True)
    elif isinstance(left, PacketEnd) and isinstance(right, Packet):
        pointer, key = right, (operation, False)
    else:
        return None
    found = _PACKET_CHECKS.get(key)
    return None if found is None else (pointer, *found)


def _number_sides(
    state: State, instruction: Instruction, operation: int, wide: bool, left: Number, right: Number
) -> Iterator[tuple[bool, State]]:
    sides: tuple[tuple[Scalar, Scalar] | None, ...] = ((left.scalar, right.scalar),) * 2
    # The kernel learns from JSET, and decides it, only if one side is constant (is_scalar_branch_taken, 6.18).
    if operation != isa.JSET or left.scalar.is_constant or right.scalar.is_constant:
        sides = refine(operation, wide, left.scalar, right.scalar)
    possible = [(taken, side) for taken, side in zip((True, False), sides, strict=True) if side is not None]
    for position, (taken, (mine, theirs)) in enumerate(possible):
        branch = state if position == len(possible) - 1 else state.copy()
        _learn(branch, instruction.dst, left, mine)
        if instruction.opcode & isa.X and instruction.src != instruction.dst:
            _learn(branch, instruction.src, right, theirs)
        yield taken, branch


def _learn(state: State, register: int, known: Number, scalar: Scalar) -> None:
    if scalar != known.scalar:
        state.registers[register] = Number(scalar, known.id)
        state.learn_number(known, scalar)


def _null_sides(state: State, operation: int, value: Value) -> Iterator[tuple[bool, State]]:
    """A pointer compared with null. One that cannot be null is on one side only."""
    if isinstance(value, MapValueOrNull | RecordOrNull):
        for taken in (True, False):
            branch = state.copy() if taken else state
            branch.learn_null(value, is_null=taken == (operation == isa.JEQ))
            yield taken, branch
    elif isinstance(value, MapValue | Record):
        yield operation == isa.JNE, state
    else:
        # The kernel does not know that the others are not null, and follows both sides.
        yield True, state.copy()
        yield False, state
