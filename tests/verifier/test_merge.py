from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from verifier.merge import KEPT, covers, join, reduce
from verifier.scalar import Scalar
from verifier.state import Frame, Place, Slot, State, Step
from verifier.values import (
    CONTEXT,
    PACKET_END,
    UNSET,
    MapPointer,
    MapValue,
    MapValueOrNull,
    Number,
    Packet,
    Record,
    RecordOrNull,
    Stack,
    Unset,
    Value,
)

RECORD = 90
FRESH = 1000
"""Identities from here on are given by joins."""

SCALARS = st.one_of(
    st.sampled_from(
        [Scalar.constant(0), Scalar.constant(14), Scalar.unknown(), Scalar.of_width(1), Scalar.of_width(4)]
    ),
    st.tuples(st.integers(0, 40), st.integers(0, 40)).map(lambda ends: Scalar.between(min(ends), max(ends))),
)
PLACES = st.builds(Place, SCALARS.filter(lambda scalar: scalar.umax < 300), st.integers(0, 40))
OFFSETS = st.integers(0, 8).map(Scalar.constant)


@st.composite
def states(draw: st.DrawFn, depth: int | None = None, records: bool = False, lock: int | None = None) -> State:
    """A state, of `depth` functions if that is given, in which the same identity means the same value, as tracking
    makes them."""
    numbers = draw(st.lists(SCALARS, min_size=3, max_size=3))
    values: list[Value] = [
        UNSET,
        Unset("lost in a call"),
        CONTEXT,
        PACKET_END,
        MapPointer("m"),
        *(Number(scalar) for scalar in numbers),
        *(Number(scalar, number) for number, scalar in enumerate(numbers, start=1)),
        *(Packet(base, offset) for base in (0, 1, 2) for offset in (0, 14, 18)),
        *(MapValue(name, draw(OFFSETS), id) for name in "mn" for id in (0, 4, 5)),
        *(MapValueOrNull(name, id) for name in "mn" for id in (6, 7)),
        Stack(0, -8),
        Stack(0, -16),
        *((Record(16, draw(OFFSETS), RECORD), RecordOrNull(16, RECORD)) if records else ()),
    ]
    frames = []
    for function in range(depth or draw(st.integers(1, 2))):
        registers = draw(st.lists(st.sampled_from(values), min_size=10, max_size=10))
        stack = {offset: draw(slots(values)) for offset in draw(st.sets(st.sampled_from([-8, -16, -24])))}
        frames.append(Frame([*registers, Stack(function, 0)], stack, function, function))
    places = {0: Place(Scalar.constant(0), draw(st.integers(0, 40))), 1: draw(PLACES), 2: draw(PLACES)}
    way = draw(st.sampled_from([None, Step(1, True, None, 1), Step(2, False, Step(1, True, None, 1), 2)]))
    return State(frames, places, frozenset({RECORD} if records else ()), lock, way)


@st.composite
def slots(draw: st.DrawFn, values: list[Value]) -> Slot:
    written = draw(st.integers(0, 255))
    value = draw(st.sampled_from([None, *values]))
    if value is None:
        return Slot(written, written & draw(st.integers(0, 255)))
    if not isinstance(value, Number):
        return Slot(255, 0, value)
    size = draw(st.sampled_from([1, 2, 4, 8]))
    low = (1 << size) - 1
    written |= low
    zero = low if value.scalar == Scalar.constant(0) else 0
    return Slot(written, zero | written & ~low & draw(st.integers(0, 255)), value, size)


@st.composite
def alike(draw: st.DrawFn, number: int) -> list[State]:
    """States that may be joined."""
    records, lock = draw(st.booleans()), draw(st.sampled_from([None, 4]))
    depth = draw(st.integers(1, 2))
    return [draw(states(depth, records, lock)) for _ in range(number)]


def fresh() -> Iterator[int]:
    return count(FRESH)


def positions(state: State) -> dict[tuple[int, str, int], Value]:
    """Every value that a state holds, by where it is."""
    found = {}
    for number, frame in enumerate(state.frames):
        for register, value in enumerate(frame.registers):
            found[number, "r", register] = value
        for offset, slot in frame.stack.items():
            if slot.value is not None:
                found[number, "s", offset] = slot.value
    return found


@given(alike(2))
def test_a_join_covers_both(pair: list[State]) -> None:
    one, other = pair
    both = join(one, other, fresh().__next__)
    assert covers(both, one)
    assert covers(both, other)


@given(alike(2))
def test_a_join_ties_and_proves_only_what_both_do(pair: list[State]) -> None:
    both = join(*pair, fresh().__next__)
    held = positions(both)
    for state in pair:
        before = positions(state)
        for (here, value), (there, tied) in combinations(held.items(), 2):
            if isinstance(value, Number) and isinstance(tied, Number) and value.id and value.id == tied.id:
                assert before[here] == before[there]
            if isinstance(value, MapValueOrNull) and value == tied:
                assert getattr(before[here], "id", None) == getattr(before[there], "id", None)
            if isinstance(value, Packet) and isinstance(tied, Packet) and value.base == tied.base:
                mine, theirs = before[here], before[there]
                assert isinstance(mine, Packet)
                assert isinstance(theirs, Packet)
                assert mine.base == theirs.base
                assert mine.offset - theirs.offset == value.offset - tied.offset
        for here, value in held.items():
            if isinstance(value, Packet):
                mine = before[here]
                assert isinstance(mine, Packet)
                behind = both.places[value.base].safe - value.offset
                assert behind <= 0 - value.offset or behind <= state.places[mine.base].safe - mine.offset


@given(alike(2))
def test_identities_of_a_join_do_not_collide(pair: list[State]) -> None:
    """What a join names anew, nothing else is called; what keeps its name kept it on both sides."""
    both = join(*pair, fresh().__next__)
    one, other = (positions(state) for state in pair)
    for here, value in positions(both).items():
        if isinstance(value, Number | MapValue) and 0 < value.id < FRESH:
            assert getattr(one[here], "id", None) == getattr(other[here], "id", None) == value.id


@given(states(records=True, lock=4))
def test_a_state_covers_itself(state: State) -> None:
    assert covers(state, state)
    assert covers(state, state.copy())


@given(alike(3))
def test_covering_is_transitive(three: list[State]) -> None:
    one, other, third = three
    numbers = fresh().__next__
    small = join(one, other, numbers)
    large = join(small, third, numbers)
    assert covers(large, one)
    for left in three:
        if covers(left, one) and covers(other, left):
            assert covers(other, one)


@given(alike(2))
def test_what_does_not_cover_is_not_said_to(pair: list[State]) -> None:
    """Against what covering must mean for each register by itself."""
    general, special = pair
    if not covers(general, special):
        return
    mine, theirs = positions(general), positions(special)
    for here, wide in mine.items():
        narrow = theirs.get(here)
        if isinstance(wide, Number):
            assert isinstance(narrow, Number)
            assert wide.scalar.covers(narrow.scalar)
        elif isinstance(wide, Packet):
            assert isinstance(narrow, Packet)
            assert general.places[wide.base].safe <= special.places[narrow.base].safe


@settings(max_examples=30)  # each compares hundreds of pairs
@given(st.integers(1, 24).flatmap(alike))
def test_reduce_keeps_few_that_cover_all(found: list[State]) -> None:
    kept = reduce(found, fresh().__next__)
    assert len(kept) <= KEPT
    assert all(any(covers(one, state) for one in kept) for state in found)


def state(*values: Value, safe: int = 0, lock: int | None = None) -> State:
    """A state whose first registers hold these; place 1 has `safe` bytes."""
    registers = [*values, *[UNSET] * (10 - len(values)), Stack(0, 0)]
    places = {0: Place(Scalar.constant(0), 0), 1: Place(Scalar.between(0, 60), safe)}
    return State([Frame(registers)], places, lock=lock)


NUMBER = Scalar.between(0, 9)

# name → a state, and one that it must not be taken to cover
APART: dict[str, tuple[State, State]] = {
    "tie-of-untied": (state(Number(NUMBER, 1), Number(NUMBER, 1)), state(Number(NUMBER), Number(NUMBER))),
    "tie-of-others": (state(Number(NUMBER, 1), Number(NUMBER, 1)), state(Number(NUMBER, 2), Number(NUMBER, 3))),
    "tie-of-the-same-object": (
        state(*[Number(NUMBER, 1)] * 2),
        state(Number(NUMBER, 1), Number(NUMBER, 2)),
    ),
    "checked-place": (state(Packet(1, 0), safe=8), state(Packet(1, 0), safe=4)),
    "packet-start": (state(Packet(0, 0)), state(Packet(1, 0))),
    "other-offset": (state(Packet(0, 0)), state(Packet(0, 4))),
    "lock-of-another": (
        state(MapValue("m", Scalar.constant(0), 4), lock=4),
        state(MapValue("m", Scalar.constant(0), 5), lock=4),
    ),
    "lock": (state(lock=4), state()),
    "null": (state(MapValue("m", Scalar.constant(0), 4)), state(MapValueOrNull("m", 4))),
    "other-map": (state(MapValueOrNull("m", 4)), state(MapValueOrNull("n", 4))),
    "null-ties": (state(*[MapValueOrNull("m", 4)] * 2), state(MapValueOrNull("m", 4), MapValueOrNull("m", 5))),
    "record-size": (state(Record(16, Scalar.constant(0), 4)), state(Record(8, Scalar.constant(0), 4))),
}


@pytest.mark.parametrize(("general", "special"), APART.values(), ids=list(APART))
def test_does_not_cover(general: State, special: State) -> None:
    assert not covers(general, special)


def test_the_same_object_at_a_place_that_is_checked_on_one_way_only() -> None:
    """Copies of a state share the values, not what is proved of them."""
    unchecked = state(Packet(1, 0))
    checked = unchecked.copy()
    checked.learn_safe(Packet(1, 4), 4)
    assert covers(unchecked, checked)
    assert not covers(checked, unchecked)
    assert reduce([checked, unchecked], fresh().__next__)[0].places[1].safe == 0


def test_pointers_the_same_distance_apart_share_their_place() -> None:
    joined = join(state(Packet(0, 14), Packet(0, 34)), state(Packet(0, 18), Packet(0, 38)), fresh().__next__)
    first, second = joined.registers[:2]
    assert isinstance(first, Packet)
    assert isinstance(second, Packet)
    assert first.base == second.base != 0
    assert second.offset - first.offset == 20


def test_a_checked_and_an_unchecked_record_are_unchecked() -> None:
    one, other = state(Record(16, Scalar.constant(0), 4)), state(RecordOrNull(16, 4))
    assert join(one, other, fresh().__next__).registers[0] == RecordOrNull(16, 4)
