"""Actions and instructions as text; ovs-ofctl is the oracle of what it can say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oko.errors import BadAction, BadInstruction, FlowError
from oko.flow.action import (
    Action,
    ApplyActions,
    Continue,
    CopyTtlIn,
    CopyTtlOut,
    Group,
    Output,
    Pass,
    PopMpls,
    PushMpls,
    PushVlan,
    SetField,
    WriteActions,
)
from oko.flow.action_text import read_actions, read_instructions, write_actions, write_instructions
from oko.flow.consistency import Known
from oko.flow.fields import BY_NAME
from oko.flow.match import Condition, Match
from oko.flow.text import parse_selection
from tests.oko.flow.conftest import OvsOfctl
from tests.oko.flow.strategies import actions, fitting_actions, instructions

AGREED = {
    "port": ("", "1,output:2,output(3)", "output:1,output:2,output:3"),
    "reserved ports": ("", "in_port,output:in_port,flood,output:all,LOCAL", "IN_PORT,IN_PORT,FLOOD,ALL,LOCAL"),
    "controller": ("", "controller", "CONTROLLER:65535"),
    "controller, all of the packet": ("", "controller:65535", "CONTROLLER:65535"),
    "controller in brackets": ("", "controller()", "CONTROLLER:65535"),
    "controller, some of the packet": (
        "",
        "controller:100,controller(max_len=100)",
        "CONTROLLER:100,CONTROLLER:100",
    ),
    "group": ("", "group:5,group(6)", "group:5,group:6"),
    "set_field": ("", "set_field:1:2:3:4:5:6->dl_dst", "set_field:01:02:03:04:05:06->eth_dst"),
    "set_field of a port": (
        "tcp",
        "set_field:5->tp_src,set_field:6->tcp_dst",
        "set_field:5->tcp_src,set_field:6->tcp_dst",
    ),
    "set_field under a full mask": ("tcp", "set_field:5/0xffff->tcp_src", "set_field:5->tcp_src"),
    "set_field of IPv4": (
        "ip",
        "set_field:1.2.3.4->nw_src,set_field:1.2.3.5->ip_dst,set_field:3->ip_dscp,set_field:2->ip_ecn",
        "set_field:1.2.3.4->ip_src,set_field:1.2.3.5->ip_dst,set_field:3->ip_dscp,set_field:2->nw_ecn",
    ),
    "set_field of IPv6": (
        "ipv6",
        "set_field:fe80:0::1->ipv6_src,set_field:::->ipv6_dst,set_field:0x12->ipv6_label,set_field:0->ipv6_label",
        "set_field:fe80::1->ipv6_src,set_field:::->ipv6_dst,set_field:0x12->ipv6_label,set_field:0->ipv6_label",
    ),
    "set_field of ICMP": (
        "icmp",
        "set_field:5->icmp_type,set_field:6->icmp_code",
        "set_field:5->icmp_type,set_field:6->icmp_code",
    ),
    "set_field of ICMPv6": ("icmp6", "set_field:5->icmpv6_type", "set_field:5->icmpv6_type"),
    "set_field of ARP": (
        "arp",
        "set_field:0->arp_op,set_field:1.2.3.4->arp_tpa",
        "set_field:0->arp_op,set_field:1.2.3.4->arp_tpa",
    ),
    "set_field of neighbour discovery": (
        "icmp6,icmp_type=135",
        "set_field:fe80::1->nd_target,set_field:1:2:3:4:5:6->nd_sll",
        "set_field:fe80::1->nd_target,set_field:01:02:03:04:05:06->nd_sll",
    ),
    "set_field of MPLS": (
        "mpls",
        "set_field:0x10->mpls_label,set_field:1->mpls_tc",
        "set_field:16->mpls_label,set_field:1->mpls_tc",
    ),
    "words of OpenFlow 1.0": (
        "tcp",
        "mod_dl_src:1:2:3:4:5:6,mod_dl_dst:1:2:3:4:5:7,mod_nw_src:1.2.3.4,mod_nw_dst:1.2.3.5,mod_nw_tos:16,mod_nw_ecn:2,"
        "mod_tp_src:5,mod_tp_dst:6",
        "set_field:01:02:03:04:05:06->eth_src,set_field:01:02:03:04:05:07->eth_dst,set_field:1.2.3.4->ip_src,"
        "set_field:1.2.3.5->ip_dst,set_field:4->ip_dscp,set_field:2->nw_ecn,set_field:5->tcp_src,set_field:6->tcp_dst",
    ),
    "mod_tp_src of UDP": ("udp6", "mod_tp_src:5", "set_field:5->udp_src"),
    "mod_vlan_vid pushes": ("", "mod_vlan_vid:5", "push_vlan:0x8100,set_field:4101->vlan_vid"),
    "mod_vlan_pcp pushes": ("", "mod_vlan_pcp:3", "push_vlan:0x8100,set_field:3->vlan_pcp"),
    "mod_vlan_vid pushes once": (
        "",
        "mod_vlan_vid:5,mod_vlan_pcp:3",
        "push_vlan:0x8100,set_field:4101->vlan_vid,set_field:3->vlan_pcp",
    ),
    "mod_vlan_vid of a tag": (
        "dl_vlan=1",
        "mod_vlan_vid:5,pop_vlan,mod_vlan_vid:6",
        "set_field:4101->vlan_vid,pop_vlan,push_vlan:0x8100,set_field:4102->vlan_vid",
    ),
    "set_vlan": ("dl_vlan=1", "set_vlan_vid:5,set_vlan_pcp:3", "set_field:4101->vlan_vid,set_field:3->vlan_pcp"),
    "push_vlan": ("", "push_vlan:33024,push_vlan(0x88a8)", "push_vlan:0x8100,push_vlan:0x88a8"),
    "strip_vlan": ("dl_vlan=1", "strip_vlan", "pop_vlan"),
    "push and pop of MPLS": ("", "push_mpls:0x8847,pop_mpls:0x0800", "push_mpls:0x8847,pop_mpls:0x0800"),
    "set_mpls": ("mpls", "set_mpls_label:5,set_mpls_tc(2)", "set_field:5->mpls_label,set_field:2->mpls_tc"),
    "MPLS TTL": ("mpls", "dec_mpls_ttl,set_mpls_ttl:4", "dec_mpls_ttl,set_mpls_ttl(4)"),
    "TTL": ("ip", "dec_ttl,dec_ttl(),mod_nw_ttl(4)", "dec_ttl,dec_ttl,mod_nw_ttl:4"),
    "all instructions": (
        "",
        "meter:7,output:1,clear_actions,write_actions(output:2,dec_ttl),write_metadata:5/0xff,goto_table:3",
        "meter:7,output:1,clear_actions,write_actions(output:2,dec_ttl),write_metadata:0x5/0xff,goto_table:3",
    ),
    "instructions in brackets": ("", "meter(5),1,goto_table(3)", "meter:5,output:1,goto_table:3"),
    "whole metadata": ("", "write_metadata:5/0xffffffffffffffff", "write_metadata:0x5"),
    "metadata 0": ("", "write_metadata:0/0xf", "write_metadata:0/0xf"),
    "nothing to write": ("", "write_actions(),goto_table:1", "goto_table:1"),
    "drop to write": ("", "write_actions(drop)", "drop"),
    "mod_vlan_vid to write": (
        "",
        "write_actions(mod_vlan_vid:5)",
        "write_actions(push_vlan:0x8100,set_field:4101->vlan_vid)",
    ),
}
"""What ovs-ofctl reads as we do: a match, actions → how both print them."""

OURS = {
    "copies of the TTL": ("mpls", "copy_ttl_in,copy_ttl_out", "copy_ttl_in,copy_ttl_out"),
    "TTL as a field": ("ip", "set_field:64->nw_ttl", "mod_nw_ttl:64"),
    "MPLS TTL as a field": ("mpls", "set_field:64->mpls_ttl", "set_mpls_ttl(64)"),
    "TOS as a field": ("ip", "set_field:8->nw_tos", "set_field:2->ip_dscp"),
    "port of UDP": ("udp", "set_field:5->tp_dst", "set_field:5->udp_dst"),
    "standard's names": ("icmp", "set_field:5->icmpv4_type", "set_field:5->icmp_type"),
    "written where it may fit": (
        "",
        "write_actions(set_field:1.2.3.4->ip_src)",
        "write_actions(set_field:1.2.3.4->ip_src)",
    ),
}
"""What ovs-ofctl prints otherwise, or does not read."""


def known(match_text: str) -> Known:
    return Known(parse_selection(match_text).rule.match)


@pytest.mark.parametrize(("match", "text", "printed"), (AGREED | OURS).values(), ids=(AGREED | OURS).keys())
def test_print_of_read(match: str, text: str, printed: str) -> None:
    read = read_instructions(text, known(match))
    assert write_instructions(read) == printed
    assert read_instructions(printed, known(match)) == read


def printed_by_ovs(ovs_ofctl: OvsOfctl, file: Path, lines: list[str]) -> list[str]:
    """How ovs-ofctl prints the actions of these flows, as OpenFlow 1.3."""
    file.write_text("\n".join(lines) + "\n")
    done = ovs_ofctl("-O", "OpenFlow13", "parse-flows", file)
    assert done.returncode == 0, done.stderr
    return re.findall(r"^OFPT_FLOW_MOD .*?: ADD .*?actions=(.*)$", done.stdout, re.MULTILINE)


def test_ovs_ofctl_agrees_on_the_cases(ovs_ofctl: OvsOfctl, tmp_path: Path) -> None:
    lines = [f"{match},actions={text}" for match, text, _ in AGREED.values()]
    assert printed_by_ovs(ovs_ofctl, tmp_path / "flows", lines) == [printed for _, _, printed in AGREED.values()]


MATCHES = ("", "ip", "ipv6", "tcp", "udp6", "icmp", "icmp6,icmp_type=135", "arp", "mpls", "dl_vlan=5", "dl_vlan=5,tcp6")


MOST_PUSHES = 1
"""Open vSwitch knows packets with two tags at most."""


def is_said_by_ovs(action: Action) -> bool:
    """Whether ovs-ofctl can say the action and understands it as we do. Labels go behind tags there."""
    match action:
        case CopyTtlIn() | CopyTtlOut() | PushMpls() | PopMpls():
            return False
        case Output(port):
            return port < 0xFF00 or port > 0xFFFFFF00
        case SetField(field, value):
            return field.name != "icmpv6_type" and (field.name != "arp_op" or value < 0x100)
        case _:
            return True


@given(st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ovs_ofctl_prints_what_we_print(ovs_ofctl: OvsOfctl, tmp_path: Path, data: st.DataObject) -> None:
    lines, printed = [], []
    for match in MATCHES:
        fitting = data.draw(fitting_actions(parse_selection(match).rule.match))
        pushes = sum(isinstance(action, PushVlan) for action in fitting)
        if all(map(is_said_by_ovs, fitting)) and pushes <= MOST_PUSHES:
            printed.append(write_actions(fitting))
            lines.append(f"{match},actions={printed[-1]}")
    assert printed_by_ovs(ovs_ofctl, tmp_path / "flows", lines) == printed


@given(st.data())
def test_what_is_printed_reads_back(data: st.DataObject) -> None:
    match = parse_selection(data.draw(st.sampled_from(MATCHES))).rule.match
    drawn = data.draw(instructions(match))
    assert read_instructions(write_instructions(drawn), Known(match)) == drawn


@given(st.lists(actions(), max_size=6).map(tuple))
def test_actions_that_fit_nothing_read_back(drawn: tuple[Action, ...]) -> None:
    assert read_actions(write_actions(drawn), Known(Match())) == drawn


REFUSED: dict[str, tuple[str, type[FlowError], str, str]] = {
    "drop and more": ("drop,output:1", BadAction, "", "drop stands alone"),
    "instruction and drop": ("clear_actions,drop", BadAction, "", "drop stands alone"),
    "unknown": ("outptu:1", BadAction, "bad-type", "unknown action 'outptu': did you mean output?"),
    "nothing like it": ("qqqq", BadAction, "bad-type", "unknown action 'qqqq': docs/flow-syntax.md has the list"),
    "output by interface": ("output:eth0", BadAction, "bad-out-port", "'eth0' is no port number"),
    "output without a port": ("output", BadAction, "bad-out-port", "'' is no port number"),
    "output cut short": ("output(port=1,max_len=9)", BadAction, "bad-out-port", "'port=1,max_len=9' is no port number"),
    "output to no register": ("output:NXM_NX_RGE0[]", BadAction, "bad-out-port", "is no port number"),
    "output too high": ("output:4294967296", BadAction, "bad-out-port", "port 4294967296 is out of range"),
    "any as an action": ("any", BadAction, "bad-out-port", "output to the reserved port ANY is not supported"),
    "any by number": ("1,output:0xffffffff", BadAction, "bad-out-port", "the reserved port ANY"),
    "any": ("output:any", BadAction, "bad-out-port", "output to the reserved port ANY is not supported"),
    "controller with a reason": ("controller(reason=no_match)", BadAction, "bad-argument", "reason is not supported"),
    "controller of none": ("controller:qq", BadAction, "bad-argument", "controller max_len=qq is no number"),
    "group by name": ("group:all", BadAction, "bad-out-group", "group=all is no number"),
    "TTL of controllers": ("dec_ttl(1,2)", BadAction, "bad-argument", "dec_ttl takes no argument"),
    "TTL too high": ("mod_nw_ttl:256", BadAction, "bad-argument", "mod_nw_ttl=256 is out of range: use 0–255"),
    "ECN in a TOS": ("mod_nw_tos:17", BadAction, "bad-argument", "17 has its two low bits, which are ECN, set"),
    "ECN too wide": ("mod_nw_ecn:4", BadAction, "bad-set-argument", "mod_nw_ecn=4 is out of range: use 0–3"),
    "VID too wide": ("mod_vlan_vid:4096", BadAction, "bad-argument", "mod_vlan_vid=4096 is out of range"),
    "ports of what": (
        "mod_tp_src:5",
        BadAction,
        "match-inconsistent",
        "match tcp or udp, or write set_field:5->tcp_src",
    ),
    "set_field without a field": ("set_field:5", BadAction, "bad-argument", "not of the form set_field:VALUE->FIELD"),
    "set_field of ovs": (
        "set_field:5->ct_state",
        BadAction,
        "bad-set-type",
        "ct_state is a field that this switch cannot",
    ),
    "set_field of dl_vlan": ("set_field:5->dl_vlan", BadAction, "bad-set-type", "dl_vlan is a field that this switch"),
    "set_field of nothing": ("set_field:5->tcp_scr", BadAction, "bad-set-type", "did you mean tcp_src"),
    "set_field of some bits": ("set_field:5/3->tcp_src", BadAction, "bad-set-argument", "only be set as a whole"),
    "set_field too wide": ("set_field:65536->tcp_src", BadAction, "bad-set-argument", "tcp_src=65536 is out of range"),
    "set_field of no address": ("set_field:5->eth_src", BadAction, "bad-set-argument", "eth_src=5 is no Ethernet"),
    "no key": ("=5", BadAction, "", "'=5' is not of the form"),
    "instruction in write_actions": (
        "write_actions(goto_table:1)",
        BadAction,
        "bad-type",
        "goto_table is an instruction",
    ),
    "metadata too wide": ("write_metadata:0x1ffffffffffffffff", BadInstruction, "unsup-metadata", "out of range"),
    "metadata mask too wide": (
        "write_metadata:0/0x1ffffffffffffffff",
        BadInstruction,
        "unsup-metadata-mask",
        "out of range",
    ),
    "goto too far": ("goto_table:256", BadInstruction, "bad-table-id", "goto_table=256 is out of range"),
    "clear_actions of some": ("clear_actions:5", BadInstruction, "unsup-inst", "clear_actions takes no argument"),
    **{
        f"order {text}": (text, BadInstruction, "unsup-inst", "the order is meter, actions, clear_actions")
        for text in (
            "output:2,meter:1",
            "output:2,meter:1,output:2",
            "clear_actions,output:1",
            "goto_table:3,output:1",
            "goto_table:3,write_metadata:5",
            "write_actions(output:1),output:2",
            "goto_table:1,goto_table:2",
        )
    },
    **{
        f"action {word}": (text, BadAction, "bad-type", f"{word} is an action that this switch does not support")
        for word, text in {
            "clone": "clone(1)",
            "multipath": "multipath(eth_src,50,hrw,12,0,NXM_NX_REG0[0..3])",
            "enqueue": "enqueue:1:2",
            "set_queue": "set_queue:1",
        }.items()
    },
}


@pytest.mark.parametrize(("text", "error", "reason", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(text: str, error: type[FlowError], reason: str, message: str) -> None:
    with pytest.raises(error) as refused:
        read_instructions(text, Known(Match()))
    assert message in str(refused.value)
    assert refused.value.reason == reason


def test_the_protocol_of_a_port_may_come_from_the_match() -> None:
    udp = {"eth_type": 0x86DD, "ip_proto": 17}
    match = Match.of(Condition(BY_NAME[name], value, BY_NAME[name].full) for name, value in udp.items())
    assert read_actions("mod_tp_dst:5", Known(match)) == (SetField(BY_NAME["udp_dst"], 5),)


def test_what_leaves_packets_to_open_vswitch_is_told_and_not_read() -> None:
    assert write_actions([Pass()]) == "pass"
    assert write_actions([Continue(7, b"anything")]) == "continue:7"
    for text in ("pass", "continue:7"):
        with pytest.raises(BadAction, match="unknown action"):
            read_actions(text, Known(Match()))


def test_consecutive_actions_are_one_instruction() -> None:
    read = read_instructions("1,group:2,write_actions(3)", Known(Match()))
    assert read == (ApplyActions((Output(1), Group(2))), WriteActions((Output(3),)))
