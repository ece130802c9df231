"""Whether every packet is decided by the tables before a change or by those after it: random changes under full load,
and a version of the tables looked for that explains what became of every single frame."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from oko.compiler.packet_in import PacketInRecord
from oko.errors import BundleFailed, FlowError, LimitExceeded, OkoError
from oko.flow.drop import Drop
from oko.flow.rule import Command, FlowMod
from oko.flow.tables import Tables
from oko.flow.text import parse_rule
from oko.switch.bridge import Bridge, Event, Removed
from oko.switch.datapath import Datapath
from oko.switch.objects import read_runtime, read_stub
from oko.switch.port import Port
from perf.changes import BEACON_RULE, Changes, Update, describe
from perf.isolation import BPFFS
from perf.judge import Frames, Observed, State, Told, listed
from perf.machine import machine
from perf.stamped import BETWEEN, FRAMES, PORTS, ROOM, StampedTrack
from perf.xdp import OBJECTS

_BRIDGE: Final = "perf"
_PACKET_INS: Final = 256
"""Packet-ins that are read between two updates."""


@dataclass(slots=True)
class UpdatesResult:
    """Of `changes`, by kind, so many were made while `frames` passed; `refused` counts the changes that the bridge
    refused, of which nothing may be seen. `lost_packet_ins` found no room."""

    seed: int
    changes: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    frames: Frames = field(default_factory=Frames)
    lost_packet_ins: int = 0
    load_seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The result as json.dumps takes it."""
        return {
            "machine": machine(),
            "seed": self.seed,
            "changes": self.changes,
            "refused": self.refused,
            "lost_packet_ins": self.lost_packet_ins,
            "load_seconds": self.load_seconds,
        } | self.frames.to_json()

    def __str__(self) -> str:
        return "\n".join(
            (
                f"{self.changes.total()} changes (seed {self.seed}) in {self.load_seconds:.1f} s: "
                f"{listed(self.changes)}",
                f"refused: {listed(self.refused)}",
                f"{self.lost_packet_ins:,} packet-ins found no room",
                str(self.frames),
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
            print(f"{result.changes.total()} changes, {len(result.frames.faults)} faults", file=sys.stderr, flush=True)
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


class _Run:
    """The bridge beside tables that the same changes are made to."""

    def __init__(self, bridge: Bridge, track: StampedTrack, changes: Changes, result: UpdatesResult) -> None:
        self._bridge = bridge
        self._track = track
        self._changes = changes
        self._result = result
        self._tables = Tables()
        self._programs: dict[int, str] = {}
        self._states: list[State] = []
        self._told: list[Told] = []
        self._removed = 0  # packets that rules had won which are gone
        self._reset = False  # whether a rule forgot what it had won
        bridge.listen(self._hear)

    def begin(self) -> None:
        """What there is before the first round."""
        self._update(Update("beacon", (FlowMod(Command.ADD, parse_rule(BEACON_RULE)),)))
        for update in self._changes.initial():
            self._update(update)
        self._result.refused.clear()

    def round(self, changes: int) -> None:
        """Updates while frames pass, as long as there are stamps, until `changes` are made; then explain."""
        self._states = [State(0, 0, self._tables, dict(self._programs), "the round before")]
        self._told.clear()
        self._removed, self._reset, wins = 0, False, self._wins()
        result, track = self._result, self._track
        drops, lost, statistics = self._drops(), self._bridge.lost_packet_ins(), track.statistics()
        began = time.monotonic()
        with track.load():
            track.await_frames(BETWEEN)
            while result.changes.total() < changes and track.stamped < FRAMES - ROOM:
                update = self._changes.update(self._tables)
                possible = track.decided
                self._update(update, possible)
                result.changes[update.kind] += 1
                self._bridge.deliver(_PACKET_INS)
                track.await_frames(BETWEEN)
        result.load_seconds += time.monotonic() - began
        self._bridge.deliver(1 << 20)
        result.lost_packet_ins += self._bridge.lost_packet_ins() - lost
        counted = self._drops()
        counted.subtract(drops)
        won = self._wins() + self._removed - wins
        observed = Observed(
            counted,
            track.statistics().since(statistics),
            # A rule that forgot what it had won had won no one knows how many.
            (won, None if self._reset else won),
            self._bridge.fallthrough(),
            self._told,
        )
        result.frames.judge(track, self._states, observed)

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
            self._states.append(State(possible, certain, tables, dict(self._programs), cause))
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

    def _drops(self) -> Counter[Drop]:
        return Counter({reason: count.packets for reason, count in self._bridge.drops().items()})

    def _wins(self) -> int:
        """The packets that the rules that are there have won."""
        return sum(self._bridge.count(entry.slot).packets for entry in self._bridge.tables)

    def _hear(self, event: Event) -> None:
        match event:
            case PacketInRecord():
                self._told.append(Told(event.reason, event.table, event.metadata, event.frame))
            case Removed():
                self._removed += event.count.packets


def _specs(entries: Mapping[int, Any]) -> set[Any]:
    return {entry.spec for entry in entries.values()}
