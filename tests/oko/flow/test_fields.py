"""The field table against the standard's numbers, the key of the C parser, and the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from os_ken.ofproto import ofproto_v1_3
from os_ken.ofproto.oxm_fields import OpenFlowBasic

from oko.flow import fields
from oko.flow.fields import FIELDS, FILTER_PROG, OXM_BASIC

ROOT = Path(__file__).parents[3]
BASIC = [field for field in FIELDS if field.oxm_class == OXM_BASIC]
STANDARD = {known.name: known for known in ofproto_v1_3.oxm_types}

PARTIAL = {
    "vlan_vid": 13,
    "vlan_pcp": 3,
    "ip_dscp": 6,
    "ip_ecn": 2,
    "ipv6_flabel": 20,
    "mpls_label": 20,
    "mpls_tc": 3,
    "mpls_bos": 1,
    "ipv6_exthdr": 9,
}
"""Bits of the standard's fields that do not fill their bytes (OpenFlow 1.3.5, table 12)."""

ABSENT = {"in_phy_port", "pbb_isid", "tunnel_id"}
"""What only a switch with tunnels or backbone bridging sees."""


@pytest.mark.parametrize("field", BASIC, ids=lambda field: field.name)
def test_number_and_width_are_the_standards(field: fields.Field) -> None:
    standard = STANDARD[field.name]
    assert OXM_BASIC << 7 | field.oxm_field == standard.num
    assert field.size == standard.type.size
    assert field.bits == PARTIAL.get(field.name, 8 * field.size)


def test_all_of_the_standards_fields_are_there() -> None:
    standard = {name for name, known in STANDARD.items() if isinstance(known, OpenFlowBasic)}
    assert {field.name for field in BASIC} == standard - ABSENT


def test_no_two_fields_share_a_name_or_a_number() -> None:
    assert len(fields.BY_NAME) == len(fields.BY_OXM) == len(FIELDS)


def test_filter_prog_is_last() -> None:
    """Match.program and Match.headers count on it."""
    assert FIELDS[-1] is FILTER_PROG


def test_prerequisites_are_fields_and_come_first() -> None:
    for field in FIELDS:
        for prerequisite in field.prerequisites:
            assert fields.ORDER[prerequisite.field] < fields.ORDER[field.name]


def test_every_header_field_lies_in_a_member_of_the_key() -> None:
    source = (ROOT / "bpf_programs/runtime/key.h").read_text()
    sizes = {"__be64": 64, "__be32": 32, "__be16": 16, "__u8": 8}
    members = {
        name: sizes[kind] * int(count or 1)
        for kind, name, count in re.findall(r"\t(__\w+) (\w+)(?:\[(\d+)\])?;", source)
    }
    for field in FIELDS:
        if field is not FILTER_PROG:
            assert field.bits + field.shift <= members[field.member], field.name
    assert {field.member for field in FIELDS if field.member} == {name for name in members if "unused" not in name}


def test_only_header_fields_can_be_set() -> None:
    """And neither what says how to read the rest, nor what an XDP program cannot mend the checksum of."""
    unsettable = {field.name for field in FIELDS if not field.settable}
    assert unsettable == {
        *("in_port", "metadata", "filter_prog", "eth_type", "ip_proto", "ip_frag", "ipv6_exthdr", "mpls_bos"),
        *("sctp_src", "sctp_dst", "tcp_flags"),
    }


def test_the_documentation_has_exactly_this_table() -> None:
    text = (ROOT / "docs/flow-syntax.md").read_text()
    assert f"\n\n{fields.table()}\n" in text
