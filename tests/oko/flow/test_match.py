"""Matches: what is refused and why, and the two relations against counting."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oko.errors import BadMatch
from oko.flow.fields import BY_NAME
from oko.flow.match import Condition, Match
from tests.oko.flow.strategies import matches


def condition(name: str, value: int, mask: int | None = None) -> Condition:
    field = BY_NAME[name]
    return Condition(field, value, field.full if mask is None else mask)


IS_IP = condition("eth_type", 0x0800)
IS_TCP = condition("ip_proto", 6)


REFUSED = {
    "value too wide": ([condition("eth_type", 0x10000)], "bad-value"),
    "negative value": ([condition("in_port", -1)], "bad-value"),
    "mask too wide": ([condition("eth_src", 0, 1 << 48)], "bad-mask"),
    "mask on an unmaskable field": ([condition("eth_type", 0x0800, 0xFF00)], "bad-mask"),
    "bits outside the mask": ([condition("eth_src", 3, 1)], "bad-wildcards"),
    "same field twice": ([condition("in_port", 1), condition("in_port", 1)], "dup-field"),
    "same field, once for any value": ([condition("in_port", 0, 0), condition("in_port", 1)], "dup-field"),
    "no eth_type": ([condition("ipv4_src", 1)], "bad-prereq"),
    "other eth_type": ([condition("eth_type", 0x86DD), condition("ip_proto", 6)], "bad-prereq"),
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


def test_an_empty_mask_is_no_condition() -> None:
    assert Match.of([condition("ipv4_src", 0, 0), condition("filter_prog", 0, 0)]) == Match()


@pytest.mark.parametrize("program", [1, 65535])
def test_program_and_headers(program: int) -> None:
    match = Match.of([condition("filter_prog", program), IS_IP])
    assert (match.program, match.headers) == (program, (IS_IP,))
    assert (Match.of([IS_IP]).program, Match.of([IS_IP]).headers) == (None, (IS_IP,))
    assert (Match().program, Match().headers) == (None, ())


@given(matches(), st.randoms())
def test_the_order_of_conditions_does_not_matter(match: Match, random: object) -> None:
    shuffled = list(match.conditions)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
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
