from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from oko.errors import PortError
from oko.kernel.ethtool import offloads, set_offloads
from oko.kernel.inject import run_through
from oko.kernel.interface import interface
from oko.kernel.link import attach_xdp
from oko.kernel.namespace import run_in
from oko.kernel.offloads import REQUIRED, SavedOffloads, inspect, prepare, restore
from oko.kernel.program import load_program
from tests.oko.kernel import assembler as asm

pytestmark = pytest.mark.needs_bpf

ETHERTYPE = 0x88B5  # IEEE 802, for local experiments
FRAME = bytes.fromhex("ffffffffffff020000000001") + ETHERTYPE.to_bytes(2) + bytes(range(86))

Namespaces = Callable[[str], Path]


def ip(path: Path, command: str) -> None:
    subprocess.run(["ip", "-n", path.name, *command.split()], check=True)


def wanted(path: Path, name: str) -> dict[str, bool]:
    """The states asked for of every feature that can change."""
    return run_in(path, lambda: {feature: o.wanted for feature, o in offloads(name).items() if o.changeable})


def active(path: Path, name: str) -> dict[str, bool]:
    """The states of the required features."""
    return run_in(path, lambda: {feature: offloads(name)[feature].active for feature in REQUIRED})


@contextmanager
def unnamed_namespace() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a network namespace of its own, which ends with its input."""
    with subprocess.Popen(["unshare", "--net", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"x")
        process.stdin.flush()
        process.stdout.read(1)  # cat runs: it is in its own namespace by now
        yield process
        process.stdin.close()


@pytest.fixture
def pair(namespace: Namespaces) -> tuple[Path, Path]:
    """Two namespaces with one end of a veth pair each: port p1 in the switch's, eth0 in the client's."""
    switch, client = namespace("switch"), namespace("client")
    ip(switch, f"link add p1 type veth peer name eth0 netns {client.name}")
    return switch, client


def test_peer_in_another_namespace_is_set_and_restored(pair: tuple[Path, Path]) -> None:
    switch, client = pair
    before = wanted(client, "eth0")
    assert active(client, "eth0") != REQUIRED
    inspected = run_in(switch, lambda: inspect("p1"))
    assert wanted(client, "eth0") == before
    saved = run_in(switch, lambda: prepare("p1"))
    assert saved == inspected
    assert saved is not None
    assert saved.peer == "eth0"
    assert active(client, "eth0") == REQUIRED
    again = json.loads(json.dumps(saved.to_json()))
    restore(SavedOffloads.from_json(again))
    assert wanted(client, "eth0") == before


def test_near_end_is_left_alone(pair: tuple[Path, Path]) -> None:
    switch, _ = pair
    before = wanted(switch, "p1")
    run_in(switch, lambda: prepare("p1"))
    assert wanted(switch, "p1") == before


def test_states_hold_with_xdp_attached_and_return_after_it(pair: tuple[Path, Path]) -> None:
    switch, client = pair
    before = wanted(client, "eth0")
    saved = run_in(switch, lambda: prepare("p1"))
    assert saved is not None
    with (
        load_program("port", asm.returns(asm.XDP_PASS), "GPL", references={}) as program,
        run_in(switch, lambda: attach_xdp(program, interface("p1").index)),
    ):
        assert active(client, "eth0") == REQUIRED
    restore(saved)
    assert wanted(client, "eth0") == before


def test_what_was_right_before_is_not_touched_by_restore(pair: tuple[Path, Path]) -> None:
    switch, client = pair
    run_in(client, lambda: set_offloads("eth0", {"rx-gro": True}))
    saved = run_in(switch, lambda: prepare("p1"))
    assert saved is not None
    assert "rx-gro" not in saved.states
    restore(saved)
    assert run_in(client, lambda: offloads("eth0")["rx-gro"].active)


def test_second_preparation_has_nothing_to_restore(pair: tuple[Path, Path]) -> None:
    switch, client = pair
    run_in(switch, lambda: prepare("p1"))
    saved = run_in(switch, lambda: prepare("p1"))
    assert saved is not None
    assert saved.states == {}
    restore(saved)
    assert active(client, "eth0") == REQUIRED


def arrives(switch: Path, client: Path) -> bool:
    """Whether a frame that a program redirects to p1 is received by eth0."""

    def listen() -> socket.socket:
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE))
        raw.bind(("eth0", ETHERTYPE))
        raw.settimeout(1)
        return raw

    def redirect() -> None:
        to_p1 = asm.mov(1, interface("p1").index) + asm.mov(2, 0) + asm.call(asm.REDIRECT) + asm.EXIT
        with load_program("to_p1", to_p1, "GPL", references={}) as program:
            run_through(program.fd, FRAME, 1)

    with run_in(client, listen) as raw:
        run_in(switch, redirect)
        try:
            return raw.recv(2048) == FRAME
        except TimeoutError:
            return False


@pytest.mark.parametrize(
    "history",
    [
        pytest.param(["port up", "peer up", "prepare"], id="both up"),
        pytest.param(["prepare", "port up", "peer up"], id="both down"),
        pytest.param(["peer up", "prepare", "port up"], id="port down"),
        pytest.param(["port up", "prepare", "peer up"], id="peer down"),
        pytest.param(["port up", "gro", "prepare", "peer up"], id="GRO on while down"),
        pytest.param(["port up", "gro", "peer up", "prepare"], id="GRO on before it came up"),
        pytest.param(["port up", "peer up", "prepare", "peer down", "peer up"], id="peer down and up again"),
    ],
)
def test_a_prepared_port_can_be_redirected_to(pair: tuple[Path, Path], history: list[str]) -> None:
    switch, client = pair
    steps: dict[str, Callable[[], object]] = {
        "port up": lambda: ip(switch, "link set p1 up"),
        "peer up": lambda: ip(client, "link set eth0 up"),
        "peer down": lambda: ip(client, "link set eth0 down"),
        "gro": lambda: run_in(client, lambda: set_offloads("eth0", {"rx-gro": True})),
        "prepare": lambda: run_in(switch, lambda: prepare("p1")),
    }
    for step in history:
        steps[step]()
    assert arrives(switch, client)
    assert run_in(switch, lambda: interface("p1")).up


def test_peer_in_the_same_namespace(namespace: Namespaces) -> None:
    switch = namespace("switch")
    ip(switch, "link add p1 type veth peer name eth0")
    before = wanted(switch, "eth0")
    saved = run_in(switch, lambda: prepare("p1"))
    assert saved is not None
    assert active(switch, "eth0") == REQUIRED
    restore(saved)
    assert wanted(switch, "eth0") == before


def test_peer_in_the_namespace_of_a_process(namespace: Namespaces) -> None:
    switch = namespace("switch")
    with unnamed_namespace() as process:
        ip(switch, f"link add p1 type veth peer name eth0 netns {process.pid}")
        client = Path(f"/proc/{process.pid}/ns/net")
        before = wanted(client, "eth0")
        saved = run_in(switch, lambda: prepare("p1"))
        assert saved is not None
        assert active(client, "eth0") == REQUIRED
        restore(saved)
        assert wanted(client, "eth0") == before


def test_peer_that_cannot_be_reached_is_refused_with_the_command(namespace: Namespaces) -> None:
    switch = namespace("switch")
    with unnamed_namespace() as process:
        ip(switch, f"link add p1 type veth peer name eth0 netns {process.pid}")
        kept = os.open(f"/proc/{process.pid}/ns/net", os.O_RDONLY)
    try:
        with pytest.raises(PortError) as refused:
            run_in(switch, lambda: prepare("p1"))
        client = Path(f"/proc/self/fd/{kept}")
        command = str(refused.value).split("'")[1]
        assert command.startswith("ethtool -K eth0 ")
        subprocess.run(["nsenter", f"--net={client}", *command.split()], check=True, pass_fds=[kept])
        assert active(client, "eth0") == REQUIRED
    finally:
        os.close(kept)


def test_restore_after_the_pair_has_gone(pair: tuple[Path, Path]) -> None:
    switch, client = pair
    saved = run_in(switch, lambda: prepare("p1"))
    assert saved is not None
    ip(switch, "link delete p1")
    restore(saved)
    ip(client, f"link add eth0 index {saved.peer_index} type veth peer name other")  # not the far end of p1
    before = wanted(client, "eth0")
    restore(saved)
    assert wanted(client, "eth0") == before


def test_restore_after_the_namespace_has_gone(namespace: Namespaces) -> None:
    switch = namespace("switch")
    with unnamed_namespace() as process:
        ip(switch, f"link add p1 type veth peer name eth0 netns {process.pid}")
        saved = run_in(switch, lambda: prepare("p1"))
    assert saved is not None
    restore(saved)


@pytest.mark.parametrize("port", ["inside", "lo"])
def test_other_kinds_need_nothing(namespace: Namespaces, port: str) -> None:
    switch = namespace("switch")
    ip(switch, "link add inside type bridge")
    assert run_in(switch, lambda: inspect(port)) is None
    assert run_in(switch, lambda: prepare(port)) is None


def test_port_that_is_not_there() -> None:
    with pytest.raises(PortError, match="interface nothere does not exist"):
        prepare("nothere")
