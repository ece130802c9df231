"""What becomes of Open vSwitch's answers about flows: without Oko's own rules, and with what filter rules counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, Final, NamedTuple, Protocol

from ofext.bundles import ONF
from ofext.constants import MULTIPART_MORE
from ofext.messages import encode
from ofext.monitor import MONITOR_REQUESTS, FlowMonitorRequest
from ofext.multipart import (
    REQUESTS,
    Aggregate,
    AggregateRequest,
    ExperimenterBody,
    FlowStats,
    FlowStatsReply,
    FlowStatsRequest,
    TableStatsRequest,
    split,
)
from ofext.v10.constants import NICIRA
from ofext.v10.stats import NICIRA_REQUESTS, NxmAggregate, NxmAggregateRequest, NxmFlowStatsRequest
from oko.attached.relay.dialect import EXPERIMENTER_BODY, NICIRA_FLOW, Dialect, FlowEntry, with_length
from oko.attached.shim import OWN_COOKIE

_OWN_BYTE: Final = OWN_COOKIE >> 56
"""The bit of Oko's own in the first byte of a cookie."""
_EXPERIMENTER: Final = REQUESTS.numbers[ExperimenterBody]
_NICIRA_MONITOR: Final = 2  # NXST_FLOW_MONITOR
_UNKNOWN: Final = (1 << 64) - 1
"""A count that is not known."""
_TYPE: Final = 8
_FLAGS: Final = 10
_U64: Final = (1 << 64) - 1


class About(NamedTuple):
    """What a multipart message is about: its type, and of an experimenter's who that is and the type it has there."""

    type: int
    experimenter: int = 0
    subtype: int = 0


# OpenFlow 1.0 has the same types as 1.3.
FLOWS: Final = (
    About(REQUESTS.numbers[FlowStatsRequest]),
    About(_EXPERIMENTER, NICIRA, NICIRA_REQUESTS.numbers[NxmFlowStatsRequest]),
)
AGGREGATES: Final = (
    About(REQUESTS.numbers[AggregateRequest]),
    About(_EXPERIMENTER, NICIRA, NICIRA_REQUESTS.numbers[NxmAggregateRequest]),
)
TABLES: Final = About(REQUESTS.numbers[TableStatsRequest])
MONITORS: Final = (
    About(_EXPERIMENTER, NICIRA, _NICIRA_MONITOR),
    About(_EXPERIMENTER, ONF, MONITOR_REQUESTS.numbers[FlowMonitorRequest]),
)
_MONITORED: Final = 16
"""Where the cookie stands in an update of a flow monitor."""
_EVENT: Final = 2
"""Where its event stands; behind ABBREVIATED there is no cookie."""
_ABBREVIATED: Final = 3


def about(message: bytes, dialect: Dialect) -> About:
    """Of a multipart message."""
    kind = int.from_bytes(message[_TYPE : _TYPE + 2], "big")
    if kind != _EXPERIMENTER:
        return About(kind)
    body = dialect.body
    return About(
        kind, int.from_bytes(message[body : body + 4], "big"), int.from_bytes(message[body + 4 : body + 8], "big")
    )


def is_last(message: bytes) -> bool:
    """Whether a multipart reply is the last part of its answer."""
    return not message[_FLAGS + 1] & MULTIPART_MORE


class Answer(Protocol):
    """What is done to the parts of an answer of Open vSwitch's."""

    def take(self, part: bytes) -> Iterable[bytes]:
        """What the peer is sent for a part."""


def _layout(kind: About, dialect: Dialect) -> tuple[int, FlowEntry]:
    """Where the entries of flow statistics begin, and what they are like."""
    return (dialect.body, dialect.flow) if kind == FLOWS[0] else (EXPERIMENTER_BODY, NICIRA_FLOW)


def _entries(part: bytes, offset: int) -> Iterator[bytes]:
    while offset + 2 <= len(part):
        length = int.from_bytes(part[offset : offset + 2], "big")
        if length < 2:
            return
        yield part[offset : offset + length]
        offset += length


def without_own(part: bytes, offset: int, cookie: int) -> bytes:
    """The part without the entries, which begin at `offset`, of Oko's own rules."""
    entries = list(_entries(part, offset))
    kept = [entry for entry in entries if len(entry) <= cookie or not entry[cookie] & _OWN_BYTE]
    return part if len(kept) == len(entries) else with_length(part[:offset] + b"".join(kept))


def monitored(part: bytes) -> bytes:
    """A part of what a flow monitor tells, without Oko's own rules."""
    entries = list(_entries(part, EXPERIMENTER_BODY))
    kept = [
        entry
        for entry in entries
        if entry[_EVENT + 1] == _ABBREVIATED or len(entry) <= _MONITORED or not entry[_MONITORED] & _OWN_BYTE
    ]
    return part if len(kept) == len(entries) else with_length(part[:EXPERIMENTER_BODY] + b"".join(kept))


class Flows:
    """Flow statistics. `shown` are the filter rules to be told, too, if any are."""

    def __init__(self, kind: About, dialect: Dialect, shown: Callable[[], Iterable[FlowStats]] | None = None) -> None:
        self._offset, self._entry = _layout(kind, dialect)
        self._shown = shown

    def take(self, part: bytes) -> Iterator[bytes]:
        rest = without_own(part, self._offset, self._entry.cookie)
        more = list(self._shown()) if self._shown is not None and is_last(part) else []
        if not more:
            yield rest
            return
        yield rest[: _FLAGS + 1] + bytes((rest[_FLAGS + 1] | MULTIPART_MORE,)) + rest[_FLAGS + 2 :]
        xid = int.from_bytes(part[4:8], "big")
        yield from (encode(each, xid) for each in split(FlowStatsReply(), entries=more))


class Sums:
    """Aggregate statistics, of which the request is `asked`: Open vSwitch is asked for the flows instead."""

    def __init__(self, kind: About, dialect: Dialect, shown: Callable[[], Iterable[FlowStats]] | None = None) -> None:
        self._kind = kind
        self._dialect = dialect
        self._offset, self._entry = _layout(FLOWS[AGGREGATES.index(kind)], dialect)
        self._shown = shown
        self._packets = self._bytes = self._flows = 0

    @staticmethod
    def asked(request: bytes, kind: About, dialect: Dialect) -> bytes:
        """The request for the flows that a request for sums is about."""
        other = FLOWS[AGGREGATES.index(kind)]
        if kind.type == _EXPERIMENTER:
            at = dialect.body + 4
            return request[:at] + other.subtype.to_bytes(4, "big") + request[at + 4 :]
        return request[:_TYPE] + other.type.to_bytes(2, "big") + request[_TYPE + 2 :]

    def _add(self, packets: int, size: int) -> None:
        self._packets += 0 if packets == _UNKNOWN else packets
        self._bytes += 0 if size == _UNKNOWN else size
        self._flows += 1

    def take(self, part: bytes) -> Iterator[bytes]:
        at = self._entry
        for entry in _entries(part, self._offset):
            if len(entry) >= at.bytes + 8 and not entry[at.cookie] & _OWN_BYTE:
                self._add(
                    int.from_bytes(entry[at.packets : at.packets + 8], "big"),
                    int.from_bytes(entry[at.bytes : at.bytes + 8], "big"),
                )
        if not is_last(part):
            return
        for flow in self._shown() if self._shown is not None else ():
            self._add(flow.packet_count, flow.byte_count)
        kind = Aggregate if self._kind == AGGREGATES[0] else NxmAggregate
        body = kind(self._packets & _U64, self._bytes & _U64, self._flows)
        yield self._dialect.encode(self._dialect.report(body), int.from_bytes(part[4:8], "big"))


def summed(flows: Iterable[FlowStats]) -> Aggregate:
    """What flows have counted together."""
    counts = [(flow.packet_count, flow.byte_count) for flow in flows]
    return Aggregate(sum(count for count, _ in counts) & _U64, sum(size for _, size in counts) & _U64, len(counts))


class Tables:
    """Table statistics: of table 0 without `own`, what Oko's own rules have counted, and with `filters`, what filter
    rules have. If they are `shown`, they are counted as flows, too."""

    def __init__(self, dialect: Dialect, own: Aggregate, filters: Aggregate, *, shown: bool) -> None:
        self._dialect = dialect
        self._flows = (filters.flow_count if shown else 0) - own.flow_count
        self._packets = filters.packet_count - own.packet_count

    def take(self, part: bytes) -> Iterator[bytes]:
        message, xid = self._dialect.decode(part)
        reply: Any = message.body
        entries = tuple(self._mended(each) if each.table_id == 0 else each for each in reply.entries)
        yield self._dialect.encode(replace(message, body=replace(reply, entries=entries)), xid)

    def _mended(self, table: Any) -> Any:
        return replace(
            table,
            active_count=max(0, table.active_count + self._flows),
            lookup_count=max(0, table.lookup_count + self._packets),
            matched_count=max(0, table.matched_count + self._packets),
        )


def selection(request: bytes, dialect: Dialect) -> FlowStatsRequest:
    """The flows that a request of OpenFlow 1.3, for flows or for sums, is about. Raises ProtocolError."""
    message, _ = dialect.decode(request)
    body = message.body
    if isinstance(body, AggregateRequest):
        return FlowStatsRequest(body.table_id, body.out_port, body.out_group, body.cookie, body.cookie_mask, body.match)
    assert isinstance(body, FlowStatsRequest)
    return body
