"""The messages of OpenFlow 1.3.5 (section 7): `encode` makes bytes, `decode` makes values.

A message that has no class here is `Unknown` and keeps its bytes. Whether a message, an action or a value makes sense
is for the receiver to say; here only the lengths and shapes are checked.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Final, NamedTuple, cast

from oko.errors import LimitExceeded

from .bands import Bands
from .buckets import Buckets
from .bundles import BUNDLE_MESSAGES, ONF, BundleAdd, BundleControl
from .codec import (
    BAD_LEN,
    U8,
    U16,
    U32,
    U64,
    Array,
    Elements,
    Exactly,
    Family,
    Layout,
    Pad,
    Padding,
    Prefixed,
    Rest,
    fault,
    malformed,
)
from .constants import GROUP_ANY, MAX_LENGTH, NO_BUFFER, PORT_ANY, VERSION
from .errors import EXPERIMENTER_ERROR
from .experimenter import ExperimenterPart
from .extension import COMMANDS, EXPERIMENTER, Command
from .instructions import ACTION_LIST, Action, Instructions
from .monitor import MONITOR_MESSAGES, MonitorMessage
from .multipart import PORT, REPLIES, REQUESTS, MultipartPart, MultipartReply, MultipartRequest, Port
from .oxm import Match
from .queues import Queues

HEADER_SIZE: Final = 8
_HEADER: Final = struct.Struct(">BBHI")
_BAD_VERSION: Final = fault("bad-request/bad-version")

MESSAGES: Final = Family("message")
_HELLO_ELEMENTS: Final = Family("hello element")
AsyncMasks = Annotated[tuple[int, ...], Array("I", 2)]
_HELLO: Final = 0
_ERROR: Final = 1


class Header(NamedTuple):
    """The first 8 bytes of a message. `length` counts them."""

    version: int
    type: int
    length: int
    xid: int


class _Bitmap:
    """A set of versions, 32 per word, the lowest version in the lowest bit of the first word (section 7.5.1)."""

    extent: Final = "n × 4"

    def read(self, data: bytes, offset: int, end: int) -> tuple[frozenset[int], int]:
        if (end - offset) % 4:
            raise malformed(f"the version bitmap has {end - offset} bytes, which are no 32-bit words")
        versions: set[int] = set()
        for index in range(0, end - offset, 4):
            word = int.from_bytes(data[offset + index : offset + index + 4], "big")
            versions.update(8 * index + bit for bit in range(32) if word >> bit & 1)
        return frozenset(versions), end

    def write(self, value: Iterable[int]) -> bytes:
        words = [0]
        for version in value:
            index, bit = divmod(version, 32)
            if not 0 <= version < 8 * MAX_LENGTH:
                raise malformed(f"version {version} has no bit in a bitmap")
            words += [0] * (index + 1 - len(words))
            words[index] |= 1 << bit
        return b"".join([word.to_bytes(4, "big") for word in words])


@_HELLO_ELEMENTS.member(1)
@dataclass(frozen=True, slots=True)
class VersionBitmap:
    """The versions that the sender speaks."""

    versions: Annotated[frozenset[int], _Bitmap()]


@dataclass(frozen=True, slots=True)
class UnknownElement:
    """A hello element that has no class here. `body` has no padding."""

    type: int
    body: bytes


HelloElement = VersionBitmap | UnknownElement


@dataclass(frozen=True, slots=True)
class Hello:
    """The first message of either side. `version` is that of the header, the highest that the sender speaks. The body
    of a hello below version 4 has no elements and is ignored."""

    elements: Annotated[
        tuple[HelloElement, ...], Elements(_HELLO_ELEMENTS, UnknownElement, padding=Padding.BEHIND, what=BAD_LEN)
    ] = (VersionBitmap(frozenset({VERSION})),)
    version: int = VERSION

    @property
    def versions(self) -> frozenset[int]:
        """The versions that the sender speaks: those of its bitmap, without one all up to `version`."""
        for element in self.elements:
            if isinstance(element, VersionBitmap):
                return element.versions
        return frozenset(range(1, self.version + 1))


@dataclass(frozen=True, slots=True)
class Error:
    """A request failed: `ofext.errors` names `type` and `code`. `data` is the start of the request, or text for
    hello-failed."""

    type: int
    code: int
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class ExperimenterError:
    """A request failed for a reason that `experimenter` defines. For the extension, `data` is UTF-8 text: its first
    line is the message, the rest details."""

    exp_type: int
    experimenter: int
    data: bytes = b""


@MESSAGES.member(2)
@dataclass(frozen=True, slots=True)
class EchoRequest:
    """Send the same back."""

    data: Annotated[bytes, Rest()] = b""


@MESSAGES.member(3)
@dataclass(frozen=True, slots=True)
class EchoReply:
    """The data of the request."""

    data: Annotated[bytes, Rest()] = b""


@dataclass(frozen=True, slots=True)
class Experimenter:
    """A message of an experimenter other than ours."""

    experimenter: int
    exp_type: int
    data: bytes = b""


@MESSAGES.member(5)
@dataclass(frozen=True, slots=True)
class FeaturesRequest:
    """Ask what the switch can do."""


@MESSAGES.member(6)
@dataclass(frozen=True, slots=True)
class FeaturesReply:
    """What the switch can do. `capabilities`: `constants.Capability`."""

    datapath_id: U64
    n_buffers: U32 = 0
    n_tables: U8 = 1
    auxiliary_id: Annotated[U8, Pad(2)] = 0
    capabilities: U32 = 0
    reserved: U32 = 0


@MESSAGES.member(7)
@dataclass(frozen=True, slots=True)
class GetConfigRequest:
    """Ask for the configuration."""


@MESSAGES.member(8)
@dataclass(frozen=True, slots=True)
class GetConfigReply:
    """The configuration: what happens to fragments (`constants.ConfigFlag`), and how many bytes of a packet go to the
    controller."""

    flags: U16 = 0
    miss_send_len: U16 = 128


@MESSAGES.member(9)
@dataclass(frozen=True, slots=True)
class SetConfig:
    """Change the configuration."""

    flags: U16 = 0
    miss_send_len: U16 = 128


@MESSAGES.member(10)
@dataclass(frozen=True, slots=True)
class PacketIn:
    """A packet for the controller: the first bytes of it, or all, in `data`; it has `total_len`. `reason` is a
    `constants.PacketInReason`; `table_id` and `cookie` are of the flow that sent it; `match` holds in_port and other
    fields that are not in the packet."""

    buffer_id: U32
    total_len: U16
    reason: U8
    table_id: U8
    cookie: U64
    match: Annotated[Match, Pad(2)] = ()
    data: Annotated[bytes, Rest()] = b""


@MESSAGES.member(11)
@dataclass(frozen=True, slots=True)
class FlowRemoved:
    """A flow went away: `reason` is a `constants.FlowRemovedReason`. It was there for `duration_sec` seconds and
    `duration_nsec` nanoseconds."""

    cookie: U64
    priority: U16
    reason: U8
    table_id: U8
    duration_sec: U32
    duration_nsec: U32
    idle_timeout: U16
    hard_timeout: U16
    packet_count: U64
    byte_count: U64
    match: Match = ()


@MESSAGES.member(12)
@dataclass(frozen=True, slots=True)
class PortStatus:
    """A port came, went or changed: `reason` is a `constants.PortReason`."""

    reason: Annotated[U8, Pad(7)]
    desc: Annotated[Port, PORT]


@MESSAGES.member(13)
@dataclass(frozen=True, slots=True)
class PacketOut:
    """Process a packet by `actions`, as if it had come in by `in_port`: the one in `data`, or the one in the
    buffer."""

    buffer_id: U32
    in_port: U32
    actions: Annotated[tuple[Action, ...], Prefixed("H6x", ACTION_LIST)] = ()
    data: Annotated[bytes, Rest()] = b""


@MESSAGES.member(14)
@dataclass(frozen=True, slots=True)
class FlowMod:
    """Change flows: `command` 0 add, 1 modify, 2 modify strictly, 3 delete, 4 delete strictly. Timeouts are seconds;
    `flags`: `constants.FlowModFlag`."""

    cookie: U64 = 0
    cookie_mask: U64 = 0
    table_id: U8 = 0
    command: U8 = 0
    idle_timeout: U16 = 0
    hard_timeout: U16 = 0
    priority: U16 = 0x8000
    buffer_id: U32 = NO_BUFFER
    out_port: U32 = PORT_ANY
    out_group: U32 = GROUP_ANY
    flags: Annotated[U16, Pad(2)] = 0
    match: Match = ()
    instructions: Instructions = ()


@MESSAGES.member(15)
@dataclass(frozen=True, slots=True)
class GroupMod:
    """Change a group, or with `constants.GROUP_ALL` delete all: `command` 0 add, 1 modify, 2 delete; `type`:
    `constants.GroupType`."""

    command: U16
    type: Annotated[U8, Pad(1)]
    group_id: U32
    buckets: Buckets = ()


@MESSAGES.member(16)
@dataclass(frozen=True, slots=True)
class PortMod:
    """Set the bits of the configuration that `mask` has (`constants.PortConfig`), and if it is not 0 what the port
    advertises. `hw_addr` must be that of the port."""

    port_no: Annotated[U32, Pad(4)]
    hw_addr: Annotated[bytes, Exactly(6), Pad(2)]
    config: U32 = 0
    mask: U32 = 0
    advertise: Annotated[U32, Pad(4)] = 0


@MESSAGES.member(17)
@dataclass(frozen=True, slots=True)
class TableMod:
    """Configure a table, or all with `constants.TABLE_ALL`. No bit of `config` has a meaning in OpenFlow 1.3."""

    table_id: Annotated[U8, Pad(3)]
    config: U32 = 0


@MESSAGES.member(20)
@dataclass(frozen=True, slots=True)
class BarrierRequest:
    """Finish everything that came before, then answer."""


@MESSAGES.member(21)
@dataclass(frozen=True, slots=True)
class BarrierReply:
    """Everything that came before is finished."""


@MESSAGES.member(22)
@dataclass(frozen=True, slots=True)
class QueueGetConfigRequest:
    """Ask for the queues of a port, or of all with PORT_ANY."""

    port: Annotated[U32, Pad(4)]


@MESSAGES.member(23)
@dataclass(frozen=True, slots=True)
class QueueGetConfigReply:
    """The queues of the port that was asked for."""

    port: Annotated[U32, Pad(4)]
    queues: Queues = ()


@MESSAGES.member(24)
@dataclass(frozen=True, slots=True)
class RoleRequest:
    """Ask for a role, a `constants.Role`."""

    role: Annotated[U32, Pad(4)]
    generation_id: U64


@MESSAGES.member(25)
@dataclass(frozen=True, slots=True)
class RoleReply:
    """The role that the connection has now."""

    role: Annotated[U32, Pad(4)]
    generation_id: U64


@MESSAGES.member(26)
@dataclass(frozen=True, slots=True)
class GetAsyncRequest:
    """Ask which asynchronous messages the connection gets."""


@MESSAGES.member(27)
@dataclass(frozen=True, slots=True)
class GetAsyncReply:
    """The asynchronous messages that the connection gets: a bit for each reason. The first mask of each pair is for
    the roles equal and master, the second for slave."""

    packet_in_mask: AsyncMasks
    port_status_mask: AsyncMasks
    flow_removed_mask: AsyncMasks


@MESSAGES.member(28)
@dataclass(frozen=True, slots=True)
class SetAsync:
    """Choose the asynchronous messages that the connection gets, as in GetAsyncReply."""

    packet_in_mask: AsyncMasks
    port_status_mask: AsyncMasks
    flow_removed_mask: AsyncMasks


@MESSAGES.member(29)
@dataclass(frozen=True, slots=True)
class MeterMod:
    """Change a meter, or with `constants.METER_ALL` delete all: `command` 0 add, 1 modify, 2 delete; `flags`:
    `constants.MeterFlag`."""

    command: U16
    flags: U16
    meter_id: U32
    bands: Bands = ()


@dataclass(frozen=True, slots=True)
class Unknown:
    """A message that has no class here. `body` is what follows the header."""

    type: int
    body: bytes = b""


Message = (
    Hello
    | Error
    | ExperimenterError
    | EchoRequest
    | EchoReply
    | Experimenter
    | Command
    | BundleControl
    | BundleAdd
    | MonitorMessage
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
    | GroupMod
    | PortMod
    | TableMod
    | MultipartRequest
    | MultipartReply
    | BarrierRequest
    | BarrierReply
    | QueueGetConfigRequest
    | QueueGetConfigReply
    | RoleRequest
    | RoleReply
    | GetAsyncRequest
    | GetAsyncReply
    | SetAsync
    | MeterMod
    | Unknown
)


class _ErrorPart:
    """An error; type 0xffff is an experimenter's, whose next 16 bits are its own type."""

    extent: Final = "4 + n"
    _head: Final = struct.Struct(">HH")
    _experimenter: Final = struct.Struct(">HHI")

    def read(self, data: bytes, offset: int, end: int) -> tuple[Error | ExperimenterError, int]:
        start = offset + self._head.size
        if start > end:
            raise malformed(f"the error is cut off: {end - offset} bytes left of {self._head.size}")
        kind, code = self._head.unpack_from(data, offset)
        if kind != EXPERIMENTER_ERROR:
            return Error(kind, code, data[start:end]), end
        start = offset + self._experimenter.size
        if start > end:
            raise malformed(
                f"the experimenter error is cut off: {end - offset} bytes left of {self._experimenter.size}"
            )
        _, exp_type, experimenter = self._experimenter.unpack_from(data, offset)
        return ExperimenterError(exp_type, experimenter, data[start:end]), end

    def write(self, value: Error | ExperimenterError) -> bytes:
        try:
            if isinstance(value, ExperimenterError):
                return self._experimenter.pack(EXPERIMENTER_ERROR, value.exp_type, value.experimenter) + value.data
            return self._head.pack(value.type, value.code) + value.data
        except struct.error as error:
            raise malformed(f"an error has a number that does not fit its field: {error}") from None


MESSAGES.add(_HELLO, Layout(Hello), Hello)
MESSAGES.add(_ERROR, _ErrorPart(), Error, ExperimenterError)
MESSAGES.add(
    4,
    ExperimenterPart(
        {EXPERIMENTER: COMMANDS, ONF: BUNDLE_MESSAGES | MONITOR_MESSAGES}, Experimenter, strict=EXPERIMENTER
    ),
    *(Experimenter, *COMMANDS.numbers, *BUNDLE_MESSAGES.numbers, *MONITOR_MESSAGES.numbers),
)
MESSAGES.add(18, MultipartPart(REQUESTS, MultipartRequest), MultipartRequest)
MESSAGES.add(19, MultipartPart(REPLIES, MultipartReply), MultipartReply)


def header(data: bytes) -> Header:
    """The header of a message. Raises ProtocolError for fewer than 8 bytes."""
    if len(data) < HEADER_SIZE:
        raise malformed(f"a message of {len(data)} bytes: the header alone has {HEADER_SIZE}")
    return Header._make(_HEADER.unpack_from(data))


def decode(data: bytes) -> tuple[Message, int]:
    """The message that `data` is, exactly, and its transaction id.

    Raises ProtocolError with the type and code that the answer should carry. A hello or an error may have any version,
    since versions are not agreed upon yet when they are sent; every other message has version 4.
    """
    message, xid = unpack(data, MESSAGES, VERSION)
    if type(message) is Hello and data[0] != VERSION:
        message = replace(message, version=data[0])
    return cast(Message, message), xid


def encode(message: Message, xid: int = 0) -> bytes:
    """The bytes of `message`. Raises ProtocolError for a value that does not fit its field, LimitExceeded for more than
    65,535 bytes."""
    return pack(message, MESSAGES, message.version if isinstance(message, Hello) else VERSION, xid)


def unpack(data: bytes, family: Family, version: int) -> tuple[object, int]:
    """The message that `data` is, exactly, of those of one version of OpenFlow, or Unknown; and its transaction id.
    Raises ProtocolError."""
    if len(data) < HEADER_SIZE:
        raise malformed(f"a message of {len(data)} bytes: the header alone has {HEADER_SIZE}")
    said, kind, length, xid = _HEADER.unpack_from(data)
    if length != len(data):
        raise malformed(f"the header of a message of {len(data)} bytes says {length}")
    if said != version:
        if kind > _ERROR:
            raise malformed(f"version {said} in a message of type {kind}: {version} was agreed upon", _BAD_VERSION)
        if kind == _HELLO and said < VERSION:
            return Hello((), said), xid
    part = family.parts.get(kind)
    if part is None:
        return Unknown(kind, data[HEADER_SIZE:]), xid
    message, reached = part.read(data, HEADER_SIZE, length)
    if reached != length:
        raise malformed(f"a message of type {kind} has {length} bytes, its content ends after {reached}")
    return message, xid


def pack(message: object, family: Family, version: int, xid: int) -> bytes:
    """The bytes of a message of `family`, or of an Unknown one. Raises ProtocolError, LimitExceeded."""
    if isinstance(message, Unknown):
        kind, body = message.type, message.body
    else:
        kind = family.number(message)
        body = family.parts[kind].write(message)
    length = HEADER_SIZE + len(body)
    if length > MAX_LENGTH:
        raise LimitExceeded(f"bytes of a {type(message).__name__} message", length, MAX_LENGTH)
    try:
        return _HEADER.pack(version, kind, length, xid) + body
    except struct.error:
        raise malformed(f"version {version}, type {kind} or xid {xid} does not fit the header") from None
