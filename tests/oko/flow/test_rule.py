"""The order in which a lookup tries rules, and the actions of a rule."""

from __future__ import annotations

import pytest

from oko.flow.action import MAX_PORT, RESERVED_PORTS, ApplyActions, GotoTable, Output, WriteActions
from oko.flow.rule import Command, Entry, Rule
from oko.flow.text import parse_rule


def test_rank_is_priority_then_program_then_age() -> None:
    written = [
        "priority=9,filter_prog=1,actions=drop",
        "priority=5,in_port=1,filter_prog=2,actions=drop",
        "priority=5,in_port=2,filter_prog=1,actions=drop",
        "priority=5,in_port=1,actions=drop",
        "priority=5,actions=drop",
        "priority=0,filter_prog=1,actions=drop",
    ]
    ages = (5, 3, 4, 1, 2, 0)
    entries = [Entry(parse_rule(text), age, slot=0) for text, age in zip(written, ages, strict=True)]
    shuffled = [entries[index] for index in (3, 0, 5, 1, 4, 2)]
    assert sorted(shuffled, key=lambda entry: entry.rank) == entries


def test_actions_are_those_of_all_instructions_in_order() -> None:
    rule = parse_rule("actions=output:2,output:1,output:2")
    assert rule.actions == (Output(2), Output(1), Output(2))
    instructions = (ApplyActions((Output(3),)), WriteActions((Output(1),)), GotoTable(1))
    assert Rule(rule.match, instructions).actions == (Output(3), Output(1))
    assert Rule(rule.match).actions == Rule(rule.match, (ApplyActions(),)).actions == ()


def test_commands_have_the_numbers_of_the_wire() -> None:
    assert [command.value for command in Command] == [0, 1, 2, 3, 4]


def test_reserved_ports_lie_above_the_physical_ones() -> None:
    assert min(RESERVED_PORTS.values()) > MAX_PORT


TABLE_MISSES = {
    "priority=0": True,
    "priority=1": False,
    "priority=0,tcp": False,
    "priority=0,filter_prog=1": False,
}


@pytest.mark.parametrize(("text", "is_miss"), TABLE_MISSES.items(), ids=TABLE_MISSES.keys())
def test_table_miss_entry(text: str, is_miss: bool) -> None:
    assert parse_rule(f"{text} actions=drop").is_table_miss is is_miss


def test_goto() -> None:
    match = parse_rule("actions=drop").match
    assert Rule(match, (ApplyActions(), GotoTable(7))).goto == 7
    assert Rule(match, (ApplyActions(),)).goto is Rule(match).goto is None
