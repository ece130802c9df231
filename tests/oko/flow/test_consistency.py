"""Whether instructions fit a match: named cases, and Open vSwitch's opinion of them."""

from __future__ import annotations

import pytest

from oko.errors import BadAction, BadInstruction
from oko.flow.action import (
    ApplyActions,
    ClearActions,
    GotoTable,
    Instruction,
    Meter,
    Output,
    PushMpls,
    SetField,
    WriteActions,
    WriteMetadata,
)
from oko.flow.action_text import read_instructions
from oko.flow.consistency import Known, check_instructions, in_order
from oko.flow.fields import BY_NAME
from oko.flow.match import Match
from oko.flow.text import parse_selection
from tests.oko.flow.conftest import OvsOfctl


def check(match_text: str, actions_text: str) -> None:
    match = parse_selection(match_text).rule.match
    check_instructions(match, read_instructions(actions_text, Known(match)))


FITS = {
    "outputs and groups": ("", "output:1,group:2,controller"),
    "addresses of any frame": ("", "set_field:2:0:0:0:0:1->eth_src"),
    "IPv4": ("ip", "set_field:1.2.3.4->ip_src,dec_ttl,mod_nw_ttl:3,set_field:1->ip_dscp"),
    "IPv6": ("ipv6", "set_field:::1->ipv6_src,dec_ttl,set_field:1->nw_ecn"),
    "ports": ("udp6", "set_field:1->udp_src"),
    "a tag that is matched": ("dl_vlan=5", "set_field:3->vlan_pcp,set_field:0x1006->vlan_vid,pop_vlan"),
    "a tag written without its bit": ("dl_vlan=5", "set_field:6->vlan_vid,set_field:3->vlan_pcp"),
    "any tag": ("vlan_vid=0x1000/0x1000", "pop_vlan"),
    "a tag that is pushed": ("", "push_vlan:0x8100,set_field:3->vlan_pcp,pop_vlan"),
    "tag upon tag": ("dl_vlan=5", "push_vlan:0x88a8,pop_vlan,pop_vlan"),
    "IP behind a pushed tag": ("ip", "push_vlan:0x8100,dec_ttl"),
    "IP behind a popped tag": ("ip,dl_vlan=5", "pop_vlan,dec_ttl"),
    "a label that is matched": ("mpls", "dec_mpls_ttl,set_mpls_ttl:3,set_field:1->mpls_tc,pop_mpls:0x0800"),
    "a label that is pushed": ("ip", "push_mpls:0x8848,set_field:1->mpls_label,dec_mpls_ttl"),
    "label upon label": ("mpls", "push_mpls:0x8847,pop_mpls:0x8847,pop_mpls:0x0800"),
    "IP behind a popped label": ("mpls", "pop_mpls:0x86dd,dec_ttl,set_field:::1->ipv6_dst"),
    "a tag before a label": ("mpls,dl_vlan=5", "pop_mpls:0x0800,set_field:0x1006->vlan_vid"),
    "neighbour discovery": ("icmp6,icmp_type=135", "set_field:::1->nd_target,set_field:2:0:0:0:0:1->nd_sll"),
    "ARP": ("arp", "set_field:2->arp_op,set_field:1.2.3.4->arp_spa"),
}


@pytest.mark.parametrize(("match", "actions"), FITS.values(), ids=FITS.keys())
def test_fits(ovs_ofctl: OvsOfctl, match: str, actions: str) -> None:
    check(match, actions)
    assert ovs_ofctl("-O", "OpenFlow13", "parse-flow", f"{match},actions={actions}").returncode == 0


MISFITS = {
    "no IP": ("", "dec_ttl", "dec_ttl needs eth_type"),
    "ARP has no TTL": ("arp", "mod_nw_ttl:3", "set_ttl needs eth_type"),
    "another version of IP": ("ipv6", "set_field:1.2.3.4->ip_src", "set_field ipv4_src needs eth_type=0x0800"),
    "another protocol": ("tcp", "set_field:1->udp_src", "set_field udp_src needs ip_proto=17"),
    "perhaps no tag": ("", "pop_vlan", "pop_vlan needs vlan_vid=0x1000/0x1000"),
    "surely no tag": ("vlan_vid=0", "pop_vlan", "pop_vlan needs"),
    "no tag to write": ("", "set_field:0x1005->vlan_vid", "set_field vlan_vid needs"),
    "a tag too many": ("dl_vlan=5", "pop_vlan,pop_vlan", "pop_vlan needs"),
    "pushed and popped": ("", "push_vlan:0x8100,pop_vlan,set_field:1->vlan_pcp", "set_field vlan_pcp needs"),
    "no label": ("ip", "dec_mpls_ttl", "dec_mpls_ttl needs eth_type=0x8847"),
    "IP behind a label": ("ip", "push_mpls:0x8847,dec_ttl", "dec_ttl needs"),
    "ports behind a label": ("tcp", "push_mpls:0x8847,pop_mpls:0x0800,set_field:1->tcp_src", "needs ip_proto=6"),
    "popped to something else": ("mpls", "pop_mpls:0x0806,dec_ttl", "dec_ttl needs"),
    "popped to a tag": ("mpls", "pop_mpls:0x8100,pop_vlan", "pop_vlan needs"),
}
"""What Open vSwitch refuses, too."""

STRICTER = {
    "a tag behind a pushed label": ("ip,dl_vlan=5", "push_mpls:0x8847,pop_vlan", "pop_vlan needs"),
    "another type of neighbour discovery": (
        "icmp6,icmp_type=135",
        "set_field:136->icmpv6_type,set_field:2:0:0:0:0:1->nd_sll",
        "set_field ipv6_nd_sll needs icmpv6_type=135",
    ),
    "no label to copy to": ("ip", "copy_ttl_out", "copy_ttl_out needs"),
    "no label to copy from": ("ip", "copy_ttl_in", "copy_ttl_in needs"),
}


@pytest.mark.parametrize(
    ("match", "actions", "message"), (MISFITS | STRICTER).values(), ids=(MISFITS | STRICTER).keys()
)
def test_does_not_fit(match: str, actions: str, message: str) -> None:
    with pytest.raises(BadAction) as refused:
        check(match, actions)
    assert refused.value.reason == "match-inconsistent"
    assert message in str(refused.value)


@pytest.mark.parametrize(("match", "actions", "_"), MISFITS.values(), ids=MISFITS.keys())
def test_open_vswitch_refuses_it_too(ovs_ofctl: OvsOfctl, match: str, actions: str, _: str) -> None:
    assert ovs_ofctl("-O", "OpenFlow13", "parse-flow", f"{match},actions={actions}").returncode != 0


def test_copies_between_labels_fit() -> None:
    check("mpls", "copy_ttl_in,copy_ttl_out")


def test_a_popped_label_uncovers_no_other() -> None:
    with pytest.raises(BadAction, match="mpls"):
        check("mpls", "pop_mpls:0x0800,set_field:1->mpls_label")


def test_a_label_hides_what_was_known_of_neighbour_discovery() -> None:
    text = "push_mpls:0x8847,pop_mpls:0x86dd,set_field:::1->nd_target"
    with pytest.raises(BadAction, match="needs ip_proto=58"):
        check("icmp6,icmp_type=135", text)


def test_written_actions_may_not_fit() -> None:
    check_instructions(Match(), (WriteActions((SetField(BY_NAME["ipv4_src"], 1),)),))


ALL = (
    Meter(1),
    ApplyActions((Output(1),)),
    ClearActions(),
    WriteActions((PushMpls(0x8847),)),
    WriteMetadata(1, 1),
    GotoTable(1),
)


def test_instructions_come_into_order() -> None:
    assert in_order(reversed(ALL)) == ALL
    assert in_order(()) == ()


def test_empty_lists_of_actions_go() -> None:
    assert in_order([GotoTable(1), WriteActions(), ApplyActions()]) == (GotoTable(1),)


@pytest.mark.parametrize("instruction", ALL, ids=lambda instruction: type(instruction).__name__)
def test_no_instruction_comes_twice(instruction: Instruction) -> None:
    with pytest.raises(BadInstruction, match=f"{type(instruction).__name__} is given twice") as refused:
        in_order([instruction, *ALL])
    assert refused.value.reason == "unsup-inst"
