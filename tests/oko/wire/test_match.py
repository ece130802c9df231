from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofext.extension import FILTER_PROG_CLASS, FILTER_PROG_FIELD, FILTER_PROG_SIZE
from ofext.oxm import Oxm
from oko.errors import BadAction, BadMatch
from oko.flow.action import SetField
from oko.flow.fields import BY_NAME, FIELDS, FILTER_PROG
from oko.flow.match import Match
from oko.flow.text import parse_rule
from oko.wire.match import read_match, read_set_field, write_match, write_set_field
from tests.oko.flow.strategies import matches


@given(matches(), st.randoms(use_true_random=False))
def test_order_of_fields_does_not_matter(match: Match, random: Random) -> None:
    fields = list(write_match(match))
    random.shuffle(fields)
    assert read_match(fields) == match


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("in_port=1", Oxm(0x8000, 0, b"\0\0\0\1")),
        ("vlan_vid=0x1000/0x1000", Oxm(0x8000, 6, b"\x10\0", b"\x10\0")),
        ("tcp,tcp_flags=0x2/0x12", Oxm(0xFFFF, 42, b"\0\2", b"\0\x12", 0x4F4E4600)),
        ("ip,nw_frag=first", Oxm(0x0001, 26, b"\1")),
        ("filter_prog=7", Oxm(0xFFFF, 1, b"\0\0\0\7", None, 0xFF4F4B4F)),
    ],
)
def test_fields_of_every_owner(text: str, last: Oxm) -> None:
    match = parse_rule(f"{text},actions=drop").match
    assert write_match(match)[-1] == last
    assert read_match(write_match(match)) == match


@pytest.mark.parametrize(
    ("fields", "reason", "complaint"),
    [
        pytest.param([Oxm(0x8000, 77, b"\0")], "bad-field", "field 0x8000:77 is not", id="unknown"),
        pytest.param([Oxm(0xFFFF, 1, bytes(4), None, 5)], "bad-field", "experimenter 0x5", id="owner"),
        pytest.param([Oxm(0xFFFF, 42, bytes(2), None, 0xFF4F4B4F)], "bad-field", "0xff4f4b4f", id="other owner"),
        pytest.param([Oxm(0x8000, 5, b"\0")], "bad-len", "eth_type has 2 bytes", id="size"),
        pytest.param([Oxm(0x8000, 5, b"\x08\0", b"\xff\0")], "bad-mask", "eth_type takes no", id="mask"),
        pytest.param([Oxm(0x8000, 0, bytes(4))] * 2, "dup-field", "in_port is matched twice", id="twice"),
        pytest.param([Oxm(0x8000, 13, bytes(2))], "bad-prereq", "tcp_src needs", id="prerequisite"),
        pytest.param([Oxm(0x8000, 6, b"\x20\0")], "bad-value", "13 bits", id="too many bits"),
    ],
)
def test_matches_that_are_none(fields: list[Oxm], reason: str, complaint: str) -> None:
    with pytest.raises(BadMatch, match=complaint) as caught:
        read_match(fields)
    assert caught.value.reason == reason


def test_a_mask_of_zeros_is_no_condition() -> None:
    assert read_match([Oxm(0x8000, 3, bytes(6), bytes(6))]) == Match()
    with pytest.raises(BadMatch):
        read_match([Oxm(0x8000, 3, b"\1" + bytes(5), bytes(6))])


@pytest.mark.parametrize("field", [field for field in FIELDS if field.settable], ids=lambda field: field.name)
def test_set_field(field: object) -> None:
    assert field in FIELDS
    action = SetField(BY_NAME[field.name], field.full)
    assert read_set_field(write_set_field(action)) == action


@pytest.mark.parametrize(
    ("oxm", "reason"),
    [
        pytest.param(Oxm(0x8000, 77, b"\0"), "bad-set-type", id="unknown"),
        pytest.param(Oxm(0x8000, 3, bytes(6), bytes(6)), "bad-set-argument", id="mask"),
        pytest.param(Oxm(0x8000, 3, bytes(5)), "bad-set-len", id="size"),
    ],
)
def test_fields_that_are_not_set(oxm: Oxm, reason: str) -> None:
    with pytest.raises(BadAction) as caught:
        read_set_field(oxm)
    assert caught.value.reason == reason


def test_filter_prog_has_the_number_that_the_extension_gives_it() -> None:
    """Neither room may import the other, so the number stands in both."""
    ours = (FILTER_PROG.oxm_class, FILTER_PROG.oxm_field, FILTER_PROG.size, FILTER_PROG.maskable)
    assert ours == (FILTER_PROG_CLASS, FILTER_PROG_FIELD, FILTER_PROG_SIZE, False)
