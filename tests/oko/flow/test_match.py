"""Matches: what is refused and why, and the two relations against counting."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oko.errors import BadMatch
from oko.flow.fields import BY_NAME, Prerequisite
from oko.flow.match import Condition, Match, implied
from tests.oko.flow.strategies import matches


def condition(name: str, value: int, mask: int | None = None) -> Condition:
    field = BY_NAME[name]
    return Condition(field, value, field.full if mask is None else mask)


IS_IP = condition("eth_type", 0x0800)
IS_TCP = condition("ip_proto", 6)
IS_IPV6 = condition("eth_type", 0x86DD)
ICMPV6 = (IS_IPV6, condition("ip_proto", 58))
ANY_TAG = condition("vlan_vid", 0x1000, 0x1000)


REFUSED = {
    "value too wide": ([condition("eth_type", 0x10000)], "bad-value"),
    "negative value": ([condition("in_port", -1)], "bad-value"),
    "mask too wide": ([condition("eth_src", 0, 1 << 48)], "bad-mask"),
    "mask on an unmaskable field": ([condition("eth_type", 0x0800, 0xFF00)], "bad-mask"),
    "bits outside the mask": ([condition("eth_src", 3, 1)], "bad-wildcards"),
    "same field twice": ([condition("in_port", 1), condition("in_port", 1)], "dup-field"),
    "same field, once for any value": ([condition("in_port", 0, 0), condition("in_port", 1)], "dup-field"),
    "no eth_type": ([condition("ipv4_src", 1)], "bad-prereq"),
    "other eth_type": ([condition("eth_type", 0x0806), condition("ip_proto", 6)], "bad-prereq"),
    "the other version of IP": ([IS_IPV6, condition("ipv4_src", 1)], "bad-prereq"),
    "ICMPv6 over IPv4": ([IS_IP, condition("ip_proto", 58), condition("icmpv6_type", 1)], "bad-prereq"),
    "no type of neighbour discovery": ([*ICMPV6, condition("ipv6_nd_target", 1)], "bad-prereq"),
    "other type of neighbour discovery": (
        [*ICMPV6, condition("icmpv6_type", 136), condition("ipv6_nd_sll", 1)],
        "bad-prereq",
    ),
    "no tag for a PCP": ([condition("vlan_pcp", 1)], "bad-prereq"),
    "untagged with a PCP": ([condition("vlan_vid", 0), condition("vlan_pcp", 1)], "bad-prereq"),
    "a VID that may be no tag, with a PCP": ([condition("vlan_vid", 5, 0xFFF), condition("vlan_pcp", 1)], "bad-prereq"),
    "no MPLS": ([IS_IP, condition("mpls_label", 1)], "bad-prereq"),
    "VID without the bit of a tag": ([condition("vlan_vid", 5)], "bad-value"),
    "VID without that bit under a mask": ([condition("vlan_vid", 5, 0x100F)], "bad-value"),
    "VID too wide": ([condition("vlan_vid", 0x2000)], "bad-value"),
    "later, but no fragment": ([IS_IP, condition("ip_frag", 2)], "bad-value"),
    "TCP flags too wide": ([IS_IP, IS_TCP, condition("tcp_flags", 0x1000)], "bad-value"),
    "mask on a PCP": ([condition("vlan_vid", 0x1000, 0x1000), condition("vlan_pcp", 1, 1)], "bad-mask"),
    "no ip_proto": ([IS_IP, condition("tcp_dst", 80)], "bad-prereq"),
    "other ip_proto": ([IS_IP, IS_TCP, condition("udp_dst", 80)], "bad-prereq"),
    "prerequisite with an empty mask": ([condition("eth_type", 0, 0), condition("ipv4_src", 1)], "bad-prereq"),
    "program 0": ([condition("filter_prog", 0)], "bad-value"),
    "program 65536": ([condition("filter_prog", 65536)], "bad-value"),
}


@pytest.mark.parametrize(("conditions", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(conditions: list[Condition], reason: str) -> None:
    with pytest.raises(BadMatch) as refused:
        Match.of(conditions)
    assert refused.value.reason == reason
    assert conditions[-1].field.name in str(refused.value)


ALIKE = {
    "bits outside the mask": ([condition("eth_src", 1, 1)], [condition("eth_src", 3, 1)], "bad-wildcards"),
    "value too wide": ([condition("eth_src", 1)], [condition("eth_src", 1 << 48)], "bad-value"),
    "negative value": ([condition("in_port", 1)], [condition("in_port", -1)], "bad-value"),
    "other eth_type": (
        [IS_IP, condition("ipv4_src", 1)],
        [condition("eth_type", 0x0806), condition("ipv4_src", 1)],
        "bad-prereq",
    ),
    "program 0": ([condition("filter_prog", 1)], [condition("filter_prog", 0)], "bad-value"),
    "VID without the bit of a tag": ([condition("vlan_vid", 0x1005)], [condition("vlan_vid", 5)], "bad-value"),
}


@pytest.mark.parametrize(("right", "wrong", "reason"), ALIKE.values(), ids=ALIKE.keys())
def test_refused_behind_a_right_one_of_the_same_fields(
    right: list[Condition], wrong: list[Condition], reason: str
) -> None:
    Match.of(right)
    with pytest.raises(BadMatch) as refused:
        Match.of(wrong)
    assert refused.value.reason == reason


ACCEPTED = {
    "no tag": [condition("vlan_vid", 0)],
    "no tag, under a mask": [condition("vlan_vid", 0, 0x1000)],
    "any tag": [ANY_TAG],
    "a VID": [condition("vlan_vid", 0x1005)],
    "VID 0": [condition("vlan_vid", 0x1000)],
    "some bits of a VID": [condition("vlan_vid", 0x1004, 0x1004)],
    "some bits of a VID, or no tag": [condition("vlan_vid", 4, 0xF)],
    "any tag with a PCP": [ANY_TAG, condition("vlan_pcp", 7)],
    "a VID with a PCP": [condition("vlan_vid", 0x1005), condition("vlan_pcp", 0)],
    "some VIDs with a PCP": [condition("vlan_vid", 0x1004, 0x1004), condition("vlan_pcp", 0)],
    "no fragment": [IS_IP, condition("ip_frag", 0)],
    "any fragment": [IS_IPV6, condition("ip_frag", 1, 1)],
    "a later fragment": [IS_IPV6, condition("ip_frag", 2, 2)],
    "ports over IPv6": [IS_IPV6, condition("ip_proto", 132), condition("sctp_dst", 80)],
    "TCP flags under a mask": [IS_IP, IS_TCP, condition("tcp_flags", 0x002, 0x012)],
    "extension headers": [IS_IPV6, condition("ipv6_exthdr", 0, 0x100)],
    "target of a solicitation": [*ICMPV6, condition("icmpv6_type", 135), condition("ipv6_nd_target", 1)],
    "target of an advertisement": [*ICMPV6, condition("icmpv6_type", 136), condition("ipv6_nd_target", 1)],
    "multicast MPLS": [condition("eth_type", 0x8848), condition("mpls_bos", 1)],
    "metadata under a mask": [condition("metadata", 1 << 63, 1 << 63)],
}


@pytest.mark.parametrize("conditions", ACCEPTED.values(), ids=ACCEPTED.keys())
def test_accepted(conditions: list[Condition]) -> None:
    assert set(Match.of(conditions).conditions) == set(conditions)


IMPLIED = {
    "exact": (Prerequisite("eth_type", (0x0800,)), IS_IP, True),
    "one of several": (Prerequisite("eth_type", (0x86DD, 0x0800)), IS_IP, True),
    "none of several": (Prerequisite("eth_type", (0x0806, 0x8035)), IS_IP, False),
    "another field": (Prerequisite("ip_proto", (6,)), IS_IP, False),
    "under its mask": (Prerequisite("vlan_vid", (0x1000,), 0x1000), ANY_TAG, True),
    "under a wider mask": (Prerequisite("vlan_vid", (0x1000,), 0x1000), condition("vlan_vid", 0x1005), True),
    "under a mask without the bit": (Prerequisite("vlan_vid", (0x1000,), 0x1000), condition("vlan_vid", 5, 0xF), False),
    "another value under its mask": (Prerequisite("vlan_vid", (0x1000,), 0x1000), condition("vlan_vid", 0), False),
    "exact, from a masked condition": (Prerequisite("vlan_vid", (0x1000,)), ANY_TAG, False),
}


@pytest.mark.parametrize(("prerequisite", "known", "answer"), IMPLIED.values(), ids=IMPLIED.keys())
def test_implied(prerequisite: Prerequisite, known: Condition, answer: bool) -> None:
    assert implied(prerequisite, {known.field.name: known}) == answer


def test_an_empty_mask_is_no_condition() -> None:
    assert Match.of([condition("ipv4_src", 0, 0), condition("filter_prog", 0, 0)]) == Match()


@pytest.mark.parametrize("program", [1, 65535])
def test_program_and_headers(program: int) -> None:
    match = Match.of([condition("filter_prog", program), IS_IP])
    assert (match.program, match.headers) == (program, (IS_IP,))
    assert (Match.of([IS_IP]).program, Match.of([IS_IP]).headers) == (None, (IS_IP,))
    assert (Match().program, Match().headers) == (None, ())


@given(matches(), st.randoms())
def test_the_order_of_conditions_does_not_matter(match: Match, random: Random) -> None:
    shuffled = list(match.conditions)
    random.shuffle(shuffled)
    assert Match.of(shuffled) == match


# A world small enough to be counted: two low bits of eth_src, the low bit of eth_dst, two ports of which a match may
# name either, a third that none names, and any set of two programs saying yes.
WORLD = list(product(range(4), range(2), (1, 2, 3), (frozenset(), frozenset({1}), frozenset({2}), frozenset({1, 2}))))


@st.composite
def small_matches(draw: st.DrawFn) -> Match:
    src_mask, dst_mask = draw(st.integers(0, 3)), draw(st.integers(0, 1))
    conditions = [
        condition("eth_src", draw(st.integers(0, 3)) & src_mask, src_mask),
        condition("eth_dst", draw(st.integers(0, 1)) & dst_mask, dst_mask),
    ]
    for name in ("in_port", "filter_prog"):
        if draw(st.booleans()):
            conditions.append(condition(name, draw(st.integers(1, 2))))
    return Match.of(conditions)


def described(match: Match) -> set[int]:
    """The members of WORLD that `match` describes, by index."""
    found = set()
    for index, (src, dst, in_port, programs) in enumerate(WORLD):
        headers = {"eth_src": src, "eth_dst": dst, "in_port": in_port}
        holds = all(headers[c.field.name] & c.mask == c.value for c in match.headers)
        if holds and (match.program is None or match.program in programs):
            found.add(index)
    return found


@given(small_matches(), small_matches())
def test_covers_is_the_superset(one: Match, other: Match) -> None:
    assert one.covers(other) == (described(one) >= described(other))


@given(small_matches(), small_matches())
def test_overlaps_is_a_packet_in_common(one: Match, other: Match) -> None:
    assert one.overlaps(other) == bool(described(one) & described(other))


@given(matches(), matches())
def test_covers_and_overlaps_agree_on_any_matches(one: Match, other: Match) -> None:
    assert one.covers(one)
    assert one.overlaps(one)
    assert Match().covers(one)
    assert one.overlaps(other) == other.overlaps(one)
    if one.covers(other):
        assert one.overlaps(other)
        assert other == one or not other.covers(one)
