from __future__ import annotations

import pytest

from verifier.scalar import Scalar
from verifier.state import Slot, State
from verifier.values import CONTEXT, MapValue, MapValueOrNull, Number, Packet, Record, RecordOrNull, Unset, Value

ZERO = Number(Scalar.constant(0))
SMALL = Number(Scalar.between(0, 9), 5)

# name → stores (offset, size, value), then a load (offset, size) and what it gives
LOADS: dict[str, tuple[list[tuple[int, int, Value | None]], tuple[int, int], Value | None]] = {
    "never-written": ([], (-8, 8), None),
    "whole-number": ([(-8, 8, SMALL)], (-8, 8), SMALL),
    "whole-pointer": ([(-8, 8, CONTEXT)], (-8, 8), CONTEXT),
    "part-of-pointer": ([(-8, 8, CONTEXT)], (-4, 4), Unset("a part of a pointer")),
    "low-half-of-number": ([(-8, 8, SMALL)], (-8, 4), Number(Scalar.of_width(4))),
    "high-half-of-number": ([(-8, 8, SMALL)], (-4, 4), Number(Scalar.of_width(4))),
    "low-half-as-written": ([(-8, 4, SMALL)], (-8, 4), SMALL),
    "whole-of-half": ([(-8, 4, SMALL)], (-8, 8), None),
    "two-halves": ([(-8, 4, SMALL), (-4, 4, SMALL)], (-8, 8), Number(Scalar.unknown())),
    "overwritten-in-part": ([(-8, 8, SMALL), (-6, 2, SMALL)], (-8, 8), Number(Scalar.unknown())),
    "rest-of-overwritten-pointer": ([(-8, 8, CONTEXT), (-8, 4, ZERO)], (-4, 4), None),
    "zero": ([(-8, 8, ZERO)], (-5, 1), ZERO),
    "zeros-together": ([(-8, 4, ZERO), (-4, 4, ZERO)], (-8, 8), ZERO),
    "zero-overwritten": ([(-8, 8, ZERO), (-7, 1, SMALL)], (-8, 4), Number(Scalar.of_width(4))),
    "zero-beside-overwritten": ([(-8, 8, ZERO), (-7, 1, SMALL)], (-4, 4), ZERO),
    "zero-overwritten-by-a-helper": ([(-8, 8, ZERO), (-8, 4, None)], (-8, 1), Number(Scalar.of_width(1))),
    "helper-across-slots": ([(-14, 10, None)], (-8, 4), Number(Scalar.of_width(4))),
    "helper-up-to-here": ([(-14, 10, None)], (-4, 1), None),
    "helper-from-there": ([(-14, 10, None)], (-16, 2), None),
}


@pytest.mark.parametrize(("stores", "load", "expected"), LOADS.values(), ids=list(LOADS))
def test_stack(stores: list[tuple[int, int, Value | None]], load: tuple[int, int], expected: Value | None) -> None:
    state = State.at_entry()
    for offset, size, value in stores:
        state.write_stack(0, offset, size, value)
    assert state.read_stack(0, *load) == expected
    assert bool(state.unwritten(0, *load)) == (expected is None)


def test_pointer_in_finds_pointers_in_every_slot_that_is_touched() -> None:
    state = State.at_entry()
    state.write_stack(0, -16, 8, SMALL)
    state.write_stack(0, -8, 8, CONTEXT)
    assert state.pointer_in(0, -16, 8) is None
    assert state.pointer_in(0, -12, 5) == CONTEXT
    assert state.pointer_in(0, -24, 24) == CONTEXT


def test_a_copy_is_independent() -> None:
    state = State.at_entry()
    copy = state.copy()
    copy.registers[3] = SMALL
    copy.write_stack(0, -8, 8, SMALL)
    copy.learn_safe(Packet(0, 4), 4)
    assert state.registers[3] == Unset()
    assert state.frame.stack == {}
    assert state.places[0].safe == 0


def test_what_is_learnt_of_a_number_holds_for_its_copies_only() -> None:
    state = State.at_entry()
    other = Number(SMALL.scalar, 6)
    state.registers[2:5] = [SMALL, other, Number(SMALL.scalar)]
    state.write_stack(0, -8, 8, SMALL)
    state.learn_number(SMALL, Scalar.constant(3))
    assert state.registers[2] == state.read_stack(0, -8, 8) == Number(Scalar.constant(3), 5)
    assert state.registers[3:5] == [other, Number(SMALL.scalar)]


@pytest.mark.parametrize("is_null", [True, False])
def test_what_is_learnt_of_a_lookup_holds_for_its_copies_only(is_null: bool) -> None:
    state = State.at_entry()
    known, other = MapValueOrNull("m", 5), MapValueOrNull("m", 6)
    state.registers[2:4] = [known, other]
    state.write_stack(0, -8, 8, known)
    state.learn_null(known, is_null)
    expected = ZERO if is_null else MapValue("m", Scalar.constant(0), 5)
    assert state.registers[2] == state.read_stack(0, -8, 8) == expected
    assert state.registers[3] == other


@pytest.mark.parametrize("is_null", [True, False])
def test_a_record_that_is_null_need_not_be_released(is_null: bool) -> None:
    state = State.at_entry()
    state.records = frozenset({5, 6})
    state.registers[2] = RecordOrNull(16, 5)
    state.learn_null(RecordOrNull(16, 5), is_null)
    assert state.registers[2] == (ZERO if is_null else Record(16, Scalar.constant(0), 5))
    assert state.records == ({6} if is_null else {5, 6})


def test_a_place_that_is_too_far_in_proves_nothing() -> None:
    state = State.at_entry()
    state.learn_safe(Packet(0, 0xFFFF), 0xFFFF)
    assert state.places[0].safe == 0xFFFF
    state.learn_safe(Packet(0, 0x10000), 0x10000)
    assert state.places[0].safe == 0xFFFF


def test_a_weaker_check_takes_nothing_away() -> None:
    state = State.at_entry()
    state.learn_safe(Packet(0, 40), 40)
    state.learn_safe(Packet(0, 14), 14)
    assert state.places[0].safe == 40


def test_places_of_spilled_pointers_are_kept() -> None:
    state = State.at_entry()
    state.places[4] = state.places[5] = state.places[0]
    state.write_stack(0, -8, 8, Packet(4, 0))
    state.forget_places()
    assert 4 in state.places
    assert 5 not in state.places


def test_forgetting_spares_the_frame_pointer_and_what_is_live() -> None:
    state = State.at_entry()
    state.registers[6] = SMALL
    state.forget(~(1 << 1))
    assert state.registers[1] == CONTEXT
    assert state.registers[6] == Unset()
    assert state.registers[10] != Unset()


def test_a_slot_without_a_value_has_the_size_of_a_register() -> None:
    state = State.at_entry()
    state.write_stack(0, -4, 4, SMALL)
    assert state.frame.stack == {-8: Slot(0xF0)}


def test_arguments_are_lost_in_a_call() -> None:
    state = State.at_entry()
    state.registers[0:10] = [SMALL] * 10
    state.lose_arguments(12)
    lost = [
        number
        for number, value in enumerate(state.registers)
        if value == Unset("lost in the call at instruction 12", 12)
    ]
    assert lost == [1, 2, 3, 4, 5]
