"""The two ways to decide the packets of a capture: the image in the kernel, and the reference switch in Python.

Both take the time, the port and the frame of each packet and say what the switch does; they agree packet by packet.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Final, Protocol, Self

from oko.compiler import counters
from oko.compiler.compile import compile_image
from oko.compiler.counters import program_slot
from oko.compiler.emission import XDP_PASS
from oko.compiler.image import Filter, Image
from oko.compiler.meter import pack_meter
from oko.compiler.packet_in import PacketInRecord, unpack
from oko.compiler.replay import REPLAY_IN_PORT, REPLAY_NOW, REPLAY_RANDOM, REPLAY_RULE, Random
from oko.compiler.runtime import Runtime
from oko.flow.attachment import Attachment, Shims
from oko.flow.drop import Drop
from oko.flow.packet_in import PacketIn
from oko.flow.port import PortState
from oko.flow.reference import FilterProgram, ReferenceSwitch
from oko.flow.tables import Tables
from oko.kernel.maps import Map
from oko.kernel.program import LONGEST_TEST_FRAME
from oko.kernel.ringbuf import RingBuffer
from oko.switch.datapath import make_program_maps
from oko.switch.loaded_image import LoadedImage, create_shared
from verifier.interpreter import Interpreter
from verifier.maps import Map as SimulatedMap
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

_MOST_RECORDS: Final = 1024


@dataclass(frozen=True, slots=True)
class Decided:
    """What the switch did with a packet: `slot` of the last rule that won, the frames `sent` by port, ascending, those
    that the controller was `told` of (their `time` is 0), the frame that is `left` to Open vSwitch, and why it was
    dropped although no rule said so. A rule that drops leaves only `slot`."""

    slot: int | None = None
    sent: tuple[tuple[int, bytes], ...] = ()
    told: tuple[PacketInRecord, ...] = ()
    left: bytes | None = None
    drop: Drop | None = None


class Engine(Protocol):
    """Decides packets, in the order of their times."""

    name: str

    @property
    def maps(self) -> Mapping[str, Map | SimulatedMap]:
        """Those of the programs, at least, by their name in the image: ``ID.NAME``."""

    def decide(self, frame: bytes, in_port: int, now: int) -> Decided:
        """`frame` has SHORTEST to LONGEST bytes, `in_port` is one of the ports, `now` is in ns and never goes back."""

    def counts(self, slot: int) -> tuple[int, int]:
        """Packets and bytes that the rule, group or bucket in this slot has counted."""

    def program_counts(self, program: int) -> tuple[int, int]:
        """How often the program ran, and how often it matched."""


class ReferenceEngine:
    """The reference switch, its programs run by the interpreter. Needs no rights at all.

    `maps` are those of the programs, called as in an image.
    """

    name = "reference"

    def __init__(
        self,
        tables: Tables,
        programs: Mapping[int, Program],
        ports: Mapping[int, PortState],
        runtime: Runtime,
        attachment: Attachment | None = None,
    ) -> None:
        """Raises BadAction for what the image cannot do either."""
        _compile(tables, _filters(programs), ports, runtime, attachment)
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

        self.switch = ReferenceSwitch(
            tables, {number: runner(interpreter) for number, interpreter in interpreters.items()}, ports, attachment
        )

    def set_shims(self, shims: Shims) -> None:
        """What becomes from now on of packets that are to be continued."""
        self.switch.shims = shims

    def decide(self, frame: bytes, in_port: int, now: int) -> Decided:
        decision = self.switch.decide(frame, in_port, now)
        return Decided(
            decision.entries[-1].slot if decision.entries else None,
            tuple(sorted(decision.sent)),
            tuple(map(_told, decision.packet_ins)),
            decision.left,
            decision.drop,
        )

    def counts(self, slot: int) -> tuple[int, int]:
        return self.switch.counters.packets[slot], self.switch.counters.bytes[slot]

    def program_counts(self, program: int) -> tuple[int, int]:
        return self.switch.counters.runs[program], self.switch.counters.matches[program]


class KernelEngine:
    """The replay image, run by BPF_PROG_TEST_RUN. A context manager, which keeps the thread on one CPU while it is
    open: what a program has per CPU is then one, as in the reference.

    `maps` are the programs' and those of the counters, by their name in the image.
    """

    name = "kernel"

    def __init__(
        self,
        tables: Tables,
        programs: Mapping[int, Program],
        ports: Mapping[int, PortState],
        runtime: Runtime,
        attachment: Attachment | None = None,
    ) -> None:
        """Compile and load. Raises KernelError, LimitExceeded, BadAction."""
        filters = _filters(programs)
        self._slots = {number: item.slot for number, item in filters.items()}
        image = _compile(tables, filters, ports, runtime, attachment)
        self._destinations = image.destinations
        with contextlib.ExitStack() as own:
            own.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            self.maps: dict[str, Map] = {}
            for item in filters.values():
                for name, created in make_program_maps(item, item.program.maps).items():
                    self.maps[name] = own.enter_context(created)
            for wanted in image.maps:
                if wanted.shared and wanted.program is None:
                    self.maps[wanted.name] = own.enter_context(create_shared(wanted))
            if "meters" in self.maps:
                for entry in tables.meters.values():
                    self.maps["meters"].update(entry.slot.to_bytes(4, "little"), pack_meter(entry.spec))
            loaded = own.enter_context(LoadedImage.load("oko_replay", image, self.maps))
            self._records: RingBuffer | None = None
            if "packet_ins" in self.maps:
                self._records = own.enter_context(RingBuffer(self.maps["packet_ins"]))
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
        ran = self._program.test_run(frame)
        rule, output, drop = _ANSWER.unpack_from(self._memory, REPLAY_RULE)
        ports, back = self._destinations[output]
        leaves = ports | {in_port} if back else ports - {in_port}
        records = self._records.read(_MOST_RECORDS) if self._records is not None else []
        return Decided(
            rule - 1 if rule else None,
            tuple((port, ran.data) for port in sorted(leaves)),
            tuple(replace(unpack(record), time=0) for record in records),
            ran.data if ran.retval == XDP_PASS else None,
            Drop(drop - 1) if drop else None,
        )

    def set_shims(self, shims: Shims) -> None:
        """What becomes from now on of packets that are to be continued."""
        if "shims" in self.maps:
            self.maps["shims"].update(bytes(4), shims.to_bytes(4, "little"))

    def counts(self, slot: int) -> tuple[int, int]:
        if "counters" not in self.maps:
            return 0, 0
        values = self.maps["counters"].lookup_percpu(slot.to_bytes(4, "little")) or ()
        per_cpu = [counters.COUNTER.unpack(value) for value in values]
        return sum(packets for packets, _ in per_cpu), sum(size for _, size in per_cpu)

    def program_counts(self, program: int) -> tuple[int, int]:
        if "programs" not in self.maps:
            return 0, 0
        values = self.maps["programs"].lookup_percpu(self._slots[program].to_bytes(4, "little")) or ()
        per_cpu = [counters.PROGRAM.unpack(value) for value in values]
        return sum(runs for runs, _ in per_cpu), sum(matches for _, matches in per_cpu)


def usual(ports: Collection[int]) -> dict[int, PortState]:
    """Ports that are up."""
    return {port: PortState() for port in ports}


def _compile(
    tables: Tables,
    filters: Mapping[int, Filter],
    ports: Mapping[int, PortState],
    runtime: Runtime,
    attachment: Attachment | None,
) -> Image:
    """The replay image."""
    return compile_image(
        tables, filters, dict.fromkeys(ports, 0), runtime, states=ports, attachment=attachment, replay=True
    )


def _filters(programs: Mapping[int, Program]) -> dict[int, Filter]:
    filters: dict[int, Filter] = {}
    for number, program in programs.items():
        filters[number] = Filter(number, program_slot({item.slot for item in filters.values()}), program)
    return filters


def _told(told: PacketIn) -> PacketInRecord:
    slot = told.entry.slot if told.entry is not None else None
    return PacketInRecord(slot, told.reason, told.table, told.in_port, told.metadata, told.frame)
