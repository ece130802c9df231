"""okod and its bridge: how it starts, what keeps it from starting, and what it leaves."""

from __future__ import annotations

import shutil
import socket
import stat
from pathlib import Path

import pytest

from demo.lab import SWITCH
from ofext.constants import VERSION
from ofext.framing import Splitter
from ofext.messages import EchoReply, EchoRequest, Hello, VersionBitmap, decode, encode
from oko.kernel.interface import interface
from oko.kernel.link import attach_xdp
from oko.kernel.namespace import run_in
from oko.kernel.program import load_program
from tests.e2e.conftest import PORTS, Network
from tests.oko.kernel import assembler as asm
from tests.oko.kernel.waiting import wait_until
from tests.stage import BRIDGE, ROOT

pytestmark = pytest.mark.needs_bpf


def test_ready_and_gone(network: Network) -> None:
    before = network.offloads("server")
    okod = network.start(*PORTS)
    path = network.rundir.socket(BRIDGE)
    assert okod.ready == f"ready: bridge br0, 2 ports, {path}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [network.xdp_mode(port) for port in ("p1", "p2")] == ["native", "native"]
    assert network.output("oko", "bridge", "list").splitlines()[1].split() == [
        BRIDGE,
        str(okod.pid),
        "p1=1,p2=2",
        str(network.bpffs / "oko" / BRIDGE),
    ]
    # From outside its namespace, while it runs.
    outside = type(network)(network.directory, network.lab, ())
    outside.output("oko", "bridge", "del", BRIDGE)
    assert okod.process.wait(10) == 0
    assert network.left() == []
    assert network.offloads("server") == before
    assert [network.xdp_mode(port) for port in ("p1", "p2")] == [None, None]
    assert network.output("oko", "bridge", "list") == ""
    assert "bridge br0 does not exist" in network.error("oko", "bridge", "del", BRIDGE)


def test_second_okod(network: Network) -> None:
    okod = network.start(*PORTS)
    complaint = network.error("okod", "--standalone", BRIDGE, *PORTS)
    assert complaint == f"bridge br0: an okod runs it already (process {okod.pid})"
    assert network.output("oko", "flow", "list", BRIDGE) == ""


def test_pins_elsewhere(network: Network, tmp_path: Path) -> None:
    network.start(*PORTS).process.terminate()
    wait_until(lambda: network.rundir.pid(BRIDGE) is None)
    record = network.rundir.read(BRIDGE)
    complaint = network.error("okod", "--standalone", BRIDGE, "--bpffs", tmp_path)
    assert complaint == (
        f"bridge br0 still forwards for an earlier okod, pinned at {network.bpffs}/oko/br0: start okod with the same "
        "--bpffs, or take it away with 'oko bridge del br0'"
    )
    assert network.rundir.read(BRIDGE) == record


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        pytest.param(("--port", "p1=1", "--port", "nope=2"), "interface nope", id="unknown port"),
        pytest.param(("--port", "p1=1", "--port", "p1=2"), "two ports have the same interface: p1", id="twice"),
        pytest.param(("--port", "p1=1", "--port", "p2=1"), "two ports have the same number: 1", id="number twice"),
        pytest.param(("--port", "p1=1", "--port", "lo=2"), "port lo: its driver", id="no native XDP"),
        pytest.param((*PORTS, "--bpffs", "/proc"), "bpffs is not mounted at /proc: run 'mount", id="no bpffs"),
        pytest.param((*PORTS, "--bpffs", "/nowhere"), "bpffs is not mounted at /nowhere", id="no directory"),
        pytest.param(
            (*PORTS, "--listen", "ptcp:7000:192.0.2.1"), "ptcp:7000:192.0.2.1 listens in clear for other", id="in clear"
        ),
        pytest.param(
            (*PORTS, "--listen", "ptcp:7000:192.0.2.1", "--allow-cleartext"),
            "cannot listen on 192.0.2.1 port 7000",
            id="address",
        ),
        pytest.param(
            (*PORTS, "--rundir", "/proc/oko"), "the run directory /proc/oko: No such file", id="run directory"
        ),
    ],
)
def test_a_start_that_fails_leaves_nothing(network: Network, options: tuple[str, ...], complaint: str) -> None:
    before = network.offloads("client"), network.offloads("server")
    assert complaint in network.error("okod", "--standalone", BRIDGE, *options)
    assert network.left() == []
    assert (network.offloads("client"), network.offloads("server")) == before
    assert [network.xdp_mode(port) for port in ("p1", "p2")] == [None, None]
    network.start(*PORTS)


def test_port_with_a_program(network: Network) -> None:
    with load_program("mine", asm.returns(asm.XDP_PASS), "GPL", references={}) as program:
        number = program.info().id
        with run_in(network.path(SWITCH), lambda: attach_xdp(program, interface("p2").index)):
            complaint = network.error("okod", "--standalone", BRIDGE, *PORTS)
            assert complaint == f"port p2: it already has an XDP program (id {number}): detach that first"
            assert run_in(network.path(SWITCH), lambda: interface("p2")).xdp_program_id == number
    assert network.xdp_mode("p1") is None
    assert network.left() == []


def test_taken_tcp_port(network: Network) -> None:
    def bind() -> socket.socket:
        return socket.create_server(("127.0.0.1", 6653))

    with run_in(network.path(SWITCH), bind):
        complaint = network.error("okod", "--standalone", BRIDGE, *PORTS, "--listen", "ptcp:6653")
    assert complaint.startswith("cannot listen on 127.0.0.1 port 6653: ")
    assert network.left() == []


def connect(network: Network) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(10)
    connection.connect(str(network.rundir.socket(BRIDGE)))
    return connection


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(bytes([VERSION, 0, 0, 4, 0, 0, 0, 1]), id="length below a header"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a switch\r\n\r\n" * 2000, id="not OpenFlow"),
    ],
)
def test_bytes_that_are_no_messages_end_only_their_connection(network: Network, data: bytes) -> None:
    network.start(*PORTS)
    with connect(network) as bad:
        bad.sendall(data + bytes(8))
        bad.shutdown(socket.SHUT_WR)
        while bad.recv(1 << 16):
            pass
    assert network.output("oko", "flow", "list", BRIDGE) == ""


def test_message_in_pieces(network: Network) -> None:
    network.start(*PORTS)
    splitter = Splitter()
    with connect(network) as slow:
        for byte in encode(Hello(), 1) + encode(EchoRequest(b"x"), 2):
            slow.send(bytes([byte]))
        answers: list[object] = []
        while EchoReply(b"x") not in answers:
            answers += [decode(message)[0] for message in splitter.feed(slow.recv(4096))]
    assert answers == [Hello((VersionBitmap(frozenset({1, 4})),)), EchoReply(b"x")]


@pytest.mark.skipif(shutil.which("ovs-ofctl") is None, reason="ovs-ofctl is not installed")
def test_ovs_ofctl_over_tcp(network: Network) -> None:
    network.start(*PORTS, "--listen", "ptcp:6653")
    target = "tcp:127.0.0.1:6653"

    def ofctl(*words: str) -> str:
        return network.output("ovs-ofctl", "-O", "OpenFlow13", *words)

    ofctl("add-flow", target, "priority=10,tcp,in_port=1,nw_dst=10.0.0.0/8,tp_dst=80 actions=output:2")
    ofctl("add-flow", target, "cookie=0x5,in_port=2 actions=drop")
    theirs = ofctl("--no-stats", "dump-flows", target)
    assert [line.strip() for line in theirs.splitlines()] == [
        "cookie=0x5, in_port=2 actions=drop",
        "priority=10,tcp,in_port=1,nw_dst=10.0.0.0/8,tp_dst=80 actions=output:2",
    ]
    ours = network.output("oko", "flow", "list", target).splitlines()
    with_statistics = [line for line in ofctl("dump-flows", target).splitlines() if "n_packets" in line]
    for mine, their in zip(ours, with_statistics, strict=True):
        assert mine.split("n_packets")[1] == their.split("n_packets")[1]
    refused = network.run("ovs-ofctl", "-O", "OpenFlow13", "add-flow", target, "in_port=1,actions=output:7")
    assert (refused.returncode, "OFPBAC_BAD_OUT_PORT" in refused.stderr) == (1, True)
    ofctl("--strict", "del-flows", target, "priority=32768,in_port=2")
    assert len(network.output("oko", "flow", "list", BRIDGE).splitlines()) == 1
    ofctl("del-flows", target)
    assert network.output("oko", "flow", "list", BRIDGE) == ""
    assert "bridge" not in network.output("oko", "program", "list", target)


def test_relative_bpffs(network: Network) -> None:
    """The record of a bridge is read from anywhere."""
    relative = Path("/".join([".."] * (len(ROOT.parts) - 1))) / network.bpffs.relative_to("/")
    network.start(*PORTS, "--bpffs", str(relative))
    assert network.rundir.read(BRIDGE).pins == str(network.bpffs / "oko" / BRIDGE)
