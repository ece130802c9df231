"""Open vSwitch's own actions, which are those of Nicira's extension (ofp-actions.c of Open vSwitch 3.1: NXAST_*). They
are the same in OpenFlow 1.0 (`ofext.v10.actions` has those that OpenFlow 1.0 needs in place of actions of 1.3) and
in 1.3: an action of an experimenter, whose data begins with a subtype of 16 bits.

`read` and `write` are between them and the `ExperimenterAction` that a message carries. A *header* is the 32 bits in
front of a match field's value (class, number, mask bit, length), a *range* the first bit of a field and their number,
as `pack_range` has them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Final

from .codec import U8, U16, U32, U64, Family, Pad, Rest, fault, malformed
from .instructions import Actions, ExperimenterAction
from .v10 import actions as v10
from .v10.actions import RegLoad, ResubmitTable
from .v10.constants import NICIRA

_BAD_LEN: Final = fault("bad-action/bad-len")

NICIRA_ACTIONS: Final = Family("action of Nicira")
for _kind in (RegLoad, ResubmitTable):
    _subtype = v10.NICIRA_ACTIONS.numbers[_kind]
    NICIRA_ACTIONS.add(_subtype, v10.NICIRA_ACTIONS.parts[_subtype], _kind)


@NICIRA_ACTIONS.member(6, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class RegMove:
    """Copy `bits` bits from the field with the header `source` to that with the header `target`."""

    bits: U16
    source_offset: U16
    target_offset: U16
    source: U32
    target: U32


@NICIRA_ACTIONS.member(8, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class Note:
    """Do nothing. `note` has 6 bytes, 14, …"""

    note: Annotated[bytes, Rest()]


@NICIRA_ACTIONS.member(15, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class OutputReg:
    """Send to the port whose number is in the range `bits` of the field with the header `field`."""

    bits: U16
    field: U32
    max_len: Annotated[U16, Pad(6)]


@NICIRA_ACTIONS.member(16, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class Learn:
    """Add a rule or change one. `flags`: 1 tells when it is gone, 2 deletes it with the rule that learns. `specs` are
    its match and actions (`oko.wire.nicira`), padded to 8 bytes with what begins them."""

    idle_timeout: U16
    hard_timeout: U16
    priority: U16
    cookie: U64
    flags: U16
    table: Annotated[U8, Pad(1)]
    fin_idle_timeout: U16
    fin_hard_timeout: U16
    specs: Annotated[bytes, Rest()]


@NICIRA_ACTIONS.member(17, lead=6, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class Exit:
    """Do nothing more, neither here nor in the rules that led here."""


@NICIRA_ACTIONS.member(27, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class StackPush:
    """Push `bits` bits of a field on the stack."""

    offset: U16
    field: U32
    bits: Annotated[U16, Pad(6)]


@NICIRA_ACTIONS.member(28, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class StackPop:
    """Pop `bits` bits of a field off the stack."""

    offset: U16
    field: U32
    bits: Annotated[U16, Pad(6)]


@NICIRA_ACTIONS.member(35, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class Conntrack:
    """Track the connection of the packet, in the zone that the range `zone` of a field has, or that is `zone` itself
    if `zone_source` is 0; go on in `recirc_table` (255: do not). `flags`: 1 commits, 2 forces. `alg` is the port of
    the protocol that opens related connections."""

    flags: U16
    zone_source: U32
    zone: U16
    recirc_table: Annotated[U8, Pad(3)]
    alg: U16
    actions: Actions = ()


@NICIRA_ACTIONS.member(36, lead=2, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class ConntrackNat:
    """Within `Conntrack`: translate addresses. `present` says which bounds are in `bounds`, padded to 8 bytes."""

    flags: U16
    present: U16
    bounds: Annotated[bytes, Rest()]


@NICIRA_ACTIONS.member(43, lead=6, what=_BAD_LEN)
@dataclass(frozen=True, slots=True)
class ConntrackClear:
    """Forget what is known of the packet's connection."""


NiciraAction = (
    RegMove
    | RegLoad
    | Note
    | ResubmitTable
    | OutputReg
    | Learn
    | Exit
    | StackPush
    | StackPop
    | Conntrack
    | ConntrackNat
    | ConntrackClear
)

_SUBTYPE: Final = struct.Struct(">H")
_RANGE_BITS: Final = 6


def read(action: ExperimenterAction) -> NiciraAction | None:
    """What the action says; None for one of somebody else's, or that has no class here. Raises ProtocolError for one
    of a wrong length."""
    if action.experimenter != NICIRA or len(action.data) < _SUBTYPE.size:
        return None
    (subtype,) = _SUBTYPE.unpack_from(action.data)
    part = NICIRA_ACTIONS.parts.get(subtype)
    if part is None:
        return None
    read, stop = part.read(action.data, _SUBTYPE.size, len(action.data))
    if stop != len(action.data):
        raise malformed(f"action {subtype} of Nicira has {len(action.data)} bytes, it ends after {stop}", _BAD_LEN)
    found: NiciraAction = read
    return found


def write(action: NiciraAction) -> ExperimenterAction:
    """The action as a message carries it."""
    subtype = NICIRA_ACTIONS.number(action)
    return ExperimenterAction(NICIRA, _SUBTYPE.pack(subtype) + NICIRA_ACTIONS.parts[subtype].write(action))


def pack_range(start: int, bits: int) -> int:
    """A range as one number: the first bit, at most 1023, and how many they are, 1 to 64."""
    return start << _RANGE_BITS | bits - 1


def unpack_range(packed: int) -> tuple[int, int]:
    """The first bit of a range, and how many they are."""
    return packed >> _RANGE_BITS, (packed & (1 << _RANGE_BITS) - 1) + 1
