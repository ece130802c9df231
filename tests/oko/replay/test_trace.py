"""The story of one packet, line by line."""

from __future__ import annotations

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import ARP, Ether

from oko.flow.action import Continue, Pass
from oko.flow.attachment import Attachment
from oko.flow.group_text import parse_group
from oko.flow.headers import parse
from oko.flow.meter_text import parse_meter
from oko.flow.observer_text import parse_observer
from oko.flow.rule import Command, FlowMod
from oko.flow.shim import SIZE
from oko.flow.shim import frame as behind_shim
from oko.flow.tables import Tables
from oko.flow.text import parse_rule
from oko.flow.trace import Event
from oko.replay.engine import Decided, ReferenceEngine, usual
from oko.replay.replay import make_tables
from oko.replay.trace import explain, headers_of, outcome
from tests.oko.compiler.objects import filter_program, runtime
from tests.oko.flow.written import match, rule

LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
WEB = bytes(LINK / IP(src="10.0.0.1", dst="10.0.0.2", ttl=64) / TCP(sport=1024, dport=80))
NAMES = bytes(LINK / IP(src="10.0.0.1", dst="10.0.0.2", ttl=1) / UDP(sport=1024, dport=53))
QUESTION = bytes(LINK / ARP(psrc="10.0.0.1", pdst="10.0.0.2"))
GROUPS = (
    "group_id=1,type=ff,bucket=watch_port:9,output:2,bucket=watch_port:2,set_field:10.0.0.9->ip_dst,output:2",
    "group_id=2,type=all,bucket=output:2,bucket=output:3",
    "group_id=3,type=ff,bucket=watch_port:9,output:2",
)
METERS = (
    "meter=1,pktps,burst,bands=type=drop,rate=1,burst_size=1",
    "meter=2,kbps,burst,bands=type=drop,rate=5,burst_size=1",
)


def told(
    *rules: str,
    frame: bytes = WEB,
    in_port: int = 1,
    observers: tuple[str, ...] = (),
    most: int | None = None,
    times: int = 1,
) -> list[str]:
    """What is told of the last of as many frames."""
    programs = {1: filter_program("odd_port"), 2: filter_program("every_second")}
    tables = make_tables(
        map(parse_rule, rules),
        programs,
        map(parse_group, GROUPS),
        map(parse_meter, METERS),
        map(parse_observer, observers),
    )
    engine = ReferenceEngine(tables, programs, usual([1, 2, 3]), runtime())
    events: list[Event] = []
    for _ in range(times):
        events.clear()
        engine.switch.tell = events.append
        engine.decide(frame, in_port, 0)
    return list(explain(events, tables, {1: "odd_port"}, most))


def test_rules_are_told_in_the_order_of_their_rank() -> None:
    assert told(
        "priority=9,udp,actions=drop",
        "priority=8,ip,nw_dst=10.1.0.0/16,actions=drop",
        "priority=7,in_port=2,actions=drop",
        "priority=7,tcp,tp_dst=80,dl_vlan=3,actions=drop",
        "priority=6,icmp,icmp_type=8,actions=drop",
        "priority=5,tcp,tp_dst=80,actions=output:2",
        "priority=4,actions=drop",
    ) == [
        "table 0",
        "  looks at in_port=1, eth_type=0x0800, vlan_vid=0x0000, ip_proto=6, ipv4_dst=10.0.0.2, tcp_dst=80",
        "  not    priority=9,udp actions=drop: ip_proto=6, not 17",
        "  not    priority=8,ip,nw_dst=10.1.0.0/16 actions=drop: ipv4_dst=10.0.0.2, not 10.1.0.0/16",
        "  not    priority=7,in_port=2 actions=drop: in_port=1, not 2",
        "  not    priority=7,tcp,dl_vlan=3,tp_dst=80 actions=drop: vlan_vid=0x0000, not 0x1003",
        "  not    priority=6,icmp,icmp_type=8 actions=drop: ip_proto=6, not 1",
        "  wins   priority=5,tcp,tp_dst=80 actions=output:2",
        "    applies output:2",
        "      output:2",
        "        leaves by port 2, 54 bytes",
        "  end",
    ]


def test_programs() -> None:
    lines = told(
        "priority=9,udp,filter_prog=1,actions=drop",
        "priority=8,filter_prog=2,actions=drop",
        "priority=7,filter_prog=2,actions=drop",
        "priority=6,filter_prog=1,actions=goto_table:1",
        "table=1,priority=5,filter_prog=1,actions=drop",
        observers=("arp,filter_prog=1", "tcp,filter_prog=2"),
        times=2,
    )
    assert [line.strip() for line in lines if "program" in line or "observer" in line] == [
        "observer table=0,arp,filter_prog=1: eth_type=0x0800, not 0x0806",
        "observer table=0,tcp,filter_prog=2: program 2 runs and says no",
        "not    priority=8,filter_prog=2 actions=drop: program 2 has said no",
        "not    priority=7,filter_prog=2 actions=drop: program 2 has said no",
        "program 1 (odd_port) runs and says yes",
        "program 1 (odd_port) has said yes",
    ]


@pytest.mark.parametrize(
    ("rules", "frame", "lines"),
    [
        pytest.param(
            ["actions=dec_ttl,push_vlan:0x8100,pop_vlan,set_field:10.0.0.2->ip_dst"],
            WEB,
            [
                "dec_ttl: at 22 40 → 3f; at 24 66 → 67",
                "push_vlan:0x8100: vlan_vid 0x0000 → 0x1000; at 12 nothing → 81000000",
                "pop_vlan: vlan_vid 0x1000 → 0x0000; at 12 81000000 → nothing",
                "set_field:10.0.0.2->ip_dst: changes nothing",
            ],
            id="changes",
        ),
        pytest.param(
            ["actions=dec_ttl,output:2"],
            NAMES,
            [
                "dec_ttl: not possible",
                "to the controller: invalid TTL",
                "its TTL cannot be decremented: nothing more happens to it",
            ],
            id="invalid TTL",
        ),
        pytest.param(
            ["priority=0,actions=controller"],
            WEB,
            ["output:CONTROLLER", "to the controller: no match"],
            id="table miss",
        ),
        pytest.param(
            ["actions=group:1"],
            WEB,
            [
                "group 1 (fast-failover): live buckets 1, takes 1",
                "bucket 1: set_field:10.0.0.9->ip_dst,output:2",
                "set_field:10.0.0.9->ip_dst: ipv4_dst 10.0.0.2 → 10.0.0.9; at 25 cd → c6; at 33 02 → 09; at 51 90 → 89",
                "output:2",
                "leaves by port 2, 54 bytes",
            ],
            id="fast failover",
        ),
        pytest.param(
            ["actions=group:2"],
            WEB,
            [
                "group 2 (all): live buckets 0, 1, takes 0, 1",
                "bucket 0: output:2",
                "output:2",
                "leaves by port 2, 54 bytes",
                "bucket 1: output:3",
                "output:3",
                "leaves by port 3, 54 bytes",
            ],
            id="all",
        ),
        pytest.param(["actions=group:3"], WEB, ["group 3 (fast-failover): live buckets none, takes none"], id="nobody"),
        pytest.param(["actions=output:1"], WEB, ["output:1", "not sent: it came in by this port"], id="back"),
        pytest.param(
            ["actions=flood"],
            WEB,
            [
                "output:FLOOD",
                "not sent: it came in by this port",
                "leaves by port 2, 54 bytes",
                "leaves by port 3, 54 bytes",
            ],
            id="flood",
        ),
    ],
)
def test_actions(rules: list[str], frame: bytes, lines: list[str]) -> None:
    """What stands between the instruction and the end."""
    story = told(*(f"ip,{rule}" if not rule.startswith("priority") else rule for rule in rules), frame=frame)
    start = next(index for index, line in enumerate(story) if "applies" in line) + 1
    stop = next((index for index, line in enumerate(story) if line == "  end"), len(story))
    assert [line.strip() for line in story[start:stop]] == lines


def test_instructions_and_tables() -> None:
    story = told(
        "actions=meter:1,write_actions(output:2),write_metadata:0x5/0xf,goto_table:3",
        "table=3,metadata=0x5/0xf,actions=write_actions(output:3),goto_table:4",
        "table=4,actions=clear_actions,write_actions(group:2)",
    )
    assert [line for line in story if "looks" not in line and "wins" not in line] == [
        "table 0",
        "    meter:1",
        "      meter 1 lets it pass",
        "    writes output:2 into the action set",
        "    writes 0x5/0xf into the metadata",
        "    goes to table 3",
        "table 3",
        "    writes output:3 into the action set",
        "    goes to table 4",
        "table 4",
        "    clears the action set",
        "    writes group:2 into the action set",
        "  end: the action set is group:2",
        "    group 2 (all): live buckets 0, 1, takes 0, 1",
        "      bucket 0: output:2",
        "        output:2",
        "          leaves by port 2, 54 bytes",
        "      bucket 1: output:3",
        "        output:3",
        "          leaves by port 3, 54 bytes",
    ]
    assert "  looks at metadata=0x5" in story


@pytest.mark.parametrize(("meter", "unit"), [(1, "1 packets/s"), (2, "5 kbit/s")], ids=["packets", "kilobits"])
def test_a_meter_that_is_exceeded(meter: int, unit: str) -> None:
    story = told(f"actions=meter:{meter},output:2", times=3)
    assert story[-2:] == [f"      meter {meter}: more than {unit}", "    dropped"]


def test_a_miss() -> None:
    assert told("arp,actions=drop")[-2:] == [
        "  not    arp actions=drop: eth_type=0x0800, not 0x0806",
        "  no rule matches: dropped, and the action set is not executed",
    ]


def test_an_empty_table() -> None:
    assert told() == [
        "table 0",
        "  looks at no header that the packet has",
        "  no rule matches: dropped, and the action set is not executed",
    ]


def test_a_runt() -> None:
    assert told(frame=WEB[:13]) == ["shorter than an Ethernet header: dropped"]


@pytest.mark.parametrize(("most", "left"), [(None, 5), (5, 5), (3, 3), (0, 0)])
def test_many_rules_that_do_not_match(most: int | None, left: int) -> None:
    story = told(
        *(f"priority={9 - number},in_port=3,actions=drop" for number in range(5)), "priority=1,actions=drop", most=most
    )
    assert sum(line.endswith("in_port=1, not 3") for line in story) == left
    assert (f"  not    {5 - left} more rules" in story) == (left < 5)


def test_what_an_attached_switch_leaves_to_open_vswitch() -> None:
    tables = Tables()
    tables.apply(FlowMod(Command.ADD, rule("priority=2,arp", Pass())))
    tables.apply(FlowMod(Command.ADD, rule("priority=1,udp", Continue(7))))
    attachment = Attachment(reserved=(match("in_port=3"),))
    engine = ReferenceEngine(tables, {}, usual([1, 2, 3]), runtime(), attachment)
    stories = []
    for frame, in_port in ((QUESTION, 1), (NAMES, 1), (WEB, 1), (WEB, 3), (behind_shim(7, WEB), 1)):
        events: list[Event] = []
        engine.switch.tell = events.append
        engine.decide(frame, in_port, 0)
        stories.append(list(explain(events, tables, {}, None))[-3:])
    assert stories == [
        ["    passes the packet as it came", f"      left to Open vSwitch, {len(QUESTION)} bytes", "  end"],
        [
            "    lets Open vSwitch continue with the packet",
            f"      left to Open vSwitch, {len(NAMES) + SIZE} bytes",
            "  end",
        ],
        [
            "  not    priority=2,arp actions=pass: eth_type=0x0800, not 0x0806",
            "  not    priority=1,udp actions=continue:7: ip_proto=6, not 17",
            f"  left to Open vSwitch, {len(WEB)} bytes",
        ],
        [f"left to Open vSwitch, {len(WEB)} bytes"],
        ["comes with a shim: dropped"],
    ]


def test_headers() -> None:
    headers = parse(QUESTION, 3)
    assert headers is not None
    assert headers_of(headers) == (
        "in_port=3, eth_dst=02:00:00:00:00:02, eth_src=02:00:00:00:00:01, eth_type=0x0806, arp_op=1, arp_spa=10.0.0.1, "
        f"arp_tpa=10.0.0.2, arp_sha={QUESTION[22:28].hex(':')}"
    )


def test_outcome() -> None:
    assert list(outcome(Decided(0, ((2, b"\1"), (3, b"\2\3"))))) == [
        "sent to port 2: 1 bytes: 01",
        "sent to port 3: 2 bytes: 0203",
    ]
    assert list(outcome(Decided(0))) == ["sent nowhere"]
    assert list(outcome(Decided(0, left=b"\1\2"))) == ["left to Open vSwitch: 2 bytes: 0102"]
