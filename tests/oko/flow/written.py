"""Rules, groups and meters, written briefly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from oko.flow.action import INSTRUCTION_ORDER, Action, ApplyActions, Instruction, Output
from oko.flow.group import Bucket, GroupCommand, GroupMod, GroupSpec, GroupType
from oko.flow.match import Match
from oko.flow.meter import Band, MeterCommand, MeterMod, MeterSpec
from oko.flow.rule import Command, FlowMod, Rule
from oko.flow.tables import Tables
from oko.flow.text import parse_rule


def match(text: str) -> Match:
    """The match that `text` describes in the syntax of ovs-ofctl."""
    return parse_rule(f"{text} actions=drop").match


def rule(text: str, *parts: Instruction | Action, **fields: Any) -> Rule:
    """The rule with the match and priority of `text`; `parts` are its instructions, in any order, and actions, which
    are applied. `fields` are other fields of the rule."""
    instructions = [part for part in parts if isinstance(part, Instruction)]
    actions = tuple(part for part in parts if not isinstance(part, Instruction))
    if actions:
        instructions.append(ApplyActions(actions))
    instructions.sort(key=lambda instruction: INSTRUCTION_ORDER.index(type(instruction)))
    return replace(parse_rule(f"{text} actions=drop"), instructions=tuple(instructions), **fields)


def bucket(*actions: Action | int, **fields: Any) -> Bucket:
    """A bucket; a number is an output to that port."""
    return Bucket(tuple(Output(action) if isinstance(action, int) else action for action in actions), **fields)


def group(number: int, type_: GroupType, *buckets: Bucket) -> GroupMod:
    return GroupMod(GroupCommand.ADD, GroupSpec(number, type_, buckets))


def meter(number: int, *bands: Band, packets: bool = False) -> MeterMod:
    return MeterMod(MeterCommand.ADD, MeterSpec(number, bands, packets))


def tables_of(*parts: Rule | GroupMod | MeterMod | str) -> Tables:
    """Tables with these, in order; a string is a rule in the syntax of ovs-ofctl."""
    tables = Tables()
    for now, part in enumerate(parts):
        match part:
            case GroupMod() | MeterMod():
                tables.change(part, now=now)
            case _:
                made = parse_rule(part) if isinstance(part, str) else part
                tables.change(FlowMod(Command.ADD, made), now=now)
    return tables
