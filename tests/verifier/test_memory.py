from __future__ import annotations

import pytest

from tests.verifier.assembly import assemble
from verifier.limits import DEFAULT
from verifier.memory import Regions, readable, stack_bounds, writable
from verifier.scalar import Scalar
from verifier.state import Place, State
from verifier.values import (
    CONTEXT,
    PACKET_END,
    MapPointer,
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

PROGRAM, _ = assemble("r0 = 0; exit")
MAPS = Regions.of(PROGRAM.maps, PROGRAM.btf)


def at(offset: int) -> Scalar:
    return Scalar.constant(offset)


def state() -> State:
    """14 bytes of the packet are proved, 4 at a place up to 60 behind; the lowest slot but one of the stack is set."""
    made = State.at_entry()
    made.places = {0: Place(at(0), 14), 1: Place(Scalar.between(0, 60), 4)}
    made.write_stack(0, -8, 8, Number(at(1)))
    return made


# name → pointer, offset, size, and what reading and writing answer (None: allowed)
ACCESSES: dict[str, tuple[Value, int, int, str | None, str | None]] = {
    "packet": (Packet(0, 10), 0, 4, None, "packet-write"),
    "packet-up-to-the-end": (Packet(0, 14), -14, 14, None, "packet-write"),
    "packet-behind": (Packet(0, 10), 1, 4, "packet-bounds", "packet-write"),
    "packet-before": (Packet(0, 10), -11, 1, "packet-bounds", "packet-write"),
    "packet-nothing-at-the-end": (Packet(0, 14), 0, 0, None, "packet-write"),
    "packet-variable": (Packet(1, 0), 0, 4, None, "packet-write"),
    "packet-variable-behind": (Packet(1, 0), 0, 5, "packet-bounds", "packet-write"),
    "packet-variable-before": (Packet(1, 0), -1, 1, "packet-bounds", "packet-write"),
    "packet-end": (PACKET_END, 0, 1, "packet-bounds", "packet-write"),
    "stack": (Stack(0, -8), 0, 8, None, None),
    "stack-never-written": (Stack(0, -16), 0, 8, "uninitialised", None),
    "stack-partly-written": (Stack(0, -9), 0, 2, "uninitialised", None),
    "stack-top": (Stack(0, 0), -1, 2, "stack-bounds", "stack-bounds"),
    "stack-bottom": (Stack(0, 0), -DEFAULT.stack - 1, 1, "stack-bounds", "stack-bounds"),
    "value": (MapValue("array", at(12)), 0, 4, None, None),
    "value-behind": (MapValue("array", at(12)), 1, 4, "map-bounds", "map-bounds"),
    "value-before": (MapValue("array", at(0)), -1, 1, "map-bounds", "map-bounds"),
    "value-variable": (MapValue("array", Scalar.between(0, 12)), 0, 4, None, None),
    "value-variable-behind": (MapValue("array", Scalar.between(0, 13)), 0, 4, "map-bounds", "map-bounds"),
    "value-anywhere": (MapValue("array", Scalar.unknown()), 0, 1, "map-bounds", "map-bounds"),
    "value-negative": (MapValue("array", at(-4)), 4, 4, None, None),
    "before-the-lock": (MapValue("locked", at(0)), 0, 4, None, None),
    "behind-the-lock": (MapValue("locked", at(8)), 0, 8, None, None),
    "lock": (MapValue("locked", at(4)), 0, 1, "lock", "lock"),
    "lock-maybe": (MapValue("locked", Scalar.between(0, 12)), 0, 1, "lock", "lock"),
    "constant": (MapValue(".rodata", at(0)), 0, 8, None, "read-only-data"),
    "data": (MapValue(".data", at(0)), 0, 8, None, None),
    "read-only-map": (MapValue("constant", at(0)), 0, 8, None, "read-only-data"),
    "record": (Record(16, at(8), 1), 0, 8, None, None),
    "record-behind": (Record(16, at(8), 1), 1, 8, "bad-record", "bad-record"),
    "record-before": (Record(16, at(0), 1), -1, 1, "bad-record", "bad-record"),
    "context": (CONTEXT, 0, 4, "bad-argument", "context-write"),
    "map": (MapPointer("array"), 0, 4, "bad-argument", "bad-argument"),
    "number": (Number(at(64)), 0, 1, "not-a-pointer", "not-a-pointer"),
    "unset": (Unset(), 0, 1, "uninitialised", "uninitialised"),
    "value-or-null": (MapValueOrNull("array", 1), 0, 1, "maybe-null", "maybe-null"),
    "record-or-null": (RecordOrNull(16, 1), 0, 1, "maybe-null", "maybe-null"),
}


@pytest.mark.parametrize(("pointer", "offset", "size", "reading", "writing"), ACCESSES.values(), ids=list(ACCESSES))
def test_access(pointer: Value, offset: int, size: int, reading: str | None, writing: str | None) -> None:
    for check, expected in ((readable, reading), (writable, writing)):
        fault = check(state(), MAPS, pointer, offset, size)
        assert (fault.code if fault else None) == expected


def test_fault_names_the_bytes_that_were_never_written() -> None:
    fault = readable(state(), MAPS, Stack(0, -16), 0, 16)
    assert fault is not None
    assert fault.why.startswith("bytes -16 to -9 of the stack")


def test_fault_says_what_is_read_and_what_is_proved() -> None:
    fault = readable(state(), MAPS, Packet(0, 14), 0, 20)
    assert fault is not None
    assert "bytes 14 to 33" in fault.why
    assert "14 bytes" in fault.why


def test_locks_are_found_where_the_type_says() -> None:
    assert MAPS.locks == {"locked": 4}


def test_a_frame_has_its_own_limit() -> None:
    assert stack_bounds(MAPS, -DEFAULT.stack, DEFAULT.stack) is None
