"""The two ways to decide the packets of a capture: the image in the kernel, and the reference switch in Python.

Both take the time, the port and the frame of each packet and say what the switch does; they agree packet by packet.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from oko.compiler import counters
from oko.compiler.compile import Runtime, compile_image
from oko.compiler.counters import Drop, program_slot
from oko.compiler.image import Filter
from oko.compiler.pipeline import REPLAY_IN_PORT, REPLAY_NOW, REPLAY_RANDOM, REPLAY_RULE, output_of
from oko.compiler.replay import Random
from oko.flow.reference import FilterProgram, Reason, ReferenceSwitch
from oko.flow.tables import Tables
from oko.kernel.maps import Map
from oko.kernel.program import LONGEST_TEST_FRAME
from oko.switch.datapath import make_program_maps
from oko.switch.loaded_image import LoadedImage, create_map
from verifier.interpreter import Interpreter
from verifier.program import Program

SEED: Final = 0x6F6B6F
"""Where the random numbers of a replay begin."""

_U64: Final = struct.Struct("<Q")
_QUESTION: Final = struct.Struct("<IIII")
_ANSWER: Final = struct.Struct("<III")

SHORTEST: Final = 14
"""Bytes of an Ethernet header: what is shorter is a runt."""

LONGEST: Final = LONGEST_TEST_FRAME
"""Bytes of the longest frame that an XDP program without frags sees, on a port or in a test run."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What the switch did with a packet: `slot` of the rule that won, `port` it left by, `drop` why it was dropped
    although no rule said so. A rule that drops leaves only `slot`."""

    slot: int | None = None
    port: int | None = None
    drop: Drop | None = None


class Engine(Protocol):
    """Decides packets, in the order of their times."""

    name: str

    def decide(self, frame: bytes, in_port: int, now: int) -> Decided:
        """`frame` has SHORTEST to LONGEST bytes, `in_port` is one of the ports, `now` is in ns and never goes back."""

    def program_counts(self, program: int) -> tuple[int, int]:
        """How often the program ran, and how often it matched."""


class ReferenceEngine:
    """The reference switch, its programs run by the interpreter. Needs no rights at all.

    `maps` are those of the programs, called as in an image.
    """

    name = "reference"

    def __init__(self, tables: Tables, programs: Mapping[int, Program], ports: Collection[int]) -> None:
        """Raises BadAction for what the image cannot do either."""
        indices = {port: index for index, port in enumerate(sorted(ports))}
        for entry in tables:
            output_of(entry.rule, indices)
        random = Random(SEED)
        interpreters = {number: Interpreter(program) for number, program in programs.items()}

        self.maps = {
            f"{number}.{name}": simulated
            for number, interpreter in interpreters.items()
            for name, simulated in interpreter.maps.items()
        }

        def runner(interpreter: Interpreter) -> FilterProgram:
            def run(frame: bytes, in_port: int, now: int) -> int:
                return interpreter.run(frame, in_port=in_port, now=now, random=random)

            return run

        self._switch = ReferenceSwitch(
            tables, {number: runner(interpreter) for number, interpreter in interpreters.items()}, ports
        )

    def decide(self, frame: bytes, in_port: int, now: int) -> Decided:
        decision = self._switch.decide(frame, in_port, now)
        if decision.reason is Reason.MISS:
            return Decided(drop=Drop.MISS)
        if decision.reason is Reason.RUNT:
            return Decided(drop=Drop.RUNT)
        assert decision.entry is not None
        slot = decision.entry.slot
        if decision.outputs:
            return Decided(slot, decision.outputs[0])
        if decision.entry.rule.actions:
            return Decided(slot, drop=Drop.TO_INGRESS)
        return Decided(slot)

    def program_counts(self, program: int) -> tuple[int, int]:
        return self._switch.counters.runs[program], self._switch.counters.matches[program]


class KernelEngine:
    """The replay image, run by BPF_PROG_TEST_RUN. A context manager, which keeps the thread on one CPU while it is
    open: what a program has per CPU is then one, as in the reference.

    `maps` are the programs' and those of the counters, by their name in the image.
    """

    name = "kernel"

    def __init__(
        self, tables: Tables, programs: Mapping[int, Program], ports: Collection[int], runtime: Runtime
    ) -> None:
        """Compile and load. Raises KernelError, LimitExceeded, BadAction."""
        self._slots: dict[int, int] = {}
        for number in programs:
            self._slots[number] = program_slot(set(self._slots.values()))
        filters = {number: Filter(number, self._slots[number], program) for number, program in programs.items()}
        self._ports = sorted(ports)
        image = compile_image(
            tables.ranked(), filters, dict.fromkeys(ports, 0), runtime, slots=tables.slots, replay=True
        )
        with contextlib.ExitStack() as own:
            own.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            self.maps: dict[str, Map] = {}
            for item in filters.values():
                for name, created in make_program_maps(item, item.program.maps).items():
                    self.maps[name] = own.enter_context(created)
            for wanted in image.maps:
                if wanted.shared and wanted.program is None:
                    self.maps[wanted.name] = own.enter_context(create_map(wanted.name, wanted.spec))
            loaded = own.enter_context(LoadedImage.load("oko_replay", image, self.maps))
            self._program = loaded.program
            self._memory = self.maps["replay"].memory()
            own.callback(self._memory.close)
            _U64.pack_into(self._memory, REPLAY_RANDOM, SEED)
            self._own = own.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._own.close()

    def decide(self, frame: bytes, in_port: int, now: int) -> Decided:
        _U64.pack_into(self._memory, REPLAY_NOW, now)
        _QUESTION.pack_into(self._memory, REPLAY_IN_PORT, in_port, 0, 0, 0)
        self._program.test_run(frame)
        rule, output, drop = _ANSWER.unpack_from(self._memory, REPLAY_RULE)
        return Decided(
            rule - 1 if rule else None,
            self._ports[output - 1] if output else None,
            Drop(drop - 1) if drop else None,
        )

    def program_counts(self, program: int) -> tuple[int, int]:
        if "programs" not in self.maps:
            return 0, 0
        values = self.maps["programs"].lookup_percpu(self._slots[program].to_bytes(4, "little")) or ()
        per_cpu = [counters.PROGRAM.unpack(value) for value in values]
        return sum(runs for runs, _, _ in per_cpu), sum(matches for _, matches, _ in per_cpu)
