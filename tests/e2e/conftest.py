"""A laboratory of real hosts for all tests here, and a stage for the commands of each."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pytest

from demo.lab import SWITCH, Host, Lab
from oko.kernel.ethtool import offloads
from oko.kernel.interface import interface
from oko.kernel.namespace import run_in
from tests.e2e.controller import Controller
from tests.e2e.wire import Wire
from tests.stage import BRIDGE, ROOT, Stage, mounted

PORTS = ("--port", "p1=1", "--port", "p2=2")
BOTH_WAYS = ("in_port=1,actions=output:2", "in_port=2,actions=output:1")
PORT = "9000"


class Network(Stage):
    """The stage at the switch of a laboratory with a client and a server."""

    def __init__(self, directory: Path, lab: Lab, prefix: tuple[str, ...]) -> None:
        super().__init__(directory, prefix)
        self.lab = lab
        self._listeners: list[subprocess.Popen[str]] = []

    def path(self, place: str) -> Path:
        return Path("/run/netns") / self.lab.namespace(place)

    def connects(self, place: str, address: str) -> bool:
        """Whether a TCP connection from one host to another opens; it takes seconds to say no."""
        command = [sys.executable, "-m", "demo.hosts", "connect", address, PORT]
        return self.lab.run(place, command, cwd=ROOT).returncode == 0

    def listen(self, place: str, address: str) -> None:
        """Let a host take TCP connections."""
        process = self.lab.popen(place, [sys.executable, "-m", "demo.hosts", "listen", address, PORT], cwd=ROOT)
        self._listeners.append(process)
        self.lab.await_line(process, "ready")

    def clean(self) -> None:
        for process in self._listeners:
            self.lab.stop(process)
        super().clean()

    def xdp_mode(self, port: str) -> str | None:
        return run_in(self.path(SWITCH), lambda: interface(port)).xdp_mode

    def offloads(self, host: str) -> dict[str, bool]:
        """The offloads of a host's interface that are on."""
        found = run_in(self.path(host), lambda: offloads("eth0"))
        return {name: state.active for name, state in found.items()}


HOSTS = tuple(
    Host(f"host{number}", f"p{number}", f"10.0.0.{number}/24", f"02:00:00:00:00:0{number}") for number in (1, 2, 3)
)


class Switch(Network):
    """The stage at the switch of a laboratory with three hosts, at ports 1 to 3, and what is done there in one go:
    `controller` is connected and `wires` has the interface of each host, by port."""

    def __init__(self, directory: Path, lab: Lab, prefix: tuple[str, ...]) -> None:
        super().__init__(directory, lab, prefix)
        self.controller: Controller | None = None
        self.wires = {number: Wire(self.path(f"host{number}")) for number in (1, 2, 3)}

    def begin(self, *options: str) -> Controller:
        """Start okod, and connect to it."""
        self.start(*(f"--port=p{number}={number}" for number in (1, 2, 3)), *options)
        self.controller = Controller(self.rundir.socket(BRIDGE))
        return self.controller

    def assert_received(self, frames: Sequence[bytes], at: Collection[int]) -> None:
        """The hosts at these ports have received just these frames, in their order, and the others nothing."""
        for number in at:
            assert [self.wires[number].receive() for _ in frames] == list(frames)
        assert {number: wire.waiting() for number, wire in self.wires.items()} == {number: [] for number in self.wires}

    def ip(self, place: str, command: str) -> None:
        subprocess.run(["ip", "-n", self.lab.namespace(place), *command.split()], check=True)

    def clean(self) -> None:
        for wire in self.wires.values():
            wire.close()
        if self.controller is not None:
            self.controller.close()
        super().clean()


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture
def switch(tmp_path: Path) -> Iterator[Switch]:
    with Lab(HOSTS) as lab:
        prefix = ("nsenter", f"--net=/run/netns/{lab.namespace(SWITCH)}", "--")
        with mounted(Switch(tmp_path, lab, prefix)) as switch:
            yield switch


@pytest.fixture
def network(lab: Lab, tmp_path: Path) -> Iterator[Network]:
    prefix = ("nsenter", f"--net=/run/netns/{lab.namespace(SWITCH)}", "--")
    for host in lab.hosts:
        # Half of an ARP exchange of the test before would fail the next connection.
        lab.run(host, ["ip", "neighbour", "flush", "all"])
    with mounted(Network(tmp_path, lab, prefix)) as network:
        yield network
