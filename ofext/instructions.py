"""Instructions and actions (OpenFlow 1.3.5, sections 7.2.4 and 7.2.5). Those without a class here are kept as bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from .codec import U8, U16, U32, U64, Aligned, Elements, Family, Pad, Padding, Recurring, Rest, fault
from .constants import CONTROLLER_NO_BUFFER
from .oxm import Oxm, OxmPart

_BAD_ACTION_LEN: Final = fault("bad-action/bad-len")
_BAD_SET_LEN: Final = fault("bad-action/bad-set-len")
_BAD_INSTRUCTION_LEN: Final = fault("bad-instruction/bad-len")

ACTIONS: Final = Family("action")
INSTRUCTIONS: Final = Family("instruction")


@ACTIONS.member(0, what=_BAD_ACTION_LEN)
@dataclass(frozen=True, slots=True)
class Output:
    """Send to `port`; `max_len` is how many bytes the controller gets, if it is the port."""

    port: U32
    max_len: Annotated[U16, Pad(6)] = CONTROLLER_NO_BUFFER


@ACTIONS.member(11, lead=4, what=_BAD_ACTION_LEN)
@dataclass(frozen=True, slots=True)
class CopyTtlOut:
    """Copy the TTL from the next-to-outermost header that has one to the outermost."""


@ACTIONS.member(12, lead=4, what=_BAD_ACTION_LEN)
@dataclass(frozen=True, slots=True)
class CopyTtlIn:
    """Copy the TTL from the outermost header that has one to the next."""


@ACTIONS.member(15, what=_BAD_ACTION_LEN)
@dataclass(frozen=True, slots=True)
class SetMplsTtl:
    """Set the TTL of the outermost label."""

    mpls_ttl: Annotated[U8, Pad(3)]


@ACTIONS.member(16, lead=4, what=_BAD_ACTION_LEN)
@dataclass(frozen=True, slots=True)
class DecMplsTtl:
    """Count down the TTL of the outermost label."""


@ACTIONS.member(17, what=_BAD_ACTION_LEN)
@dataclass(frozen=True, slots=True)
class PushVlan:
    """Put a VLAN tag of `ethertype` in front."""

    ethertype: Annotated[U16, Pad(2)]


@ACTIONS.member(18, lead=4, what=_BAD_ACTION_LEN)
@dataclass(frozen=True, slots=True)
class PopVlan:
    """Take the outermost VLAN tag away."""


@ACTIONS.member(19, what=_BAD_ACTION_LEN)
@dataclass(frozen=True, slots=True)
class PushMpls:
    """Put an MPLS label of `ethertype` in front."""

    ethertype: Annotated[U16, Pad(2)]


@ACTIONS.member(20, what=_BAD_ACTION_LEN)
@dataclass(frozen=True, slots=True)
class PopMpls:
    """Take the outermost MPLS label away; `ethertype` says what is below."""

    ethertype: Annotated[U16, Pad(2)]


@ACTIONS.member(21, what=_BAD_ACTION_LEN)
@dataclass(frozen=True, slots=True)
class SetQueue:
    """Choose the queue of the port that the packet is sent to."""

    queue_id: U32


@ACTIONS.member(22, what=_BAD_ACTION_LEN)
@dataclass(frozen=True, slots=True)
class Group:
    """Let a group process the packet."""

    group_id: U32


@ACTIONS.member(23, what=_BAD_ACTION_LEN)
@dataclass(frozen=True, slots=True)
class SetNwTtl:
    """Set the TTL or hop limit of the IP header."""

    nw_ttl: Annotated[U8, Pad(3)]


@ACTIONS.member(24, lead=4, what=_BAD_ACTION_LEN)
@dataclass(frozen=True, slots=True)
class DecNwTtl:
    """Count down the TTL or hop limit of the IP header."""


@ACTIONS.member(25, what=_BAD_ACTION_LEN)
@dataclass(frozen=True, slots=True)
class SetField:
    """Write the value of `field` into the packet. OpenFlow 1.3 allows no mask here."""

    field: Annotated[Oxm, Aligned(OxmPart(_BAD_SET_LEN), before=4, what=_BAD_ACTION_LEN)]


@ACTIONS.member(26, what=_BAD_ACTION_LEN)
@dataclass(frozen=True, slots=True)
class PushPbb:
    """Put a PBB service tag of `ethertype` in front."""

    ethertype: Annotated[U16, Pad(2)]


@ACTIONS.member(27, lead=4, what=_BAD_ACTION_LEN)
@dataclass(frozen=True, slots=True)
class PopPbb:
    """Take the outermost PBB service tag away."""


@ACTIONS.member(0xFFFF, what=_BAD_ACTION_LEN)
@dataclass(frozen=True, slots=True)
class ExperimenterAction:
    """An action that `experimenter` defines. `data` is a multiple of 8 bytes."""

    experimenter: U32
    data: Annotated[bytes, Rest(8)] = b""


@dataclass(frozen=True, slots=True)
class UnknownAction:
    """An action that has no class here. `body` is what follows the length, padding included: 4 bytes, 12, 20, …"""

    type: int
    body: bytes


Action = (
    Output
    | CopyTtlOut
    | CopyTtlIn
    | SetMplsTtl
    | DecMplsTtl
    | PushVlan
    | PopVlan
    | PushMpls
    | PopMpls
    | SetQueue
    | Group
    | SetNwTtl
    | DecNwTtl
    | SetField
    | PushPbb
    | PopPbb
    | ExperimenterAction
    | UnknownAction
)
ACTION_LIST: Final = Elements(ACTIONS, UnknownAction, padding=Padding.COUNTED, what=_BAD_ACTION_LEN)
Actions = Annotated[tuple[Action, ...], ACTION_LIST]


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


@INSTRUCTIONS.member(0xFFFF, what=_BAD_INSTRUCTION_LEN)
@dataclass(frozen=True, slots=True)
class ExperimenterInstruction:
    """An instruction that `experimenter` defines. `data` is a multiple of 8 bytes."""

    experimenter: U32
    data: Annotated[bytes, Rest(8)] = b""


@dataclass(frozen=True, slots=True)
class UnknownInstruction:
    """An instruction that has no class here. `body` is what follows the length: 4 bytes, 12, 20, …"""

    type: int
    body: bytes


Instruction = (
    GotoTable
    | WriteMetadata
    | WriteActions
    | ApplyActions
    | ClearActions
    | Meter
    | ExperimenterInstruction
    | UnknownInstruction
)
Instructions = Annotated[
    tuple[Instruction, ...],
    Recurring(Elements(INSTRUCTIONS, UnknownInstruction, padding=Padding.COUNTED, what=_BAD_INSTRUCTION_LEN)),
]
