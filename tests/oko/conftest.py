"""A bridge with two real ports in a namespace, and programs to load."""

from __future__ import annotations

import platform
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

import pytest

from oko.compiler.packet_in import PacketInRecord
from oko.errors import OkoError
from oko.flow.attachment import Attachment
from oko.flow.change import Change
from oko.flow.group import GroupCommand, GroupMod
from oko.flow.group_text import parse_group
from oko.flow.meter import MeterCommand, MeterMod
from oko.flow.meter_text import parse_meter
from oko.flow.rule import Command, FlowMod
from oko.flow.text import parse_rule, parse_selection
from oko.kernel.maps import Map
from oko.kernel.namespace import run_in
from oko.switch.bridge import Bridge, Event
from oko.switch.datapath import Count, Datapath
from oko.switch.objects import read_runtime, read_stub
from oko.switch.port import Port, PortSpec
from tests.bpf_programs.harness import SOURCES

HERE = Path(__file__).parent
T = TypeVar("T")
Compile = Callable[..., bytes]
RUNTIME = cache(read_runtime)
_ETH_P_EXPERIMENTAL = 0x88B5
_ETH_P_ALL = 3


@pytest.fixture(scope="session")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """``counting("-DENTRIES=8")`` compiles counting.c and returns the object."""
    target = tmp_path_factory.mktemp("counting") / "counting.o"

    @cache
    def build(*flags: str) -> bytes:
        system = f"/usr/include/{platform.machine()}-linux-gnu"
        options = ["-O2", "-g", "-target", "bpf", "-mcpu=v3", f"-I{SOURCES / 'include'}", "-isystem", system, *flags]
        subprocess.run(["clang", *options, "-c", HERE / "counting.c", "-o", target], check=True)
        return target.read_bytes()

    return build


class Rig:
    """A bridge br0 with the ports 1 (p1) and 2 (p2), whose far ends are h1 and h2. `attachment` is that to Open
    vSwitch, if it has one."""

    def __init__(self, namespace: Path, datapath: Datapath, attachment: Attachment | None = None) -> None:
        self.namespace = namespace
        self.datapath = datapath
        ports = self.inside(lambda: [Port.prepare(PortSpec(f"p{number}", number)) for number in (1, 2)])
        self.bridge = self.inside(lambda: Bridge("br0", datapath, RUNTIME(), ports, attachment=attachment))
        self.events: list[Event] = []
        self.bridge.listen(self.events.append)

    def inside(self, function: Callable[[], T]) -> T:
        """`function` in the namespace of the ports: a devmap takes interfaces of the namespace it is written in."""
        return run_in(self.namespace, function)

    def attach(self) -> None:
        """Let the ports take packets."""
        for port in self.bridge.ports:
            self.inside(partial(port.attach, self.datapath))

    def change(self, *mods: Change) -> list[OkoError]:
        """Carry out changes that come together; what was wrong with those that failed."""
        return [error for error in self.inside(lambda: self.bridge.change(mods)) if error is not None]

    def add(self, *flows: str) -> list[OkoError]:
        return self.change(*(FlowMod(Command.ADD, parse_rule(flow)) for flow in flows))

    def delete(self, selection: str) -> list[OkoError]:
        return self.change(parse_selection(selection))

    def add_groups(self, *groups: str) -> list[OkoError]:
        return self.change(*(GroupMod(GroupCommand.ADD, parse_group(group)) for group in groups))

    def add_meters(self, *meters: str) -> list[OkoError]:
        return self.change(*(MeterMod(MeterCommand.ADD, parse_meter(meter)) for meter in meters))

    def load(self, elf: bytes, program: int = 1) -> None:
        self.inside(lambda: self.bridge.load(program, "", elf))

    def won(self, selection: str) -> Count:
        """What the one rule that `selection` selects has won."""
        (entry,) = self.bridge.tables.select(parse_selection(selection))
        return self.bridge.count(entry.slot)

    def packet_ins(self) -> list[PacketInRecord]:
        """Those that have been told of so far."""
        self.bridge.deliver(1000)
        return [event for event in self.events if isinstance(event, PacketInRecord)]

    def pipeline(self) -> int:
        """The kernel's id of the program that decides packets now."""
        with Map.open(self.datapath.pins / "slot") as slot:
            value = slot.lookup(bytes(4))
        assert value is not None
        return int.from_bytes(value, "little")

    def send(self, host: str, destination: str, count: int = 1) -> None:
        """Frames from a far end: Ethernet to `destination`, of an experimental type, 60 bytes."""
        frame = bytes.fromhex(destination.replace(":", "") + "020000000001") + _ETH_P_EXPERIMENTAL.to_bytes(2, "big")
        self.transmit(host, *[frame.ljust(60, b"\0")] * count)

    def transmit(self, host: str, *frames: bytes) -> None:
        """Frames from a far end."""

        def transmit() -> None:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
                raw.bind((host, 0))
                for frame in frames:
                    raw.send(frame)

        self.inside(transmit)

    @contextmanager
    def listening(self, interface: str) -> Iterator[Callable[[], list[bytes]]]:
        """Call what is yielded for the frames that the host's stack has received at a far end, or at a port, so far."""
        frames: list[bytes] = []

        def listen() -> socket.socket:
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
            raw.bind((interface, _ETH_P_ALL))
            raw.setblocking(False)
            return raw

        def received() -> list[bytes]:
            with suppress(BlockingIOError):
                while True:
                    frame, (_, _, kind, *_) = raw.recvfrom(2048)
                    if kind != socket.PACKET_OUTGOING:
                        frames.append(frame)
            return frames

        with self.inside(listen) as raw:
            yield received


@pytest.fixture
def cables(namespace: Callable[[str], Path]) -> Path:
    """A namespace with the veth pairs of a rig."""
    path = namespace("switch")
    links = [f"link add p{number} type veth peer name h{number}" for number in (1, 2)]
    links += [f"link set {end} up" for end in ("p1", "h1", "p2", "h2")]
    subprocess.run(["ip", "-n", path.name, "-batch", "-"], input="\n".join(links), text=True, check=True)
    return path


@pytest.fixture
def rig(bpffs: Path, cables: Path) -> Iterator[Rig]:
    with Datapath("br0", bpffs, read_stub(), RUNTIME()) as datapath:
        yield Rig(cables, datapath)
        datapath.remove()


@pytest.fixture
def attached_rig(bpffs: Path, cables: Path) -> Iterator[Rig]:
    """A rig whose bridge is one of Open vSwitch's: its ports are as near to that as need be."""
    with Datapath("br0", bpffs, read_stub(fail_open=True), RUNTIME(), attached=True) as datapath:
        yield Rig(cables, datapath, Attachment(longest={1: 1518}))
        datapath.remove()
