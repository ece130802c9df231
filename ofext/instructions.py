"""Instructions and actions (OpenFlow 1.3.5, sections 7.2.4 and 7.2.5). Those without a class here are kept as bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from .codec import U8, U16, U32, U64, Elements, Family, Pad, fault
from .constants import CONTROLLER_NO_BUFFER

_BAD_ACTION_LEN: Final = fault("bad-action/bad-len")
_BAD_INSTRUCTION_LEN: Final = fault("bad-instruction/bad-len")

ACTIONS: Final = Family("action")
INSTRUCTIONS: Final = Family("instruction")


@ACTIONS.member(0, what=_BAD_ACTION_LEN)
@dataclass(frozen=True, slots=True)
class Output:
    """Send to `port`; `max_len` is how many bytes the controller gets, if it is the port."""

    port: U32
    max_len: Annotated[U16, Pad(6)] = CONTROLLER_NO_BUFFER


@dataclass(frozen=True, slots=True)
class UnknownAction:
    """An action that has no class here. `body` is what follows the length, padding included: 4 bytes, 12, 20, …"""

    type: int
    body: bytes


Action = Output | UnknownAction
Actions = Annotated[tuple[Action, ...], Elements(ACTIONS, UnknownAction, padded=True, what=_BAD_ACTION_LEN)]


@INSTRUCTIONS.member(1, what=_BAD_INSTRUCTION_LEN)
@dataclass(frozen=True, slots=True)
class GotoTable:
    """Go on in a later table."""

    table_id: Annotated[U8, Pad(3)]


@INSTRUCTIONS.member(2, lead=4, what=_BAD_INSTRUCTION_LEN)
@dataclass(frozen=True, slots=True)
class WriteMetadata:
    """Set the bits of the metadata that `metadata_mask` has."""

    metadata: U64
    metadata_mask: U64


@INSTRUCTIONS.member(3, lead=4, what=_BAD_INSTRUCTION_LEN)
@dataclass(frozen=True, slots=True)
class WriteActions:
    """Merge into the action set."""

    actions: Actions = ()


@INSTRUCTIONS.member(4, lead=4, what=_BAD_INSTRUCTION_LEN)
@dataclass(frozen=True, slots=True)
class ApplyActions:
    """Do at once, in order."""

    actions: Actions = ()


@INSTRUCTIONS.member(5, lead=4, what=_BAD_INSTRUCTION_LEN)
@dataclass(frozen=True, slots=True)
class ClearActions:
    """Empty the action set."""


@INSTRUCTIONS.member(6, what=_BAD_INSTRUCTION_LEN)
@dataclass(frozen=True, slots=True)
class Meter:
    """Pass through a meter."""

    meter_id: U32


@dataclass(frozen=True, slots=True)
class UnknownInstruction:
    """An instruction that has no class here. `body` is what follows the length: 4 bytes, 12, 20, …"""

    type: int
    body: bytes


Instruction = GotoTable | WriteMetadata | WriteActions | ApplyActions | ClearActions | Meter | UnknownInstruction
Instructions = Annotated[
    tuple[Instruction, ...], Elements(INSTRUCTIONS, UnknownInstruction, padded=True, what=_BAD_INSTRUCTION_LEN)
]
