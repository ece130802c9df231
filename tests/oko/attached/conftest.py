"""A laboratory with three hosts around a bridge of a real Open vSwitch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.lab import SWITCH, Host, Lab
from tests.e2e.wire import Wire
from tests.ovs import DATAPATH_TYPE, Vswitch

BRIDGE = "br0"
HOSTS = tuple(
    Host(f"host{number}", f"p{number}", f"10.0.0.{number}/24", f"02:00:00:00:00:0{number}") for number in (1, 2, 3)
)


class Laboratory:
    """`vswitch` with the bridge BRIDGE: fail mode secure, ports p1 to p3 as 1 to 3, and no rules. `hosts` are
    the namespaces of the hosts, by port, and `wires` those at them."""

    def __init__(self, lab: Lab, vswitch: Vswitch) -> None:
        self.vswitch = vswitch
        self.namespace = Path("/run/netns") / lab.namespace(SWITCH)
        self.hosts = {number: Path("/run/netns") / lab.namespace(f"host{number}") for number in (1, 2, 3)}
        self.wires = {number: Wire(path) for number, path in self.hosts.items()}
        vswitch.add_bridge(BRIDGE, [host.port for host in HOSTS], DATAPATH_TYPE)

    def close(self) -> None:
        for wire in self.wires.values():
            wire.close()

    def add(self, *flows: str) -> None:
        """Add flows as an operator does, past Oko."""
        for flow in flows:
            self.vswitch.ofctl("add-flow", BRIDGE, flow)

    def delete(self, flows: str = "") -> None:
        """Delete flows as an operator does, past Oko."""
        self.vswitch.ofctl("del-flows", BRIDGE, *([flows] if flows else []))


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    """One for all tests of a module."""
    with Lab(HOSTS) as lab:
        prefix = ("nsenter", f"--net=/run/netns/{lab.namespace(SWITCH)}", "--")
        with Vswitch(tmp_path_factory.mktemp("ovs") / "run", prefix=prefix) as vswitch:
            made = Laboratory(lab, vswitch)
            try:
                yield made
            finally:
                made.close()


@pytest.fixture
def ovs(laboratory: Laboratory) -> Laboratory:
    """The laboratory with a bridge that has no rules."""
    laboratory.delete()
    return laboratory
