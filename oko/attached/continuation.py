"""What Open vSwitch is told so that it continues a packet for which a filter rule has been chosen: Oko's own rules.

A packet comes with a shim, whose id stands for the rule. Three of Oko's own rules in table 0 see it, one after the
other, each of which marks it in register 15 and lets the lookup begin anew:

    of the port    in_port=P, no shim yet seen          → reg15=0x40000000
    of the id      reg15=0x40000000, the shim of ID     → takes the shim off, reg15=0x80000000|ID
    of the rule    reg15=0x80000000|ID, PREREQUISITES   → reg15=0, the actions of the filter rule

Whatever has a mark and meets none of them is dropped, as is every shim that came by a port without XDP, where anybody
may send one. The shim is taken off by one rule and the actions are done by another because Open vSwitch knows the type
of a packet from the match only: behind decap() it would refuse every action that writes into IP. As it all happens in
table 0, the actions may go on in any other table, and nothing tells the packet from one that met the rule there.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ofext.codec import Layout
from ofext.constants import TABLE_ALL
from ofext.instructions import (
    Action,
    ApplyActions,
    ExperimenterAction,
    Group,
    Instruction,
    Instructions,
    Output,
    PushVlan,
    SetField,
    SetQueue,
    WriteActions,
)
from ofext.messages import FlowMod
from ofext.oxm import Oxm
from oko.attached import shim
from oko.attached.shim_id import RULE_IDS, SUSPENDED
from oko.flow.action import MAX_PORT
from oko.flow.fields import BY_NAME, VLAN_PRESENT
from oko.flow.match import Condition, Match
from oko.flow.rule import Command
from oko.wire.match import write_match

RESERVED_PRIORITIES: Final = (shim.PRIORITY, shim.DROP_PRIORITY)
"""Of rules in table 0: those of Oko's own, which nobody else may use."""
MARKS: Final = 0xC0000000
"""The bits of register 15 that nobody else may use in table 0."""

_SEEN: Final = 0x40000000
_CHOSEN: Final = 0x80000000
_NICIRA: Final = 0x00002320
_NXM: Final = 0x0001
_REGISTER: Final = 15  # NXM_NX_REG15
_DECAP: Final = struct.Struct(">H2xI")  # nx_action_decap of ofp-actions.c, behind the vendor
_DECAP_SUBTYPE: Final = 47
_USE_NEXT_PROTO: Final = 0x0000FFFE
_RESUBMIT: Final = struct.Struct(">HHB3x")  # nx_action_resubmit
_RESUBMIT_TABLE_SUBTYPE: Final = 14
_IN_PORT: Final = 0xFFF8
_ALL_BITS: Final = (1 << 64) - 1


def _marked(value: int, mask: int | None = None) -> Oxm:
    return Oxm(_NXM, _REGISTER, value.to_bytes(4, "big"), None if mask is None else mask.to_bytes(4, "big"))


UNMARKED: Final = _marked(0, MARKS)
"""What every packet meets that has no mark."""
IMPOSSIBLE: Final = _marked(MARKS, MARKS)
"""What no packet meets: it has both marks."""


def _mark(value: int) -> SetField:
    return SetField(_marked(value))


_DECAPSULATE: Final = ExperimenterAction(_NICIRA, _DECAP.pack(_DECAP_SUBTYPE, _USE_NEXT_PROTO))
_BEGIN_ANEW: Final = ExperimenterAction(_NICIRA, _RESUBMIT.pack(_RESUBMIT_TABLE_SUBTYPE, _IN_PORT, 0))
_UNTAGGED: Final = Oxm(0x8000, 6, bytes(2))


def _own(priority: int, match: Sequence[Oxm], actions: Sequence[Action] = (), cookie: int = 0) -> FlowMod:
    instructions = (ApplyActions(tuple(actions)),) if actions else ()
    return FlowMod(cookie=shim.OWN_COOKIE | cookie, priority=priority, match=tuple(match), instructions=instructions)


FIXED: Final = (
    shim.DROP,
    _own(shim.DROP_PRIORITY, (_marked(_SEEN, _SEEN),)),
    _own(shim.DROP_PRIORITY, (_marked(_CHOSEN, _CHOSEN),)),
)
"""Add the rules that drop what nothing else is to be done with."""


def port_rule(port: int) -> FlowMod:
    """Adds the rule that takes the shims of a port for Oko's: one that carries the XDP program, which lets no others
    in."""
    return _own(shim.PRIORITY, (*shim.match(port=port), _UNTAGGED, _marked(0)), (_mark(_SEEN), _BEGIN_ANEW))


def id_rule(shim_id: int, actions: Sequence[Action], cookie: int = 0) -> FlowMod:
    """Adds the rule that does something with the packets that carry this id, shim included."""
    return _own(shim.PRIORITY, (*shim.match(shim_id), _marked(_SEEN)), actions, cookie)


def suspended_rule(*, passes: bool) -> FlowMod:
    """Adds the rule for packets of suspended filter rules: they are dropped, or pass as if they had no shim."""
    actions = (_DECAPSULATE, _DECAPSULATE, _mark(0), _BEGIN_ANEW) if passes else ()
    return id_rule(SUSPENDED, actions)


def continuation(shim_id: int, match: Match, instructions: Sequence[Instruction]) -> tuple[FlowMod, FlowMod]:
    """Add the two rules that continue, under this id, the packets of a filter rule with this match."""
    chosen = _CHOSEN | shim_id
    unwrap = id_rule(shim_id, (_DECAPSULATE, _DECAPSULATE, _mark(chosen), _BEGIN_ANEW), shim_id)
    return unwrap, replace(
        _own(shim.PRIORITY, (_marked(chosen), *prerequisites(match, instructions)), cookie=shim_id),
        instructions=tuple(_unmarked(instructions)),
    )


def removal(shim_id: int) -> FlowMod:
    """Deletes both rules of an id."""
    return FlowMod(cookie=shim.OWN_COOKIE | shim_id, cookie_mask=_ALL_BITS, command=Command.DELETE.value)


def id_of(cookie: int) -> int | None:
    """The id whose rule has this cookie; None if it is no rule of an id."""
    number = cookie & ~shim.OWN_COOKIE
    return number if cookie & shim.OWN_COOKIE and number in RULE_IDS else None


def _unmarked(instructions: Iterable[Instruction]) -> Iterator[Instruction]:
    """The instructions, with the mark wiped off before anything else is done with the packet."""
    wiped = False
    for instruction in instructions:
        if isinstance(instruction, ApplyActions) and not wiped:
            wiped = True
            yield ApplyActions((_mark(0), *instruction.actions))
        else:
            yield instruction
    if not wiped:
        yield ApplyActions((_mark(0),))


_FOR_ALL: Final = (Output, Group, PushVlan, SetQueue)
"""Actions that Open vSwitch takes for packets of any type."""
_TYPES: Final = ("eth_type", "ip_proto", "icmpv6_type")
"""Fields that prerequisites are about, apart from the presence of a tag."""


def prerequisites(match: Match, instructions: Iterable[Instruction]) -> tuple[Oxm, ...]:
    """What of a rule's match Open vSwitch has to be told to accept its actions: the types of the headers, if an action
    is about one. Nothing else: what XDP has matched need not be matched again, and behind two tags Open vSwitch does
    not see what XDP may."""
    actions = (a for each in instructions if isinstance(each, ApplyActions | WriteActions) for a in each.actions)
    if all(isinstance(action, _FOR_ALL) for action in actions):
        return ()
    return write_match(Match.of(_types(match)))


def _types(match: Match) -> Iterator[Condition]:
    for condition in match.headers:
        if condition.field.name in _TYPES:
            yield condition
        elif condition.field.name == "vlan_vid" and condition.value & condition.mask & VLAN_PRESENT:
            yield Condition(BY_NAME["vlan_vid"], VLAN_PRESENT, VLAN_PRESENT)


def outputs(instructions: Sequence[Instruction], ports: Collection[int]) -> tuple[Output, ...] | None:
    """The outputs of a rule, none at all if it drops packets: if that is all that it does, and all of it to `ports`,
    once each. None for a rule that only Open vSwitch can carry out."""
    match list(instructions):
        case []:
            return ()
        case [ApplyActions(actions)]:
            pass
        case _:
            return None
    found = tuple(action for action in actions if isinstance(action, Output))
    numbers = {action.port for action in found if action.port <= MAX_PORT and action.port in ports}
    return found if len(numbers) == len(actions) else None


@dataclass(frozen=True, slots=True)
class _Packed:
    items: Instructions


_PACKED: Final = Layout(_Packed)


def pack(instructions: Sequence[Instruction]) -> bytes:
    """Instructions as they are on the wire."""
    return _PACKED.write(_Packed(tuple(instructions)))


def unpack(data: bytes) -> tuple[Instruction, ...]:
    """The instructions that were packed."""
    found, _ = _PACKED.read(data, 0, len(data))
    return found.items


DELETE_ALL: Final = FlowMod(
    cookie=shim.OWN_COOKIE, cookie_mask=shim.OWN_COOKIE, table_id=TABLE_ALL, command=Command.DELETE.value
)
"""Deletes all of Oko's own rules."""
DELETE_CONTINUING: Final = replace(DELETE_ALL, cookie_mask=shim.OWN_COOKIE | shim.STAND_IN_COOKIE)
"""Deletes those that are about shims."""
