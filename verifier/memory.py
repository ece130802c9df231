"""Which bytes a pointer may touch: the rules of every kind of memory, in one place.

A rule answers with None, or with what is wrong: a code, why, and how to mend it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from verifier.btf import Btf, Struct
from verifier.limits import DEFAULT
from verifier.program import MapSpec
from verifier.scalar import Scalar
from verifier.state import State
from verifier.values import (
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

RDONLY_PROG: Final = 0x80
"""BPF_F_RDONLY_PROG of <linux/bpf.h>: programs may not change the values of the map."""


class Fault(NamedTuple):
    """What is wrong: a code of verifier/codes.py, why, and how to mend it.

    `extent` has the first byte that is touched wrongly and the one behind the last, counted as `why` counts them.
    """

    code: str
    why: str
    mend: str
    extent: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Regions:
    """The memory that a program may touch beside the packet: its maps, where in their values a spin lock stands, and
    `stack` bytes of stack."""

    specs: dict[str, MapSpec]
    locks: dict[str, int]
    stack: int

    @staticmethod
    def of(specs: tuple[MapSpec, ...], btf: Btf | None, stack: int = DEFAULT.stack) -> Regions:
        """Reads the places of locks from BTF: a member of type `struct bpf_spin_lock`."""
        locks = {}
        for spec in specs:
            if btf is None or not spec.value_type or not isinstance(btf.resolved(spec.value_type), Struct):
                continue
            for member in btf.members(spec.value_type):
                kind = btf.resolved(member.type)
                if isinstance(kind, Struct) and kind.name == "bpf_spin_lock":
                    locks[spec.name] = member.offset
        return Regions({spec.name: spec for spec in specs}, locks, stack)


def readable(state: State, regions: Regions, pointer: Value, offset: int, size: int) -> Fault | None:
    """Whether `size` bytes at `pointer` + `offset` may be read."""
    match pointer:
        case Stack():
            return stack_bounds(regions, pointer.offset + offset, size) or _written(state, pointer, offset, size)
        case Packet():
            return _packet(state, pointer, offset, size)
        case MapValue():
            return _map_value(regions, pointer, offset, size)
        case Record():
            return _inside("record", "bad-record", pointer.offset, offset, size, pointer.size)
        case _:
            return not_memory(pointer)


def writable(state: State, regions: Regions, pointer: Value, offset: int, size: int) -> Fault | None:
    """Whether `size` bytes at `pointer` + `offset` may be written."""
    match pointer:
        case Packet() | PacketEnd():
            return Fault(
                "packet-write",
                "a filter program never writes the packet",
                "let the rule's actions change it, or keep what you need in a map",
            )
        case Context():
            return Fault("context-write", "a filter program never writes its context", "use a local variable")
        case Stack():
            return stack_bounds(regions, pointer.offset + offset, size)
        case MapValue() if regions.specs[pointer.name].flags & RDONLY_PROG:
            return Fault(
                "read-only-data",
                f"{pointer.name} holds constants, which nobody may write",
                "make the variable not const, so that it goes to .data or .bss",
            )
        case _:
            return readable(state, regions, pointer, offset, size)


def stack_bounds(regions: Regions, offset: int, size: int) -> Fault | None:
    """Whether `size` bytes at `offset` lie in a frame."""
    if -regions.stack <= offset < 0 and offset + size <= 0:
        return None
    if offset + size > 0:
        return Fault(
            "stack-bounds",
            f"{size} bytes at {offset} of the stack are above the frame, which ends with byte -1",
            "stay inside of the local variable: an index or a size goes beyond its end",
        )
    return Fault(
        "stack-bounds",
        f"{size} bytes at {offset} of the stack, a frame has bytes -{regions.stack} to -1",
        "make local variables smaller, or keep them in a per-CPU map",
    )


def whole_pointers(state: State, pointer: Stack, offset: int, size: int) -> Fault | None:
    """Whether `size` bytes at `pointer` + `offset` are no pointer's, so that they may be read or written one by one."""
    held = state.pointer_in(pointer.frame, pointer.offset + offset, size)
    if held is None:
        return None
    return Fault(
        "pointer-leak",
        f"bytes of a pointer that the stack holds are touched one by one: {held}",
        "keep pointers apart from what is copied or overwritten",
    )


def not_memory(pointer: Value) -> Fault:
    """Why there is nothing to read or write behind this value."""
    match pointer:
        case Unset():
            return Fault("uninitialised", f"the register was {pointer}", "give the variable a value on every way")
        case Number():
            return Fault("not-a-pointer", f"a {pointer} is used as a pointer", "use a pointer to the packet or a map")
        case MapValueOrNull() | RecordOrNull():
            return Fault("maybe-null", f"it may be null: {pointer}", "compare it with NULL first, and return if it is")
        case PacketEnd():
            return Fault("packet-bounds", "the packet ends there", "read before data_end, not behind it")
        case MapPointer():
            return Fault("bad-argument", f"{pointer} is not memory", "look an element up with bpf_map_lookup_elem")
        case _:
            return Fault("bad-argument", f"{pointer} is not memory", "copy what you need to a local variable")


def _packet(state: State, pointer: Packet, offset: int, size: int) -> Fault | None:
    first = pointer.offset + offset
    place = state.places[pointer.base]
    if first >= 0 and first + size <= place.safe:
        return None
    where = "the packet's start" if pointer.base <= 0 else "a place that varies"
    proved = f"the checks on this way prove {place.safe} bytes" if place.safe else "nothing on this way checks that"
    return Fault(
        "packet-bounds",
        f"bytes {first} to {first + size - 1} from {where} are read, {proved}",
        f"before the access, return unless pointer + {max(first + size, 0)} <= data_end",
        (first, first + size),
    )


def _map_value(regions: Regions, pointer: MapValue, offset: int, size: int) -> Fault | None:
    spec = regions.specs[pointer.name]
    fault = _inside(f"value of {pointer.name}", "map-bounds", pointer.offset, offset, size, spec.value_size)
    lock = regions.locks.get(pointer.name)
    if fault is None and lock is not None:
        low, high = pointer.offset.smin + offset, pointer.offset.smax + offset + size
        if low < lock + 4 and high > lock:
            return Fault("lock", f"bytes of the spin lock in {pointer.name}", "use bpf_spin_lock and bpf_spin_unlock")
    return fault


def _inside(what: str, code: str, position: Scalar, offset: int, size: int, limit: int) -> Fault | None:
    low, high = position.smin + offset, position.smax + offset + size
    if low >= 0 and high <= limit:
        return None
    if low < 0:
        why = f"byte {low} of the {what}: the offset may be negative"
    else:
        why = f"bytes up to {high - 1} of the {what} are touched, it has {limit}"
    return Fault(code, why, f"bound the index first, so that it stays within {limit} bytes", (low, high))


def _written(state: State, pointer: Stack, offset: int, size: int) -> Fault | None:
    missing = state.unwritten(pointer.frame, pointer.offset + offset, size)
    if not missing:
        return None
    names = f"{missing[0]}" if len(missing) == 1 else f"{missing[0]} to {missing[-1]}"
    return Fault(
        "uninitialised",
        f"bytes {names} of the stack were never written on this way",
        "initialise the whole variable, padding too, with __builtin_memset",
        (missing[0], missing[-1] + 1),
    )
