"""What the tables can do (OpenFlow 1.3.5, 7.3.5.5): all the same."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Final

from ofext import instructions as wire
from ofext.multipart import TableFeatures
from ofext.oxm import OxmId
from ofext.properties import (
    ApplyActionIds,
    ApplyActionIdsMiss,
    ApplySetFieldIds,
    ApplySetFieldIdsMiss,
    FeatureId,
    InstructionIds,
    InstructionIdsMiss,
    MatchIds,
    NextTables,
    NextTablesMiss,
    Property,
    WildcardIds,
    WriteActionIds,
    WriteActionIdsMiss,
    WriteSetFieldIds,
    WriteSetFieldIdsMiss,
)
from oko.flow.action import LAST_TABLE
from oko.flow.fields import FIELDS, FILTER_PROG, Field
from oko.wire.action import ACTION_TYPES

_METADATA: Final = (1 << 64) - 1

_INSTRUCTIONS: Final = (wire.Meter, wire.ApplyActions, wire.ClearActions, wire.WriteActions, wire.WriteMetadata)
"""Those of every table. There is a table to go to from all but the last."""


@cache
def table_features(rules: int) -> tuple[TableFeatures, ...]:
    """What each table can do; it holds `rules`, unless others hold some of them. filter_prog is left out: Open vSwitch
    gives up on a reply with a field it does not know."""
    return tuple(
        TableFeatures(table, f"table{table}", _METADATA, _METADATA, 0, rules, tuple(_properties(table)))
        for table in range(LAST_TABLE + 1)
    )


def _properties(table: int) -> Iterable[Property]:
    """A table-miss rule can do what others can."""
    later = bytes(range(table + 1, LAST_TABLE + 1))
    kinds = (*_INSTRUCTIONS, wire.GotoTable) if later else _INSTRUCTIONS
    instructions = tuple(FeatureId(wire.INSTRUCTIONS.numbers[kind]) for kind in kinds)
    actions = tuple(FeatureId(number) for number in ACTION_TYPES)
    matched = [field for field in FIELDS if field is not FILTER_PROG]
    settable = tuple(_id(field) for field in FIELDS if field.settable)
    return (
        InstructionIds(instructions),
        InstructionIdsMiss(instructions),
        NextTables(later),
        NextTablesMiss(later),
        WriteActionIds(actions),
        WriteActionIdsMiss(actions),
        ApplyActionIds(actions),
        ApplyActionIdsMiss(actions),
        MatchIds(tuple(_id(field, masked=field.maskable) for field in matched)),
        WildcardIds(tuple(_id(field) for field in matched)),
        WriteSetFieldIds(settable),
        WriteSetFieldIdsMiss(settable),
        ApplySetFieldIds(settable),
        ApplySetFieldIdsMiss(settable),
    )


def _id(field: Field, *, masked: bool = False) -> OxmId:
    payload = field.size * 2 if masked else field.size
    owner = 0 if field.experimenter is None else 4
    return OxmId(field.oxm_class, field.oxm_field, masked, owner + payload, field.experimenter)
