"""Calls of what is not in the program: the kernel's helpers, and the functions that the switch provides.

Their arguments are held against their prototypes (verifier/helpers.py, verifier/runtime.py).
"""

from __future__ import annotations

from typing import Final, NoReturn

from verifier.findings import Tracking, fail, report, require, value_in
from verifier.helpers import Argument, Helper, Result
from verifier.limits import FARTHEST_OFFSET
from verifier.memory import RDONLY_PROG, Fault, Regions, not_memory, readable, whole_pointers, writable
from verifier.program import MapSpec, MapType
from verifier.runtime import RUNTIME_FUNCTIONS, Kind
from verifier.scalar import Scalar
from verifier.state import State
from verifier.values import (
    Context,
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

_MAPS_OF_HELPERS: Final = {
    "bpf_ringbuf_output": frozenset({MapType.RINGBUF}),
    "bpf_ringbuf_reserve": frozenset({MapType.RINGBUF}),
}
_ELEMENTS: Final = frozenset(MapType) - {MapType.RINGBUF}
_TAKE_PACKETS: Final = frozenset({"bpf_map_lookup_elem", "bpf_map_update_elem", "bpf_map_delete_elem", "bpf_csum_diff"})
"""Helpers that the kernel gives packet memory (pkt_access in their prototypes, 6.18)."""


def call_helper(regions: Regions, tracking: Tracking, state: State, index: int, helper: Helper) -> None:
    """A helper, called by the instruction at `index`. Raises Found."""
    call = _Call(regions, tracking, state, index, helper)
    call.check()
    state.registers[0] = call.result()
    state.lose_arguments(index)


def call_runtime(state: State, index: int, name: str) -> None:
    """A function that the switch provides. Raises Found."""
    function = RUNTIME_FUNCTIONS[name]
    for register, kind in enumerate(function.arguments, start=1):
        value = value_in(register, index, state)
        if kind is Kind.CONTEXT and not isinstance(value, Context):
            fail("bad-argument", index, state, f"{name} takes the context, not {value}", "pass ctx to it", register)
    state.lose_arguments(index)
    state.registers[0] = Number(Scalar.unknown())


class _Call:
    """One call of a helper: its arguments against its prototype, then what it leaves."""

    def __init__(self, regions: Regions, tracking: Tracking, state: State, index: int, helper: Helper) -> None:
        self._regions, self._tracking = regions, tracking
        self._state, self._index, self._helper = state, index, helper
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
                return MapValueOrNull(self._map.name, self._tracking.identities.made_at(self._index, self._state))
            case Result.RECORD_OR_NULL:
                record = RecordOrNull(self._size, self._tracking.identities.made_at(self._index, self._state))
                self._state.records |= {record.id}
                return record
            case Result.NUMBER:
                return Number(Scalar.unknown())
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
                if value.scalar.umax >= FARTHEST_OFFSET:
                    self._wrong(register, f"a size below {FARTHEST_OFFSET}", value)
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
        self._map = self._regions.specs[value.name]
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
        if scalar.smin < 0 or scalar.umax >= FARTHEST_OFFSET or (scalar.umin == 0 and not optional):
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
        state = self._state
        if isinstance(value, Packet) and not written and self._helper.name not in _TAKE_PACKETS:
            self._fail("bad-argument", f"{self._helper.name} takes no packet memory", "copy it first", register)
        # A buffer of unknown size may stay as it was in part, so it must hold something before.
        if written:
            self._require(writable(state, self._regions, value, 0, size), register)
        if not written or not constant:
            self._require(readable(state, self._regions, value, 0, size), register)
        if isinstance(value, Stack):
            self._require(whole_pointers(state, value, 0, size), register)
            self._tracking.touch(state, value, 0)
            if written:
                state.write_stack(value.frame, value.offset, size, None)

    def _lock(self, register: int, value: Value) -> None:
        state = self._state
        if isinstance(value, MapValueOrNull):
            self._report(not_memory(value), register)
        if not isinstance(value, MapValue) or not value.offset.is_constant:
            self._wrong(register, "a spin lock in a map value", value)
        if self._regions.locks.get(value.name) != value.offset.smin:
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
        require(fault, self._index, self._state, *registers)

    def _report(self, fault: Fault, *registers: int) -> NoReturn:
        report(fault, self._index, self._state, *registers)

    def _fail(self, code: str, why: str, mend: str, *registers: int) -> NoReturn:
        fail(code, self._index, self._state, why, mend, *registers)
