"""Every kind of change, by the one way in."""

from __future__ import annotations

import pytest

from oko.flow.change import Change
from oko.flow.group import GroupCommand, GroupMod, GroupSpec, GroupType
from oko.flow.meter import Band, MeterCommand, MeterMod, MeterSpec
from oko.flow.observer import Observer, ObserverMod
from oko.flow.rule import Command, FlowMod
from oko.flow.tables import Tables
from oko.flow.text import parse_flow_mod, parse_selection
from tests.oko.flow.written import bucket, group, match, meter, tables_of

OBSERVER = Observer(0, match("filter_prog=1"))


@pytest.fixture
def tables() -> Tables:
    made = tables_of(
        group(1, GroupType.ALL, bucket(2)),
        meter(1, Band(5)),
        "priority=1,actions=group:1",
        "priority=2,actions=meter:1,output:1",
        "priority=3,actions=output:1",
    )
    made.observe(OBSERVER)
    return made


def state(tables: Tables) -> tuple[list[int], list[int], list[int], tuple[Observer, ...]]:
    """Priorities, groups, meters, observers."""
    return [entry.rule.priority for entry in tables], list(tables.groups), list(tables.meters), tables.observers


@pytest.mark.parametrize(
    ("change", "deleted", "after"),
    [
        pytest.param(
            parse_flow_mod("priority=9,actions=drop"), [], ([1, 2, 3, 9], [1], [1], (OBSERVER,)), id="add a rule"
        ),
        pytest.param(
            parse_flow_mod("actions=drop", Command.MODIFY), [], ([1, 2, 3], [1], [1], (OBSERVER,)), id="modify rules"
        ),
        pytest.param(parse_selection("out_port=1"), [2, 3], ([1], [1], [1], (OBSERVER,)), id="delete rules"),
        pytest.param(
            parse_selection("priority=3", strict=True), [3], ([1, 2], [1], [1], (OBSERVER,)), id="delete one rule"
        ),
        pytest.param(group(2, GroupType.ALL), [], ([1, 2, 3], [1, 2], [1], (OBSERVER,)), id="add a group"),
        pytest.param(
            GroupMod(GroupCommand.DELETE, GroupSpec(1, GroupType.ALL)),
            [1],
            ([2, 3], [], [1], (OBSERVER,)),
            id="delete a group",
        ),
        pytest.param(
            GroupMod(GroupCommand.DELETE, GroupSpec(7, GroupType.ALL)),
            [],
            ([1, 2, 3], [1], [1], (OBSERVER,)),
            id="delete a group that is not there",
        ),
        pytest.param(meter(2, Band(1)), [], ([1, 2, 3], [1], [1, 2], (OBSERVER,)), id="add a meter"),
        pytest.param(
            MeterMod(MeterCommand.DELETE, MeterSpec(0, ()), all_meters=True),
            [2],
            ([1, 3], [1], [], (OBSERVER,)),
            id="delete all meters",
        ),
        pytest.param(
            ObserverMod(Observer(1, OBSERVER.match)),
            [],
            ([1, 2, 3], [1], [1], (OBSERVER, Observer(1, OBSERVER.match))),
            id="add an observer",
        ),
        pytest.param(ObserverMod(OBSERVER, add=False), [], ([1, 2, 3], [1], [1], ()), id="delete an observer"),
    ],
)
def test_a_change_says_what_it_deleted(
    tables: Tables, change: Change, deleted: list[int], after: tuple[list[int], list[int], list[int], object]
) -> None:
    gone = tables.change(change, now=7)
    assert [entry.rule.priority for entry in gone] == deleted
    assert state(tables) == after


def test_a_change_is_made_at_its_time(tables: Tables) -> None:
    tables.change(FlowMod(Command.ADD, parse_flow_mod("priority=9,actions=drop").rule), now=99)
    assert tables.ranked()[0].installed == 99
