"""Table features with every property."""

from __future__ import annotations

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

IN_PORT = OxmId(0x8000, 0, False, 4)
ETH_SRC = OxmId(0x8000, 4, True, 12)
FILTER_PROG = OxmId(0xFFFF, 1, False, 8, 0xFF4F4B4F)

APPLY_AND_GOTO = (FeatureId(4), FeatureId(1))
OUTPUT_AND_GROUP = (FeatureId(0), FeatureId(22))

PROPERTIES: tuple[Property, ...] = (
    InstructionIds(APPLY_AND_GOTO),
    InstructionIdsMiss((FeatureId(4),)),
    NextTables(bytes([1, 2, 3])),
    NextTablesMiss(bytes([2])),
    WriteActionIds(OUTPUT_AND_GROUP),
    WriteActionIdsMiss((FeatureId(0),)),
    ApplyActionIds(OUTPUT_AND_GROUP),
    ApplyActionIdsMiss((FeatureId(22),)),
    MatchIds((IN_PORT, ETH_SRC)),
    WildcardIds((IN_PORT,)),
    WriteSetFieldIds((IN_PORT,)),
    WriteSetFieldIdsMiss(()),
    ApplySetFieldIds((IN_PORT,)),
    ApplySetFieldIdsMiss((IN_PORT,)),
)
FEATURES = TableFeatures(0, "table0", 0xFF, 0xF, 3, 1000, PROPERTIES)
