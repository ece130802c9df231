"""What a relay costs between a controller and Open vSwitch: the time of a barrier, and of many flow_mods."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

from ofext.framing import Splitter
from ofext.instructions import ApplyActions, Output
from ofext.messages import BarrierReply, BarrierRequest, Error, FlowMod, Hello, decode, encode
from ofext.multipart import Aggregate
from ofext.oxm import Oxm
from oko.attached.relay.plane import Plane
from oko.attached.relay.relays import Relays
from oko.errors import OkoError
from oko.flow.rule import Command
from oko.openflow.terms import TRUSTED
from perf.machine import machine
from tests.ovs import Vswitch

_BRIDGE: Final = "perf"
_FLOWS: Final = 20_000
_BARRIERS: Final = 1_000
"""In a round."""
_LIMIT: Final = 16
_PATIENCE: Final = 30.0
_READ_SIZE: Final = 1 << 16
_DELETE: Final = FlowMod(command=Command.DELETE.value, table_id=0xFF)


class _NoFilterRules:
    """The filter rules, and the order, of a bridge that has none."""

    idle: Final = True

    async def change(self, messages: Sequence[Any]) -> list[OkoError | None]:
        return []

    async def change_together(self, messages: Sequence[Any]) -> None: ...

    def flows(self, request: Any) -> tuple[()]:
        return ()

    def totals(self) -> Aggregate:
        return Aggregate(0, 0, 0)

    def cookie_of(self, own: int) -> int:
        return own

    def listen(self, hear: Callable[..., None]) -> Callable[[], None]:
        return lambda: None

    def require(self, mod: Any) -> None: ...

    def has(self, port: int) -> bool:
        return False

    async def enter(self, packets: Sequence[Any]) -> list[OkoError | None]:
        return []

    async def plain(self, mods: Any, forward: Any) -> None: ...

    def close(self) -> None: ...

    def command(self, message: Any) -> Iterator[Any]:
        yield from ()

    def report(self, body: Any) -> Any: ...


def _relay(path: str, upstream: str, ready: Any) -> None:
    """A process that relays between the two sockets until it is ended."""

    async def main() -> None:
        nothing, loop = _NoFilterRules(), asyncio.get_running_loop()

        async def totals() -> Aggregate:
            return nothing.totals()

        plane = Plane(nothing, nothing, nothing, lambda send, backlog: nothing, totals)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            async with Relays(plane, _LIMIT) as relays:
                server = await relays.listen(
                    listener, TRUSTED, lambda protocol: loop.create_unix_connection(protocol, upstream)
                )
                ready.set()
                await server.serve_forever()

    asyncio.run(main())


class _Controller:
    """A connection that waits for what it asks."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_PATIENCE)
        self._socket.connect(str(path))
        self._splitter = Splitter()
        self._socket.sendall(encode(Hello()))
        self.barrier()

    def close(self) -> None:
        self._socket.close()

    def barrier(self, before: bytes = b"") -> int:
        """ns that it takes to be answered, with these messages before it. Raises OkoError for one that fails."""
        request = before + encode(BarrierRequest(), 1)
        start = time.perf_counter_ns()
        self._socket.sendall(request)
        while True:
            for each in self._splitter.feed(self._socket.recv(_READ_SIZE)):
                message, _ = decode(each)
                if isinstance(message, Error):
                    raise OkoError(f"Open vSwitch answered error {message.type}, {message.code}")
                if isinstance(message, BarrierReply):
                    return time.perf_counter_ns() - start


@dataclass(frozen=True, slots=True)
class Ways:
    """What was measured of the two ways, in ns, one after the other in each round."""

    direct: list[int]
    relayed: list[int]

    @property
    def ratio(self) -> float:
        """How much faster the direct way is: the median over the rounds."""
        return median(direct / relayed for direct, relayed in zip(self.direct, self.relayed, strict=True))

    def to_json(self) -> dict[str, Any]:
        return {"direct_ns": self.direct, "relayed_ns": self.relayed, "ratio": self.ratio}


@dataclass(frozen=True, slots=True)
class RelayCost:
    """Round trips of barriers, and the time of `_FLOWS` flow_mods with a barrier behind them."""

    barriers: Ways
    flow_mods: Ways

    def to_json(self) -> dict[str, Any]:
        """The result as json.dumps takes it."""
        return {"machine": machine(), "barriers": self.barriers.to_json(), "flow_mods": self.flow_mods.to_json()}

    def __str__(self) -> str:
        lines = []
        for name, values in (("direct", self.barriers.direct), ("relayed", self.barriers.relayed)):
            p50, p99 = median(values) / 1e3, quantiles(values, n=100)[98] / 1e3
            lines.append(f"barrier, {name}: p50 {p50:.0f} µs, p99 {p99:.0f} µs")
        for name, values in (("direct", self.flow_mods.direct), ("relayed", self.flow_mods.relayed)):
            lines.append(
                f"{_FLOWS:,} flow_mods, {name}: {median(values) / 1e9:.3f} s ({_rate(values):,.0f} per second)"
            )
        lines.append(f"flow_mods, relayed: {self.flow_mods.ratio:.2f}× of direct (median of {len(values)} rounds)")
        return "\n".join([*lines, machine()])


def _rate(values: Sequence[int]) -> float:
    return _FLOWS / (median(values) / 1e9)


def measure_relay(rounds: int) -> RelayCost:
    """Both ways by turns, so many times. Raises OkoError."""
    flows = b"".join(
        encode(
            FlowMod(
                priority=100,
                match=(Oxm(0x8000, 5, b"\x08\x00"), Oxm(0x8000, 12, (10 << 24 | number).to_bytes(4, "big"))),
                instructions=(ApplyActions((Output(1),)),),
            ),
            number,
        )
        for number in range(2, _FLOWS + 2)
    )
    barriers, flow_mods = Ways([], []), Ways([], [])
    with _switch() as (direct, relayed):
        for number in range(rounds):
            ways = [(direct, barriers.direct, flow_mods.direct), (relayed, barriers.relayed, flow_mods.relayed)]
            for controller, barrier_times, flow_times in ways if number % 2 else reversed(ways):
                barrier_times += [controller.barrier() for _ in range(_BARRIERS)]
                flow_times.append(controller.barrier(flows))
                controller.barrier(encode(_DELETE))
    return RelayCost(barriers, flow_mods)


@contextmanager
def _switch() -> Iterator[tuple[_Controller, _Controller]]:
    """Connections to a bridge: direct, and by a relay."""
    processes = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as directory, Vswitch(Path(directory) / "ovs") as switch:
        switch.add_bridge(_BRIDGE, [], "netdev")
        upstream, path = switch.management(_BRIDGE), Path(directory) / "relay"
        ready = processes.Event()
        process = processes.Process(target=_relay, args=(str(path), str(upstream), ready), daemon=True)
        process.start()
        try:
            if not ready.wait(_PATIENCE):
                raise OkoError("the relay did not begin: see its message above")
            direct, relayed = _Controller(upstream), _Controller(path)
            try:
                yield direct, relayed
            finally:
                direct.close()
                relayed.close()
        finally:
            process.terminate()
            process.join()
