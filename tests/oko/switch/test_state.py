from __future__ import annotations

from collections.abc import Sequence

import pytest

from oko.errors import StateDamaged
from oko.flow.observer import Observer
from oko.flow.rule import Entry
from oko.flow.text import parse_rule
from oko.switch.datapath import Count
from oko.switch.saved import (
    Element,
    SavedEnd,
    SavedInherited,
    SavedProgram,
    SavedUnload,
    save_counts,
    save_groups,
    save_meters,
    save_observers,
    save_rules,
)
from oko.switch.state import State

ONE = Entry(parse_rule("in_port=1,actions=output:2"), 1, 0, 50)
TWO = Entry(parse_rule("in_port=2,filter_prog=9,actions=output:2"), 2, 1, 60)
PROGRAM = SavedProgram(9, 0, bytes(32), "nine")


def state(*elements: Element) -> State:
    made = State()
    for element in elements:
        made.apply(element)
    return made


def test_counts_go_with_their_slots() -> None:
    made = state(save_rules((), [ONE, TWO]), save_counts({0: Count(5, 300), 1: Count(6, 400)}))
    modified = Entry(TWO.rule, TWO.age, 2, TWO.installed)
    made.apply(save_rules([ONE, TWO], [modified]))
    assert (made.entries, made.counts) == ({2: modified}, {})
    kept = state(save_rules((), [ONE]), save_counts({0: Count(5, 300)}), save_rules([ONE], [ONE]))
    assert kept.counts == {0: Count(5, 300)}


@pytest.mark.parametrize(
    ("elements", "complaint"),
    [
        pytest.param([save_rules([ONE], [])], "age 1 is removed, and was not there", id="removed"),
        pytest.param([save_rules((), [ONE]), save_rules((), [ONE])], "two rules have the age 1", id="twice"),
        pytest.param([SavedUnload(3)], "program 3 is unloaded, and was not loaded", id="unloaded"),
        pytest.param([save_rules((), [ONE]), SavedEnd(2)], "2 rules were written, 1 are there", id="end"),
    ],
)
def test_what_can_follow_nothing(elements: Sequence[Element], complaint: str) -> None:
    with pytest.raises(StateDamaged, match=complaint):
        state(*elements)


@pytest.mark.parametrize(
    ("elements", "complaint"),
    [
        pytest.param([save_rules((), [TWO])], "programs that are not loaded: 9", id="a rule's program"),
        pytest.param([save_observers([Observer(0, TWO.rule.match)])], "not loaded: 9", id="an observer's program"),
        pytest.param([save_rules((), [ONE, Entry(ONE.rule, 3, 4)])], "the same place", id="match and priority"),
        pytest.param([PROGRAM, save_rules((), [ONE, Entry(TWO.rule, 3, 0)])], "the same counters", id="slot"),
        pytest.param([PROGRAM, SavedProgram(8, 0, bytes(32), "eight")], "the same counters", id="program's slot"),
    ],
)
def test_what_is_no_whole(elements: Sequence[Element], complaint: str) -> None:
    with pytest.raises(StateDamaged, match=complaint):
        state(*elements).require_whole()


def test_a_whole() -> None:
    made = state(PROGRAM, save_rules((), [ONE, TWO]), SavedEnd(2))
    made.require_whole()
    assert list(made.tables()) == [ONE, TWO]


@pytest.mark.parametrize(
    ("element", "stands"),
    [
        pytest.param(PROGRAM, True, id="a program"),
        pytest.param(save_counts({0: Count(5, 300)}), True, id="counts"),
        pytest.param(SavedEnd(0), True, id="the end of a snapshot"),
        pytest.param(save_rules((), [ONE]), False, id="rules"),
        pytest.param(save_groups({}), False, id="groups"),
        pytest.param(save_meters({}), False, id="meters"),
        pytest.param(save_observers(()), False, id="observers"),
    ],
)
def test_unknown_tables_are_so_until_some_are_written(element: Element, stands: bool) -> None:
    assert state(SavedInherited(), element).inherits is stands


def test_unknown_tables_do_not_outlive_a_boot() -> None:
    made = state(SavedInherited())
    made.begin_anew(123)
    assert not made.inherits
