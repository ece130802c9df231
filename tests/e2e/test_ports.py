"""The port LOCAL, and ports that go and come back."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator

import pytest

from demo.lab import SWITCH
from ofext.constants import PortState
from ofext.messages import PortStatus
from oko.kernel.interface import interface
from oko.kernel.namespace import run_in
from tests.e2e.conftest import Network, Switch
from tests.e2e.wire import Wire, frame
from tests.run_time import run_time
from tests.stage import BRIDGE

pytestmark = pytest.mark.needs_bpf


def interfaces(network: Network) -> set[str]:
    """What stands in the switch's namespace."""
    return {found["ifname"] for found in json.loads(network.output("ip", "-j", "link"))}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_host_is_reached_by_local(network: Network, number: signal.Signals) -> None:
    before = interfaces(network)
    okod = network.start("--port", "p1=1", "--local", "host")
    assert ", 2 ports, " in okod.ready
    assert interfaces(network) - before == {"host", "oko-host"}
    network.output("ip", "addr", "add", "10.0.0.100/24", "dev", "host")
    network.output("oko", "flow", "add", BRIDGE, "in_port=1,actions=LOCAL", "in_port=LOCAL,actions=output:1")
    network.listen(SWITCH, "10.0.0.100")
    assert network.connects("client", "10.0.0.100")
    okod.end(number)
    assert network.connects("client", "10.0.0.100")
    # From outside its namespace.
    type(network)(network.directory, network.lab, ()).output("oko", "bridge", "del", BRIDGE)
    assert interfaces(network) == before
    assert network.left() == []


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        pytest.param(("--local", "p1"), "an interface of one of these names exists", id="taken"),
        pytest.param(("--local", "a-long-name1"), "no name for the interface of the port LOCAL", id="long"),
        pytest.param(("--local", "host", "--port", "nope=1"), "interface nope", id="start that fails"),
    ],
)
def test_a_local_port_that_cannot_be_leaves_nothing(network: Network, options: tuple[str, ...], complaint: str) -> None:
    before = interfaces(network)
    assert complaint in network.error("okod", "--standalone", BRIDGE, *options)
    assert interfaces(network) == before
    assert network.left() == []


def test_somebody_elses_interface_is_left_alone(network: Network) -> None:
    network.output("ip", "link", "add", "oko-host", "type", "veth", "peer", "name", "theirs")
    try:
        assert "interface oko-host exists" in network.error("okod", "--standalone", BRIDGE, "--local", "host")
        assert {"oko-host", "theirs"} <= interfaces(network)
        assert network.left() == []
    finally:
        network.output("ip", "link", "del", "oko-host")


@pytest.fixture
def measuring() -> Iterator[None]:
    """The kernel measures the run time of programs."""
    with run_time(measured=True):
        yield


@pytest.mark.usefixtures("measuring")
def test_run_time_of_packets(switch: Switch) -> None:
    switch.begin().add("in_port=1,actions=output:2")
    switch.wires[1].send(frame())
    assert switch.wires[2].receive() == frame()
    shown = switch.output("oko", "bridge", "show", BRIDGE)
    assert re.search(r"\nrun time per packet: [1-9]\d* ns, the mean of [1-9]\d* packets?\n$", shown)


def state(status: PortStatus) -> tuple[int, bool]:
    """The port, and whether its link is down."""
    return status.desc.port_no, bool(status.desc.state & PortState.LINK_DOWN)


def test_a_port_that_comes_back_is_a_port_again(switch: Switch) -> None:
    controller = switch.begin()
    controller.add("in_port=1,actions=output:2", "in_port=2,actions=output:1")
    switch.ip("host2", "link set eth0 down")
    assert state(controller.hear(PortStatus)) == (2, True)
    assert "down" in switch.output("oko", "bridge", "show", BRIDGE)
    switch.ip("host2", "link set eth0 up")
    assert state(controller.hear(PortStatus)) == (2, False)
    switch.ip(SWITCH, "link del p2")
    assert state(controller.hear(PortStatus)) == (2, True)
    switch.wires[1].send(frame())
    # This cannot be a port, and does not become one; everything else goes on.
    switch.ip(SWITCH, "link add p2 type bridge")
    controller.add("priority=1,in_port=1,actions=output:3")
    assert "gone" in switch.output("oko", "bridge", "show", BRIDGE)
    switch.ip(SWITCH, "link del p2")
    switch.ip("host2", f"link add eth0 type veth peer name p2 netns {switch.lab.namespace(SWITCH)}")
    switch.ip("host2", "link set eth0 up")
    switch.ip(SWITCH, "link set p2 up")
    while state(controller.hear(PortStatus)) != (2, False):
        pass
    switch.wires[2].close()
    switch.wires[2] = Wire(switch.path("host2"))
    for sender, receiver in ((1, 2), (2, 1)):
        switch.wires[sender].send(frame(sender))
        assert switch.wires[receiver].receive() == frame(sender)
    switch.output("oko", "bridge", "del", BRIDGE)
    assert switch.xdp_mode("p2") is None
    assert switch.offloads("host2")["tx-checksum-ip-generic"]


def test_a_port_that_was_elsewhere_is_a_port_again(switch: Switch) -> None:
    before = switch.offloads("host2")
    controller = switch.begin()
    controller.add("in_port=1,actions=output:2", "in_port=2,actions=output:1")
    switch.ip(SWITCH, f"link set p2 netns {switch.lab.namespace('host3')}")
    switch.ip("host3", f"link set p2 netns {switch.lab.namespace(SWITCH)}")
    switch.ip(SWITCH, "link set p2 up")
    while state(controller.hear(PortStatus)) != (2, False):
        pass
    for sender, receiver in ((1, 2), (2, 1)):
        switch.wires[sender].send(frame(sender))
        assert switch.wires[receiver].receive() == frame(sender)
    switch.output("oko", "bridge", "del", BRIDGE)
    assert switch.offloads("host2") == before
    assert run_in(switch.path(SWITCH), lambda: interface("p2")).xdp_mode is None
