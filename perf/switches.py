"""What stands between p1 and p2 in a benchmark: Oko, and what it is compared with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, Protocol

from oko.errors import OkoError
from oko.flow.rule import Command, FlowMod
from oko.flow.text import parse_rule
from oko.kernel.interface import interface
from oko.kernel.link import attach_xdp
from oko.kernel.maps import Map
from oko.switch.bridge import Bridge
from oko.switch.datapath import Datapath
from oko.switch.objects import read_runtime, read_stub
from oko.switch.port import Port, PortSpec
from perf.isolation import BPFFS
from perf.xdp import INDEX_0, OBJECTS, XdpObject

_PORTS: Final = (PortSpec("p1", 1), PortSpec("p2", 2))
_BRIDGE: Final = "perf"


Entry = tuple[str, bytes, bytes]
"""Of a filter program's maps: the map's name, key and value."""


class Switch(Protocol):
    """What has taken its place at p1, and forwards."""

    def delivered(self) -> int:
        """Frames that ended here as they should, not at the sink."""

    def drops(self) -> Mapping[str, int]:
        """Frames that it dropped and counted, by reason."""


class OkoSwitch:
    """A bridge of Oko on p1 and p2."""

    def __init__(self, datapath: Datapath, bridge: Bridge) -> None:
        self._datapath = datapath
        self._bridge = bridge

    def delivered(self) -> int:
        return 0

    def drops(self) -> Mapping[str, int]:
        """By reason; and the stub's, when it found no pipeline."""
        counted = {f"oko: {reason.name.lower()}": count.packets for reason, count in self._bridge.drops().items()}
        return counted | {"oko: no pipeline": self._datapath.fallthrough()}

    def add(self, *rules: str) -> None:
        """Add rules in the syntax of ovs-ofctl. Raises OkoError."""
        for error in self._bridge.change([FlowMod(Command.ADD, parse_rule(rule)) for rule in rules]):
            if error is not None:
                raise error

    def load(self, program_id: int, name: str, objects: Path = OBJECTS) -> None:
        """Load the filter program called `name`, mostly of ``perf/programs``. Raises OkoError."""
        self._bridge.load(program_id, name, (objects / f"{name}.o").read_bytes())

    def put(self, program_id: int, entries: Iterable[Entry]) -> None:
        """Write into maps of a program. Raises OkoError."""
        for name, key, value in entries:
            self._bridge.programs.map(program_id, name)[1].update(key, value)

    def pipeline(self) -> int:
        """The kernel's id of the program that decides packets now."""
        with Map.open(self._datapath.pins / "slot") as slot:
            found = slot.lookup(INDEX_0)
        if found is None:
            raise OkoError(f"bridge {_BRIDGE} has no pipeline in its slot")
        return int.from_bytes(found, "little")


@contextlib.contextmanager
def oko(*rules: str, programs: Mapping[int, str] | None = None) -> Iterator[OkoSwitch]:
    """Oko with these rules, and these filter programs by id."""
    runtime = read_runtime()
    datapath = Datapath(_BRIDGE, BPFFS, read_stub(), runtime)
    try:
        ports = [Port.prepare(spec) for spec in _PORTS]
        switch = OkoSwitch(datapath, Bridge(_BRIDGE, datapath, runtime, ports))
        for program_id, name in (programs or {}).items():
            switch.load(program_id, name)
        switch.add(*rules)
        for port in ports:
            port.attach(datapath)
        yield switch
    finally:
        datapath.remove()


class _HandWritten:
    def delivered(self) -> int:
        return 0

    def drops(self) -> Mapping[str, int]:
        return {}


@contextlib.contextmanager
def hand_written() -> Iterator[Switch]:
    """``redirect.c``: everything that comes in at p1 goes out at p2, counted."""
    with XdpObject("redirect") as redirect:
        redirect.aim(interface("p2").index)
        with attach_xdp(redirect.program, interface("p1").index):
            yield _HandWritten()


class _Drop:
    def __init__(self, sink: XdpObject) -> None:
        self._sink = sink

    def delivered(self) -> int:
        return self._sink.count("frames")

    def drops(self) -> Mapping[str, int]:
        return {}


@contextlib.contextmanager
def drop() -> Iterator[Switch]:
    """The sink itself, at p1: what generator, one veth and the sink cost without any switch."""
    with XdpObject("sink") as sink, attach_xdp(sink.program, interface("p1").index):
        yield _Drop(sink)
