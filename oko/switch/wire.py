"""Rules and flow_mods between the wire (`ofext`) and the tables (`oko.flow`)."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from ofext import messages
from ofext.constants import GROUP_ANY, PORT_ANY, TABLE_ALL, FlowModFlag
from ofext.extension import EXPERIMENTER
from ofext.instructions import ApplyActions as WireApplyActions
from ofext.instructions import Instruction as WireInstruction
from ofext.instructions import Output as WireOutput
from ofext.multipart import TableFeatures, TableProperty
from ofext.oxm import Oxm
from oko.errors import BadAction, BadFlowMod, BadInstruction, BadMatch
from oko.flow.action import MAX_PORT, ApplyActions, Output
from oko.flow.fields import BY_OXM, FIELDS, OXM_EXPERIMENTER
from oko.flow.match import Condition, Match
from oko.flow.rule import Command, FlowMod, Rule

_FLAGS: Final = FlowModFlag.RESET_COUNTS | FlowModFlag.CHECK_OVERLAP
# Types of table properties, instructions and actions (OpenFlow 1.3.5, 7.3.5.5.2, 7.2.4, 7.2.5).
_INSTRUCTIONS: Final = 0
_NEXT_TABLES: Final = 2
_WRITE_ACTIONS: Final = 4
_APPLY_ACTIONS_PROPERTY: Final = 6
_MATCH: Final = 8
_WILDCARDS: Final = 10
_WRITE_SETFIELD: Final = 12
_APPLY_SETFIELD: Final = 14
_APPLY_ACTIONS: Final = 4
_OUTPUT: Final = 0
_OXM_HEADER: Final = struct.Struct(">HBB")
_ELEMENT: Final = struct.Struct(">HH")
_MOST_RULES: Final = 1 << 20
"""What the switch says that a table holds. Memory is the limit."""

_DELETES: Final = (Command.DELETE, Command.DELETE_STRICT)


def write_match(match: Match) -> tuple[Oxm, ...]:
    """The match as TLVs, in the order of the field table, which puts every field behind those it depends on."""
    return tuple(_write_condition(condition) for condition in match.conditions)


def read_match(fields: Iterable[Oxm]) -> Match:
    """The match that the TLVs say. Raises BadMatch."""
    return Match.of(_read_condition(oxm) for oxm in fields)


def write_instructions(rule: Rule) -> tuple[WireInstruction, ...]:
    """The instructions of a rule."""
    return tuple(
        WireApplyActions(tuple(WireOutput(action.port) for action in instruction.actions))
        for instruction in rule.instructions
    )


def write_flow_mod(mod: FlowMod) -> messages.FlowMod:
    """The message that asks for `mod`."""
    flags = FlowModFlag(0)
    if mod.reset_counts:
        flags |= FlowModFlag.RESET_COUNTS
    if mod.check_overlap:
        flags |= FlowModFlag.CHECK_OVERLAP
    return messages.FlowMod(
        cookie=mod.rule.cookie,
        cookie_mask=mod.cookie_mask,
        table_id=TABLE_ALL if mod.all_tables else mod.rule.table,
        command=mod.command.value,
        priority=mod.rule.priority,
        out_port=PORT_ANY if mod.out_port is None else mod.out_port,
        flags=flags,
        match=write_match(mod.rule.match),
        instructions=() if mod.command in _DELETES else write_instructions(mod.rule),
    )


def read_flow_mod(message: messages.FlowMod) -> FlowMod:
    """What the message asks for. Raises FlowError for what this switch does not do."""
    try:
        command = Command(message.command)
    except ValueError:
        raise BadFlowMod(f"command {message.command} is none of a flow_mod's", reason="bad-command") from None
    deletes = command in _DELETES
    if message.idle_timeout or message.hard_timeout:
        raise BadFlowMod("rules have no timeouts for now: leave them 0", reason="bad-timeout")
    if message.flags & ~_FLAGS:
        raise BadFlowMod(f"flags {message.flags & ~_FLAGS:#x} of the flow_mod are not supported", reason="bad-flags")
    if deletes and message.out_group != GROUP_ANY:
        raise BadFlowMod("there are no groups: leave out_group OFPG_ANY", reason="unknown")
    rule = Rule(
        read_match(message.match),
        () if deletes else _read_instructions(message.instructions),
        message.priority,
        message.table_id,
        message.cookie,
    )
    all_tables = deletes and message.table_id == TABLE_ALL
    return FlowMod(
        command,
        replace(rule, table=0) if all_tables else rule,
        message.cookie_mask if command is not Command.ADD else 0,
        all_tables,
        message.out_port if deletes and message.out_port != PORT_ANY else None,
        bool(message.flags & FlowModFlag.RESET_COUNTS),
        bool(message.flags & FlowModFlag.CHECK_OVERLAP),
    )


def table_features() -> TableFeatures:
    """What table 0 can do. filter_prog is left out: Open vSwitch gives up on a reply with a field it does not know."""
    fields = b"".join(
        _OXM_HEADER.pack(field.oxm_class, field.oxm_field << 1, field.size)
        for field in FIELDS
        if field.oxm_class != OXM_EXPERIMENTER
    )
    properties = {
        _INSTRUCTIONS: _ELEMENT.pack(_APPLY_ACTIONS, _ELEMENT.size),
        _NEXT_TABLES: b"",
        _WRITE_ACTIONS: b"",
        _APPLY_ACTIONS_PROPERTY: _ELEMENT.pack(_OUTPUT, _ELEMENT.size),
        _MATCH: fields,
        _WILDCARDS: fields,
        _WRITE_SETFIELD: b"",
        _APPLY_SETFIELD: b"",
    }
    return TableFeatures(
        0, "table0", 0, 0, 0, _MOST_RULES, tuple(TableProperty(kind, body) for kind, body in properties.items())
    )


def _write_condition(condition: Condition) -> Oxm:
    field = condition.field
    return Oxm(
        field.oxm_class,
        field.oxm_field,
        condition.value.to_bytes(field.size, "big"),
        None if condition.exact else condition.mask.to_bytes(field.size, "big"),
        EXPERIMENTER if field.oxm_class == OXM_EXPERIMENTER else None,
    )


def _read_condition(oxm: Oxm) -> Condition:
    field = BY_OXM.get((oxm.oxm_class, oxm.field))
    if field is None or (oxm.experimenter is not None and oxm.experimenter != EXPERIMENTER):
        owner = "" if oxm.experimenter is None else f" of experimenter {oxm.experimenter:#x}"
        raise BadMatch(f"field {oxm.oxm_class:#06x}:{oxm.field}{owner} is not matched here", reason="bad-field")
    if len(oxm.value) != field.size:
        raise BadMatch(f"{field.name} has {field.size} bytes, not {len(oxm.value)}", reason="bad-len")
    mask = field.full if oxm.mask is None else int.from_bytes(oxm.mask, "big")
    return Condition(field, int.from_bytes(oxm.value, "big"), mask)


def _read_instructions(instructions: Iterable[WireInstruction]) -> tuple[ApplyActions, ...]:
    """The instructions that do something: to apply no actions is to have no instruction."""
    read = [_read_instruction(instruction) for instruction in instructions]
    if len(read) > 1:
        raise BadInstruction("apply_actions stands twice in the rule: name it once", reason="unsup-inst")
    return tuple(instruction for instruction in read if instruction.actions)


def _read_instruction(instruction: WireInstruction) -> ApplyActions:
    if not isinstance(instruction, WireApplyActions):
        raise BadInstruction(
            f"the instruction {type(instruction).__name__} is not supported: use apply_actions", reason="unsup-inst"
        )
    return ApplyActions(tuple(_read_action(action) for action in instruction.actions))


def _read_action(action: object) -> Output:
    if not isinstance(action, WireOutput):
        raise BadAction(f"the action {type(action).__name__} is not supported: use output", reason="bad-type")
    if not 0 < action.port <= MAX_PORT:
        raise BadAction(f"output to the reserved port {action.port:#x} is not supported", reason="bad-out-port")
    return Output(action.port)
