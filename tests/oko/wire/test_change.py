from __future__ import annotations

import re
import subprocess
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofext import instructions as wire
from ofext import messages
from ofext.bands import DropBand, DscpRemarkBand
from ofext.buckets import Bucket as WireBucket
from ofext.constants import GROUP_ALL, METER_ALL, MeterFlag
from ofext.messages import Message, decode, encode
from ofext.multipart import FlowStats, FlowStatsReply, GroupDesc, GroupDescReply, split
from ofext.oxm import Oxm
from oko.errors import FlowError, ProtocolError
from oko.flow.action import ApplyActions, GotoTable, Meter, Output, SetField, WriteMetadata
from oko.flow.change import Change
from oko.flow.fields import BY_NAME, FIELDS
from oko.flow.group import Bucket, GroupCommand, GroupMod, GroupSpec, GroupType
from oko.flow.group_text import parse_group
from oko.flow.match import Match
from oko.flow.meter import Band, MeterCommand, MeterMod, MeterSpec
from oko.flow.meter_text import parse_meter
from oko.flow.observer import Observer, ObserverMod
from oko.flow.rule import Command, FlowMod, Rule
from oko.flow.text import parse_rule
from oko.flow.validity import ACTION_LIMIT, BUCKET_LIMIT
from oko.wire.action import write_instructions
from oko.wire.change import (
    ChangeMessage,
    meter_flags,
    read_change,
    read_flow_mod,
    read_meter_mod,
    write_buckets,
    write_flow_mod,
    write_group_mod,
    write_meter_mod,
    write_observer_mod,
)
from tests.ofext.oracles import needs_ovs_ofctl
from tests.oko.flow.strategies import groups, matches, meters, rules

DELETES = (Command.DELETE, Command.DELETE_STRICT)
NOWHERE = Output(0)
RULES = rules().filter(lambda rule: NOWHERE not in rule.actions)
GROUPS = groups().filter(lambda spec: all(NOWHERE not in bucket.actions for bucket in spec.buckets))


@st.composite
def flow_mods(draw: st.DrawFn) -> FlowMod:
    """Any flow_mod that a message can say."""
    command, rule = draw(st.sampled_from(Command)), draw(RULES)
    cookie_mask = 0 if command is Command.ADD else draw(st.integers(0, 2**64 - 1))
    if command not in DELETES:
        flags = draw(st.tuples(st.booleans(), st.booleans()))
        return FlowMod(command, rule, cookie_mask, reset_counts=flags[0], check_overlap=flags[1])
    all_tables = draw(st.booleans())
    rule = Rule(rule.match, priority=rule.priority, table=0 if all_tables else rule.table, cookie=rule.cookie)
    anywhere = st.none() | st.integers(0, 0xFFFFFFFE)
    return FlowMod(command, rule, cookie_mask, all_tables, draw(anywhere), draw(anywhere))


@st.composite
def group_mods(draw: st.DrawFn) -> GroupMod:
    command, spec = draw(st.sampled_from(GroupCommand)), draw(GROUPS)
    if command is not GroupCommand.DELETE:
        return GroupMod(command, spec)
    all_groups = draw(st.booleans())
    return GroupMod(command, GroupSpec(0 if all_groups else spec.number, GroupType.ALL), all_groups)


@st.composite
def meter_mods(draw: st.DrawFn) -> MeterMod:
    command, spec = draw(st.sampled_from(MeterCommand)), draw(meters())
    if command is not MeterCommand.DELETE:
        return MeterMod(command, spec)
    all_meters = draw(st.booleans())
    return MeterMod(command, MeterSpec(0 if all_meters else spec.number, ()), all_meters)


OBSERVER_MODS = st.builds(ObserverMod, st.builds(Observer, st.integers(0, 255), matches()), st.booleans())


def written(change: Change) -> Message:
    match change:
        case FlowMod():
            return write_flow_mod(change)
        case GroupMod():
            return write_group_mod(change)
        case MeterMod():
            return write_meter_mod(change)
        case ObserverMod():
            return write_observer_mod(change)


@given(st.one_of(flow_mods(), group_mods(), meter_mods(), OBSERVER_MODS))
def test_changes_over_the_wire(change: Change) -> None:
    message, _ = decode(encode(written(change)))
    assert isinstance(message, ChangeMessage)
    assert read_change(message) == change


def group(kind: int = 0, *buckets: WireBucket, command: int = 0) -> messages.GroupMod:
    return messages.GroupMod(command, kind, 1, buckets)


def meter(flags: int, *bands: DropBand | DscpRemarkBand, command: int = 0) -> messages.MeterMod:
    return messages.MeterMod(command, flags, 1, bands)


@pytest.mark.parametrize(
    ("message", "reason", "complaint"),
    [
        pytest.param(messages.FlowMod(command=9), "bad-command", "command 9", id="flow_mod command"),
        pytest.param(messages.FlowMod(flags=32 | 4), "bad-flags", "flags 0x20 ", id="flow_mod flags"),
        pytest.param(group(command=3), "bad-command", "command 3", id="group_mod command"),
        pytest.param(group(4), "bad-type", "4 is no type", id="group type"),
        pytest.param(group(0, WireBucket(weight=1)), "invalid-group", "select group", id="weight"),
        pytest.param(group(1, WireBucket(actions=(wire.Output(0),))), "bad-out-port", "port 0", id="bucket"),
        pytest.param(meter(1, command=3), "bad-command", "command 3", id="meter_mod command"),
        pytest.param(meter(3), "bad-flags", "0x3", id="meter of two units"),
        pytest.param(meter(16), "bad-flags", "0x10", id="meter flags"),
        pytest.param(meter(1, DscpRemarkBand(1, 0, 1)), "bad-band", "DscpRemarkBand", id="band"),
    ],
)
def test_what_this_switch_does_not_do(message: ChangeMessage, reason: str, complaint: str) -> None:
    with pytest.raises(FlowError, match=complaint) as caught:
        read_change(message)
    assert caught.value.reason == reason


def test_packets_are_in_no_buffer() -> None:
    with pytest.raises(ProtocolError, match="buffer 0x1"):
        read_flow_mod(messages.FlowMod(buffer_id=1))


def test_a_delete_ignores_what_only_others_have() -> None:
    message = messages.FlowMod(command=3, instructions=(wire.GotoTable(1),), buffer_id=1, idle_timeout=5, flags=1)
    assert read_flow_mod(message) == FlowMod(Command.DELETE, Rule(Match()))


def test_not_to_count_is_an_allowance() -> None:
    assert read_flow_mod(messages.FlowMod(flags=8 | 16)) == read_flow_mod(messages.FlowMod())


@pytest.mark.parametrize(("flags", "burst"), [(2, 0), (2 | 4 | 8, 50)], ids=["without BURST", "with BURST"])
def test_bursts_count_when_the_flag_says_so(flags: int, burst: int) -> None:
    assert read_meter_mod(meter(flags, DropBand(9, 50))).spec.bands == (Band(9, burst),)


@pytest.mark.parametrize("flags", [1, 2, 1 | 8, 2 | 4 | 8], ids=["kbps", "pktps", "kbps stats", "pktps burst stats"])
def test_the_flags_of_a_meter_are_told_as_they_came(flags: int) -> None:
    assert meter_flags(read_meter_mod(meter(flags, DropBand(9, 50))).spec) == flags


def test_all_of_them() -> None:
    everything = (messages.GroupMod(2, 0, GROUP_ALL), messages.MeterMod(2, 0, METER_ALL))
    assert [read_change(message) for message in everything] == [
        GroupMod(GroupCommand.DELETE, GroupSpec(0, GroupType.ALL), all_groups=True),
        MeterMod(MeterCommand.DELETE, MeterSpec(0, ()), all_meters=True),
    ]
    assert [written(read_change(message)) for message in everything] == [
        everything[0],
        replace(everything[1], flags=MeterFlag.KBPS),
    ]


# ---- Open vSwitch as a reader of what we write


def printed(change: Change) -> str:
    """What ovs-ofctl says that the message adds, as our text syntax reads it."""
    done = subprocess.run(
        ["ovs-ofctl", "ofp-print", "-"],
        input=encode(written(change)).hex() + "\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    text = done.stdout.partition("ADD")[2]
    words = {"table": "table", "cookie": "cookie", "idle": "idle_timeout", "hard": "hard_timeout"}
    return re.sub(r"(?<= )(table|cookie|idle|hard):", lambda found: f"{words[found[1]]}=", text).strip()


@needs_ovs_ofctl
@pytest.mark.parametrize(
    "text",
    [
        "actions=drop",
        "table=3,cookie=0x5,priority=10,idle_timeout=5,hard_timeout=7,send_flow_rem,in_port=1,actions=output:2",
        "tcp,nw_src=10.0.0.0/8,tcp_flags=+syn-ack,tp_dst=80,actions=dec_ttl,set_field:8080->tcp_dst,in_port",
        "udp6,ipv6_src=2001:db8::/32,ipv6_label=0x5,actions=set_field:2001:db8::1->ipv6_dst,CONTROLLER,LOCAL",
        "ip,nw_frag=later,actions=clear_actions,write_actions(set_field:10.0.0.1->ip_dst,group:7)",
        "vlan_vid=0x1000/0x1000,vlan_pcp=3,actions=pop_vlan,push_vlan:0x88a8,set_field:4101->vlan_vid,flood,all",
        "mpls,mpls_label=16,mpls_bos=1,actions=set_mpls_ttl(9),dec_mpls_ttl,pop_mpls:0x0800,output:3",
        "arp,arp_op=1,arp_sha=02:00:00:00:00:01,actions=set_field:2->arp_op,push_mpls:0x8847,output:1",
        "icmp6,icmp_type=135,icmp_code=0,nd_target=fe80::1,actions=mod_nw_ttl:255,output:1",
        "metadata=0x5/0xff,actions=meter:3,write_metadata:0x10/0xf0,goto_table:9",
    ],
)
def test_open_vswitch_reads_our_rules(text: str) -> None:
    rule = parse_rule(text)
    assert parse_rule(printed(FlowMod(Command.ADD, rule))) == rule


@needs_ovs_ofctl
@pytest.mark.parametrize(
    "text",
    [
        "group_id=1,type=all,bucket=actions=output:1,bucket=actions=set_field:02:00:00:00:00:01->eth_dst,output:2",
        "group_id=2,type=select,bucket=weight:7,watch_port:1,actions=output:1,bucket=actions=group:3",
        "group_id=3,type=indirect,bucket=actions=dec_ttl,output:1",
        "group_id=4,type=ff,bucket=watch_port:1,actions=output:1,bucket=watch_group:2,actions=output:2",
    ],
)
def test_open_vswitch_reads_our_groups(text: str) -> None:
    spec = parse_group(text)
    assert parse_group(printed(GroupMod(GroupCommand.ADD, spec))) == spec


@needs_ovs_ofctl
@pytest.mark.parametrize(
    "text",
    ["meter=1,kbps,bands=type=drop,rate=1000", "meter=2,pktps,burst,bands=type=drop,rate=9,burst_size=50"],
)
def test_open_vswitch_reads_our_meters(text: str) -> None:
    spec = parse_meter(text)
    assert parse_meter(printed(MeterMod(MeterCommand.ADD, spec))) == spec


def test_the_largest_rules_and_groups_can_be_described() -> None:
    """Of what `oko.flow.validity` lets in, with the actions that take the most bytes."""
    actions = (SetField(BY_NAME["ipv6_src"], 1),) * ACTION_LIMIT
    sizes = [(field, (field.bits + 7) // 8) for field in FIELDS]
    every = tuple(Oxm(f.oxm_class, f.oxm_field, bytes(n), bytes(n), f.experimenter) for f, n in sizes)
    instructions = write_instructions((Meter(1), ApplyActions(actions), WriteMetadata(1, 1), GotoTable(1)))
    (flows,) = split(FlowStatsReply((FlowStats(*range(10), every, instructions),)))
    buckets = write_buckets(GroupSpec(1, GroupType.ALL, (Bucket(actions), *(Bucket(),) * (BUCKET_LIMIT - 1))))
    (groups,) = split(GroupDescReply((GroupDesc(0, 1, buckets),)))
    assert encode(flows)
    assert encode(groups)
