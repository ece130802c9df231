"""Register tracking: every way through the program, followed with abstract values.

The control-flow graph has no cycles, so a function is walked block by block, in an order in which every edge goes
forward. At the beginning of a block the states that lead there are reduced to a few (verifier/merge.py), which bounds
the work. A function is walked anew for every call, with what is known there.

What is accepted here the kernel accepts too. So nothing is tracked better than the kernel does; where it does less than
would be possible, a comment says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Final, NoReturn

from verifier import cfg, isa
from verifier.helpers import HELPERS, Argument, Helper, Result
from verifier.isa import Instruction
from verifier.limits import DEFAULT, KERNEL_BUDGET, Limits
from verifier.liveness import live_registers, order
from verifier.memory import RDONLY_PROG, Fault, Regions, not_memory, readable, whole_pointers, writable
from verifier.merge import reduce
from verifier.program import MapSpec, MapType, Program, Reference, ReferenceKind
from verifier.runtime import RUNTIME_FUNCTIONS, Kind
from verifier.scalar import M32, S32_MIN, S64_MIN, Scalar, alu, refine, sign_extend, truncate
from verifier.state import Frame, Place, State, Step
from verifier.tristate import M64
from verifier.values import (
    PACKET_END,
    Context,
    MapPointer,
    MapValue,
    MapValueOrNull,
    Number,
    Packet,
    PacketEnd,
    Record,
    RecordOrNull,
    Stack,
    Unset,
    Value,
)

WORK_LIMIT: Final = 1_000_000
"""Instructions that are looked at, times the states in which they are. More is given up, never a hang."""

_SLOT: Final = 8
_FRAME_UNIT: Final = 32  # the kernel rounds every frame up to this (6.1: round_up(depth, 32))
_FARTHEST_OFFSET: Final = 1 << 29  # BPF_MAX_VAR_OFF (include/linux/bpf_verifier.h)
_CONTEXT: Final = {0: "data", 4: "data_end", 12: "ingress_ifindex", 16: "rx_queue_index"}
_UNKNOWN: Final = Number(Scalar.unknown())

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

_MAPS_OF_HELPERS: Final = {
    "bpf_ringbuf_output": frozenset({MapType.RINGBUF}),
    "bpf_ringbuf_reserve": frozenset({MapType.RINGBUF}),
}
_ELEMENTS: Final = frozenset(MapType) - {MapType.RINGBUF}
_TAKE_PACKETS: Final = frozenset({"bpf_map_lookup_elem", "bpf_map_update_elem", "bpf_map_delete_elem", "bpf_csum_diff"})
"""Helpers that the kernel gives packet memory (pkt_access in their prototypes, 6.18)."""


@dataclass(slots=True)
class Tracking:
    """What a walk through a program found out.

    `work` is the instructions times the states in which they were looked at; `ways` is the same as if no states were
    joined, about what the kernel's verifier will look at. `cost` is the work by instruction, `depths` are the bytes of
    stack by the number of the function, `stack` those of the deepest chain of calls, `origins` the instructions that
    made the identities of map values and records.
    """

    work: int = 0
    ways: int = 0
    cost: dict[int, int] = field(default_factory=dict)
    depths: dict[int, int] = field(default_factory=dict)
    stack: int = 0
    states: dict[int, list[State]] = field(default_factory=dict)
    origins: dict[int, int] = field(default_factory=dict)

    @property
    def may_exceed_the_kernel(self) -> bool:
        """Whether the kernel may give up: its verifier looked at 1.2 to 1.4 times `ways` in what was tried."""
        return self.ways * 4 > KERNEL_BUDGET * 3


@dataclass(slots=True)
class Found(Exception):
    """A rule is broken: at the instruction `index`, in `state`. `registers` are the numbers of those that matter,
    `tracking` is what was found out until then."""

    fault: Fault
    index: int
    state: State
    registers: tuple[int, ...] = ()
    tracking: Tracking = field(default_factory=Tracking)


def track(program: Program, limits: Limits = DEFAULT, *, keep_states: bool = False) -> Tracking:
    """Walk through `program`, which has passed the structural checks. Raises Found.

    With `keep_states` the states at every instruction are kept, for explanations and tests.
    """
    walker = _Walker(program, limits, keep_states)
    try:
        walker.program()
    except Found as found:
        found.tracking = walker.tracking
        raise
    return walker.tracking


class _Walker:
    def __init__(self, program: Program, limits: Limits, keep_states: bool) -> None:
        self._limits = limits
        self._program = program
        self._keep = keep_states
        self._regions = Regions.of(program.maps, program.btf, limits.stack)
        self._references: dict[int, Reference] = {item.instruction: item for item in program.references}
        self._graphs = [cfg.graph(program, function) for function in program.functions]
        self._orders = [order(graph) for graph in self._graphs]
        self._live = live_registers(program, self._graphs)
        self._numbers = {function.start: number for number, function in enumerate(program.functions)}
        self._last_id = 0
        self._identities: dict[tuple[int, ...], int] = {}
        self.tracking = Tracking()

    def program(self) -> None:
        for state in self._function([State.at_entry()]):
            index = state.frame.returns_to
            if not isinstance(state.registers[0], Number):
                self._fail(
                    "return-value",
                    index,
                    state,
                    f"R0 is {state.registers[0]} at the end",
                    "return OKO_MATCH or OKO_NO_MATCH on every way",
                    0,
                )
            if state.records:
                self._fail(
                    "record-leak",
                    index,
                    state,
                    "a ring-buffer record is still reserved at the end",
                    "submit or discard it on every way",
                )
            if state.lock is not None:
                self._fail("lock", index, state, "a spin lock is still held at the end", "call bpf_spin_unlock first")
        self._check_depth()

    # ---- functions and blocks

    def _function(self, states: list[State]) -> list[State]:
        """The states at the exits of the function that runs on top of `states`; `returns_to` there is the exit."""
        number = states[0].frame.function
        graph = self._graphs[number]
        waiting: dict[int, list[State]] = {graph.function.start: states}
        exits: list[State] = []
        for start in self._orders[number]:
            arrived = waiting.pop(start, [])
            if not arrived:
                continue
            for state in arrived:
                state.forget(~self._live[start])
                state.forget_places()
            kept = reduce(arrived, self._fresh)
            for successor, state in self._block(graph.blocks[start], kept):
                if successor is None:
                    exits.append(state)
                else:
                    waiting.setdefault(successor, []).append(state)
        return exits

    def _block(self, block: cfg.Block, states: list[State]) -> Iterator[tuple[int | None, State]]:
        index = block.start
        code = self._program.instructions
        while index < block.end:
            instruction = code[index]
            self._count(index, states)
            if cfg.is_jump(instruction):
                for state in states:
                    yield from self._jump(state, index, instruction)
                return
            if instruction.opcode == isa.OPCODE_EXIT:
                for state in states:
                    self._exit(state, index)
                    yield None, state
                return
            if instruction.opcode == isa.OPCODE_CALL and instruction.src == isa.CALL_LOCAL:
                states = self._call_function(index, instruction, states)
            else:
                for state in states:
                    self._instruction(state, index, instruction)
            index += cfg.width(instruction)
        for state in states:
            yield block.end, state

    def _count(self, index: int, states: list[State]) -> None:
        tracking = self.tracking
        tracking.work += len(states)
        tracking.ways += sum(state.ways for state in states)
        tracking.cost[index] = tracking.cost.get(index, 0) + len(states)
        if tracking.work > WORK_LIMIT:
            costliest = max(tracking.cost, key=lambda item: tracking.cost[item])
            self._fail(
                "too-complex",
                costliest,
                states[0],
                f"it was looked at {tracking.cost[costliest]} times, {tracking.work} instructions in all",
                "call the function it is in from fewer places, or with fewer branches before it",
            )
        if self._keep:
            tracking.states.setdefault(index, []).extend(state.copy() for state in states)

    def _call_function(self, index: int, instruction: Instruction, states: list[State]) -> list[State]:
        for state in states:
            if state.lock is not None:
                self._fail("lock", index, state, "a function is called while a spin lock is held", "unlock first")
        reference = self._references.get(index)
        if reference is not None:
            for state in states:
                self._call_runtime(state, index, reference.name)
            return states
        number = self._numbers[index + 1 + instruction.imm]
        entered = []
        for state in states:
            if len(state.frames) == self._limits.frames:
                self._too_deep(index, state)
            registers: list[Value] = [Unset()] * 11
            registers[1:6] = state.registers[1:6]
            registers[10] = Stack(len(state.frames), 0)
            state.frames.append(Frame(registers, {}, number, index))
            entered.append(state)
        returned = self._function(reduce(entered, self._fresh))
        for state in returned:
            self._return(state, index)
        return reduce(returned, self._fresh)

    def _exit(self, state: State, index: int) -> None:
        """The function that runs ends. The program itself remembers where."""
        if len(state.frames) == 1:
            state.frame.returns_to = index
        elif isinstance(state.registers[0], Stack):
            # The kernel refuses that of any frame's stack, and whether the result is used or not.
            self._fail(
                "return-value", index, state, "a function returns a pointer into the stack", "return a number", 0
            )

    def _return(self, state: State, index: int) -> None:
        left = state.frames.pop()
        depth = len(state.frames)
        gone = Unset("a pointer into the stack of a function that has returned")
        state.replace(lambda value: gone if isinstance(value, Stack) and value.frame == depth else value)
        state.registers[0] = left.registers[0]
        self._lose_arguments(state, index)

    def _check_depth(self) -> None:
        """The frames of every chain of calls, together, against the limit."""
        callees: dict[int, set[int]] = {}
        for call in cfg.calls(self._program):
            callees.setdefault(call.caller, set()).add(call.callee)

        @cache
        def deepest(number: int) -> tuple[int, tuple[int, ...]]:
            own = -(-max(self.tracking.depths.get(number, 0), 1) // _FRAME_UNIT) * _FRAME_UNIT
            below = max((deepest(callee) for callee in callees.get(number, ())), default=(0, ()))
            return own + below[0], (number, *below[1])

        @cache
        def longest(number: int) -> tuple[int, ...]:
            return (number, *max((longest(callee) for callee in callees.get(number, ())), key=len, default=()))

        # The kernel counts calls that no way reaches, too.
        if len(longest(0)) > self._limits.frames:
            self._too_deep(self._program.functions[longest(0)[self._limits.frames]].start, State.at_entry())
        total, chain = deepest(0)
        self.tracking.stack = total
        if total > self._limits.stack:
            functions = self._program.functions
            used = ", ".join(f"{functions[item].name} {self.tracking.depths.get(item, 0)}" for item in chain)
            self._fail(
                "stack-bounds",
                functions[chain[-1]].start,
                State.at_entry(),
                f"the frames of a chain of calls take {total} bytes, limit {self._limits.stack}: {used}",
                "make local variables smaller, or keep them in a per-CPU map",
            )

    # ---- instructions

    def _instruction(self, state: State, index: int, instruction: Instruction) -> None:
        match instruction.opcode & isa.CLASS_MASK:
            case isa.ALU | isa.ALU64:
                self._alu(state, index, instruction)
            case isa.LDX:
                self._load(state, index, instruction)
            case isa.ST | isa.STX:
                if instruction.opcode & isa.MODE_MASK == isa.ATOMIC:
                    self._atomic(state, index, instruction)
                else:
                    self._store(state, index, instruction)
            case isa.LD:
                self._load_address(state, index, instruction)
            case _:
                self._call_helper(state, index, HELPERS[instruction.imm])

    def _load_address(self, state: State, index: int, instruction: Instruction) -> None:
        reference = self._references.get(index)
        if reference is None:
            upper = self._program.instructions[index + 1].imm
            number = (upper & 0xFFFFFFFF) << 32 | instruction.imm & 0xFFFFFFFF
            state.registers[instruction.dst] = Number(Scalar.constant(number))
        elif reference.kind is ReferenceKind.MAP:
            state.registers[instruction.dst] = MapPointer(reference.name)
        else:
            state.registers[instruction.dst] = MapValue(reference.name, Scalar.constant(reference.offset))

    def _alu(self, state: State, index: int, instruction: Instruction) -> None:
        registers = state.registers
        opcode = instruction.opcode
        operation, wide = opcode & isa.OPERATION_MASK, opcode & isa.CLASS_MASK == isa.ALU64
        by_register = bool(opcode & isa.X) and operation != isa.END
        source: Value = Number(Scalar.constant(instruction.imm))
        if by_register:
            source = self._set(state, index, instruction.src)
        if operation == isa.MOV:
            registers[instruction.dst] = self._move(state, index, instruction, source, wide)
            return
        target = self._set(state, index, instruction.dst)
        if isinstance(target, Number) and isinstance(source, Number):
            registers[instruction.dst] = Number(_compute(operation, wide, target.scalar, source.scalar))
            return
        if operation == isa.SUB and _packet_length(target, source):
            registers[instruction.dst] = _UNKNOWN
            return
        names = (instruction.dst, instruction.src) if by_register else (instruction.dst,)
        if not wide or operation not in (isa.ADD, isa.SUB):
            self._fail(
                "pointer-arithmetic",
                index,
                state,
                f"{source if isinstance(target, Number) else target} in other arithmetic than 64-bit + and -",
                "compute with numbers, and add the result to the pointer",
                *names,
            )
        if isinstance(target, Number) and operation == isa.ADD:
            target, source = source, target
        if not isinstance(source, Number):
            self._fail(
                "pointer-arithmetic",
                index,
                state,
                f"{target} and {source} are both pointers, or a pointer is subtracted from a number",
                "add a number to the pointer instead",
                *names,
            )
        moved = self._advance(state, index, target, source.scalar, operation == isa.SUB, names)
        if not _is_near(moved):
            self._fail(
                "pointer-arithmetic",
                index,
                state,
                f"{moved} is too far away",
                "stay within the memory behind it",
                *names,
            )
        registers[instruction.dst] = moved

    def _move(self, state: State, index: int, instruction: Instruction, source: Value, wide: bool) -> Value:
        signed = instruction.offset
        if isinstance(source, Number):
            if signed:
                return Number(_sign_extended(source.scalar, signed, wide))
            if not wide:
                return Number(truncate(source.scalar, 4))
            return self._tied(state, instruction.src, source) if instruction.opcode & isa.X else source
        if not wide or signed:
            self._fail(
                "pointer-arithmetic",
                index,
                state,
                f"half of a pointer is copied: {source}",
                "copy the whole pointer",
                instruction.src,
            )
        return source

    def _tied(self, state: State, register: int, number: Number) -> Number:
        """The number in a register that is about to be copied, with an identity for both."""
        if number.id or number.scalar.is_constant:
            return number
        tied = Number(number.scalar, self._fresh())
        state.registers[register] = tied
        return tied

    def _advance(
        self, state: State, index: int, pointer: Value, by: Scalar, backward: bool, names: tuple[int, ...]
    ) -> Value:
        """`pointer` plus a number, or less it."""
        if backward and isinstance(pointer, Stack):
            why, mend = "a number is subtracted from a stack pointer", "add a negative constant instead"
            raise Found(Fault("pointer-arithmetic", why, mend), index, state, names)
        if backward:
            by = alu(isa.SUB, True, Scalar.constant(0), by)
        if isinstance(pointer, Packet | MapValue | Record | Stack) and not (
            by.smin > -_FARTHEST_OFFSET and by.smax < _FARTHEST_OFFSET
        ):
            self._fail(
                "pointer-arithmetic",
                index,
                state,
                f"{by} is added to {pointer}: it has no bounds",
                "compare it with a limit first, or mask it",
                *names,
            )
        why, mend = f"a number is added to {pointer}", "only pointers to memory can be moved"
        match pointer:
            case Packet():
                if by.is_constant:
                    return Packet(pointer.base, pointer.offset + by.smin)
                if by.smin < 0:
                    self._fail(
                        "pointer-arithmetic",
                        index,
                        state,
                        f"{by} is added to a packet pointer: it may be negative",
                        "make it unsigned, or return when it is negative",
                        *names,
                    )
                # The kernel, too, asks for a new check behind a variable step.
                place = state.places[pointer.base]
                base = self._fresh()
                distance = Scalar.between(place.distance.umin + by.umin, place.distance.umax + by.umax)
                state.places[base] = Place(distance, 0)
                return Packet(base, pointer.offset)
            case MapValue():
                return MapValue(pointer.name, alu(isa.ADD, True, pointer.offset, by), pointer.id)
            case Record():
                return Record(pointer.size, alu(isa.ADD, True, pointer.offset, by), pointer.id)
            case Stack() if by.is_constant:
                return Stack(pointer.frame, pointer.offset + by.smin)
            case Stack():
                why, mend = "a variable index into the stack", "keep the array in a map, or index it with a constant"
            case MapValueOrNull() | RecordOrNull():
                self._report(not_memory(pointer), index, state, *names)
        raise Found(Fault("pointer-arithmetic", why, mend), index, state, names)

    def _load(self, state: State, index: int, instruction: Instruction) -> None:
        size = isa.SIZES[instruction.opcode & isa.SIZE_MASK]
        pointer, offset = state.registers[instruction.src], instruction.offset
        extended = instruction.opcode & isa.MODE_MASK == isa.MEMSX
        if isinstance(pointer, Context):
            state.registers[instruction.dst] = self._load_context(state, index, instruction, size, extended)
            return
        self._require(readable(state, self._regions, pointer, offset, size), index, state, instruction.src)
        value: Value = Number(Scalar.of_width(size))
        if isinstance(pointer, Stack):
            self._align(state, index, pointer, offset, size, instruction.src)
            value = state.read_stack(pointer.frame, pointer.offset + offset, size) or value
            if isinstance(value, Unset):
                self._report(not_memory(value), index, state, instruction.src)
            if isinstance(value, Number) and value.id == 0 and size == _SLOT and not value.scalar.is_constant:
                value = Number(value.scalar, self._fresh())
                state.write_stack(pointer.frame, pointer.offset + offset, size, value)
        elif isinstance(pointer, MapValue) and pointer.offset.is_constant:
            value = self._constant(pointer, offset, size) or value
        if extended and isinstance(value, Number):
            value = Number(_sign_extended(value.scalar, size * 8, True))
        state.registers[instruction.dst] = value

    def _load_context(self, state: State, index: int, instruction: Instruction, size: int, extended: bool) -> Value:
        offset = instruction.offset
        if size != 4 or extended or offset not in _CONTEXT:
            names = ", ".join(_CONTEXT.values())
            self._fail(
                "context-access",
                index,
                state,
                f"{size} {'sign-extended ' if extended else ''}bytes at offset {offset} of struct xdp_md",
                f"a filter program reads {names}, as unsigned int, and the port with oko_in_port()",
                instruction.src,
            )
        match _CONTEXT[offset]:
            case "data":
                if not state.places[0].safe:
                    return Packet(0, 0)
                # The kernel holds what was checked against the pointers that are there at that time: of one that is
                # loaded later nothing is proved.
                base = -self._fresh()
                state.places[base] = Place(Scalar.constant(0), 0)
                return Packet(base, 0)
            case "data_end":
                return PACKET_END
            case _:
                return Number(Scalar.of_width(4))

    def _constant(self, pointer: MapValue, offset: int, size: int) -> Number | None:
        """What read-only data says, as the kernel knows it too."""
        spec = self._regions.specs[pointer.name]
        if not spec.frozen or spec.initial is None:
            return None
        at = pointer.offset.smin + offset
        return Number(Scalar.constant(int.from_bytes(spec.initial[at : at + size], "little")))

    def _store(self, state: State, index: int, instruction: Instruction) -> None:
        size = isa.SIZES[instruction.opcode & isa.SIZE_MASK]
        pointer, offset = state.registers[instruction.dst], instruction.offset
        names: tuple[int, ...] = (instruction.dst,)
        value: Value = Number(Scalar.constant(instruction.imm & (1 << size * 8) - 1))
        if instruction.opcode & isa.CLASS_MASK == isa.STX:
            names = (instruction.dst, instruction.src)
            value = self._set(state, index, instruction.src)
        self._require(writable(state, self._regions, pointer, offset, size), index, state, *names)
        if isinstance(pointer, Stack):
            self._align(state, index, pointer, offset, size, instruction.dst)
            if not isinstance(value, Number) and size != _SLOT:
                self._fail("pointer-leak", index, state, f"a part of {value} is stored", "store all 8 bytes", *names)
            if isinstance(value, Stack) and pointer.frame != len(state.frames) - 1:
                self._fail(
                    "pointer-leak", index, state, f"{value} is stored in the caller's frame", "return a number", *names
                )
            if size != _SLOT:
                self._require(whole_pointers(state, pointer, offset, size), index, state, instruction.dst)
            if isinstance(value, Number) and size != _SLOT:
                value = Number(truncate(value.scalar, size))
            elif isinstance(value, Number) and instruction.opcode & isa.CLASS_MASK == isa.STX:
                value = self._tied(state, instruction.src, value)
            state.write_stack(pointer.frame, pointer.offset + offset, size, value)
        elif not isinstance(value, Number):
            self._fail(
                "pointer-leak",
                index,
                state,
                f"{value} would be stored where others can read it",
                "store the number that you need instead of the pointer",
                *names,
            )

    def _atomic(self, state: State, index: int, instruction: Instruction) -> None:
        size = isa.SIZES[instruction.opcode & isa.SIZE_MASK]
        pointer, offset, operation = state.registers[instruction.dst], instruction.offset, instruction.imm
        operand = self._set(state, index, instruction.src)
        operands = [operand]
        if operation == isa.CMPXCHG:
            operands.append(self._set(state, index, 0))
        if not all(isinstance(value, Number) for value in operands):
            self._fail("pointer-leak", index, state, "a pointer in an atomic operation", "use numbers", instruction.src)
        self._require(writable(state, self._regions, pointer, offset, size), index, state, instruction.dst)
        self._require(readable(state, self._regions, pointer, offset, size), index, state, instruction.dst)
        position = pointer.offset if isinstance(pointer, Stack) else getattr(pointer, "offset", None)
        constant = position if isinstance(position, int) else getattr(position, "smin", 0)
        if (constant + offset) % size or (isinstance(position, Scalar) and not position.is_constant):
            self._fail(
                "unaligned",
                index,
                state,
                f"an atomic operation on {size} bytes that may not lie on a multiple of {size}",
                "align the member to its size",
                instruction.dst,
            )
        if isinstance(pointer, Stack):
            before = state.read_stack(pointer.frame, pointer.offset + offset, size)
            if not isinstance(before, Number):
                self._fail(
                    "pointer-leak", index, state, "an atomic operation on a pointer", "use numbers", instruction.dst
                )
            state.write_stack(pointer.frame, pointer.offset + offset, size, None)
        if operation & isa.FETCH:
            state.registers[0 if operation == isa.CMPXCHG else instruction.src] = Number(Scalar.of_width(size))

    # ---- branches

    def _jump(self, state: State, index: int, instruction: Instruction) -> Iterator[tuple[int, State]]:
        target = cfg.jump_target(index, instruction)
        operation = instruction.opcode & isa.OPERATION_MASK
        if operation == isa.JA:
            yield target, state
            return
        left = self._set(state, index, instruction.dst)
        by_register = bool(instruction.opcode & isa.X)
        right: Value = Number(Scalar.constant(instruction.imm))
        if by_register:
            right = self._set(state, index, instruction.src)
        wide = instruction.opcode & isa.CLASS_MASK == isa.JMP
        for taken, branch in self._sides(state, index, instruction, operation, wide, left, right):
            before = branch.way
            branch.way = Step(index, taken, before, before.length + 1 if before else 1)
            yield (target if taken else index + 1), branch

    def _sides(
        self,
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
            self._fail(
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

    # ---- calls

    def _call_runtime(self, state: State, index: int, name: str) -> None:
        function = RUNTIME_FUNCTIONS[name]
        for register, kind in enumerate(function.arguments, start=1):
            value = self._set(state, index, register)
            if kind is Kind.CONTEXT and not isinstance(value, Context):
                self._fail(
                    "bad-argument", index, state, f"{name} takes the context, not {value}", "pass ctx to it", register
                )
        self._lose_arguments(state, index)
        state.registers[0] = _UNKNOWN

    def _call_helper(self, state: State, index: int, helper: Helper) -> None:
        call = _Call(self, state, index, helper)
        call.check()
        state.registers[0] = call.result()
        self._lose_arguments(state, index)

    def _lose_arguments(self, state: State, index: int) -> None:
        lost = Unset(f"lost in the call at instruction {index}", index)
        state.registers[1:6] = [lost] * 5

    # ---- small things

    def _fresh(self) -> int:
        """An identity that was never given before."""
        self._last_id += 1
        return self._last_id

    def identity(self, state: State, index: int) -> int:
        """The identity of what the instruction makes. It is the same on every way with the same calls, none of which
        comes here twice: so states in which the same records or locks are held can be joined."""
        key = (index, *(frame.returns_to for frame in state.frames[1:]))
        if key not in self._identities:
            self._identities[key] = self._fresh()
            self.tracking.origins[self._identities[key]] = index
        return self._identities[key]

    @property
    def regions(self) -> Regions:
        return self._regions

    def _set(self, state: State, index: int, register: int) -> Value:
        """What a register holds, which must be something."""
        value = state.registers[register]
        if isinstance(value, Unset):
            self._report(not_memory(value), index, state, register)
        return value

    def _align(self, state: State, index: int, pointer: Stack, offset: int, size: int, register: int) -> None:
        """Notes how deep the stack is used, and that accesses to it are aligned, as the kernel wants them."""
        at = pointer.offset + offset
        self.touch(state, pointer, offset)
        if at % size:
            self._fail(
                "unaligned", index, state, f"{size} bytes at stack{at:+d}", f"align it to {size} bytes", register
            )

    def touch(self, state: State, pointer: Stack, offset: int) -> None:
        """Note how deep the stack of the function that owns the frame is used."""
        function = state.frames[pointer.frame].function
        depths = self.tracking.depths
        depths[function] = max(depths.get(function, 0), -(pointer.offset + offset))

    def _too_deep(self, index: int, state: State) -> NoReturn:
        self._fail(
            "call-depth",
            index,
            state,
            f"{self._limits.frames + 1} functions deep, limit {self._limits.frames}",
            "inline a function: static __always_inline",
        )

    def _require(self, fault: Fault | None, index: int, state: State, *registers: int) -> None:
        if fault is not None:
            self._report(fault, index, state, *registers)

    def _report(self, fault: Fault, index: int, state: State, *registers: int) -> NoReturn:
        raise Found(fault, index, state, registers)

    def _fail(self, code: str, index: int, state: State, why: str, mend: str, *registers: int) -> NoReturn:
        raise Found(Fault(code, why, mend), index, state, registers)


class _Call:
    """One call of a helper: its arguments against its prototype, then what it leaves."""

    def __init__(self, walker: _Walker, state: State, index: int, helper: Helper) -> None:
        self._walker, self._state, self._index, self._helper = walker, state, index, helper
        self._map: MapSpec | None = None
        self._released: int | None = None
        self._size = 0

    def check(self) -> None:
        """Raises Found."""
        name = self._helper.name
        if self._state.lock is not None and name != "bpf_spin_unlock":
            self._fail("lock", f"{name} is called while a spin lock is held", "unlock first")
        arguments = self._helper.arguments
        for register, kind in enumerate(arguments, start=1):
            if kind in (Argument.SIZE, Argument.SIZE_OR_ZERO):
                continue
            behind = arguments[register] if register < len(arguments) else None
            size = register + 1 if behind in (Argument.SIZE, Argument.SIZE_OR_ZERO) else None
            self._argument(register, kind, size)

    def result(self) -> Value:
        """What R0 holds afterwards."""
        if self._released is not None:
            released, gone = self._released, Unset("a ring-buffer record that was released")
            self._state.records -= {released}
            self._state.replace(lambda value: gone if isinstance(value, Record) and value.id == released else value)
        match self._helper.returns:
            case Result.VALUE_OR_NULL:
                assert self._map is not None
                return MapValueOrNull(self._map.name, self._walker.identity(self._state, self._index))
            case Result.RECORD_OR_NULL:
                record = RecordOrNull(self._size, self._walker.identity(self._state, self._index))
                self._state.records |= {record.id}
                return record
            case Result.NUMBER:
                return _UNKNOWN
            case Result.NOTHING:
                return Unset(f"{self._helper.name} returns nothing")

    def _argument(self, register: int, kind: Argument, size_register: int | None) -> None:
        value = self._state.registers[register]
        if isinstance(value, Unset):
            self._report(not_memory(value), register)
        match kind:
            case Argument.MAP:
                self._take_map(register, value)
            case Argument.KEY:
                assert self._map is not None
                self._memory(register, value, self._map.key_size)
            case Argument.VALUE:
                assert self._map is not None
                self._memory(register, value, self._map.value_size)
            case Argument.MEMORY | Argument.MEMORY_OR_NULL | Argument.BUFFER:
                assert size_register is not None
                self._sized(register, kind, value, size_register)
            case Argument.CONSTANT_SIZE:
                if not isinstance(value, Number) or not value.scalar.is_constant:
                    self._wrong(register, "a constant size", value)
                if value.scalar.umax >= _FARTHEST_OFFSET:
                    self._wrong(register, f"a size below {_FARTHEST_OFFSET}", value)
                self._size = value.scalar.constant_value
            case Argument.CONTEXT if not isinstance(value, Context):
                self._wrong(register, "the context", value)
            case Argument.RECORD:
                if not isinstance(value, Record) or value.offset != Scalar.constant(0):
                    if isinstance(value, RecordOrNull):
                        self._report(not_memory(value), register)
                    self._wrong(register, "the beginning of a ring-buffer record", value)
                self._released = value.id
            case Argument.LOCK:
                self._lock(register, value)
            case Argument.NUMBER if not isinstance(value, Number):
                self._wrong(register, "a number", value)
            case _:
                pass

    def _take_map(self, register: int, value: Value) -> None:
        if not isinstance(value, MapPointer):
            self._wrong(register, "a map", value)
        self._map = self._walker.regions.specs[value.name]
        if self._map.type not in _MAPS_OF_HELPERS.get(self._helper.name, _ELEMENTS):
            what = self._map.type.name.lower()
            self._fail(
                "bad-argument",
                f"{self._helper.name} does not work on a map of type {what}",
                "use another map",
                register,
            )
        if self._map.flags & RDONLY_PROG and self._helper.name != "bpf_map_lookup_elem":
            self._fail(
                "bad-argument",
                f"{self._helper.name} changes {value.name}, which is declared read-only for programs",
                "declare it without BPF_F_RDONLY_PROG",
                register,
            )

    def _sized(self, register: int, kind: Argument, value: Value, size_register: int) -> None:
        size = self._state.registers[size_register]
        if isinstance(size, Unset):
            self._report(not_memory(size), size_register)
        if not isinstance(size, Number):
            self._wrong(size_register, "a size", size)
        optional = self._helper.arguments[size_register - 1] is Argument.SIZE_OR_ZERO
        scalar = size.scalar
        if scalar.smin < 0 or scalar.umax >= _FARTHEST_OFFSET or (scalar.umin == 0 and not optional):
            least = 0 if optional else 1
            self._fail(
                "bad-argument",
                f"the size is {scalar}: {self._helper.name} takes {least} or more, with a known bound",
                "compare it with its limits first",
                size_register,
            )
        null = isinstance(value, Number) and value.scalar == Scalar.constant(0)
        if null and kind is Argument.MEMORY_OR_NULL and scalar.umax == 0:
            return
        self._memory(register, value, scalar.umax, written=kind is Argument.BUFFER, constant=scalar.is_constant)

    def _memory(self, register: int, value: Value, size: int, *, written: bool = False, constant: bool = True) -> None:
        """`size` bytes at `value`, or fewer unless that is `constant`, are read by the helper, or with `written`
        written."""
        state, walker = self._state, self._walker
        if isinstance(value, Packet) and not written and self._helper.name not in _TAKE_PACKETS:
            self._fail("bad-argument", f"{self._helper.name} takes no packet memory", "copy it first", register)
        # A buffer of unknown size may stay as it was in part, so it must hold something before.
        if written:
            self._require(writable(state, walker.regions, value, 0, size), register)
        if not written or not constant:
            self._require(readable(state, walker.regions, value, 0, size), register)
        if isinstance(value, Stack):
            self._require(whole_pointers(state, value, 0, size), register)
            walker.touch(state, value, 0)
            if written:
                state.write_stack(value.frame, value.offset, size, None)

    def _lock(self, register: int, value: Value) -> None:
        state = self._state
        if isinstance(value, MapValueOrNull):
            self._report(not_memory(value), register)
        if not isinstance(value, MapValue) or not value.offset.is_constant:
            self._wrong(register, "a spin lock in a map value", value)
        if self._walker.regions.locks.get(value.name) != value.offset.smin:
            self._wrong(register, "the place of the spin lock in the map value", value)
        if self._helper.name == "bpf_spin_lock":
            if value.id == 0:
                self._fail("lock", "a spin lock in a data section", "put it into a map value", register)
            state.lock = value.id
        elif state.lock != value.id:
            what = "no spin lock is held" if state.lock is None else "another spin lock is held"
            self._fail("lock", what, "unlock the one that you locked", register)
        else:
            state.lock = None

    def _wrong(self, register: int, wanted: str, value: Value) -> NoReturn:
        self._fail(
            "bad-argument",
            f"argument {register} of {self._helper.name} is {wanted}, not {value}",
            f"pass {wanted}",
            register,
        )

    def _require(self, fault: Fault | None, *registers: int) -> None:
        if fault is not None:
            self._report(fault, *registers)

    def _report(self, fault: Fault, *registers: int) -> NoReturn:
        raise Found(fault, self._index, self._state, registers)

    def _fail(self, code: str, why: str, mend: str, *registers: int) -> NoReturn:
        raise Found(Fault(code, why, mend), self._index, self._state, registers)


def _compute(operation: int, wide: bool, left: Scalar, right: Scalar) -> Scalar:
    """The result of an ALU instruction, as far as the kernel knows it (is_safe_to_compute_dst_reg_range, 6.18).

    What it does not compute it knows nothing of, not even that the high half of a 32-bit result is zero.
    """
    match operation:
        case isa.END | isa.DIV | isa.MOD | isa.NEG:
            return Scalar.unknown()
        case isa.LSH | isa.RSH | isa.ARSH if not right.is_constant or right.umax > (63 if wide else 31):
            return Scalar.unknown()
        case isa.AND | isa.OR | isa.XOR:
            result = alu(operation, wide, left, right)
            low, high, least = (result.smin, result.smax, S64_MIN) if wide else (result.s32min, result.s32max, S32_MIN)
            # Of a result that may have either sign the kernel keeps no signed bounds (scalar_min_max_and, 6.18).
            if least < low < 0 <= high:
                return Scalar.unknown() if wide else Scalar.of_width(4)
            return result
        case _:
            return alu(operation, wide, left, right)


def _sign_extended(scalar: Scalar, bits: int, wide: bool) -> Scalar:
    """The lowest `bits` as a signed number, as far as the kernel knows it (coerce_reg_to_size_sx, 6.18)."""
    result = sign_extend(scalar, bits, wide)
    if scalar.is_constant:
        return result
    before = (scalar.smin, scalar.smax) if wide else (scalar.s32min, scalar.s32max)
    low, high = (result.smin, result.smax) if wide else (result.s32min, result.s32max)
    if before[0] >> bits != before[1] >> bits or low < 0 <= high:
        return sign_extend(Scalar.unknown(), bits, wide)
    mask = M64 if wide else M32
    return Scalar.between(low & mask, high & mask)


def _is_near(pointer: Value) -> bool:
    """Whether a pointer stays within the distance that the kernel lets any have from where its memory begins."""
    match pointer:
        case Packet() | Stack():
            return -_FARTHEST_OFFSET < pointer.offset < _FARTHEST_OFFSET
        case MapValue() | Record():
            return pointer.offset.smin > -_FARTHEST_OFFSET and pointer.offset.smax < _FARTHEST_OFFSET
        case _:
            return True


def _packet_length(left: Value, right: Value) -> bool:
    """Whether one is subtracted from the other to get a length."""
    return isinstance(left, Packet | PacketEnd) and isinstance(right, Packet | PacketEnd)


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
