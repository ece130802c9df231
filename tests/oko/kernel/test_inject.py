from __future__ import annotations

import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from oko.errors import KernelError, PortError
from oko.kernel import maps
from oko.kernel.inject import LONGEST_LIVE_FRAME, SHORTEST_FRAME, Injector, run_through
from oko.kernel.interface import interface, set_up
from oko.kernel.maps import Map
from oko.kernel.namespace import run_in
from oko.kernel.program import LoadedProgram, load_program
from tests.oko.kernel import assembler as asm

pytestmark = pytest.mark.needs_bpf

ETHERTYPE = 0x88B5  # IEEE 802, for local experiments
EVERYTHING = 3  # ETH_P_ALL
LOOPBACK = 1
MTU = 1500


def frame(size: int, *, ethertype: int = ETHERTYPE) -> bytes:
    """To everybody, from 02:00:00:00:00:01, and then counting."""
    header = bytes.fromhex("ffffffffffff020000000001") + ethertype.to_bytes(2)
    return header + bytes(index % 256 for index in range(size - len(header)))


@pytest.fixture
def here(namespace: Callable[[str], Path]) -> Path:
    """A namespace with two veth pairs, p1 – h1 and p2 – h2, all up and ready to be redirected into."""
    path = namespace("inject")

    def make() -> None:
        for number in "12":
            command = f"ip link add p{number} type veth peer name h{number}"
            subprocess.run(command.split(), check=True)
            for name in (f"p{number}", f"h{number}"):
                set_up(interface(name).index)
                subprocess.run(["ethtool", "-K", name, "gro", "on"], check=True)
        set_up(LOOPBACK)

    run_in(path, make)
    return path


@contextmanager
def listening(name: str, ethertype: int = ETHERTYPE) -> Iterator[socket.socket]:
    """A socket that gets what the host's stack receives on the interface: within 10 s, or it raises TimeoutError."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ethertype)) as handle:
        handle.bind((name, ethertype))
        handle.settimeout(10)
        yield handle


def nothing_waits(handle: socket.socket) -> bool:
    handle.setblocking(False)
    try:
        handle.recv(1)
    except BlockingIOError:
        return True
    return False


def returning(verdict: int) -> LoadedProgram:
    return load_program("verdict", asm.returns(verdict), "GPL", references={})


class TestInjector:
    @pytest.mark.parametrize("size", [SHORTEST_FRAME, 15, 60, MTU + 14], ids=lambda size: f"{size} bytes")
    def test_frame_arrives_as_it_is(self, here: Path, size: int) -> None:
        def exchange() -> bytes:
            with Injector() as injector, listening("h1") as far:
                injector.send(interface("p1").index, frame(size))
                return far.recv(4096)

        assert run_in(here, exchange) == frame(size)

    def test_frame_goes_out_of_its_interface_only(self, here: Path) -> None:
        def exchange() -> tuple[bytes, bool, bytes]:
            with Injector() as injector, listening("h1") as first, listening("h2") as second:
                injector.send(interface("p1").index, frame(61))
                one, quiet = first.recv(4096), nothing_waits(second)
                second.settimeout(10)
                injector.send(interface("p2").index, frame(62))
                return one, quiet, second.recv(4096)

        assert run_in(here, exchange) == (frame(61), True, frame(62))

    def test_a_vlan_tag_may_come_on_top_of_the_mtu(self, here: Path) -> None:
        def send(size: int, ethertype: int) -> None:
            with Injector() as injector:
                injector.send(interface("p1").index, frame(size, ethertype=ethertype))

        run_in(here, lambda: send(MTU + 18, 0x8100))
        with pytest.raises(PortError, match="longer than its MTU"):
            run_in(here, lambda: send(MTU + 19, 0x8100))
        with pytest.raises(PortError, match="longer than its MTU"):
            run_in(here, lambda: send(MTU + 15, ETHERTYPE))

    def test_frame_without_a_whole_header(self, here: Path) -> None:
        with pytest.raises(PortError, match=r"sending 13 bytes .* at least 14"), Injector() as injector:
            run_in(here, lambda: injector.send(interface("p1").index, bytes(13)))

    def test_interface_that_is_down_and_up_again(self, here: Path) -> None:
        def exchange() -> bytes:
            p1 = interface("p1").index
            with Injector() as injector, listening("h1") as far:
                injector.send(p1, frame(60))
                far.recv(4096)
                set_up(p1, False)
                with pytest.raises(PortError, match="it is down"):
                    injector.send(p1, frame(61))
                set_up(p1)
                injector.send(p1, frame(62))
                return far.recv(4096)

        assert run_in(here, exchange) == frame(62)

    def test_queue_that_is_full(self, here: Path) -> None:
        limiter = "tc qdisc add dev p1 root tbf rate 8bit burst 1600 limit 10000"

        def fill() -> None:
            subprocess.run(limiter.split(), check=True)
            with Injector() as injector:
                for _ in range(20):
                    injector.send(interface("p1").index, frame(1000))

        with pytest.raises(PortError, match="its queue is full"):
            run_in(here, fill)

    def test_interface_that_goes_away_and_another_of_its_number(self, here: Path) -> None:
        def exchange() -> bytes:
            p1 = interface("p1").index
            with Injector() as injector:
                injector.send(p1, frame(60))
                subprocess.run(["ip", "link", "delete", "p1"], check=True)
                for _ in range(2):
                    with pytest.raises(PortError, match=f"interface number {p1} does not exist"):
                        injector.send(p1, frame(61))
                command = f"ip link add p3 index {p1} type veth peer name h3"
                subprocess.run(command.split(), check=True)
                set_up(p1)
                set_up(interface("h3").index)
                with listening("h3") as far:
                    injector.send(p1, frame(62))
                    return far.recv(4096)

        assert run_in(here, exchange) == frame(62)

    def test_sockets_receive_nothing_and_close(self, here: Path) -> None:
        def open_sockets() -> list[str]:
            """The packet sockets of the namespace (/proc/net/packet, whose fourth column is the protocol)."""
            lines = Path("/proc/thread-self/net/packet").read_text().splitlines()[1:]
            return [line.split()[3] for line in lines]

        def exchange() -> list[list[str]]:
            with Injector() as injector:
                for name in ("p1", "p1", "p2"):
                    injector.send(interface(name).index, frame(60))
                seen = [open_sockets()]
                injector.forget(interface("p1").index)
                injector.forget(interface("p1").index)
                seen.append(open_sockets())
            seen.append(open_sockets())
            return seen

        assert run_in(here, exchange) == [["0000", "0000"], ["0000"], []]


ADJUST_HEAD = 44  # enum bpf_func_id
ROOM = 192  # bytes: XDP's headroom of 256 without the struct xdp_frame that the kernel keeps at its start, and less


def notes_and_redirects(head: int = 0) -> bytes:
    """Stores ingress_ifindex, rx_queue_index, and whether `head` more bytes before the frame were refused, as three u32
    in the value that slot 1 refers to; then redirects by element 0 of the devmap that slot 10 refers to."""
    return (
        asm.mov_reg(6, 1)
        + asm.lddw(7)
        + asm.load_word(2, 6, 12)
        + asm.op(0x63, 7, 2, 0)
        + asm.load_word(2, 6, 16)
        + asm.op(0x63, 7, 2, 4)
        + asm.mov(2, -head)
        + asm.call(ADJUST_HEAD)
        + asm.op(0x63, 7, 0, 8)
        + asm.lddw(1)
        + asm.mov(2, 0)
        + asm.mov(3, 0)
        + asm.call(asm.REDIRECT_MAP)
        + asm.EXIT
    )


class TestRunThrough:
    @pytest.mark.parametrize(
        ("ingress", "head"),
        [("p1", 0), ("p2", 0), ("lo", 0), ("p1", ROOM)],
        ids=["port", "target", "loopback", "grown"],
    )
    def test_program_sees_the_ingress_and_its_redirect_is_real(self, here: Path, ingress: str, head: int) -> None:
        def exchange() -> tuple[tuple[int, ...], bytes]:
            with (
                Map.create("noted", maps.ARRAY, 4, 12, 1) as noted,
                Map.create("ports", maps.DEVMAP, 4, 4, 1) as ports,
                load_program("r", notes_and_redirects(head), "GPL", references={1: (noted, 0), 10: (ports, None)}) as r,
                listening("h2", EVERYTHING) as far,  # what the frame grew by is no Ethernet header
            ):
                ports.update(bytes(4), struct.pack("=I", interface("p2").index))
                run_through(r.fd, frame(100), interface(ingress).index)
                return struct.unpack("=3I", noted.lookup(bytes(4)) or b""), far.recv(4096)

        noted, received = run_in(here, exchange)
        assert noted == (run_in(here, lambda: interface(ingress).index), 0, 0)
        assert len(received) == 100 + head
        assert received[head:] == frame(100)

    def test_ingress_may_be_down(self, here: Path) -> None:
        def exchange() -> None:
            p1 = interface("p1").index
            set_up(p1, False)
            with returning(asm.XDP_DROP) as program:
                run_through(program.fd, frame(60), p1)

        run_in(here, exchange)

    @pytest.mark.parametrize(
        ("verdict", "where"),
        [(asm.XDP_TX, "h1"), (asm.XDP_PASS, "p1"), (asm.XDP_DROP, None)],
        ids=["tx leaves", "pass is received", "drop is the end"],
    )
    def test_what_becomes_of_a_frame(self, here: Path, verdict: int, where: str | None) -> None:
        def exchange() -> dict[str, bytes]:
            with listening("h1") as h1, listening("p1") as p1, returning(verdict) as program:
                run_through(program.fd, frame(60), interface("p1").index)
                received = {name: handle.recv(4096) for name, handle in (("h1", h1), ("p1", p1)) if name == where}
                assert nothing_waits(h1)
                assert nothing_waits(p1)
                return received

        assert run_in(here, exchange) == ({where: frame(60)} if where else {})

    @pytest.mark.parametrize("size", [SHORTEST_FRAME, LONGEST_LIVE_FRAME])
    def test_frame_at_the_limit_of_sizes(self, here: Path, size: int) -> None:
        def exchange() -> bytes:
            for name in ("p1", "h1"):
                subprocess.run(["ip", "link", "set", name, "mtu", "3500"], check=True)
            with listening("h1") as far, returning(asm.XDP_TX) as program:
                run_through(program.fd, frame(size), interface("p1").index)
                return far.recv(4096)

        assert run_in(here, exchange) == frame(size)

    @pytest.mark.parametrize("size", [0, SHORTEST_FRAME - 1, LONGEST_LIVE_FRAME + 1])
    def test_frame_beyond_the_limit_of_sizes(self, size: int) -> None:
        with (
            returning(asm.XDP_DROP) as program,
            pytest.raises(PortError, match=f"a frame of {size} bytes cannot be run through a program: 14 to 3368"),
        ):
            run_through(program.fd, bytes(size), LOOPBACK)

    def test_interface_that_is_not_there(self) -> None:
        with (
            returning(asm.XDP_DROP) as program,
            pytest.raises(PortError, match="interface number 424242 does not exist"),
        ):
            run_through(program.fd, frame(60), 424242)

    def test_something_that_is_no_program(self) -> None:
        with (
            Map.create("array", maps.ARRAY, 4, 4, 1) as array,
            pytest.raises(KernelError, match="running a frame through a program: Invalid argument"),
        ):
            run_through(array.fd, frame(60), LOOPBACK)
