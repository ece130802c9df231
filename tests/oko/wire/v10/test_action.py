from __future__ import annotations

import pytest
from hypothesis import assume, given

from ofext.instructions import UnknownAction
from ofext.v10 import actions as wire
from oko.errors import BadAction, FlowError, NotExpressible
from oko.flow.action import ApplyActions, PushVlan
from oko.flow.consistency import check_instructions
from oko.flow.match import Match
from oko.flow.rule import Rule
from oko.flow.text import parse_rule
from oko.flow.validity import check_rule
from oko.wire.v10.action import ACTION_TYPES, read_actions, read_packet_actions, write_actions
from tests.oko.flow.strategies import rules
from tests.oko.flow.written import match


@given(rules())
def test_there_and_back(rule: Rule) -> None:
    """A pushed tag has the VID 0, which 1.0 has to say: what comes back may set it."""
    try:
        check_rule(rule)
        check_instructions(rule.match, rule.instructions)
        written = write_actions(rule.instructions, rule.match)
    except (FlowError, NotExpressible):
        assume(False)
    again = read_actions(written, rule.match)
    assert again == rule.instructions or any(
        isinstance(action, PushVlan) for item in again if isinstance(item, ApplyActions) for action in item.actions
    )
    assert write_actions(again, rule.match) == written


UNTAGGED = "vlan_vid=0"
TAGGED = "vlan_vid=0x1000/0x1000"


@pytest.mark.parametrize(
    ("flow", "actions"),
    [
        pytest.param("actions=drop", [], id="drop"),
        pytest.param("actions=output:1,IN_PORT", [wire.Output(1), wire.Output(0xFFF8)], id="output"),
        pytest.param("actions=CONTROLLER", [wire.Output(0xFFFD)], id="controller"),
        pytest.param(f"{TAGGED},actions=set_field:4101->vlan_vid", [wire.SetVlanVid(5)], id="VID"),
        pytest.param(f"{TAGGED},actions=pop_vlan", [wire.StripVlan()], id="strip"),
        pytest.param(
            f"{UNTAGGED},actions=push_vlan:0x8100,set_field:4101->vlan_vid,set_field:3->vlan_pcp",
            [wire.SetVlanVid(5), wire.SetVlanPcp(3)],
            id="a new tag",
        ),
        pytest.param(
            f"{UNTAGGED},actions=push_vlan:0x8100,set_field:3->vlan_pcp", [wire.SetVlanPcp(3)], id="a new priority"
        ),
        pytest.param("actions=set_field:2:0:0:0:0:1->eth_src", [wire.SetDlSrc(b"\2\0\0\0\0\1")], id="address"),
        pytest.param("ip,actions=set_field:10.0.0.1->ip_dst", [wire.SetNwDst(0x0A000001)], id="IPv4 address"),
        pytest.param("ipv6,actions=set_field:5->ip_dscp", [wire.SetNwTos(20)], id="DSCP"),
        pytest.param("udp,actions=set_field:5->udp_src", [wire.SetTpSrc(5)], id="port of UDP"),
        pytest.param("tcp6,actions=set_field:5->tcp_dst", [wire.SetTpDst(5)], id="port of TCP"),
        pytest.param("ip,actions=set_field:3->ip_ecn", [wire.RegLoad(1, 0x00013801, 3)], id="ECN"),
        pytest.param("ip,actions=mod_nw_ttl:4", [wire.RegLoad(7, 0x00013A01, 4)], id="TTL"),
        pytest.param(
            "ipv6,actions=set_field:1:2:3:4:5:6:7:8->ipv6_src",
            [
                wire.RegLoad(0x003F, 0x00012610, 0x0005000600070008),
                wire.RegLoad(0x103F, 0x00012610, 0x0001000200030004),
            ],
            id="IPv6 address",
        ),
        pytest.param("ip,actions=dec_ttl,group:7", [wire.DecTtl(), wire.Group(7)], id="same on both sides"),
        pytest.param("actions=write_metadata:5/7", [wire.WriteMetadata(5, 7)], id="metadata"),
        pytest.param(
            "actions=output:1,goto_table:3", [wire.Output(1), wire.ResubmitTable(0xFFF8, 3)], id="the table to go on in"
        ),
    ],
)
def test_what_actions_become(flow: str, actions: list[wire.Action]) -> None:
    rule = parse_rule(flow)
    assert list(write_actions(rule.instructions, rule.match)) == actions
    assert read_actions(actions, rule.match) == rule.instructions


def test_a_tag_without_anything_in_it() -> None:
    rule = parse_rule(f"{UNTAGGED},actions=push_vlan:0x8100,output:1")
    assert write_actions(rule.instructions, rule.match) == (wire.SetVlanVid(0), wire.Output(1))


@pytest.mark.parametrize(
    "flow",
    [
        "actions=meter:1",
        "actions=clear_actions",
        "actions=write_actions(output:1)",
        "actions=write_metadata:1,goto_table:3",
        "actions=output:70000",
        "actions=push_vlan:0x8100,output:1",
        f"{UNTAGGED},actions=push_vlan:0x88a8,output:1",
        f"{TAGGED},actions=push_vlan:0x8100,output:1",
        "mpls,actions=copy_ttl_in",
    ],
)
def test_what_has_no_words(flow: str) -> None:
    rule = parse_rule(flow)
    with pytest.raises(NotExpressible):
        write_actions(rule.instructions, rule.match)


LOW = wire.RegLoad(0x003F, 0x00012610, 1)


@pytest.mark.parametrize(
    ("actions", "reason"),
    [
        pytest.param([wire.Output(0)], "bad-out-port", id="port 0"),
        pytest.param([wire.SetVlanVid(5)], "match-inconsistent", id="a tag, perhaps"),
        pytest.param([wire.SetVlanPcp(5)], "match-inconsistent", id="a priority, perhaps"),
        pytest.param([wire.SetTpSrc(5)], "match-inconsistent", id="a port of what"),
        pytest.param([wire.SetNwTos(1)], "bad-argument", id="ECN in the TOS"),
        pytest.param([wire.Enqueue(1, 2)], "bad-queue", id="queue"),
        pytest.param([wire.ResubmitTable(1, 2)], "bad-argument", id="another port's packet"),
        pytest.param([wire.ResubmitTable(0xFFF8, 2), wire.Output(1)], "unsupported-order", id="and back again"),
        pytest.param([wire.WriteMetadata(1, 1), wire.ResubmitTable(0xFFF8, 2)], "unsupported-order", id="both ends"),
        pytest.param([wire.VendorAction(0x2320, bytes(8))], "bad-exp-type", id="vendor's"),
        pytest.param([UnknownAction(77, bytes(4))], "bad-type", id="unknown"),
        pytest.param([wire.RegLoad(31, 0x00010004, 1)], "bad-set-type", id="register"),
        pytest.param([wire.RegLoad(7, 0x00000206, 1)], "bad-set-argument", id="part of a field"),
        pytest.param([wire.RegLoad(1, 0x00013801, 4)], "bad-set-argument", id="too much for a field"),
        pytest.param([LOW], "bad-set-argument", id="half of an address"),
        pytest.param([LOW, LOW], "bad-set-argument", id="the same half twice"),
    ],
)
def test_actions_that_are_not_done(actions: list[wire.Action], reason: str) -> None:
    with pytest.raises(BadAction) as caught:
        read_actions(actions, Match())
    assert caught.value.reason == reason


def test_actions_on_a_packet() -> None:
    assert read_packet_actions([], Match()) == ()
    tagged = match("vlan_vid=0x1005")
    assert (
        read_packet_actions([wire.StripVlan(), wire.Output(1)], tagged)
        == parse_rule("dl_vlan=5,actions=pop_vlan,output:1").actions
    )
    for end in (wire.ResubmitTable(0xFFF8, 2), wire.WriteMetadata(1, 1)):
        with pytest.raises(BadAction):
            read_packet_actions([wire.Output(1), end], Match())
        with pytest.raises(BadAction):
            read_packet_actions([end], Match())


def test_all_but_enqueue() -> None:
    assert list(ACTION_TYPES) == list(range(11))
