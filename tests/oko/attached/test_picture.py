"""The image of an attached bridge as its flows tell of it, and what Open vSwitch is asked about the rest."""

from __future__ import annotations

import pytest

from ofext.multipart import FlowStats
from ofext.oxm import Oxm
from oko.attached.picture import Question, continued, passed, picture
from oko.flow.action import ApplyActions, Continue, Output, Pass
from oko.flow.rule import Rule
from oko.flow.text import parse_flow_mod
from oko.wire.change import write_flow_mod

PORTS = (1, 2)


def entry(text: str, *more: Oxm) -> FlowStats:
    """A flow, with what Oko has no words for besides."""
    mod = write_flow_mod(parse_flow_mod(text, open_vswitch=True))
    return FlowStats(mod.table_id, 0, 0, mod.priority, 0, 0, 0, mod.cookie, 0, 0, (*mod.match, *more), mod.instructions)


def kinds(rule: Rule) -> list[type]:
    return [type(action) for action in rule.actions]


def test_what_the_image_holds() -> None:
    state = Oxm(0x0001, 105, bytes(4))  # ct_state of a packet that has just come in
    found = picture(
        [
            entry("priority=9,ip,filter_prog=1,actions=output:2"),
            entry("priority=8,ip,filter_prog=1,actions=output:3"),
            entry("priority=7,ip,filter_prog=1,actions=drop"),
            entry("priority=6,ip,filter_prog=1,actions=resubmit(,3)"),
            entry("priority=20,tcp,actions=ct(table=1)"),
            entry("priority=19,udp,actions=output:1", state),
            entry("priority=18,arp,actions=output:1"),
            entry("priority=5,ip,actions=output:1"),
            entry("table=1,priority=30,ip,actions=output:1"),
        ],
        PORTS,
    )
    assert {(rule.priority, tuple(kinds(rule))) for rule in found.rules} == {
        (9, (Output,)),
        (8, (Continue,)),
        (7, ()),
        (6, (Continue,)),
        (20, (Pass,)),
        (19, (Pass,)),
    }
    texts = {rule.priority: found.text(rule) for rule in found.rules}
    assert texts[20] == "the plain rule priority=20,tcp"
    assert texts[8] == "priority=8,ip,filter_prog=1 actions=output:3"
    assert texts[6] == "priority=6,ip,filter_prog=1 actions=resubmit(,3)"


QUESTIONS = {
    "actions": ("ct(commit,table=1),output:3", "ct(commit,table=1),output:3"),
    "normal": ("NORMAL", "NORMAL"),
    "goto": ("set_field:5->reg0,goto_table:3", "set_field:0x5->reg0,resubmit(,3)"),
    "meter": ("meter:1,output:3", None),
    "action set": ("write_actions(output:3)", None),
}


@pytest.mark.parametrize(("actions", "asked"), QUESTIONS.values(), ids=QUESTIONS.keys())
def test_what_is_asked_of_a_continued_packet(actions: str, asked: str | None) -> None:
    instructions = parse_flow_mod(f"actions={actions}", open_vswitch=True).rule.instructions
    expected = asked and Question(("ofproto/trace-packet-out", "br0", "in_port=1", "aabb", asked))
    assert continued("br0", 1, b"\xaa\xbb", instructions) == expected


def test_the_command_is_for_a_shell() -> None:
    assert str(passed("br0", 1, b"\xaa\xbb")) == "ovs-appctl ofproto/trace br0 in_port=1 aabb"
    question = continued("br0", 1, b"\xaa\xbb", (ApplyActions((Output(3),)),))
    assert str(question) == "ovs-appctl ofproto/trace-packet-out br0 in_port=1 aabb output:3"
