"""The two engines agree packet by packet, and so do the maps of the programs afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from oko.errors import BadAction, LimitExceeded
from oko.flow.drop import Drop
from oko.flow.tables import Tables
from oko.replay.capture import Capture, Packet
from oko.replay.engine import LONGEST, SHORTEST, Decided, KernelEngine, ReferenceEngine, usual
from oko.replay.replay import Report, replay
from tests.bpf_programs.harness import build
from tests.oko.compiler.objects import filter_program, runtime
from tests.oko.compiler.strategies import written
from tests.oko.compiler.test_pipeline import contents
from tests.oko.replay.traffic import CAPTURES, traffic
from verifier import elf
from verifier.program import Program

needs_bpf = pytest.mark.needs_bpf
PORTS = range(1, 65)
FRAME = bytes.fromhex("020000000001 020000000002 0806") + bytes(46)
MOST = 20_000
"""Packets of one capture."""

RULES = (
    "priority=9,ip,filter_prog=1,actions=output:2",
    "priority=8,arp,actions=output:3",
    "priority=7,udp,filter_prog=3,actions=output:4",
    "priority=7,udp,tp_dst=0x0000/0x0001,actions=output:1",
    "priority=6,in_port=3,filter_prog=4,actions=output:64",
    "priority=5,ip,nw_src=0.0.0.1/0.0.0.1,filter_prog=3,actions=output:5",
    "priority=4,tcp,tp_dst=80,actions=output:1",
    "priority=4,filter_prog=2,actions=drop",
    *(f"priority=3,icmp,nw_tos={tos * 4},in_port=2,actions=output:7" for tos in range(20)),
    "priority=2,filter_prog=5,actions=output:3",
    "priority=1,dl_type=0x86dd,actions=output:6",
)


@cache
def programs() -> dict[int, Program]:
    with TemporaryDirectory() as directory:
        build(Path(directory), "SOURCES=firewall.c")
        firewall = elf.load((Path(directory) / "firewall.o").read_bytes())
    others = {2: "every_second", 3: "per_source", 4: "spaced", 5: "lottery"}
    return {1: firewall} | {number: filter_program(name) for number, name in others.items()}


def both_ways(
    packets: Iterable[Packet], table: Tables, loaded: Mapping[int, Program], in_port: int | None
) -> tuple[Report, Report]:
    """The reports of the two engines, after a comparison of everything the programs keep."""
    all_packets = list(packets)
    reference = ReferenceEngine(table, loaded, usual(PORTS), runtime())
    with KernelEngine(table, loaded, usual(PORTS), runtime()) as kernel:
        reports = [replay(all_packets, engine, table, loaded, in_port=in_port) for engine in (kernel, reference)]
        for name, simulated in reference.maps.items():
            assert contents(kernel.maps[name]) == dict(simulated.items()), name
    return reports[0], reports[1]


def counted(report: Report) -> dict[str, object]:
    return {name: value for name, value in report.to_json().items() if name != "engine"}


@needs_bpf
@pytest.mark.parametrize("in_port", [None, 1, 2])
def test_made_up_traffic(in_port: int | None) -> None:
    kernel, reference = both_ways(traffic(), written(*RULES), programs(), in_port)
    assert counted(kernel) == counted(reference)
    assert kernel.packets == len(traffic())
    assert len([packets for _, packets, _ in kernel.rules if packets]) >= 5, "the rules do not fit the traffic"


def captures() -> list[Path]:
    found = [path for path in CAPTURES.rglob("*") if ".pcap" in path.name and "linktype" not in path.name]
    return sorted(found)


@needs_bpf
@pytest.mark.parametrize("path", captures(), ids=lambda path: path.name)
def test_real_captures(path: Path) -> None:
    with Capture(path) as capture:
        packets = list(islice(capture, MOST))
    kernel, reference = both_ways(packets, written(*RULES), programs(), None)
    assert counted(kernel) == counted(reference)
    assert kernel.packets == len(packets)


@needs_bpf
def test_the_firewalls_connections() -> None:
    """One entry per connection that somebody inside began, equal both ways; none that came from outside."""
    table = written("in_port=1,filter_prog=1,actions=output:2", "in_port=2,filter_prog=1,actions=output:1")
    whole = [packet for packet in traffic() if packet.interface in (0, 1)][: 14 * 16]
    reference = ReferenceEngine(table, programs(), usual(PORTS), runtime())
    with KernelEngine(table, programs(), usual(PORTS), runtime()) as kernel:
        for engine in (kernel, reference):
            replay(whole, engine, table, programs())
        connections = contents(kernel.maps["1.connections"])
        assert connections == dict(reference.maps["1.connections"].items())
    assert len(connections) == 14 * 4  # TCP, name look-up, ping, tagged


@needs_bpf
def test_a_table_without_programs() -> None:
    with KernelEngine(written("actions=output:2"), programs(), usual(PORTS), runtime()) as kernel:
        assert kernel.decide(FRAME, 1, 0) == Decided(0, ((2, FRAME),))
        assert kernel.program_counts(1) == (0, 0)


@needs_bpf
@pytest.mark.parametrize("size", [SHORTEST, SHORTEST + 1, LONGEST])
def test_the_shortest_and_the_longest_frame(size: int) -> None:
    table = written("dl_src=02:00:00:00:00:02,actions=output:2")
    frame = FRAME.ljust(size, b"\0")[:size]
    with KernelEngine(table, {}, usual(PORTS), runtime()) as kernel:
        reference = ReferenceEngine(table, {}, usual(PORTS), runtime())
        assert kernel.decide(frame, 1, 0) == reference.decide(frame, 1, 0) == Decided(0, ((2, frame),))


@needs_bpf
def test_the_ports_stand_for_nothing_else() -> None:
    """Numbers that are no indices, and beyond 31 bits."""
    ports = (7, 0x7FFFFFFF, 0x80000000, 0xFFFFFF00)
    table = written(*(f"in_port={port},actions=output:{other}" for port, other in zip(ports, ports[::-1], strict=True)))
    reference = ReferenceEngine(table, {}, usual(ports), runtime())
    with KernelEngine(table, {}, usual(ports), runtime()) as kernel:
        for index, port in enumerate(ports):
            expected = Decided(index, ((ports[3 - index], FRAME),))
            assert kernel.decide(FRAME, port, 0) == reference.decide(FRAME, port, 0) == expected


@pytest.mark.parametrize("actions", ["output:65", "output:1,dec_ttl"])
def test_the_reference_refuses_what_the_image_cannot_do(actions: str) -> None:
    with pytest.raises(BadAction):
        ReferenceEngine(written(f"ip,actions={actions}"), {}, usual(PORTS), runtime())


def test_too_many_programs() -> None:
    loaded = dict.fromkeys(range(1, 66), filter_program("odd_port"))
    with pytest.raises(LimitExceeded) as raised:
        KernelEngine(written("actions=drop"), loaded, usual(PORTS), runtime())
    assert (raised.value.used, raised.value.limit) == (65, 64)


def test_reasons_of_the_reference() -> None:
    table = written("in_port=1,actions=output:1", "in_port=2,actions=drop")
    engine = ReferenceEngine(table, {}, usual(PORTS), runtime())
    assert [engine.decide(FRAME, port, 0) for port in (1, 2, 3)] == [
        Decided(0, drop=Drop.TO_INGRESS),
        Decided(1),
        Decided(drop=Drop.MISS),
    ]
    assert engine.decide(FRAME[:13], 1, 0) == Decided(drop=Drop.RUNT)
