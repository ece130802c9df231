from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oko.errors import FlowError, ProtocolError
from oko.flow.action import ApplyActions, Continue, Pass
from oko.flow.match import Match
from oko.flow.rule import Entry, Rule
from oko.switch.datapath import Count
from oko.switch.saved import (
    ELEMENTS,
    Element,
    SavedInherited,
    SavedProgram,
    SavedRules,
    read_record,
    save_counts,
    save_rules,
    write_record,
)
from tests.oko.flow.strategies import rules

U32 = st.integers(0, (1 << 32) - 1)
U64 = st.integers(0, (1 << 64) - 1)


@given(st.builds(Entry, rules(), U64, U32, U64))
def test_rules_are_read_as_they_were_written(entry: Entry) -> None:
    (element,) = read_record(write_record([save_rules([entry], [entry])]))
    assert isinstance(element, SavedRules)
    assert (element.removed, element.added) == (((entry.age,),), (entry,))


@pytest.mark.parametrize(
    "action", [Pass(), Continue(1), Continue(0xFFFFFE, b"\1"), Continue(7, bytes(range(256)))], ids=str
)
def test_what_leaves_a_packet_to_open_vswitch(action: Pass | Continue) -> None:
    entry = Entry(Rule(Match(), (ApplyActions((action,)),)), 1, 2, 3)
    (element,) = read_record(write_record([save_rules((), [entry])]))
    assert isinstance(element, SavedRules)
    assert element.added == (entry,)


def test_elements_follow_each_other() -> None:
    elements: list[Element] = [
        SavedProgram(1, 2, bytes(32), "näme"),
        save_counts({3: Count(4, 5)}),
        SavedInherited(),
        save_rules((), ()),
    ]
    assert list(read_record(write_record(elements))) == elements


@given(st.builds(Entry, rules(), U64, U32, U64), st.data())
def test_other_bytes_are_refused(entry: Entry, data: st.DataObject) -> None:
    """What has a right check sum and was not written by this Oko: no exception but those that say so."""
    record = bytearray(write_record([save_rules((), [entry]), save_counts({3: Count(4, 5)})]))
    record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(record)))
    with contextlib.suppress(ProtocolError, FlowError):
        assert all(type(element) in ELEMENTS.numbers for element in read_record(bytes(record[:cut])))
