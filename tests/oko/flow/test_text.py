"""The syntax of rules and matches: read, printed, refused; ovs-ofctl is the oracle of what it can say."""

from __future__ import annotations

import re
from dataclasses import replace
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oko.errors import BadAction, BadFlowMod, BadInstruction, BadMatch, FlowError
from oko.flow.action import RESERVED_PORTS, TABLE, ApplyActions, Output, PushVlan
from oko.flow.fields import BY_NAME
from oko.flow.match import Condition, Match
from oko.flow.rule import Command, FlowMod, Rule
from oko.flow.text import (
    parse_actions,
    parse_flow_mod,
    parse_lines,
    parse_rule,
    parse_selection,
    print_rule,
)
from oko.flow.value import FRAGMENTS
from tests.oko.flow.conftest import OvsOfctl
from tests.oko.flow.strategies import rules

CANONICAL = {
    "brief": (
        "priority=10,table=0,cookie=0x1,in_port=1,tcp,nw_dst=10.0.0.0/8,tp_dst=80,filter_prog=1,actions=output:2",
        "cookie=0x1, priority=10,tcp,in_port=1,nw_dst=10.0.0.0/8,tp_dst=80,filter_prog=1 actions=output:2",
    ),
    "nothing but a program": ("filter_prog=65535 actions=drop", "filter_prog=65535 actions=drop"),
    "extension headers": ("ipv6,ipv6_exthdr=0x40/0x60,actions=1", "ipv6,ipv6_exthdr=0x040/0x060 actions=output:1"),
    "fragments by number": ("ip,ip_frag=0/1,actions=1", "ip,nw_frag=0x0/0x1 actions=output:1"),
    "life of a rule": (
        "send_flow_rem,hard_timeout=6,idle_timeout=5,table=2,cookie=1,ip,actions=1",
        "cookie=0x1, table=2, idle_timeout=5, hard_timeout=6, send_flow_rem ip actions=output:1",
    ),
}
"""What ovs-ofctl cannot read: text → how it is printed."""

AGREED = {
    "drop": ("actions=drop", "actions=drop"),
    "no actions": ("in_port=1 actions=", "in_port=1 actions=drop"),
    "action": ("action=1", "actions=output:1"),
    "bare port": ("actions=2", "actions=output:2"),
    "several ports": ("actions=2, output:3 1", "actions=output:2,output:3,output:1"),
    "trailing comma": ("ip,actions=output:1,", "ip actions=output:1"),
    "output in parentheses": ("actions=output(2)", "actions=output:2"),
    "output with equals": ("actions=output=2", "actions=output:2"),
    "same port twice": ("actions=1,1", "actions=output:1,output:1"),
    "port 0": ("in_port=0,actions=0", "in_port=0 actions=output:0"),
    "blanks": ("  priority=1 , ip\tin_port=2  actions=1", "priority=1,ip,in_port=2 actions=output:1"),
    "colons": ("priority:5 in_port:2 actions=drop", "priority=5,in_port=2 actions=drop"),
    "default priority": ("priority=32768,actions=drop", "actions=drop"),
    "lowest priority": ("priority=0,actions=drop", "priority=0 actions=drop"),
    "hexadecimal": ("priority=0xff,ip,nw_proto=0x2F,actions=1", "priority=255,ip,nw_proto=47 actions=output:1"),
    "octal": ("priority=010,udp,tp_dst=010,actions=1", "priority=8,udp,tp_dst=8 actions=output:1"),
    "ports are decimal": ("in_port=010,actions=output:010", "in_port=10 actions=output:10"),
    "reserved in_port": ("in_port=local,actions=1", "in_port=LOCAL actions=output:1"),
    "reserved in_port by number": ("in_port=4294967293,actions=1", "in_port=CONTROLLER actions=output:1"),
    "ip": ("ip,actions=1", "ip actions=output:1"),
    "ipv4": ("ipv4,actions=1", "ip actions=output:1"),
    "ip4": ("ip4,actions=1", "ip actions=output:1"),
    "icmp": ("icmp,actions=1", "icmp actions=output:1"),
    "tcp": ("tcp,actions=1", "tcp actions=output:1"),
    "udp": ("udp,actions=1", "udp actions=output:1"),
    "sctp": ("sctp,actions=1", "sctp actions=output:1"),
    "arp": ("arp,actions=1", "arp actions=output:1"),
    "rarp": ("rarp,actions=1", "rarp actions=output:1"),
    "ipv6": ("ipv6,actions=1", "ipv6 actions=output:1"),
    "ip6": ("ip6,actions=1", "ipv6 actions=output:1"),
    "mpls": ("mpls,actions=1", "mpls actions=output:1"),
    "mplsm": ("mplsm,actions=1", "mplsm actions=output:1"),
    "protocol in pieces": ("dl_type=0x0800,nw_proto=17,tp_src=53,actions=1", "udp,tp_src=53 actions=output:1"),
    "protocol said twice": ("ip,nw_proto=6,tcp,actions=1", "tcp actions=output:1"),
    "protocol behind the port": ("tp_dst=3,udp,actions=1", "udp,tp_dst=3 actions=output:1"),
    "port said twice": ("tcp,tp_dst=5,tcp_dst=5,actions=1", "tcp,tp_dst=5 actions=output:1"),
    "other protocol": ("ip,nw_proto=0,actions=1", "ip,nw_proto=0 actions=output:1"),
    "eth_type": ("eth_type=2048,actions=1", "ip actions=output:1"),
    "eth_type without a name": ("dl_type=0x88cc,actions=1", "dl_type=0x88cc actions=output:1"),
    "eth_type of a length": ("dl_type=0x05ff,actions=1", "dl_type=0x05ff actions=output:1"),
    "short digits in a mac": ("dl_dst=1:2:3:4:5:A,actions=1", "dl_dst=01:02:03:04:05:0a actions=output:1"),
    "mac mask": (
        "eth_src=aa:bb:cc:dd:ee:ff/ff:ff:00:00:00:00,actions=1",
        "dl_src=aa:bb:00:00:00:00/ff:ff:00:00:00:00 actions=output:1",
    ),
    "full mac mask": (
        "dl_src=aa:bb:cc:dd:ee:ff/FF:ff:ff:ff:ff:ff,actions=1",
        "dl_src=aa:bb:cc:dd:ee:ff actions=output:1",
    ),
    "prefix": ("ip,ip_dst=10.1.2.3/9,actions=1", "ip,nw_dst=10.0.0.0/9 actions=output:1"),
    "whole prefix": ("ip,nw_src=10.1.2.3/32,actions=1", "ip,nw_src=10.1.2.3 actions=output:1"),
    "empty prefix": ("ip,nw_src=10.1.2.3/0,actions=1", "ip actions=output:1"),
    "dotted prefix": ("ip,nw_src=10.1.2.3/255.255.0.0,actions=1", "ip,nw_src=10.1.0.0/16 actions=output:1"),
    "dotted mask": ("ip,nw_src=1.2.3.4/255.255.0.255,actions=1", "ip,nw_src=1.2.0.4/255.255.0.255 actions=output:1"),
    "any address": ("ip,nw_src=*,actions=1", "ip actions=output:1"),
    "any port, no protocol": ("tp_src=*,in_port=*,actions=1", "actions=output:1"),
    "port mask": ("tcp,tp_dst=0x55/0xfff0,actions=1", "tcp,tp_dst=0x50/0xfff0 actions=output:1"),
    "full port mask": ("udp,udp_src=80/65535,actions=1", "udp,tp_src=80 actions=output:1"),
    "empty port mask": ("udp,udp_src=80/0,actions=1", "udp actions=output:1"),
    "tos": ("ip,nw_tos=17,actions=1", "ip,nw_tos=16 actions=output:1"),
    "dscp and ecn": ("ip,ip_dscp=4,ip_ecn=1,actions=1", "ip,nw_tos=16,nw_ecn=1 actions=output:1"),
    "full mask on an unmaskable field": ("ip,nw_proto=6/0xff,actions=1", "tcp actions=output:1"),
    "statistics are skipped": (
        "duration=1.5s, n_packets=3, n_bytes=60, idle_age=4, in_port=1 actions=drop",
        "in_port=1 actions=drop",
    ),
    "ports over IPv6": ("tcp6,tcp_dst=80,actions=1", "tcp6,tp_dst=80 actions=output:1"),
    "udp6": ("udp6,udp_src=80,actions=1", "udp6,tp_src=80 actions=output:1"),
    "sctp6": ("sctp6,sctp_src=80,actions=1", "sctp6,tp_src=80 actions=output:1"),
    "ports of SCTP": ("sctp,tp_dst=80/0xff,actions=1", "sctp,tp_dst=0x50/0xff actions=output:1"),
    "icmp type": ("icmp,icmp_type=8,icmp_code=0,actions=1", "icmp,icmp_type=8,icmp_code=0 actions=output:1"),
    "icmp6 type": ("icmp6,icmp_type=128,actions=1", "icmp6,icmp_type=128 actions=output:1"),
    "icmpv6_type": ("ipv6,nw_proto=58,icmpv6_type=1,actions=1", "icmp6,icmp_type=1 actions=output:1"),
    "ICMP over the other IP": ("ipv6,nw_proto=1,actions=1", "ipv6,nw_proto=1 actions=output:1"),
    "neighbour solicitation": (
        "icmp6,icmp_type=135,icmp_code=0,nd_target=fe80::1,nd_sll=1:2:3:4:5:6,actions=1",
        "icmp6,icmp_type=135,icmp_code=0,nd_target=fe80::1,nd_sll=01:02:03:04:05:06 actions=output:1",
    ),
    "neighbour advertisement": (
        "icmp6,icmp_type=136,nd_target=fe80::/64,nd_tll=1:2:3:4:5:6/ff:0:0:0:0:0,actions=1",
        "icmp6,icmp_type=136,nd_target=fe80::/64,nd_tll=01:00:00:00:00:00/ff:00:00:00:00:00 actions=output:1",
    ),
    "IPv6 prefix": ("ipv6,ipv6_src=fe80::1/64,actions=1", "ipv6,ipv6_src=fe80::/64 actions=output:1"),
    "IPv6 mask": ("ipv6,ipv6_dst=fe80::1/ffff::ffff,actions=1", "ipv6,ipv6_dst=fe80::1/ffff::ffff actions=output:1"),
    "IPv6 mask that is a prefix": (
        "ipv6,ipv6_src=fe80::1/ffff::,actions=1",
        "ipv6,ipv6_src=fe80::/16 actions=output:1",
    ),
    "IPv6 prefix of nothing": ("ipv6,ipv6_src=::/0,actions=1", "ipv6 actions=output:1"),
    "IPv4 in IPv6": ("ipv6,ipv6_dst=::1.2.3.4,actions=1", "ipv6,ipv6_dst=::1.2.3.4 actions=output:1"),
    "one zero in IPv6": ("ipv6,ipv6_dst=1:0:2:3:4:5:6:7,actions=1", "ipv6,ipv6_dst=1:0:2:3:4:5:6:7 actions=output:1"),
    "flow label": ("ipv6,ipv6_label=0x12345/0xff,actions=1", "ipv6,ipv6_label=0x00045/0x000ff actions=output:1"),
    "whole flow label": ("ipv6,ipv6_label=5,actions=1", "ipv6,ipv6_label=0x00005 actions=output:1"),
    "tos of IPv6": ("ipv6,nw_tos=4,nw_ecn=1,actions=1", "ipv6,nw_tos=4,nw_ecn=1 actions=output:1"),
    **{
        f"fragments: {word}": (f"ip,nw_frag={word},actions=1", f"ip,nw_frag={word} actions=output:1")
        for word in ("no", "yes", "first", "later", "not_later")
    },
    "fragments of IPv6": ("ipv6,ip_frag=later,actions=1", "ipv6,nw_frag=later actions=output:1"),
    "flags set and unset": ("tcp,tcp_flags=+syn-ack,actions=1", "tcp,tcp_flags=+syn-ack actions=output:1"),
    "flags in their order": ("tcp,tcp_flags=+ns+cwr-ece,actions=1", "tcp,tcp_flags=-ece+cwr+ns actions=output:1"),
    "flags without a name": ("tcp6,tcp_flags=+syn+[200],actions=1", "tcp6,tcp_flags=+syn+[200] actions=output:1"),
    "all flags": ("tcp,tcp_flags=syn|ack,actions=1", "tcp,tcp_flags=syn|ack actions=output:1"),
    "all flags by number": ("tcp,tcp_flags=0x12,actions=1", "tcp,tcp_flags=syn|ack actions=output:1"),
    "flags under a mask": ("tcp,tcp_flags=5/3,actions=1", "tcp,tcp_flags=+fin-syn actions=output:1"),
    "flags under a full mask": ("tcp,tcp_flags=0/0xfff,actions=1", "tcp,tcp_flags=0 actions=output:1"),
    "any flags": ("tcp,tcp_flags=*,actions=1", "tcp actions=output:1"),
    "ARP": (
        "arp,arp_op=2,arp_spa=1.2.3.4,arp_tpa=1.2.3.0/24,arp_sha=1:2:3:4:5:6,arp_tha=6:0:0:0:0:0,actions=1",
        "arp,arp_spa=1.2.3.4,arp_tpa=1.2.3.0/24,arp_op=2,arp_sha=01:02:03:04:05:06,arp_tha=06:00:00:00:00:00 "
        "actions=output:1",
    ),
    "ARP in words of IP": (
        "nw_src=1.2.3.4,nw_dst=2.2.2.2,nw_proto=1,arp,actions=1",
        "arp,arp_spa=1.2.3.4,arp_tpa=2.2.2.2,arp_op=1 actions=output:1",
    ),
    "MPLS": (
        "mpls,mpls_label=0x100,mpls_tc=3,mpls_bos=1,actions=1",
        "mpls,mpls_label=256,mpls_tc=3,mpls_bos=1 actions=output:1",
    ),
    "multicast MPLS": ("mplsm,mpls_label=100,actions=1", "mplsm,mpls_label=100 actions=output:1"),
    "metadata": ("metadata=5,actions=1", "metadata=0x5 actions=output:1"),
    "metadata under a mask": (
        "metadata=0x10/0xff00000000000000,actions=1",
        "metadata=0/0xff00000000000000 actions=output:1",
    ),
    "a VID": ("dl_vlan=5,actions=1", "dl_vlan=5 actions=output:1"),
    "a VID with the bit of a tag": ("vlan_vid=0x1005/0x1fff,actions=1", "dl_vlan=5 actions=output:1"),
    "VID 0": ("vlan_vid=0x1000,actions=1", "dl_vlan=0 actions=output:1"),
    "a VID and a PCP": ("dl_vlan=5,vlan_pcp=2,actions=1", "dl_vlan=5,dl_vlan_pcp=2 actions=output:1"),
    "a PCP with any VID": ("vlan_vid=0x1000/0x1000,vlan_pcp=2,actions=1", "dl_vlan_pcp=2 actions=output:1"),
    "a PCP means a tag": ("dl_vlan_pcp=3,actions=1", "dl_vlan_pcp=3 actions=output:1"),
    "any VID": ("ip,dl_vlan=*,actions=1", "ip actions=output:1"),
    "all of IPv6 in the order of print": (
        "in_port=1,metadata=3,dl_vlan=4,dl_vlan_pcp=2,dl_src=1:1:1:1:1:1,dl_dst=2:2:2:2:2:2,tcp6,ipv6_src=::1,"
        "ipv6_dst=::2,ipv6_label=5,nw_tos=4,nw_ecn=1,nw_frag=no,tp_src=1,tp_dst=2,tcp_flags=+syn,actions=1",
        "tcp6,metadata=0x3,in_port=1,dl_vlan=4,dl_vlan_pcp=2,dl_src=01:01:01:01:01:01,dl_dst=02:02:02:02:02:02,"
        "ipv6_src=::1,ipv6_dst=::2,ipv6_label=0x00005,nw_tos=4,nw_ecn=1,nw_frag=no,tp_src=1,tp_dst=2,tcp_flags=+syn "
        "actions=output:1",
    ),
    "all in the order of print": (
        "udp_dst=2,udp_src=1,ip_ecn=2,ip_dscp=1,ip_dst=2.2.2.2,ip_src=1.1.1.1,eth_dst=2:2:2:2:2:2,eth_src=1:1:1:1:1:1,"
        "in_port=3,udp,priority=7,actions=4",
        "priority=7,udp,in_port=3,dl_src=01:01:01:01:01:01,dl_dst=02:02:02:02:02:02,nw_src=1.1.1.1,nw_dst=2.2.2.2,nw_tos=4,"
        "nw_ecn=2,tp_src=1,tp_dst=2 actions=output:4",
    ),
}
"""What ovs-ofctl reads as we do: text → how both print it."""


@pytest.mark.parametrize(("text", "printed"), (CANONICAL | AGREED).values(), ids=(CANONICAL | AGREED).keys())
def test_print_of_parse(text: str, printed: str) -> None:
    rule = parse_rule(text)
    assert print_rule(rule) == printed
    assert parse_rule(printed) == rule


VLANS = {
    "no tag": ("vlan_vid=0", "vlan_vid=0x0000", "vlan_tci=0x0000/0x1fff"),
    "no tag in OpenFlow 1.0's way": ("dl_vlan=0xffff", "vlan_vid=0x0000", "vlan_tci=0x0000/0x1fff"),
    "no tag under a mask": ("vlan_vid=0/0x1000", "vlan_vid=0x0000/0x1000", "vlan_tci=0x0000/0x1000"),
    "any tag": ("vlan_vid=0x1000/0x1000", "vlan_vid=0x1000/0x1000", "vlan_tci=0x1000/0x1000"),
    "some VIDs": ("vlan_vid=0x1005/0x100f", "vlan_vid=0x1005/0x100f", "vlan_tci=0x1005/0x100f"),
    "some VIDs or no tag": ("vlan_vid=5/0xf", "vlan_vid=0x0005/0x000f", "vlan_tci=0x0005/0x000f"),
    "some VIDs with a PCP": (
        "vlan_vid=0x1005/0x100f,vlan_pcp=2",
        "vlan_vid=0x1005/0x100f,dl_vlan_pcp=2",
        "vlan_tci=0x5005/0xf00f",
    ),
}
"""Tags that ovs-ofctl prints as a TCI: text → how we print it, how it does."""


@pytest.mark.parametrize(("text", "printed", "by_ovs"), VLANS.values(), ids=VLANS.keys())
def test_tags_mean_what_they_mean_to_open_vswitch(
    ovs_ofctl: OvsOfctl, tmp_path: Path, text: str, printed: str, by_ovs: str
) -> None:
    rule = parse_rule(f"{text},actions=drop")
    assert print_rule(rule) == f"{printed} actions=drop"
    assert parse_rule(print_rule(rule)) == rule
    lines = [f"{text},actions=drop", print_rule(rule)]
    assert parsed_by_ovs(ovs_ofctl, tmp_path / "flows", lines) == [f"{by_ovs} actions=drop"] * 2


def test_timeouts_and_flags_mean_what_they_mean_to_open_vswitch(ovs_ofctl: OvsOfctl, tmp_path: Path) -> None:
    text = "idle_timeout=5,hard_timeout=6,send_flow_rem,check_overlap,reset_counts,actions=drop"
    assert parsed_by_ovs(ovs_ofctl, tmp_path / "flows", [text]) == [
        "idle:5 hard:6 send_flow_rem check_overlap reset_counts actions=drop"
    ]
    assert parse_flow_mod(text) == FlowMod(
        Command.ADD,
        Rule(Match(), idle_timeout=5, hard_timeout=6, send_removed=True),
        check_overlap=True,
        reset_counts=True,
    )


def parsed_by_ovs(ovs_ofctl: OvsOfctl, file: Path, lines: list[str]) -> list[str]:
    """How ovs-ofctl prints these flows of table 0, cookie 0, as OpenFlow 1.3."""
    file.write_text("\n".join(lines) + "\n")
    done = ovs_ofctl("-O", "OpenFlow13", "parse-flows", file)
    assert done.returncode == 0, done.stderr
    return re.findall(r"^OFPT_FLOW_MOD .*?: ADD (.*)$", done.stdout, re.MULTILINE)


def test_ovs_ofctl_agrees_on_the_cases(ovs_ofctl: OvsOfctl, tmp_path: Path) -> None:
    texts, printed = zip(*AGREED.values(), strict=True)
    assert parsed_by_ovs(ovs_ofctl, tmp_path / "flows", list(texts)) == list(printed)


def is_printed_alike(condition: Condition) -> bool:
    """Whether ovs-ofctl prints the condition, and as we do."""
    value, mask = condition.value, condition.mask
    match condition.field.name:
        case "filter_prog" | "ipv6_exthdr":
            return False
        case "in_port":
            return value < 0xFF00
        case "vlan_vid":
            return condition.exact and value > 0
        case "ip_frag":
            return (value, mask) in FRAGMENTS.values()
        case "arp_op":
            return value < 0x100
        case "ipv6_src" | "ipv6_dst" | "ipv6_nd_target":
            # It prints other masks than those of prefixes as addresses, and reads a digit that they begin with as a
            # prefix's length.
            others = mask ^ (1 << 128) - 1
            return not others & others + 1 or not str(IPv6Address(mask))[0].isdigit()
        case _:
            return True


def for_ovs(rule: Rule) -> Rule:
    """What of `rule` ovs-ofctl can say as we do; table, cookie and timeouts it prints elsewhere, the ports of fragments
    and neighbour discovery with a code it refuses."""
    kept = {c.field.name: c for c in rule.match.conditions if is_printed_alike(c)}
    if "vlan_vid" not in kept:
        kept.pop("vlan_pcp", None)
    if any(name.startswith(("tcp", "udp", "sctp", "icmp")) for name in kept):
        kept.pop("ip_frag", None)
    if "icmpv6_code" in kept and kept["icmpv6_code"].value:
        kept = {name: c for name, c in kept.items() if not name.startswith("ipv6_nd_")}
    outputs = tuple(Output(action.port % 0xFF00) for action in rule.actions if isinstance(action, Output))
    return Rule(Match.of(kept.values()), (ApplyActions(outputs),) if outputs else (), rule.priority)


@given(st.lists(rules().map(for_ovs), min_size=1, max_size=50))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_ovs_ofctl_prints_what_we_print(ovs_ofctl: OvsOfctl, tmp_path: Path, batch: list[Rule]) -> None:
    printed = [print_rule(rule) for rule in batch]
    assert parsed_by_ovs(ovs_ofctl, tmp_path / "flows", printed) == printed


@given(rules())
def test_a_printed_rule_reads_back_as_itself(rule: Rule) -> None:
    assert parse_rule(print_rule(rule)) == rule


@pytest.mark.parametrize("name", RESERVED_PORTS)
def test_reserved_in_ports_read_back(name: str) -> None:
    rule = Rule(Match.of([Condition(BY_NAME["in_port"], RESERVED_PORTS[name], 0xFFFFFFFF)]))
    assert print_rule(rule) == f"in_port={name} actions=drop"
    assert parse_rule(print_rule(rule)) == rule


def test_an_empty_list_of_actions_prints_as_drop() -> None:
    assert print_rule(Rule(Match(), (ApplyActions(),))) == "actions=drop"


REFUSED: dict[str, tuple[str, type[FlowError], str]] = {
    "unknown field": ("nw_dts=10.0.0.1,actions=1", BadMatch, "unknown field 'nw_dts': did you mean nw_tos or nw_dst"),
    "nothing like it": ("qqqq=1,actions=1", BadMatch, "unknown field 'qqqq': docs/flow-syntax.md"),
    "field of ovs": ("vlan_tci=5,actions=1", BadMatch, "vlan_tci is a word of ovs-ofctl"),
    "TTL": ("ip,nw_ttl=5,actions=1", BadMatch, "nw_ttl is a word of ovs-ofctl"),
    "register of ovs": ("xxreg1=5,actions=1", BadMatch, "xxreg1 is a word of ovs-ofctl"),
    "importance": ("importance=5,actions=1", BadMatch, "importance is a word of ovs-ofctl"),
    "timeout too long": ("idle_timeout=65536,actions=1", BadFlowMod, "idle_timeout=65536 is out of range: use 0–65535"),
    "flag of a change": ("check_overlap,actions=1", BadFlowMod, "check_overlap and reset_counts are of a change"),
    "flag with a value": ("send_flow_rem=1,actions=1", BadFlowMod, "send_flow_rem takes no value"),
    "out_group": ("out_group=1,actions=1", BadFlowMod, "out_group selects rules to delete"),
    "two versions of IP": ("ip,tcp6,actions=1", BadMatch, "eth_type is matched twice"),
    "VID without the bit of a tag": ("vlan_vid=5,actions=1", BadMatch, "write 0x1005"),
    "dl_vlan too wide": ("dl_vlan=4096,actions=1", BadMatch, "dl_vlan=4096 is out of range"),
    "dl_vlan with a mask": ("dl_vlan=5/0xff,actions=1", BadMatch, "dl_vlan=5/0xff is no number"),
    "PCP too wide": ("dl_vlan_pcp=8,actions=1", BadMatch, "dl_vlan_pcp=8 is out of range: use 0–7"),
    "PCP where no tag is": ("vlan_vid=0,vlan_pcp=2,actions=1", BadMatch, "vlan_pcp needs vlan_vid=0x1000/0x1000"),
    "no kind of fragment": ("ip,nw_frag=some,actions=1", BadMatch, "use no, yes, first, later, not_later"),
    "fragment of nothing": ("nw_frag=no,actions=1", BadMatch, "ip_frag needs eth_type=0x0800 or eth_type=0x86dd"),
    "no flag": ("tcp,tcp_flags=SYN,actions=1", BadMatch, "tcp_flags: 'SYN' is no flag: use fin, syn"),
    "flag twice": ("tcp,tcp_flags=+syn-syn,actions=1", BadMatch, "has syn twice"),
    "sign without a flag": ("tcp,tcp_flags=+,actions=1", BadMatch, "'+' is no flag"),
    "flags too wide": ("tcp,tcp_flags=0x1000,actions=1", BadMatch, "tcp_flags=0x1000 is out of range"),
    "no IPv6 address": ("ipv6,ipv6_src=fe80:::1,actions=1", BadMatch, "ipv6_src=fe80:::1 is no IPv6 address"),
    "IPv6 address with an interface": ("ipv6,ipv6_src=fe80::1%eth0,actions=1", BadMatch, "is no IPv6 address"),
    "long IPv6 prefix": ("ipv6,ipv6_src=fe80::1/129,actions=1", BadMatch, "a prefix has 0 to 128 bits"),
    "operation of RARP": ("rarp,arp_op=3,actions=1", BadMatch, "arp_op needs eth_type=0x0806"),
    "type without ICMP": ("ip,icmp_type=3,actions=1", BadMatch, "icmp_type needs icmp or icmp6"),
    "protocol of nothing": ("nw_proto=6,actions=1", BadMatch, "nw_proto needs ip or arp"),
    "table 254": ("table=254,actions=1", BadFlowMod, "table 254 does not exist"),
    "goto an earlier table": ("table=5,actions=goto_table:5", BadInstruction, "goto_table:5 in table 5"),
    "an action that does not fit": ("actions=dec_ttl", BadAction, "dec_ttl needs eth_type=0x0800"),
    "a field that cannot be set": ("tcp,actions=set_field:5->ip_proto", BadAction, "ip_proto cannot be set"),
    "upper case": ("IP,actions=1", BadMatch, "did you mean ip"),
    "no key": ("=5,actions=1", BadMatch, "'=5' is not of the form"),
    "no value": ("in_port,actions=1", BadMatch, "in_port needs a value"),
    "empty value": ("priority=,actions=1", BadFlowMod, "priority needs a value"),
    "value for a protocol": ("tcp=1,actions=1", BadMatch, "tcp takes no value"),
    "not a number": ("dl_type=ip,actions=1", BadMatch, "dl_type=ip is no number"),
    "not octal": ("priority=09,actions=1", BadFlowMod, "priority=09 is no number"),
    "priority too high": ("priority=65536,actions=1", BadFlowMod, "priority=65536 is out of range: use 0–65535"),
    "negative priority": ("priority=-1,actions=1", BadFlowMod, "priority=-1 is no number"),
    "priority twice": ("priority=1,priority=1,actions=1", BadFlowMod, "priority is given twice"),
    "table too high": ("table=256,actions=1", BadFlowMod, "table=256 is out of range"),
    "cookie too wide": ("cookie=0x10000000000000000,actions=1", BadFlowMod, "out of range"),
    "cookie with a mask": ("cookie=1/1,actions=1", BadFlowMod, "a new rule takes a cookie without a mask"),
    "out_port": ("out_port=1,actions=1", BadFlowMod, "out_port selects rules to delete"),
    "proto too wide": ("ip,nw_proto=256,actions=1", BadMatch, "nw_proto=256 is out of range: use 0–255"),
    "port too wide": ("tcp,tp_dst=65536,actions=1", BadMatch, "tp_dst=65536 is out of range"),
    "tos too wide": ("ip,nw_tos=256,actions=1", BadMatch, "nw_tos=256 is out of range"),
    "in_port too wide": ("in_port=4294967296,actions=1", BadMatch, "port 4294967296 is out of range"),
    "in_port by interface": ("in_port=eth0,actions=1", BadMatch, "'eth0' is no port number"),
    "in_port with a mask": ("in_port=1/1,actions=1", BadMatch, "'1/1' is no port number"),
    "short mac": ("dl_src=aa:bb:cc:dd:ee,actions=1", BadMatch, "dl_src=aa:bb:cc:dd:ee is no Ethernet address"),
    "long mac": ("dl_src=a:b:c:d:e:f:0,actions=1", BadMatch, "is no Ethernet address"),
    "short address": ("ip,nw_src=10.1.2,actions=1", BadMatch, "nw_src=10.1.2 is no IPv4 address"),
    "long prefix": ("ip,nw_src=10.1.2.3/33,actions=1", BadMatch, "a prefix has 0 to 32 bits"),
    "mask as a number": ("ip,nw_src=10.1.2.3/0xff,actions=1", BadMatch, "nw_src=0xff is no IPv4 address"),
    "mask on proto": ("ip,nw_proto=6/0xf,actions=1", BadMatch, "ip_proto takes no mask"),
    "no prerequisite": ("nw_dst=10.0.0.1,actions=1", BadMatch, "nw_dst needs ip or arp"),
    "no protocol for ports": ("ip,tp_dst=80,actions=1", BadMatch, "tp_dst needs tcp, udp or sctp"),
    "other protocol for ports": ("udp,tcp_dst=80,actions=1", BadMatch, "tcp_dst needs ip_proto=6"),
    "two protocols": ("tcp,udp,actions=1", BadMatch, "ip_proto is matched twice"),
    "two values": ("in_port=1,in_port=2,actions=1", BadMatch, "in_port is matched twice"),
    "a value, then any": ("in_port=1,in_port=*,actions=1", BadMatch, "in_port is matched twice"),
    "program 0": ("filter_prog=0,actions=1", BadMatch, "filter_prog=0 is no program id"),
    "program too high": ("filter_prog=65536,actions=1", BadMatch, "filter_prog=65536 is no program id"),
    "no actions": ("in_port=1", BadAction, "no actions"),
    "actions with a colon": ("actions:1", BadAction, "no actions"),
    "drop and more": ("actions=drop,output:1", BadAction, "drop stands alone"),
}


@pytest.mark.parametrize(("text", "error", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(text: str, error: type[FlowError], message: str) -> None:
    with pytest.raises(error) as refused:
        parse_rule(text)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@given(st.text(alphabet="ip,= :/.()0123456789abcdefxtcnw_so*#-", max_size=40))
def test_any_text_is_a_rule_or_a_flow_error(text: str) -> None:
    try:
        rule = parse_rule(text + " actions=" + text[::2])
    except FlowError:
        return
    assert parse_rule(print_rule(rule)) == rule


def test_a_file_of_rules() -> None:
    lines = ["# a comment", "", "priority=1,actions=1 # one\n", "   \t", " ip,actions=drop\n"]
    assert parse_lines(parse_rule, lines, "flows.txt") == [
        parse_rule("priority=1,actions=1"),
        parse_rule("ip,actions=drop"),
    ]


def test_an_error_in_a_file_names_file_and_line() -> None:
    with pytest.raises(BadAction, match=r"^flows\.txt:3: .*NORMAL") as refused:
        parse_lines(parse_rule, ["actions=1", "# actions=normal", "actions=normal"], "flows.txt")
    assert refused.value.reason == "bad-out-port"


def test_a_file_of_other_things() -> None:
    assert parse_lines(int, ["1", "# 2", "3"], "numbers") == [1, 3]


@pytest.mark.parametrize("command", [Command.MODIFY, Command.MODIFY_STRICT])
def test_modify(command: Command) -> None:
    mod = parse_flow_mod("cookie=0x10/0xf0,ip,reset_counts,actions=output:2", command)
    rule = Rule(parse_rule("ip,actions=").match, (ApplyActions((Output(2),)),), cookie=0x10)
    assert mod == FlowMod(command, rule, cookie_mask=0xF0, reset_counts=True)


def test_the_actions_of_a_packet_out() -> None:
    assert parse_actions("push_vlan:0x8100,table") == (PushVlan(0x8100), Output(TABLE))
    with pytest.raises(BadAction):
        parse_actions("push_vlan:0x9100")


def selection(text: str = "", **changes: Any) -> FlowMod:
    """The non-strict delete from all tables of what the match of `text` covers, with `changes`."""
    mod = FlowMod(Command.DELETE, Rule(parse_rule(f"{text} actions=drop").match), all_tables=True)
    return replace(mod, **changes)


TCP = parse_rule("tcp,tp_dst=80,filter_prog=1,actions=drop").match

SELECTIONS = {
    "all": ("", False, selection()),
    "blank": (" ", False, selection()),
    "match": ("tcp,tp_dst=80,filter_prog=1", False, selection("tcp,tp_dst=80,filter_prog=1")),
    "table": ("table=0", False, selection(all_tables=False)),
    "other table": ("table=3,tcp,tp_dst=80,filter_prog=1", False, selection(rule=Rule(TCP, table=3), all_tables=False)),
    "all tables by number": ("table=255", False, selection()),
    "cookie": ("cookie=0x10/0xf0", False, selection(rule=Rule(Match(), cookie=0x10), cookie_mask=0xF0)),
    "whole cookie": ("cookie=7/-1", False, selection(rule=Rule(Match(), cookie=7), cookie_mask=2**64 - 1)),
    "cookie 0": ("cookie=0/-1", False, selection(cookie_mask=2**64 - 1)),
    "out_port": ("out_port=2", False, selection(out_port=2)),
    "out_port any": ("out_port=any", False, selection()),
    "out_group": ("out_group=2", False, selection(out_group=2)),
    "out_group any": ("out_group=0xffffffff", False, selection()),
    "strict": (
        "priority=5,ip",
        True,
        selection("ip", command=Command.DELETE_STRICT, rule=Rule(parse_rule("ip,actions=").match, priority=5)),
    ),
    "strict, default priority": ("ip", True, selection("ip", command=Command.DELETE_STRICT)),
}


@pytest.mark.parametrize(("text", "strict", "mod"), SELECTIONS.values(), ids=SELECTIONS.keys())
def test_selection(text: str, strict: bool, mod: FlowMod) -> None:
    assert parse_selection(text, strict=strict) == mod


SELECTIONS_REFUSED = {
    "actions": ("ip,actions=drop", "leave them out"),
    "priority": ("priority=1", "only with --strict"),
    "cookie without mask": ("cookie=7", "cookie=0x7/-1"),
    "cookie 0 without mask": ("cookie=0", "cookie=0x0/-1"),
    "timeout": ("idle_timeout=5", "idle_timeout selects no rules"),
    "flag": ("send_flow_rem", "send_flow_rem selects no rules"),
    "bad cookie mask": ("cookie=7/x", "cookie=x is no number"),
}


@pytest.mark.parametrize(("text", "message"), SELECTIONS_REFUSED.values(), ids=SELECTIONS_REFUSED.keys())
def test_selection_refused(text: str, message: str) -> None:
    with pytest.raises(BadFlowMod, match=re.escape(message)):
        parse_selection(text)
