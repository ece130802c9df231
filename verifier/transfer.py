"""What one instruction does to a state: arithmetic, moves, loads, stores and atomic operations.

What is accepted here the kernel accepts too. So nothing is tracked better than the kernel does; where it does less than
would be possible, a comment says so.
"""

from __future__ import annotations

from typing import Final

from verifier import isa
from verifier.arithmetic import alu, sign_extend, truncate
from verifier.call import call_helper
from verifier.findings import Found, Tracking, fail, report, require, value_in
from verifier.helpers import HELPERS
from verifier.isa import Instruction
from verifier.limits import FARTHEST_OFFSET
from verifier.memory import Fault, Regions, not_memory, readable, writable
from verifier.program import Program, Reference, ReferenceKind
from verifier.scalar import M32, S32_MIN, S64_MIN, Scalar
from verifier.state import SLOT, Place, State
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

_CONTEXT: Final = {0: "data", 4: "data_end", 12: "ingress_ifindex", 16: "rx_queue_index"}
_UNKNOWN: Final = Number(Scalar.unknown())


class Transfer:
    """What the instructions of one program do. `tracking` notes how deep the stack is used, and gives identities."""

    def __init__(self, program: Program, regions: Regions, tracking: Tracking) -> None:
        self._program, self._regions = program, regions
        self._tracking, self._identities = tracking, tracking.identities
        self._references: dict[int, Reference] = {item.instruction: item for item in program.references}

    def apply(self, state: State, index: int, instruction: Instruction) -> None:
        """Change `state` as the instruction at `index` does, which is no jump, no exit and no call of a function.
        Raises Found."""
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
                call_helper(self._regions, self._tracking, state, index, HELPERS[instruction.imm])

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
            source = value_in(instruction.src, index, state)
        if operation == isa.MOV:
            registers[instruction.dst] = self._move(state, index, instruction, source, wide)
            return
        target = value_in(instruction.dst, index, state)
        if isinstance(target, Number) and isinstance(source, Number):
            registers[instruction.dst] = Number(_compute(operation, wide, target.scalar, source.scalar))
            return
        if operation == isa.SUB and _packet_length(target, source):
            registers[instruction.dst] = _UNKNOWN
            return
        names = (instruction.dst, instruction.src) if by_register else (instruction.dst,)
        if not wide or operation not in (isa.ADD, isa.SUB):
            fail(
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
            fail(
                "pointer-arithmetic",
                index,
                state,
                f"{target} and {source} are both pointers, or a pointer is subtracted from a number",
                "add a number to the pointer instead",
                *names,
            )
        moved = self._advance(state, index, target, source.scalar, operation == isa.SUB, names)
        if not _is_near(moved):
            fail(
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
            fail(
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
        tied = Number(number.scalar, self._identities.fresh())
        state.registers[register] = tied
        return tied

    def _advance(
        self, state: State, index: int, pointer: Value, by: Scalar, backward: bool, names: tuple[int, ...]
    ) -> Value:
        """`pointer` plus a number, or less it."""
        if backward and isinstance(pointer, Stack):
            why, mend = "a number is subtracted from a stack pointer", "add a negative constant instead"
            fail("pointer-arithmetic", index, state, why, mend, *names)
        if backward:
            by = alu(isa.SUB, True, Scalar.constant(0), by)
        if isinstance(pointer, Packet | MapValue | Record | Stack) and not (
            by.smin > -FARTHEST_OFFSET and by.smax < FARTHEST_OFFSET
        ):
            fail(
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
                    fail(
                        "pointer-arithmetic",
                        index,
                        state,
                        f"{by} is added to a packet pointer: it may be negative",
                        "make it unsigned, or return when it is negative",
                        *names,
                    )
                # The kernel, too, asks for a new check behind a variable step.
                place = state.places[pointer.base]
                base = self._identities.fresh()
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
                report(not_memory(pointer), index, state, *names)
        raise Found(Fault("pointer-arithmetic", why, mend), index, state, names)

    def _load(self, state: State, index: int, instruction: Instruction) -> None:
        size = isa.SIZES[instruction.opcode & isa.SIZE_MASK]
        pointer, offset = state.registers[instruction.src], instruction.offset
        extended = instruction.opcode & isa.MODE_MASK == isa.MEMSX
        if isinstance(pointer, Context):
            state.registers[instruction.dst] = self._load_context(state, index, instruction, size, extended)
            return
        require(readable(state, self._regions, pointer, offset, size), index, state, instruction.src)
        value: Value = Number(Scalar.of_width(size))
        if isinstance(pointer, Stack):
            self._align(state, index, pointer, offset, size, instruction.src)
            value = state.read_stack(pointer.frame, pointer.offset + offset, size) or value
            if isinstance(value, Unset):
                report(not_memory(value), index, state, instruction.src)
            if isinstance(value, Number) and value.id == 0 and size == SLOT and not value.scalar.is_constant:
                value = Number(value.scalar, self._identities.fresh())
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
            fail(
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
                base = -self._identities.fresh()
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
            value = value_in(instruction.src, index, state)
        require(writable(state, self._regions, pointer, offset, size), index, state, *names)
        if isinstance(pointer, Stack):
            self._align(state, index, pointer, offset, size, instruction.dst)
            if not isinstance(value, Number) and size != SLOT:
                fail("pointer-leak", index, state, f"a part of {value} is stored", "store all 8 bytes", *names)
            if isinstance(value, Stack) and pointer.frame != len(state.frames) - 1:
                fail(
                    "pointer-leak", index, state, f"{value} is stored in the caller's frame", "return a number", *names
                )
            if isinstance(value, Number) and size != SLOT:
                value = Number(truncate(value.scalar, size))
            elif isinstance(value, Number) and instruction.opcode & isa.CLASS_MASK == isa.STX:
                value = self._tied(state, instruction.src, value)
            state.write_stack(pointer.frame, pointer.offset + offset, size, value)
        elif not isinstance(value, Number):
            fail(
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
        operand = value_in(instruction.src, index, state)
        operands = [operand]
        if operation == isa.CMPXCHG:
            operands.append(value_in(0, index, state))
        if not all(isinstance(value, Number) for value in operands):
            fail("pointer-leak", index, state, "a pointer in an atomic operation", "use numbers", instruction.src)
        require(writable(state, self._regions, pointer, offset, size), index, state, instruction.dst)
        require(readable(state, self._regions, pointer, offset, size), index, state, instruction.dst)
        position = pointer.offset if isinstance(pointer, Stack) else getattr(pointer, "offset", None)
        constant = position if isinstance(position, int) else getattr(position, "smin", 0)
        if (constant + offset) % size or (isinstance(position, Scalar) and not position.is_constant):
            fail(
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
                fail("pointer-leak", index, state, "an atomic operation on a pointer", "use numbers", instruction.dst)
            state.write_stack(pointer.frame, pointer.offset + offset, size, None)
        if operation & isa.FETCH:
            state.registers[0 if operation == isa.CMPXCHG else instruction.src] = Number(Scalar.of_width(size))

    def _align(self, state: State, index: int, pointer: Stack, offset: int, size: int, register: int) -> None:
        """Notes how deep the stack is used, and that accesses to it are aligned, as the kernel wants them."""
        at = pointer.offset + offset
        self._tracking.touch(state, pointer, offset)
        if at % size:
            fail("unaligned", index, state, f"{size} bytes at stack{at:+d}", f"align it to {size} bytes", register)


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
            return -FARTHEST_OFFSET < pointer.offset < FARTHEST_OFFSET
        case MapValue() | Record():
            return pointer.offset.smin > -FARTHEST_OFFSET and pointer.offset.smax < FARTHEST_OFFSET
        case _:
            return True


def _packet_length(left: Value, right: Value) -> bool:
    """Whether one is subtracted from the other to get a length."""
    return isinstance(left, Packet | PacketEnd) and isinstance(right, Packet | PacketEnd)
