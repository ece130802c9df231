"""Actions and instructions between the wire (`ofext`) and the tables (`oko.flow`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final, cast

from ofext import instructions as wire
from oko.errors import BadAction, BadInstruction
from oko.flow import action as flow
from oko.flow.action import Action, Instruction
from oko.flow.consistency import in_order
from oko.flow.nicira_action import NiciraAction
from oko.wire import nicira
from oko.wire.match import read_set_field, write_set_field

_ACTIONS: Final[dict[type[Action], type[wire.Action]]] = {
    flow.Group: wire.Group,
    flow.PushVlan: wire.PushVlan,
    flow.PopVlan: wire.PopVlan,
    flow.PushMpls: wire.PushMpls,
    flow.PopMpls: wire.PopMpls,
    flow.DecTtl: wire.DecNwTtl,
    flow.SetTtl: wire.SetNwTtl,
    flow.DecMplsTtl: wire.DecMplsTtl,
    flow.SetMplsTtl: wire.SetMplsTtl,
    flow.CopyTtlOut: wire.CopyTtlOut,
    flow.CopyTtlIn: wire.CopyTtlIn,
}
"""What is the same on both sides: a name, and no argument or one number. Output and set-field are not."""
_ACTIONS_READ: Final = {theirs: ours for ours, theirs in _ACTIONS.items()}

ACTION_TYPES: Final = tuple(
    sorted(wire.ACTIONS.numbers[kind] for kind in (wire.Output, wire.SetField, *_ACTIONS.values()))
)
"""The numbers of the actions that can be done (OpenFlow 1.3.5, 7.2.5)."""


def write_actions(actions: Iterable[Action]) -> tuple[wire.Action, ...]:
    """An action list."""
    return tuple(_write_action(action) for action in actions)


def read_actions(actions: Iterable[wire.Action], *, open_vswitch: bool = False) -> tuple[Action, ...]:
    """An action list, of a switch that may be `open_vswitch`. Raises BadAction for what the switch does not do."""
    return tuple(_read_action(action, open_vswitch) for action in actions)


@lru_cache(maxsize=1 << 12)
def write_instructions(instructions: tuple[Instruction, ...]) -> tuple[wire.Instruction, ...]:
    """The instructions of a rule. Remembered: many rules do the same."""
    return tuple(_write_instruction(instruction) for instruction in instructions)


def read_instructions(
    instructions: Iterable[wire.Instruction], *, open_vswitch: bool = False
) -> tuple[Instruction, ...]:
    """The instructions of a rule, in the order in which they are carried out, whatever the order on the wire, of a
    switch that may be `open_vswitch`. Raises BadInstruction and BadAction for what the switch does not do."""
    return _read_instructions(tuple(instructions), open_vswitch)


@lru_cache(maxsize=1 << 12)
def _read_instructions(instructions: tuple[wire.Instruction, ...], open_vswitch: bool) -> tuple[Instruction, ...]:
    """What is right is remembered: many rules do the same."""
    return in_order(_read_instruction(instruction, open_vswitch) for instruction in instructions)


def _write_action(action: Action) -> wire.Action:
    match action:
        case flow.Output(port, max_len):
            return wire.Output(port, max_len)
        case flow.SetField():
            return wire.SetField(write_set_field(action))
        case _ if isinstance(action, NiciraAction):
            return nicira.write_action(action)
        case _:
            return cast(wire.Action, _rebuilt(action, _ACTIONS[type(action)]))


def _read_action(action: wire.Action, open_vswitch: bool) -> Action:
    match action:
        case wire.Output(port, max_len):
            if not port:
                raise BadAction("output to port 0: ports are numbered from 1", reason="bad-out-port")
            return flow.Output(port, max_len)
        case wire.SetField(field):
            return (nicira.read_set(field) if open_vswitch else None) or read_set_field(field)
        case wire.SetQueue():
            raise BadAction("set_queue is not supported: ports have no queues", reason="bad-queue")
        case wire.ExperimenterAction():
            if not open_vswitch:
                raise nicira.not_supported(action)
            return nicira.read_action(action)
        case _:
            kind = _ACTIONS_READ.get(type(action))
            if kind is None:
                raise BadAction(f"the action {_named(action)} is not supported", reason="bad-type")
            return cast(Action, _rebuilt(action, kind))


def _write_instruction(instruction: Instruction) -> wire.Instruction:
    match instruction:
        case flow.Meter(number):
            return wire.Meter(number)
        case flow.ApplyActions(actions):
            return wire.ApplyActions(write_actions(actions))
        case flow.ClearActions():
            return wire.ClearActions()
        case flow.WriteActions(actions):
            return wire.WriteActions(write_actions(actions))
        case flow.WriteMetadata(value, mask):
            return wire.WriteMetadata(value, mask)
        case flow.GotoTable(table):
            return wire.GotoTable(table)


def _read_instruction(instruction: wire.Instruction, open_vswitch: bool) -> Instruction:
    match instruction:
        case wire.Meter(number):
            return flow.Meter(number)
        case wire.ApplyActions(actions):
            return flow.ApplyActions(read_actions(actions, open_vswitch=open_vswitch))
        case wire.ClearActions():
            return flow.ClearActions()
        case wire.WriteActions(actions):
            return flow.WriteActions(read_actions(actions, open_vswitch=open_vswitch))
        case wire.WriteMetadata(value, mask):
            return flow.WriteMetadata(value, mask)
        case wire.GotoTable(table):
            return flow.GotoTable(table)
        case wire.ExperimenterInstruction():
            raise BadInstruction(
                f"an instruction of experimenter {instruction.experimenter:#x} is not supported",
                reason="bad-experimenter",
            )
        case wire.UnknownInstruction():
            raise BadInstruction(f"{instruction.type} is no type of instruction", reason="unknown-inst")


def _named(action: wire.Action) -> str:
    return str(action.type) if isinstance(action, wire.UnknownAction) else type(action).__name__


def _rebuilt(action: Action | wire.Action, kind: Callable[..., Any]) -> Any:
    """The action of the other side with the same arguments."""
    return kind(*(getattr(action, name) for name in type(action).__match_args__))
