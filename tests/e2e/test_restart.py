"""okod is killed and started again: what was in the bridge is there, and packets are forwarded all the while."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from demo.lab import SWITCH
from oko.kernel.interface import interface
from oko.kernel.namespace import run_in
from oko.switch.datapath import take_down
from tests.e2e.conftest import PORTS, Network, Switch
from tests.e2e.controller import Controller
from tests.e2e.wire import frame
from tests.oko.kernel.waiting import wait_until
from tests.stage import BRIDGE, FIREWALL, ROOT, Okod

pytestmark = pytest.mark.needs_bpf

ALL_PORTS = ("--port=p1=1", "--port=p2=2", "--port=p3=3")


def contents(stage: Network) -> dict[str, str]:
    """What a bridge has, without the times."""
    lists = {
        "flows": ("oko", "flow", "list", BRIDGE),
        "groups": ("oko", "group", "list", BRIDGE),
        "meters": ("oko", "meter", "list", BRIDGE),
        "observers": ("oko", "observer", "list", BRIDGE),
        "programs": ("oko", "program", "list", BRIDGE),
        "config": ("oko", "map", "dump", BRIDGE, "1", "config"),
    }
    return {name: re.sub(r"duration=[\d.]+s", "", stage.output(*command)) for name, command in lists.items()}


def again(stage: Network, okod: Okod, *options: str, by: signal.Signals = signal.SIGKILL) -> Okod:
    """End okod, and start the next."""
    okod.end(by)
    return stage.start(*options)


def logged(okod: Okod) -> str:
    """End okod; what it has logged."""
    okod.process.terminate()
    return okod.process.communicate(timeout=20)[1]


def fill(switch: Switch, controller: Controller) -> dict[str, str]:
    """One of everything; frames from host 1 go to host 2, by a group, and those from host 2 to 3 by a meter."""
    switch.output("oko-load", BRIDGE, "1", FIREWALL)
    switch.output("oko", "observer", "add", BRIDGE, "filter_prog=1")
    controller.add_group("group_id=7,type=indirect,bucket=output:2")
    controller.add_meter("meter=3,pktps,band=type=drop,rate=1000000")
    controller.add("in_port=1,actions=group:7", "in_port=2,actions=meter:3,output:3")
    controller.add("priority=9,filter_prog=1,tcp,in_port=3,actions=output:1", "table=5,cookie=0x77,actions=drop")
    controller.delete("table=5")
    switch.wires[1].send(frame())
    switch.assert_received([frame()], at=[2])
    wait_until(lambda: "n_packets=1," in switch.output("oko", "flow", "list", BRIDGE))
    return contents(switch)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_everything_is_there(switch: Switch, number: signal.Signals) -> None:
    okod = switch.start(*ALL_PORTS)
    first = Controller(switch.rundir.socket(BRIDGE))
    before = fill(switch, first)
    first.close()
    okod.end(number)
    switch.wires[2].send(frame(2))
    switch.assert_received([frame(2)], at=[3])
    okod = switch.start(*ALL_PORTS)
    after = contents(switch)
    # The frame that came when there was no okod is counted, too.
    assert after.pop("flows") == before.pop("flows").replace(
        "n_packets=0, n_bytes=0, in_port=2", f"n_packets=1, n_bytes={len(frame(2))}, in_port=2"
    )
    assert after.pop("meters") != before.pop("meters")
    assert after.pop("programs") != before.pop("programs")
    assert after == before
    # And it goes on: slots are not given away twice.
    switch.controller = Controller(switch.rundir.socket(BRIDGE))
    switch.controller.add("in_port=3,actions=output:2")
    switch.wires[3].send(frame(3))
    switch.assert_received([frame(3)], at=[2])
    added = re.compile("n_packets=1, .*in_port=3 actions=output:2")
    wait_until(lambda: added.search(switch.output("oko", "flow", "list", BRIDGE)) is not None)


def test_what_packet_outs_counted_outlives_a_clean_end(switch: Switch) -> None:
    """It is counted outside of the kernel's map, and no change comes afterwards to be written down with."""
    okod = switch.start(*ALL_PORTS)
    first = Controller(switch.rundir.socket(BRIDGE))
    first.add_group("group_id=7,type=indirect,bucket=output:2")
    first.packet_out("group:7", frame(), 3)
    first.close()
    switch.assert_received([frame()], at=[2])
    again(switch, okod, *ALL_PORTS, by=signal.SIGTERM)
    assert "n_packets=1," in switch.output("oko", "group", "list", BRIDGE)


def test_after_a_reboot(switch: Switch) -> None:
    """bpffs and the run directory are empty then."""
    okod = switch.start(*ALL_PORTS)
    first = Controller(switch.rundir.socket(BRIDGE))
    before = fill(switch, first)
    first.close()
    okod.end(signal.SIGKILL)
    take_down(switch.bpffs / "oko" / BRIDGE)
    shutil.rmtree(switch.rundir.path)
    switch.start(*ALL_PORTS)
    after = contents(switch)
    assert re.sub(r"n_packets=\d+, n_bytes=\d+", "", before["flows"]) == after["flows"].replace(
        "n_packets=0, n_bytes=0", ""
    )
    assert (after["observers"], after["config"]) == (before["observers"], before["config"])
    switch.wires[1].send(frame(4))
    switch.assert_received([frame(4)], at=[2])


def test_no_frame_is_lost() -> None:
    command = [sys.executable, "-m", "perf", "restart", "--kills", "2", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    account = result["account"]
    assert account["sent"] > 100_000
    assert account["lost"] == 0
    assert {name: count for name, count in account["drops"].items() if name.startswith("oko") and count} == {}
    assert result["counted"] == account["hops"]["p1 received"]


def damage(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_damaged_file(switch: Switch) -> None:
    """Nobody knows the tables any more: what the pipeline does goes on until somebody changes them."""
    okod = switch.start(*ALL_PORTS)
    first = Controller(switch.rundir.socket(BRIDGE))
    first.add("in_port=1,actions=output:2")
    first.close()
    okod.end(signal.SIGKILL)
    (journal,) = sorted((switch.statedir / BRIDGE).glob("journal-*"))[-1:]
    damage(journal)
    content = journal.read_bytes()
    okod = switch.start(*ALL_PORTS)
    assert switch.output("oko", "flow", "list", BRIDGE) == ""
    switch.ip(SWITCH, "link set p3 down")
    switch.ip(SWITCH, "link set p3 up")
    switch.wires[1].send(frame(1))
    switch.assert_received([frame(1)], at=[2])
    (place,) = switch.statedir.glob("br0.bad-*")
    assert (place / journal.name).read_bytes() == content
    log = logged(okod)
    assert f"its flows and programs are not restored: {journal}: the record at byte " in log
    assert f"all is kept at {place}" in log
    # Nor does the next okod know them.
    okod = switch.start(*ALL_PORTS)
    switch.wires[1].send(frame(1))
    switch.assert_received([frame(1)], at=[2])
    controller = switch.controller = Controller(switch.rundir.socket(BRIDGE))
    controller.add("in_port=2,actions=output:3")
    switch.wires[1].send(frame(2))
    switch.wires[2].send(frame(3))
    switch.assert_received([frame(3)], at=[3])
    assert "its tables are not known: packets are decided as before until they are changed" in logged(okod)
    # What was changed since is known again.
    switch.start(*ALL_PORTS)
    assert "in_port=2 actions=output:3" in switch.output("oko", "flow", "list", BRIDGE)


def test_other_ports(switch: Switch) -> None:
    before = switch.offloads("host2")
    okod = switch.start("--port=p1=1", "--port=p2=2")
    offloads = switch.offloads("host1")
    switch.output("oko", "flow", "add", BRIDGE, "in_port=1,actions=output:2")
    again(switch, okod, "--port=p1=1", "--port=p3=3")
    assert [switch.xdp_mode(port) for port in ("p1", "p2", "p3")] == ["native", None, "native"]
    assert (switch.offloads("host1"), switch.offloads("host2")) == (offloads, before)
    # The flow is there, and its port is not.
    assert "in_port=1 actions=output:2" in switch.output("oko", "flow", "list", BRIDGE)
    switch.wires[1].send(frame(1))
    dropped = re.compile(r"^ *1 +\d+ +no-port$", re.MULTILINE)
    wait_until(lambda: dropped.search(switch.output("oko", "bridge", "show", BRIDGE)) is not None)
    switch.output("oko", "flow", "add", BRIDGE, "in_port=1,actions=output:3")
    switch.wires[1].send(frame(2))
    switch.assert_received([frame(2)], at=[3])
    assert [port.name for port in switch.rundir.read(BRIDGE).ports] == ["p1", "p3"]


def test_a_port_that_is_gone_at_the_start(switch: Switch) -> None:
    okod = switch.start(*ALL_PORTS)
    switch.output("oko", "flow", "add", BRIDGE, "in_port=1,actions=output:2", "in_port=3,actions=output:2")
    okod.end(signal.SIGKILL)
    switch.ip(SWITCH, "link del p3")
    switch.start(*ALL_PORTS)
    assert re.search(r"^ *3 +p3 +gone$", switch.output("oko", "bridge", "show", BRIDGE), re.MULTILINE)
    switch.wires[1].send(frame(1))
    assert switch.wires[2].receive() == frame(1)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        pytest.param(("--port", "nope=3"), "interface nope", id="port"),
        pytest.param(("--listen", "punix:/proc/nowhere"), "/proc/nowhere: ", id="socket"),
        pytest.param(("--statedir", "/proc/nowhere"), "the state directory: /proc/nowhere", id="state directory"),
    ],
)
def test_a_start_that_fails_stops_nothing(network: Network, options: tuple[str, ...], complaint: str) -> None:
    okod = network.start(*PORTS)
    network.output("oko", "flow", "add", BRIDGE, "in_port=1,actions=output:2", "in_port=2,actions=output:1")
    okod.end(signal.SIGKILL)
    record, before = network.rundir.read(BRIDGE), network.offloads("server")
    assert complaint in network.run("okod", "--standalone", BRIDGE, *PORTS, *options).stderr
    assert (network.rundir.read(BRIDGE), network.offloads("server")) == (record, before)
    assert [network.xdp_mode(port) for port in ("p1", "p2")] == ["native", "native"]
    network.listen("server", "10.0.0.2")
    assert network.connects("client", "10.0.0.2")
    okod = network.start(*PORTS)
    assert len(network.output("oko", "flow", "list", BRIDGE).splitlines()) == 2
    assert logged(okod).count("its flows and programs are not restored") == 0


def test_the_local_port_stays(network: Network) -> None:
    okod = network.start("--port", "p1=1", "--local", "host")
    index = run_in(network.path(SWITCH), lambda: interface("host")).index
    okod = again(network, okod, "--port", "p1=1", "--local", "host")
    assert run_in(network.path(SWITCH), lambda: interface("host")).index == index
    again(network, okod, "--port", "p1=1")
    assert "host" not in network.output("ip", "-br", "link")
