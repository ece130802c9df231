"""The bodies of statistics requests and replies (OpenFlow 1.0.1, section 5.3.5, and Nicira's). The type number follows
from the body's class. OFPST_PORT_DESC is of OpenFlow 1.3; Open vSwitch has it in 1.0, too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Final

from ..codec import U8, U16, U32, U64, Chars, Exactly, Family, Layout, Pad, Repeat, Sized
from ..experimenter import ExperimenterPart
from ..multipart import (
    PART_LIMIT,
    Aggregate,
    Desc,
    DescRequest,
    ExperimenterBody,
    MultipartPart,
    PortDescRequest,
    TableStatsRequest,
    UnknownBody,
    divide,
)
from ..oxm import Oxm
from .actions import Actions
from .constants import NICIRA, PORT_NONE
from .match import MATCH, Match, Nxm, NxmPart

TABLE_ALL: Final = 0xFF
QUEUE_ALL: Final = 0xFFFFFFFF

REQUESTS: Final = Family("statistics request")
REPLIES: Final = Family("statistics reply")
NICIRA_REQUESTS: Final = Family("statistics request of Nicira")
NICIRA_REPLIES: Final = Family("statistics reply of Nicira")


@REQUESTS.member(1)
@dataclass(frozen=True, slots=True)
class FlowStatsRequest:
    """Ask for the flows that the match selects and that send to `out_port`."""

    match: Annotated[Match, MATCH]
    table_id: Annotated[U8, Pad(1)] = TABLE_ALL
    out_port: U16 = PORT_NONE


@dataclass(frozen=True, slots=True)
class FlowStats:
    """A flow and its counters. It has been there for `duration_sec` seconds and `duration_nsec` nanoseconds."""

    table_id: Annotated[U8, Pad(1)]
    match: Annotated[Match, MATCH]
    duration_sec: U32
    duration_nsec: U32
    priority: U16
    idle_timeout: U16
    hard_timeout: Annotated[U16, Pad(6)]
    cookie: U64
    packet_count: U64
    byte_count: U64
    actions: Actions = ()


@REPLIES.member(1)
@dataclass(frozen=True, slots=True)
class FlowStatsReply:
    """Flows."""

    entries: Annotated[tuple[FlowStats, ...], Repeat(Sized(Layout(FlowStats)))] = ()


@REQUESTS.member(2)
@dataclass(frozen=True, slots=True)
class AggregateRequest:
    """Ask for the sums over the flows that the match selects and that send to `out_port`."""

    match: Annotated[Match, MATCH]
    table_id: Annotated[U8, Pad(1)] = TABLE_ALL
    out_port: U16 = PORT_NONE


@dataclass(frozen=True, slots=True)
class TableStats:
    """What a table is and has counted. `wildcards` are the fields that a match may leave out."""

    table_id: Annotated[U8, Pad(3)]
    name: Annotated[str, Chars(32)]
    wildcards: U32
    max_entries: U32
    active_count: U32
    lookup_count: U64
    matched_count: U64


@REPLIES.member(3)
@dataclass(frozen=True, slots=True)
class TableStatsReply:
    """Tables."""

    entries: Annotated[tuple[TableStats, ...], Repeat(Layout(TableStats))] = ()


@REQUESTS.member(4)
@dataclass(frozen=True, slots=True)
class PortStatsRequest:
    """Ask for the counters of a port, or of all."""

    port_no: Annotated[U16, Pad(6)] = PORT_NONE


@dataclass(frozen=True, slots=True)
class PortStats:
    """The counters of a port, all ones where there is none."""

    port_no: Annotated[U16, Pad(6)]
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


@REPLIES.member(4)
@dataclass(frozen=True, slots=True)
class PortStatsReply:
    """The counters of ports."""

    entries: Annotated[tuple[PortStats, ...], Repeat(Layout(PortStats))] = ()


@REQUESTS.member(5)
@dataclass(frozen=True, slots=True)
class QueueStatsRequest:
    """Ask for the counters of a queue of a port, or of all (OFPP_ALL, 0xfffc, means all ports)."""

    port_no: Annotated[U16, Pad(2)] = 0xFFFC
    queue_id: U32 = QUEUE_ALL


@dataclass(frozen=True, slots=True)
class QueueStats:
    """The counters of a queue."""

    port_no: Annotated[U16, Pad(2)]
    queue_id: U32
    tx_bytes: U64 = 0
    tx_packets: U64 = 0
    tx_errors: U64 = 0


@REPLIES.member(5)
@dataclass(frozen=True, slots=True)
class QueueStatsReply:
    """The counters of queues."""

    entries: Annotated[tuple[QueueStats, ...], Repeat(Layout(QueueStats))] = ()


@dataclass(frozen=True, slots=True)
class Port:
    """`struct ofp_phy_port` (section 5.2.1)."""

    port_no: U16
    hw_addr: Annotated[bytes, Exactly(6)]
    name: Annotated[str, Chars(16)]
    config: U32 = 0
    state: U32 = 0
    curr: U32 = 0
    advertised: U32 = 0
    supported: U32 = 0
    peer: U32 = 0


PORT: Final = Layout(Port)


@REPLIES.member(13)
@dataclass(frozen=True, slots=True)
class PortDescReply:
    """Ports."""

    entries: Annotated[tuple[Port, ...], Repeat(PORT)] = ()


# ---- what is as in OpenFlow 1.3

for _number, _shared in ((0, DescRequest), (3, TableStatsRequest), (13, PortDescRequest)):
    REQUESTS.add(_number, Layout(_shared), _shared)
REPLIES.add(0, Layout(Desc), Desc)
REPLIES.add(2, Layout(Aggregate), Aggregate)


# ---- Nicira's


@dataclass(frozen=True, slots=True)
class NxmFlowStatsRequest:
    """Ask for the flows that the match selects and that send to `out_port`."""

    out_port: Annotated[U16, Pad(2)] = PORT_NONE
    table_id: Annotated[U8, Pad(3)] = TABLE_ALL
    match: Annotated[tuple[Oxm, ...], NxmPart(6)] = ()


@dataclass(frozen=True, slots=True)
class NxmFlowStats:
    """A flow and its counters. Ages, in seconds since the last packet and since the last change, are one more than they
    are; 0 is for not known."""

    table_id: Annotated[U8, Pad(1)]
    duration_sec: U32
    duration_nsec: U32
    priority: U16
    idle_timeout: U16
    hard_timeout: Annotated[U16, Pad(2)]
    idle_age: U16
    hard_age: U16
    cookie: U64
    packet_count: U64
    byte_count: U64
    match: Annotated[tuple[Oxm, ...], NxmPart(30)] = ()
    actions: Actions = ()


@dataclass(frozen=True, slots=True)
class NxmFlowStatsReply:
    """Flows."""

    entries: Annotated[tuple[NxmFlowStats, ...], Repeat(Sized(Nxm(Layout(NxmFlowStats))))] = ()


@dataclass(frozen=True, slots=True)
class NxmAggregateRequest:
    """Ask for the sums over the flows that the match selects and that send to `out_port`."""

    out_port: Annotated[U16, Pad(2)] = PORT_NONE
    table_id: Annotated[U8, Pad(3)] = TABLE_ALL
    match: Annotated[tuple[Oxm, ...], NxmPart(6)] = ()


@dataclass(frozen=True, slots=True)
class NxmAggregate:
    """Sums over flows."""

    packet_count: U64
    byte_count: U64
    flow_count: Annotated[U32, Pad(4)]


NICIRA_REQUESTS.add(0, Nxm(Layout(NxmFlowStatsRequest, lead=4)), NxmFlowStatsRequest)
NICIRA_REQUESTS.add(1, Nxm(Layout(NxmAggregateRequest, lead=4)), NxmAggregateRequest)
NICIRA_REPLIES.add(0, Layout(NxmFlowStatsReply, lead=4), NxmFlowStatsReply)
NICIRA_REPLIES.add(1, Layout(NxmAggregate, lead=4), NxmAggregate)

for _family, _nicira in ((REQUESTS, NICIRA_REQUESTS), (REPLIES, NICIRA_REPLIES)):
    _family.add(
        0xFFFF,
        ExperimenterPart({NICIRA: _nicira}, ExperimenterBody, strict=NICIRA),
        *(ExperimenterBody, *_nicira.numbers),
    )

RequestBody = (
    DescRequest
    | FlowStatsRequest
    | AggregateRequest
    | TableStatsRequest
    | PortStatsRequest
    | QueueStatsRequest
    | PortDescRequest
    | NxmFlowStatsRequest
    | NxmAggregateRequest
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
    | PortDescReply
    | NxmFlowStatsReply
    | NxmAggregate
    | ExperimenterBody
    | UnknownBody
)


@dataclass(frozen=True, slots=True)
class StatsRequest:
    """A question."""

    body: RequestBody
    flags: int = 0


@dataclass(frozen=True, slots=True)
class StatsReply:
    """A part of an answer. `flags` has MULTIPART_MORE if other parts follow."""

    body: ReplyBody
    flags: int = 0


REQUEST_PART: Final = MultipartPart(REQUESTS, StatsRequest, head="HH")
REPLY_PART: Final = MultipartPart(REPLIES, StatsReply, head="HH")


def split(body: ReplyBody, limit: int = PART_LIMIT, entries: Iterable[object] | None = None) -> Iterator[StatsReply]:
    """The parts of an answer, as `ofext.multipart.split` makes them."""
    for part, flags in divide(body, REPLIES, limit, entries):
        yield StatsReply(part, flags)
