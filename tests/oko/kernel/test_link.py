from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oko.errors import KernelError, PortError
from oko.kernel.features import EGRESS_PROGRAMS, probe
from oko.kernel.interface import Interface, interface
from oko.kernel.link import VETH_MTU_LIMIT, Link, attach_egress, attach_xdp
from oko.kernel.namespace import run_in
from oko.kernel.program import SCHED_CLS, LoadedProgram, load_program
from tests.oko.kernel import assembler as asm
from tests.oko.kernel.waiting import wait_until

pytestmark = pytest.mark.needs_bpf


@pytest.fixture
def program() -> Iterator[LoadedProgram]:
    with load_program("port", asm.returns(asm.XDP_PASS), "GPL", references={}) as loaded:
        yield loaded


@pytest.fixture
def here(namespace: Callable[[str], Path]) -> Path:
    """A namespace with the veth pair near – far."""
    path = namespace("link")
    ip(path, "link", "add", "near", "type", "veth", "peer", "name", "far")
    return path


def ip(path: Path, *arguments: str) -> None:
    subprocess.run(["ip", "-n", path.name, *arguments], check=True)


def near(path: Path) -> Interface:
    return run_in(path, lambda: interface("near"))


def attach(path: Path, program: LoadedProgram) -> Link:
    return run_in(path, lambda: attach_xdp(program, interface("near").index))


def test_link_attaches_and_detaches(here: Path, program: LoadedProgram) -> None:
    assert (near(here).xdp_mode, near(here).xdp_program_id) == (None, None)
    with attach(here, program) as link:
        assert (near(here).xdp_mode, near(here).xdp_program_id) == ("native", program.info().id)
        assert (link.info().program_id, link.info().ifindex) == (program.info().id, near(here).index)
        link.detach()
        assert near(here).xdp_mode is None
        assert link.info().ifindex == 0


def test_another_program_takes_the_place(here: Path, program: LoadedProgram) -> None:
    with (
        attach(here, program) as link,
        load_program("other", asm.returns(asm.XDP_DROP), "GPL", references={}) as other,
    ):
        link.update(other)
        assert (link.info().program_id, near(here).xdp_program_id) == (other.info().id, other.info().id)
        ip(here, "link", "delete", "near")
        with pytest.raises(KernelError, match="updating a link: "):
            link.update(program)


def test_closing_the_last_descriptor_detaches(here: Path, program: LoadedProgram) -> None:
    attach(here, program).close()
    assert near(here).xdp_mode is None


def test_pinned_link_stays_until_the_pin_goes(here: Path, program: LoadedProgram, bpffs: Path) -> None:
    pin = bpffs / "port"
    with attach(here, program) as link:
        link.pin(pin)
    assert near(here).xdp_mode == "native"
    with Link.open(pin) as found:
        assert found.info().ifindex == near(here).index
    pin.unlink()
    wait_until(lambda: near(here).xdp_mode is None)


def test_port_that_has_a_program(here: Path, program: LoadedProgram) -> None:
    with attach(here, program):
        message = rf"port near: it already has an XDP program \(id {program.info().id}\)"
        with pytest.raises(PortError, match=message):
            attach(here, program)


def test_driver_without_native_xdp(here: Path, program: LoadedProgram) -> None:
    ip(here, "link", "add", "inside", "type", "bridge")
    with pytest.raises(PortError, match=r"port inside: its driver \(bridge\) has no native XDP"):
        run_in(here, lambda: attach_xdp(program, interface("inside").index))


def test_mtu_of_the_peer_at_and_above_the_limit(here: Path, program: LoadedProgram) -> None:
    ip(here, "link", "set", "far", "mtu", str(VETH_MTU_LIMIT))
    attach(here, program).close()
    ip(here, "link", "set", "far", "mtu", str(VETH_MTU_LIMIT + 1))
    with pytest.raises(PortError, match=f"port near: the MTU of its peer is above {VETH_MTU_LIMIT}"):
        attach(here, program)


def test_too_few_receive_queues(here: Path, program: LoadedProgram) -> None:
    ip(here, "link", "delete", "near")
    command = "link add near numtxqueues 1 numrxqueues 1 type veth peer name far numtxqueues 2 numrxqueues 2"
    ip(here, *command.split())
    with pytest.raises(PortError, match="port near: it has fewer receive queues"):
        attach(here, program)


def test_interface_that_is_not_there(here: Path, program: LoadedProgram) -> None:
    with pytest.raises(PortError, match="interface number 999 does not exist"):
        run_in(here, lambda: attach_xdp(program, 999))


def test_link_outlives_its_interface(here: Path, program: LoadedProgram) -> None:
    with attach(here, program) as link:
        ip(here, "link", "delete", "near")
        assert link.info().ifindex == 0


@pytest.fixture
def dropping() -> Iterator[LoadedProgram]:
    """A program of traffic control that drops everything."""
    if not probe(EGRESS_PROGRAMS):
        pytest.skip(f"{EGRESS_PROGRAMS.name}: since {EGRESS_PROGRAMS.since}")
    drop = 2  # TCX_DROP
    with load_program("egress", asm.returns(drop), "GPL", references={}, program_type=SCHED_CLS) as loaded:
        yield loaded


def test_programs_on_egress_see_what_is_sent(here: Path, dropping: LoadedProgram) -> None:
    for end in ("near", "far"):
        ip(here, "link", "set", end, "up")

    with run_in(here, lambda: bound("near")) as sender, run_in(here, lambda: bound("far")) as receiver:
        sender.send(bytes([1] * 60))
        with run_in(here, lambda: attach_egress(dropping, interface("near").index)) as link:
            assert (link.info().program_id, link.info().ifindex) == (dropping.info().id, near(here).index)
            with pytest.raises(OSError, match="No buffer space"):
                sender.send(bytes([2] * 60))
            link.detach()
            assert link.info().ifindex == 0
            sender.send(bytes([3] * 60))
        assert [receiver.recv(100)[0] for _ in range(2)] == [1, 3]


def bound(name: str) -> socket.socket:
    raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))  # ETH_P_ALL
    raw.bind((name, 0x0003))
    raw.settimeout(10)
    return raw


def test_no_interface_to_send_by(here: Path, dropping: LoadedProgram) -> None:
    with pytest.raises(PortError, match="interface number 999 does not exist"):
        run_in(here, lambda: attach_egress(dropping, 999))
