from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from oko.errors import PortError
from oko.kernel.ethtool import offloads
from oko.kernel.inject import run_through
from oko.kernel.interface import Interface, exists, interface
from oko.kernel.link import VETH_MTU_LIMIT, attach_xdp
from oko.kernel.namespace import run_in
from oko.kernel.offloads import REQUIRED
from oko.kernel.program import load_program
from oko.kernel.veth import delete_veth, make_veth
from tests.oko.kernel import assembler as asm

pytestmark = pytest.mark.needs_bpf

ETHERTYPE = 0x88B5  # IEEE 802, for local experiments
FRAME = bytes.fromhex("ffffffffffff020000000001") + ETHERTYPE.to_bytes(2) + bytes(range(86))


@pytest.fixture
def here(namespace: Callable[[str], Path]) -> Path:
    return namespace("veth")


def names(path: Path) -> list[str]:
    """The interfaces of the namespace."""
    return run_in(path, lambda: [name for _, name in socket.if_nameindex()])


def test_pair_is_up_and_has_its_mtu_and_offloads(here: Path) -> None:
    port = run_in(here, lambda: make_veth("br0-local", "br0", mtu=1400))
    peer = run_in(here, lambda: interface("br0"))
    assert port == run_in(here, lambda: interface("br0-local"))
    for end, other in ((port, peer), (peer, port)):
        assert (end.kind, end.mtu, end.up, end.peer_index) == ("veth", 1400, True, other.index)
    assert {name: run_in(here, lambda: offloads("br0"))[name].active for name in REQUIRED} == REQUIRED


def test_names_of_fifteen_bytes_and_the_smallest_mtu(here: Path) -> None:
    port = run_in(here, lambda: make_veth("p" * 15, "ü" * 7, mtu=68))
    assert (port.name, port.mtu) == ("p" * 15, 68)
    assert "ü" * 7 in names(here)


def test_port_takes_xdp_and_frames_that_are_redirected_to_it(here: Path) -> None:
    def exchange() -> bytes:
        port = make_veth("br0-local", "br0", mtu=VETH_MTU_LIMIT)
        with (
            load_program("port", asm.returns(asm.XDP_TX), "GPL", references={}) as program,
            attach_xdp(program, port.index),
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE)) as host,
        ):
            host.bind(("br0", ETHERTYPE))
            host.settimeout(10)
            run_through(program.fd, FRAME, port.index)
            return host.recv(4096)

    assert run_in(here, exchange) == FRAME


def test_deleting_either_end_deletes_both_and_twice_is_harmless(here: Path) -> None:
    for end in ("br0-local", "br0"):

        def make_and_delete(end: str = end) -> list[bool]:
            port = make_veth("br0-local", "br0")
            ends = [port.index, interface("br0").index]
            index = interface(end).index
            delete_veth(index)
            delete_veth(index)
            return [exists(index) for index in ends]

        assert run_in(here, make_and_delete) == [False, False]


@pytest.mark.parametrize(
    ("port", "peer", "mtu", "message"),
    [
        ("taken", "br0", 1500, "the veth pair taken – br0: an interface of one of these names exists"),
        ("br0-local", "taken", 1500, "the veth pair br0-local – taken: an interface of one of these names exists"),
        ("x" * 16, "br0", 1500, "'x{16}' is no name for an interface"),
        ("br0-local", "ü" * 8, 1500, "'ü{8}' is no name for an interface"),
        ("", "br0", 1500, "'' is no name for an interface"),
        ("a/b", "br0", 1500, "'a/b' is no name for an interface"),
        ("br0-local", "br%d", 1500, "'br%d' is no name for an interface"),
        ("br0-local", "br0", VETH_MTU_LIMIT + 1, f"MTU {VETH_MTU_LIMIT + 1} is not within 68 to {VETH_MTU_LIMIT}"),
        ("br0-local", "br0", 67, f"MTU 67 is not within 68 to {VETH_MTU_LIMIT}"),
    ],
    ids=[
        "port taken",
        "peer taken",
        "long",
        "long in bytes",
        "empty",
        "path",
        "pattern",
        "MTU too large",
        "MTU too small",
    ],
)
def test_refusal_leaves_nothing_behind(here: Path, port: str, peer: str, mtu: int, message: str) -> None:
    subprocess.run(["ip", "-n", here.name, "link", "add", "taken", "type", "bridge"], check=True)
    before = names(here)
    with pytest.raises(PortError, match=message):
        run_in(here, lambda: make_veth(port, peer, mtu=mtu))
    assert names(here) == before


def test_only_a_veth_is_deleted(here: Path) -> None:
    subprocess.run(["ip", "-n", here.name, "link", "add", "other", "type", "bridge"], check=True)

    def delete() -> Interface:
        index = interface("other").index
        with pytest.raises(PortError, match="interface other is no veth"):
            delete_veth(index)
        return interface("other")

    assert run_in(here, delete).kind == "bridge"
