"""From actions to steps: what one frame can do, and what is refused."""

from __future__ import annotations

import pytest

from oko.compiler.lowering import Lowering, Pending, Way
from oko.compiler.step import Call, Clear, Count, Kind, Parse, Select, Send, Step, Tell, Write, walk
from oko.errors import BadAction
from oko.flow.group import GroupCommand, GroupMod
from oko.flow.group_text import parse_group
from oko.flow.meter import MeterCommand, MeterMod
from oko.flow.meter_text import parse_meter
from oko.flow.packet_in import PacketInReason
from oko.flow.port import PortState
from oko.flow.tables import Tables
from oko.flow.text import parse_rule

PORTS = {1: PortState(), 2: PortState(), 3: PortState(flood=False), 4: PortState(live=False)}
GROUPS = (
    "group_id=1,type=indirect,bucket=actions=output:2",
    "group_id=2,type=indirect,bucket=actions=set_field:02:00:00:00:00:09->eth_dst,output:2",
    "group_id=3,type=all,bucket=actions=output:1,bucket=actions=output:2",
    "group_id=4,type=all,bucket=actions=set_field:02:00:00:00:00:09->eth_dst,output:1,bucket=actions=output:2",
    "group_id=5,type=all,bucket=actions=push_vlan:0x8100,output:1,bucket=actions=push_vlan:0x8100,output:2",
    "group_id=6,type=select,bucket=weight:1,actions=output:1,bucket=weight:3,actions=output:2",
    "group_id=7,type=fast_failover,bucket=watch_port:4,actions=output:1,bucket=watch_port:2,actions=output:2",
    "group_id=8,type=indirect,bucket=actions=set_field:02:00:00:00:00:09->eth_dst",
    "group_id=9,type=select,bucket=weight:1,actions=group:2,bucket=weight:1,actions=output:3",
    "group_id=10,type=all,bucket=actions=dec_ttl,output:1,bucket=actions=dec_ttl,output:2",
    "group_id=11,type=select,bucket=weight:0,actions=output:1,bucket=weight:2,actions=output:2",
    "group_id=12,type=fast_failover,bucket=watch_port:1,actions=output:1,bucket=watch_port:4,actions=push_vlan:0x8100,output:2",
    "group_id=13,type=all,bucket=actions=group:6,bucket=actions=output:3",
)


@pytest.fixture(scope="module")
def lowering() -> Lowering:
    tables = Tables()
    for group in GROUPS:
        tables.apply_group(GroupMod(GroupCommand.ADD, parse_group(group)))
    tables.apply_meter(MeterMod(MeterCommand.ADD, parse_meter("meter=1,pktps,bands=type=drop,rate=10")))
    return Lowering(PORTS, tables.groups, tables.meters)


def steps_of(lowering: Lowering, rule: str, pending: Pending | None = None) -> tuple[Step, ...]:
    return lowering.procedure(parse_rule(rule), pending or Pending()).steps


def sent(lowering: Lowering, steps: tuple[Step, ...]) -> list[tuple[set[int], bool]]:
    """The port sets of the sends, in port numbers."""
    numbers = sorted(PORTS)
    found = [lowering.sets.get(step.number) for step in walk(steps) if isinstance(step, Send)]
    return [({numbers[index] for index in each.ports}, each.ingress) for each in found]


@pytest.mark.parametrize(
    ("actions", "wanted"),
    [
        pytest.param("output:2", [({2}, False)], id="a port"),
        pytest.param("output:2,output:1", [({2}, False), ({1}, False)], id="two ports"),
        pytest.param("in_port", [(set(), True)], id="back"),
        pytest.param("flood", [({1, 2, 4}, False)], id="flood"),
        pytest.param("all", [({1, 2, 3, 4}, False)], id="all"),
        pytest.param("group:1", [({2}, False)], id="indirect"),
        pytest.param("group:3", [({1}, False), ({2}, False)], id="a group of all"),
        pytest.param("group:7", [({2}, False)], id="the first live bucket"),
        pytest.param("group:11", [({2}, False)], id="a bucket without weight is never chosen"),
        pytest.param("group:5", [({1}, False), ({2}, False)], id="buckets that change the packet alike"),
    ],
)
def test_where_packets_go(lowering: Lowering, actions: str, wanted: list[tuple[set[int], bool]]) -> None:
    assert sent(lowering, steps_of(lowering, f"actions={actions}")) == wanted


def test_a_select_group_is_a_choice_by_weight(lowering: Lowering) -> None:
    count, select = steps_of(lowering, "actions=group:6")
    assert isinstance(count, Count)
    assert isinstance(select, Select)
    assert select.weights == (1, 3)
    assert [sent(lowering, alternative) for alternative in select.alternatives] == [[({1}, False)], [({2}, False)]]


def test_a_choice_behind_a_change_parses_again(lowering: Lowering) -> None:
    steps = steps_of(lowering, "actions=set_field:02:00:00:00:00:09->eth_dst,group:6")
    assert [type(step) for step in steps] == [Call, Count, Parse, Select]


def test_to_parse_again_is_no_change(lowering: Lowering) -> None:
    """A choice below a group of all, in an action set, where the headers may be stale."""
    assert sent(lowering, lowering.group(13))


def test_a_group_of_all_counts_its_buckets_before_they_change_the_packet(lowering: Lowering) -> None:
    steps = steps_of(lowering, "actions=group:5")
    assert [type(step) for step in steps] == [Count, Count, Count, Call, Send, Send]


def test_changes_that_nobody_sees_are_not_made(lowering: Lowering) -> None:
    assert not any(isinstance(step, Call) for step in walk(steps_of(lowering, "actions=group:8")))


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        pytest.param("actions=controller", PacketInReason.ACTION, id="a rule"),
        pytest.param("priority=0,actions=controller", PacketInReason.NO_MATCH, id="the table-miss entry"),
        pytest.param("priority=0,in_port=1,actions=controller", PacketInReason.ACTION, id="another of priority 0"),
    ],
)
def test_why_the_controller_is_told(lowering: Lowering, rule: str, reason: PacketInReason) -> None:
    assert steps_of(lowering, rule) == (Tell(reason),)


def test_an_action_set_that_only_this_rule_fills_is_executed_at_once(lowering: Lowering) -> None:
    rule = "ip,actions=write_actions(output:2,dec_ttl)"
    procedure = lowering.procedure(parse_rule(rule), Pending())
    assert not procedure.finish
    assert [type(step) for step in procedure.steps] == [Call, Send], "in the order of an action set"


def test_an_action_set_that_an_earlier_table_filled_is_executed_at_the_end(lowering: Lowering) -> None:
    pending = Pending(written=True)
    procedure = lowering.procedure(parse_rule("actions=write_actions(output:2)"), pending)
    assert procedure.finish
    assert [step.kind for step in procedure.steps if isinstance(step, Write)] == [Kind.OUTPUT]
    cleared = lowering.procedure(parse_rule("actions=clear_actions,write_actions(output:2)"), pending)
    assert not cleared.finish
    assert [type(step) for step in cleared.steps] == [Clear, Send]


def test_what_is_pending_behind_a_rule(lowering: Lowering) -> None:
    rule = parse_rule("ip,actions=output:1,write_actions(dec_ttl,output:2),goto_table:1")
    procedure = lowering.procedure(rule, Pending())
    behind = lowering.behind(rule, procedure, Pending())
    assert behind == Pending(frozenset({Way(outputs=1, output=2)}), written=True, rewriting=True)
    assert procedure.goto == 1
    assert not procedure.parse_again, "nothing has changed yet"


SENT = Pending(frozenset({Way(outputs=1)}))


@pytest.mark.parametrize(
    ("rule", "pending", "message"),
    [
        pytest.param("ip,actions=output:1,dec_ttl,output:2", None, "dec_ttl comes after", id="change, sent before"),
        pytest.param("ip,actions=dec_ttl,output:2", SENT, "dec_ttl comes after", id="change, sent in an earlier table"),
        pytest.param("actions=output:1,group:2", None, "set_field comes after", id="a group changes what was sent"),
        pytest.param("actions=group:2,output:1", None, "group 2 changes the packet", id="sent behind a group"),
        pytest.param("actions=group:2,controller", None, "group 2 changes the packet", id="told behind a group"),
        pytest.param("actions=group:2,goto_table:1", None, "group 2 changes the packet", id="on behind a group"),
        pytest.param("actions=group:9,output:1", None, "group 9 changes the packet", id="a group in a group"),
        pytest.param("actions=group:4", None, "different bytes", id="buckets that differ"),
        pytest.param("ip,actions=group:10", None, "different bytes", id="a TTL that may end one of two buckets"),
        pytest.param(
            "ip,actions=output:1,write_actions(dec_ttl,output:2)", None, "dec_ttl comes after", id="a set behind a send"
        ),
        pytest.param(
            "actions=output:1,write_actions(output:2)",
            Pending(written=True, rewriting=True),
            "executed after the packet was sent",
            id="a set of an earlier table behind a send",
        ),
        pytest.param("actions=output:9", None, "no port 9", id="a port that is not there"),
        pytest.param("actions=group:12,output:3", None, "group 12 changes", id="a bucket that is dead now"),
        pytest.param("actions=output:3,group:12", None, "push_vlan comes after", id="a dead bucket behind a send"),
    ],
)
def test_what_is_refused(lowering: Lowering, rule: str, pending: Pending | None, message: str) -> None:
    with pytest.raises(BadAction, match=message):
        steps_of(lowering, rule, pending)


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param("actions=output:1,output:1", id="one list"),
        pytest.param("actions=flood,output:1", id="flood and one of its ports"),
        pytest.param("actions=in_port,in_port", id="back, twice"),
        pytest.param("actions=output:2,group:3", id="a group"),
        pytest.param("actions=output:1,group:7", id="a bucket that is dead now"),
    ],
)
def test_nothing_is_sent_twice_to_one_port(lowering: Lowering, rule: str) -> None:
    parsed = parse_rule(rule)
    with pytest.raises(BadAction, match="twice by one port"):
        lowering.behind(parsed, lowering.procedure(parsed, Pending()), Pending())
