from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from oko.errors import PortError
from oko.kernel import maps
from oko.kernel.inject import Injector, run_through
from oko.kernel.interface import interface, set_up
from oko.kernel.link import attach_xdp
from oko.kernel.link_stats import LinkStats, link_stats
from oko.kernel.maps import Map
from oko.kernel.namespace import run_in
from oko.kernel.program import LoadedProgram, load_program
from oko.kernel.veth import make_veth
from tests.oko.kernel import assembler as asm
from tests.oko.kernel.waiting import wait_until

pytestmark = pytest.mark.needs_bpf

FRAMES = 10
SIZE = 100
HEADER = 14  # bytes that the stack takes off before a veth end with an XDP program counts
FRAME = bytes.fromhex("ffffffffffff02000000000188b5") + bytes(SIZE - HEADER)


@pytest.fixture
def here(namespace: Callable[[str], Path]) -> Path:
    """A namespace with two ports, p1 – h1 and p2 – h2."""
    path = namespace("stats")
    run_in(path, lambda: [make_veth(f"p{number}", f"h{number}") for number in "12"])
    return path


def stats(name: str) -> LinkStats:
    return link_stats(interface(name).index)


def differing(before: LinkStats, after: LinkStats) -> dict[str, int]:
    """By how much which counters have grown."""
    new = asdict(after)
    return {name: new[name] - count for name, count in asdict(before).items() if new[name] != count}


def send(name: str) -> None:
    with Injector() as injector:
        for _ in range(FRAMES):
            injector.send(interface(name).index, FRAME)


@contextmanager
def redirecting_to_p2(copies: int = 1) -> Iterator[LoadedProgram]:
    """A program that sends every frame out of p2, or so many copies of it."""
    broadcast = 1 << 3  # BPF_F_BROADCAST
    with Map.create("ports", maps.DEVMAP, 4, 4, copies) as ports:
        for key in range(copies):
            ports.update(struct.pack("=I", key), struct.pack("=I", interface("p2").index))
        instructions = (
            asm.lddw(1) + asm.mov(2, 0) + asm.mov(3, broadcast if copies > 1 else 0) + asm.call(asm.REDIRECT_MAP)
        )
        with load_program("r", instructions + asm.EXIT, "GPL", references={0: (ports, None)}) as program:
            yield program


def test_same_numbers_as_ip_shows(here: Path) -> None:
    run_in(here, lambda: send("h1"))
    shown = json.loads(subprocess.check_output(["ip", "-n", here.name, "-s", "-s", "-j", "link", "show", "p1"]))[0]
    shown = {f"{way}_{name}": count for way in ("rx", "tx") for name, count in shown["stats64"][way].items()}
    counted = asdict(run_in(here, lambda: stats("p1")))
    assert counted["rx_packets"] == FRAMES
    common = counted.keys() & shown.keys()
    assert counted.keys() - common == {"collisions"}
    assert {name: counted[name] for name in common} == {name: shown[name] for name in common}


def test_redirected_frames_count_in_both_directions(here: Path) -> None:
    def exchange() -> tuple[dict[str, int], dict[str, int]]:
        p1, p2 = stats("p1"), stats("p2")
        with redirecting_to_p2() as program, attach_xdp(program, interface("p1").index):
            send("h1")
            wait_until(lambda: stats("p2").tx_packets == p2.tx_packets + FRAMES)
        return differing(p1, stats("p1")), differing(p2, stats("p2"))

    received, sent = run_in(here, exchange)
    assert received == {"rx_packets": FRAMES, "rx_bytes": FRAMES * (SIZE - HEADER)}
    assert sent == {"tx_packets": FRAMES, "tx_bytes": FRAMES * SIZE}


def test_dropped_by_xdp_is_received(here: Path) -> None:
    def exchange() -> dict[str, int]:
        before = stats("p1")
        with (
            load_program("drop", asm.returns(asm.XDP_DROP), "GPL", references={}) as program,
            attach_xdp(program, interface("p1").index),
        ):
            send("h1")
            wait_until(lambda: stats("p1").rx_packets == before.rx_packets + FRAMES)
        return differing(before, stats("p1"))

    assert run_in(here, exchange) == {"rx_packets": FRAMES, "rx_bytes": FRAMES * (SIZE - HEADER)}


def test_frames_from_user_space(here: Path) -> None:
    def exchange() -> tuple[dict[str, int], dict[str, int]]:
        p1, p2 = stats("p1"), stats("p2")
        send("p1")
        with redirecting_to_p2() as program:
            for _ in range(FRAMES):
                run_through(program.fd, FRAME, interface("p1").index)
        wait_until(lambda: stats("p1").tx_packets == p1.tx_packets + FRAMES)
        wait_until(lambda: stats("p2").tx_packets == p2.tx_packets + FRAMES)
        return differing(p1, stats("p1")), differing(p2, stats("p2"))

    injected, through = run_in(here, exchange)
    assert injected == through == {"tx_packets": FRAMES, "tx_bytes": FRAMES * SIZE}


def test_ring_of_the_far_end_is_full(here: Path) -> None:
    batch, copies = 256, 4  # a veth's ring holds 256 frames

    def exchange() -> dict[str, int]:
        before = stats("p2")
        with redirecting_to_p2(copies) as program:
            program.test_run_live(FRAME, batch, batch)
        wait_until(lambda: sum((stats("p2").tx_packets, stats("p2").tx_dropped)) == batch * copies)
        return differing(before, stats("p2"))

    counted = run_in(here, exchange)
    assert counted.keys() == {"tx_packets", "tx_bytes", "tx_dropped"}
    assert counted["tx_bytes"] == counted["tx_packets"] * SIZE


@pytest.mark.parametrize(("down", "counted"), [("h2", "p2"), ("p2", "p1")], ids=["far end", "port"])
def test_redirected_to_what_is_down(here: Path, down: str, counted: str) -> None:
    def exchange() -> tuple[dict[str, int], dict[str, int]]:
        p1, p2 = stats("p1"), stats("p2")
        set_up(interface(down).index, False)
        with redirecting_to_p2() as program, attach_xdp(program, interface("p1").index):
            send("h1")
            wait_until(lambda: stats("p1").rx_packets == p1.rx_packets + FRAMES)
            where, field = ("p1", "rx_dropped") if counted == "p1" else ("p2", "tx_dropped")
            wait_until(lambda: getattr(stats(where), field) == FRAMES)
        return differing(p1, stats("p1")), differing(p2, stats("p2"))

    received, sent = run_in(here, exchange)
    arrived = {"rx_packets": FRAMES, "rx_bytes": FRAMES * (SIZE - HEADER)}
    if counted == "p2":
        assert (received, sent) == (arrived, {"tx_dropped": FRAMES})
    else:
        assert (received, sent) == (arrived | {"rx_dropped": FRAMES}, {})


def test_interface_that_is_not_there() -> None:
    with pytest.raises(PortError, match="interface number 424242 does not exist"):
        link_stats(424242)
