"""Flow monitors: a switch that tells of every change to its flows. OpenFlow 1.4 has them; OpenFlow 1.3 as the ONF's
extension 187, in messages of experimenter 0x4f4e4600, which Open vSwitch speaks."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Annotated, Final

from .codec import U8, U16, U32, U64, Family, Layout, Pad, Part, Repeat, Sized, fault, malformed
from .constants import PORT_ANY, TABLE_ALL
from .instructions import Instructions
from .oxm import Match

MONITOR_MESSAGES: Final = Family("flow monitor message")
MONITOR_REQUESTS: Final = Family("flow monitor request")
MONITOR_REPLIES: Final = Family("flow monitor reply")

_BAD_PACKET: Final = fault("bad-request/bad-packet")


class MonitorFlag(IntFlag):
    """What a monitor tells."""

    INITIAL = 1
    """The flows that are there when it begins, as ADDED, in the reply to the request."""
    ADD = 2
    DELETE = 4
    MODIFY = 8
    INSTRUCTIONS = 16
    """The instructions of the flows, too."""
    OWN = 32
    """Changes that came by this connection in full. Without it they are `OwnUpdate`."""


class UpdateEvent(IntEnum):
    """What has happened."""

    ADDED = 0
    """A flow is new, or replaces another of the same match and priority."""
    DELETED = 1
    MODIFIED = 2
    """A flow has other instructions, or another cookie."""
    OWN = 3


class DeletedReason(IntEnum):
    """Why a flow was deleted: the reasons of OpenFlow 1.4 (section 7.4.4)."""

    IDLE_TIMEOUT = 0
    HARD_TIMEOUT = 1
    DELETE = 2
    GROUP_DELETE = 3
    METER_DELETE = 4
    EVICTION = 5
    """The table had no room for it any more."""


class _WithMatchLength:
    """A part with a match `match` bytes behind its start, whose length stands once more `at` bytes behind it, where
    the part's declaration has padding. What is read is the length in the match."""

    def __init__(self, part: Part, *, at: int, match: int) -> None:
        self.part = part
        self.extent = part.extent
        self._at = at
        self._length = slice(match + 2, match + 4)
        self.read = part.read

    def write(self, value: object) -> bytes:
        body = self.part.write(value)
        return body[: self._at] + body[self._length] + body[self._at + 2 :]


@dataclass(frozen=True, slots=True)
class FlowMonitor:
    """A monitor, by the sender's `id` for it, of the flows in a table, or in all, that `match` covers and that output
    to `out_port`, if it is not PORT_ANY. `flags`: `MonitorFlag`."""

    id: U32
    flags: Annotated[U16, Pad(2)]
    out_port: U32 = PORT_ANY
    table_id: Annotated[U8, Pad(3)] = TABLE_ALL
    match: Match = ()


@MONITOR_REQUESTS.member(1870)
@dataclass(frozen=True, slots=True)
class FlowMonitorRequest:
    """Begin to monitor flows."""

    entries: Annotated[tuple[FlowMonitor, ...], Repeat(_WithMatchLength(Layout(FlowMonitor), at=6, match=16))] = ()


@dataclass(frozen=True, slots=True)
class FlowUpdate:
    """A change to a flow: `event` is ADDED, DELETED or MODIFIED of `UpdateEvent`. `reason` is why it was deleted, a
    `DeletedReason`. Timeouts are seconds. `instructions` are there if the monitor tells them."""

    event: U16
    reason: U16
    priority: U16
    idle_timeout: U16
    hard_timeout: Annotated[U16, Pad(2)]
    table_id: Annotated[U8, Pad(1)]
    cookie: U64
    match: Match = ()
    instructions: Instructions = ()


@dataclass(frozen=True, slots=True)
class OwnUpdate:
    """The message with this transaction id, which came by the connection of the monitor, has changed flows."""

    xid: U32


class _UpdatePart:
    """A change in the words that its event has."""

    extent: Final = "n"
    _flow: Final = _WithMatchLength(Layout(FlowUpdate), at=10, match=22)
    _own: Final = Layout(OwnUpdate, lead=2)

    def read(self, data: bytes, offset: int, end: int) -> tuple[FlowUpdate | OwnUpdate, int]:
        if end - offset < 2:
            raise malformed("the event of a flow update is cut off")
        event = int.from_bytes(data[offset : offset + 2], "big")
        if event > UpdateEvent.OWN:
            raise malformed(f"a flow update has no event {event}", _BAD_PACKET)
        update: tuple[FlowUpdate | OwnUpdate, int] = (self._own if event == UpdateEvent.OWN else self._flow).read(
            data, offset, end
        )
        return update

    def write(self, value: FlowUpdate | OwnUpdate) -> bytes:
        if isinstance(value, OwnUpdate):
            return UpdateEvent.OWN.to_bytes(2, "big") + self._own.write(value)[2:]
        if value.event >= UpdateEvent.OWN:
            raise malformed(f"a change to a flow has no event {value.event}", _BAD_PACKET)
        return self._flow.write(value)


@MONITOR_REPLIES.member(1870)
@dataclass(frozen=True, slots=True)
class FlowUpdates:
    """Changes to flows. Those that follow the answer to the request are unasked: their transaction id is 0."""

    entries: Annotated[tuple[FlowUpdate | OwnUpdate, ...], Repeat(Sized(_UpdatePart()))] = ()


@MONITOR_MESSAGES.member(1870)
@dataclass(frozen=True, slots=True)
class FlowMonitorCancel:
    """End the monitor with this id. Success is silent: a barrier tells."""

    id: U32


@MONITOR_MESSAGES.member(1871)
@dataclass(frozen=True, slots=True)
class FlowMonitorPaused:
    """The peer reads too slowly: until FlowMonitorResumed only what is deleted is told."""


@MONITOR_MESSAGES.member(1872)
@dataclass(frozen=True, slots=True)
class FlowMonitorResumed:
    """What had not been told has been told now."""


MonitorMessage = FlowMonitorCancel | FlowMonitorPaused | FlowMonitorResumed
