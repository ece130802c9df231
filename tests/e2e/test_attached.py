"""okod attached to a real Open vSwitch: its start and end, the rules of both, and restarts under way."""

from __future__ import annotations

import itertools
import signal
import struct
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Self

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from demo.lab import HOST_INTERFACE, SWITCH, Lab
from oko.attached import shim
from oko.attached.near_end import GROWTH, USER_SPACE
from oko.author.frame import build_frame
from oko.flow.text import parse_selection
from oko.kernel.ethtool import offloads
from oko.kernel.interface import interface
from oko.kernel.namespace import run_in
from tests.e2e.conftest import HOSTS, Network
from tests.e2e.wire import Wire, frame
from tests.oko.attached.attached import compiled, odd
from tests.oko.attached.fence import FENCE, FENCED, exchange, exchange_numbers
from tests.oko.attached.tap import Tap
from tests.oko.kernel.waiting import wait_until
from tests.ovs import DATAPATH_TYPE, Vswitch, needs_ovs
from tests.patience import patience
from tests.stage import BRIDGE, Okod, mounted

pytestmark = [needs_ovs, pytest.mark.needs_bpf]


class Attached(Network):
    """The stage at the switch of a laboratory with three hosts at the ports 1 to 3 of the bridge br0 of `vswitch`."""

    def __init__(self, directory: Path, lab: Lab, prefix: tuple[str, ...], vswitch: Vswitch) -> None:
        super().__init__(directory, lab, prefix)
        self.vswitch = vswitch
        self.wires = {number: Wire(self.path(f"host{number}")) for number in (1, 2, 3)}
        vswitch.add_bridge(BRIDGE, [host.port for host in HOSTS], DATAPATH_TYPE)
        vswitch.ofctl("add-flow", BRIDGE, FENCE)

    def attach(self, *options: str) -> Okod:
        return self.start(f"--ovsdb={self.vswitch.remote}", *options, role="--attach")

    def detach(self) -> None:
        self.output("okod", "--detach", BRIDGE)

    def load_odd(self) -> None:
        """Program 1 says yes to frames with an odd number."""
        path = self.directory / "odd.o"
        path.write_bytes(odd(self.directory))
        self.output("oko-load", BRIDGE, "1", path)

    def directly(self, command: str, *words: str) -> None:
        """ovs-ofctl, past an okod that has taken the bridge's name; `command` may begin with options."""
        target = f"{self.vswitch.target(BRIDGE)}.ovs"
        line = ["ovs-ofctl", "-OOpenFlow13", *command.split(), target, *words]
        subprocess.run(line, check=True, timeout=patience(10))

    def oko(self, *words: str) -> str:
        return self.output("oko", *words)

    def exchange(self, *numbers: int, port: int = 1) -> dict[int, list[int]]:
        """Frames with these numbers come in by a port; those that arrive, by host, in ascending order."""
        return exchange_numbers(self.wires, numbers, port, self.vswitch.settle)

    def clean(self) -> None:
        for wire in self.wires.values():
            wire.close()
        for process in self._started:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=patience(60))
        self._started.clear()
        if list(self.statedir.glob("*.attached")):
            self.detach()
        super().clean()


@pytest.fixture
def attached(tmp_path: Path) -> Iterator[Attached]:
    with Lab(HOSTS) as lab:
        prefix = ("nsenter", f"--net=/run/netns/{lab.namespace(SWITCH)}", "--")
        with (
            Vswitch(tmp_path / "ovs", prefix=prefix) as vswitch,
            mounted(Attached(tmp_path, lab, prefix, vswitch)) as stage,
        ):
            yield stage


def found(attached: Attached) -> dict[str, object]:
    """All of Open vSwitch and of the ports that attaching could change."""
    columns = {
        "Bridge": "datapath_id,protocols,fail_mode,controller,other_config,flow_tables",
        "Controller": "_uuid,target,connection_mode,max_backoff,inactivity_probe",
        "Interface": "name,type,ofport,ifindex,mtu,mtu_request,error,options",
        "Port": "name,tag,trunks,qos",
    }
    state: dict[str, object] = {
        table: attached.vswitch.vsctl(f"--columns={names}", "--format=json", "list", table)
        for table, names in columns.items()
    }
    for command in ("--no-stats dump-flows", "dump-groups", "dump-meters", "dump-ports-desc", "show"):
        lines = attached.vswitch.ofctl(command, BRIDGE).splitlines()[1:]
        state[command] = sorted(line for line in lines if "speed" not in line)
    state["sockets"] = sorted(path.name for path in attached.vswitch.directory.glob(f"{BRIDGE}.*"))
    for host in HOSTS:
        port = run_in(attached.path(SWITCH), partial(interface, host.port))
        state[host.port] = (port.xdp_mode, port.mtu, run_in(attached.path(SWITCH), partial(offloads, host.port)))
        state[host.name] = run_in(attached.path(host.name), partial(offloads, "eth0"))
    return state


@pytest.mark.parametrize("mode", ["proxy", "listen"])
@pytest.mark.parametrize("ending", [None, signal.SIGTERM, signal.SIGKILL], ids=["running", "ended", "killed"])
def test_attach_and_detach(attached: Attached, mode: str, ending: int | None) -> None:
    attached.vswitch.vsctl("set", "bridge", BRIDGE, "other_config:disable-in-band=true")
    attached.vswitch.vsctl("set-controller", BRIDGE, "tcp:127.0.0.1:1", f"punix:{attached.vswitch.directory}/br0.ctl")
    # Open vSwitch forgets all rules when it gets its first controller.
    attached.vswitch.ofctl("add-flow", BRIDGE, FENCE)
    attached.vswitch.ofctl("add-flow", BRIDGE, "priority=5,actions=output:2")
    before = found(attached)
    okod = attached.attach(f"--mode={mode}")
    assert okod.ready == f"ready: bridge br0, 3 ports, {attached.rundir.socket(BRIDGE)}"
    attached.load_odd()
    attached.oko("flow", "add", BRIDGE, "priority=10,filter_prog=1,actions=output:3")
    attached.oko("flow", "add", BRIDGE, "priority=9,filter_prog=1,actions=NORMAL")
    assert attached.exchange(1, 2, 3) == {2: [2], 3: [1, 3]}
    if ending is not None:
        okod.end(ending)
        assert attached.exchange(4, 5) == {2: [4], 3: [5]}
    attached.detach()
    assert okod.process.wait(patience(10)) in (0, -signal.SIGKILL)
    assert attached.left() == []
    assert found(attached) == before
    assert attached.exchange(6, 7) == {2: [6, 7]}


def test_whose_a_bridge_is(attached: Attached) -> None:
    """Without its okod tools say how to get out, and nobody runs a bridge as what it is not."""
    before = found(attached)
    attached.start().end(signal.SIGTERM)
    assert "is one of Oko's own already" in attached.error(
        "okod", "--attach", BRIDGE, "--ovsdb", attached.vswitch.remote
    )
    attached.oko("bridge", "del", BRIDGE)
    attached.attach().end(signal.SIGKILL)
    assert "run 'okod --detach br0'" in attached.error("oko", "flow", "list", BRIDGE)
    assert "run 'okod --detach br0' first" in attached.error("okod", "--standalone", BRIDGE)
    attached.oko("bridge", "del", BRIDGE)
    assert attached.left() == []
    assert found(attached) == before


def test_rules_of_both_kinds(attached: Attached) -> None:
    """NORMAL behind a filter, rules that go through to Open vSwitch, one list of all, and metrics."""
    attached.attach("--metrics=127.0.0.1:9653")
    attached.load_odd()
    attached.oko("flow", "add", BRIDGE, "priority=5,actions=output:2", "priority=10,filter_prog=1,actions=NORMAL")
    assert attached.exchange(1, 2) == {2: [1, 2], 3: [1]}
    assert attached.exchange(1, port=3) == {1: [1], 2: [1]}
    assert "priority=5 actions=output:2" in attached.vswitch.ofctl("--no-stats dump-flows", BRIDGE)
    listed = attached.oko("flow", "list", BRIDGE)
    assert "n_packets=2, n_bytes=120, priority=10,filter_prog=1 actions=NORMAL" in listed
    assert "priority=5 actions=output:2" in listed
    assert "priority=65535" not in listed
    assert len(attached.oko("flow", "list", BRIDGE, "filter_prog=1").splitlines()) == 1
    with run_in(attached.path(SWITCH), lambda: urllib.request.urlopen("http://127.0.0.1:9653/metrics")) as answer:
        metrics = answer.read()
    assert b'oko_program_matches_total{bridge="br0",name="odd",program="1"} 2.0\n' in metrics
    assert b'oko_connections{bridge="br0"} 0.0\n' in metrics
    # By the bridge's name, as an operator does.
    attached.vswitch.ofctl("del-flows", BRIDGE, "dl_type=0x88b5")
    attached.oko("flow", "del", BRIDGE)
    attached.vswitch.ofctl("add-flow", BRIDGE, FENCE)
    assert attached.exchange(1, 2) == {}


def test_packets_of_controllers(attached: Attached) -> None:
    """Filter rules are asked about those that come in by a port with XDP."""
    attached.attach()
    attached.load_odd()
    attached.oko("flow", "add", BRIDGE, "priority=10,filter_prog=1,actions=output:3")
    numbers = itertools.count(1)
    for version in ("OpenFlow10", "OpenFlow13"):
        attached.vswitch.ofctl("add-flow", BRIDGE, "priority=5,actions=output:2")
        for port, odd_ones in (("1", 3), ("CONTROLLER", 2), ("LOCAL", 2)):
            for number in itertools.islice(numbers, 2):
                words = f"in_port={port} packet={frame(number).hex()} actions=TABLE"
                attached.vswitch.ofctl("packet-out", BRIDGE, words, version=version)
                assert attached.exchange() == {odd_ones if number % 2 else 2: [number]}
        attached.vswitch.ofctl("--strict del-flows", BRIDGE, "priority=5")


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_okod_restarts(attached: Attached, ending: int) -> None:
    """Packets are decided as before while no okod runs, and by the same rules when the next does."""
    okod = attached.attach()
    attached.load_odd()
    attached.oko("flow", "add", BRIDGE, "priority=5,actions=output:2", "priority=10,filter_prog=1,actions=NORMAL")
    assert attached.exchange(1, 2) == {2: [1, 2], 3: [1]}
    okod.end(ending)
    assert attached.exchange(3, 4) == {2: [3, 4], 3: [3]}
    attached.attach()
    assert attached.exchange(5, 6) == {2: [5, 6], 3: [5]}
    listed = attached.oko("flow", "list", BRIDGE)
    assert "n_packets=3, n_bytes=180, priority=10,filter_prog=1 actions=NORMAL" in listed
    attached.oko("flow", "del", BRIDGE, "filter_prog=1")
    assert attached.exchange(7, 8) == {2: [7, 8]}


@pytest.mark.parametrize("abruptly", [False, True], ids=["ended", "killed"])
def test_open_vswitch_restarts(attached: Attached, abruptly: bool) -> None:
    attached.attach()
    attached.load_odd()
    attached.oko("flow", "add", BRIDGE, "priority=10,filter_prog=1,actions=NORMAL")
    assert attached.exchange(1, 2) == {2: [1], 3: [1]}
    attached.vswitch.stop_switch(abruptly=abruptly)
    attached.vswitch.start_switch()
    # Until okod knows of the new one, rules are refused.
    wait_until(lambda: attached.run("oko", "flow", "add", BRIDGE, FENCE).returncode == 0)
    attached.vswitch.appctl("revalidator/purge")
    wait_until(lambda: attached.exchange(1, 2) == {2: [1], 3: [1]})
    attached.oko("flow", "add", BRIDGE, "priority=5,actions=output:2")
    assert attached.exchange(3) == {2: [3], 3: [3]}


TABLE = (
    "priority=100,tcp,nw_dst=10.0.0.1,tp_dst=80,filter_prog=1,actions=drop",
    "priority=10,tcp,tp_dst=80,filter_prog=2,actions={}",
    "priority=1,actions=drop",
)
"""Table I of "Datacenter Networks: Enforcing Security at the Software Switch" (Chaignon et al.): what a matches is
dropped, the rest of the web traffic goes through b to port 2, nothing else passes. a is program 1, b program 2. Its
last rule is Open vSwitch's."""
WEB = "tcp,nw_dst=10.0.0.1,tp_dst=80"
CASES = {
    "a says yes": (WEB, 0b11, False),
    "a says no, b yes": (WEB, 0b10, True),
    "both say no": (WEB, 0b00, False),
    "other server, b yes": ("tcp,nw_dst=10.0.0.2,tp_dst=80", 0b11, True),
    "other server, b no": ("tcp,nw_dst=10.0.0.2,tp_dst=80", 0b01, False),
    "other service": ("tcp,nw_dst=10.0.0.1,tp_dst=443", 0b11, False),
    "other protocol": ("udp,nw_dst=10.0.0.1,tp_dst=80", 0b11, False),
}
"""A packet, what the programs say of it (a's answer is the lowest bit), and whether it arrives."""


@pytest.mark.parametrize("actions", ["output:2", "NORMAL", "set_field:02:00:00:00:00:0a->eth_src,output:2"])
def test_the_table_of_the_paper(attached: Attached, actions: str) -> None:
    """Sent by XDP, and by Open vSwitch after a filter."""
    attached.attach()
    for number in (1, 2):
        path = attached.directory / f"bit{number}.o"
        path.write_bytes(compiled("bit.c", attached.directory, f"-DBIT={number - 1}"))
        attached.output("oko-load", BRIDGE, str(number), path)
    attached.oko("flow", "add", BRIDGE, *(rule.format(actions) for rule in TABLE))
    taps = {number: Tap(attached.path(f"host{number}")) for number in (1, 2)}
    fences = iter(range(100))
    for tags in (b"", struct.pack(">HH", 0x8100, 7)):
        for text, answers, arrives in CASES.values():
            packet = build_frame(parse_selection(text).rule.match)
            packet = bytes.fromhex("0200000000ff") + packet[6:11] + bytes((answers,)) + tags + packet[12:]
            taps[1].send(packet)
            found = []
            for _ in range(2):
                fence = FENCED + frame(next(fences), source=9)[6:]
                taps[1].send(fence)
                found += [each for each in taps[2].until(fence) if each[12 + len(tags) :][:2] == b"\x08\x00"]
                attached.vswitch.settle()
            if arrives and "eth_src" in actions:
                packet = packet[:6] + bytes.fromhex("02000000000a") + packet[12:]
            assert found == ([packet] if arrives else [])
    for tap in taps.values():
        tap.close()


class Traffic:
    """Frames with ascending numbers from host 1 while the context lasts, one about every millisecond, and where they
    arrive: `found` has the hosts, by number. What arrives otherwise than it was sent is `strange`."""

    def __init__(self, attached: Attached) -> None:
        self._taps = {number: Tap(attached.path(f"host{number}")) for number in (1, 2, 3)}
        self._ended = threading.Event()
        self._attached = attached
        self._thread = threading.Thread(target=self._send)
        self.sent = 0
        self.found: dict[int, set[int]] = {}
        self.strange: list[bytes] = []

    def _send(self) -> None:
        while not self._ended.wait(0.001):
            self._taps[1].send(frame(self.sent))
            self.sent += 1

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        for number in range(0 if kind else 2):
            fence = FENCED + frame(number, source=9)[6:]
            self._taps[1].send(fence)
            for port, tap in self._taps.items():
                for arrived in tap.until(fence):
                    self._sort(port, arrived)
        for tap in self._taps.values():
            tap.close()

    def _sort(self, port: int, arrived: bytes) -> None:
        number = int.from_bytes(arrived[14:18], "big")
        if arrived[12:14] == b"\x88\xb5" and arrived[:6] != FENCED and arrived == frame(number):
            self.found.setdefault(number, set()).add(port)
        elif arrived[12:14] in (b"\x88\xb5", shim.ETHERTYPE.to_bytes(2, "big")) and arrived[:6] != FENCED:
            self.strange.append(arrived)


def test_nothing_goes_wrong_while_traffic_flows(attached: Attached) -> None:
    """Whatever ends and begins again, and whatever an operator does past Oko: each frame arrives where a table sends
    it, or nowhere, as it was."""

    def rules() -> None:
        wait_until(
            lambda: attached.run("oko", "flow", "add", BRIDGE, FENCE, "priority=5,actions=output:2").returncode == 0
        )

    def flows() -> bool:
        seen = attached.wires[3]
        seen.waiting()
        return seen.receive() is not None

    okod = attached.attach()
    attached.load_odd()
    rules()
    attached.oko("flow", "add", BRIDGE, "priority=10,in_port=1,dl_src=02:00:00:00:00:01,filter_prog=1,actions=NORMAL")
    with Traffic(attached) as traffic:
        assert flows()
        okod.end(signal.SIGKILL)
        assert flows()
        okod = attached.attach()
        assert flows()
        attached.directly("del-flows")
        rules()
        attached.vswitch.stop_switch(abruptly=True)
        attached.vswitch.start_switch()
        rules()
        okod.end(signal.SIGTERM)
        attached.vswitch.stop_database()
        attached.vswitch.start_database()
        attached.attach()
        rules()
        attached.vswitch.appctl("revalidator/purge")
    odd_ones = {number: at for number, at in traffic.found.items() if number % 2}
    even = {number: at for number, at in traffic.found.items() if not number % 2}
    assert traffic.strange == []
    assert {frozenset(at) for at in odd_ones.values()} <= {frozenset({2, 3})}
    assert {frozenset(at) for at in even.values()} <= {frozenset({2})}
    assert len(odd_ones) > 100
    assert len(even) > 100


@pytest.mark.parametrize("runs", [True, False], ids=["okod runs", "no okod runs"])
def test_an_mtu_that_somebody_changes(attached: Attached, runs: bool) -> None:
    """It is the network's from then on: what Open vSwitch takes now passes XDP, too, and detaching gives it back."""
    long = [frame(number, size=2000) for number in (1, 2)]

    def mtus() -> list[int]:
        names = (BRIDGE, *(host.port for host in HOSTS))
        return run_in(attached.path(SWITCH), lambda: [interface(name).mtu for name in names])

    okod = attached.attach()
    attached.load_odd()
    attached.oko("flow", "add", BRIDGE, "priority=5,actions=output:2", "priority=10,filter_prog=1,actions=NORMAL")
    if not runs:
        okod.end(signal.SIGKILL)
    for host in HOSTS:
        for place, name in ((SWITCH, host.port), (host.name, HOST_INTERFACE)):
            command = ("nsenter", f"--net={attached.path(place)}", "ip", "link", "set", name, "mtu", "2000")
            subprocess.run(command, check=True, timeout=patience(10))
    if not runs:
        attached.attach()
    # The kernel's datapath needs no more room.
    room = GROWTH if DATAPATH_TYPE == USER_SPACE else 0
    wait_until(lambda: mtus() == [2000, *[2000 + room] * 3])
    wait_until(lambda: exchange(attached.wires, long, 1, attached.vswitch.settle) == {2: long, 3: long[:1]})
    attached.detach()
    assert mtus() == [2000] * 4


def test_what_is_not_as_it_should_be_is_shown(attached: Attached) -> None:
    attached.vswitch.vsctl("add-port", BRIDGE, "vx0", "--", "set", "interface", "vx0", "type=vxlan", "options:key=7")
    attached.attach()
    attached.load_odd()
    attached.oko("flow", "add", BRIDGE, "priority=10,filter_prog=1,actions=NORMAL")
    shown = attached.oko("bridge", "show", BRIDGE)
    assert "attached to Open vSwitch" in shown
    assert "br0: has no XDP: it is the host's own end" in shown
    assert "vx0: has no XDP: packets of a tunnel come in by another interface" in shown
    attached.directly("add-flow", "priority=20,pkt_mark=1,actions=drop")
    suspended = "priority=10,filter_prog=1: is suspended: the plain rule priority=20 matches on pkt_mark"
    wait_until(lambda: suspended in attached.oko("bridge", "show", BRIDGE))
    attached.directly("--strict del-flows", "priority=20,pkt_mark=1")
    wait_until(lambda: "suspended:" not in attached.oko("bridge", "show", BRIDGE))


def datagram(length: int, *, back: bool = False) -> bytes:
    """A UDP datagram in a frame between hosts 1 and 2, whose IP packet has this length: what the program looks at."""
    ends = [("02:00:00:00:00:01", "10.0.0.1", 1000), ("02:00:00:00:00:02", "10.0.0.2", 53)]
    (source, address, port), (destination, other_address, other_port) = reversed(ends) if back else ends
    headers = (
        Ether(src=source, dst=destination) / IP(src=address, dst=other_address) / UDP(sport=port, dport=other_port)
    )
    return bytes(headers / Raw(bytes(length - 28)))


class Taps:
    """Those of the three hosts."""

    def __init__(self, attached: Attached) -> None:
        self._taps = {number: Tap(attached.path(f"host{number}")) for number in (1, 2, 3)}
        self._settle = attached.vswitch.settle
        self._numbers = itertools.count()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for tap in self._taps.values():
            tap.close()

    def arriving(self, packet: bytes, port: int) -> list[int]:
        """The hosts that a packet reaches, as it is, that the one at this port sends."""
        self._taps[port].send(packet)
        found = []
        # The first fence may be in one batch with the packet, and overtake it.
        for _ in range(2):
            fence = FENCED + frame(next(self._numbers), source=9)[6:]
            self._taps[port].send(fence)
            found += [number for number, tap in self._taps.items() if packet in tap.until(fence)]
            self._settle()
        return found


def test_open_vswitch_goes_on_with_its_own_actions(attached: Attached) -> None:
    """Connections that filter rules begin, rules that they learn, and tables that they lead to."""
    attached.attach()
    attached.load_odd()
    attached.oko(
        "flow", "add", BRIDGE,
        "priority=9,udp,filter_prog=1,actions=ct(commit,zone=7,table=1,exec(set_field:5->ct_mark))",
        "priority=10,arp,filter_prog=1,actions=learn(table=2,eth_type=0x800,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],"
        "output:NXM_OF_IN_PORT[]),load:7->NXM_NX_REG0[0..3],resubmit(,3)",
        "priority=5,udp,in_port=2,actions=ct(zone=7,table=1)",
    )  # fmt: skip
    for rule in (
        "table=1,ct_state=+new+trk,udp,ct_mark=5,actions=output:2",
        "table=1,ct_state=+est+trk,udp,actions=output:1",
        "table=3,reg0=7,actions=output:3",
    ):
        attached.vswitch.ofctl("add-flow", BRIDGE, rule)
    answer = datagram(64, back=True)
    request = frame(0)[:12] + bytes.fromhex("0806 0001 0801") + frame(0)[18:]
    with Taps(attached) as taps:
        assert taps.arriving(answer, 2) == []
        assert taps.arriving(datagram(64), 1) == []
        assert taps.arriving(datagram(65), 1) == [2]
        assert taps.arriving(answer, 2) == [1]
        assert taps.arriving(request, 1) == [3]
    learned = attached.oko("flow", "list", BRIDGE, "table=2")
    assert "ip,dl_dst=02:00:00:00:00:01 actions=output:1" in learned
    listed = attached.oko("flow", "list", BRIDGE, "table=0")
    assert "actions=ct(commit,table=1,zone=7,exec(set_field:0x5->ct_mark))" in listed
    assert "priority=5,udp,in_port=2 actions=ct(table=1,zone=7)" in listed


TRACED = {
    "dropped": (
        2,
        datagram(65, back=True),
        ["wins   priority=9,udp,in_port=2,filter_prog=1 actions=drop", "sent nowhere"],
        "",
    ),
    "sent": (1, frame(1), ["sent to port 3: 60 bytes:"], ""),
    "continued": (
        1,
        datagram(65),
        ["continued by Open vSwitch: priority=9,udp,in_port=1,filter_prog=1 actions=ct(commit,table=1)"],
        "ofproto/trace-packet-out br0 in_port=1",
    ),
    "plain above": (
        1,
        datagram(65)[:12] + bytes.fromhex("0806 0001 0801") + bytes(42),
        ["passed to Open vSwitch as it came: the plain rule priority=20,arp stands above"],
        "ofproto/trace br0 in_port=1",
    ),
    "none": (
        1,
        frame(2),
        ["passed to Open vSwitch as it came: no filter rule matches"],
        "ofproto/trace br0 in_port=1",
    ),
    "no XDP": (
        9,
        frame(1),
        ["port 9 has no XDP: Open vSwitch decides all packets that come in there"],
        "ofproto/trace br0 in_port=9",
    ),
}


def test_a_packet_is_explained(attached: Attached) -> None:
    """By oko trace: what XDP does with it, and what Open vSwitch says of the rest."""
    words = ("add-port", BRIDGE, "i9", "--", "set", "interface", "i9", "type=internal", "ofport_request=9")
    attached.vswitch.vsctl(*words)
    attached.attach()
    attached.load_odd()
    attached.oko(
        "flow", "add", BRIDGE,
        "priority=20,arp,actions=output:2",
        "priority=9,udp,in_port=1,filter_prog=1,actions=ct(commit,table=1)",
        "priority=9,udp,in_port=2,filter_prog=1,actions=drop",
        "priority=8,filter_prog=1,actions=output:3",
        "priority=1,actions=output:2",
        "table=1,actions=output:2",
    )  # fmt: skip
    program = f"1={attached.directory / 'odd.o'}"
    for in_port, packet, told, asked in TRACED.values():
        lines = attached.oko("trace", BRIDGE, "--program", program, "--in-port", str(in_port), packet.hex())
        for each in told:
            assert each in lines
        if asked:
            assert f"ovs-appctl {asked} {packet.hex()}" in lines
            assert "Datapath actions: " in lines
        if in_port != 9:
            assert "the image in the kernel agrees" in lines
