"""Rules and packets between OpenFlow 1.0's wire (`ofext.v10`) and the bridge: flow_mods, flow statistics, flow_removed,
packet_in, packet_out, errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from ofext.answers import REQUEST_BYTES
from ofext.constants import NO_BUFFER, FlowRemovedReason
from ofext.errors import BY_CODE, EXTENSION_BY_TYPE
from ofext.messages import Error
from ofext.oxm import Oxm
from ofext.v10 import match as wire
from ofext.v10.constants import NICIRA, FlowModFlag
from ofext.v10.errors import ERRORS, UNENCODABLE
from ofext.v10.messages import (
    FlowMod,
    FlowRemoved,
    NxmFlowMod,
    NxmFlowRemoved,
    PacketIn,
    PacketOut,
    VendorError,
)
from ofext.v10.stats import (
    TABLE_ALL,
    AggregateRequest,
    FlowStats,
    FlowStatsRequest,
    NxmAggregateRequest,
    NxmFlowStats,
    NxmFlowStatsRequest,
)
from oko.compiler.packet_in import PacketInRecord
from oko.errors import BadFlowMod, OkoError
from oko.flow import rule as flow
from oko.flow.action import CONTROLLER, Action
from oko.flow.fields import BY_NAME, ETH_TYPE_IPV4, ETH_TYPE_IPV6, Field
from oko.flow.headers import parse
from oko.flow.match import Condition, Match
from oko.flow.rule import Command, Entry, Rule
from oko.switch.bridge import Removed
from oko.switch.datapath import Count
from oko.wire import refusal
from oko.wire.refusal import no_buffer, refused
from oko.wire.v10.action import read_actions, read_packet_actions, write_actions
from oko.wire.v10.match import NxmMatch, read_match, read_nxm, write_match, write_nxm
from oko.wire.v10.port import read_any_port, write_port_number

_NO_COOKIE: Final = (1 << 64) - 1
"""In a modify: the cookies stay, and nothing is added."""
_NS: Final = 1_000_000_000
_T = TypeVar("_T")


def read_flow_mod(message: FlowMod | NxmFlowMod, *, table_ids: bool) -> flow.FlowMod:
    """The change that the message asks for; with `table_ids` the command has the table in its high byte. Raises
    FlowError for what this switch does not do, ProtocolError for a packet in a buffer."""
    table, number = divmod(message.command, 0x100) if table_ids else (TABLE_ALL, message.command)
    try:
        command = Command(number)
    except ValueError:
        raise BadFlowMod(f"command {number} is none of a flow_mod's", reason="bad-command") from None
    all_tables = table == TABLE_ALL
    said = read_nxm(message.match) if isinstance(message, NxmFlowMod) else NxmMatch(read_match(message.match))
    if command.is_delete:
        rule = Rule(said.match, priority=message.priority, table=0 if all_tables else table, cookie=said.cookie)
        return flow.FlowMod(command, rule, said.cookie_mask, all_tables, read_any_port(message.out_port))
    _check_flags(message)
    if message.buffer_id != NO_BUFFER:
        raise no_buffer(message.buffer_id)
    adds = command is Command.ADD
    rule = Rule(
        said.match,
        read_actions(message.actions, said.match),
        message.priority,
        0 if all_tables else table,
        message.cookie if adds else said.cookie,
        message.idle_timeout,
        message.hard_timeout,
        bool(message.flags & FlowModFlag.SEND_FLOW_REM),
    )
    return flow.FlowMod(
        command,
        rule,
        0 if adds else said.cookie_mask,
        all_tables and not adds,
        reset_counts=adds,
        check_overlap=bool(message.flags & FlowModFlag.CHECK_OVERLAP),
        new_cookie=None if adds or message.cookie == _NO_COOKIE else message.cookie,
    )


def _check_flags(message: FlowMod | NxmFlowMod) -> None:
    flags = message.flags
    if flags & FlowModFlag.EMERG:
        raise BadFlowMod(
            "there is no table for emergencies",
            reason="bad-timeout" if message.idle_timeout or message.hard_timeout else "table-full",
        )
    if flags & ~sum(FlowModFlag):
        raise BadFlowMod(f"flags {flags & ~sum(FlowModFlag):#x} are none of a flow_mod's", reason="bad-flags")


def read_selection(
    body: FlowStatsRequest | AggregateRequest | NxmFlowStatsRequest | NxmAggregateRequest,
) -> flow.FlowMod:
    """The delete of the rules that a request means. Raises BadMatch."""
    said = NxmMatch(read_match(body.match)) if isinstance(body.match, wire.Match) else read_nxm(body.match)
    all_tables = body.table_id == TABLE_ALL
    rule = Rule(said.match, table=0 if all_tables else body.table_id, cookie=said.cookie)
    return flow.FlowMod(Command.DELETE, rule, said.cookie_mask, all_tables, read_any_port(body.out_port))


def write_flow_stats(entry: Entry, count: Count) -> FlowStats:
    """A rule and its counters. Raises NotExpressible."""
    rule = entry.rule
    return FlowStats(
        rule.table,
        write_match(rule.match),
        *divmod(time.monotonic_ns() - entry.installed, _NS),
        rule.priority,
        rule.idle_timeout,
        rule.hard_timeout,
        rule.cookie,
        count.packets,
        count.bytes,
        write_actions(rule.instructions, rule.match),
    )


def write_nxm_flow_stats(entry: Entry, count: Count) -> NxmFlowStats:
    """A rule and its counters. It is not known when it was last used. Raises NotExpressible."""
    rule = entry.rule
    return NxmFlowStats(
        rule.table,
        *divmod(time.monotonic_ns() - entry.installed, _NS),
        rule.priority,
        rule.idle_timeout,
        rule.hard_timeout,
        0,
        0,
        rule.cookie,
        count.packets,
        count.bytes,
        write_nxm(rule.match),
        write_actions(rule.instructions, rule.match),
    )


def write_removed(removed: Removed, *, nxm: bool) -> FlowRemoved | NxmFlowRemoved:
    """The message that a rule is gone. Raises NotExpressible."""
    rule = removed.entry.rule
    seconds, nanoseconds = divmod(removed.duration, _NS)
    reason = min(removed.reason.value, FlowRemovedReason.DELETE)
    write_actions(rule.instructions, rule.match)  # who cannot be told of a rule is not told that it went

    def message(kind: Callable[..., _T], match: wire.Match | tuple[Oxm, ...], **more: int) -> _T:
        return kind(
            match=match,
            cookie=rule.cookie,
            priority=rule.priority,
            reason=reason,
            duration_sec=seconds,
            duration_nsec=nanoseconds,
            idle_timeout=rule.idle_timeout,
            packet_count=removed.count.packets,
            byte_count=removed.count.bytes,
            **more,
        )

    if nxm:
        return message(NxmFlowRemoved, write_nxm(rule.match), table=rule.table + 1)
    return message(FlowRemoved, write_match(rule.match))


def write_packet_in(record: PacketInRecord) -> PacketIn:
    """The message with the whole frame. Raises NotExpressible."""
    return PacketIn(NO_BUFFER, len(record.frame), write_port_number(record.in_port), record.reason.value, record.frame)


def read_packet_out(message: PacketOut) -> tuple[tuple[Action, ...], bytes, int]:
    """What to do, the frame to do it with, and the port that it came in by: CONTROLLER if by none. Raises BadAction,
    and ProtocolError for a packet in a buffer or what is no Ethernet frame."""
    if message.buffer_id != NO_BUFFER:
        raise no_buffer(message.buffer_id)
    in_port = read_any_port(message.in_port)
    in_port = CONTROLLER if in_port is None else in_port
    headers = parse(message.data, in_port)
    if headers is None:
        raise refused("bad-request/bad-len", f"a packet-out of {len(message.data)} bytes is no Ethernet frame")
    known = Match.of(Condition(field, headers[field.name], field.full) for field in _looked_at(headers))
    return read_packet_actions(message.actions, known), message.data, in_port


def _looked_at(headers: dict[str, int]) -> Iterator[Field]:
    """The fields of a packet-out's packet that its actions may depend on."""
    yield BY_NAME["vlan_vid"]
    yield BY_NAME["eth_type"]
    if headers["eth_type"] in (ETH_TYPE_IPV4, ETH_TYPE_IPV6):
        yield BY_NAME["ip_proto"]


def answer_to(error: OkoError, request: bytes) -> Error | VendorError:
    """The error message that tells the peer about `error`, which `request` has met."""
    answer = refusal.answer_to(error, request)
    if isinstance(answer, Error):
        name = BY_CODE[answer.type, answer.code].name
    else:
        name = EXTENSION_BY_TYPE[answer.exp_type].name
    kind = ERRORS.get(name, UNENCODABLE)
    data = request[:REQUEST_BYTES]
    return VendorError(NICIRA, kind.type, kind.code, data) if kind.nicira else Error(kind.type, kind.code, data)
