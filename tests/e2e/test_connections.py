"""Connections of okod with other people's software, and okod with as few privileges as it can do with."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from demo.lab import SWITCH
from oko.kernel.namespace import run_in
from tests.e2e.conftest import PORTS, Network
from tests.oko.openflow.certificates import Authority
from tests.stage import BRIDGE, ROOT, Stage, mounted

INTERPRETER = Path(sys.executable).resolve()

pytestmark = pytest.mark.needs_bpf

USER = 4242 if all(place.stat().st_mode & 0o001 for path in (ROOT, INTERPRETER) for place in path.parents) else 0
"""Of okod; where nobody else reaches the sources or the interpreter it is root, with as few capabilities."""
CAPABILITIES = "+bpf,+net_admin,+net_raw,+perfmon"
PASSING = ROOT / "build" / "bpf" / "token_bucket.o"
EXPERIMENTAL = 0x88B5


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_ovs_ofctl_over_tls(network: Network, authority: Authority) -> None:
    ours, theirs = authority.sign("switch"), authority.sign("controller")
    stranger = Authority(authority.directory, "other").sign("stranger")
    network.start(
        *PORTS,
        "--dpid=0x2a",
        "--listen=pssl:6653",
        f"--private-key={ours.private_key}",
        f"--certificate={ours.certificate}",
        f"--ca-cert={ours.ca_certificate}",
    )
    switch = "ssl:127.0.0.1:6653"

    def ofctl(*words: str, key: Path, certificate: Path) -> subprocess.CompletedProcess[str]:
        files = (f"--private-key={key}", f"--certificate={certificate}", f"--ca-cert={authority.certificate}")
        return network.run("ovs-ofctl", "-O", "OpenFlow13", *files, *words)

    mine = {"key": theirs.private_key, "certificate": theirs.certificate}
    assert ofctl("add-flow", switch, "in_port=1,actions=output:2", **mine).returncode == 0
    assert "in_port=1 actions=output:2" in ofctl("dump-flows", switch, **mine).stdout
    assert "dpid:000000000000002a" in ofctl("show", switch, **mine).stdout
    refused = ofctl("show", switch, key=stranger.private_key, certificate=stranger.certificate)
    assert refused.returncode != 0
    assert "dpid" not in refused.stdout


def test_settings_from_a_file(network: Network, tmp_path: Path) -> None:
    path = tmp_path / "okod.toml"
    path.write_text(
        f'bridge = "{BRIDGE}"\nlog.format = "json"\nmetrics = "127.0.0.1:9653"\n[ports]\np1 = 1\np2 = 2\n'
        '[[connections]]\nendpoint = "ptcp:6653"\n'
    )
    okod = network.start(f"--config={path}", "--listen=ptcp:6654")
    assert ", 2 ports, " in okod.ready
    # What options give takes the place of the file's.
    assert network.run("oko", "flow", "list", "tcp:127.0.0.1:6653").returncode == 1
    refused = network.run("oko-load", "tcp:127.0.0.1:6654", "1", PASSING)
    assert refused.returncode == 1
    assert "bad-request/eperm" in refused.stderr
    network.output("oko-load", BRIDGE, "1", PASSING)
    with run_in(network.path(SWITCH), lambda: urllib.request.urlopen("http://127.0.0.1:9653/metrics")) as answer:
        assert b'oko_program_runs_total{bridge="br0",name="token_bucket",program="1"} 0.0\n' in answer.read()
    okod.process.terminate()
    _, stderr = okod.process.communicate(timeout=20)
    records = [json.loads(line) for line in stderr.splitlines()]
    (loaded,) = [record for record in records if record.get("event") == "load" and record["result"] == "done"]
    assert (loaded["program"], len(loaded["sha256"])) == (1, 64)
    assert loaded["peer"].startswith(f"{BRIDGE}.mgmt from process ")
    assert loaded["peer"].endswith(" of user 0")


class Unprivileged(Stage):
    """A stage in a namespace of its own with ports p1 and p2, whose far ends are h1 and h2 there; the commands have
    only the capabilities that okod needs, and belong to a user of their own."""

    def __init__(self, directory: Path, namespace: Path) -> None:
        super().__init__(directory)
        self.namespace = namespace
        self.allow(CAPABILITIES)

    def allow(self, capabilities: str) -> None:
        """Let the commands have these."""
        caps = f"=-all,{capabilities}"
        user = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs")
        privileges = (f"--bounding-set{caps}", f"--inh-caps{caps}", f"--ambient-caps{caps}")
        self._prefix = ("nsenter", f"--net={self.namespace}", "--", *user, *privileges)


@pytest.fixture
def unprivileged(namespace: Callable[[str], Path]) -> Iterator[Unprivileged]:
    path = namespace("switch")
    for number in (1, 2):
        subprocess.run(
            ["ip", "-n", path.name, "link", "add", f"p{number}", "type", "veth", "peer", "name", f"h{number}"],
            check=True,
        )
        for end in (f"p{number}", f"h{number}"):
            subprocess.run(["ip", "-n", path.name, "link", "set", end, "up"], check=True)
    # Not in pytest's own directory, which nobody else may enter.
    with tempfile.TemporaryDirectory(prefix="oko-") as directory, mounted(Unprivileged(Path(directory), path)) as stage:
        stage.directory.chmod(0o711)
        stage.rundir.path.mkdir()
        for place in (stage.bpffs, stage.rundir.path):
            os.chown(place, USER, USER)
        yield stage


def test_okod_needs_four_capabilities(unprivileged: Unprivileged) -> None:
    okod = unprivileged.start(*PORTS)
    status = Path(f"/proc/{okod.pid}/status").read_text()
    assert f"\nUid:\t{USER}\t" in status
    assert "\nCapEff:\t000000c000003000\n" in status  # bits 12, 13, 38 and 39 of <linux/capability.h>
    unprivileged.output("oko-load", BRIDGE, "1", PASSING)
    unprivileged.output(
        "oko",
        "flow",
        "add",
        BRIDGE,
        "priority=2,in_port=2,filter_prog=1,actions=output:1",
        "in_port=1,actions=output:2",
    )
    frame = bytes.fromhex("020000000002020000000001") + EXPERIMENTAL.to_bytes(2) + bytes(46)

    def opened(interface: str) -> socket.socket:
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EXPERIMENTAL))
        raw.bind((interface, EXPERIMENTAL))
        raw.settimeout(10)
        return raw

    with (
        run_in(unprivileged.namespace, lambda: opened("h1")) as h1,
        run_in(unprivileged.namespace, lambda: opened("h2")) as h2,
    ):
        h1.send(frame)
        assert h2.recv(2048) == frame
        unprivileged.output("oko", "flow", "del", BRIDGE)
        unprivileged.output("oko", "flow", "add", BRIDGE, "in_port=2,actions=output:1")
        h2.send(frame)
        while h1.recvfrom(2048)[1][2] == socket.PACKET_OUTGOING:
            pass
    unprivileged.output("oko", "bridge", "del", BRIDGE)
    assert okod.process.wait(10) == 0
    assert unprivileged.left() == []


@pytest.mark.parametrize(
    ("missing", "complaint"),
    [
        ("+bpf", "it needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; CAP_BPF is missing: run it as root"),
        ("+net_admin", "it needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; CAP_NET_ADMIN is missing: run it as root"),
        ("+perfmon", "it needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; CAP_PERFMON is missing: run it as root"),
    ],
)
def test_what_okod_does_not_start_without(unprivileged: Unprivileged, missing: str, complaint: str) -> None:
    unprivileged.allow(",".join(name for name in CAPABILITIES.split(",") if name != missing))
    assert complaint in unprivileged.error("okod", "--standalone", BRIDGE, *PORTS)
    assert unprivileged.left() == []


def test_packet_out_needs_raw_sockets(unprivileged: Unprivileged) -> None:
    unprivileged.allow(CAPABILITIES.replace("+net_raw,", ""))
    unprivileged.start(*PORTS)
    unprivileged.output("oko", "flow", "add", BRIDGE, "in_port=1,actions=output:2")
    frame = f"{'02' * 12}88b5".ljust(120, "0")
    socket_ = f"unix:{unprivileged.rundir.socket(BRIDGE)}"
    done = unprivileged.run("ovs-ofctl", "-O", "OpenFlow13", "packet-out", socket_, f"packet={frame},actions=output:1")
    assert "OFPT_ERROR" in done.stderr
