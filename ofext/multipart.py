"""The bodies of multipart requests and replies (OpenFlow 1.3.5, section 7.3.5). The type number follows from the
body's class."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, cast

from oko.errors import LimitExceeded

from .codec import BAD_LEN, U8, U16, U32, U64, Chars, Elements, Exactly, Family, Layout, Pad, Repeat, Sized, malformed
from .constants import GROUP_ANY, MULTIPART_MORE, PORT_ANY, TABLE_ALL
from .extension import LIST_REPLIES, LIST_REQUESTS, ExperimenterPart, ListReply, ListRequest
from .instructions import Instructions
from .oxm import Match

PART_LIMIT: Final = 60 * 1024
"""Bytes that `split` puts into one part, headers not counted."""

REQUESTS: Final = Family("multipart request")
REPLIES: Final = Family("multipart reply")


@REQUESTS.member(0)
@dataclass(frozen=True, slots=True)
class DescRequest:
    """Ask what the switch is."""


@REPLIES.member(0)
@dataclass(frozen=True, slots=True)
class Desc:
    """What the switch is, in text."""

    mfr_desc: Annotated[str, Chars(256)] = ""
    hw_desc: Annotated[str, Chars(256)] = ""
    sw_desc: Annotated[str, Chars(256)] = ""
    serial_num: Annotated[str, Chars(32)] = ""
    dp_desc: Annotated[str, Chars(256)] = ""


@REQUESTS.member(1)
@dataclass(frozen=True, slots=True)
class FlowStatsRequest:
    """Ask for the flows that the match and the other fields select."""

    table_id: Annotated[U8, Pad(3)] = TABLE_ALL
    out_port: U32 = PORT_ANY
    out_group: Annotated[U32, Pad(4)] = GROUP_ANY
    cookie: U64 = 0
    cookie_mask: U64 = 0
    match: Match = ()


@dataclass(frozen=True, slots=True)
class FlowStats:
    """A flow and its counters. It has been there for `duration_sec` seconds and `duration_nsec` nanoseconds."""

    table_id: Annotated[U8, Pad(1)]
    duration_sec: U32
    duration_nsec: U32
    priority: U16
    idle_timeout: U16
    hard_timeout: U16
    flags: Annotated[U16, Pad(4)]
    cookie: U64
    packet_count: U64
    byte_count: U64
    match: Match = ()
    instructions: Instructions = ()


@REPLIES.member(1)
@dataclass(frozen=True, slots=True)
class FlowStatsReply:
    """Flows."""

    entries: Annotated[tuple[FlowStats, ...], Repeat(Sized(Layout(FlowStats)))] = ()


@REQUESTS.member(2)
@dataclass(frozen=True, slots=True)
class AggregateRequest:
    """Ask for the sums over the flows that the match and the other fields select."""

    table_id: Annotated[U8, Pad(3)] = TABLE_ALL
    out_port: U32 = PORT_ANY
    out_group: Annotated[U32, Pad(4)] = GROUP_ANY
    cookie: U64 = 0
    cookie_mask: U64 = 0
    match: Match = ()


@REPLIES.member(2)
@dataclass(frozen=True, slots=True)
class Aggregate:
    """Sums over flows."""

    packet_count: U64
    byte_count: U64
    flow_count: Annotated[U32, Pad(4)]


@REQUESTS.member(3)
@dataclass(frozen=True, slots=True)
class TableStatsRequest:
    """Ask for the counters of all tables."""


@dataclass(frozen=True, slots=True)
class TableStats:
    """The counters of a table."""

    table_id: Annotated[U8, Pad(3)]
    active_count: U32
    lookup_count: U64
    matched_count: U64


@REPLIES.member(3)
@dataclass(frozen=True, slots=True)
class TableStatsReply:
    """The counters of tables."""

    entries: Annotated[tuple[TableStats, ...], Repeat(Layout(TableStats))] = ()


@dataclass(frozen=True, slots=True)
class TableProperty:
    """What a table can do of one kind (section 7.3.5.5.2); `body` is the list that follows the length."""

    type: int
    body: bytes


@dataclass(frozen=True, slots=True)
class TableFeatures:
    """What a table can do."""

    table_id: Annotated[U8, Pad(5)]
    name: Annotated[str, Chars(32)]
    metadata_match: U64
    metadata_write: U64
    config: U32
    max_entries: U32
    properties: Annotated[
        tuple[TableProperty, ...], Elements(Family("table property"), TableProperty, padded=False, what=BAD_LEN)
    ] = ()


@REQUESTS.member(12)
@dataclass(frozen=True, slots=True)
class TableFeaturesRequest:
    """Ask what the tables can do; with entries, ask to change it."""

    entries: Annotated[tuple[TableFeatures, ...], Repeat(Sized(Layout(TableFeatures)))] = ()


@REPLIES.member(12)
@dataclass(frozen=True, slots=True)
class TableFeaturesReply:
    """What the tables can do."""

    entries: Annotated[tuple[TableFeatures, ...], Repeat(Sized(Layout(TableFeatures)))] = ()


@REQUESTS.member(13)
@dataclass(frozen=True, slots=True)
class PortDescRequest:
    """Ask for all ports."""


@dataclass(frozen=True, slots=True)
class Port:
    """`struct ofp_port` (section 7.2.1). Speeds are kbit/s."""

    port_no: Annotated[U32, Pad(4)]
    hw_addr: Annotated[bytes, Exactly(6), Pad(2)]
    name: Annotated[str, Chars(16)]
    config: U32 = 0
    state: U32 = 0
    curr: U32 = 0
    advertised: U32 = 0
    supported: U32 = 0
    peer: U32 = 0
    curr_speed: U32 = 0
    max_speed: U32 = 0


PORT: Final = Layout(Port)


@REPLIES.member(13)
@dataclass(frozen=True, slots=True)
class PortDescReply:
    """Ports."""

    entries: Annotated[tuple[Port, ...], Repeat(PORT)] = ()


@dataclass(frozen=True, slots=True)
class ExperimenterBody:
    """The body of an OFPMP_EXPERIMENTER message of an experimenter other than ours."""

    experimenter: int
    exp_type: int
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class UnknownBody:
    """A body that has no class here. `type` is the multipart type."""

    type: int
    data: bytes = b""


REQUESTS.add(0xFFFF, ExperimenterPart(LIST_REQUESTS, ExperimenterBody), ExperimenterBody, *LIST_REQUESTS.numbers)
REPLIES.add(0xFFFF, ExperimenterPart(LIST_REPLIES, ExperimenterBody), ExperimenterBody, *LIST_REPLIES.numbers)

RequestBody = (
    DescRequest
    | FlowStatsRequest
    | AggregateRequest
    | TableStatsRequest
    | TableFeaturesRequest
    | PortDescRequest
    | ListRequest
    | ExperimenterBody
    | UnknownBody
)
ReplyBody = (
    Desc
    | FlowStatsReply
    | Aggregate
    | TableStatsReply
    | TableFeaturesReply
    | PortDescReply
    | ListReply
    | ExperimenterBody
    | UnknownBody
)


@dataclass(frozen=True, slots=True)
class MultipartRequest:
    """A question. `flags` has MULTIPART_MORE if other parts of the body follow."""

    body: RequestBody
    flags: int = 0


@dataclass(frozen=True, slots=True)
class MultipartReply:
    """A part of an answer. `flags` has MULTIPART_MORE if other parts follow."""

    body: ReplyBody
    flags: int = 0


class MultipartPart:
    """The multipart header and the body that it announces."""

    extent: Final = "8 + n"
    _head: Final = struct.Struct(">HH4x")

    def __init__(self, family: Family, cls: type[MultipartRequest] | type[MultipartReply]) -> None:
        self._family = family
        self._cls = cls

    def read(self, data: bytes, offset: int, end: int) -> tuple[MultipartRequest | MultipartReply, int]:
        start = offset + self._head.size
        if start > end:
            raise malformed(f"the multipart header is cut off: {end - offset} bytes left of 8")
        kind, flags = self._head.unpack_from(data, offset)
        part = self._family.parts.get(kind)
        if part is None:
            return self._cls(UnknownBody(kind, data[start:end]), flags), end
        body, reached = part.read(data, start, end)
        return self._cls(body, flags), reached

    def write(self, value: MultipartRequest | MultipartReply) -> bytes:
        body = value.body
        if isinstance(body, UnknownBody):
            number, content = body.type, body.data
        else:
            number = self._family.number(body)
            content = self._family.parts[number].write(body)
        try:
            return self._head.pack(number, value.flags) + content
        except struct.error:
            raise malformed(f"multipart type {number}, flags {value.flags}: not 16 bits each") from None


def split(body: ReplyBody, limit: int = PART_LIMIT) -> Iterator[MultipartReply]:
    """The parts of an answer, at least one, all but the last flagged as MORE.

    A body with `entries` is divided between them so that no part has a body beyond `limit` bytes; other fields stand
    in every part. Raises LimitExceeded for an entry that fits into no part.
    """
    entries = getattr(body, "entries", ())
    group: list[Any] = []
    if entries:
        part = REPLIES.parts[REPLIES.number(body)]
        empty = len(part.write(_with_entries(body, ())))
        used = empty
        for entry in entries:
            size = len(part.write(_with_entries(body, (entry,)))) - empty
            if empty + size > limit:
                raise LimitExceeded(f"bytes of one entry of a {type(body).__name__}", empty + size, limit)
            if used + size > limit:
                yield MultipartReply(_with_entries(body, tuple(group)), MULTIPART_MORE)
                group, used = [], empty
            group.append(entry)
            used += size
        body = _with_entries(body, tuple(group))
    yield MultipartReply(body)


def join(parts: Sequence[MultipartReply]) -> ReplyBody:
    """The body that `split` divided: the last part's, with the entries of all. Raises ProtocolError if the parts
    differ in kind, or if there is more than one of a kind that is not divided."""
    last = parts[-1].body
    if len(parts) == 1:
        return last
    if any(type(part.body) is not type(last) for part in parts) or not hasattr(last, "entries"):
        kinds = ", ".join(type(part.body).__name__ for part in parts)
        raise malformed(f"the parts of a multipart reply do not belong together: {kinds}")
    return _with_entries(last, tuple(entry for part in parts for entry in cast(Any, part.body).entries))


def _with_entries(body: ReplyBody, entries: tuple[Any, ...]) -> ReplyBody:
    return cast(ReplyBody, replace(cast(Any, body), entries=entries))
