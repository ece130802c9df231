"""`Track`: two veth pairs ``gen—p1`` and ``p2—sink``, frames in at one end and counted at the other.

Frames are made by a live test run (net/bpf/test_run.c), which redirects them into gen; they arrive at p1, where the
switch under test is, and those that it sends to p2 arrive at sink. Only the markers of `Track.drain` meet the stack.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from types import TracebackType
from typing import Final, Self

from pyroute2 import IPRoute
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from oko.errors import OkoError
from oko.kernel.interface import interface, set_up
from oko.kernel.link import attach_xdp
from perf.account import DRIVER_DROPS, HOPS, Account, driver_statistics
from perf.switches import Switch
from perf.xdp import XdpObject

FRAME: Final = bytes(
    Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    / IP(src="10.0.0.1", dst="10.0.0.2")
    / UDP(sport=1000, dport=2000)
    / bytes(18)
)
"""60 bytes: the shortest frame of Ethernet, without FCS."""

PAIRS: Final = (("gen", "p1"), ("p2", "sink"))
_WARM_UP: Final = 1 << 19  # frames
_BURST: Final = 1 << 22  # frames of one test run of a background load, about a second
_MARKER: Final = 0x88B5  # the ethertype that sink.c passes on
_MARKER_TIMEOUT: Final = 0.5  # seconds until the next marker is sent
_MARKERS: Final = 20
_PATIENCE: Final = 20  # seconds


@dataclass(frozen=True, slots=True)
class Run:
    """A load and how long its frames took, in ns."""

    account: Account
    duration: int

    @property
    def rate(self) -> float:
        """Millions of frames per second that arrived."""
        return self.account.delivered * 1e3 / self.duration

    @property
    def cost(self) -> float:
        """ns for each frame sent."""
        return self.duration / self.account.sent


def make_pairs(pairs: Sequence[tuple[str, str]] = PAIRS, queues: int = 1) -> None:
    """Make pairs of veth interfaces in the caller's network namespace, all of them up, with so many queues in either
    direction: a processor has one of its own if there are enough of them."""
    with IPRoute() as route:
        for name, peer in pairs:
            both = {"num_tx_queues": queues, "num_rx_queues": queues}
            route.link("add", ifname=name, kind="veth", **both, peer={"ifname": peer, **both})
    for name in (name for pair in pairs for name in pair):
        set_up(interface(name).index)


def delete_links(names: Iterable[str]) -> None:
    """Take these interfaces away, and the peers of those that are veths."""
    with IPRoute() as route:
        for name in names:
            route.link("del", index=interface(name).index)


class Track:
    """The interfaces, the generator and the sink, in the caller's network namespace: see `perf.isolation`."""

    def __init__(self) -> None:
        self._own = contextlib.ExitStack()
        self._markers = 0

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as own:
            make_pairs()
            self._sink = own.enter_context(XdpObject("sink"))
            own.enter_context(attach_xdp(self._sink.program, interface("sink").index))
            self._generator = own.enter_context(XdpObject("generator"))
            self._generator.aim(interface("gen").index)
            arrivals = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_MARKER))
            self._arrivals = own.enter_context(arrivals)
            self._arrivals.settimeout(_MARKER_TIMEOUT)
            self._own = own.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._own.close()

    @contextlib.contextmanager
    def load(self, generators: int) -> Iterator[None]:
        """Full load, from so many processes, while the context lasts. Raises OkoError when one of them failed."""
        context = multiprocessing.get_context("fork")
        ended = context.Event()
        processes = [context.Process(target=self._generate, args=(ended, os.getpid())) for _ in range(generators)]
        for process in processes:
            process.start()
        try:
            yield
        finally:
            ended.set()
            for process in processes:
                process.join()
        if any(process.exitcode for process in processes):
            raise OkoError("a generator ended with an error: see its message above")

    def await_frames(self, count: int) -> None:
        """Returns when so many frames more have arrived at the sink. Raises OkoError when they do not come."""
        wanted = self._sink.count("frames") + count
        deadline = time.monotonic() + _PATIENCE
        while self._sink.count("frames") < wanted:
            if time.monotonic() > deadline:
                raise OkoError(f"in {_PATIENCE} s, fewer than {count} frames arrived at the sink")
            os.sched_yield()

    def drain(self) -> None:
        """Returns when no frame is on its way any more.

        A marker follows the frames through the same queues, each of which keeps the order, so that everything before
        it has arrived or been dropped once it arrives. A marker too finds a queue full at times: then comes another.
        Raises OkoError when none arrives.
        """
        for _ in range(_MARKERS):
            self._markers += 1
            marker = FRAME[:12] + _MARKER.to_bytes(2, "big") + self._markers.to_bytes(46, "big")
            self._generator.program.test_run_live(marker, 1, batch=1)
            with contextlib.suppress(TimeoutError):
                while self._arrivals.recv(len(marker)) != marker:
                    pass
                return
        raise OkoError(f"none of {_MARKERS} frames arrived at the sink: the switch under test does not forward")

    def account(self, switch: Switch) -> Account:
        """Everything that was counted so far."""
        sent = self._generator.count("frames")
        statistics = driver_statistics()
        return Account(
            sent,
            self._sink.count("frames") + switch.delivered(),
            dict(switch.drops())
            | {place: statistics[name][counter] for place, (name, counter) in DRIVER_DROPS.items()},
            {place: statistics[name][counter] for place, (name, counter) in HOPS.items()},
        )

    def run(self, switch: Switch, seconds: float) -> Run:
        """Send for about so long, in one test run, and wait until everything has arrived."""
        self.drain()
        # A run of more than one frame changes the kernel's XDP dispatcher, before and after, and waits for it: some
        # 30 ms that no frame takes part in.
        around = self._send(2)
        warm_up = max(self._send(_WARM_UP) - around, 1)
        frames = max(int(seconds * 1e9 * _WARM_UP / warm_up), 2)
        self.drain()
        before = self.account(switch)
        duration = self._send(frames) - around
        self.drain()
        return Run(self.account(switch).since(before), duration)

    def _send(self, frames: int) -> int:
        """Send so many frames at full speed; the time that took, in ns."""
        start = time.monotonic_ns()
        self._generator.program.test_run_live(FRAME, frames)
        return time.monotonic_ns() - start

    def _generate(self, ended: Event, parent: int) -> None:
        """What a process of `load` does; it also ends when its parent is gone."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while not ended.is_set() and os.getppid() == parent:
            self._send(_BURST)
