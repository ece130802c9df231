"""Packets and other events between the wire (`ofext`) and the bridge: packet_out, packet_in, flow_removed."""

from __future__ import annotations

from typing import Final

from ofext.constants import NO_BUFFER
from ofext.messages import FlowRemoved, PacketIn, PacketOut
from oko.compiler.packet_in import PacketInRecord
from oko.flow.action import Action
from oko.flow.fields import BY_NAME
from oko.flow.match import Condition, Match
from oko.switch.bridge import Removed
from oko.wire.action import read_actions
from oko.wire.match import write_match
from oko.wire.refusal import no_buffer, refused

NO_COOKIE: Final = (1 << 64) - 1
"""The cookie of a packet-in that no rule sends (OpenFlow 1.3.5, 7.4.1)."""

_NS: Final = 1_000_000_000
_ETHERNET: Final = 14
"""Bytes of an Ethernet header."""
_CONTEXT: Final = tuple(BY_NAME[name] for name in ("in_port", "metadata"))
"""What belongs to a packet without being in it."""


def read_packet_out(message: PacketOut) -> tuple[tuple[Action, ...], bytes]:
    """What to do, and the frame to do it with. Raises BadAction, and ProtocolError for a packet in a buffer or what is
    no Ethernet frame, if there is anything to do."""
    if message.buffer_id != NO_BUFFER:
        raise no_buffer(message.buffer_id)
    if message.actions and len(message.data) < _ETHERNET:
        raise refused("bad-request/bad-len", f"a packet-out of {len(message.data)} bytes is no Ethernet frame")
    return read_actions(message.actions), message.data


def write_packet_in(record: PacketInRecord, cookie: int) -> PacketIn:
    """The message with the whole frame. `cookie` is that of the rule that sends it."""
    values = (record.in_port, record.metadata)
    context = [Condition(field, value, field.full) for field, value in zip(_CONTEXT, values, strict=True)]
    return PacketIn(
        NO_BUFFER,
        len(record.frame),
        record.reason.value,
        record.table,
        cookie,
        # The standard leaves out what is zero, but for in_port.
        write_match(Match.of(context if record.metadata else context[:1])),
        record.frame,
    )


def write_removed(removed: Removed) -> FlowRemoved:
    """The message that a rule is gone."""
    rule = removed.entry.rule
    seconds, nanoseconds = divmod(removed.duration, _NS)
    return FlowRemoved(
        rule.cookie,
        rule.priority,
        removed.reason.value,
        rule.table,
        seconds,
        nanoseconds,
        rule.idle_timeout,
        rule.hard_timeout,
        removed.count.packets,
        removed.count.bytes,
        write_match(rule.match),
    )
