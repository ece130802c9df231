"""Whether a kill of okod and its next start lose frames: under full load, with an account of every frame."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from oko.compiler import counters
from oko.errors import OkoError
from oko.flow.drop import Drop
from oko.kernel.maps import Map
from oko.switch.datapath import pins_of
from perf.account import Account
from perf.isolation import BPFFS
from perf.machine import machine
from perf.track import Track
from perf.xdp import INDEX_0, OBJECTS

_BRIDGE: Final = "perf"
_PROGRAM_ID: Final = 1
_FLOW: Final = f"in_port=1,filter_prog={_PROGRAM_ID},actions=output:2"
_PINS: Final = pins_of(_BRIDGE, BPFFS)
_TOOLS: Final = Path(sys.executable).parent
_IN_FLIGHT: Final = 1024  # frames: more than the rings behind gen and p2 hold


@dataclass(frozen=True, slots=True)
class Restart:
    """`times` are ns from each kill until the next okod was ready, `counted` the packets of the one rule by its
    counters at the end, which it had from the beginning."""

    account: Account
    times: Sequence[int]
    counted: int

    def to_json(self) -> dict[str, Any]:
        """The result as json.dumps takes it."""
        return {
            "machine": machine(),
            "restart_ns": list(self.times),
            "account": self.account.to_json(),
            "counted": self.counted,
        }

    def __str__(self) -> str:
        seconds = [nanoseconds / 1e9 for nanoseconds in self.times]
        return (
            f"{len(self.times)} kills, the next okod ready after {median(seconds):.2f} s "
            f"({min(seconds):.2f}–{max(seconds):.2f})\n{self.account}\nthe rule counted {self.counted:,}\n{machine()}"
        )


class _Okod:
    """The bridge's okod, which is ended and started; the datapath is seen through its pins."""

    def __init__(self, directory: Path) -> None:
        places = {"OKO_RUNDIR": "run", "OKO_STATEDIR": "state"}
        self._environment = os.environ | {name: str(directory / place) for name, place in places.items()}
        self._process: subprocess.Popen[str] | None = None

    def delivered(self) -> int:
        return 0

    def drops(self) -> Mapping[str, int]:
        with Map.open(_PINS / "maps" / "drops") as drops, Map.open(_PINS / "fallthrough") as fallthrough:
            counted = {f"oko: {reason.name.lower()}": _packets(drops, reason) for reason in Drop}
            empty = sum(int.from_bytes(value, "little") for value in fallthrough.lookup_percpu(INDEX_0) or ())
        return counted | {"oko: no pipeline": empty}

    def pipeline(self) -> bytes | None:
        """What stands in the slot."""
        with Map.open(_PINS / "slot") as slot:
            return slot.lookup(INDEX_0)

    def start(self) -> None:
        """Returns when it is ready. Raises OkoError when it does not become so."""
        command = [str(_TOOLS / "okod"), "--standalone", _BRIDGE, "--port", "p1=1", "--port", "p2=2"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=self._environment)
        assert self._process.stdout is not None
        if not self._process.stdout.readline().startswith("ready"):
            raise OkoError("okod did not become ready: see its message above")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def oko(self, *words: str | Path) -> str:
        """What a command prints. Raises OkoError when it fails."""
        done = subprocess.run(
            [_TOOLS / words[0], *words[1:]], capture_output=True, text=True, check=False, env=self._environment
        )
        if done.returncode:
            raise OkoError(done.stderr.strip())
        return done.stdout


def restart(kills: int) -> Restart:
    """Kill okod so many times while frames pass, and start it again. Raises OkoError, also when a start left the
    pipeline as it was."""
    with Track() as track, _running() as okod:
        track.drain()
        before, counted = track.account(okod), _counted(okod)
        times = []
        with track.load(1):
            for _ in range(kills):
                track.await_frames(_IN_FLIGHT)
                times.append(_restart(okod, track))
                track.await_frames(_IN_FLIGHT)
        track.drain()
        return Restart(track.account(okod).since(before), times, _counted(okod) - counted)


@contextlib.contextmanager
def _running() -> Iterator[_Okod]:
    with tempfile.TemporaryDirectory() as directory:
        okod = _Okod(Path(directory))
        try:
            okod.start()
            okod.oko("oko-load", _BRIDGE, str(_PROGRAM_ID), OBJECTS / "any.o")
            okod.oko("oko", "flow", "add", _BRIDGE, _FLOW)
            yield okod
            okod.oko("oko", "bridge", "del", _BRIDGE)
        finally:
            okod.kill()


def _restart(okod: _Okod, track: Track) -> int:
    """Kill and start okod; the time that took, in ns."""
    old = okod.pipeline()
    start = time.monotonic_ns()
    okod.kill()
    track.await_frames(_IN_FLIGHT)
    okod.start()
    duration = time.monotonic_ns() - start
    if okod.pipeline() == old:
        raise OkoError("okod left the pipeline as it was")
    return duration


def _counted(okod: _Okod) -> int:
    (flow,) = json.loads(okod.oko("oko", "flow", "list", _BRIDGE, "--json"))
    return int(flow["packets"])


def _packets(counted: Map, index: int) -> int:
    values = counted.lookup_percpu(index.to_bytes(4, "little")) or ()
    return sum(counters.COUNTER.unpack(value)[0] for value in values)
