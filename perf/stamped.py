"""`StampedTrack`: veth pairs around the ports of a switch, a load whose frames are stamped, and what arrived of each.

Frames go in at ``gen``, whose far end is port 1, and arrive at ``s2`` to ``s4``, the far ends of the other ports, or at
``gen`` again. ``stamped.c`` is at all four, and sends.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from types import TracebackType
from typing import Final, Self

from pyroute2 import IPRoute

from oko.errors import OkoError
from oko.kernel.interface import interface, set_up
from oko.kernel.link import attach_xdp
from oko.switch.port import PortSpec
from perf.account import statistics
from perf.explanation import Outcome
from perf.flows import FLOWS, SIZE, STAMP, digest, frames
from perf.xdp import XdpObject

FRAMES: Final = 1 << 22
"""Stamps of one load: what ``stamped.c`` has room for."""
BETWEEN: Final = 2 * FLOWS
"""Frames that pass between two updates, at least."""
ROOM: Final = FRAMES // 4
"""Stamps that must be left for another update."""

PORTS: Final = (PortSpec("p1", 1), PortSpec("p2", 2), PortSpec("p3", 3), PortSpec("p4", 4))
_FAR: Final = ("gen", "s2", "s3", "s4")

DRIVER_DROPS: Final = {
    "no room behind gen": ("gen", "tx_queue_0_xdp_xmit_errors"),
    "driver at p1": ("p1", "rx_queue_0_drops"),
    "no room behind p1": ("p1", "rx_queue_0_xdp_tx_errors"),
    **{f"no room behind {port.name}": (port.name, "tx_queue_0_xdp_xmit_errors") for port in PORTS[1:]},
    **{f"driver at {name}": (name, "rx_queue_0_drops") for name in _FAR},
}
"""Where the veth driver loses frames or copies of them: (interface, statistic of ``ethtool -S``)."""

_BURST: Final = 1 << 18  # frames of one test run of the load, some of them held back
_PATIENCE: Final = 20  # seconds
_STANDSTILL: Final = 1.0  # seconds without a frame: nothing is under way
_PAUSE: Final = 0.0002  # seconds between two looks at what has arrived, for the others on this processor
_CONTROL: Final = struct.Struct("=2Q")  # struct control of stamped.c


@dataclass(frozen=True, slots=True)
class Statistics:
    """What the kernel has counted: frames that p1 received, copies that the far ends did, and drops by place."""

    received: int
    copies: int
    drops: Mapping[str, int]

    def since(self, before: Statistics) -> Statistics:
        drops = {place: count - before.drops[place] for place, count in self.drops.items()}
        return Statistics(self.received - before.received, self.copies - before.copies, drops)


class StampedTrack:
    """The interfaces and both ends of the load, in the caller's network namespace: see `perf.isolation`."""

    def __init__(self) -> None:
        self._own = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as own:
            with IPRoute() as route:
                for far, near in zip(_FAR, PORTS, strict=True):
                    route.link("add", ifname=far, kind="veth", peer={"ifname": near.name})
            for name in (*_FAR, *(port.name for port in PORTS)):
                set_up(interface(name).index)
            self._ends = own.enter_context(XdpObject("stamped"))
            maps = self._ends.maps
            for flow, frame in enumerate(frames()):
                maps["flows"].update(_u32(flow), frame)
            for port, name in enumerate(_FAR):
                maps["ports"].update(_u32(interface(name).index), _u32(port + 1))
                own.enter_context(attach_xdp(self._ends.program, interface(name).index))
            self._ends.aim(interface("gen").index)
            self._control = own.enter_context(maps["control"].memory())
            self._reached = own.enter_context(maps["reached"].memory())
            self._strays = own.enter_context(maps["strays"].memory())
            self._arrived = own.enter_context(maps["frames"].memory())
            self._own = own.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._own.close()

    @contextlib.contextmanager
    def load(self) -> Iterator[None]:
        """Full load, of frames stamped from 0 on, while the context lasts or until no stamps are left; behind it all
        have arrived that arrive. Raises OkoError when those of flow 0, which must, do not."""
        self._arrived[:] = bytes(len(self._arrived))
        for memory in (self._reached, self._strays):
            memory[: 8 * len(PORTS)] = bytes(8 * len(PORTS))
        _CONTROL.pack_into(self._control, 0, 0, FRAMES - FLOWS)
        context = multiprocessing.get_context("fork")
        ended = context.Event()
        process = context.Process(target=self._generate, args=(ended, os.getpid()))
        process.start()
        try:
            yield
            struct.pack_into("=Q", self._control, 8, 0)
            self._await(lambda: self.stamped % FLOWS == 1 and min(self._last()) == self.stamped, "the last frame")
        finally:
            ended.set()
            process.join()
        if process.exitcode:
            raise OkoError("the generator ended with an error: see its message above")

    @property
    def stamped(self) -> int:
        """Frames that were stamped so far: the next stamp."""
        return int.from_bytes(self._control[:8], "little")

    @property
    def decided(self) -> int:
        """All frames with lower stamps have been decided: one behind them has arrived."""
        return max(self._last())

    @property
    def strays(self) -> int:
        """Frames that arrived without a stamp that was given out."""
        return sum(struct.unpack_from(f"={len(PORTS)}Q", self._strays))

    def await_frames(self, count: int) -> None:
        """Returns when so many frames more have arrived at every port or there are no stamps left."""
        wanted = self.stamped + count
        self._await(lambda: min(self._last()) >= min(wanted, FRAMES - FLOWS), f"frame {wanted}")

    @contextlib.contextmanager
    def arrived(self) -> Iterator[memoryview]:
        """Two words of 64 bits for each frame, by stamp: an `Outcome`."""
        with memoryview(self._arrived) as memory, memory.cast("Q") as words:
            yield words

    def statistics(self) -> Statistics:
        """What was counted so far."""
        found = {name: statistics(name) for name in (*_FAR, *(port.name for port in PORTS))}
        return Statistics(
            found["p1"]["rx_queue_0_xdp_packets"],
            sum(found[name]["rx_queue_0_xdp_packets"] for name in _FAR),
            {place: found[name][counter] for place, (name, counter) in DRIVER_DROPS.items()},
        )

    def _last(self) -> tuple[int, ...]:
        return struct.unpack_from(f"={len(PORTS)}Q", self._reached)

    def _await(self, reached: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        progress, moved = self._last(), time.monotonic()
        while not reached():
            now = time.monotonic()
            if now > deadline:
                raise OkoError(f"in {_PATIENCE} s, {what} did not arrive: {self.stamped} were stamped")
            if self._last() != progress:
                progress, moved = self._last(), now
            elif now > moved + _STANDSTILL:
                # All of flow 0 that was under way is lost: send more, so that it is seen what else is.
                struct.pack_into(f"={len(PORTS)}Q", self._reached, 0, *(self.stamped for _ in PORTS))
            time.sleep(_PAUSE)

    def _generate(self, ended: Event, parent: int) -> None:
        """What the process of `load` does; it also ends when its parent is gone."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        while not ended.is_set() and os.getppid() == parent:
            self._ends.program.test_run_live(bytes(SIZE + STAMP), _BURST)


def outcome(sent: Mapping[int, bytes]) -> Outcome:
    """What is written down of a frame of which these copies, stamped, arrived from the ports with these numbers."""
    one, two, three, four = (digest(sent[p.number][:-STAMP]) if p.number in sent else 0 for p in PORTS)
    return (one | two << 32, three | four << 32)


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")
