"""`Testbed`: the two veth pairs of `Track`, with traffic from either end and both ends counted."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from struct import Struct
from types import TracebackType
from typing import Final, NamedTuple, Self

from oko.errors import KernelError, OkoError
from oko.kernel.interface import interface
from oko.kernel.link import attach_xdp
from perf.latency import BUCKETS, Latency, latency
from perf.track import delete_links, make_pairs
from perf.traffic import LONGEST, Phase
from perf.xdp import INDEX_0, XdpObject

ENTRANCES: Final = ("gen", "sink")
"""The interfaces before p1 and p2, where packets go in and come out."""

_STATE: Final = Struct("<6Q8I")  # struct state of traffic.c
_ARRIVALS: Final = Struct("<3Q")  # struct arrivals of sink.c
_MARK: Final = 64  # frames between two looks at the clock, of either
_UNITS: Final = 1024 * 10**9  # of traffic.c's time, in a second
_PROBES: Final = 1 << 15  # of probe.h
_ENDLESS: Final = (1 << 31) - 1  # frames of one test run, at most
_AGAIN: Final = 0.05  # seconds: should the signal come before the test run has begun
_POLL: Final = 0.002  # seconds
_QUIET: Final = 0.25  # seconds without an arrival: what is still missing is lost, unless a process does not get to run
_PATIENCE: Final = 10.0  # seconds
_LEAST: Final = 2048  # frames of a run at full speed; of fewer, the time is not known well
_ATTEMPTS: Final = 5


class _State(NamedTuple):
    """``struct state`` of ``traffic.c``: how far a processor that sends has come, and what it is to do."""

    sent: int = 0
    wanted: int = 0
    began: int = 0
    last: int = 0
    due: int = 0
    interval: int = 0
    following: int = 0
    templates: int = 0
    variant: int = 0
    first: int = 0
    variants: int = 0
    stride: int = 0
    probing: bool = False
    pad: int = 0

    @property
    def sending(self) -> int:
        """ns from the first frame to the last."""
        # The clock was last read at a multiple of _MARK; few frames, as in a test, may all be behind it.
        marked = max(self.sent - 1, 0) // _MARK * _MARK or 1
        return max(int((self.last - self.began) * self.sent / marked), 1)


@dataclass(frozen=True, slots=True)
class Run:
    """Frames that were sent and that arrived at either end, and the ns from the first that was sent to the last of
    both."""

    sent: int
    delivered: int
    sending: int
    duration: int
    senders: int = 1

    @property
    def rate(self) -> float:
        """Millions of frames per second that arrived."""
        return self.delivered * 1e3 / max(self.duration, 1)

    @property
    def offered(self) -> float:
        """Millions of frames per second that were sent."""
        return self.sent * 1e3 / max(self.sending, 1)

    @property
    def cost(self) -> float:
        """ns of a processor for each frame sent."""
        return self.sending * self.senders / max(self.sent, 1)

    @property
    def share(self) -> float:
        """Of the frames sent, those that arrived."""
        return self.delivered / max(self.sent, 1)


class Testbed:
    """The interfaces gen—p1 and p2—sink in the caller's network namespace, see `perf.isolation`. What is measured
    stands at p1 and p2. To be used in the main thread: a signal (SIGALRM) ends a run."""

    __test__ = False  # no test for pytest to collect

    def __init__(self, senders: int = 1) -> None:
        """With more than one sender, `run` sends from that many processors: the caller's, and others."""
        self._senders = senders
        self._own = contextlib.ExitStack()
        self._phase: Phase | None = None

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as own:
            make_pairs(queues=self._senders)
            own.callback(delete_links, ENTRANCES)
            self._traffic = own.enter_context(XdpObject("traffic"))
            self._sink = own.enter_context(XdpObject("sink", {"departures": self._traffic.maps["departures"]}))
            for place, name in enumerate(ENTRANCES):
                own.enter_context(attach_xdp(self._sink.program, interface(name).index))
                self._traffic.aim(interface(name).index, at=place)
            own.callback(signal.signal, signal.SIGALRM, signal.signal(signal.SIGALRM, lambda *_: None))
            self._own = own.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._own.close()

    @contextlib.contextmanager
    def sinks(self, *names: str) -> Iterator[None]:
        """What arrives at these interfaces counts as delivered while the context lasts."""
        with contextlib.ExitStack() as own:
            for name in names:
                own.enter_context(attach_xdp(self._sink.program, interface(name).index))
            yield

    def run(self, phase: Phase, seconds: float, *, rate: float | None = None) -> Run:
        """Send for so long, at `rate` packets per second or as fast as it goes, and wait for what arrives.
        Raises KernelError, OkoError."""
        for _ in range(_ATTEMPTS):
            found = self._run(phase, _ENDLESS, seconds, rate, self._senders)
            if rate is not None or found.sent >= _LEAST:
                return found
        raise OkoError(f"only {found.sent} frames were sent in {seconds:g} s: others use this processor")

    def send(self, phase: Phase, rate: float, *, passes: int | None = None) -> Run:
        """Send everything in a phase once, or its templates so many times. Raises KernelError, OkoError."""
        frames = phase.frames if passes is None else passes * len(phase.templates)
        return self._run(phase, frames, frames / rate + 0.01, rate, 1)

    def latency(self, phase: Phase, seconds: float, rate: float) -> Latency | None:
        """How long packets take while so many are sent per second; of one in 64 it is measured. None if none of those
        arrived. Raises KernelError, OkoError."""
        self._traffic.maps["departures"].update_batch((n.to_bytes(4, "little"), bytes(8)) for n in range(_PROBES))
        delays = self._sink.maps["delays"]
        buckets = [number.to_bytes(4, "little") for number in range(BUCKETS)]
        for bucket in buckets:
            delays.update(bucket, bytes(8))
        self._run(phase, _ENDLESS, seconds, rate, self._senders, probing=True)
        counts = (delays.lookup_percpu(bucket) or () for bucket in buckets)
        return latency([sum(int.from_bytes(value, "little") for value in values) for values in counts])

    def _run(
        self, phase: Phase, frames: int, seconds: float, rate: float | None, senders: int, *, probing: bool = False
    ) -> Run:
        before, _ = self.arrived()
        self._prepare(phase, frames, None if rate is None else rate / senders, probing)
        deadline = time.monotonic() + seconds + _PATIENCE
        while True:
            self._generate(seconds, senders)
            sent = sum(state.sent for state in self._states())
            if sent >= frames or frames == _ENDLESS:
                break
            if time.monotonic() > deadline:
                raise OkoError(
                    f"{sent} of {frames} frames were sent in {seconds + _PATIENCE:.0f} s: the machine is busy"
                )
        after, arrival = self.settle(before + sent)
        states = [state for state in self._states() if state.sent]
        began = min((state.began for state in states), default=0)
        sending = max((state.sending for state in states), default=1)
        return Run(sent, after - before, sending, max(sending, arrival - began), senders)

    def arrived(self) -> tuple[int, int]:
        """How many frames have been delivered, and when the last of them was, of those at which the clock was read."""
        values = [_ARRIVALS.unpack(value) for value in self._sink.maps["frames"].lookup_percpu(INDEX_0) or ()]
        return sum(frames for frames, _, _ in values), max((last for _, _, last in values), default=0)

    def settle(self, expected: int) -> tuple[int, int]:
        """`arrived`, when so many have arrived, or no more do. Raises OkoError if neither comes about."""
        begun = changed = time.monotonic()
        seen = self.arrived()
        while changed < begun + _PATIENCE:
            if seen[0] == expected or time.monotonic() > changed + _QUIET:
                return seen
            time.sleep(_POLL)
            now = self.arrived()
            if now[0] != seen[0]:
                seen, changed = now, time.monotonic()
        raise OkoError(f"frames still arrive {_PATIENCE:.0f} s after the last one was sent")

    def rewind(self) -> None:
        """Begin every phase anew; else one that is sent again goes on where it was."""
        self._phase = None

    def _prepare(self, phase: Phase, frames: int, rate: float | None, probing: bool) -> None:
        following, variant = 0, phase.first
        if phase is self._phase:
            last = max(self._states(), key=lambda state: state.sent)
            following, variant = last.following, last.variant
        else:
            entries = ((n.to_bytes(4, "little"), made.pack()) for n, made in enumerate(phase.templates))
            self._traffic.maps["templates"].update_batch(entries)
            self._phase = phase
        state = _State(
            wanted=frames,
            interval=0 if rate is None else max(int(_UNITS / rate), 1),
            following=following,
            templates=len(phase.templates),
            variant=variant,
            first=phase.first,
            variants=phase.variants,
            stride=phase.stride,
            probing=probing,
        )
        self._traffic.maps["states"].update(INDEX_0, _STATE.pack(*state))

    def _generate(self, seconds: float, senders: int) -> None:
        """Test runs on so many processors, this thread's among them, that a signal ends."""
        mine = os.sched_getaffinity(0)
        others = sorted(set(range(os.cpu_count() or 1)) - mine)[: senders - 1]
        if len(others) < senders - 1:
            raise OkoError(f"{senders} processors are to send, and there are {len(others) + 1}")
        failures: list[OkoError] = []

        def generate_on(processor: int) -> None:
            os.sched_setaffinity(0, {processor})
            try:
                self._test_run()
            except OkoError as error:
                failures.append(error)

        threads = [threading.Thread(target=generate_on, args=(processor,)) for processor in others]
        for thread in threads:
            thread.start()
        signal.setitimer(signal.ITIMER_REAL, seconds, _AGAIN)
        try:
            self._test_run()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            for thread in threads:
                # A signal for the process goes to any of its threads.
                while thread.is_alive() and thread.ident is not None:
                    signal.pthread_kill(thread.ident, signal.SIGALRM)
                    thread.join(_AGAIN)
        for failure in failures:
            raise failure

    def _test_run(self) -> None:
        try:
            self._traffic.program.test_run_live(bytes(LONGEST), _ENDLESS)
        except KernelError as error:
            if error.errno != errno.EINTR:
                raise

    def _states(self) -> list[_State]:
        """Of each processor."""
        found = self._traffic.maps["states"].lookup_percpu(INDEX_0)
        if found is None:
            raise OkoError("the generator has no state")
        return [_State(*_STATE.unpack(value)) for value in found]
