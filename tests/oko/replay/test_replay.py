"""What a replay makes of a capture, apart from how packets are decided."""

from __future__ import annotations

import json

import pytest

from oko.errors import FlowError, PortError, UnknownProgram
from oko.flow.drop import Drop
from oko.flow.group_text import parse_group
from oko.flow.meter_text import parse_meter
from oko.flow.observer_text import parse_observer
from oko.flow.text import parse_rule
from oko.replay.capture import Packet
from oko.replay.engine import LONGEST, ReferenceEngine, usual
from oko.replay.replay import INTERFACES, Report, make_tables, ports_of, replay
from tests.oko.compiler.objects import filter_program, runtime
from tests.oko.compiler.strategies import written

FRAME = bytes.fromhex("020000000001 020000000002 0806") + bytes(46)


def run(
    packets: list[Packet], *rules: str, in_port: int | None = None, programs: dict[int, str] | None = None
) -> Report:
    table = written(*rules)
    loaded = {number: filter_program(name) for number, name in (programs or {}).items()}
    engine = ReferenceEngine(table, loaded, usual(ports_of(table, in_port)), runtime())
    return replay(packets, engine, table, loaded, in_port=in_port)


def packet(data: bytes = FRAME, *, at: int = 0, wire: int | None = None, interface: int = 0) -> Packet:
    return Packet(at, data, len(data) if wire is None else wire, interface)


@pytest.mark.parametrize(
    ("sent", "ports", "drops", "snapped", "oversize"),
    [
        pytest.param(packet(), {9: (1, 60)}, {}, 0, 0, id="everyday"),
        pytest.param(packet(FRAME[:13]), {}, {Drop.RUNT: 1}, 0, 0, id="runt"),
        pytest.param(packet(b""), {}, {Drop.RUNT: 1}, 0, 0, id="nothing"),
        pytest.param(packet(FRAME[:14]), {9: (1, 14)}, {}, 0, 0, id="shortest"),
        pytest.param(packet(wire=1000), {9: (1, 1000)}, {}, 1, 0, id="snapped"),
        pytest.param(packet(FRAME[:13], wire=60), {9: (1, 60)}, {}, 1, 0, id="snapped to less than a runt"),
        pytest.param(packet(bytes(LONGEST)), {9: (1, LONGEST)}, {}, 0, 0, id="longest"),
        pytest.param(packet(bytes(LONGEST + 1)), {}, {}, 0, 1, id="oversize"),
        pytest.param(packet(wire=LONGEST + 1), {}, {}, 1, 1, id="oversize and snapped"),
        pytest.param(packet(bytes(9000), wire=65000), {}, {}, 1, 1, id="oversize, and snapped beyond that"),
    ],
)
def test_lengths(
    sent: Packet, ports: dict[int, tuple[int, int]], drops: dict[Drop, int], snapped: int, oversize: int
) -> None:
    report = run([sent], "actions=output:9")
    assert (report.packets, report.ports, report.drops) == (1, ports, drops)
    assert (report.snapped, report.oversize) == (snapped, oversize)


@pytest.mark.parametrize(
    ("interface", "in_port", "expected"),
    [(0, None, 1), (INTERFACES - 1, None, INTERFACES), (0, 7, 7), (1000, 7, 7)],
)
def test_the_port_that_packets_come_in_by(interface: int, in_port: int | None, expected: int) -> None:
    rules = [f"in_port={expected},actions=output:200", "priority=1,actions=drop"]
    assert run([packet(interface=interface)], *rules, in_port=in_port).ports == {200: (1, 60)}


def test_an_interface_too_many() -> None:
    with pytest.raises(PortError, match="interface 64"):
        run([packet(interface=INTERFACES)], "actions=drop")


def test_the_clock_never_goes_back() -> None:
    """The program matches when 100 ns have passed since the last match."""
    times = [1000, 900, 1099, 1000, 1100, 1150]
    report = run([packet(at=at) for at in times], "filter_prog=1,actions=output:2", programs={1: "spaced"})
    assert report.programs == {1: ("spaced", 6, 2)}
    assert report.ports == {2: (2, 120)}


def test_outputs_are_the_packets_as_captured() -> None:
    table = written("in_port=1,actions=output:2", "in_port=2,actions=output:2", "actions=drop")
    engine = ReferenceEngine(table, {}, usual(ports_of(table, None)), runtime())
    packets = [packet(interface=0, wire=90), packet(interface=1), packet(interface=2)]
    sent: list[tuple[int, Packet]] = []
    report = replay(packets, engine, table, {}, output=lambda port, found: sent.append((port, found)))
    assert sent == [(2, packets[0])]
    assert report.drops == {Drop.TO_INGRESS: 1}
    assert [(packets, size) for _, packets, size in report.rules] == [(1, 90), (1, 60), (1, 60)]


def test_as_json() -> None:
    report = run([packet(), packet(interface=1)], "in_port=2,filter_prog=3,actions=output:1", programs={3: "odd_port"})
    assert json.loads(json.dumps(report.to_json())) == {
        "engine": "reference",
        "packets": 2,
        "snapped": 0,
        "oversize": 0,
        "told": 0,
        "rules": [{"rule": "in_port=2,filter_prog=3 actions=output:1", "packets": 0, "bytes": 0}],
        "programs": [{"id": 3, "name": "odd_port", "runs": 1, "matches": 0}],
        "ports": [],
        "drops": {"miss": 2},
    }


def test_a_rule_whose_program_is_not_there() -> None:
    with pytest.raises(UnknownProgram, match="program 2: give it with --program"):
        make_tables([parse_rule("filter_prog=2,actions=drop")], {1})


def test_a_group_that_is_not_there() -> None:
    with pytest.raises(FlowError):
        make_tables([parse_rule("actions=group:3")], ())


def test_an_observer_whose_program_is_not_there() -> None:
    with pytest.raises(UnknownProgram, match="the observer 'table=0,arp,filter_prog=2' names program 2"):
        make_tables([], {1}, observers=[parse_observer("arp,filter_prog=2")])


def test_groups_and_meters() -> None:
    """Two of three packets pass the meter, in the second table, and leave with a tag by the two ports of the group."""
    rules = ["actions=push_vlan:0x8100,set_field:4099->vlan_vid,goto_table:1", "table=1,actions=meter:7,group:3"]
    group = parse_group("group_id=3,type=all,bucket=output:2,bucket=output:5")
    meter = parse_meter("meter=7,pktps,bands=type=drop,rate=2")
    table = make_tables(map(parse_rule, rules), (), [group], [meter])
    engine = ReferenceEngine(table, {}, usual(ports_of(table, 1)), runtime())
    sent: list[tuple[int, Packet]] = []
    report = replay([packet(wire=90)] * 3, engine, table, {}, in_port=1, output=lambda *found: sent.append(found))
    tagged = FRAME[:12] + bytes.fromhex("81000003") + FRAME[12:]
    assert sent == [(2, packet(tagged, wire=94)), (5, packet(tagged, wire=94))] * 2
    assert (report.ports, report.drops) == ({2: (2, 188), 5: (2, 188)}, {Drop.METER: 1})
    assert [packets for _, packets, _ in report.rules] == [3, 3]


@pytest.mark.parametrize(
    ("in_port", "ports"), [(None, [*range(1, 65), 70, 80]), (7, [7, 70, 80])], ids=["by interface", "one"]
)
def test_ports(in_port: int | None, ports: list[int]) -> None:
    table = written("in_port=1,actions=output:80", "in_port=2,actions=output:70", "in_port=9,actions=drop")
    assert ports_of(table, in_port) == ports
