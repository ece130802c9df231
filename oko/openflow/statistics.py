"""`Statistics`: what a bridge answers to OpenFlow's multipart requests (OpenFlow 1.3.5, 7.3.5)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

import oko
from ofext.bands import BANDS, DropBand
from ofext.constants import (
    GROUP_ALL,
    METER_ALL,
    PORT_ANY,
    QUEUE_ALL,
    TABLE_ALL,
    GroupCapability,
    GroupType,
    MeterFlag,
)
from ofext.messages import FlowMod
from ofext.multipart import (
    Aggregate,
    AggregateRequest,
    BucketCounter,
    Desc,
    DescRequest,
    FlowStats,
    FlowStatsReply,
    FlowStatsRequest,
    GroupDesc,
    GroupDescReply,
    GroupDescRequest,
    GroupFeatures,
    GroupFeaturesRequest,
    GroupStats,
    GroupStatsReply,
    GroupStatsRequest,
    MeterBandStats,
    MeterConfig,
    MeterConfigReply,
    MeterConfigRequest,
    MeterFeatures,
    MeterFeaturesRequest,
    MeterStats,
    MeterStatsReply,
    MeterStatsRequest,
    MultipartReply,
    PortDescReply,
    PortDescRequest,
    PortStatsReply,
    PortStatsRequest,
    QueueStatsReply,
    QueueStatsRequest,
    ReplyBody,
    RequestBody,
    TableFeaturesReply,
    TableFeaturesRequest,
    TableStats,
    TableStatsReply,
    TableStatsRequest,
    split,
)
from oko.compiler.meter import METER_LIMIT
from oko.flow.action import LAST_GROUP, LAST_TABLE, Group, Meter
from oko.flow.drop import Drop
from oko.flow.meter import BAND_LIMIT, MeterEntry
from oko.flow.rule import Command, Entry
from oko.openflow.ports import write_port, write_port_stats
from oko.switch.bridge import Bridge
from oko.switch.datapath import Count
from oko.switch.port import Port
from oko.wire.action import ACTION_TYPES, write_instructions
from oko.wire.change import meter_flags, read_flow_mod, rule_flags, write_bands, write_buckets
from oko.wire.match import write_match
from oko.wire.refusal import refused
from oko.wire.table_features import table_features

TABLES: Final = LAST_TABLE + 1
"""Tables of a bridge."""

_NS: Final = 1_000_000_000
_COLORS: Final = 0
"""Colours of meters: drop bands tell none apart."""


class Statistics:
    """Answers for one bridge."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge

    def answer(self, body: RequestBody) -> Iterator[MultipartReply]:
        """The parts of the answer to a request of OpenFlow's own. Flows are those that there are when the first part is
        taken, and are written as their part is. Raises ProtocolError for what is not there,
        KernelError."""
        if isinstance(body, FlowStatsRequest):
            yield from split(FlowStatsReply(), entries=self._flows(body))
        else:
            yield from split(self._report(body))

    def _report(self, body: RequestBody) -> ReplyBody:
        """The answer to any other request."""
        match body:
            case DescRequest():
                return Desc("Oko", "XDP", oko.__version__, "", self._bridge.name)
            case AggregateRequest():
                return self._aggregate(body)
            case TableStatsRequest():
                return TableStatsReply(tuple(self._tables()))
            case TableFeaturesRequest(entries=()):
                return TableFeaturesReply(table_features(self._bridge.limits.rules))
            case TableFeaturesRequest():
                raise refused("table-features-failed/eperm", "what a table can do cannot be changed")
            case PortDescRequest():
                return PortDescReply(tuple(write_port(self._bridge, port) for port in self._bridge.ports))
            case PortStatsRequest(port_no):
                ports = self._ports(port_no, "bad-request/bad-port")
                return PortStatsReply(tuple(write_port_stats(self._bridge, port) for port in ports))
            case QueueStatsRequest(port_no, queue_id):
                self._ports(port_no, "queue-op-failed/bad-port")
                if queue_id != QUEUE_ALL:
                    raise refused("queue-op-failed/bad-queue", f"no port has a queue {queue_id}, or any")
                return QueueStatsReply()
            case GroupStatsRequest(group_id):
                return GroupStatsReply(tuple(self._groups(group_id)))
            case GroupDescRequest():
                specs = [group.spec for group in self._bridge.tables.groups.values()]
                return GroupDescReply(tuple(GroupDesc(s.type.value, s.number, write_buckets(s)) for s in specs))
            case GroupFeaturesRequest():
                kinds = len(GroupType)
                types, actions = _bits(GroupType), _bits(ACTION_TYPES)
                return GroupFeatures(types, sum(GroupCapability), (LAST_GROUP,) * kinds, (actions,) * kinds)
            case MeterStatsRequest(meter_id):
                return MeterStatsReply(tuple(self._meters(meter_id)))
            case MeterConfigRequest(meter_id):
                chosen = [meter.spec for meter in self._chosen_meters(meter_id)]
                return MeterConfigReply(tuple(MeterConfig(meter_flags(s), s.number, write_bands(s)) for s in chosen))
            case MeterFeaturesRequest():
                bands = _bits([BANDS.numbers[DropBand]])
                return MeterFeatures(METER_LIMIT, bands, sum(MeterFlag), BAND_LIMIT, _COLORS)
            case _:
                raise refused("bad-request/bad-multipart", "this multipart request is not known")

    def _ports(self, number: int, refusal: str) -> Sequence[Port]:
        """The ports that a request means. Raises ProtocolError."""
        chosen = [port for port in self._bridge.ports if number in (port.number, PORT_ANY)]
        if not chosen and number != PORT_ANY:
            raise refused(refusal, f"there is no port {number}")
        return chosen

    # ---- rules and tables

    def _selected(self, body: FlowStatsRequest | AggregateRequest) -> list[tuple[Entry, Count]]:
        require_table(body.table_id)
        wanted = FlowMod(
            cookie=body.cookie,
            cookie_mask=body.cookie_mask,
            table_id=body.table_id,
            command=Command.DELETE.value,
            out_port=body.out_port,
            out_group=body.out_group,
            match=body.match,
        )
        return self._bridge.select(read_flow_mod(wanted))

    def _flows(self, body: FlowStatsRequest) -> Iterator[FlowStats]:
        now = time.monotonic_ns()
        for entry, count in self._selected(body):
            rule = entry.rule
            yield FlowStats(
                rule.table,
                *_since(entry.installed, now),
                rule.priority,
                rule.idle_timeout,
                rule.hard_timeout,
                rule_flags(rule),
                rule.cookie,
                count.packets,
                count.bytes,
                write_match(rule.match),
                write_instructions(rule.instructions),
            )

    def _aggregate(self, body: AggregateRequest) -> Aggregate:
        counts = [count for _, count in self._selected(body)]
        total = sum(counts, Count())
        return Aggregate(total.packets, total.bytes, len(counts))

    def _tables(self) -> Iterator[TableStats]:
        """Into a later table comes what rules send there; what a meter or a TTL stops on the way is taken for having
        come. So it is known how many found no rule in later tables, and of all the others that it was in the first."""
        rules = Counter(entry.rule.table for entry in self._bridge.tables)
        matched, sent = Counter[int](), Counter[int]()
        for (table, goto), packets in self._bridge.wins().items():
            matched[table] += packets
            if goto is not None:
                sent[goto] += packets
        missed = {table: max(0, sent[table] - matched[table]) for table in range(1, TABLES)}
        missed[0] = max(0, self._bridge.drops()[Drop.MISS].packets - sum(missed.values()))
        for table in range(TABLES):
            yield TableStats(table, rules[table], matched[table] + missed[table], matched[table])

    # ---- groups and meters

    def _groups(self, number: int) -> Iterator[GroupStats]:
        """Of a group that is not there, nothing: OpenFlow has no error for that."""
        tables, now = self._bridge.tables, time.monotonic_ns()
        chosen = [group for group in tables.groups.values() if number in (group.spec.number, GROUP_ALL)]
        if not chosen:
            return
        used = Counter(
            number
            for actions in (
                *(entry.rule.actions for entry in tables),
                *(bucket.actions for group in tables.groups.values() for bucket in group.spec.buckets),
            )
            for number in {action.number for action in actions if isinstance(action, Group)}
        )
        for group in chosen:
            count = self._bridge.count(group.slot)
            buckets = [self._bridge.count(slot) for slot in group.slots]
            yield GroupStats(
                group.spec.number,
                used[group.spec.number],
                count.packets,
                count.bytes,
                *_since(group.installed, now),
                tuple(BucketCounter(bucket.packets, bucket.bytes) for bucket in buckets),
            )

    def _meters(self, number: int) -> Iterator[MeterStats]:
        now, chosen = time.monotonic_ns(), self._chosen_meters(number)
        used = Counter(
            instruction.number
            for entry in self._bridge.tables
            for instruction in entry.rule.instructions
            if isinstance(instruction, Meter)
        )
        for meter in chosen:
            counts = self._bridge.meter_counts(meter)
            yield MeterStats(
                meter.spec.number,
                used[meter.spec.number],
                counts.packets,
                counts.bytes,
                *_since(meter.installed, now),
                tuple(MeterBandStats(packets, size) for packets, size in counts.bands),
            )

    def _chosen_meters(self, number: int) -> list[MeterEntry]:
        """The meters that a request means. Raises ProtocolError."""
        meters = self._bridge.tables.meters
        if number == METER_ALL:
            return list(meters.values())
        if number not in meters:
            raise refused("meter-mod-failed/unknown-meter", f"there is no meter {number}")
        return [meters[number]]


def require_table(number: int) -> None:
    """Raises ProtocolError unless a request may be about the rules of this table; TABLE_ALL means all tables."""
    if number > LAST_TABLE and number != TABLE_ALL:
        raise refused("bad-request/bad-table-id", f"table {number}: this switch has 0–{LAST_TABLE}")


def _since(installed: int, now: int) -> tuple[int, int]:
    """Seconds, and nanoseconds beyond them."""
    seconds, nanoseconds = divmod(now - installed, _NS)
    return seconds, nanoseconds


def _bits(numbers: Sequence[int] | type[GroupType]) -> int:
    return sum(1 << number for number in numbers)
