"""`State`: everything the checker knows at one point of one way through the program."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from verifier.scalar import Scalar
from verifier.values import (
    CONTEXT,
    UNSET,
    MapValue,
    MapValueOrNull,
    Number,
    Packet,
    Record,
    RecordOrNull,
    Stack,
    Unset,
    Value,
)

SLOT: Final = 8
"""Bytes of a stack slot: the size of a register."""
FARTHEST: Final = 0xFFFF
"""MAX_PACKET_OFF (kernel/bpf/verifier.c): a place farther in than this proves nothing about the packet."""


class Step(NamedTuple):
    """A branch on the way here: the instruction, whether it was taken, and the way before it."""

    instruction: int
    taken: bool
    before: Step | None
    length: int


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the packet: `distance` bytes behind the first one, and `safe` bytes from it on are in the packet.
    `proof` is the branch that proved the latter, for explanations only."""

    distance: Scalar
    safe: int
    proof: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Slot:
    """Eight bytes of stack: bit i of `written` says that byte i holds something, bit i of `zero` that it is zero.
    `value` is what one store of `size` bytes at the slot's beginning left there, None otherwise."""

    written: int
    zero: int = 0
    value: Value | None = None
    size: int = SLOT


_EMPTY: Final = Slot(0)


@dataclass(slots=True)
class Frame:
    """The registers and the stack of one function's run. `stack` is keyed by the slot's offset: -8, -16, …"""

    registers: list[Value]
    stack: dict[int, Slot] = field(default_factory=dict)
    function: int = 0
    returns_to: int = 0

    def copy(self) -> Frame:
        return Frame(list(self.registers), dict(self.stack), self.function, self.returns_to)


@dataclass(slots=True)
class State:
    """One way's knowledge. `frames` ends with the function that runs. `records` are the ids of ring-buffer records that
    must still be released, `lock` is the id of the map value whose spin lock is held. `ways` counts those that this
    state stands for since states were joined."""

    frames: list[Frame]
    places: dict[int, Place]
    records: frozenset[int] = frozenset()
    lock: int | None = None
    way: Step | None = None
    ways: int = 1

    @staticmethod
    def at_entry() -> State:
        """The state in which a program starts: R1 is the context, R10 the frame."""
        registers: list[Value] = [UNSET] * 11
        registers[1] = CONTEXT
        registers[10] = Stack(0, 0)
        return State([Frame(registers)], {0: Place(Scalar.constant(0), 0)})

    def copy(self) -> State:
        """An independent copy."""
        frames = [frame.copy() for frame in self.frames]
        return State(frames, dict(self.places), self.records, self.lock, self.way, self.ways)

    @property
    def frame(self) -> Frame:
        return self.frames[-1]

    @property
    def registers(self) -> list[Value]:
        return self.frames[-1].registers

    def values(self) -> Iterator[Value]:
        """Every value that is held anywhere."""
        for frame in self.frames:
            yield from frame.registers
            for slot in frame.stack.values():
                if slot.value is not None:
                    yield slot.value

    def replace(self, change: Callable[[Value], Value]) -> None:
        """Put `change(value)` in the place of every value that is held anywhere."""
        for frame in self.frames:
            frame.registers = [change(value) for value in frame.registers]
            for offset, slot in frame.stack.items():
                if slot.value is not None:
                    changed = change(slot.value)
                    if changed is not slot.value:
                        frame.stack[offset] = Slot(slot.written, slot.zero, changed, slot.size)

    def learn_number(self, known: Number, scalar: Scalar) -> None:
        """`known` has turned out to be `scalar`, and so have its copies."""
        if known.id == 0 or scalar == known.scalar:
            return
        learnt = Number(scalar, known.id)
        self.replace(lambda value: learnt if isinstance(value, Number) and value.id == known.id else value)

    def learn_null(self, known: MapValueOrNull | RecordOrNull, is_null: bool) -> None:
        """`known` has been compared with null; what holds for it holds for its copies."""
        zero = Number(Scalar.constant(0))
        if isinstance(known, RecordOrNull):
            found: Value = zero if is_null else Record(known.size, Scalar.constant(0), known.id)
            if is_null:
                self.records -= {known.id}
        else:
            found = zero if is_null else MapValue(known.name, Scalar.constant(0), known.id)
        self.replace(lambda value: found if value == known else value)

    def learn_safe(self, pointer: Packet, beyond: int, proof: int | None = None) -> None:
        """A comparison, at the instruction `proof`, has shown that the packet reaches to `beyond` bytes behind
        `pointer`'s place."""
        place = self.places[pointer.base]
        if place.distance.umax + max(pointer.offset, 0) > FARTHEST or beyond > FARTHEST:
            return
        # What holds at the packet's start holds for every pointer to it, however often it was loaded until now.
        bases = [base for base in self.places if base <= 0] if pointer.base <= 0 else [pointer.base]
        for base in bases:
            if beyond > self.places[base].safe:
                self.places[base] = Place(place.distance, beyond, proof)

    def forget_places(self) -> None:
        """Drop the places that nothing points behind any more."""
        used = {value.base for value in self.values() if isinstance(value, Packet)} | {0}
        for base in self.places.keys() - used:
            del self.places[base]

    def forget(self, dead: int) -> None:
        """Drop the registers of the bit mask `dead`, which nothing reads before writing them."""
        registers = self.registers
        for number in range(10):
            if dead >> number & 1 and not isinstance(registers[number], Unset):
                registers[number] = UNSET

    def lose_arguments(self, index: int) -> None:
        """The call at the instruction `index` is over, and what R1 … R5 held is lost."""
        lost = Unset(f"lost in the call at instruction {index}", index)
        self.registers[1:6] = [lost] * 5

    # ---- the stack

    def write_stack(self, frame: int, offset: int, size: int, value: Value | None) -> None:
        """`size` bytes at `offset` of a frame now hold `value` (None: something unknown)."""
        stack = self.frames[frame].stack
        at = offset
        while at < offset + size:
            start = at - at % SLOT
            part = min(start + SLOT, offset + size) - at
            bits = ((1 << part) - 1) << (at - start)
            old = stack.get(start, _EMPTY)
            if old.value is not None and not isinstance(old.value, Number):
                old = _EMPTY  # what is left of a pointer is not for reading
            whole = at == start and part == size and value is not None
            is_zero = isinstance(value, Number) and value.scalar.is_constant and value.scalar.constant_value == 0
            zero = (old.zero | bits) if is_zero else (old.zero & ~bits)
            stack[start] = Slot(old.written | bits, zero, value if whole else None, size if whole else SLOT)
            at += part

    def read_stack(self, frame: int, offset: int, size: int) -> Value | None:
        """What `size` bytes at `offset` of a frame hold; None if some of them were never written.

        A part of a pointer reads as Unset.
        """
        stack = self.frames[frame].stack
        start = offset - offset % SLOT
        slot = stack.get(start, _EMPTY)
        if offset == start and slot.value is not None and slot.size == size:
            return slot.value
        zero = True
        for at in range(offset, offset + size):
            here = stack.get(at - at % SLOT, _EMPTY)
            bit = 1 << at % SLOT
            if not here.written & bit:
                return None
            if here.value is not None and not isinstance(here.value, Number) and at % SLOT < here.size:
                return Unset("a part of a pointer")
            zero = zero and bool(here.zero & bit)
        return Number(Scalar.constant(0) if zero else Scalar.of_width(size))

    def pointer_in(self, frame: int, offset: int, size: int) -> Value | None:
        """A pointer that a slot with one of these bytes holds, or may hold; None if there is none."""
        stack = self.frames[frame].stack
        for start in range(offset - offset % SLOT, offset + size, SLOT):
            value = stack.get(start, _EMPTY).value
            if value is not None and not isinstance(value, Number):
                return value
        return None

    def unwritten(self, frame: int, offset: int, size: int) -> list[int]:
        """The offsets of the bytes among these that were never written."""
        stack = self.frames[frame].stack
        return [
            at for at in range(offset, offset + size) if not stack.get(at - at % SLOT, _EMPTY).written >> at % SLOT & 1
        ]
