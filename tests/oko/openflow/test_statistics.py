from __future__ import annotations

import subprocess
from typing import Any

import pytest

from ofext.buckets import Bucket
from ofext.constants import GROUP_ANY, PORT_ANY, PortState
from ofext.instructions import Output
from ofext.messages import FlowMod
from ofext.multipart import (
    Aggregate,
    AggregateRequest,
    BucketCounter,
    Desc,
    DescRequest,
    FlowStatsReply,
    FlowStatsRequest,
    GroupDesc,
    GroupDescReply,
    GroupDescRequest,
    GroupFeatures,
    GroupFeaturesRequest,
    GroupStatsReply,
    GroupStatsRequest,
    MeterBandStats,
    MeterConfigReply,
    MeterConfigRequest,
    MeterFeatures,
    MeterFeaturesRequest,
    MeterStatsReply,
    MeterStatsRequest,
    MultipartRequest,
    PortDescReply,
    PortDescRequest,
    PortStatsReply,
    PortStatsRequest,
    QueueStatsReply,
    QueueStatsRequest,
    TableFeaturesReply,
    TableFeaturesRequest,
    TableStatsReply,
    TableStatsRequest,
    join,
)
from oko.flow.tables import Tables
from oko.flow.text import parse_flow_mod
from oko.openflow.statistics import Statistics
from oko.wire.table_features import table_features
from tests.oko.conftest import Rig
from tests.oko.kernel.waiting import wait_until
from tests.oko.openflow.peer import Peer, add, add_group, add_meter, delete

pytestmark = pytest.mark.needs_bpf

HOST = "02:00:00:00:00:02"
NEVER = (1 << 64) - 1


@pytest.fixture
def peer(rig: Rig) -> Peer:
    return Peer(rig)


def selected(peer: Peer, **fields: Any) -> list[int]:
    """The cookies of the rules that a request selects."""
    body = peer.report(FlowStatsRequest(**fields))
    assert isinstance(body, FlowStatsReply)
    return [flow.cookie for flow in body.entries]


def tables(peer: Peer) -> dict[int, tuple[int, int, int]]:
    """By number the rules, the packets looked up and those that a rule won, of tables that have any."""
    body = peer.report(TableStatsRequest())
    assert isinstance(body, TableStatsReply)
    assert len(body.entries) == 254
    counts = {table.table_id: (table.active_count, table.lookup_count, table.matched_count) for table in body.entries}
    return {number: count for number, count in counts.items() if any(count)}


def test_the_switch(peer: Peer) -> None:
    body = peer.report(DescRequest())
    assert isinstance(body, Desc)
    assert (body.mfr_desc, body.dp_desc) == ("Oko", "br0")


def test_ports(rig: Rig, peer: Peer) -> None:
    rig.attach()
    rig.inside(lambda: subprocess.run(["ip", "link", "del", "p2"], check=True))
    body = peer.report(PortDescRequest())
    assert isinstance(body, PortDescReply)
    first, second = rig.bridge.ports
    assert [(port.port_no, port.name, port.hw_addr, port.state) for port in body.entries] == [
        (1, "p1", first.mac, PortState.LIVE),
        (2, "p2", second.mac, PortState.LINK_DOWN | PortState.BLOCKED),
    ]


def test_a_port_whose_link_is_down_is_not_blocked(rig: Rig, peer: Peer) -> None:
    rig.attach()
    rig.inside(lambda: subprocess.run(["ip", "link", "set", "h2", "down"], check=True))
    rig.inside(rig.bridge.refresh_ports)
    assert isinstance(body := peer.report(PortDescRequest()), PortDescReply)
    assert [port.state for port in body.entries] == [PortState.LIVE, PortState.LINK_DOWN]


def test_ports_count(rig: Rig, peer: Peer) -> None:
    rig.attach()
    rig.send("h1", HOST, 3)
    rig.inside(lambda: subprocess.run(["ip", "link", "del", "p2"], check=True))
    body = peer.report(PortStatsRequest())
    assert isinstance(body, PortStatsReply)
    first, second = body.entries
    assert (first.port_no, first.rx_packets, first.collisions) == (1, 3, 0)
    assert (second.port_no, second.rx_packets, second.collisions) == (2, NEVER, NEVER)
    assert peer.report(PortStatsRequest(2)) == PortStatsReply((second,))


def test_there_are_no_queues(peer: Peer) -> None:
    assert peer.report(QueueStatsRequest()) == peer.report(QueueStatsRequest(1)) == QueueStatsReply()


def test_flows_are_selected(peer: Peer) -> None:
    flows = (
        "cookie=1,arp,in_port=1,actions=output:2",
        "cookie=2,ip,in_port=2,actions=output:1",
        "cookie=3,table=5,priority=7,in_port=2,actions=group:1",
    )
    assert peer.ask(add_group("group_id=1,type=all"), *map(add, flows)) == []
    assert selected(peer) == [1, 2, 3]
    assert selected(peer, table_id=0) == [1, 2]
    assert selected(peer, out_port=1) == [2]
    assert selected(peer, out_group=1) == [3]
    assert selected(peer, cookie=1, cookie_mask=1) == [1, 3]
    wanted = delete("in_port=2")
    assert isinstance(wanted, FlowMod)
    assert peer.report(AggregateRequest(match=wanted.match)) == Aggregate(0, 0, 2)


def test_a_flow_as_it_was_added(peer: Peer) -> None:
    rule = (
        "table=4,cookie=0x5,priority=6,idle_timeout=70,hard_timeout=80,send_flow_rem,tcp,actions=dec_ttl,goto_table:7"
    )
    message = add(rule)
    assert isinstance(message, FlowMod)
    assert peer.ask(message) == []
    (flow,) = peer.flows()
    assert (flow.table_id, flow.cookie, flow.priority, flow.flags) == (4, 5, 6, 1)
    assert (flow.idle_timeout, flow.hard_timeout, flow.duration_sec) == (70, 80, 0)
    assert (flow.match, flow.instructions) == (message.match, message.instructions)


def test_tables_count(rig: Rig, peer: Peer) -> None:
    rig.attach()
    assert peer.ask(add("in_port=1,actions=goto_table:3"), add(f"table=3,dl_dst={HOST},actions=output:2")) == []
    rig.send("h1", HOST, 3)
    rig.send("h1", "02:00:00:00:00:09", 2)
    rig.send("h2", HOST, 4)
    assert tables(peer) == {0: (1, 9, 5), 3: (1, 5, 3)}


def test_what_tables_have_counted_stays_when_rules_go(rig: Rig, peer: Peer) -> None:
    rig.attach()
    assert peer.ask(add("in_port=1,actions=goto_table:3"), add("table=3,actions=goto_table:4")) == []
    assert peer.ask(add("table=4,actions=output:2")) == []
    rig.send("h1", HOST, 3)
    assert tables(peer) == {0: (1, 3, 3), 3: (1, 3, 3), 4: (1, 3, 3)}
    # A replaced rule keeps its counters, and now sends elsewhere.
    assert peer.ask(add("in_port=1,actions=goto_table:4")) == []
    assert tables(peer) == {0: (1, 3, 3), 3: (1, 3, 3), 4: (1, 3, 3)}
    rig.send("h1", HOST, 2)
    assert tables(peer) == {0: (1, 5, 5), 3: (1, 3, 3), 4: (1, 5, 5)}
    assert rig.change(parse_flow_mod("reset_counts,in_port=1,actions=goto_table:3")) == []
    assert tables(peer) == {0: (1, 5, 5), 3: (1, 3, 3), 4: (1, 5, 5)}
    assert peer.ask(delete("")) == []
    assert tables(peer) == {0: (0, 5, 5), 3: (0, 3, 3), 4: (0, 5, 5)}
    # Others get the slots of those that went, and count from zero.
    assert peer.ask(add("in_port=1,actions=goto_table:3"), add("table=3,actions=output:2")) == []
    rig.send("h1", HOST, 1)
    assert tables(peer) == {0: (1, 6, 6), 3: (1, 4, 4), 4: (0, 5, 5)}


def test_table_features(peer: Peer) -> None:
    assert peer.report(TableFeaturesRequest()) == TableFeaturesReply(table_features(2_000_000))


def test_groups(rig: Rig, peer: Peer) -> None:
    rig.attach()
    groups = (
        "group_id=1,type=select,bucket=weight:0,actions=output:1,bucket=weight:5,actions=output:2",
        "group_id=2,type=indirect,bucket=actions=group:1",
    )
    assert peer.ask(*map(add_group, groups), add("in_port=1,actions=group:1"), add("in_port=2,actions=group:1")) == []
    rig.send("h1", HOST, 3)
    body = peer.report(GroupStatsRequest())
    assert isinstance(body, GroupStatsReply)
    first, second = body.entries
    assert (first.group_id, first.ref_count, first.packet_count, first.byte_count) == (1, 3, 3, 180)
    assert first.bucket_stats == (BucketCounter(0, 0), BucketCounter(3, 180))
    assert (second.group_id, second.ref_count, second.packet_count) == (2, 0, 0)
    alone = peer.report(GroupStatsRequest(2))
    assert isinstance(alone, GroupStatsReply)
    assert [entry.group_id for entry in alone.entries] == [2]
    assert peer.report(GroupStatsRequest(3)) == GroupStatsReply()
    described = peer.report(GroupDescRequest())
    assert isinstance(described, GroupDescReply)
    assert described.entries[0] == GroupDesc(
        1,
        1,
        (Bucket(0, PORT_ANY, GROUP_ANY, (Output(1),)), Bucket(5, PORT_ANY, GROUP_ANY, (Output(2),))),
    )
    features = peer.report(GroupFeaturesRequest())
    assert isinstance(features, GroupFeatures)
    assert (features.types, features.capabilities, features.actions) == (15, 15, (0x3DF9801,) * 4)


def test_meters(rig: Rig, peer: Peer) -> None:
    rig.attach()
    meters = "meter=1,pktps,burst,bands=type=drop,rate=0,burst_size=2", "meter=2,kbps,bands=type=drop,rate=5"
    messages = [add_meter(meter) for meter in meters]
    assert peer.ask(*messages, add("in_port=1,actions=meter:1,output:2")) == []
    rig.send("h1", HOST, 5)
    wait_until(lambda: rig.bridge.meter_counts(rig.bridge.tables.meters[1]).packets == 5)
    body = peer.report(MeterStatsRequest())
    assert isinstance(body, MeterStatsReply)
    first, second = body.entries
    assert (first.meter_id, first.flow_count, first.packet_in_count, first.byte_in_count) == (1, 1, 5, 300)
    assert first.band_stats == (MeterBandStats(3, 180),)
    assert (second.meter_id, second.flow_count, second.band_stats) == (2, 0, (MeterBandStats(0, 0),))
    configured = peer.report(MeterConfigRequest())
    assert isinstance(configured, MeterConfigReply)
    assert [(c.flags, c.meter_id, c.bands) for c in configured.entries] == [
        (m.flags, m.meter_id, m.bands)
        for m in messages  # type: ignore[union-attr]
    ]
    assert peer.report(MeterConfigRequest(2)) == MeterConfigReply((configured.entries[1],))
    assert peer.report(MeterFeaturesRequest()) == MeterFeatures(1024, 1 << 1, 15, 4, 0)
    for request in (MeterStatsRequest(3), MeterConfigRequest(3)):
        assert peer.refusals(MultipartRequest(request)) == ["meter-mod-failed/unknown-meter"]


def test_what_is_not_there_is_not_looked_for(rig: Rig, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request for an absent group or meter does not walk over the rules."""
    monkeypatch.setattr(Tables, "__iter__", None)
    assert peer.report(GroupStatsRequest(3)) == GroupStatsReply()
    assert peer.refusals(MultipartRequest(MeterStatsRequest(3))) == ["meter-mod-failed/unknown-meter"]


def test_flows_are_written_part_by_part(rig: Rig, peer: Peer) -> None:
    """And they are those that there were in the beginning."""
    assert rig.add(*(f"priority={number},actions=drop" for number in range(1, 1501))) == []
    parts = Statistics(rig.bridge).answer(FlowStatsRequest())
    first = next(parts)
    assert rig.delete("") == []
    body = join([first, *parts])
    assert isinstance(body, FlowStatsReply)
    assert [flow.priority for flow in body.entries] == [*range(1500, 0, -1)]
