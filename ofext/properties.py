"""What a table can do (OpenFlow 1.3.5, section 7.3.5.5.2), property by property. Those that end in Miss are about the
table-miss rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from .codec import U32, Elements, Family, Padding, Repeat, Rest, fault
from .oxm import OxmId, OxmIdPart

BAD_PROPERTY_LEN: Final = fault("table-features-failed/bad-len")

TABLE_PROPERTIES: Final = Family("table property")


@dataclass(frozen=True, slots=True)
class FeatureId:
    """The type of an instruction or action. `body` is what follows its length: empty but for an experimenter's."""

    type: int
    body: bytes = b""


FeatureIds = Annotated[
    tuple[FeatureId, ...], Elements(Family("feature id"), FeatureId, padding=Padding.NONE, what=BAD_PROPERTY_LEN)
]
OxmIds = Annotated[tuple[OxmId, ...], Repeat(OxmIdPart(BAD_PROPERTY_LEN))]


@TABLE_PROPERTIES.member(0, what=BAD_PROPERTY_LEN)
@dataclass(frozen=True, slots=True)
class InstructionIds:
    """Instructions."""

    ids: FeatureIds = ()


@TABLE_PROPERTIES.member(1, what=BAD_PROPERTY_LEN)
@dataclass(frozen=True, slots=True)
class InstructionIdsMiss(InstructionIds):
    """Instructions."""


@TABLE_PROPERTIES.member(2, what=BAD_PROPERTY_LEN)
@dataclass(frozen=True, slots=True)
class NextTables:
    """Tables to go to, one byte each."""

    table_ids: Annotated[bytes, Rest()] = b""


@TABLE_PROPERTIES.member(3, what=BAD_PROPERTY_LEN)
@dataclass(frozen=True, slots=True)
class NextTablesMiss(NextTables):
    """Tables to go to, one byte each."""


@TABLE_PROPERTIES.member(4, what=BAD_PROPERTY_LEN)
@dataclass(frozen=True, slots=True)
class WriteActionIds:
    """Actions that can be written into the action set."""

    ids: FeatureIds = ()


@TABLE_PROPERTIES.member(5, what=BAD_PROPERTY_LEN)
@dataclass(frozen=True, slots=True)
class WriteActionIdsMiss(WriteActionIds):
    """Actions that can be written into the action set."""


@TABLE_PROPERTIES.member(6, what=BAD_PROPERTY_LEN)
@dataclass(frozen=True, slots=True)
class ApplyActionIds:
    """Actions that can be applied."""

    ids: FeatureIds = ()


@TABLE_PROPERTIES.member(7, what=BAD_PROPERTY_LEN)
@dataclass(frozen=True, slots=True)
class ApplyActionIdsMiss(ApplyActionIds):
    """Actions that can be applied."""


@TABLE_PROPERTIES.member(8, what=BAD_PROPERTY_LEN)
@dataclass(frozen=True, slots=True)
class MatchIds:
    """Fields that can be matched; `has_mask` says whether under a mask."""

    ids: OxmIds = ()


@TABLE_PROPERTIES.member(10, what=BAD_PROPERTY_LEN)
@dataclass(frozen=True, slots=True)
class WildcardIds:
    """Fields that can be left out of a match."""

    ids: OxmIds = ()


@TABLE_PROPERTIES.member(12, what=BAD_PROPERTY_LEN)
@dataclass(frozen=True, slots=True)
class WriteSetFieldIds:
    """Fields that a set-field in the action set can write."""

    ids: OxmIds = ()


@TABLE_PROPERTIES.member(13, what=BAD_PROPERTY_LEN)
@dataclass(frozen=True, slots=True)
class WriteSetFieldIdsMiss(WriteSetFieldIds):
    """Fields that a set-field in the action set can write."""


@TABLE_PROPERTIES.member(14, what=BAD_PROPERTY_LEN)
@dataclass(frozen=True, slots=True)
class ApplySetFieldIds:
    """Fields that a set-field that is applied can write."""

    ids: OxmIds = ()


@TABLE_PROPERTIES.member(15, what=BAD_PROPERTY_LEN)
@dataclass(frozen=True, slots=True)
class ApplySetFieldIdsMiss(ApplySetFieldIds):
    """Fields that a set-field that is applied can write."""


@TABLE_PROPERTIES.member(0xFFFE, what=BAD_PROPERTY_LEN)
@dataclass(frozen=True, slots=True)
class ExperimenterProperty:
    """A property that `experimenter` defines."""

    experimenter: U32
    exp_type: U32
    data: Annotated[bytes, Rest()] = b""


@TABLE_PROPERTIES.member(0xFFFF, what=BAD_PROPERTY_LEN)
@dataclass(frozen=True, slots=True)
class ExperimenterPropertyMiss(ExperimenterProperty):
    """A property that `experimenter` defines."""


Property = (
    InstructionIds
    | NextTables
    | WriteActionIds
    | ApplyActionIds
    | MatchIds
    | WildcardIds
    | WriteSetFieldIds
    | ApplySetFieldIds
    | ExperimenterProperty
)
