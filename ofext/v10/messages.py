"""The messages of OpenFlow 1.0.1 (section 5) and of Nicira's extension: `encode` makes bytes, `decode` makes values.

Those that are as in OpenFlow 1.3 are the values that they are there. A message that has no class here is `Unknown` and
keeps its bytes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Final, cast

from ..codec import (
    BAD_LEN,
    U8,
    U16,
    U32,
    U64,
    Elements,
    Exactly,
    Family,
    Layout,
    Pad,
    Padding,
    Prefixed,
    Repeat,
    Rest,
    Spanned,
    malformed,
)
from ..constants import NO_BUFFER
from ..experimenter import ExperimenterPart
from ..messages import (
    BarrierReply,
    BarrierRequest,
    EchoReply,
    EchoRequest,
    Error,
    Experimenter,
    FeaturesRequest,
    GetConfigReply,
    GetConfigRequest,
    Hello,
    SetConfig,
    Unknown,
    pack,
    unpack,
)
from ..oxm import Oxm
from ..queues import QUEUE_PROPERTIES, QueueProperty, UnknownQueueProperty
from .actions import ACTION_LIST, Action, Actions
from .constants import NICIRA, PORT_NONE, VERSION
from .errors import NICIRA_ERROR
from .match import MATCH, Match, Nxm, NxmPart
from .stats import PORT, REPLY_PART, REQUEST_PART, Port, StatsReply, StatsRequest

MESSAGES: Final = Family("message")
NICIRA_MESSAGES: Final = Family("message of Nicira")


@dataclass(frozen=True, slots=True)
class VendorError:
    """A request failed for a reason that `vendor` has numbers for. `data` is the start of the request."""

    vendor: int
    type: int
    code: int
    data: bytes = b""


@MESSAGES.member(6)
@dataclass(frozen=True, slots=True)
class FeaturesReply:
    """What the switch can do. `capabilities`: `constants.Capability`; `actions` has a bit for each type of action."""

    datapath_id: U64
    n_buffers: U32
    n_tables: Annotated[U8, Pad(3)]
    capabilities: U32
    actions: U32
    ports: Annotated[tuple[Port, ...], Repeat(PORT)] = ()


@MESSAGES.member(10)
@dataclass(frozen=True, slots=True)
class PacketIn:
    """A packet for the controller: the first bytes of it, or all, in `data`; it has `total_len`. `reason` is a
    `PacketInReason` of OpenFlow 1.3."""

    buffer_id: U32
    total_len: U16
    in_port: U16
    reason: Annotated[U8, Pad(1)]
    data: Annotated[bytes, Rest()] = b""


@MESSAGES.member(11)
@dataclass(frozen=True, slots=True)
class FlowRemoved:
    """A flow went away: `reason` is a `FlowRemovedReason` of OpenFlow 1.3 up to DELETE. It was there for `duration_sec`
    seconds and `duration_nsec` nanoseconds."""

    match: Annotated[Match, MATCH]
    cookie: U64
    priority: U16
    reason: Annotated[U8, Pad(1)]
    duration_sec: U32
    duration_nsec: U32
    idle_timeout: Annotated[U16, Pad(2)]
    packet_count: U64
    byte_count: U64


@MESSAGES.member(12)
@dataclass(frozen=True, slots=True)
class PortStatus:
    """A port came, went or changed: `reason` is a `PortReason` of OpenFlow 1.3."""

    reason: Annotated[U8, Pad(7)]
    desc: Annotated[Port, PORT]


@MESSAGES.member(13)
@dataclass(frozen=True, slots=True)
class PacketOut:
    """Process a packet by `actions`, as if it had come in by `in_port`: the one in `data`, or the one in the buffer."""

    buffer_id: U32
    in_port: U16
    actions: Annotated[tuple[Action, ...], Prefixed("H", ACTION_LIST)] = ()
    data: Annotated[bytes, Rest()] = b""


@MESSAGES.member(14)
@dataclass(frozen=True, slots=True)
class FlowMod:
    """Change flows: `command` 0 add, 1 modify, 2 modify strictly, 3 delete, 4 delete strictly; once Nicira's
    FlowModTableId is on, its high 8 bits are the table. Timeouts are seconds; `flags`: `constants.FlowModFlag`."""

    match: Annotated[Match, MATCH]
    cookie: U64
    command: U16
    idle_timeout: U16 = 0
    hard_timeout: U16 = 0
    priority: U16 = 0x8000
    buffer_id: U32 = NO_BUFFER
    out_port: U16 = PORT_NONE
    flags: U16 = 0
    actions: Actions = ()


@MESSAGES.member(15)
@dataclass(frozen=True, slots=True)
class PortMod:
    """Set the bits of the configuration that `mask` has, and if it is not 0 what the port advertises. `hw_addr` must be
    that of the port."""

    port_no: U16
    hw_addr: Annotated[bytes, Exactly(6)]
    config: U32 = 0
    mask: U32 = 0
    advertise: Annotated[U32, Pad(4)] = 0


@MESSAGES.member(20)
@dataclass(frozen=True, slots=True)
class QueueGetConfigRequest:
    """Ask for the queues of a port."""

    port: Annotated[U16, Pad(2)]


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue of a port (`struct ofp_packet_queue`, section 5.2.2)."""

    queue_id: Annotated[U32, Pad(4)]
    properties: Annotated[
        tuple[QueueProperty, ...],
        Elements(QUEUE_PROPERTIES, UnknownQueueProperty, padding=Padding.COUNTED, what=BAD_LEN),
    ] = ()


@MESSAGES.member(21)
@dataclass(frozen=True, slots=True)
class QueueGetConfigReply:
    """The queues of the port that was asked for."""

    port: Annotated[U16, Pad(6)]
    queues: Annotated[tuple[Queue, ...], Repeat(Spanned(Layout(Queue), 4))] = ()


# ---- Nicira's


@NICIRA_MESSAGES.member(12)
@dataclass(frozen=True, slots=True)
class SetFlowFormat:
    """Choose how matches are written: `constants.FlowFormat`."""

    format: U32


@dataclass(frozen=True, slots=True)
class NxmFlowMod:
    """As FlowMod, with an extensible match, which may have a cookie and its mask."""

    cookie: U64
    command: U16
    idle_timeout: U16 = 0
    hard_timeout: U16 = 0
    priority: U16 = 0x8000
    buffer_id: U32 = NO_BUFFER
    out_port: U16 = PORT_NONE
    flags: Annotated[U16, Pad(8)] = 0
    match: Annotated[tuple[Oxm, ...], NxmPart(8)] = ()
    actions: Actions = ()


@dataclass(frozen=True, slots=True)
class NxmFlowRemoved:
    """As FlowRemoved, with an extensible match. `table` is one more than the table's number."""

    cookie: U64
    priority: U16
    reason: U8
    table: U8
    duration_sec: U32
    duration_nsec: U32
    idle_timeout: Annotated[U16, Pad(2)]
    packet_count: U64
    byte_count: U64
    match: Annotated[tuple[Oxm, ...], NxmPart(18)] = ()


@NICIRA_MESSAGES.member(15)
@dataclass(frozen=True, slots=True)
class FlowModTableId:
    """Let the commands of flow_mods name a table, or with 0 not any more."""

    enabled: Annotated[U8, Pad(7)]


NICIRA_MESSAGES.add(13, Nxm(Layout(NxmFlowMod)), NxmFlowMod)
NICIRA_MESSAGES.add(14, Nxm(Layout(NxmFlowRemoved)), NxmFlowRemoved)

Message = (
    Hello
    | Error
    | VendorError
    | EchoRequest
    | EchoReply
    | Experimenter
    | SetFlowFormat
    | NxmFlowMod
    | NxmFlowRemoved
    | FlowModTableId
    | FeaturesRequest
    | FeaturesReply
    | GetConfigRequest
    | GetConfigReply
    | SetConfig
    | PacketIn
    | FlowRemoved
    | PortStatus
    | PacketOut
    | FlowMod
    | PortMod
    | StatsRequest
    | StatsReply
    | BarrierRequest
    | BarrierReply
    | QueueGetConfigRequest
    | QueueGetConfigReply
    | Unknown
)


class _HelloPart:
    """A hello. What it carries means nothing (section 5.5.1), though later versions put a bitmap there: see
    `ofext.messages.Hello`."""

    extent: Final = "n"

    def read(self, data: bytes, offset: int, end: int) -> tuple[Hello, int]:
        return Hello((), VERSION), end

    def write(self, value: Hello) -> bytes:
        return b""


class _ErrorPart:
    """An error; of type 0xb0c2, the vendor, its type and its code come before the data."""

    extent: Final = "4 + n"
    _head: Final = struct.Struct(">HH")
    _vendor: Final = struct.Struct(">HHIHH")

    def read(self, data: bytes, offset: int, end: int) -> tuple[Error | VendorError, int]:
        start = offset + self._head.size
        if start > end:
            raise malformed(f"the error is cut off: {end - offset} bytes left of {self._head.size}")
        kind, code = self._head.unpack_from(data, offset)
        if kind != NICIRA_ERROR:
            return Error(kind, code, data[start:end]), end
        start = offset + self._vendor.size
        if start > end:
            raise malformed(f"the vendor's error is cut off: {end - offset} bytes left of {self._vendor.size}")
        _, _, vendor, kind, code = self._vendor.unpack_from(data, offset)
        return VendorError(vendor, kind, code, data[start:end]), end

    def write(self, value: Error | VendorError) -> bytes:
        try:
            if isinstance(value, VendorError):
                return self._vendor.pack(NICIRA_ERROR, 0, value.vendor, value.type, value.code) + value.data
            return self._head.pack(value.type, value.code) + value.data
        except struct.error as error:
            raise malformed(f"an error has a number that does not fit its field: {error}") from None


MESSAGES.add(0, _HelloPart(), Hello)
MESSAGES.add(1, _ErrorPart(), Error, VendorError)
MESSAGES.add(
    4,
    ExperimenterPart({NICIRA: NICIRA_MESSAGES}, Experimenter, strict=NICIRA),
    *(Experimenter, *NICIRA_MESSAGES.numbers),
)
MESSAGES.add(16, REQUEST_PART, StatsRequest)
MESSAGES.add(17, REPLY_PART, StatsReply)
for _number, _shared in (
    (2, EchoRequest),
    (3, EchoReply),
    (5, FeaturesRequest),
    (7, GetConfigRequest),
    (8, GetConfigReply),
    (9, SetConfig),
    (18, BarrierRequest),
    (19, BarrierReply),
):
    MESSAGES.add(_number, Layout(_shared), _shared)


def decode(data: bytes) -> tuple[Message, int]:
    """The message that `data` is, exactly, and its transaction id.

    Raises ProtocolError with the type and code of OpenFlow 1.3 that say what is wrong (`errors.ERRORS` has those of
    1.0). Every message but a hello or an error has version 1.
    """
    message, xid = unpack(data, MESSAGES, VERSION)
    return cast(Message, message), xid


def encode(message: Message, xid: int = 0) -> bytes:
    """The bytes of `message`. Raises ProtocolError for a value that does not fit its field, LimitExceeded for more than
    65,535 bytes."""
    return pack(message, MESSAGES, VERSION, xid)
