"""A laboratory of real hosts for all tests here, and a stage for the commands of each."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.lab import SWITCH, Lab
from oko.kernel.ethtool import offloads
from oko.kernel.interface import interface
from oko.kernel.namespace import run_in
from tests.stage import ROOT, Stage, mounted

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


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture
def network(lab: Lab, tmp_path: Path) -> Iterator[Network]:
    prefix = ("nsenter", f"--net=/run/netns/{lab.namespace(SWITCH)}", "--")
    for host in lab.hosts:
        # Half of an ARP exchange of the test before would fail the next connection.
        lab.run(host, ["ip", "neighbour", "flush", "all"])
    with mounted(Network(tmp_path, lab, prefix)) as network:
        yield network
