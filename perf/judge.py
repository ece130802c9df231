"""`Frames`: what became of the frames of a run, told by a judge who knows the tables that there were and when.

After each round `Frames.judge` looks for tables that explain every frame, and holds the counters of the switch and of
the driver, and the packets that the controllers were given, against what it finds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from oko.flow.bucket import TokenBucket
from oko.flow.drop import Drop
from oko.flow.meter import Band, MeterEntry
from oko.flow.packet_in import PacketInReason
from oko.flow.port import PortState
from oko.flow.reference import Decision, FilterProgram, ReferenceSwitch
from oko.flow.tables import Tables
from perf.changes import NO_LIMIT
from perf.explanation import Explanation, Fates, Version, explain, runs
from perf.flows import FLOWS, STAMP, digest, frames
from perf.stamped import PORTS, StampedTrack, Statistics, outcome

SHOWN: Final = 10
"""Faults of a kind that are told."""

_PROGRAMS: Final[Mapping[str, FilterProgram]] = {
    "odd_source": lambda frame, _in_port, _now: frame[11] & 1,
    "even_source": lambda frame, _in_port, _now: ~frame[11] & 1,
    "any": lambda _frame, _in_port, _now: 1,
    "ethernet": lambda _frame, _in_port, _now: 1,
    "chatter": lambda _frame, _in_port, _now: 0,
}
"""What the programs of ``perf/programs`` do."""

LIVE: Final[Mapping[int, PortState]] = {port.number: PortState() for port in PORTS}
"""The ports of a `StampedTrack`, all of them up."""


@dataclass(frozen=True, slots=True)
class Told:
    """A packet that a controller was given."""

    reason: PacketInReason
    table: int
    metadata: int
    frame: bytes


@dataclass(frozen=True, slots=True)
class State:
    """Tables, the programs by id, and the ports by number as they were from some change on: see `Version`. `cause` is
    the change."""

    possible: int
    certain: int
    tables: Tables
    programs: Mapping[int, str]
    cause: str
    ports: Mapping[int, PortState] = field(default_factory=lambda: LIVE)


@dataclass(frozen=True, slots=True)
class Observed:
    """What was counted in a round. `drops` of the switch, None when they are not known; `wins` are the packets that
    rules have counted, at least and at most; `packet_ins` those that were told."""

    drops: Counter[Drop] | None
    statistics: Statistics
    wins: tuple[int, int | None]
    fallthrough: int
    packet_ins: Sequence[Told]


@dataclass(slots=True)
class Frames:
    """`versions` counts the tables that the changes made, one for each flow_mod or the like that was not in a bundle,
    and `visible` those of them that treat a frame differently from the one before.

    `sent`, those of them of which at least one copy was `delivered`, those sent `nowhere` and why; the others as in
    `Explanation`. `wins` counts what the rules have counted. `faults` are descriptions of what must not be.
    """

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
    faults: list[str] = field(default_factory=list)

    def judge(self, track: StampedTrack, states: Sequence[State], observed: Observed) -> None:
        """Say what became of the frames of the round that `track` has seen, under these tables, the oldest first."""
        _Round(self, track, states, observed).judge()

    def to_json(self) -> dict[str, Any]:
        """As json.dumps takes it."""
        return {name: getattr(self, name) for name in self.__slots__}

    def __str__(self) -> str:
        return "\n".join(
            (
                f"{self.versions} versions of the tables, {self.visible} of which treat a frame differently",
                f"sent {self.sent:,} frames; {self.delivered:,} delivered in {self.copies:,} copies, "
                f"{self.nowhere:,} sent nowhere: {listed(self.reasons)}",
                f"lost by the driver: {listed(self.driver)}; lost otherwise: {self.lost:,}",
                f"under way during a change: {self.contested:,} frames; {self.open:,} of them are explained by several "
                "versions, which treat them alike",
                f"{self.metered:,} frames that a meter may let pass or drop",
                f"{self.wins:,} packets counted by rules",
                f"{self.packet_ins:,} packet-ins looked at",
                f"frames that no version explains: {self.unexplained:,}",
                *self.faults[:SHOWN],
            )
        )


def listed(counts: Mapping[str, int]) -> str:
    """Counts by name, for a reader."""
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items()) if count) or "none"


class _Round:
    """The frames of one round."""

    def __init__(self, result: Frames, track: StampedTrack, states: Sequence[State], observed: Observed) -> None:
        self._result = result
        self._track = track
        self._states = states
        self._observed = observed
        self._reference = _Reference()

    def judge(self) -> None:
        result, reference, sent = self._result, self._reference, self._track.stamped
        versions = [
            Version(state.possible, state.certain, reference.fates(state), reference.wins(state))
            for state in self._states
        ]
        with self._track.arrived() as words:
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
        for frame in found.unexplained[:SHOWN]:
            self._fault(
                f"frame {frame.stamp} of flow {frame.stamp % FLOWS} became {_written(frame.outcome)}: versions "
                f"{frame.earliest} to {frame.latest} come into question, versions {list(frame.known)[:9]} do that",
                frame.earliest,
                frame.latest,
            )
        self._account(found, copies)
        if self._observed.drops is not None:
            self._check_drops(found, self._observed.drops)
        self._check_told(found)
        self._check_wins(found)

    def _fault(self, text: str, earliest: int, latest: int) -> None:
        causes = [f"  version {version}: {self._states[version].cause}" for version in range(earliest, latest + 1)]
        self._result.faults.append("\n".join((text, *causes)))

    def _check_drops(self, found: Explanation, drops: Counter[Drop]) -> None:
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

    def _account(self, found: Explanation, copies: int) -> None:
        result, statistics = self._result, self._observed.statistics
        result.driver.update({place: count for place, count in statistics.drops.items() if count})
        for what, count, wanted in (
            ("frames that p1 received", statistics.received, found.frames),
            ("copies that the far ends received", statistics.copies, copies),
            ("frames without a stamp", self._track.strays, 0),
            ("copies that the driver dropped", sum(statistics.drops.values()), 0),
            ("packets without a pipeline", self._observed.fallthrough, 0),
        ):
            if count != wanted:
                result.faults.append(f"{what}: {count}, and not {wanted}")

    def _check_told(self, found: Explanation) -> None:
        """Every packet-in must be one that a version tells of which may have decided the frame."""
        for told in self._observed.packet_ins:
            stamp = int.from_bytes(told.frame[-STAMP:], "little")
            candidates = found.versions(stamp)
            states = (self._states[version] for version in candidates)
            if not any(_key(told) in self._reference.told(state, stamp % FLOWS) for state in states):
                self._result.unexplained += 1
                self._fault(
                    f"frame {stamp} of flow {stamp % FLOWS} was told of: {told.reason.name}, table {told.table}, "
                    f"metadata {told.metadata}, {told.frame.hex()}: no version that comes into question does",
                    candidates.start,
                    candidates.stop - 1,
                )
        self._result.packet_ins += len(self._observed.packet_ins)

    def _check_wins(self, found: Explanation) -> None:
        least, most = self._observed.wins
        self._result.wins += least
        fewest, greatest = found.wins
        if least > greatest or (most is not None and most < fewest):
            self._result.faults.append(
                f"rules counted {least} packets; by what became of each, they are {fewest} to {greatest}"
            )


_Key = tuple[PacketInReason, int, int, int]
"""A packet-in: reason, table, metadata, and the digest of the frame."""


def _key(told: Told) -> _Key:
    return (told.reason, told.table, told.metadata, digest(told.frame[:-STAMP]))


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What may become of a frame, the packet-ins that it may cause, and how many rules may win it."""

    fates: Fates
    told: frozenset[_Key]
    wins: frozenset[int]


class _Reference:
    """What the reference switch does with the frames, by state. It remembers."""

    def __init__(self) -> None:
        self._frames = [frame + bytes(STAMP) for frame in frames()]
        self._known: dict[tuple[int, tuple[tuple[int, str], ...], tuple[tuple[int, PortState], ...], int], _Verdict]
        self._known = {}

    def fates(self, state: State) -> tuple[Fates, ...]:
        """By flow."""
        return tuple(self._decide(state, flow).fates for flow in range(FLOWS))

    def wins(self, state: State) -> tuple[tuple[int, int], ...]:
        """How many rules win a frame, at least and at most, by flow."""
        verdicts = [self._decide(state, flow) for flow in range(FLOWS)]
        return tuple((min(verdict.wins), max(verdict.wins)) for verdict in verdicts)

    def told(self, state: State, flow: int) -> frozenset[_Key]:
        """The packet-ins that a frame of a flow may cause."""
        return self._decide(state, flow).told

    def _decide(self, state: State, flow: int) -> _Verdict:
        key = (id(state.tables), tuple(sorted(state.programs.items())), tuple(state.ports.items()), flow)
        if key not in self._known:
            fates: dict[tuple[int, int], frozenset[Drop | None]] = {}
            told: set[_Key] = set()
            wins: set[int] = set()
            for passes in (True, False):
                switch = _Switch(state, passes)
                decision = switch.decide(self._frames[flow], PORTS[0].number, 0)
                became = outcome(dict(decision.sent))
                fates[became] = fates.get(became, frozenset()) | {decision.drop}
                told.update(_told(decision))
                wins.add(len(decision.entries))
            self._known[key] = _Verdict(fates, frozenset(told), frozenset(wins))
        return self._known[key]


class _Switch(ReferenceSwitch):
    """The reference switch, whose meters with a limit let everything pass or nothing."""

    def __init__(self, state: State, passes: bool) -> None:
        loaded = {number: _PROGRAMS[name] for number, name in state.programs.items()}
        super().__init__(state.tables, loaded, state.ports)
        self._passes = passes

    def bands(self, meter: MeterEntry) -> list[TokenBucket]:
        full = NO_LIMIT if self._passes else 0
        return [TokenBucket(band if band.rate in (0, NO_LIMIT) else Band(full, full)) for band in meter.spec.bands]


def _told(decision: Decision) -> Iterator[_Key]:
    for told in decision.packet_ins:
        yield (told.reason, told.table, told.metadata, digest(told.frame[:-STAMP]))


def _written(became: tuple[int, int]) -> str:
    digests = (became[0] & 0xFFFFFFFF, became[0] >> 32, became[1] & 0xFFFFFFFF, became[1] >> 32)
    return (
        ", ".join(f"{digest:08x} at port {port.number}" for port, digest in zip(PORTS, digests, strict=True) if digest)
        or "nothing"
    )
