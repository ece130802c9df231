"""Packets that the switch changes on their way, as the kernels of the hosts see them: a checksum or length that was
wrong would end the connection."""

from __future__ import annotations

import hashlib
import secrets
import subprocess
import sys
from pathlib import Path

import pytest

from demo.lab import SWITCH
from tests.e2e.conftest import PORT, Switch
from tests.stage import ROOT

pytestmark = pytest.mark.needs_bpf

ELSEWHERE = "10.0.0.9"
"""An address that no host has: host1 finds host2 behind it."""


@pytest.fixture
def content(tmp_path: Path, switch: Switch) -> bytes:
    """What host2 serves over HTTP at PORT, as ``/content``."""
    data = secrets.token_bytes(300_000)
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "content").write_bytes(data)
    argv = [sys.executable, "-u", "-m", "http.server", PORT, "--directory", tmp_path / "served"]
    server = switch.lab.popen("host2", argv, stderr=subprocess.DEVNULL)
    switch.lab.await_line(server, "Serving HTTP")
    return data


def download(switch: Switch, address: str, port: str = PORT) -> str:
    """What host1 prints of ``/content``: its bytes and their SHA-256."""
    command = [sys.executable, "-m", "demo.hosts", "download", address, port, "/content"]
    done = switch.lab.run("host1", command, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def checked(content: bytes) -> str:
    """What it has to print."""
    return f"{len(content)} {hashlib.sha256(content).hexdigest()}"


def test_translated_addresses_and_ports(switch: Switch, content: bytes) -> None:
    """host2 sees its client at a third address, and the client its server, by another port."""
    controller = switch.begin()
    there = f"set_field:10.0.0.2->ip_dst,set_field:{PORT}->tcp_dst,set_field:10.0.0.77->ip_src"
    back = f"set_field:{ELSEWHERE}->ip_src,set_field:80->tcp_src,set_field:10.0.0.1->ip_dst"
    controller.add(
        f"tcp,in_port=1,nw_dst={ELSEWHERE},tp_dst=80,actions={there},dec_ttl,output:2",
        f"tcp,in_port=2,nw_dst=10.0.0.77,tp_src={PORT},actions={back},dec_ttl,output:1",
    )
    switch.ip("host1", f"neigh add {ELSEWHERE} lladdr 02:00:00:00:00:02 dev eth0")
    switch.ip("host2", "neigh add 10.0.0.77 lladdr 02:00:00:00:00:01 dev eth0")
    assert download(switch, ELSEWHERE, "80") == checked(content)


@pytest.mark.parametrize("tpid", ["0x8100", "0x88a8"])
def test_a_tag_on_the_way_between_two_untagged_hosts(switch: Switch, content: bytes, tpid: str) -> None:
    """The ports 4 and 5 are the ends of one cable, where all traffic of the hosts has a tag."""
    switch.ip(SWITCH, "link add p4 up type veth peer name p5")
    switch.ip(SWITCH, "link set p5 up")
    controller = switch.begin("--port=p4=4", "--port=p5=5")
    controller.add(
        f"in_port=1,actions=push_vlan:{tpid},set_field:4103->vlan_vid,output:4",
        f"in_port=2,actions=push_vlan:{tpid},set_field:4103->vlan_vid,output:5",
        "in_port=5,dl_vlan=7,actions=pop_vlan,output:2",
        "in_port=4,dl_vlan=7,actions=pop_vlan,output:1",
    )
    assert download(switch, "10.0.0.2") == checked(content)


def test_a_label_on_the_way_between_two_hosts(switch: Switch, content: bytes) -> None:
    switch.ip(SWITCH, "link add p4 up type veth peer name p5")
    switch.ip(SWITCH, "link set p5 up")
    controller = switch.begin("--port=p4=4", "--port=p5=5")
    controller.add(
        "ip,in_port=1,actions=push_mpls:0x8847,set_field:99->mpls_label,output:4",
        "ip,in_port=2,actions=push_mpls:0x8847,set_field:99->mpls_label,output:5",
        "mpls,mpls_label=99,in_port=5,actions=dec_mpls_ttl,pop_mpls:0x0800,output:2",
        "mpls,mpls_label=99,in_port=4,actions=dec_mpls_ttl,pop_mpls:0x0800,output:1",
        "arp,in_port=1,actions=output:2",
        "arp,in_port=2,actions=output:1",
    )
    assert download(switch, "10.0.0.2") == checked(content)
