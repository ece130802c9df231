from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ofext.oxm import Oxm
from ofext.v10 import match as wire
from ofext.v10.constants import VLAN_NONE, WILDCARDS_ALL, Wildcard
from oko.errors import BadMatch, NotExpressible
from oko.flow.fields import BY_NAME, FIELDS
from oko.flow.match import Match
from oko.flow.text import parse_rule
from oko.wire.v10.match import (
    NxmMatch,
    field_of,
    nxm_header,
    read_match,
    read_nxm,
    write_match,
    write_nxm,
)
from tests.ofext.strategies import of_class
from tests.oko.flow.strategies import matches
from tests.oko.flow.written import match


@given(matches())
def test_nxm_there_and_back(match: Match) -> None:
    try:
        written = write_nxm(match)
    except NotExpressible:
        assume(False)
    assert read_nxm(written) == NxmMatch(match)


FIXED = tuple(
    field
    for field in FIELDS
    if field.name.startswith(("in_port", "eth_", "vlan_", "ip_dscp", "ip_proto", "ipv4_", "tcp_", "udp_", "icmpv4_"))
)


@given(matches(FIXED))
def test_fixed_size_there_and_back(match: Match) -> None:
    try:
        written = write_match(match)
    except NotExpressible:
        assume(False)
    assert read_match(written) == match


@given(of_class(wire.Match))
def test_every_match_of_fixed_size_means_something(given: wire.Match) -> None:
    """Or is refused; and what it means is said again."""
    try:
        meant = read_match(given)
    except BadMatch:
        return
    assert read_match(write_match(meant)) == meant


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        pytest.param("in_port=1", [Oxm(0, 0, b"\0\1")], id="port"),
        pytest.param("in_port=LOCAL", [Oxm(0, 0, b"\xff\xfe")], id="LOCAL"),
        pytest.param("dl_vlan=5", [Oxm(0, 4, b"\x10\5", b"\x1f\xff")], id="VID"),
        pytest.param("dl_vlan=5,dl_vlan_pcp=3", [Oxm(0, 4, b"\x70\5")], id="VID and priority"),
        pytest.param("dl_vlan_pcp=3,vlan_vid=0x1000/0x1000", [Oxm(0, 4, b"\x70\0", b"\xf0\0")], id="priority"),
        pytest.param("vlan_vid=0", [Oxm(0, 4, b"\0\0")], id="untagged"),
        pytest.param("ip,ip_dscp=5", [Oxm(0, 3, b"\x08\0"), Oxm(0, 5, b"\x14")], id="DSCP"),
        pytest.param("metadata=5/7", [Oxm(0x8000, 2, bytes(7) + b"\5", bytes(7) + b"\7")], id="metadata"),
        pytest.param(
            "ip,ip_proto=132,sctp_dst=7",
            [Oxm(0, 3, b"\x08\0"), Oxm(0, 6, b"\x84"), Oxm(0x8000, 18, b"\0\7")],
            id="SCTP",
        ),
    ],
)
def test_nxm_fields(text: str, fields: list[Oxm]) -> None:
    assert list(write_nxm(match(text))) == fields
    assert read_nxm(fields).match == match(text)


def test_fields_of_openflow13_are_read_too() -> None:
    fields = [Oxm(0x8000, 0, b"\0\0\0\1"), Oxm(0x8000, 5, b"\x08\0"), Oxm(0x8000, 8, b"\5")]
    assert read_nxm(fields).match == match("in_port=1,ip,ip_dscp=5")


def test_cookies_are_no_part_of_the_packet() -> None:
    cookie = Oxm(1, 30, bytes(7) + b"\7", bytes(7) + b"\5")
    assert read_nxm([cookie, Oxm(0, 0, b"\0\1")]) == NxmMatch(match("in_port=1"), 5, 5)
    assert read_nxm([cookie._replace(mask=None)]) == NxmMatch(Match(), 7, (1 << 64) - 1)


@pytest.mark.parametrize(
    ("fields", "reason", "complaint"),
    [
        pytest.param([Oxm(1, 0, bytes(4))], "bad-field", "field 0x0001:0 is not", id="register"),
        pytest.param([Oxm(0, 0, bytes(4))], "bad-len", "in_port has 2 bytes", id="size"),
        pytest.param([Oxm(0, 0, bytes(2), b"\0\1")], "bad-mask", "in_port takes no mask", id="port under a mask"),
        pytest.param(
            [Oxm(0, 4, b"\x20\0", b"\x20\0")], "bad-mask", "vlan_pcp takes no mask", id="part of the priority"
        ),
        pytest.param([Oxm(0, 4, b"\x60\0", b"\xe0\0")], "bad-prereq", "vlan_pcp needs", id="priority of no tag"),
        pytest.param([Oxm(0, 3, b"\x08\0"), Oxm(0, 5, b"\5")], "bad-value", "low two bits", id="ECN in the TOS"),
        pytest.param([Oxm(0xFFFF, 1, bytes(4), None, 0xFF4F4B4F)], "bad-field", "0xffff:1", id="filter_prog"),
    ],
)
def test_nxm_matches_that_are_none(fields: list[Oxm], reason: str, complaint: str) -> None:
    with pytest.raises(BadMatch, match=complaint) as caught:
        read_nxm(fields)
    assert caught.value.reason == reason


def without(*bits: Wildcard) -> int:
    return WILDCARDS_ALL & ~sum(bits)


@pytest.mark.parametrize(
    ("text", "fixed"),
    [
        pytest.param("", wire.Match(), id="everything"),
        pytest.param("in_port=1", wire.Match(without(Wildcard.IN_PORT), 1), id="port"),
        pytest.param("vlan_vid=0", wire.Match(without(Wildcard.DL_VLAN), dl_vlan=VLAN_NONE), id="untagged"),
        pytest.param(
            "vlan_vid=0x1000/0x1000,vlan_pcp=3", wire.Match(without(Wildcard.DL_VLAN_PCP), dl_vlan_pcp=3), id="priority"
        ),
        pytest.param(
            "arp,arp_op=2,arp_spa=10.0.0.0/8",
            wire.Match(
                WILDCARDS_ALL & ~(Wildcard.DL_TYPE | Wildcard.NW_PROTO | 63 << 8) | 24 << 8,
                dl_type=0x806,
                nw_proto=2,
                nw_src=0x0A000000,
            ),
            id="ARP",
        ),
        pytest.param(
            "icmp,icmp_type=8",
            wire.Match(
                without(Wildcard.DL_TYPE, Wildcard.NW_PROTO, Wildcard.TP_SRC), dl_type=0x800, nw_proto=1, tp_src=8
            ),
            id="ICMP",
        ),
    ],
)
def test_match_of_fixed_size(text: str, fixed: wire.Match) -> None:
    written = write_match(match(text))
    assert read_match(written) == read_match(fixed) == match(text)
    assert [getattr(written, name) for name in wire.Match.__match_args__[1:]] == [
        getattr(fixed, name) for name in wire.Match.__match_args__[1:]
    ]


def test_fields_that_packets_do_not_have_do_not_count() -> None:
    fixed = wire.Match(without(Wildcard.TP_DST, Wildcard.NW_TOS, Wildcard.NW_PROTO) & ~(63 << 8), nw_proto=6, tp_dst=5)
    assert read_match(fixed) == Match()


@pytest.mark.parametrize(
    "text",
    [
        "ip,nw_src=10.0.0.1/255.0.255.255",
        "dl_src=2:0:0:0:0:0/2:0:0:0:0:0",
        "metadata=1",
        "arp,arp_op=256",
        "filter_prog=1",
    ],
)
def test_what_has_no_room_in_fixed_size(text: str) -> None:
    with pytest.raises(NotExpressible):
        write_match(parse_rule(f"{text},actions=drop").match)


@pytest.mark.parametrize("text", ["filter_prog=1", "ipv6,ipv6_exthdr=1", "in_port=70000"])
def test_what_has_no_field(text: str) -> None:
    with pytest.raises(NotExpressible):
        write_nxm(match(text))


def test_headers_name_fields() -> None:
    assert nxm_header(BY_NAME["in_port"]) == 0x00000002
    assert nxm_header(BY_NAME["eth_dst"]) == 0x00000206
    assert nxm_header(BY_NAME["mpls_label"]) == 0x80004404
    settable = [field for field in FIELDS if field.settable]
    assert [field_of(nxm_header(field)) for field in settable] == settable
    assert field_of(0x00000208) is None


@given(st.integers(0, 0xFFFFFFFF))
def test_any_header_names_a_field_or_none(header: int) -> None:
    field = field_of(header)
    assert field is None or nxm_header(field) & 0x1FF == header & 0x1FF
