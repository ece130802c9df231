"""The field table against the standard's numbers, the key of the C parser, and the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from os_ken.ofproto import ofproto_v1_3

from oko.flow import fields
from oko.flow.fields import FIELDS, FILTER_PROG, OXM_BASIC

ROOT = Path(__file__).parents[3]
BASIC = [field for field in FIELDS if field.oxm_class == OXM_BASIC]


@pytest.mark.parametrize("field", BASIC, ids=lambda field: field.name)
def test_number_and_width_are_the_standards(field: fields.Field) -> None:
    headers = {name: getattr(ofproto_v1_3, f"OXM_OF_{name.upper()}") for name in (field.name,)}
    size = (field.bits + 7) // 8
    assert headers[field.name] == OXM_BASIC << 16 | field.oxm_field << 9 | size
    assert field.size == size


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
    sizes = {"__be32": 32, "__be16": 16, "__u8": 8}
    members = {
        name: sizes[kind] * int(count or 1)
        for kind, name, count in re.findall(r"\t(__\w+) (\w+)(?:\[(\d+)\])?;", source)
    }
    for field in FIELDS:
        if field is not FILTER_PROG:
            assert field.bits + field.shift <= members[field.member], field.name
    assert {field.member for field in FIELDS if field.member} == set(members)


def test_the_documentation_has_exactly_this_table() -> None:
    text = (ROOT / "docs/flow-syntax.md").read_text()
    assert f"\n\n{fields.table()}\n" in text
