"""A bridge with two real ports in a namespace, an OpenFlow session with it, and programs to load."""

from __future__ import annotations

import platform
import socket
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import TypeVar

import pytest

from ofext.messages import Message, decode, encode
from ofext.multipart import FlowStats, FlowStatsReply, FlowStatsRequest, MultipartReply, MultipartRequest, RequestBody
from oko.flow.rule import Command, FlowMod
from oko.flow.text import parse_rule
from oko.kernel.maps import Map
from oko.kernel.namespace import run_in
from oko.switch.bridge import Bridge
from oko.switch.datapath import Datapath
from oko.switch.objects import read_runtime, read_stub
from oko.switch.port import Port, PortSpec
from oko.switch.session import Session
from oko.switch.wire import write_flow_mod
from tests.bpf_programs.harness import SOURCES

HERE = Path(__file__).parent
T = TypeVar("T")
Compile = Callable[..., bytes]
_ETH_P_EXPERIMENTAL = 0x88B5


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
    """A bridge br0 with the ports 1 (p1) and 2 (p2), whose far ends are h1 and h2; and a session."""

    def __init__(self, namespace: Path, datapath: Datapath) -> None:
        self.namespace = namespace
        self.datapath = datapath
        self.ports = self.inside(lambda: [Port.prepare(PortSpec(f"p{number}", number)) for number in (1, 2)])
        self.bridge = self.inside(lambda: Bridge("br0", datapath, read_runtime(), self.ports))
        self.session = Session(self.bridge)

    def inside(self, function: Callable[[], T]) -> T:
        """`function` in the namespace of the ports: a devmap takes interfaces of the namespace it is written in."""
        return run_in(self.namespace, function)

    def attach(self) -> None:
        """Let the ports take packets."""
        for port in self.ports:
            self.inside(partial(port.attach, self.datapath))

    def raw(self, requests: Sequence[bytes]) -> list[Message]:
        """What the session answers to messages that arrive together."""
        return [decode(answer)[0] for answer in self.inside(lambda: list(self.session.receive(requests)))]

    def ask(self, *messages: Message) -> list[Message]:
        return self.raw([encode(message, xid) for xid, message in enumerate(messages, 1)])

    def report(self, body: RequestBody) -> Message:
        (answer,) = self.ask(MultipartRequest(body))
        return answer

    def add(self, *flows: str) -> list[Message]:
        return self.ask(*(write_flow_mod(FlowMod(Command.ADD, parse_rule(flow))) for flow in flows))

    def flows(self) -> list[FlowStats]:
        answers = self.ask(MultipartRequest(FlowStatsRequest()))
        bodies = [answer.body for answer in answers if isinstance(answer, MultipartReply)]
        return [entry for body in bodies if isinstance(body, FlowStatsReply) for entry in body.entries]

    def pipeline(self) -> int:
        """The kernel's id of the program that decides packets now."""
        with Map.open(self.datapath.pins / "slot") as slot:
            value = slot.lookup(bytes(4))
        assert value is not None
        return int.from_bytes(value, "little")

    def send(self, host: str, destination: str, count: int) -> None:
        """Frames from a far end: Ethernet to `destination`, of an experimental type, 60 bytes."""
        frame = bytes.fromhex(destination.replace(":", "") + "020000000001") + _ETH_P_EXPERIMENTAL.to_bytes(2, "big")

        def transmit() -> None:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
                raw.bind((host, 0))
                for _ in range(count):
                    raw.send(frame.ljust(60, b"\0"))

        self.inside(transmit)


@pytest.fixture
def rig(bpffs: Path, namespace: Callable[[str], Path]) -> Iterator[Rig]:
    path = namespace("switch")
    for number in (1, 2):
        ends = ["type", "veth", "peer", "name", f"h{number}"]
        subprocess.run(["ip", "-n", path.name, "link", "add", f"p{number}", *ends], check=True)
        for end in (f"p{number}", f"h{number}"):
            subprocess.run(["ip", "-n", path.name, "link", "set", end, "up"], check=True)
    with ExitStack() as stack:
        datapath = stack.enter_context(Datapath("br0", bpffs, read_stub()))
        yield Rig(path, datapath)
        datapath.remove()
