"""Whether every packet is decided by the tables before a change or by those after it: random changes under full load,
and a version of the tables looked for that explains what became of every single frame."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any, Final

from oko.compiler.packet_in import PacketInRecord
from oko.errors import BundleFailed, FlowError, LimitExceeded, OkoError
from oko.flow.bucket import TokenBucket
from oko.flow.drop import Drop
from oko.flow.meter import Band, MeterEntry
from oko.flow.packet_in import PacketInReason
from oko.flow.port import PortState
from oko.flow.reference import Decision, FilterProgram, ReferenceSwitch
from oko.flow.rule import Command, FlowMod
from oko.flow.tables import Tables
from oko.flow.text import parse_rule
from oko.switch.bridge import Bridge, Event, Removed
from oko.switch.datapath import Datapath
from oko.switch.objects import read_runtime, read_stub
from oko.switch.port import Port
from perf.changes import KEPT_COOKIE, NO_LIMIT, Changes, Update, describe
from perf.explanation import Explanation, Fates, Version, explain, runs
from perf.flows import BEACON, FLOWS, STAMP, digest, frames
from perf.isolation import BPFFS
from perf.machine import machine
from perf.stamped import FRAMES, PORTS, StampedTrack, Statistics, outcome
from perf.xdp import OBJECTS

_BRIDGE: Final = "perf"
_BEACON: Final = (
    f"priority=65535,dl_type={BEACON:#x},cookie={KEPT_COOKIE},"
    f"actions=in_port,{','.join(f'output:{port.number}' for port in PORTS[1:])}"
)
_BETWEEN: Final = 2 * FLOWS
"""Frames that pass between two updates, at least."""
_ROOM: Final = FRAMES // 4
"""Stamps that must be left for another update."""
_PACKET_INS: Final = 256
"""Packet-ins that are read between two updates."""
_SHOWN: Final = 10

_PROGRAMS: Final[Mapping[str, FilterProgram]] = {
    "odd_source": lambda frame, _in_port, _now: frame[11] & 1,
    "even_source": lambda frame, _in_port, _now: ~frame[11] & 1,
    "any": lambda _frame, _in_port, _now: 1,
    "ethernet": lambda _frame, _in_port, _now: 1,
}
"""What the programs of ``perf/programs`` do."""

Told = tuple[PacketInReason, int, int, int]
"""A packet-in: reason, table, metadata, and the digest of the frame."""


@dataclass(slots=True)
class UpdatesResult:
    """Of `changes`, by kind, so many were made while frames passed; `versions` counts the tables that they made, one
    for each flow_mod or the like that was not in a bundle, and `visible` those of them that treat a frame differently
    from the one before. `refused` counts the changes that the bridge refused, of which nothing may be seen.

    `wins` counts what the rules have counted.

    Frames: `sent`, those of them of which at least one copy was `delivered`, those sent `nowhere` and why; the others
    as in `Explanation`. `faults` are descriptions of what must not be.
    """

    seed: int
    changes: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    versions: int = 0
    visible: int = 0
    sent: int = 0
    delivered: int = 0
    copies: int = 0
    nowhere: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    driver: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    contested: int = 0
    open: int = 0
    metered: int = 0
    unexplained: int = 0
    wins: int = 0
    packet_ins: int = 0
    lost_packet_ins: int = 0
    load_seconds: float = 0.0
    faults: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """The result as json.dumps takes it."""
        return {"machine": machine()} | {name: getattr(self, name) for name in self.__slots__}

    def __str__(self) -> str:
        def listed(counts: Mapping[str, int]) -> str:
            return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()) if count) or "none"

        return "\n".join(
            (
                f"{self.changes.total()} changes (seed {self.seed}): {listed(self.changes)}",
                f"refused: {listed(self.refused)}",
                f"{self.versions} versions of the tables, {self.visible} of which treat a frame differently",
                f"sent {self.sent:,} frames in {self.load_seconds:.1f} s; {self.delivered:,} delivered in "
                f"{self.copies:,} copies, {self.nowhere:,} sent nowhere: {listed(self.reasons)}",
                f"lost by the driver: {listed(self.driver)}; lost otherwise: {self.lost:,}",
                f"under way during a change: {self.contested:,} frames; {self.open:,} of them are explained by several "
                "versions, which treat them alike",
                f"{self.metered:,} frames that a meter may let pass or drop",
                f"{self.wins:,} packets counted by rules",
                f"{self.packet_ins:,} packet-ins looked at, {self.lost_packet_ins:,} found no room",
                f"frames that no version explains: {self.unexplained:,}",
                *self.faults[:_SHOWN],
                machine(),
            )
        )


def updates(changes: int, seed: int) -> UpdatesResult:
    """Make so many random changes under load. Raises OkoError when the bridge does not do its part."""
    result = UpdatesResult(seed)
    with StampedTrack() as track, _bridge() as bridge:
        run = _Run(bridge, track, Changes(Random(seed)), result)
        run.begin()
        while result.changes.total() < changes:
            run.round(changes)
            print(f"{result.changes.total()} changes, {len(result.faults)} faults", file=sys.stderr, flush=True)
    return result


@contextlib.contextmanager
def _bridge() -> Iterator[Bridge]:
    """A bridge that forwards nothing but flow 0, to all ports."""
    runtime = read_runtime()
    datapath = Datapath(_BRIDGE, BPFFS, read_stub(), runtime)
    try:
        ports = [Port.prepare(spec) for spec in PORTS]
        bridge = Bridge(_BRIDGE, datapath, runtime, ports)
        for port in ports:
            port.attach(datapath)
        bridge.refresh_ports()
        yield bridge
    finally:
        datapath.remove()


@dataclass(frozen=True, slots=True)
class _State:
    """Tables, and the programs by id, as they were from some change on: see `Version`. `cause` is the change."""

    possible: int
    certain: int
    tables: Tables
    programs: Mapping[int, str]
    cause: str


class _Run:
    """The bridge beside tables that the same changes are made to."""

    def __init__(self, bridge: Bridge, track: StampedTrack, changes: Changes, result: UpdatesResult) -> None:
        self._bridge = bridge
        self._track = track
        self._changes = changes
        self._result = result
        self._tables = Tables()
        self._programs: dict[int, str] = {}
        self._states: list[_State] = []
        self._told: list[PacketInRecord] = []
        self._removed = 0  # packets that rules had won which are gone
        self._reset = False  # whether a rule forgot what it had won
        bridge.listen(self._hear)

    def begin(self) -> None:
        """What there is before the first round."""
        self._update(Update("beacon", (FlowMod(Command.ADD, parse_rule(_BEACON)),)))
        for update in self._changes.initial():
            self._update(update)
        self._result.refused.clear()

    def round(self, changes: int) -> None:
        """Updates while frames pass, as long as there are stamps, until `changes` are made; then explain."""
        self._states = [_State(0, 0, self._tables, dict(self._programs), "the round before")]
        self._told.clear()
        self._removed, self._reset, wins = 0, False, self._wins()
        result, track = self._result, self._track
        drops, lost, statistics = self._drops(), self._bridge.lost_packet_ins(), track.statistics()
        began = time.monotonic()
        with track.load():
            track.await_frames(_BETWEEN)
            while result.changes.total() < changes and track.stamped < FRAMES - _ROOM:
                update = self._changes.update(self._tables)
                possible = track.decided
                self._update(update, possible)
                result.changes[update.kind] += 1
                self._bridge.deliver(_PACKET_INS)
                track.await_frames(_BETWEEN)
        result.load_seconds += time.monotonic() - began
        self._bridge.deliver(1 << 20)
        result.lost_packet_ins += self._bridge.lost_packet_ins() - lost
        counted = self._drops()
        counted.subtract(drops)
        self._explain(counted, track.statistics().since(statistics), self._wins() + self._removed - wins)

    # ---- changes

    def _update(self, update: Update, possible: int = 0) -> None:
        """Change the bridge, and the tables beside it."""
        made: list[tuple[Tables, str]] = []
        self._reset |= any(isinstance(mod, FlowMod) and mod.reset_counts for mod in update.mods)
        if update.load is not None:
            number, name = update.load
            self._bridge.load(number, name, (OBJECTS / f"{name}.o").read_bytes())
            self._programs[number] = name
            made = [(self._tables, f"load {name} as program {number}")]
        elif update.together:
            made = self._change_together(update)
        else:
            made = self._change(update)
        certain = self._track.stamped
        for tables, cause in made:
            self._states.append(_State(possible, certain, tables, dict(self._programs), cause))
            self._tables = tables
        self._compare()

    def _change(self, update: Update) -> list[tuple[Tables, str]]:
        made, tables = [], self._tables
        for mod, error in zip(update.mods, self._bridge.change(update.mods), strict=True):
            if error is None:
                tables = tables.copy()
                tables.change(mod)
                made.append((tables, f"{update.kind}: {describe(mod)}"))
            elif isinstance(error, FlowError | LimitExceeded):
                self._result.refused[update.kind] += 1
            else:
                raise error
        return made

    def _change_together(self, update: Update) -> list[tuple[Tables, str]]:
        try:
            self._bridge.change_together(update.mods)
        except BundleFailed:
            self._result.refused[update.kind] += 1
            return []
        tables = self._tables.copy()
        for mod in update.mods:
            tables.change(mod)
        return [(tables, f"{update.kind}: {'; '.join(map(describe, update.mods))}")]

    def _compare(self) -> None:
        """Raises OkoError when the bridge does not have the tables that it should."""
        for what, mine, theirs in (
            ("rules", {entry.rule for entry in self._tables}, {entry.rule for entry in self._bridge.tables}),
            ("groups", _specs(self._tables.groups), _specs(self._bridge.tables.groups)),
            ("meters", _specs(self._tables.meters), _specs(self._bridge.tables.meters)),
            ("observers", set(self._tables.observers), set(self._bridge.tables.observers)),
        ):
            if mine != theirs:
                raise OkoError(f"{len(mine ^ theirs)} {what} of the bridge are not as the changes make them")

    # ---- what became of the frames

    def _explain(self, drops: Counter[Drop], statistics: Statistics, wins: int) -> None:
        result, track = self._result, self._track
        judge = _Judge()
        versions = [
            Version(
                state.possible,
                state.certain,
                judge.fates(state.tables, state.programs),
                judge.wins(state.tables, state.programs),
            )
            for state in self._states
        ]
        sent = track.stamped
        with track.arrived() as words:
            outcomes = runs(words, sent, FLOWS)
        copies = sum(
            ((run.last - run.first) // FLOWS + 1)
            * sum(bool(word >> shift & 0xFFFFFFFF) for word in run.outcome for shift in (0, 32))
            for row in outcomes
            for run in row
        )
        found = explain(versions, outcomes, sent)
        result.versions += len(versions) - 1
        result.visible += sum(one.fates != other.fates for one, other in pairwise(versions))
        result.sent += sent
        result.delivered += sent - found.nowhere
        result.copies += copies
        result.nowhere += found.nowhere
        result.contested += found.contested
        result.open += found.open
        result.metered += found.metered
        result.unexplained += len(found.unexplained)
        for frame in found.unexplained[:_SHOWN]:
            self._fault(
                f"frame {frame.stamp} of flow {frame.stamp % FLOWS} became {_written(frame.outcome)}: versions "
                f"{frame.earliest} to {frame.latest} come into question, versions {list(frame.known)[:9]} do that",
                frame.earliest,
                frame.latest,
            )
        self._account(found, drops, statistics, copies)
        self._check_told(found, judge)
        result.wins += wins
        fewest, most = found.wins
        if not (self._reset or fewest <= wins) or wins > most:
            result.faults.append(f"rules counted {wins} packets; by what became of each, they are {fewest} to {most}")

    def _fault(self, text: str, earliest: int, latest: int) -> None:
        causes = [f"  version {version}: {self._states[version].cause}" for version in range(earliest, latest + 1)]
        self._result.faults.append("\n".join((text, *causes)))

    def _account(self, found: Explanation, drops: Counter[Drop], statistics: Statistics, copies: int) -> None:
        result = self._result
        # What is counted for no reason was sent nowhere by rules.
        by_rules = found.nowhere - drops.total()
        counted: dict[Drop | None, int] = {reason: drops[reason] for reason in Drop}
        counted[None] = by_rules
        for reason, count in counted.items():
            name = "by rules" if reason is None else reason.name.lower().replace("_", " ")
            result.reasons[name] += count
            if not found.least[reason] <= count <= found.most[reason]:
                result.lost += max(count - found.most[reason], 0) if reason is None else 0
                result.faults.append(
                    f"{count} frames were sent nowhere: {name}; by what became of each, they are "
                    f"{found.least[reason]} to {found.most[reason]}"
                )
        result.driver.update({place: count for place, count in statistics.drops.items() if count})
        for what, count, wanted in (
            ("frames that p1 received", statistics.received, found.frames),
            ("copies that the far ends received", statistics.copies, copies),
            ("frames without a stamp", self._track.strays, 0),
            ("copies that the driver dropped", sum(statistics.drops.values()), 0),
            ("packets without a pipeline", self._bridge.fallthrough(), 0),
        ):
            if count != wanted:
                result.faults.append(f"{what}: {count}, and not {wanted}")

    def _check_told(self, found: Explanation, judge: _Judge) -> None:
        """Every packet-in must be one that a version tells of which may have decided the frame."""
        for record in self._told:
            stamp = int.from_bytes(record.frame[-STAMP:], "little")
            told = (record.reason, record.table, record.metadata, digest(record.frame[:-STAMP]))
            candidates = found.versions(stamp)
            states = (self._states[version] for version in candidates)
            if not any(told in judge.told(state.tables, state.programs, stamp % FLOWS) for state in states):
                self._result.unexplained += 1
                self._fault(
                    f"frame {stamp} of flow {stamp % FLOWS} was told of: {record.reason.name}, table {record.table}, "
                    f"metadata {record.metadata}, {record.frame.hex()}: no version that comes into question does",
                    candidates.start,
                    candidates.stop - 1,
                )
        self._result.packet_ins += len(self._told)

    def _drops(self) -> Counter[Drop]:
        return Counter({reason: count.packets for reason, count in self._bridge.drops().items()})

    def _wins(self) -> int:
        """The packets that the rules that are there have won."""
        return sum(self._bridge.count(entry.slot).packets for entry in self._bridge.tables)

    def _hear(self, event: Event) -> None:
        match event:
            case PacketInRecord():
                self._told.append(event)
            case Removed():
                self._removed += event.count.packets


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What may become of a frame, the packet-ins that it may cause, and how many rules may win it."""

    fates: Fates
    told: frozenset[Told]
    wins: frozenset[int]


class _Judge:
    """What the reference switch does with the frames, by tables and programs. It remembers."""

    def __init__(self) -> None:
        self._frames = [frame + bytes(STAMP) for frame in frames()]
        self._known: dict[tuple[int, tuple[tuple[int, str], ...], int], _Verdict] = {}

    def fates(self, tables: Tables, programs: Mapping[int, str]) -> tuple[Fates, ...]:
        """By flow."""
        return tuple(self._decide(tables, programs, flow).fates for flow in range(FLOWS))

    def wins(self, tables: Tables, programs: Mapping[int, str]) -> tuple[tuple[int, int], ...]:
        """How many rules win a frame, at least and at most, by flow."""
        verdicts = [self._decide(tables, programs, flow) for flow in range(FLOWS)]
        return tuple((min(verdict.wins), max(verdict.wins)) for verdict in verdicts)

    def told(self, tables: Tables, programs: Mapping[int, str], flow: int) -> frozenset[Told]:
        """The packet-ins that a frame of a flow may cause."""
        return self._decide(tables, programs, flow).told

    def _decide(self, tables: Tables, programs: Mapping[int, str], flow: int) -> _Verdict:
        key = (id(tables), tuple(sorted(programs.items())), flow)
        if key not in self._known:
            fates: dict[tuple[int, int], frozenset[Drop | None]] = {}
            told: set[Told] = set()
            wins: set[int] = set()
            for passes in (True, False):
                switch = _Switch(tables, programs, passes)
                decision = switch.decide(self._frames[flow], PORTS[0].number, 0)
                became = outcome(dict(decision.sent))
                fates[became] = fates.get(became, frozenset()) | {decision.drop}
                told.update(_told(decision))
                wins.add(len(decision.entries))
            self._known[key] = _Verdict(fates, frozenset(told), frozenset(wins))
        return self._known[key]


class _Switch(ReferenceSwitch):
    """The reference switch, whose meters with a limit let everything pass or nothing."""

    def __init__(self, tables: Tables, programs: Mapping[int, str], passes: bool) -> None:
        loaded = {number: _PROGRAMS[name] for number, name in programs.items()}
        super().__init__(tables, loaded, {port.number: PortState() for port in PORTS})
        self._passes = passes

    def bands(self, meter: MeterEntry) -> list[TokenBucket]:
        full = NO_LIMIT if self._passes else 0
        return [TokenBucket(band if band.rate in (0, NO_LIMIT) else Band(full, full)) for band in meter.spec.bands]


def _told(decision: Decision) -> Iterator[Told]:
    for told in decision.packet_ins:
        yield (told.reason, told.table, told.metadata, digest(told.frame[:-STAMP]))


def _specs(entries: Mapping[int, Any]) -> set[Any]:
    return {entry.spec for entry in entries.values()}


def _written(became: tuple[int, int]) -> str:
    digests = (became[0] & 0xFFFFFFFF, became[0] >> 32, became[1] & 0xFFFFFFFF, became[1] >> 32)
    return (
        ", ".join(f"{digest:08x} at port {port.number}" for port, digest in zip(PORTS, digests, strict=True) if digest)
        or "nothing"
    )
