from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofext import instructions as wire
from ofext.oxm import Oxm
from oko.errors import BadAction, BadInstruction
from oko.flow.action import Action, ApplyActions, GotoTable, Instruction, Meter, Output, WriteMetadata
from oko.flow.match import Match
from oko.flow.rule import Rule
from oko.wire.action import (
    ACTION_TYPES,
    read_actions,
    read_instructions,
    write_actions,
    write_instructions,
)
from tests.oko.flow.strategies import actions, instructions


def sendable(done: tuple[Action, ...]) -> bool:
    """Whether a message can say these: port 0 is none."""
    return Output(0) not in done


@given(st.lists(actions(), max_size=6).map(tuple).filter(sendable))
def test_actions_come_back(done: tuple[Action, ...]) -> None:
    assert read_actions(write_actions(done)) == done


@given(instructions(Match()).filter(lambda done: sendable(Rule(Match(), done).actions)), st.randoms())
def test_instructions_come_back_in_their_order(done: tuple[Instruction, ...], random: Random) -> None:
    written = list(write_instructions(done))
    random.shuffle(written)
    assert read_instructions(written) == done


def test_what_does_nothing_is_left_out() -> None:
    assert read_instructions([wire.ApplyActions(), wire.GotoTable(3)]) == (GotoTable(3),)


def test_order_of_instructions() -> None:
    read = read_instructions(
        [wire.GotoTable(3), wire.WriteMetadata(1, 2), wire.ApplyActions((wire.Output(1),)), wire.Meter(4)]
    )
    assert read == (Meter(4), ApplyActions((Output(1),)), WriteMetadata(1, 2), GotoTable(3))


@pytest.mark.parametrize(
    ("action", "reason", "complaint"),
    [
        pytest.param(wire.Output(0), "bad-out-port", "port 0", id="port 0"),
        pytest.param(wire.SetQueue(1), "bad-queue", "no queues", id="queue"),
        pytest.param(wire.PushPbb(0x88E7), "bad-type", "PushPbb", id="PBB"),
        pytest.param(wire.UnknownAction(77, bytes(4)), "bad-type", "action 77", id="unknown"),
        pytest.param(wire.ExperimenterAction(0x2320), "bad-experimenter", "0x2320", id="experimenter"),
        pytest.param(wire.SetField(Oxm(0x8000, 3, bytes(4))), "bad-set-len", "6 bytes", id="field"),
    ],
)
def test_actions_that_are_not_done(action: wire.Action, reason: str, complaint: str) -> None:
    with pytest.raises(BadAction, match=complaint) as caught:
        read_actions([action])
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("given_", "reason"),
    [
        pytest.param([wire.UnknownInstruction(9, bytes(4))], "unknown-inst", id="unknown"),
        pytest.param([wire.ExperimenterInstruction(0x2320)], "bad-experimenter", id="experimenter"),
        pytest.param([wire.GotoTable(1), wire.GotoTable(2)], "unsup-inst", id="twice"),
    ],
)
def test_instructions_that_are_not_done(given_: list[wire.Instruction], reason: str) -> None:
    with pytest.raises(BadInstruction) as caught:
        read_instructions(given_)
    assert caught.value.reason == reason


def test_numbers_of_actions() -> None:
    assert ACTION_TYPES == (0, 11, 12, 15, 16, 17, 18, 19, 20, 22, 23, 24, 25)
