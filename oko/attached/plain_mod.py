"""`PlainMod`: a change of plain rules, as a controller asks for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from ofext import messages as of13
from ofext.constants import GROUP_ANY, PORT_ANY, TABLE_ALL
from ofext.instructions import Instruction
from ofext.monitor import FlowUpdate, UpdateEvent
from ofext.oxm import Oxm
from ofext.v10 import messages as of10
from oko.attached.plain import PlainRule, read_rule
from oko.errors import BadFlowMod, BadMatch, FlowError
from oko.flow.fields import BY_OXM
from oko.flow.match import Match
from oko.flow.rule import Command
from oko.openflow import messages10
from oko.wire.change import write_flow_mod
from oko.wire.v10.match import NxmMatch, read_match, read_nxm
from oko.wire.v10.port import read_any_port

LOOSE: Final = (Command.MODIFY, Command.DELETE)
"""The commands that mean all rules that a match covers."""


@dataclass(frozen=True, slots=True)
class PlainMod:
    """A flow_mod without `filter_prog`.

    `rule` names the rules meant: by its match, as far as XDP can see it, its table and, for an add and the strict
    commands, its priority; `cookie_mask` restricts them to those whose cookie agrees with the rule's under it. For
    deletes, `out_port` and `out_group` (None: any) restrict them to rules that send there. `all_tables` means every
    table in place of the rule's. A loose change is one of filter rules, too: that `share`, if it can concern any.
    """

    command: Command
    rule: PlainRule
    cookie_mask: int = 0
    all_tables: bool = False
    out_port: int | None = None
    out_group: int | None = None
    share: of13.FlowMod | None = None


def read_plain_mod(message: of13.FlowMod) -> PlainMod:
    """Of OpenFlow 1.3. Raises BadFlowMod."""
    command = _command(message.command)
    all_tables = message.table_id == TABLE_ALL
    rule = _seen(message.match, message.instructions, 0 if all_tables else message.table_id, message)
    foreign = any((oxm.oxm_class, oxm.field, oxm.experimenter) not in BY_OXM for oxm in message.match)
    return PlainMod(
        command,
        rule,
        0 if command is Command.ADD else message.cookie_mask,
        all_tables and command is not Command.ADD,
        None if message.out_port == PORT_ANY or not command.is_delete else message.out_port,
        None if message.out_group == GROUP_ANY or not command.is_delete else message.out_group,
        # A filter rule has no condition on a field that only Open vSwitch knows.
        message if command in LOOSE and not foreign else None,
    )


def _seen(match: tuple[Oxm, ...], instructions: Iterable[Instruction], table: int, message: of13.FlowMod) -> PlainRule:
    update = FlowUpdate(
        UpdateEvent.ADDED,
        0,
        message.priority,
        message.idle_timeout,
        message.hard_timeout,
        table,
        message.cookie,
        match,
        tuple(instructions),
    )
    return read_rule(update)


def read_plain_mod10(message: of10.FlowMod | of10.NxmFlowMod, *, table_ids: bool) -> PlainMod:
    """Of OpenFlow 1.0; with `table_ids` the command has the table in its high byte. Raises FlowError for a loose change
    that means filter rules, too, and that they cannot take."""
    table, number = divmod(message.command, 0x100) if table_ids else (TABLE_ALL, message.command)
    command = _command(number)
    all_tables = table == TABLE_ALL
    unseen: tuple[str, ...] = ()
    try:
        said = read_nxm(message.match) if isinstance(message, of10.NxmFlowMod) else NxmMatch(read_match(message.match))
    except BadMatch as error:
        said, unseen = NxmMatch(Match()), (str(error),)
    rule = PlainRule(
        0 if all_tables else table,
        message.priority,
        said.match,
        unseen,
        cookie=message.cookie if command is Command.ADD else said.cookie,
        idle_timeout=message.idle_timeout,
        hard_timeout=message.hard_timeout,
    )
    return PlainMod(
        command,
        rule,
        0 if command is Command.ADD else said.cookie_mask,
        all_tables and command is not Command.ADD,
        read_any_port(message.out_port) if command.is_delete else None,
        share=_share10(message, table_ids) if command in LOOSE and not unseen else None,
    )


def _share10(message: of10.FlowMod | of10.NxmFlowMod, table_ids: bool) -> of13.FlowMod | None:
    """What OpenFlow 1.3 says for it. The cookies of filter rules stay."""
    try:
        read = messages10.read_flow_mod(message, table_ids=table_ids)
    except FlowError as error:
        raise BadFlowMod(f"it means filter rules, too: {error}", reason=error.reason) from error
    return write_flow_mod(read)


def _command(number: int) -> Command:
    try:
        return Command(number)
    except ValueError:
        raise BadFlowMod(f"command {number} is none of a flow_mod's", reason="bad-command") from None
