"""The tables under flow_mods, group_mods and meter_mods (OpenFlow 1.3.5, 6.4 to 6.6)."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oko.errors import BadAction, BadFlowMod, BadGroup, BadInstruction, BadMatch, BadMeter, FlowError
from oko.flow.action import (
    CONTROLLER,
    IN_PORT,
    LAST_GROUP,
    MAX_PORT,
    RESERVED_PORTS,
    TABLE,
    Action,
    ApplyActions,
    ClearActions,
    Continue,
    DecTtl,
    GotoTable,
    Group,
    Instruction,
    Meter,
    Output,
    Pass,
    PopMpls,
    PushMpls,
    PushVlan,
    SetField,
    SetMplsTtl,
    SetTtl,
    WriteActions,
    WriteMetadata,
)
from oko.flow.change import Change
from oko.flow.fields import BY_NAME
from oko.flow.group import Bucket, GroupCommand, GroupMod, GroupSpec, GroupType
from oko.flow.match import Match
from oko.flow.meter import Band, MeterCommand, MeterMod, MeterSpec
from oko.flow.observer import Observer
from oko.flow.rule import Command, Entry, FlowMod, Rule
from oko.flow.tables import BUCKETS_REACHED, GROUP_DEPTH, Tables
from oko.flow.text import parse_rule, parse_selection, print_rule
from oko.flow.validity import ACTION_LIMIT, BUCKET_LIMIT
from tests.oko.flow.written import bucket, group, match, meter, rule, tables_of


def add(text: str, *, check_overlap: bool = False, reset_counts: bool = False) -> FlowMod:
    return FlowMod(Command.ADD, parse_rule(text), check_overlap=check_overlap, reset_counts=reset_counts)


def modify(text: str, *, strict: bool = False, **fields: Any) -> FlowMod:
    command = Command.MODIFY_STRICT if strict else Command.MODIFY
    return FlowMod(command, parse_rule(text), **fields)


def printed(tables: Tables) -> list[str]:
    return [print_rule(entry.rule) for entry in tables.ranked()]


def entry_of(tables: Tables, text: str) -> Entry:
    """The entry with the match and priority of this rule."""
    rule = parse_rule(text)
    (entry,) = (e for e in tables if (e.rule.match, e.rule.priority) == (rule.match, rule.priority))
    return entry


def test_ranked_is_the_order_of_lookup() -> None:
    tables = tables_of(
        "priority=1,in_port=1,actions=1",
        "priority=2,actions=2",
        "priority=1,in_port=2,filter_prog=1,actions=3",
        "priority=1,in_port=3,actions=4",
        "priority=1,in_port=4,filter_prog=1,actions=5",
    )
    assert [entry.rule.actions[0].port for entry in tables.ranked()] == [2, 3, 5, 1, 4]


def test_add_of_the_same_match_and_priority_replaces() -> None:
    tables = tables_of("cookie=1, priority=5,ip actions=output:1", "priority=5,arp actions=output:1")
    old = entry_of(tables, "priority=5,ip actions=drop")
    tables.apply(add("cookie=2, priority=5,ip actions=output:2"), now=9)
    assert printed(tables) == ["priority=5,arp actions=output:1", "cookie=0x2, priority=5,ip actions=output:2"]
    assert [entry.rule.cookie for entry in tables] == [0, 2]
    new = entry_of(tables, "priority=5,ip actions=drop")
    assert new.age > old.age
    assert new.installed == 9
    assert new.slot == old.slot


def test_add_beside_another_priority_or_program_does_not_replace() -> None:
    tables = tables_of("priority=5,ip,actions=1", "priority=6,ip,actions=1", "priority=5,ip,filter_prog=1,actions=1")
    assert len(tables) == 3
    assert len({entry.slot for entry in tables}) == 3


def test_add_with_reset_counts_takes_a_new_slot() -> None:
    tables = tables_of("ip,actions=1")
    tables.apply(add("ip,actions=2", reset_counts=True))
    assert [(print_rule(entry.rule), entry.slot) for entry in tables] == [("ip actions=output:2", 1)]


MODIFIED = (
    "priority=5,tcp,in_port=1 actions=output:1",
    "priority=4,tcp actions=output:1",
    "priority=4,arp actions=output:2",
)

MODIFIES = {
    "covered": (modify("tcp,actions=9"), [0, 1]),
    "everything": (modify("actions=9"), [0, 1, 2]),
    "narrower is not covered": (modify("tcp,in_port=2,actions=9"), []),
    "strict": (modify("priority=4,tcp,actions=9", strict=True), [1]),
    "strict, other priority": (modify("priority=6,tcp,actions=9", strict=True), []),
    "out_port is not looked at": (modify("actions=9", out_port=2), [0, 1, 2]),
    "cookie": (modify("cookie=1,actions=9", cookie_mask=1), []),
    "cookie of all": (modify("actions=9", cookie_mask=1), [0, 1, 2]),
}


@pytest.mark.parametrize(("mod", "changed"), MODIFIES.values(), ids=MODIFIES.keys())
def test_modify_changes_the_instructions_and_nothing_else(mod: FlowMod, changed: list[int]) -> None:
    tables = tables_of(*MODIFIED)
    before = list(tables)
    tables.apply(mod, now=77)
    for index, entry in enumerate(before):
        instructions = mod.rule.instructions if index in changed else entry.rule.instructions
        expected = replace(entry, rule=replace(entry.rule, instructions=instructions))
        assert entry_of(tables, MODIFIED[index]) == expected
    assert len(tables) == len(before)


def test_modify_with_reset_counts_takes_new_slots() -> None:
    tables = tables_of(*MODIFIED)
    tables.apply(modify("tcp,actions=9", reset_counts=1))
    assert [entry_of(tables, text).slot for text in MODIFIED] == [3, 4, 2]


DELETED = (
    "cookie=0x11, priority=5,tcp,tp_dst=80,filter_prog=1 actions=output:1,output:2",
    "cookie=0x12, priority=5,tcp,tp_dst=0x50/0xfff0 actions=output:2",
    "cookie=0x21, priority=4,ip,nw_dst=10.1.0.0/16 actions=drop",
    "cookie=0x22, priority=0 actions=output:3",
)

DELETES = {
    "all": ("", False, [0, 1, 2, 3]),
    "table 0": ("table=0", False, [0, 1, 2, 3]),
    "ip": ("ip", False, [0, 1, 2]),
    "tcp": ("tcp", False, [0, 1]),
    "narrower": ("tcp,tp_dst=80", False, [0]),
    "wider mask": ("tcp,tp_dst=0x40/0xffc0", False, [0, 1]),
    "program": ("filter_prog=1", False, [0]),
    "other program": ("filter_prog=2", False, []),
    "wider prefix": ("ip,nw_dst=10.0.0.0/8", False, [2]),
    "same prefix": ("ip,nw_dst=10.1.0.0/16", False, [2]),
    "narrower prefix": ("ip,nw_dst=10.1.1.0/24", False, []),
    "cookie": ("cookie=0x11/-1", False, [0]),
    "cookie under a mask": ("cookie=0x10/0xf0", False, [0, 1]),
    "cookie and match": ("cookie=0x2/0xf,tcp", False, [1]),
    "out_port": ("out_port=2", False, [0, 1]),
    "out_port and cookie": ("out_port=2,cookie=2/2", False, [1]),
    "strict": ("priority=4,ip,nw_dst=10.1.0.0/16", True, [2]),
    "strict in table 0": ("table=0,priority=4,ip,nw_dst=10.1.0.0/16", True, [2]),
    "strict, wider": ("priority=4,ip", True, []),
    "strict, other priority": ("priority=5,ip,nw_dst=10.1.0.0/16", True, []),
    "strict, no match": ("priority=0", True, [3]),
    "strict, other cookie": ("table=0,cookie=1/-1,priority=0", True, []),
    "strict, other out_port": ("table=0,out_port=2,priority=0", True, []),
}


@pytest.mark.parametrize(("text", "strict", "gone"), DELETES.values(), ids=DELETES.keys())
def test_delete(text: str, strict: bool, gone: list[int]) -> None:
    tables = tables_of(*DELETED)
    tables.apply(parse_selection(text, strict=strict))
    assert printed(tables) == [rule for index, rule in enumerate(DELETED) if index not in gone]


OVERLAPS = {
    "wider": ("priority=5,ip,actions=1", True),
    "crossing": ("priority=5,in_port=3,actions=1", True),
    "other program": ("priority=5,tcp,tp_dst=80,filter_prog=2,actions=1", True),
    "masks that meet": ("priority=5,tcp,tp_dst=0/1,actions=1", True),
    "masks that do not": ("priority=5,tcp,tp_dst=1/1,actions=1", False),
    "other protocol": ("priority=5,udp,actions=1", False),
    "other priority": ("priority=6,ip,actions=1", False),
    "the rule itself": ("priority=5,tcp,tp_dst=80,filter_prog=1,actions=1", False),
}


@pytest.mark.parametrize(("text", "refused"), OVERLAPS.values(), ids=OVERLAPS.keys())
def test_check_overlap(text: str, refused: bool) -> None:
    tables = tables_of("priority=5,tcp,tp_dst=80,filter_prog=1,actions=2")
    before = list(tables)
    if refused:
        with pytest.raises(BadFlowMod) as error:
            tables.apply(add(text, check_overlap=True))
        assert error.value.reason == "overlap"
        assert list(tables) == before
    else:
        tables.apply(add(text, check_overlap=True))
        assert entry_of(tables, text).rule == parse_rule(text)
    tables.apply(add(text))
    assert entry_of(tables, text).rule == parse_rule(text)


WRONG_TABLES = {
    "add": FlowMod(Command.ADD, rule("", table=254)),
    "add to all": FlowMod(Command.ADD, rule("", table=255)),
    "modify": FlowMod(Command.MODIFY, rule("", table=254)),
    "delete": FlowMod(Command.DELETE, rule("", table=254)),
    "strict delete": FlowMod(Command.DELETE_STRICT, rule("", table=255)),
    "add, meant for all": FlowMod(Command.ADD, rule(""), all_tables=True),
}


@pytest.mark.parametrize("mod", WRONG_TABLES.values(), ids=WRONG_TABLES.keys())
def test_a_table_that_is_not_there(mod: FlowMod) -> None:
    tables = tables_of("actions=2")
    with pytest.raises(BadFlowMod) as refused:
        tables.apply(mod)
    assert refused.value.reason == "bad-table-id"
    assert printed(tables) == ["actions=output:2"]


def test_tables_are_apart() -> None:
    tables = tables_of(*(rule("priority=5,ip", Output(table + 1), table=table) for table in (0, 7, 253)))
    assert len(tables) == 3
    assert [entry.rule.table for entry in tables.ranked(7)] == [7]
    assert tables.ranked(6) == ()
    tables.apply(FlowMod(Command.MODIFY, rule("", Output(9), table=7)))
    assert [entry.rule.actions for entry in tables] == [(Output(1),), (Output(9),), (Output(254),)]
    tables.apply(FlowMod(Command.DELETE, rule("", table=253)))
    assert [entry.rule.table for entry in tables] == [0, 7]
    tables.apply(FlowMod(Command.DELETE_STRICT, rule("priority=5,ip"), all_tables=True))
    assert len(tables) == 0


VLAN_VID, IP_PROTO, DSCP = BY_NAME["vlan_vid"], BY_NAME["ip_proto"], BY_NAME["ip_dscp"]

BAD_INSTRUCTIONS: dict[str, tuple[tuple[Instruction, ...], type[FlowError], str]] = {
    "goto the same table": ((GotoTable(3),), BadInstruction, "bad-table-id"),
    "goto an earlier table": ((GotoTable(0),), BadInstruction, "bad-table-id"),
    "goto behind the last table": ((GotoTable(254),), BadInstruction, "bad-table-id"),
    "two of a kind": ((ApplyActions(), ApplyActions()), BadInstruction, "unsup-inst"),
    "out of order": ((WriteActions(), ClearActions()), BadInstruction, "unsup-inst"),
    "wide metadata": ((WriteMetadata(1 << 64, 0),), BadInstruction, "unsup-metadata"),
    "wide metadata mask": ((WriteMetadata(0, 1 << 64),), BadInstruction, "unsup-metadata-mask"),
    "unknown meter": ((Meter(1),), BadMeter, "unknown-meter"),
    "unknown group": ((ApplyActions((Group(1),)),), BadAction, "bad-out-group"),
    "unknown group, written": ((WriteActions((Group(1),)),), BadAction, "bad-out-group"),
}


@pytest.mark.parametrize("command", [Command.ADD, Command.MODIFY, Command.MODIFY_STRICT], ids=lambda c: c.name)
@pytest.mark.parametrize(("instructions", "error", "reason"), BAD_INSTRUCTIONS.values(), ids=BAD_INSTRUCTIONS.keys())
def test_instructions_that_are_refused(
    command: Command, instructions: tuple[Instruction, ...], error: type[FlowError], reason: str
) -> None:
    """A modify, too, even one that is about no rule."""
    tables = Tables()
    with pytest.raises(error) as refused:
        tables.apply(FlowMod(command, Rule(match(""), instructions, table=3)))
    assert type(refused.value) is error
    assert refused.value.reason == reason
    assert (len(tables), tables.slots) == (0, 0)


def test_a_delete_does_not_look_at_instructions() -> None:
    tables = tables_of(rule("", Output(1)))
    tables.apply(FlowMod(Command.DELETE, rule("", GotoTable(0), Group(1))))
    assert len(tables) == 0


GOOD_GOTOS = {"next": (0, 1), "last": (0, 253), "from the last but one": (252, 253)}


@pytest.mark.parametrize(("table", "target"), GOOD_GOTOS.values(), ids=GOOD_GOTOS.keys())
def test_goto_leads_forward(table: int, target: int) -> None:
    (entry,) = tables_of(rule("", GotoTable(target), table=table))
    assert entry.rule.goto == target


BAD_ACTIONS: dict[str, tuple[Action, str]] = {
    "output to TABLE": (Output(TABLE), "bad-out-port"),
    "output to NORMAL": (Output(RESERVED_PORTS["NORMAL"]), "bad-out-port"),
    "output to ANY": (Output(RESERVED_PORTS["ANY"]), "bad-out-port"),
    "output between the ports": (Output(MAX_PORT + 1), "bad-out-port"),
    "set a field that is only matched": (SetField(IP_PROTO, 6), "bad-set-type"),
    "set metadata": (SetField(BY_NAME["metadata"], 6), "bad-set-type"),
    "set too wide a value": (SetField(DSCP, 64), "bad-set-argument"),
    "push an unknown tag": (PushVlan(0x9100), "bad-argument"),
    "push an unknown label": (PushMpls(0x0800), "bad-argument"),
    "pop to no ethertype": (PopMpls(0x10000), "bad-argument"),
    "set too large a TTL": (SetTtl(256), "bad-argument"),
    "set too large a TTL of a label": (SetMplsTtl(256), "bad-argument"),
}


@pytest.mark.parametrize(("action", "reason"), BAD_ACTIONS.values(), ids=BAD_ACTIONS.keys())
def test_actions_that_are_refused(action: Action, reason: str) -> None:
    """Applied, written, and in a bucket."""
    tables = Tables()
    for instruction in (ApplyActions((action,)), WriteActions((action,))):
        with pytest.raises(BadAction) as refused:
            tables.apply(FlowMod(Command.ADD, rule("", instruction)))
        assert refused.value.reason == reason
    with pytest.raises(BadAction) as refused:
        tables.apply_group(group(1, GroupType.ALL, bucket(action)))
    assert refused.value.reason == reason
    assert (len(tables), len(tables.groups), tables.slots) == (0, 0, 0)


LEAVING = {"pass": Pass(), "continue": Continue(7)}


@pytest.mark.parametrize("action", LEAVING.values(), ids=LEAVING.keys())
def test_a_packet_is_left_to_open_vswitch_by_all_that_a_rule_does(action: Action) -> None:
    tables = tables_of(rule("", action))
    with_more = (
        (ApplyActions((action, Output(1))),),
        (ApplyActions((Output(1), action)),),
        (WriteActions((action,)),),
        (ApplyActions((action,)), GotoTable(1)),
    )
    for instructions in with_more:
        with pytest.raises(BadAction, match="all that a rule does"):
            tables.apply(FlowMod(Command.ADD, rule("", *instructions)))
    with pytest.raises(BadAction, match="all that a rule does"):
        tables.apply_group(group(1, GroupType.ALL, bucket(action)))
    with pytest.raises(BadAction, match="all that a rule does"):
        tables.check_packet_out((action,))
    assert [entry.rule for entry in tables] == [rule("", action)]


@pytest.mark.parametrize("shim_id", [0, 1 << 24])
def test_a_shim_has_an_id_of_24_bits(shim_id: int) -> None:
    with pytest.raises(BadAction, match="the shim") as refused:
        tables_of(rule("", Continue(shim_id)))
    assert refused.value.reason == "bad-argument"


@pytest.mark.parametrize("command", [Command.ADD, Command.MODIFY], ids=lambda c: c.name)
def test_actions_that_do_not_fit_the_match_are_refused(command: Command) -> None:
    """Of a modify, its own match: that of the rules which it changes may say more."""
    tables = tables_of(rule("ip", DecTtl()))
    with pytest.raises(BadAction) as refused:
        tables.apply(FlowMod(command, rule("", DecTtl(), Output(1))))
    assert refused.value.reason == "match-inconsistent"
    assert [entry.rule for entry in tables] == [rule("ip", DecTtl())]
    tables.apply(FlowMod(command, rule("", WriteActions((DecTtl(),)))))


def test_actions_of_a_packet_out() -> None:
    tables = tables_of(group(1, GroupType.ALL))
    tables.check_packet_out((Output(TABLE), Output(CONTROLLER), Output(IN_PORT), Output(MAX_PORT), Group(1)))
    for action, reason in ((Group(2), "bad-out-group"), (Output(RESERVED_PORTS["ANY"]), "bad-out-port")):
        with pytest.raises(BadAction) as refused:
            tables.check_packet_out((action,))
        assert refused.value.reason == reason


USERS = (
    rule("priority=4", Output(1), Group(1)),
    rule("priority=3", WriteActions((Group(2), Output(2))), GotoTable(5)),
    rule("priority=2", Output(2), Meter(1)),
    rule("priority=1", WriteActions((Output(1), Group(1))), Meter(2), table=5),
)

OUTS = {
    "port, also where it is written": ({"out_port": 2}, [1, 2]),
    "port, in other tables": ({"out_port": 1}, [0, 3]),
    "group": ({"out_group": 1}, [0, 3]),
    "other group": ({"out_group": 2}, [1]),
    "both": ({"out_port": 2, "out_group": 2}, [1]),
    "both, of different rules": ({"out_port": 2, "out_group": 1}, []),
    "a group that is not there": ({"out_group": 7}, []),
}


def users() -> Tables:
    return tables_of(group(1, GroupType.ALL), group(2, GroupType.ALL), meter(1, Band(1)), meter(2, Band(1)), *USERS)


@pytest.mark.parametrize(("fields", "gone"), OUTS.values(), ids=OUTS.keys())
def test_delete_by_what_a_rule_sends_to(fields: dict[str, int], gone: list[int]) -> None:
    tables = users()
    tables.apply(FlowMod(Command.DELETE, rule(""), all_tables=True, **fields))
    assert [entry.rule for entry in tables] == [user for index, user in enumerate(USERS) if index not in gone]


# ---- groups

WATCHING = bucket(1, watch_port=1)
BAD_GROUPS: dict[str, tuple[GroupSpec, type[FlowError], str]] = {
    "number": (GroupSpec(LAST_GROUP + 1, GroupType.ALL), BadGroup, "invalid-group"),
    "indirect, empty": (GroupSpec(5, GroupType.INDIRECT), BadGroup, "invalid-group"),
    "indirect, two": (GroupSpec(5, GroupType.INDIRECT, (bucket(1), bucket(2))), BadGroup, "invalid-group"),
    "indirect, watching": (GroupSpec(5, GroupType.INDIRECT, (WATCHING,)), BadGroup, "watch-unsupported"),
    "all, watching": (GroupSpec(5, GroupType.ALL, (bucket(1), WATCHING)), BadGroup, "watch-unsupported"),
    "watches no port": (GroupSpec(5, GroupType.SELECT, (bucket(watch_port=CONTROLLER),)), BadGroup, "bad-watch"),
    "watches an unknown group": (GroupSpec(5, GroupType.SELECT, (bucket(watch_group=9),)), BadGroup, "bad-watch"),
    "forwards to an unknown group": (GroupSpec(5, GroupType.ALL, (bucket(Group(9)),)), BadAction, "bad-out-group"),
    "weight": (GroupSpec(5, GroupType.SELECT, (bucket(weight=1 << 16),)), BadGroup, "bad-bucket"),
    "forwards to itself": (GroupSpec(5, GroupType.ALL, (bucket(1), bucket(Group(5)))), BadGroup, "loop"),
    "watches itself": (GroupSpec(5, GroupType.SELECT, (bucket(1, watch_group=5),)), BadGroup, "loop"),
}


@pytest.mark.parametrize("present", [False, True], ids=["add", "modify"])
@pytest.mark.parametrize(("spec", "error", "reason"), BAD_GROUPS.values(), ids=BAD_GROUPS.keys())
def test_groups_that_are_refused(spec: GroupSpec, error: type[FlowError], reason: str, present: bool) -> None:
    tables = tables_of(group(spec.number, GroupType.ALL)) if present and spec.number <= LAST_GROUP else Tables()
    before, slots = dict(tables.groups), tables.slots
    command = GroupCommand.MODIFY if before else GroupCommand.ADD
    with pytest.raises(error) as refused:
        tables.apply_group(GroupMod(command, spec))
    assert type(refused.value) is error
    assert refused.value.reason == reason
    assert (dict(tables.groups), tables.slots) == (before, slots)


def modify_group(number: int, type_: GroupType, *buckets: Bucket) -> GroupMod:
    return GroupMod(GroupCommand.MODIFY, GroupSpec(number, type_, buckets))


def delete_group(number: int) -> GroupMod:
    return GroupMod(GroupCommand.DELETE, GroupSpec(number, GroupType.ALL))


WAYS_BACK = {
    "to the next": (2, bucket(Group(1))),
    "to the first": (3, bucket(5, Group(1))),
    "by watching": (3, bucket(5, watch_group=1)),
}


@pytest.mark.parametrize(("number", "back"), WAYS_BACK.values(), ids=WAYS_BACK.keys())
def test_a_modify_that_closes_a_loop(number: int, back: Bucket) -> None:
    tables = tables_of(
        group(3, GroupType.ALL, bucket(1)),
        group(2, GroupType.SELECT, bucket(1, watch_group=3), bucket(2)),
        group(1, GroupType.ALL, bucket(Group(2)), bucket(Group(3))),
    )
    with pytest.raises(BadGroup) as refused:
        tables.apply_group(modify_group(number, GroupType.SELECT, back))
    assert refused.value.reason == "loop"
    tables.apply_group(modify_group(1, GroupType.ALL, bucket(Group(2)), bucket(Group(2)), bucket(Group(3))))


def test_a_loop_over_the_second_of_two_ways() -> None:
    tables = tables_of(
        group(1, GroupType.ALL),
        group(4, GroupType.ALL, bucket(1)),
        group(2, GroupType.ALL, bucket(Group(4))),
        group(3, GroupType.ALL, bucket(Group(1))),
    )
    with pytest.raises(BadGroup) as refused:
        tables.apply_group(modify_group(1, GroupType.ALL, bucket(Group(2)), bucket(Group(3))))
    assert refused.value.reason == "loop"


def test_a_group_is_added_once() -> None:
    tables = tables_of(group(1, GroupType.ALL, bucket(1)))
    with pytest.raises(BadGroup) as refused:
        tables.apply_group(group(1, GroupType.ALL, bucket(2)))
    assert refused.value.reason == "group-exists"
    assert tables.groups[1].spec.buckets == (bucket(1),)


def test_only_a_group_that_is_there_is_modified() -> None:
    tables = Tables()
    with pytest.raises(BadGroup) as refused:
        tables.apply_group(modify_group(1, GroupType.ALL))
    assert refused.value.reason == "unknown-group"
    assert not tables.groups


def test_a_modified_group_keeps_its_counters_but_not_its_buckets() -> None:
    tables = tables_of("actions=1", group(1, GroupType.ALL, bucket(1), bucket(2)))
    before = tables.groups[1]
    assert (before.slot, before.slots, before.installed) == (1, (2, 3), 1)
    tables.apply_group(modify_group(1, GroupType.SELECT, bucket(3)), now=99)
    after = tables.groups[1]
    assert after.spec == GroupSpec(1, GroupType.SELECT, (bucket(3),))
    assert (after.slot, after.slots, after.installed) == (1, (4,), 1)
    assert (tables.slots, tables.unused_slots) == (5, {2, 3})


def test_with_a_group_go_the_rules_that_use_it() -> None:
    tables = users()
    tables.apply_group(delete_group(1))
    assert [entry.rule for entry in tables] == [USERS[1], USERS[2]]
    assert list(tables.groups) == [2]
    tables.apply_group(delete_group(7))
    assert list(tables.groups) == [2]


NEEDS = {"to forward to": bucket(Group(1)), "to watch": bucket(2, watch_group=1)}


@pytest.mark.parametrize("need", NEEDS.values(), ids=NEEDS.keys())
def test_a_group_that_another_needs_stays(need: Bucket) -> None:
    tables = tables_of(
        group(1, GroupType.ALL, bucket(1)), group(2, GroupType.SELECT, bucket(3), need), rule("", Group(1))
    )
    with pytest.raises(BadGroup) as refused:
        tables.apply_group(delete_group(1))
    assert refused.value.reason == "chained-group"
    assert (list(tables.groups), len(tables)) == ([1, 2], 1)
    tables.apply_group(delete_group(2))
    tables.apply_group(delete_group(1))
    assert (list(tables.groups), len(tables)) == ([], 0)


def test_delete_all_groups() -> None:
    tables = users()
    tables.apply_group(group(3, GroupType.ALL, bucket(Group(1))))
    tables.apply_group(replace(delete_group(0), all_groups=True))
    assert not tables.groups
    assert [entry.rule for entry in tables] == [USERS[2]]


# ---- meters

BAD_METERS = {
    "number 0": (MeterSpec(0, (Band(1),)), "invalid-meter"),
    "reserved number": (MeterSpec(0xFFFF0001, (Band(1),)), "invalid-meter"),
    "bands": (MeterSpec(5, (Band(1),) * 5), "out-of-bands"),
    "rate": (MeterSpec(5, (Band(1), Band(1 << 32))), "bad-rate"),
    "burst": (MeterSpec(5, (Band(1, 1 << 32),)), "bad-burst"),
}


@pytest.mark.parametrize("present", [False, True], ids=["add", "modify"])
@pytest.mark.parametrize(("spec", "reason"), BAD_METERS.values(), ids=BAD_METERS.keys())
def test_meters_that_are_refused(spec: MeterSpec, reason: str, present: bool) -> None:
    tables = tables_of(meter(5, Band(7))) if present and spec.number == 5 else Tables()
    before, slots = dict(tables.meters), tables.meter_slots
    with pytest.raises(BadMeter) as refused:
        tables.apply_meter(MeterMod(MeterCommand.MODIFY if before else MeterCommand.ADD, spec))
    assert refused.value.reason == reason
    assert (dict(tables.meters), tables.meter_slots) == (before, slots)


def test_a_meter_is_added_once_and_modified_when_there() -> None:
    tables = tables_of("actions=1", meter(1, Band(1)), meter(2))
    with pytest.raises(BadMeter) as refused:
        tables.apply_meter(meter(1, Band(2)))
    assert refused.value.reason == "meter-exists"
    with pytest.raises(BadMeter) as refused:
        tables.apply_meter(MeterMod(MeterCommand.MODIFY, MeterSpec(3, (Band(2),))))
    assert refused.value.reason == "unknown-meter"
    assert [(m.spec, m.slot, m.installed) for m in tables.meters.values()] == [
        (MeterSpec(1, (Band(1),)), 0, 1),
        (MeterSpec(2, ()), 1, 2),
    ]


def test_a_modified_meter_starts_in_a_slot_of_its_own() -> None:
    tables = tables_of("actions=1", meter(1, Band(1)), meter(2))
    tables.apply_meter(MeterMod(MeterCommand.MODIFY, MeterSpec(1, (Band(1),))), now=9)
    assert (tables.meters[1].slot, tables.meters[1].installed) == (2, 1)
    assert (tables.meter_slots, tables.used_meter_slots()) == (3, {1, 2})
    tables.release_meters([0])
    tables.apply_meter(meter(4))
    assert (tables.meters[4].slot, tables.meter_slots, tables.slots) == (0, 3, 1)


def test_with_a_meter_go_the_rules_that_use_it() -> None:
    tables = users()
    tables.apply_meter(MeterMod(MeterCommand.DELETE, MeterSpec(1, ())))
    assert [entry.rule for entry in tables] == [USERS[0], USERS[1], USERS[3]]
    tables.apply_meter(MeterMod(MeterCommand.DELETE, MeterSpec(1, ())))
    assert list(tables.meters) == [2]
    tables.apply_meter(MeterMod(MeterCommand.DELETE, MeterSpec(0, ()), all_meters=True))
    assert not tables.meters
    assert [entry.rule for entry in tables] == [USERS[0], USERS[1]]


# ---- observers


def test_observers_are_in_the_order_in_which_they_are_asked() -> None:
    tables = Tables()
    made = [Observer(table, match(text)) for table, text in ((1, "filter_prog=2"), (0, "tcp,filter_prog=3"))]
    made += [Observer(0, match(text)) for text in ("filter_prog=1", "udp,filter_prog=3")]
    for observer in (*made, made[0]):
        tables.observe(observer)
    assert tables.observers == (made[2], made[1], made[3], made[0])
    tables.unobserve(made[1])
    assert tables.observers == (made[2], made[3], made[0])
    with pytest.raises(BadFlowMod):
        tables.unobserve(made[1])


def test_observers_that_are_refused() -> None:
    tables = Tables()
    with pytest.raises(BadMatch):
        tables.observe(Observer(0, match("tcp")))
    with pytest.raises(BadFlowMod) as refused:
        tables.observe(Observer(254, match("filter_prog=1")))
    assert refused.value.reason == "bad-table-id"
    assert tables.observers == ()


# ---- copies and slots


def test_a_copy_is_independent() -> None:
    tables = tables_of("priority=1,actions=1", "priority=2,actions=2")
    tables.release([7])
    copy = tables.copy()
    assert list(copy) == list(tables)
    copy.apply(parse_selection(""))
    copy.apply(add("priority=3,actions=3"))
    copy.apply(add("priority=4,actions=4"))
    assert printed(copy) == ["priority=4 actions=output:4", "priority=3 actions=output:3"]
    assert printed(tables) == ["priority=2 actions=output:2", "priority=1 actions=output:1"]
    tables.apply(add("priority=3,actions=3"))
    assert {entry.slot for entry in tables} == {0, 1, 7}


def test_groups_meters_and_observers_of_a_copy_are_independent() -> None:
    tables = users()
    tables.release_meters([7])
    copy = tables.copy()
    assert (list(copy), dict(copy.groups), dict(copy.meters)) == (
        list(tables),
        dict(tables.groups),
        dict(tables.meters),
    )
    copy.observe(Observer(0, match("filter_prog=1")))
    copy.apply_group(delete_group(1))
    copy.apply_meter(MeterMod(MeterCommand.DELETE, MeterSpec(1, ())))
    copy.apply_meter(meter(3))
    copy.apply_meter(meter(4))
    assert (list(tables.groups), list(tables.meters), tables.observers) == ([1, 2], [1, 2], ())
    assert [entry.rule for entry in tables] == list(USERS)
    tables.apply_meter(meter(3))
    assert (tables.meters[3].slot, tables.meter_slots) == (7, 2)


def test_a_slot_is_used_again_only_after_its_release() -> None:
    tables = tables_of("priority=1,actions=1", "priority=2,actions=2")
    tables.apply(parse_selection("priority=1", strict=True))
    tables.apply(add("priority=3,actions=3"))
    assert sorted(entry.slot for entry in tables) == [1, 2]
    tables.release([0])
    tables.apply(add("priority=4,actions=4"))
    assert sorted(entry.slot for entry in tables) == [0, 1, 2]
    assert tables.slots == 3


def test_groups_and_buckets_share_the_slots_of_rules() -> None:
    tables = tables_of("priority=1,actions=1", group(1, GroupType.ALL, bucket(1), bucket(2)), "priority=2,actions=1")
    assert [entry.slot for entry in tables] == [0, 4]
    tables.apply_group(delete_group(1))
    tables.release([1, 3])
    tables.apply_group(group(2, GroupType.ALL, bucket(1)))
    assert (tables.groups[2].slot, tables.groups[2].slots, tables.slots) == (1, (3,), 5)


NUMBERS = st.sampled_from((1, 2, 3))
BUCKETS = st.lists(
    st.one_of(st.builds(bucket, NUMBERS), st.builds(lambda n: bucket(Group(n)), NUMBERS)), max_size=2
).map(tuple)
ACTIONS = st.one_of(NUMBERS.map(Output), NUMBERS.map(Group))
COMMANDS = st.sampled_from(list(Command))
MODS = st.one_of(
    st.builds(
        lambda command, text, action, meters, reset: FlowMod(command, rule(text, action, *meters), reset_counts=reset),
        COMMANDS,
        st.sampled_from([f"priority={p},in_port={n}" for p in (1, 2) for n in (1, 2)] + [""]),
        ACTIONS,
        st.lists(NUMBERS.map(Meter), max_size=1),
        st.booleans(),
    ),
    st.builds(
        lambda command, number, buckets: GroupMod(command, GroupSpec(number, GroupType.ALL, buckets)),
        st.sampled_from(list(GroupCommand)),
        NUMBERS,
        BUCKETS,
    ),
    st.builds(
        lambda command, number: MeterMod(command, MeterSpec(number, (Band(1),))),
        st.sampled_from(list(MeterCommand)),
        NUMBERS,
    ),
)


def state(tables: Tables) -> tuple[object, ...]:
    return (list(tables), dict(tables.groups), dict(tables.meters), tables.slots, tables.meter_slots)


@given(st.lists(MODS, max_size=20), st.lists(MODS, max_size=20), st.lists(MODS, max_size=20))
def test_what_is_rolled_back_never_was(
    before: list[FlowMod | GroupMod | MeterMod],
    undone: list[FlowMod | GroupMod | MeterMod],
    after: list[FlowMod | GroupMod | MeterMod],
) -> None:
    tables, others = Tables(), Tables()

    def change(mods: list[FlowMod | GroupMod | MeterMod], *changed: Tables) -> None:
        for each in changed:
            for mod in mods:
                with suppress(FlowError):
                    each.change(mod)

    change(before, tables, others)
    tables.begin()
    change(undone, tables)
    tables.rollback()
    assert not tables.in_transaction
    assert (state(tables), tables.unused_slots) == (state(others), others.unused_slots)
    for each in (tables, others):
        each.release(each.unused_slots)
    change(after, tables, others)
    assert (state(tables), tables.ranked()) == (state(others), others.ranked())


@given(st.lists(MODS, max_size=20), st.lists(MODS, max_size=20))
def test_a_delta_is_what_differs(
    before: list[FlowMod | GroupMod | MeterMod], mods: list[FlowMod | GroupMod | MeterMod]
) -> None:
    tables = Tables()
    for mod in before:
        with suppress(FlowError):
            tables.change(mod)
    old, others = set(tables), (dict(tables.groups), dict(tables.meters))
    tables.begin()
    for mod in mods:
        with suppress(FlowError):
            tables.change(mod)
    delta = tables.delta()
    assert (set(delta.added), set(delta.removed)) == (set(tables) - old, old - set(tables))
    assert delta.added == tuple(sorted(delta.added, key=lambda entry: entry.age))
    assert delta.rules_only == (others == (dict(tables.groups), dict(tables.meters)))


@given(st.lists(MODS, max_size=30))
def test_whatever_happens_the_tables_hold_together(mods: list[FlowMod | GroupMod | MeterMod]) -> None:
    """Slots and ages are unique, slots are bounded and used again, nothing names what is not there, no group reaches
    itself, what is refused changes nothing, and the ranking is never stale."""
    tables = Tables()
    for mod in mods:
        before = state(tables)
        tables.ranked()
        try:
            tables.change(mod)
        except FlowError:
            assert state(tables) == before
        counted = [entry.slot for entry in tables]
        counted += [slot for entry in tables.groups.values() for slot in (entry.slot, *entry.slots)]
        assert len(counted) == len(set(counted))
        assert not tables.unused_slots.intersection(counted)
        assert not tables.unused_meter_slots & tables.used_meter_slots()
        assert max(counted, default=-1) < tables.slots
        assert len({entry.age for entry in tables}) == len(tables)
        assert list(tables.ranked()) == sorted(tables, key=lambda entry: entry.rank)
        assert len(tables.used_meter_slots()) == len(tables.meters)
        for entry in tables:
            assert {action.number for action in entry.rule.actions if isinstance(action, Group)} <= set(tables.groups)
            assert {i.number for i in entry.rule.instructions if isinstance(i, Meter)} <= set(tables.meters)
        for number in tables.groups:
            assert number not in reached(tables, number)
        tables.release(tables.unused_slots)
        tables.release_meters(tables.unused_meter_slots)
    assert tables.slots <= 2 * (5 + 3 * 3)
    assert tables.meter_slots <= 3 + 1


def reached(tables: Tables, number: int) -> set[int]:
    """The groups that a group forwards to, over any number of others; all of them are there."""
    found: set[int] = set()
    for made in tables.groups[number].spec.buckets:
        for action in made.actions:
            if isinstance(action, Group):
                found |= {action.number} | reached(tables, action.number)
    return found


def chain(tables: Tables, length: int, buckets: int = 1) -> None:
    """So many groups, each of which forwards to the one before it, `buckets` times."""
    for number in range(1, length + 1):
        actions: tuple[Action, ...] = (Group(number - 1),) if number > 1 else (Output(1),)
        spec = GroupSpec(number, GroupType.ALL, (Bucket(actions),) * buckets)
        tables.apply_group(GroupMod(GroupCommand.ADD, spec))


def test_groups_lead_to_groups_only_so_deep() -> None:
    tables = Tables()
    chain(tables, GROUP_DEPTH)
    last = GroupSpec(GROUP_DEPTH + 1, GroupType.INDIRECT, (Bucket((Group(GROUP_DEPTH),)),))
    with pytest.raises(BadGroup, match=f"{GROUP_DEPTH + 1} deep") as raised:
        tables.apply_group(GroupMod(GroupCommand.ADD, last))
    assert raised.value.reason == "chaining-unsupported"
    tables.apply_group(GroupMod(GroupCommand.ADD, GroupSpec(99, GroupType.INDIRECT, (Bucket(()),))))
    longer = GroupSpec(1, GroupType.INDIRECT, (Bucket((Group(99),)),))
    with pytest.raises(BadGroup, match="deep"):
        tables.apply_group(GroupMod(GroupCommand.MODIFY, longer))


def test_groups_reach_only_so_many_buckets() -> None:
    """Each of them twice the one before: 2, 6, 14 …"""
    tables = Tables()
    with pytest.raises(BadGroup, match=f"{BUCKETS_REACHED} is the limit") as raised:
        chain(tables, 13, buckets=2)
    assert raised.value.reason == "out-of-buckets"
    assert len(tables.groups) == 12


# ---- modifies of OpenFlow 1.0


def test_a_modify_that_finds_none_adds() -> None:
    tables = tables_of("priority=5,ip,actions=2")
    tables.apply(FlowMod(Command.MODIFY, rule("priority=7,in_port=1", Output(1)), all_tables=True, new_cookie=9))
    (entry,) = (entry for entry in tables if entry.rule.priority == 7)
    assert (entry.rule.table, entry.rule.cookie, entry.rule.actions) == (0, 9, (Output(1),))
    tables.apply(FlowMod(Command.MODIFY, rule("arp", Output(1)), 1, new_cookie=9))
    assert len(tables) == 2


def test_a_modify_of_all_tables_gives_a_cookie() -> None:
    tables = tables_of(*(rule("ip", Output(1), table=table, cookie=5) for table in (0, 7)))
    before = {entry.rule.table: entry.slot for entry in tables}
    tables.apply(FlowMod(Command.MODIFY, rule("", Output(2)), all_tables=True, new_cookie=9))
    assert {entry.rule.table: entry.slot for entry in tables} == before
    assert {(entry.rule.cookie, entry.rule.actions) for entry in tables} == {(9, (Output(2),))}


def test_a_modify_that_one_table_cannot_do_changes_none() -> None:
    tables = tables_of(*(rule("ip", Output(1), table=table) for table in (0, 7)))
    with pytest.raises(BadInstruction):
        tables.apply(FlowMod(Command.MODIFY, rule("", GotoTable(5)), all_tables=True))
    assert {entry.rule.actions for entry in tables} == {(Output(1),)}


def test_restored_tables_go_on_as_the_others() -> None:
    tables = Tables()
    tables.change(GroupMod(GroupCommand.ADD, GroupSpec(1, GroupType.ALL, (Bucket(), Bucket()))))
    for port in range(5):
        tables.apply(add(f"in_port={port + 1},actions=drop"), now=port)
    tables.apply(FlowMod(Command.DELETE, parse_rule("in_port=2,actions=drop")))
    tables.release(tables.unused_slots)
    restored = Tables.restored(tables, tables.groups, tables.meters, tables.observers)
    for each in (tables, restored):
        each.apply(add("in_port=9,actions=drop"), now=9)
        each.apply(add("in_port=10,actions=drop"), now=9)
    assert list(restored) == list(tables)
    assert (restored.slots, restored.groups) == (tables.slots, tables.groups)


FULL = (Output(1),) * ACTION_LIMIT
TOO_LARGE: dict[str, tuple[Change, type[FlowError], str]] = {
    "applied": (FlowMod(Command.ADD, Rule(Match(), (ApplyActions((*FULL, Output(1))),))), BadAction, "too-many"),
    "applied and written": (
        FlowMod(Command.ADD, Rule(Match(), (ApplyActions(FULL), WriteActions((Output(1),))))),
        BadAction,
        "too-many",
    ),
    "buckets": (
        GroupMod(GroupCommand.ADD, GroupSpec(1, GroupType.ALL, (Bucket(),) * (BUCKET_LIMIT + 1))),
        BadGroup,
        "out-of-buckets",
    ),
    "actions of buckets": (
        GroupMod(GroupCommand.ADD, GroupSpec(1, GroupType.ALL, (Bucket(FULL), Bucket((Output(1),))))),
        BadAction,
        "too-many",
    ),
}


@pytest.mark.parametrize(("mod", "kind", "reason"), TOO_LARGE.values(), ids=TOO_LARGE)
def test_what_no_reply_can_describe_is_refused(mod: Change, kind: type[FlowError], reason: str) -> None:
    tables = Tables()
    with pytest.raises(kind, match="is the most") as raised:
        tables.change(mod)
    assert raised.value.reason == reason
    assert not tables.groups
    assert not list(tables)


def test_the_largest_rule_and_group_are_taken() -> None:
    """`tests/oko/wire/test_change.py` has them described."""
    tables = tables_of(Rule(Match(), (ApplyActions(FULL),)))
    tables.change(
        GroupMod(GroupCommand.ADD, GroupSpec(1, GroupType.ALL, (Bucket(FULL), *(Bucket(),) * (BUCKET_LIMIT - 1))))
    )
    assert (len(tables), len(tables.groups)) == (1, 1)
