"""Matches, and the fields of set-field actions, between the wire (`ofext`) and the tables (`oko.flow`)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from ofext.oxm import Oxm
from oko.errors import BadAction, BadMatch
from oko.flow.action import SetField
from oko.flow.fields import BY_OXM, Field
from oko.flow.match import Condition, Match

_FEW_BITS: Final = 16
"""A field as narrow as this has the same value in many rules."""


def write_match(match: Match) -> tuple[Oxm, ...]:
    """The match as TLVs, in the order of the field table, which puts every field behind those it depends on."""
    return tuple(
        _oxm(condition.field, condition.value, None if condition.exact else condition.mask)
        for condition in match.conditions
    )


def read_match(fields: Iterable[Oxm]) -> Match:
    """The match that the TLVs say. Raises BadMatch."""
    return Match.of([_read_condition(oxm) for oxm in fields])


def write_set_field(action: SetField) -> Oxm:
    """What a set-field writes, as a TLV."""
    return _oxm(action.field, action.value, None)


def read_set_field(oxm: Oxm) -> SetField:
    """The set-field that the TLV says. Raises BadAction."""
    field = _field(oxm)
    if field is None:
        raise BadAction(f"field {_described(oxm)} cannot be set here", reason="bad-set-type")
    if oxm.mask is not None:
        raise BadAction(f"{field.name} is set under a mask: OpenFlow 1.3 sets whole fields", reason="bad-set-argument")
    if len(oxm.value) != field.size:
        raise BadAction(f"{field.name} has {field.size} bytes, not {len(oxm.value)}", reason="bad-set-len")
    return SetField(field, int.from_bytes(oxm.value, "big"))


def _read_condition(oxm: Oxm) -> Condition:
    field = _field(oxm)
    if field is None:
        raise BadMatch(f"field {_described(oxm)} is not matched here", reason="bad-field")
    data, mask_data = oxm.value, oxm.mask
    if len(data) != field.size:
        raise BadMatch(f"{field.name} has {field.size} bytes, not {len(data)}", reason="bad-len")
    value = int.from_bytes(data, "big")
    mask = field.full if mask_data is None else int.from_bytes(mask_data, "big")
    return _shared_condition(field, value, mask) if field.bits <= _FEW_BITS else Condition(field, value, mask)


@lru_cache(maxsize=1 << 12)
def _shared_condition(field: Field, value: int, mask: int) -> Condition:
    """One object for what many rules have in common."""
    return Condition(field, value, mask)


def _oxm(field: Field, value: int, mask: int | None) -> Oxm:
    return Oxm(
        field.oxm_class,
        field.oxm_field,
        value.to_bytes(field.size, "big"),
        None if mask is None else mask.to_bytes(field.size, "big"),
        field.experimenter,
    )


def _field(oxm: Oxm) -> Field | None:
    return BY_OXM.get((oxm.oxm_class, oxm.field, oxm.experimenter))


def _described(oxm: Oxm) -> str:
    owner = "" if oxm.experimenter is None else f" of experimenter {oxm.experimenter:#x}"
    return f"{oxm.oxm_class:#06x}:{oxm.field}{owner}"
