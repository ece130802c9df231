"""Actions and instructions (OpenFlow 1.3.5, 5.9 to 5.12). A rule without any drops."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from oko.flow.fields import Field
from oko.flow.nicira_action import NiciraAction

MAX_PORT: Final = 0xFFFFFF00
"""OFPP_MAX: the highest number of a physical port (OpenFlow 1.3.5, 7.2.1)."""

RESERVED_PORTS: Final = {
    "IN_PORT": 0xFFFFFFF8,
    "TABLE": 0xFFFFFFF9,
    "NORMAL": 0xFFFFFFFA,
    "FLOOD": 0xFFFFFFFB,
    "ALL": 0xFFFFFFFC,
    "CONTROLLER": 0xFFFFFFFD,
    "LOCAL": 0xFFFFFFFE,
    "ANY": 0xFFFFFFFF,
}
"""The ports that stand for something else, by OpenFlow's name (OpenFlow 1.3.5, 7.2.1: OFPP_*)."""

IN_PORT: Final = RESERVED_PORTS["IN_PORT"]
TABLE: Final = RESERVED_PORTS["TABLE"]
NORMAL: Final = RESERVED_PORTS["NORMAL"]
FLOOD: Final = RESERVED_PORTS["FLOOD"]
ALL: Final = RESERVED_PORTS["ALL"]
CONTROLLER: Final = RESERVED_PORTS["CONTROLLER"]
LOCAL: Final = RESERVED_PORTS["LOCAL"]
"""LOCAL is a port like any other once the bridge has it: an interface that okod makes."""

NO_BUFFER: Final = 0xFFFF
"""OFPCML_NO_BUFFER: the length of an output that asks for the whole packet (OpenFlow 1.3.5, 7.2.5)."""

LAST_TABLE: Final = 253
LAST_GROUP: Final = 0xFFFFFF00
"""OFPG_MAX."""


@dataclass(frozen=True, slots=True)
class Output:
    """Send the packet out of `port`: a number, LOCAL, IN_PORT, FLOOD, ALL or CONTROLLER; in Open vSwitch also NORMAL.
    As OpenFlow has it, never back to the port it came from, but for IN_PORT. `max_len`, in bytes, is kept for who asks
    about the rule: the controller gets the whole packet, as nothing is buffered."""

    port: int
    max_len: int = NO_BUFFER


@dataclass(frozen=True, slots=True)
class Group:
    """Let the group `number` process the packet."""

    number: int


@dataclass(frozen=True, slots=True)
class SetField:
    """Write `value` into `field`, and mend the checksums that cover it. A packet that does not carry the field, being
    cut off, stays as it is. Of vlan_vid, bit 12 (OFPVID_PRESENT) is not written."""

    field: Field
    value: int


@dataclass(frozen=True, slots=True)
class PushVlan:
    """Put a new outermost tag behind the Ethernet addresses, with `tpid` 0x8100 or 0x88a8 and the VID and PCP of the
    tag that was outermost, 0 without one."""

    tpid: int


@dataclass(frozen=True, slots=True)
class PopVlan:
    """Take the outermost tag away."""


@dataclass(frozen=True, slots=True)
class PushMpls:
    """Put a new outermost label behind the Ethernet addresses, before any tag, with `eth_type` 0x8847 or 0x8848. Label
    and TC are copied from a label that the packet has right there (eth_type MPLS, no tags), else 0; the TTL from that
    label, or from the IP header, else 64; bottom-of-stack is set when there is no label below it."""

    eth_type: int


@dataclass(frozen=True, slots=True)
class PopMpls:
    """Take the outermost label away; what follows is of `eth_type`."""

    eth_type: int


@dataclass(frozen=True, slots=True)
class DecTtl:
    """One less in the TTL or hop limit. At 0 or 1 the packet is invalid: the controller gets it, with the reason
    invalid-ttl, and nothing more happens to it; what was sent before stays sent."""


@dataclass(frozen=True, slots=True)
class SetTtl:
    ttl: int


@dataclass(frozen=True, slots=True)
class DecMplsTtl:
    """As `DecTtl`, of the outermost label."""


@dataclass(frozen=True, slots=True)
class SetMplsTtl:
    ttl: int


@dataclass(frozen=True, slots=True)
class CopyTtlOut:
    """Copy the TTL from the next-to-outermost header with a TTL to the outermost: label to label, or IP to label."""


@dataclass(frozen=True, slots=True)
class CopyTtlIn:
    """The other way."""


@dataclass(frozen=True, slots=True)
class Pass:
    """Leave the packet to Open vSwitch as it came. As `Continue`, only in an attached switch, all that its rule does,
    and without a form on the wire: what stands for a rule of Open vSwitch's."""


@dataclass(frozen=True, slots=True)
class Continue:
    """Leave the packet to Open vSwitch behind the shim of `shim_id` (`oko.flow.shim`), which does there what the rule
    says: `instructions`, as OpenFlow 1.3 has them on the wire. Nothing here looks into them."""

    shim_id: int
    instructions: bytes = b""


Action = (
    Output
    | Group
    | SetField
    | PushVlan
    | PopVlan
    | PushMpls
    | PopMpls
    | DecTtl
    | SetTtl
    | DecMplsTtl
    | SetMplsTtl
    | CopyTtlOut
    | CopyTtlIn
    | Pass
    | Continue
    | NiciraAction
)

SET_ORDER: Final[tuple[type[Action], ...]] = (
    CopyTtlIn,
    PopVlan,
    PopMpls,
    PushMpls,
    PushVlan,
    CopyTtlOut,
    DecTtl,
    DecMplsTtl,
    SetTtl,
    SetMplsTtl,
    SetField,
    Group,
    Output,
)
"""The order in which an action set is executed (OpenFlow 1.3.5, 5.10), set-fields among each other by OXM number. A
group makes the output void."""


@dataclass(frozen=True, slots=True)
class Meter:
    """OFPIT_METER: drop the packet if the meter `number` says so."""

    number: int


@dataclass(frozen=True, slots=True)
class ApplyActions:
    """OFPIT_APPLY_ACTIONS: do these at once, in order."""

    actions: tuple[Action, ...] = ()
    _hash: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash(self.actions))

    def __hash__(self) -> int:
        """Found out once: what many rules do is looked up for each of them."""
        return self._hash


@dataclass(frozen=True, slots=True)
class ClearActions:
    """OFPIT_CLEAR_ACTIONS: empty the action set."""


@dataclass(frozen=True, slots=True)
class WriteActions:
    """OFPIT_WRITE_ACTIONS: put these into the action set, each in the place of one of its kind (a set-field, of its
    field)."""

    actions: tuple[Action, ...] = ()


@dataclass(frozen=True, slots=True)
class WriteMetadata:
    """OFPIT_WRITE_METADATA: the bits of the metadata under `mask` become those of `value`."""

    value: int
    mask: int


@dataclass(frozen=True, slots=True)
class GotoTable:
    """OFPIT_GOTO_TABLE: go on in a later table."""

    table: int


Instruction = Meter | ApplyActions | ClearActions | WriteActions | WriteMetadata | GotoTable

INSTRUCTION_ORDER: Final[tuple[type[Instruction], ...]] = (
    Meter,
    ApplyActions,
    ClearActions,
    WriteActions,
    WriteMetadata,
    GotoTable,
)
"""The order in which a rule's instructions are carried out, at most one of each (OpenFlow 1.3.5, 5.9)."""


def in_set_order(actions: Iterable[Action]) -> tuple[Action, ...]:
    """What an action set holds into which these were written, as it is executed: the last of each kind (of set-fields,
    of each field), in the order of SET_ORDER. A group makes an output void (OpenFlow 1.3.5, 5.10)."""
    held = {_kind(action): action for action in actions}
    if (Group, 0) in held:
        held.pop((Output, 0), None)
    return tuple(held[kind] for kind in sorted(held, key=lambda kind: (SET_ORDER.index(kind[0]), kind[1])))


def _kind(action: Action) -> tuple[type[Action], int]:
    return (type(action), action.field.oxm_field if isinstance(action, SetField) else 0)


@dataclass(frozen=True, slots=True)
class References:
    """What the actions and instructions of a rule name, by number."""

    outputs: frozenset[int]
    groups: frozenset[int]
    meters: frozenset[int]


@lru_cache(maxsize=1 << 12)
def references(instructions: tuple[Instruction, ...]) -> References:
    """What instructions name. Remembered: many rules do the same."""
    actions = [a for item in instructions if isinstance(item, ApplyActions | WriteActions) for a in item.actions]
    return References(
        frozenset(action.port for action in actions if isinstance(action, Output)),
        frozenset(action.number for action in actions if isinstance(action, Group)),
        frozenset(item.number for item in instructions if isinstance(item, Meter)),
    )
