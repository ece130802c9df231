from __future__ import annotations

from ofext.messages import decode, encode
from ofext.multipart import MultipartReply, TableFeaturesReply, join, split
from ofext.oxm import Oxm, OxmId, write_oxm
from ofext.properties import InstructionIds, MatchIds, NextTables, WildcardIds
from oko.flow.fields import FIELDS, FILTER_PROG
from oko.wire.table_features import table_features
from tests.ofext.oracles import needs_ovs_ofctl, osken_read, printed

RULES = 1000


def test_every_table_says_what_it_can_do() -> None:
    features = table_features(RULES)
    assert [table.table_id for table in features] == list(range(254))
    assert {table.max_entries for table in features} == {RULES}
    last = features[-1]
    assert NextTables(b"") in last.properties
    assert {len(table.properties) for table in features} == {14}
    instructions = [p for p in last.properties if type(p) is InstructionIds]
    assert [feature.type for feature in instructions[0].ids] == [6, 4, 5, 3, 2]


def test_ids_are_those_of_the_fields() -> None:
    """The length of an id is that of the field's payload, which a written field has."""
    (matched,) = [p for p in table_features(RULES)[0].properties if type(p) is MatchIds]
    fields = [field for field in FIELDS if field is not FILTER_PROG]
    for found, field in zip(matched.ids, fields, strict=True):
        mask = bytes(field.size) if field.maskable else None
        oxm = write_oxm(Oxm(field.oxm_class, field.oxm_field, bytes(field.size), mask, field.experimenter))
        assert found == OxmId(field.oxm_class, field.oxm_field, field.maskable, oxm[3], field.experimenter)


def test_they_come_in_parts() -> None:
    parts = [decode(encode(part))[0] for part in split(TableFeaturesReply(table_features(RULES)))]
    assert len(parts) > 1
    assert all(isinstance(part, MultipartReply) for part in parts)
    assert join(parts) == TableFeaturesReply(table_features(RULES))  # type: ignore[arg-type]


@needs_ovs_ofctl
def test_open_vswitch_reads_them() -> None:
    text = printed(next(split(TableFeaturesReply(table_features(RULES)))))
    assert "next tables: 1-253" in text
    assert "tcp_{src,dst,flags}" in text


def test_os_ken_reads_them() -> None:
    first = osken_read(encode(next(split(TableFeaturesReply(table_features(RULES)))), 5))
    assert [table.table_id for table in first.body[:3]] == [0, 1, 2]
    assert any(type(p) is WildcardIds for p in table_features(RULES)[0].properties)
