"""Metrics of a bridge for Prometheus, read from the kernel's maps when somebody asks, and only then."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from oko.errors import OkoError, PortError, SettingsError
from oko.kernel.link_stats import link_stats
from oko.openflow.connection import part
from oko.openflow.endpoint import Address
from oko.switch.bridge import Bridge

log = logging.getLogger("oko")

_PATIENCE: Final = 10.0
"""Seconds that a peer has for its request, and for reading the answer."""
_LONGEST: Final = 1 << 13
"""Bytes of a request."""

Samples = Iterator[tuple[tuple[str, ...], float]]
"""Values, with those of the labels."""


class Peers(Protocol):
    """Who speaks OpenFlow with a bridge."""

    @property
    def connections(self) -> int:
        """How many of them are connected."""


@dataclass(frozen=True, slots=True)
class _Family:
    """A metric: its name without the suffix of a counter, what it means, and its labels beside ``bridge``."""

    name: str
    meaning: str
    labels: tuple[str, ...]
    samples: Callable[[Bridge, Peers], Samples]
    counts: bool = True

    def metric(self, bridge: Bridge, peers: Peers) -> Metric:
        kind = CounterMetricFamily if self.counts else GaugeMetricFamily
        metric = kind(self.name, self.meaning, labels=("bridge", *self.labels))
        for labels, value in self.samples(bridge, peers):
            metric.add_metric((bridge.name, *labels), value)
        return metric


def _of_ports(counter: str) -> Callable[[Bridge, Peers], Samples]:
    """A counter of `LinkStats`, of the ports that are there."""

    def samples(bridge: Bridge, _peers: Peers) -> Samples:
        for port in bridge.ports:
            if bridge.is_live(port):
                with contextlib.suppress(PortError):  # Gone since.
                    yield (str(port.number), port.name), getattr(link_stats(port.ifindex), counter)

    return samples


def _up(bridge: Bridge, _peers: Peers) -> Samples:
    for port in bridge.ports:
        yield (str(port.number), port.name), bridge.is_live(port) and bridge.is_up(port)


def _rules(bridge: Bridge, _peers: Peers) -> Samples:
    for table, rules in sorted(Counter(entry.rule.table for entry in bridge.tables).items()):
        yield (str(table),), rules


def _runs(bridge: Bridge, _peers: Peers) -> Samples:
    for loaded, runs, _ in bridge.programs.counted():
        yield (str(loaded.filter.id), loaded.name), runs


def _matches(bridge: Bridge, _peers: Peers) -> Samples:
    for loaded, _, matches in bridge.programs.counted():
        yield (str(loaded.filter.id), loaded.name), matches


def _drops(bridge: Bridge, _peers: Peers) -> Samples:
    for reason, count in bridge.drops().items():
        yield (reason.name.lower().replace("_", "-"),), count.packets
    yield ("no-pipeline",), bridge.fallthrough()


_PORT: Final = ("port", "interface")
_PROGRAM: Final = ("program", "name")
FAMILIES: Final = (
    *(
        _Family(f"oko_port_{name}", f"{meaning}, as the kernel counts for the interface.", _PORT, _of_ports(counter))
        for name, meaning, counter in (
            ("receive_packets", "Packets received", "rx_packets"),
            ("receive_bytes", "Bytes received", "rx_bytes"),
            ("receive_drops", "Packets dropped on reception", "rx_dropped"),
            ("transmit_packets", "Packets sent", "tx_packets"),
            ("transmit_bytes", "Bytes sent", "tx_bytes"),
            ("transmit_drops", "Packets dropped on transmission", "tx_dropped"),
        )
    ),
    _Family("oko_port_up", "Whether the port's link is up.", _PORT, _up, counts=False),
    _Family("oko_table_rules", "Rules, of tables that have any.", ("table",), _rules, counts=False),
    _Family("oko_program_runs", "Runs of a filter program.", _PROGRAM, _runs),
    _Family("oko_program_matches", "Runs of a filter program that matched.", _PROGRAM, _matches),
    _Family("oko_drops", "Packets that were dropped though no rule said so.", ("reason",), _drops),
    _Family(
        "oko_changes",
        "Changes that took effect: flow_mods, group_mods, meter_mods and those of observers.",
        (),
        lambda bridge, _: iter([((), bridge.changes)]),
    ),
    _Family(
        "oko_reloads",
        "Pipelines that took the place of another.",
        (),
        lambda bridge, _: iter([((), bridge.reloads)]),
    ),
    _Family(
        "oko_packet_in_drops",
        "Packets for the controllers that found no room in the ring buffer.",
        (),
        lambda bridge, _: iter([((), bridge.lost_packet_ins())]),
    ),
    _Family(
        "oko_connections",
        "Peers that are connected.",
        (),
        lambda _, peers: iter([((), peers.connections)]),
        counts=False,
    ),
)


class Metrics(Collector):
    """Of one bridge."""

    def __init__(self, bridge: Bridge, peers: Peers) -> None:
        self._bridge = bridge
        self._peers = peers

    def collect(self) -> Iterable[Metric]:
        """The metrics as they are now. Raises KernelError."""
        return [family.metric(self._bridge, self._peers) for family in FAMILIES]


async def serve_metrics(address: Address, metrics: Metrics) -> asyncio.Server:
    """A server of HTTP that answers ``GET /metrics``, in the thread of the event loop, which is the bridge's. Raises
    SettingsError."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                request = await reader.readuntil(b"\r\n\r\n")
                writer.write(_answer(request, registry))
                await writer.drain()
        except (OSError, EOFError, asyncio.LimitOverrunError):
            pass  # TimeoutError is an OSError. Whoever asks so gets no answer.
        finally:
            await part(writer)

    try:
        return await asyncio.start_server(accept, address.host, address.port, limit=_LONGEST)
    except OSError as error:
        raise SettingsError(f"cannot serve metrics at {address}: {error.strerror}") from None


def _answer(request: bytes, registry: CollectorRegistry) -> bytes:
    """The answer to a request of HTTP/1.x (RFC 9112)."""
    method, _, rest = request.partition(b" ")
    target = rest.partition(b" ")[0].partition(b"?")[0]
    if (method, target) == (b"GET", b"/metrics"):
        try:
            status, kind, body = "200 OK", CONTENT_TYPE_PLAIN_0_0_4, generate_latest(registry)
        except OkoError as error:
            log.warning("metrics: %s", error)
            status, kind, body = "500 Internal Server Error", "text/plain", b"the metrics cannot be read: see the log\n"
    else:
        status, kind, body = "404 Not Found", "text/plain", b"GET /metrics\n"
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body
