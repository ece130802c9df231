from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofext import instructions as wire
from ofext import messages
from ofext.extension import FILTER_PROG_CLASS, FILTER_PROG_FIELD, FILTER_PROG_SIZE
from ofext.messages import decode, encode
from ofext.oxm import Oxm
from oko.errors import BadMatch, FlowError
from oko.flow.fields import FILTER_PROG
from oko.flow.match import Match
from oko.flow.rule import Command, FlowMod, Rule
from oko.switch.wire import read_flow_mod, read_match, write_flow_mod, write_match
from tests.oko.flow.strategies import matches, rules

RULES = rules().filter(lambda rule: all(action.port for action in rule.actions))
DELETES = (Command.DELETE, Command.DELETE_STRICT)


@st.composite
def changes(draw: st.DrawFn) -> FlowMod:
    """Any flow_mod that a message can say."""
    command = draw(st.sampled_from(Command))
    rule = draw(RULES)
    cookie_mask = 0 if command is Command.ADD else draw(st.integers(0, 2**64 - 1))
    if command not in DELETES:
        flags = draw(st.tuples(st.booleans(), st.booleans()))
        return FlowMod(command, rule, cookie_mask, reset_counts=flags[0], check_overlap=flags[1])
    all_tables = draw(st.booleans())
    rule = replace(rule, instructions=(), table=0 if all_tables else rule.table)
    return FlowMod(command, rule, cookie_mask, all_tables, draw(st.none() | st.integers(0, 0xFFFFFFFE)))


@given(changes(), st.integers(0, 0xFFFFFFFF))
def test_flow_mod_over_the_wire(change: FlowMod, xid: int) -> None:
    message, number = decode(encode(write_flow_mod(change), xid))
    assert isinstance(message, messages.FlowMod)
    assert number == xid
    assert read_flow_mod(message) == change


@given(matches(), st.randoms(use_true_random=False))
def test_order_of_fields_does_not_matter(match: Match, random: Random) -> None:
    fields = list(write_match(match))
    random.shuffle(fields)
    assert read_match(fields) == match


def apply(*actions: wire.Action) -> messages.FlowMod:
    return messages.FlowMod(instructions=(wire.ApplyActions(actions),))


@pytest.mark.parametrize(
    ("message", "reason", "complaint"),
    [
        pytest.param(messages.FlowMod(command=9), "bad-command", "command 9", id="command"),
        pytest.param(messages.FlowMod(idle_timeout=5), "bad-timeout", "timeouts", id="idle timeout"),
        pytest.param(messages.FlowMod(hard_timeout=5), "bad-timeout", "timeouts", id="hard timeout"),
        pytest.param(messages.FlowMod(flags=1 | 4), "bad-flags", "flags 0x1 ", id="flags"),
        pytest.param(messages.FlowMod(command=3, out_group=1), "unknown", "no groups", id="out_group"),
        pytest.param(
            messages.FlowMod(match=(Oxm(0x8000, 77, b"\0"),)), "bad-field", "field 0x8000:77 is not", id="field"
        ),
        pytest.param(
            messages.FlowMod(match=(Oxm(0xFFFF, 1, bytes(4), None, 5),)), "bad-field", "experimenter 0x5", id="owner"
        ),
        pytest.param(messages.FlowMod(match=(Oxm(0x8000, 5, b"\0"),)), "bad-len", "eth_type has 2 bytes", id="size"),
        pytest.param(
            messages.FlowMod(match=(Oxm(0x8000, 5, b"\x08\0", b"\xff\0"),)), "bad-mask", "eth_type takes no", id="mask"
        ),
        pytest.param(
            messages.FlowMod(match=(Oxm(0x8000, 0, bytes(4)), Oxm(0x8000, 0, bytes(4)))),
            "dup-field",
            "in_port is matched twice",
            id="twice",
        ),
        pytest.param(
            messages.FlowMod(match=(Oxm(0x8000, 13, bytes(2)),)), "bad-prereq", "tcp_src needs", id="prerequisite"
        ),
        pytest.param(
            messages.FlowMod(instructions=(wire.Meter(1),)), "unsup-inst", "instruction Meter", id="instruction"
        ),
        pytest.param(apply(wire.UnknownAction(25, bytes(4))), "bad-type", "action UnknownAction", id="action"),
        pytest.param(apply(wire.Output(0)), "bad-out-port", "port 0x0 ", id="port 0"),
        pytest.param(apply(wire.Output(0xFFFFFFFD)), "bad-out-port", "reserved port 0xfffffffd", id="controller"),
    ],
)
def test_what_this_switch_does_not_do(message: messages.FlowMod, reason: str, complaint: str) -> None:
    with pytest.raises(FlowError, match=complaint) as caught:
        read_flow_mod(message)
    assert caught.value.reason == reason


def test_a_delete_ignores_instructions() -> None:
    message = messages.FlowMod(command=3, instructions=(wire.GotoTable(1),))
    assert read_flow_mod(message) == FlowMod(Command.DELETE, Rule(Match()))


def test_a_mask_of_zeros_is_no_condition() -> None:
    assert read_match([Oxm(0x8000, 3, bytes(6), bytes(6))]) == Match()
    with pytest.raises(BadMatch):
        read_match([Oxm(0x8000, 3, b"\1" + bytes(5), bytes(6))])


def test_filter_prog_has_the_number_that_the_extension_gives_it() -> None:
    """Neither room may import the other, so the number stands in both."""
    ours = (FILTER_PROG.oxm_class, FILTER_PROG.oxm_field, FILTER_PROG.size, FILTER_PROG.maskable)
    assert ours == (FILTER_PROG_CLASS, FILTER_PROG_FIELD, FILTER_PROG_SIZE, False)
