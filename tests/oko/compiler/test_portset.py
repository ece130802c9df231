"""Port sets: numbers that mean what they say, and unions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oko.compiler.portset import BACK, FIRST_LIST, LIST_LIMIT, NOWHERE, WITH_INGRESS, PortSet, PortSets
from oko.errors import BadAction, LimitExceeded


def test_numbers_of_small_sets() -> None:
    sets = PortSets(4)
    assert sets.number() == NOWHERE
    assert [sets.number([port]) for port in range(4)] == [1, 2, 3, 4]
    assert sets.number(ingress=True) == BACK
    assert sets.lists == []


def test_a_list_is_one_place_and_one_with_the_ingress_port_has_a_place_for_each_port_and_for_the_controller() -> None:
    sets = PortSets(3)
    assert sets.number([0, 2]) == FIRST_LIST
    assert sets.number([1], ingress=True) == (FIRST_LIST + 1) | WITH_INGRESS
    assert sets.lists == [{0, 2}, {0, 1}, {1}, {1, 2}, {1}]
    assert sets.number([2, 0]) == FIRST_LIST, "the same set has the same number"


@given(st.lists(st.tuples(st.frozensets(st.integers(0, 3)), st.booleans()), min_size=2, max_size=8))
def test_unions_are_unions(drawn: list[tuple[frozenset[int], bool]]) -> None:
    sets = PortSets(4)
    for ports, ingress in drawn[1:]:
        one = PortSet(*drawn[0])
        other = PortSet(ports, ingress)
        numbers = sets.number(one.ports, ingress=one.ingress), sets.number(other.ports, ingress=other.ingress)
        if one.ports & other.ports or (one.ingress and other.ingress):
            with pytest.raises(BadAction, match="twice"):
                sets.union(*numbers)
            continue
        both = sets.union(*numbers)
        assert sets.get(both) == PortSet(one.ports | other.ports, one.ingress or other.ingress)
        if NOWHERE not in numbers:
            assert sets.unions[numbers] == both


def test_too_many_lists() -> None:
    sets = PortSets(256)
    pairs = [(first, second) for first in range(256) for second in range(first + 1, 256)]
    for pair in pairs[:LIST_LIMIT]:
        sets.number(pair)
    with pytest.raises(LimitExceeded) as raised:
        sets.number(pairs[LIST_LIMIT])
    assert (raised.value.used, raised.value.limit) == (LIST_LIMIT + 1, LIST_LIMIT)
