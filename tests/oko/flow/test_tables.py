"""The tables under flow_mods (OpenFlow 1.3.5, 6.4)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oko.errors import BadFlowMod
from oko.flow.rule import Command, Entry, FlowMod
from oko.flow.tables import Tables
from oko.flow.text import parse_rule, parse_selection, print_rule


def add(text: str, *, check_overlap: bool = False, reset_counts: bool = False) -> FlowMod:
    return FlowMod(Command.ADD, parse_rule(text), check_overlap=check_overlap, reset_counts=reset_counts)


def modify(text: str, *, strict: bool = False, **fields: int | None) -> FlowMod:
    command = Command.MODIFY_STRICT if strict else Command.MODIFY
    return FlowMod(command, parse_rule(text), **fields)  # type: ignore[arg-type]


def tables_of(*texts: str) -> Tables:
    tables = Tables()
    for now, text in enumerate(texts):
        tables.apply(add(text), now=now)
    return tables


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
    "add": FlowMod(Command.ADD, parse_rule("table=1,actions=1")),
    "modify": FlowMod(Command.MODIFY, parse_rule("table=1,actions=1")),
    "delete": parse_selection("table=1"),
    "add to all": FlowMod(Command.ADD, parse_rule("actions=1"), all_tables=True),
    "modify all": FlowMod(Command.MODIFY_STRICT, parse_rule("actions=1"), all_tables=True),
}


@pytest.mark.parametrize("mod", WRONG_TABLES.values(), ids=WRONG_TABLES.keys())
def test_a_table_that_is_not_there(mod: FlowMod) -> None:
    tables = tables_of("actions=2")
    with pytest.raises(BadFlowMod) as refused:
        tables.apply(mod)
    assert refused.value.reason == "bad-table-id"
    assert printed(tables) == ["actions=output:2"]


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


def test_a_slot_is_used_again_only_after_its_release() -> None:
    tables = tables_of("priority=1,actions=1", "priority=2,actions=2")
    tables.apply(parse_selection("priority=1", strict=True))
    tables.apply(add("priority=3,actions=3"))
    assert sorted(entry.slot for entry in tables) == [1, 2]
    tables.release([0])
    tables.apply(add("priority=4,actions=4"))
    assert sorted(entry.slot for entry in tables) == [0, 1, 2]
    assert tables.slots == 3


MODS = st.one_of(
    st.builds(
        add,
        st.sampled_from([f"priority={p},in_port={n},actions={n}" for p in (1, 2) for n in (1, 2, 3)] + ["actions=1"]),
        reset_counts=st.booleans(),
    ),
    st.sampled_from([parse_selection(text) for text in ("in_port=1", "in_port=2", "out_port=3")]),
    st.sampled_from([modify("in_port=1,actions=5"), modify("actions=6", reset_counts=1)]),
)


@given(st.lists(MODS, max_size=30))
def test_slots_and_ages_are_unique_and_slots_bounds_them(mods: list[FlowMod]) -> None:
    tables = Tables()
    for mod in mods:
        before = {entry.slot for entry in tables}
        tables.apply(mod)
        after = {entry.slot for entry in tables}
        assert len(after) == len({entry.age for entry in tables}) == len(tables)
        assert max(after, default=-1) < tables.slots
        tables.release(before - after)
    assert tables.slots <= 14
