"""Whether instructions fit the packets that a match describes (OpenFlow 1.3.5, 6.4: match-inconsistent).

Whether they are right in themselves is a matter of `oko.flow.validity`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from oko.errors import BadAction, BadInstruction
from oko.flow.action import (
    INSTRUCTION_ORDER,
    Action,
    ApplyActions,
    CopyTtlIn,
    CopyTtlOut,
    DecMplsTtl,
    DecTtl,
    Instruction,
    PopMpls,
    PopVlan,
    PushMpls,
    PushVlan,
    SetField,
    SetMplsTtl,
    SetTtl,
    WriteActions,
)
from oko.flow.fields import BY_NAME, NEEDED, VLAN_PRESENT, Prerequisite
from oko.flow.match import Condition, Match, implied

VLAN_TPIDS: Final = (0x8100, 0x88A8)

TAGGED: Final = BY_NAME["vlan_pcp"].prerequisites
"""What a packet with a VLAN tag has."""
_IP: Final = BY_NAME["ip_dscp"].prerequisites
_MPLS: Final = BY_NAME["mpls_label"].prerequisites

_NEEDS: Final[dict[type[Action], tuple[Prerequisite, ...]]] = {
    PopVlan: TAGGED,
    PopMpls: _MPLS,
    DecTtl: _IP,
    SetTtl: _IP,
    DecMplsTtl: _MPLS,
    SetMplsTtl: _MPLS,
    CopyTtlOut: _MPLS,
    CopyTtlIn: _MPLS,
}
"""What actions need of the packet. Those that are not here, set-field apart, need nothing."""

_TRACKED: Final = frozenset(field.name for field in NEEDED)


class Known:
    """What is known of a packet that a match describes while actions change it: those of its fields that can be
    prerequisites."""

    def __init__(self, match: Match) -> None:
        self._conditions = {
            condition.field.name: condition for condition in match.conditions if condition.field.name in _TRACKED
        }
        self._inner_tags: list[Condition | None] = []

    def implies(self, prerequisites: Iterable[Prerequisite]) -> bool:
        return all(implied(prerequisite, self._conditions) for prerequisite in prerequisites)

    def lacks(self, action: Action) -> Prerequisite | None:
        """The first thing that `action` needs and that is not known of the packet."""
        for prerequisite in _needs(action):
            if not implied(prerequisite, self._conditions):
                return prerequisite
        return None

    def follow(self, action: Action) -> None:
        """Take note of what `action` does to the packet."""
        match action:
            case SetField(field, value):
                if field.name in _TRACKED:
                    # What is written into a tag does not take it away, whatever bit 12 of the value says.
                    tag = VLAN_PRESENT if field.name == "vlan_vid" else 0
                    self._know(field.name, value | tag, field.full)
            case PushVlan():
                # The new tag has the VID of the one below it, or 0, which is how no tag reads.
                outer = self._conditions.get("vlan_vid")
                self._inner_tags.append(outer)
                value, mask = (0, 0) if outer is None else (outer.value, outer.mask)
                self._know("vlan_vid", value | VLAN_PRESENT, mask | VLAN_PRESENT)
            case PopVlan():
                inner = self._inner_tags.pop() if self._inner_tags else None
                self._forget("vlan_vid")
                if inner is not None:
                    self._conditions["vlan_vid"] = inner
            case PushMpls(eth_type):
                # The label goes before any tag: behind it no tag is seen.
                self._forget(*_TRACKED)
                self._inner_tags.clear()
                self._know("vlan_vid", 0, BY_NAME["vlan_vid"].full)
                self._know("eth_type", eth_type, BY_NAME["eth_type"].full)
            case PopMpls(eth_type):
                tagged = self.implies(TAGGED)
                self._forget(*_TRACKED - {"vlan_vid"})
                if eth_type not in VLAN_TPIDS:
                    self._know("eth_type", eth_type, BY_NAME["eth_type"].full)
                elif not tagged:
                    self._forget("vlan_vid")
            case _:
                pass

    def _know(self, name: str, value: int, mask: int) -> None:
        self._conditions[name] = Condition(BY_NAME[name], value, mask)

    def _forget(self, *names: str) -> None:
        for name in names:
            self._conditions.pop(name, None)


def in_order(instructions: Iterable[Instruction]) -> tuple[Instruction, ...]:
    """The instructions in the order in which they are carried out, without empty action lists. Raises BadInstruction
    if there are two of a kind."""
    by_kind: dict[type[Instruction], Instruction] = {}
    for instruction in instructions:
        kind = type(instruction)
        if kind in by_kind:
            raise BadInstruction(f"the instruction {kind.__name__} is given twice: give it once", reason="unsup-inst")
        by_kind[kind] = instruction
    ordered = (by_kind[kind] for kind in INSTRUCTION_ORDER if kind in by_kind)
    return tuple(i for i in ordered if not isinstance(i, ApplyActions | WriteActions) or i.actions)


def check_instructions(match: Match, instructions: tuple[Instruction, ...]) -> None:
    """Raises BadAction (match-inconsistent) if an applied action needs of a packet what neither `match` nor the
    actions before it make sure of.

    Written actions and those of buckets are not looked at: they are executed on whatever the packet has become by
    then, and there an action that does not fit does nothing.
    """
    if not _any_needs(instructions):
        return
    known = Known(match)
    for instruction in instructions:
        if not isinstance(instruction, ApplyActions):
            continue
        for action in instruction.actions:
            missing = known.lacks(action)
            if missing is not None:
                raise BadAction(
                    f"{_named(action)} needs {missing}, by the match or by an action before it",
                    reason="match-inconsistent",
                )
            known.follow(action)


@lru_cache(maxsize=1 << 12)
def _any_needs(instructions: tuple[Instruction, ...]) -> bool:
    """Whether an applied action needs anything. Remembered: many rules do the same."""
    return any(_needs(a) for item in instructions if isinstance(item, ApplyActions) for a in item.actions)


def _needs(action: Action) -> tuple[Prerequisite, ...]:
    if not isinstance(action, SetField):
        return _NEEDS.get(type(action), ())
    return TAGGED if action.field is BY_NAME["vlan_vid"] else action.field.prerequisites


def _named(action: Action) -> str:
    if isinstance(action, SetField):
        return f"set_field {action.field.name}"
    return re.sub(r"(?<=.)(?=[A-Z])", "_", type(action).__name__).lower()
