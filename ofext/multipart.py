"""The bodies of multipart requests and replies (OpenFlow 1.3.5, section 7.3.5). The type number follows from the
body's class."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, TypeVar, cast

from oko.errors import LimitExceeded

from .bands import Bands
from .buckets import Buckets
from .bundles import ONF
from .codec import (
    U8,
    U16,
    U32,
    U64,
    Array,
    Chars,
    Elements,
    Exactly,
    Family,
    Layout,
    Pad,
    Padding,
    Repeat,
    Sized,
    Spanned,
    malformed,
)
from .constants import GROUP_ALL, GROUP_ANY, METER_ALL, MULTIPART_MORE, PORT_ANY, QUEUE_ALL, TABLE_ALL
from .experimenter import ExperimenterPart
from .extension import EXPERIMENTER, LIST_REPLIES, LIST_REQUESTS, ListReply, ListRequest
from .instructions import Instructions
from .monitor import MONITOR_REPLIES, MONITOR_REQUESTS, FlowMonitorRequest, FlowUpdates
from .oxm import Match
from .properties import BAD_PROPERTY_LEN, TABLE_PROPERTIES, Property

AnyBody = TypeVar("AnyBody")

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


@REQUESTS.member(4)
@dataclass(frozen=True, slots=True)
class PortStatsRequest:
    """Ask for the counters of a port, or of all."""

    port_no: Annotated[U32, Pad(4)] = PORT_ANY


@dataclass(frozen=True, slots=True)
class PortStats:
    """The counters of a port, all ones where there is none. It has been there for `duration_sec` seconds and
    `duration_nsec` nanoseconds."""

    port_no: Annotated[U32, Pad(4)]
    rx_packets: U64 = 0
    tx_packets: U64 = 0
    rx_bytes: U64 = 0
    tx_bytes: U64 = 0
    rx_dropped: U64 = 0
    tx_dropped: U64 = 0
    rx_errors: U64 = 0
    tx_errors: U64 = 0
    rx_frame_err: U64 = 0
    rx_over_err: U64 = 0
    rx_crc_err: U64 = 0
    collisions: U64 = 0
    duration_sec: U32 = 0
    duration_nsec: U32 = 0


@REPLIES.member(4)
@dataclass(frozen=True, slots=True)
class PortStatsReply:
    """The counters of ports."""

    entries: Annotated[tuple[PortStats, ...], Repeat(Layout(PortStats))] = ()


@REQUESTS.member(5)
@dataclass(frozen=True, slots=True)
class QueueStatsRequest:
    """Ask for the counters of a queue of a port, or of all."""

    port_no: U32 = PORT_ANY
    queue_id: U32 = QUEUE_ALL


@dataclass(frozen=True, slots=True)
class QueueStats:
    """The counters of a queue. It has been there for `duration_sec` seconds and `duration_nsec` nanoseconds."""

    port_no: U32
    queue_id: U32
    tx_bytes: U64 = 0
    tx_packets: U64 = 0
    tx_errors: U64 = 0
    duration_sec: U32 = 0
    duration_nsec: U32 = 0


@REPLIES.member(5)
@dataclass(frozen=True, slots=True)
class QueueStatsReply:
    """The counters of queues."""

    entries: Annotated[tuple[QueueStats, ...], Repeat(Layout(QueueStats))] = ()


@REQUESTS.member(6)
@dataclass(frozen=True, slots=True)
class GroupStatsRequest:
    """Ask for the counters of a group, or of all."""

    group_id: Annotated[U32, Pad(4)] = GROUP_ALL


@dataclass(frozen=True, slots=True)
class BucketCounter:
    """The counters of a bucket."""

    packet_count: U64
    byte_count: U64


@dataclass(frozen=True, slots=True)
class GroupStats:
    """The counters of a group. `ref_count` flows and groups forward to it. It has been there for `duration_sec` seconds
    and `duration_nsec` nanoseconds."""

    group_id: U32
    ref_count: Annotated[U32, Pad(4)]
    packet_count: U64
    byte_count: U64
    duration_sec: U32
    duration_nsec: U32
    bucket_stats: Annotated[tuple[BucketCounter, ...], Repeat(Layout(BucketCounter))] = ()


@REPLIES.member(6)
@dataclass(frozen=True, slots=True)
class GroupStatsReply:
    """The counters of groups."""

    entries: Annotated[tuple[GroupStats, ...], Repeat(Sized(Layout(GroupStats, lead=2)))] = ()


@REQUESTS.member(7)
@dataclass(frozen=True, slots=True)
class GroupDescRequest:
    """Ask for all groups."""


@dataclass(frozen=True, slots=True)
class GroupDesc:
    """A group as it was made. `type`: `constants.GroupType`."""

    type: Annotated[U8, Pad(1)]
    group_id: U32
    buckets: Buckets = ()


@REPLIES.member(7)
@dataclass(frozen=True, slots=True)
class GroupDescReply:
    """Groups."""

    entries: Annotated[tuple[GroupDesc, ...], Repeat(Sized(Layout(GroupDesc)))] = ()


@REQUESTS.member(8)
@dataclass(frozen=True, slots=True)
class GroupFeaturesRequest:
    """Ask what groups can do."""


@REPLIES.member(8)
@dataclass(frozen=True, slots=True)
class GroupFeatures:
    """What groups can do. `types` has a bit for each `constants.GroupType`, `capabilities`:
    `constants.GroupCapability`. By type: how many groups there can be, and a bit for each action that buckets take."""

    types: U32
    capabilities: U32
    max_groups: Annotated[tuple[int, ...], Array("I", 4)]
    actions: Annotated[tuple[int, ...], Array("I", 4)]


@REQUESTS.member(9)
@dataclass(frozen=True, slots=True)
class MeterStatsRequest:
    """Ask for the counters of a meter, or of all."""

    meter_id: Annotated[U32, Pad(4)] = METER_ALL


@dataclass(frozen=True, slots=True)
class MeterBandStats:
    """What a band was applied to."""

    packet_band_count: U64
    byte_band_count: U64


@dataclass(frozen=True, slots=True)
class MeterStats:
    """The counters of a meter, which `flow_count` flows use. It has been there for `duration_sec` seconds and
    `duration_nsec` nanoseconds."""

    meter_id: Annotated[U32, Pad(8)]
    flow_count: U32
    packet_in_count: U64
    byte_in_count: U64
    duration_sec: U32
    duration_nsec: U32
    band_stats: Annotated[tuple[MeterBandStats, ...], Repeat(Layout(MeterBandStats))] = ()


@REPLIES.member(9)
@dataclass(frozen=True, slots=True)
class MeterStatsReply:
    """The counters of meters."""

    entries: Annotated[tuple[MeterStats, ...], Repeat(Spanned(Layout(MeterStats), 4))] = ()


@REQUESTS.member(10)
@dataclass(frozen=True, slots=True)
class MeterConfigRequest:
    """Ask for a meter as it was made, or for all."""

    meter_id: Annotated[U32, Pad(4)] = METER_ALL


@dataclass(frozen=True, slots=True)
class MeterConfig:
    """A meter as it was made. `flags`: `constants.MeterFlag`."""

    flags: U16
    meter_id: U32
    bands: Bands = ()


@REPLIES.member(10)
@dataclass(frozen=True, slots=True)
class MeterConfigReply:
    """Meters."""

    entries: Annotated[tuple[MeterConfig, ...], Repeat(Sized(Layout(MeterConfig)))] = ()


@REQUESTS.member(11)
@dataclass(frozen=True, slots=True)
class MeterFeaturesRequest:
    """Ask what meters can do."""


@REPLIES.member(11)
@dataclass(frozen=True, slots=True)
class MeterFeatures:
    """What meters can do. `band_types` has a bit for each type of band, `capabilities` are those of
    `constants.MeterFlag` that are honoured."""

    max_meter: U32
    band_types: U32
    capabilities: U32
    max_bands: U8
    max_color: Annotated[U8, Pad(2)]


@dataclass(frozen=True, slots=True)
class TableProperty:
    """A property that has no class here. `body` is what follows the length, without padding."""

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
        tuple[Property | TableProperty, ...],
        Elements(TABLE_PROPERTIES, TableProperty, padding=Padding.BEHIND, what=BAD_PROPERTY_LEN),
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
    """The body of an OFPMP_EXPERIMENTER message that has no class here, of an experimenter other than ours."""

    experimenter: int
    exp_type: int
    data: bytes = b""


@dataclass(frozen=True, slots=True)
class UnknownBody:
    """A body that has no class here. `type` is the multipart type."""

    type: int
    data: bytes = b""


REQUESTS.add(
    0xFFFF,
    ExperimenterPart({EXPERIMENTER: LIST_REQUESTS, ONF: MONITOR_REQUESTS}, ExperimenterBody, strict=EXPERIMENTER),
    *(ExperimenterBody, *LIST_REQUESTS.numbers, *MONITOR_REQUESTS.numbers),
)
REPLIES.add(
    0xFFFF,
    ExperimenterPart({EXPERIMENTER: LIST_REPLIES, ONF: MONITOR_REPLIES}, ExperimenterBody, strict=EXPERIMENTER),
    *(ExperimenterBody, *LIST_REPLIES.numbers, *MONITOR_REPLIES.numbers),
)

RequestBody = (
    DescRequest
    | FlowStatsRequest
    | AggregateRequest
    | TableStatsRequest
    | PortStatsRequest
    | QueueStatsRequest
    | GroupStatsRequest
    | GroupDescRequest
    | GroupFeaturesRequest
    | MeterStatsRequest
    | MeterConfigRequest
    | MeterFeaturesRequest
    | TableFeaturesRequest
    | PortDescRequest
    | ListRequest
    | FlowMonitorRequest
    | ExperimenterBody
    | UnknownBody
)
ReplyBody = (
    Desc
    | FlowStatsReply
    | Aggregate
    | TableStatsReply
    | PortStatsReply
    | QueueStatsReply
    | GroupStatsReply
    | GroupDescReply
    | GroupFeatures
    | MeterStatsReply
    | MeterConfigReply
    | MeterFeatures
    | TableFeaturesReply
    | PortDescReply
    | ListReply
    | FlowUpdates
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
    """The multipart header, type and flags in the `struct` format `head`, and the body that it announces. `cls` has
    both."""

    def __init__(self, family: Family, cls: Callable[[Any, int], Any], *, head: str = "HH4x") -> None:
        self._family = family
        self._cls = cls
        self._head = struct.Struct(f">{head}")
        self.extent = f"{self._head.size} + n"

    def read(self, data: bytes, offset: int, end: int) -> tuple[Any, int]:
        start = offset + self._head.size
        if start > end:
            raise malformed(f"the multipart header is cut off: {end - offset} bytes left of {self._head.size}")
        kind, flags = self._head.unpack_from(data, offset)
        part = self._family.parts.get(kind)
        if part is None:
            return self._cls(UnknownBody(kind, data[start:end]), flags), end
        body, reached = part.read(data, start, end)
        return self._cls(body, flags), reached

    def write(self, value: Any) -> bytes:
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


def split(
    body: ReplyBody, limit: int = PART_LIMIT, entries: Iterable[object] | None = None
) -> Iterator[MultipartReply]:
    """The parts of an answer, at least one, all but the last flagged as MORE.

    A body with `entries` is divided between them so that no part has a body beyond `limit` bytes; other fields stand
    in every part. `entries` take the place of the body's; they are taken as parts are, so that not all of them have to
    be there at once. Raises LimitExceeded for an entry that fits into no part.
    """
    for part, flags in divide(body, REPLIES, limit, entries):
        yield MultipartReply(part, flags)


def divide(
    body: AnyBody, family: Family, limit: int, entries: Iterable[object] | None = None
) -> Iterator[tuple[AnyBody, int]]:
    """What `split` makes of a body of `family`, with the flags of each part."""
    entries = getattr(body, "entries", ()) if entries is None else entries
    group: list[Any] = []
    if entries:
        part = family.parts[family.number(body)]
        empty = len(part.write(_with_entries(body, ())))
        used = empty
        for entry in entries:
            size = len(part.write(_with_entries(body, (entry,)))) - empty
            if empty + size > limit:
                raise LimitExceeded(f"bytes of one entry of a {type(body).__name__}", empty + size, limit)
            if used + size > limit:
                yield _with_entries(body, tuple(group)), MULTIPART_MORE
                group, used = [], empty
            group.append(entry)
            used += size
        body = _with_entries(body, tuple(group))
    yield body, 0


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


def _with_entries(body: AnyBody, entries: tuple[Any, ...]) -> AnyBody:
    return cast(AnyBody, replace(cast(Any, body), entries=entries))
