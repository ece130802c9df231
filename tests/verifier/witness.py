"""Runs accepted programs and holds every step against the states that tracking computed for it.

A state is a claim about all of memory at once, so at each instruction *one* of the recorded states must allow
everything that is there: each register and each stack slot of every function that runs, and what the checks are said to
have proved about the packet.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Final

from verifier import isa
from verifier.interpreter import Interpreter
from verifier.maps import Map
from verifier.program import Program, ReferenceKind
from verifier.state import Frame, State
from verifier.text import text_at
from verifier.tracking import track
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

_SHIFT: Final = 24
_DATA: Final = 1 << _SHIFT
_CONTEXT: Final = 2 << _SHIFT
_M64: Final = (1 << 64) - 1
_SHORTEST, _LONGEST = 14, 1500
_KEYS: Final = (0, 1, 2, 3, 32)


class Unsound(AssertionError):
    """A run did what no recorded state allows."""


class Witness(Interpreter):
    """An accepted program with its maps, and the states that tracking recorded for it."""

    def __init__(self, program: Program, states: dict[int, list[State]]) -> None:
        self._states = states
        self._names: dict[int, str] = {}  # region → name of the map whose value it is
        self._sections = {
            reference.name for reference in program.references if reference.kind is ReferenceKind.MAP_VALUE
        }
        super().__init__(program, observe=self._check)
        self._map_handles = {found.spec.name: address for address, found in self._handles.items()}
        for region in range(3, self._fixed):
            for name in self._sections:
                if self._regions[region] is self.maps[name].lookup(bytes(4)):
                    self._names[region] = name

    def fill(self, random: Random) -> None:
        """Put random values into the maps, behind keys that programs are likely to ask for."""
        for found in self.maps.values():
            _fill(found, random)

    def _map_lookup(self, registers: list[int]) -> int:
        address = super()._map_lookup(registers)
        self._names[address >> _SHIFT] = self._map(registers).spec.name
        return address

    # ---- one step

    def _check(self, index: int, registers: list[int]) -> None:
        states = self._states.get(index, [])
        if not any(self._allows(state, registers) for state in states):
            raise Unsound(self._explanation(index, registers, states))

    def _allows(self, state: State, registers: list[int]) -> bool:
        if len(state.frames) != len(self._frames) + 1:
            return False
        tops = self._tops(registers)
        ties: dict[object, int] = {}
        packet = len(self._packet())
        for frame, held, top, called in self._levels(state, registers):
            if called is not None and frame.returns_to != called:
                return False
            for number, value in enumerate(frame.registers):
                if (
                    type(value) is not Unset
                    and number in held
                    and not self._holds(value, held[number], state, tops, ties)
                ):
                    return False
            if not self._stack_allows(frame, top, state, tops, ties):
                return False
        return all(
            not state.places[base].safe or distance + state.places[base].safe <= packet
            for base, distance in self._distances(ties)
        )

    @staticmethod
    def _distances(ties: dict[object, int]) -> Iterator[tuple[int, int]]:
        yield 0, 0
        for key, distance in ties.items():
            if isinstance(key, tuple) and key[0] == "place":
                yield key[1], distance

    def _levels(self, state: State, registers: list[int]) -> Iterator[tuple[Frame, dict[int, int], int, int | None]]:
        """The functions that run, outermost first: what tracking says, the registers that are to be seen, the top of
        the stack, and the call that entered it."""
        saved = [dict(enumerate(kept, start=6)) for _, _, kept in self._frames]
        held = [*saved, dict(enumerate(registers))]
        calls = [None, *(back - 1 for back, _, _ in self._frames)]
        for frame, values, call in zip(state.frames, held, calls, strict=True):
            yield frame, values, values[isa.FRAME_POINTER], call

    def _tops(self, registers: list[int]) -> list[int]:
        return [*(kept[4] for _, _, kept in self._frames), registers[isa.FRAME_POINTER]]

    def _packet(self) -> bytes:
        packet = self._regions[1]
        assert isinstance(packet, bytes)
        return packet

    def _stack_allows(self, frame: Frame, top: int, state: State, tops: list[int], ties: dict[object, int]) -> bool:
        memory = self._regions[top - 1 >> _SHIFT]
        assert isinstance(memory, bytearray)
        for offset, slot in frame.stack.items():
            content = memory[len(memory) + offset : len(memory) + offset + 8]
            if any(slot.zero >> bit & 1 and content[bit] for bit in range(8)):
                return False
            if slot.value is not None and type(slot.value) is not Unset:
                held = int.from_bytes(content[: slot.size], "little")
                if not self._holds(slot.value, held, state, tops, ties):
                    return False
        return True

    def _holds(self, value: Value, held: int, state: State, tops: list[int], ties: dict[object, int]) -> bool:
        """Whether `value` allows the number `held`; `ties` are those that were seen of one identity."""
        match value:
            case Number():
                return value.scalar.contains(held) and (
                    not value.id or ties.setdefault(("number", value.id), held) == held
                )
            case Context():
                return held == _CONTEXT
            case Packet():
                distance = held - _DATA - value.offset
                return (
                    state.places[value.base].distance.contains(distance)
                    and ties.setdefault(("place", value.base), distance) == distance
                )
            case PacketEnd():
                return held == _DATA + len(self._packet())
            case MapPointer():
                return held == self._map_handles[value.name]
            case Stack():
                return held == tops[value.frame] + value.offset & _M64
            case MapValueOrNull():
                return not held or (not held & _DATA - 1 and self._names.get(held >> _SHIFT) == value.name)
            case RecordOrNull():
                return not held or (not held & _DATA - 1 and self._is_record(held >> _SHIFT, value.size))
            case MapValue():
                return any(
                    name == value.name
                    and value.offset.contains(held - (region << _SHIFT))
                    and (not value.id or ties.get(("value", value.id), region) == region)
                    for region, name in self._names.items()
                )
            case Record():
                return any(
                    value.offset.contains(held - record) and self._is_record(record >> _SHIFT, value.size)
                    for record in self._records
                )
            case _:
                return True

    def _is_record(self, region: int, size: int) -> bool:
        memory = self._regions[region]
        return isinstance(memory, bytearray) and len(memory) == size

    def _explanation(self, index: int, registers: list[int], states: list[State]) -> str:
        lines = [f"instruction {index} `{text_at(self.program, index)}` with a packet of {len(self._packet())} bytes:"]
        lines += [f"  R{number} = {held:#x}" for number, held in enumerate(registers)]
        for state in states:
            lines.append("  a state of tracking:")
            lines += [
                f"    R{number}: {value}" for number, value in enumerate(state.registers) if type(value) is not Unset
            ]
            lines += [f"    stack{offset}: {slot}" for offset, slot in state.frame.stack.items()]
            lines.append(f"    places: {state.places}")
        lines += ["the program:", *listing(program=self.program)]
        return "\n".join(lines)


def listing(program: Program) -> list[str]:
    """The instructions of a program, numbered."""
    starts = {function.start: function.name for function in program.functions}
    lines = []
    skip = False
    for index, instruction in enumerate(program.instructions):
        if skip:
            skip = False
            continue
        if index in starts:
            lines.append(f"{starts[index]}:")
        skip = instruction.opcode == isa.LDDW
        lines.append(f"{index:5}  {text_at(program, index)}")
    return lines


def witness(program: Program, random: Random, *, runs: int = 3, watched: bool = True) -> None:
    """Run an accepted program on packets and maps that `random` makes. Raises Unsound, InterpreterFault, and Found if
    the program is not accepted. If not `watched`, only accesses are checked and not what registers hold."""
    if watched:
        found = Witness(program, track(program, keep_states=True).states)
        found.fill(random)
        runner: Interpreter = found
    else:
        track(program)
        runner = Interpreter(program)
        for simulated in runner.maps.values():
            _fill(simulated, random)
    edges = lengths(program)
    for _ in range(runs):
        runner.run(
            packet(random, random.choice(edges)),
            in_port=random.choice((1, 2, 0xFFFFFFFE)),
            now=random.getrandbits(62),
            random=lambda: random.choice((0, 1, 0xFFFFFFFF, random.getrandbits(32))),
        )


def lengths(program: Program) -> list[int]:
    """Lengths of packets near those that the program compares with."""
    constants = {
        instruction.imm
        for instruction in program.instructions
        if instruction.opcode == isa.ALU64 | isa.ADD and 0 < instruction.imm < _LONGEST
    }
    wanted = {length + change for length in constants for change in (-1, 0, 1)}
    wanted |= {one + other + change for one in constants for other in constants for change in (-1, 0)}
    wanted |= {_SHORTEST, 64, 256, _LONGEST, *constants}
    return sorted(length for length in wanted if _SHORTEST <= length <= _LONGEST)


def packet(random: Random, length: int) -> bytes:
    """Random bytes, many of them those that programs compare with."""
    content = bytearray(random.randbytes(length))
    for _ in range(random.randint(0, 12)):
        content[random.randrange(min(length, 64))] = random.choice((0, 0, 1, 2, 3, 6, 8, 0x45, 0x4F, 0x7F, 0x80, 0xFF))
    return bytes(content)


def _fill(found: Map, random: Random) -> None:
    spec = found.spec
    if spec.frozen or not spec.key_size:
        return
    for key in random.sample(_KEYS, 3):
        value = random.choice((bytes(spec.value_size), random.randbytes(spec.value_size)))
        found.update(key.to_bytes(4, "little") + bytes(spec.key_size - 4), value)
