"""The reference switch: slow, obvious, and by definition right. It says what the compiled pipeline must do.

A packet enters table 0. In every table that it enters its headers are read from the bytes that it has by then. The
table's observers are asked, then the rules whose header conditions hold are tried in the order of `Entry.rank`; the
first wins whose filter program says yes or that has none. A program runs at most once per packet, when it is first
needed, as observer or by a rule; its verdict stays for the packet, whatever happens to the bytes.

The instructions of the winner are carried out in their order, and lead to another table or to the end, where the
action set is executed. What was sent stays sent, however the packet ends.

A switch that is attached to Open vSwitch leaves the packets to it that it does not decide (`oko.flow.attachment`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from oko.errors import BadMatch
from oko.flow.action import (
    ALL,
    CONTROLLER,
    FLOOD,
    IN_PORT,
    TABLE,
    Action,
    ApplyActions,
    ClearActions,
    Continue,
    CopyTtlIn,
    CopyTtlOut,
    DecMplsTtl,
    DecTtl,
    GotoTable,
    Group,
    Meter,
    Output,
    Pass,
    PopMpls,
    PopVlan,
    PushMpls,
    PushVlan,
    SetField,
    SetMplsTtl,
    SetTtl,
    WriteActions,
    WriteMetadata,
    in_set_order,
)
from oko.flow.attachment import Attachment, Shims
from oko.flow.bucket import TokenBucket
from oko.flow.drop import Drop
from oko.flow.group import Bucket, GroupEntry, GroupSpec, GroupType
from oko.flow.headers import MAX_TAGS, parse
from oko.flow.match import Match
from oko.flow.meter import MeterEntry
from oko.flow.packet_in import PacketIn, PacketInReason
from oko.flow.port import PortState
from oko.flow.rewrite import (
    copy_ttl_in,
    copy_ttl_out,
    dec_mpls_ttl,
    dec_ttl,
    pop_mpls,
    pop_vlan,
    push_mpls,
    push_vlan,
    set_field,
    set_mpls_ttl,
    set_ttl,
)
from oko.flow.rule import Entry
from oko.flow.selection import selection_hash
from oko.flow.shim import frame as behind_shim
from oko.flow.shim import is_shim
from oko.flow.tables import Tables
from oko.flow.trace import (
    Acted,
    Asked,
    Carried,
    Charged,
    Emptied,
    Ended,
    Entered,
    Event,
    Filled,
    Grouped,
    Left,
    Lost,
    Sending,
    Sent,
    Told,
    Won,
)

FilterProgram = Callable[[bytes, int, int], int]
"""(frame, in_port, now in ns) → not 0 for a match. It may keep state between packets."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the switch did with one packet.

    `entries` are the rules that won, one in each table that the packet came through. `sent` has the frames that left,
    with the port of each, in the order in which they were sent. `verdicts` has the programs that ran, by id, in the
    order in which they ran. `left` is the frame that is left to Open vSwitch, None if none is. `drop` says why nothing
    was sent: what first went wrong, None if nothing did, as when rules say nothing of sending. Only this reason is
    counted; a packet that was sent somewhere is no dropped packet.
    """

    entries: tuple[Entry, ...] = ()
    sent: tuple[tuple[int, bytes], ...] = ()
    packet_ins: tuple[PacketIn, ...] = ()
    verdicts: Mapping[int, bool] = field(default_factory=dict)
    left: bytes | None = None
    drop: Drop | None = None


@dataclass(slots=True)
class Counters:
    """What the switch has counted so far. Bytes are of the whole frame as it was then, without FCS."""

    packets: Counter[int] = field(default_factory=Counter)  # by slot: what a rule won, or a group or bucket processed
    bytes: Counter[int] = field(default_factory=Counter)  # by slot
    runs: Counter[int] = field(default_factory=Counter)  # by program id
    matches: Counter[int] = field(default_factory=Counter)  # by program id: the runs that said yes
    meter_packets: Counter[int] = field(default_factory=Counter)  # by slot of the meter: what came in
    meter_bytes: Counter[int] = field(default_factory=Counter)
    band_packets: Counter[tuple[int, int]] = field(default_factory=Counter)  # by (slot, band): what it dropped
    band_bytes: Counter[tuple[int, int]] = field(default_factory=Counter)
    sent: Counter[int] = field(default_factory=Counter)  # by port: frames
    drops: Counter[Drop] = field(default_factory=Counter)  # frames
    drop_bytes: Counter[Drop] = field(default_factory=Counter)


class ReferenceSwitch:
    """A switch with these `tables`, filter `programs` by id, and `ports` by number. One with an `attachment` is
    attached to Open vSwitch, and does with `shims` what they say.

    It reads all of them anew for each packet, so the owner may change them between packets. `counters` only grow.
    `tell` is called at each decision on the way of a packet; it does nothing unless somebody puts something in its
    place.
    """

    def __init__(
        self,
        tables: Tables,
        programs: Mapping[int, FilterProgram],
        ports: Mapping[int, PortState],
        attachment: Attachment | None = None,
    ) -> None:
        self.tables = tables
        self.programs = programs
        self.ports = ports
        self.attachment = attachment
        self.shims = Shims.USED
        self.counters = Counters()
        self.tell: Callable[[Event], None] = _nobody
        self._bands: dict[int, tuple[MeterEntry, list[TokenBucket]]] = {}

    def decide(self, frame: bytes, in_port: int, now: int) -> Decision:
        """Decide one frame that came in by `in_port` at `now` (ns), and count it.

        Raises BadMatch when it comes to a rule or an observer whose program is not loaded.
        """
        journey = _Journey(self, frame, in_port, now)
        journey.run()
        return journey.decision()

    def execute(
        self,
        actions: Iterable[Action],
        frame: bytes,
        in_port: int,
        now: int,
        enter: Callable[[bytes], Decision] | None = None,
    ) -> Decision:
        """Carry out the actions of a packet-out, outside any table. `in_port` may be CONTROLLER.

        An output to TABLE lets a copy of the packet, as it is then, enter table 0: that is a packet of its own, for
        which programs run anew. Raises BadAction for actions that a packet-out cannot have.
        """
        actions = tuple(actions)
        self.tables.check_packet_out(actions)
        journey = _Journey(self, frame, in_port, now, enter)
        journey.run_actions(actions)
        return journey.decision()

    def bands(self, meter: MeterEntry) -> list[TokenBucket]:
        """The token buckets of a meter's bands, full at first, also when the meter has been modified."""
        known, buckets = self._bands.get(meter.slot, (None, []))
        if known is not meter:
            buckets = [TokenBucket(band) for band in meter.spec.bands]
            self._bands[meter.slot] = (meter, buckets)
        return buckets

    def is_live(self, bucket: Bucket, type_: GroupType) -> bool:
        """Whether a bucket of a group of this type is live (`Bucket` says when)."""
        if bucket.watch_port is None and bucket.watch_group is None:
            return type_ is not GroupType.FAST_FAILOVER
        port = self.ports.get(bucket.watch_port) if bucket.watch_port is not None else None
        group = self.tables.groups.get(bucket.watch_group) if bucket.watch_group is not None else None
        return (port is not None and port.live) or (
            group is not None and any(self.is_live(other, group.spec.type) for other in group.spec.buckets)
        )


class _Journey:
    """One packet on its way."""

    def __init__(
        self,
        switch: ReferenceSwitch,
        frame: bytes,
        in_port: int,
        now: int,
        enter: Callable[[bytes], Decision] | None = None,
    ) -> None:
        self.switch = switch
        self.enter = enter
        self.counters = switch.counters
        self.tell = switch.tell
        self.frame = frame
        self.in_port = in_port
        self.now = now
        self.metadata = 0
        self.table = 0
        self.entry: Entry | None = None
        self.written: list[Action] = []
        self.entries: list[Entry] = []
        self.sent: list[tuple[int, bytes]] = []
        self.packet_ins: list[PacketIn] = []
        self.verdicts: dict[int, bool] = {}
        self.left: bytes | None = None
        self.drop_in_tables: Drop | None = None  # of a copy that a packet-out let enter them; counted there
        self.lost: tuple[Drop, int] | None = None  # what first went wrong, and the bytes of the frame then

    def decision(self) -> Decision:
        """What became of the packet, counted."""
        drop = None if self.sent else self.drop_in_tables
        if self.lost is not None and not self.sent:
            drop, size = self.lost
            self.counters.drops[drop] += 1
            self.counters.drop_bytes[drop] += size
        return Decision(tuple(self.entries), tuple(self.sent), tuple(self.packet_ins), self.verdicts, self.left, drop)

    def run(self) -> None:
        """From table 0 to the end."""
        if (attachment := self.switch.attachment) is not None and self._ends_before_tables(attachment):
            return
        table: int | None = 0
        while table is not None:
            table = self._visit(table)

    def _ends_before_tables(self, attachment: Attachment) -> bool:
        """Whether an attached switch has done with the packet before it looks into a table."""
        if is_shim(self.frame):
            self._lose(Drop.FORGED, self.frame)
            return True
        headers = self._headers(self.frame)
        if headers is None:
            return False
        if attachment.is_too_long(self.frame, self.in_port):
            self._lose(Drop.TOO_LONG, self.frame)
            return True
        if any(_holds(match, headers) for match in attachment.reserved):
            self._leave(self.frame)
            return True
        return False

    def run_actions(self, actions: Iterable[Action]) -> None:
        """The actions and nothing else."""
        if parse(self.frame, self.in_port) is None:
            self._lose(Drop.RUNT, self.frame)
        else:
            self._act(actions, self.frame)

    def _visit(self, table: int) -> int | None:
        """Everything that happens in a table. Returns the next one, None at the end."""
        self.table = table
        headers = self._headers(self.frame)
        if headers is None:
            self._lose(Drop.RUNT, self.frame)
            return None
        self.tell(Entered(table, headers))
        for observer in self.switch.tables.observers:
            if observer.table == table and observer.match.program is not None and _holds(observer.match, headers):
                self._ask(observer.match.program)
        entry = self._lookup(headers)
        if entry is None:
            if self.switch.attachment is None:
                self._lose(Drop.MISS, self.frame)
            else:
                self._leave(self.frame)
            return None
        self.tell(Won(entry))
        self.entry = entry
        self.entries.append(entry)
        self._count(entry.slot, self.frame)
        for instruction in entry.rule.instructions:
            self.tell(Carried(instruction))
            match instruction:
                case Meter(number):
                    if not self._passes(self.switch.tables.meters[number]):
                        self._lose(Drop.METER, self.frame)
                        return None
                case ApplyActions(actions):
                    rewritten = self._act(actions, self.frame)
                    if rewritten is None:
                        return None
                    self.frame = rewritten
                case ClearActions():
                    self.written.clear()
                case WriteActions(actions):
                    self.written += actions
                case WriteMetadata(value, mask):
                    self.metadata = self.metadata & ~mask | value & mask
                case GotoTable(next_table):
                    return next_table
        action_set = in_set_order(self.written)
        self.tell(Ended(action_set))
        self._act(action_set, self.frame)
        return None

    # ---- lookup

    def _headers(self, frame: bytes) -> dict[str, int] | None:
        """What is read of a frame, None for a runt."""
        attachment = self.switch.attachment
        limit = MAX_TAGS if attachment is None else attachment.vlan_limit
        return parse(frame, self.in_port, self.metadata, vlan_limit=limit)

    def _lookup(self, headers: Mapping[str, int]) -> Entry | None:
        for entry in self.switch.tables.ranked(self.table):
            match = entry.rule.match
            if _holds(match, headers) and (match.program is None or self._ask(match.program)):
                return entry
        return None

    def _ask(self, program: int) -> bool:
        fresh = program not in self.verdicts
        if fresh:
            if program not in self.switch.programs:
                raise BadMatch(f"filter_prog={program}: no program {program} is loaded", reason="bad-value")
            verdict = self.switch.programs[program](self.frame, self.in_port, self.now) != 0
            self.counters.runs[program] += 1
            self.counters.matches[program] += verdict
            self.verdicts[program] = verdict
        self.tell(Asked(program, self.verdicts[program], fresh))
        return self.verdicts[program]

    # ---- meters

    def _passes(self, meter: MeterEntry) -> bool:
        """Charge every band that has the tokens, and say whether all had."""
        size = len(self.frame)
        self.counters.meter_packets[meter.slot] += 1
        self.counters.meter_bytes[meter.slot] += size
        buckets = self.switch.bands(meter)
        exceeded = [number for number, bucket in enumerate(buckets) if not bucket.take(meter.spec.cost(size), self.now)]
        if exceeded:
            highest = max(exceeded, key=lambda number: meter.spec.bands[number].rate)
            self.counters.band_packets[meter.slot, highest] += 1
            self.counters.band_bytes[meter.slot, highest] += size
        self.tell(Charged(meter, tuple(exceeded)))
        return not exceeded

    # ---- actions

    def _act(self, actions: Iterable[Action], frame: bytes) -> bytes | None:
        """Carry out actions in the order given. Returns the frame as it is then, None if its TTL ended it."""
        for action in actions:
            rewritten: bytes | None = frame
            match action:
                case Output(port):
                    self._output(port, frame)
                case Group(number):
                    self._group(self.switch.tables.groups[number], frame)
                case SetField(subject, value):
                    rewritten = set_field(frame, subject, value)
                case PushVlan(tpid):
                    rewritten = push_vlan(frame, tpid)
                case PopVlan():
                    rewritten = pop_vlan(frame)
                case PushMpls(eth_type):
                    rewritten = push_mpls(frame, eth_type)
                case PopMpls(eth_type):
                    rewritten = pop_mpls(frame, eth_type)
                case DecTtl():
                    rewritten = dec_ttl(frame)
                case SetTtl(ttl):
                    rewritten = set_ttl(frame, ttl)
                case DecMplsTtl():
                    rewritten = dec_mpls_ttl(frame)
                case SetMplsTtl(ttl):
                    rewritten = set_mpls_ttl(frame, ttl)
                case CopyTtlOut():
                    rewritten = copy_ttl_out(frame)
                case CopyTtlIn():
                    rewritten = copy_ttl_in(frame)
                case Pass():
                    self._leave(frame)
                case Continue(shim_id):
                    self._continue(shim_id, frame)
            if not isinstance(action, Output | Group | Pass | Continue):
                self.tell(Acted(action, frame, rewritten))
            if rewritten is None:
                self._packet_in(PacketInReason.INVALID_TTL, frame)
                self._lose(Drop.INVALID_TTL, frame)
                return None
            frame = rewritten
        return frame

    def _group(self, group: GroupEntry, frame: bytes) -> None:
        """Every bucket chosen gets a copy of the frame."""
        self._count(group.slot, frame)
        buckets = group.spec.buckets
        live = [index for index, bucket in enumerate(buckets) if self.switch.is_live(bucket, group.spec.type)]
        chosen = self._chosen(group.spec, live, frame)
        self.tell(Grouped(group, tuple(live), tuple(chosen)))
        for index in chosen:
            self.tell(Filled(group, index))
            self._count(group.slots[index], frame)
            self._act(in_set_order(buckets[index].actions), frame)
            self.tell(Emptied())

    def _chosen(self, spec: GroupSpec, live: Sequence[int], frame: bytes) -> Sequence[int]:
        """The buckets that a group uses for this frame, by index; these are `live`."""
        match spec.type:
            case GroupType.ALL | GroupType.INDIRECT:
                return range(len(spec.buckets))
            case GroupType.FAST_FAILOVER:
                return live[:1]
            case GroupType.SELECT:
                headers = self._headers(frame)
                assert headers is not None, "no action makes a runt"
                point = selection_hash(headers) * sum(spec.buckets[index].weight for index in live) >> 32
                for index in live:
                    if point < spec.buckets[index].weight:
                        return (index,)
                    point -= spec.buckets[index].weight
                return ()

    def _output(self, port: int, frame: bytes) -> None:
        ports = self.switch.ports
        self.tell(Sending(port))
        if port == CONTROLLER:
            by_miss = self.entry is not None and self.entry.rule.is_table_miss
            self._packet_in(PacketInReason.NO_MATCH if by_miss else PacketInReason.ACTION, frame)
        elif port == TABLE:
            self._enter_tables(frame)
        elif port in (FLOOD, ALL):
            for number in sorted(ports):
                if port == ALL or ports[number].flood:
                    self._send(number, frame)
        elif port == IN_PORT:
            self._send(self.in_port, frame, back=True)
        else:
            self._send(port, frame)

    def _send(self, port: int, frame: bytes, *, back: bool = False) -> None:
        """Send to a port, but not `back` where the packet came from unless that is meant."""
        if port == self.in_port and not back:
            self._lose(Drop.TO_INGRESS, frame)
        elif port not in self.switch.ports:
            self._lose(Drop.NO_PORT, frame)
        else:
            self.tell(Sent(port, frame))
            self.counters.sent[port] += 1
            self.sent.append((port, frame))

    def _continue(self, shim_id: int, frame: bytes) -> None:
        match self.switch.shims:
            case Shims.USED:
                self._leave(behind_shim(shim_id, frame))
            case Shims.PASSED:
                self._leave(frame)
            case Shims.DROPPED:
                self._lose(Drop.SUSPENDED, frame)

    def _leave(self, frame: bytes) -> None:
        self.tell(Left(frame))
        self.left = frame

    def _enter_tables(self, frame: bytes) -> None:
        """Of a packet-out: let the tables decide, and tell of it as part of this decision."""
        decision = self.enter(frame) if self.enter else self.switch.decide(frame, self.in_port, self.now)
        self.entries.extend(decision.entries)
        self.sent.extend(decision.sent)
        self.packet_ins.extend(decision.packet_ins)
        self.left = decision.left
        self.verdicts.update(decision.verdicts)
        self.drop_in_tables = decision.drop

    def _packet_in(self, reason: PacketInReason, frame: bytes) -> None:
        packet_in = PacketIn(reason, self.entry, self.table, self.in_port, self.metadata, frame)
        self.tell(Told(packet_in))
        self.packet_ins.append(packet_in)

    # ---- counting

    def _count(self, slot: int, frame: bytes) -> None:
        self.counters.packets[slot] += 1
        self.counters.bytes[slot] += len(frame)

    def _lose(self, drop: Drop, frame: bytes) -> None:
        self.tell(Lost(drop))
        if self.lost is None:
            self.lost = (drop, len(frame))


def _nobody(_event: Event) -> None:
    """Nobody listens."""


def _holds(match: Match, headers: Mapping[str, int]) -> bool:
    return all(headers[c.field.name] & c.mask == c.value for c in match.headers)
