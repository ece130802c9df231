"""`Session10`: a connection that speaks OpenFlow 1.0, with those of Nicira's extensions that ovs-ofctl uses.

What is the same in both versions is answered by the session of OpenFlow 1.3 that the connection began with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import fields
from typing import Any, Final, TypeVar

from ofext import messages as of13
from ofext import multipart
from ofext.constants import MULTIPART_MORE, PORT_ANY, PortReason
from ofext.messages import (
    BarrierRequest,
    EchoReply,
    EchoRequest,
    Error,
    Experimenter,
    FeaturesRequest,
    GetConfigRequest,
    Hello,
    SetConfig,
    header,
)
from ofext.v10.constants import VERSION, WILDCARDS_ALL, Capability, FlowFormat
from ofext.v10.messages import (
    FeaturesReply,
    FlowMod,
    FlowModTableId,
    Message,
    NxmFlowMod,
    PacketOut,
    PortMod,
    PortStatus,
    QueueGetConfigReply,
    QueueGetConfigRequest,
    SetFlowFormat,
    VendorError,
    decode,
    encode,
)
from ofext.v10.stats import (
    AggregateRequest,
    FlowStats,
    FlowStatsReply,
    FlowStatsRequest,
    NxmAggregate,
    NxmAggregateRequest,
    NxmFlowStats,
    NxmFlowStatsReply,
    NxmFlowStatsRequest,
    Port,
    PortDescReply,
    PortStats,
    PortStatsReply,
    PortStatsRequest,
    QueueStatsReply,
    QueueStatsRequest,
    ReplyBody,
    RequestBody,
    StatsReply,
    StatsRequest,
    TableStats,
    TableStatsReply,
    split,
)
from oko.compiler.packet_in import PacketInRecord
from oko.errors import NotExpressible, OkoError
from oko.flow.action import ALL, Action
from oko.flow.change import Change
from oko.flow.packet_in import PacketInReason
from oko.flow.rule import Entry
from oko.openflow.messages10 import (
    answer_to,
    read_flow_mod,
    read_packet_out,
    read_selection,
    write_flow_stats,
    write_nxm_flow_stats,
    write_packet_in,
    write_removed,
)
from oko.openflow.ports import write_port as write_port13
from oko.openflow.statistics import require_table
from oko.switch.bridge import Bridge, Event, PortChanged, Removed
from oko.switch.datapath import Count
from oko.wire.refusal import refused
from oko.wire.v10.action import ACTION_TYPES
from oko.wire.v10.port import read_any_port, read_port_number, write_port, write_port_number

_CAPABILITIES: Final = Capability.FLOW_STATS | Capability.TABLE_STATS | Capability.PORT_STATS | Capability.ARP_MATCH_IP
_ACTIONS: Final = sum(1 << number for number in ACTION_TYPES)

_COUNTERS: Final = tuple(field.name for field in fields(PortStats) if field.name != "port_no")

_FlowRequest = FlowStatsRequest | AggregateRequest | NxmFlowStatsRequest | NxmAggregateRequest
_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Session10:
    """The switch's side of one connection. What OpenFlow 1.0 cannot say is left out of what it is told: rules, ports,
    events."""

    def __init__(
        self,
        bridge: Bridge,
        ask: Callable[[of13.Message], Iterable[of13.Message]],
        packet_out: Callable[[Sequence[Action], bytes, int], None],
    ) -> None:
        """`ask` answers a message of OpenFlow 1.3. `packet_out` carries out actions on a frame that came in by a
        port."""
        self._bridge = bridge
        self._ask = ask
        self._packet_out = packet_out
        self._nxm = False
        self._table_ids = False

    def understand(self, request: bytes) -> Change | Iterator[bytes]:
        """What a message asks for: a change, or else the answers to it, which come with what it does. Raises
        OkoError."""
        message, xid = decode(request)
        if isinstance(message, FlowMod | NxmFlowMod):
            return read_flow_mod(message, table_ids=self._table_ids)
        return (encode(answer, xid) for answer in self._answers(message))

    def refusal(self, error: OkoError, request: bytes) -> bytes:
        """The message that tells the peer what was wrong with its request."""
        return encode(answer_to(error, request), header(request).xid)

    @property
    def form(self) -> tuple[int, bool]:
        """Those who have the same are told of an event in the same bytes."""
        return VERSION, self._nxm

    def tell(self, event: Event) -> bytes | None:
        """The message that tells the peer of an event, if OpenFlow 1.0 has one."""
        with suppress(NotExpressible):
            match event:
                case PacketInRecord():
                    if event.reason is not PacketInReason.INVALID_TTL:
                        return encode(write_packet_in(event))
                case Removed():
                    return encode(write_removed(event, nxm=self._nxm))
                case PortChanged(port):
                    described = write_port(write_port13(self._bridge, port))
                    return encode(PortStatus(PortReason.MODIFY, described))
        return None

    def _answers(self, message: Message) -> Iterator[Message]:
        match message:
            case StatsRequest(body, flags):
                if flags & MULTIPART_MORE:
                    raise refused("bad-request/bad-multipart", "requests have one part here")
                yield from self._stats(body)
            case FeaturesRequest():
                yield self._features()
            case PacketOut():
                self._packet_out(*read_packet_out(message))
            case PortMod():
                yield from self._same(
                    of13.PortMod(
                        read_port_number(message.port_no),
                        message.hw_addr,
                        message.config,
                        message.mask,
                        message.advertise,
                    )
                )
            case QueueGetConfigRequest(port):
                list(self._ask(of13.QueueGetConfigRequest(read_port_number(port))))
                yield QueueGetConfigReply(port)
            case SetFlowFormat(format_):
                if format_ not in list(FlowFormat):
                    raise refused("bad-request/eperm", f"{format_} is no flow format: 0 is OpenFlow 1.0, 2 is NXM")
                self._nxm = format_ == FlowFormat.NXM
            case FlowModTableId(enabled):
                self._table_ids = bool(enabled)
            case EchoRequest() | BarrierRequest() | GetConfigRequest() | SetConfig() | Experimenter():
                yield from self._same(message)
            case Hello() | EchoReply() | Error() | VendorError():
                pass
            case _:
                raise refused("bad-request/bad-type", f"a message {type(message).__name__} is not supported")

    def _same(self, message: of13.Message) -> Iterator[Any]:
        """The answers of OpenFlow 1.3, which are those of 1.0."""
        yield from self._ask(message)

    def _features(self) -> FeaturesReply:
        (features,) = self._ask(FeaturesRequest())
        assert isinstance(features, of13.FeaturesReply)
        return FeaturesReply(
            features.datapath_id, features.n_buffers, features.n_tables, _CAPABILITIES, _ACTIONS, self._ports()
        )

    def _ports(self) -> tuple[Port, ...]:
        body = self._ask13(multipart.PortDescRequest(), multipart.PortDescReply)
        return tuple(_expressible(write_port, body.entries))

    # ---- statistics

    def _ask13(self, body: multipart.RequestBody, kind: type[_Out]) -> _Out:
        """The body of the answer of OpenFlow 1.3."""
        answers = self._ask(multipart.MultipartRequest(body))
        joined = multipart.join([part for part in answers if isinstance(part, multipart.MultipartReply)])
        assert isinstance(joined, kind)
        return joined

    def _stats(self, body: RequestBody) -> Iterator[StatsReply]:
        """The parts of an answer; flows are written as their part is taken."""
        match body:
            case FlowStatsRequest():
                yield from split(FlowStatsReply(), entries=self._flows(body, write_flow_stats))
            case NxmFlowStatsRequest():
                yield from split(NxmFlowStatsReply(), entries=self._flows(body, write_nxm_flow_stats))
            case _:
                yield from split(self._report(body))

    def _report(self, body: RequestBody) -> ReplyBody:
        match body:
            case multipart.DescRequest():
                return self._ask13(body, multipart.Desc)
            case multipart.PortDescRequest():
                return PortDescReply(self._ports())
            case multipart.TableStatsRequest():
                tables = self._ask13(body, multipart.TableStatsReply).entries
                return TableStatsReply(tuple(_table(table, self._bridge.limits.rules) for table in tables))
            case PortStatsRequest(port_no):
                number = read_any_port(port_no)
                ports = self._ask13(
                    multipart.PortStatsRequest(PORT_ANY if number is None else number), multipart.PortStatsReply
                )
                return PortStatsReply(tuple(_expressible(_port_stats, ports.entries)))
            case QueueStatsRequest(port_no, queue_id):
                number = read_port_number(port_no)
                self._ask13(
                    multipart.QueueStatsRequest(PORT_ANY if number == ALL else number, queue_id),
                    multipart.QueueStatsReply,
                )
                return QueueStatsReply()
            case AggregateRequest():
                return multipart.Aggregate(*_sums(self._flows(body, write_flow_stats)))
            case NxmAggregateRequest():
                return NxmAggregate(*_sums(self._flows(body, write_nxm_flow_stats)))
            case multipart.ExperimenterBody():
                raise refused(
                    "bad-request/bad-experimenter", f"requests of vendor {body.experimenter:#x} are not known"
                )
            case _:
                raise refused("bad-request/bad-multipart", "this statistics request is not known")

    def _flows(self, body: _FlowRequest, write: Callable[[Entry, Count], _Out]) -> Iterator[_Out]:
        """The rules that a request means and that can be said. Raises ProtocolError, BadMatch."""
        require_table(body.table_id)
        for entry, count in self._bridge.select(read_selection(body)):
            with suppress(NotExpressible):
                yield write(entry, count)


def _expressible(write: Callable[[_In], _Out], values: Iterable[_In]) -> Iterator[_Out]:
    """Those of the values that can be said."""
    for value in values:
        with suppress(NotExpressible):
            yield write(value)


def _sums(flows: Iterable[FlowStats | NxmFlowStats]) -> tuple[int, int, int]:
    """Packets, bytes, rules."""
    counted = [(flow.packet_count, flow.byte_count) for flow in flows]
    return sum(packets for packets, _ in counted), sum(size for _, size in counted), len(counted)


def _table(table: multipart.TableStats, rules: int) -> TableStats:
    """A table that holds so many `rules`."""
    return TableStats(
        table.table_id, "", WILDCARDS_ALL, rules, table.active_count, table.lookup_count, table.matched_count
    )


def _port_stats(port: multipart.PortStats) -> PortStats:
    """The counters have the same names in both versions."""
    counters = {name: getattr(port, name) for name in _COUNTERS}
    return PortStats(write_port_number(port.port_no), **counters)
