"""Whether okod bears a long run of everything at once: random changes under full load, whose every frame is judged,
beside peers that disturb, ports that flap, and kills; and whether what it takes of the machine stays flat."""

from __future__ import annotations

import contextlib
import itertools
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, Final, cast

from ofext.constants import PortState as WireState
from ofext.extension import DropListReply, DropListRequest, ProgramListReply, ProgramListRequest, ProgramLoaded
from ofext.load import chunks
from ofext.messages import Message
from ofext.multipart import PortDescReply, PortDescRequest
from oko.cli.flow import flows_of, rule_of
from oko.cli.group import groups_of
from oko.cli.meter import meters_of
from oko.cli.observer import observers_of
from oko.errors import FlowError, OkoError, RemoteError
from oko.flow.change import Change
from oko.flow.drop import Drop
from oko.flow.group import GroupMod
from oko.flow.group_text import print_group
from oko.flow.meter import MeterMod
from oko.flow.meter_text import print_meter
from oko.flow.observer import Observer, ObserverMod
from oko.flow.observer_text import print_observer
from oko.flow.port import PortState
from oko.flow.rule import Command, FlowMod
from oko.flow.tables import Tables
from oko.flow.text import parse_rule, print_rule
from oko.kernel.interface import interface, set_up
from oko.kernel.veth import delete_veth, make_veth
from oko.switch.datapath import pins_of
from oko.wire.change import write_flow_mod, write_group_mod, write_meter_mod, write_observer_mod
from perf.changes import BEACON_RULE, Changes, Update, describe
from perf.disturbers import SAID, Disturbers, Report
from perf.isolation import BPFFS
from perf.judge import LIVE, SHOWN, Frames, Observed, State, Told, listed
from perf.machine import machine
from perf.okod_process import OkodProcess
from perf.progress import Progress
from perf.refusals import CHATTER, SPARE
from perf.site import BRIDGE, FLAPPING, Site
from perf.stamped import BETWEEN, FRAMES, ROOM, StampedTrack
from perf.vitals import MEASURES, KernelObjects, Trend, Vitals, files, process
from perf.writer import Writer
from perf.xdp import OBJECTS

_DIRECTORY: Final = Path("/mnt")
"""Where a tmpfs is mounted that goes with the process."""
_DEAD: Final = 1 << 16
"""Frames that pass while there is no okod."""
_TOLD: Final = 1 << 14
"""Packet-ins of a round that are looked at."""
_COMPARISONS: Final = 1.0
"""Seconds at least between two comparisons of the bridge's tables with what they should be."""
_LONG: Final = 60.0
"""Seconds of a run that must have seen enough of what okod takes to say whether that grows."""
_FLAPS: Final = 2.0
"""Seconds between two flaps of the port."""
_KILLS: Final = 10.0
"""Seconds between two kills, in the first quarter and the last tenth of the run: between them one okod is to live long
enough to see what it takes in the end."""
_LATE: Final = 0.9
_BEFORE_KILL: Final = 0.04
"""Seconds at most between a change and a kill."""
_PATIENCE: Final = 20.0
"""Seconds until okod has heard of a port, or the kernel has freed what nobody holds."""
_QUIET: Final = 3
"""Looks without a packet-in until none is under way, and the seconds between them."""
_PAUSE: Final = 0.02
_FALLTHROUGH: Final = "no-pipeline"
"""The reason of a drop for which there is no Drop."""


@dataclass(slots=True)
class SoakResult:
    """Of `seconds`; `changes`, `refused` as of `perf.updates`. `disturbances` is what the disturbers did. `trends` are
    empty when the run was `interrupted`. `faults` are descriptions of what must not be, beside those of `frames`."""

    seed: int
    seconds: float = 0.0
    interrupted: bool = False
    rounds: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    flaps: int = 0
    kills: int = 0
    frames: Frames = field(default_factory=Frames)
    disturbances: Report = field(default_factory=Report)
    trends: list[Trend] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether there is any fault, or something grows."""
        growing = any(not trend.is_flat for trend in self.trends)
        return bool(growing or self.faults or self.frames.faults or self.disturbances.faults)

    def to_json(self) -> dict[str, Any]:
        """The result as json.dumps takes it."""
        plain = ("seed", "seconds", "interrupted", "rounds", "changes", "refused", "flaps", "kills", "faults")
        report = self.disturbances
        return {
            "machine": machine(),
            "failed": self.failed,
            **{name: getattr(self, name) for name in plain},
            "frames": self.frames.to_json(),
            "disturbances": {name: getattr(report, name) for name in report.__slots__},
            "trends": {
                trend.measure.name: {
                    "unit": trend.measure.unit,
                    "samples": trend.samples,
                    "early": trend.early,
                    "late": trend.late,
                    "highest": trend.highest,
                    "bound": trend.measure.bound,
                    "flat": trend.is_flat,
                }
                for trend in self.trends
            },
        }

    def __str__(self) -> str:
        report = self.disturbances
        return "\n".join(
            (
                f"{self.seconds:.0f} s{', interrupted' * self.interrupted} (seed {self.seed}), {self.rounds} rounds; "
                f"{self.kills} kills of okod, {self.flaps} flaps of a port",
                f"{self.changes.total()} changes: {listed(self.changes)}",
                f"refused: {listed(self.refused)}",
                str(self.frames),
                f"disturbances: {listed(report.done)}",
                f"{report.refused.total()} requests refused by name, of {len(report.refused)} kinds; "
                f"{report.events:,} events heard; {report.excused} disturbances cut off by a kill",
                *map(str, self.trends),
                *self.faults[:SHOWN],
                *report.faults[:SHOWN],
                f"{'failed' if self.failed else 'no fault'}",
                machine(),
            )
        )


def soak(seconds: float, seed: int) -> SoakResult:
    """Run for about so many seconds; Ctrl-C ends it after the round, and what the run cannot go on after is a fault."""
    result = SoakResult(seed)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", _DIRECTORY], check=True)
    with _interrupts() as interrupted, StampedTrack() as track, contextlib.ExitStack() as own:
        set_up(interface("lo").index)
        for number in (FLAPPING, 6, 7):
            make_veth(f"p{number}", f"s{number}")
        site = Site.prepare(_DIRECTORY)
        okod = OkodProcess(BRIDGE, _DIRECTORY, [f"--config={site.settings}"], tuple(SAID.values()))
        own.callback(okod.remove)
        own.callback(okod.kill)
        with Disturbers(site, seed) as disturbers:
            run = _Run(track, okod, disturbers, Random(seed), result, seconds)
            try:
                run.run(interrupted)
            except OkoError as error:
                result.faults.append(str(error))
            result.seconds = run.elapsed
        result.disturbances = disturbers.report
        run.end()
    return result


@contextlib.contextmanager
def _interrupts() -> Iterator[list[int]]:
    """The first SIGINT is put down in the list; another is a KeyboardInterrupt."""
    arrived: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if arrived:
            signal.default_int_handler(number, frame)
        arrived.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield arrived
    finally:
        signal.signal(signal.SIGINT, before)


class _Run:
    """The bridge beside tables that the same changes are made to."""

    def __init__(
        self,
        track: StampedTrack,
        okod: OkodProcess,
        disturbers: Disturbers,
        random: Random,
        result: SoakResult,
        seconds: float,
    ) -> None:
        self._track = track
        self._okod = okod
        self._disturbers = disturbers
        self._random = random
        self._changes = Changes(random, watched=FLAPPING)
        self._result = result
        self._seconds = seconds
        self._began = time.monotonic()
        self._tables = Tables()
        self._programs: dict[int, str] = {}
        self._ports: Mapping[int, PortState] = {**LIVE, FLAPPING: PortState()}
        self._states: list[State] = []
        self._writer: Writer | None = None
        self._ear: Writer | None = None  # which hears the packet-ins, so that no answer has to wait behind them
        self._vitals = Vitals()
        self._objects = KernelObjects()
        self._next_comparison = self._next_flap = 0.0
        self._told: list[Told] = []
        self._removed = 0  # packets that rules had won which are gone, as connections that ended have heard
        self._gone = False  # whether there is no interface for the port that flaps
        early = _times(min(_KILLS, seconds / 8), seconds / 4)
        self._kill_times = [*early, *_times(_LATE * seconds, seconds)]

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._began

    def run(self, interrupted: Sequence[int]) -> None:
        """Rounds until the time is over."""
        self._start()
        self._begin()
        self._disturbers.begin()
        progress, result = Progress(), self._result
        print(f"seed {result.seed}: okod runs", file=sys.stderr, flush=True)
        self._began = time.monotonic()
        while (self.elapsed < self._seconds or self._kill_times) and not interrupted:
            self._round(interrupted)
            result.rounds += 1
            self._listen()
            progress.tell(f"{result.rounds} rounds, {result.kills} kills, {len(result.frames.faults)} faults")
        result.interrupted = bool(interrupted)
        if not interrupted:
            result.trends = self._vitals.trends()
            unseen = {measure.name for measure in MEASURES} - {trend.measure.name for trend in result.trends}
            if unseen and self._seconds >= _LONG:
                result.faults.append(f"too little was seen of {', '.join(sorted(unseen))}")

    def end(self) -> None:
        """The disturbers are gone: end okod, and see what is left and what its log must say."""
        result, okod = self._result, self._okod
        for connection in (self._writer, self._ear):
            if connection is not None:
                connection.close()
        if status := okod.stop():
            result.faults.append(f"okod ended with status {status}")
        self._listen()
        done = result.disturbances.done
        result.faults += (
            f"{done[kind]} times {kind}: okod's log never says {words!r}"
            for kind, words in SAID.items()
            if done[kind] and not okod.said[words]
        )
        okod.remove()
        if left := [*okod.rundir.bridges(), *(str(path) for path in BPFFS.glob("oko/*"))]:
            result.faults.append(f"left behind: {', '.join(left)}")
        deadline = time.monotonic() + _PATIENCE
        while any(objects := self._objects.count().values()) and time.monotonic() < deadline:
            time.sleep(_PAUSE)  # the kernel frees them in its own time
        if any(objects):
            result.faults.append(f"left in the kernel: {listed(self._objects.count())}")

    # ---- rounds

    def _begin(self) -> None:
        """What there is before the first round."""
        observer = Observer(0, parse_rule(f"ip,filter_prog={CHATTER},actions=drop").match)
        self._update(Update("beacon", (FlowMod(Command.ADD, parse_rule(BEACON_RULE)),)))
        self._update(Update("load", load=(CHATTER, "chatter")))
        self._update(Update("observer", (ObserverMod(observer, add=True),)))
        for update in self._changes.initial():
            self._update(update)
        self._result.refused.clear()
        self._result.changes.clear()

    def _round(self, interrupted: Sequence[int]) -> None:
        """Updates while frames pass, as long as there are stamps; then judge."""
        track = self._track
        self._states = []
        self._note(0, 0, [(self._tables, "the round before")])
        wins, drops, statistics = self._wins(), self._drops(), track.statistics()
        with track.load():
            track.await_frames(BETWEEN)
            while track.stamped < FRAMES - ROOM and not interrupted:
                if self._kill_times and self.elapsed > self._kill_times[0]:
                    self._kill_times.pop(0)
                    self._kill()
                elif self.elapsed < self._seconds:
                    self._step()
                else:
                    break
                track.await_frames(BETWEEN)
        self._hear_out()
        found = self._drops()
        counted = Counter({reason: found[_name(reason)] - drops[_name(reason)] for reason in Drop})
        observed = Observed(
            counted,
            track.statistics().since(statistics),
            # What rules counted that others took the place of is known to nobody.
            (max(0, self._wins() - wins), None),
            found[_FALLTHROUGH] - drops[_FALLTHROUGH],
            self._told[:_TOLD],
        )
        self._told = []
        self._sample()
        self._result.frames.judge(track, self._states, observed)

    def _step(self) -> None:
        """The next change of anything."""
        if self.elapsed > self._next_flap:
            self._next_flap = self.elapsed + self._random.uniform(0.5, 1.5) * _FLAPS
            self._flap()
        update = self._changes.update(self._tables)
        self._update(update)
        self._result.changes[update.kind] += 1
        self._sample()
        if self.elapsed > self._next_comparison:
            self._next_comparison = self.elapsed + _COMPARISONS
            self._compare()

    def _note(self, possible: int, certain: int, made: Sequence[tuple[Tables, str]]) -> None:
        for tables, cause in made:
            self._states.append(State(possible, certain, tables, dict(self._programs), cause, self._ports))
            self._tables = tables

    # ---- changes

    def _update(self, update: Update) -> None:
        """Change the bridge, and the tables beside it."""
        possible, client = self._track.decided if self._states else 0, self._client
        if update.load is not None:
            number, name = update.load
            self._load(number, name)
            self._programs[number] = name
            made = [(self._tables, f"load {name} as program {number}")]
        elif update.together:
            refusal = client.send_together([_message(mod) for mod in update.mods])
            self._result.refused[update.kind] += refusal is not None
            made = self._made_together(update) if refusal is None else []
        else:
            made = self._made_singly(update, client.send_all([_message(mod) for mod in update.mods]))
        self._note(possible, self._track.stamped, made)

    def _made_together(self, update: Update) -> list[tuple[Tables, str]]:
        tables = self._tables.copy()
        for mod in update.mods:
            tables.change(mod)
        return [(tables, f"{update.kind}: {'; '.join(map(describe, update.mods))}")]

    def _made_singly(self, update: Update, refusals: Sequence[RemoteError | None]) -> list[tuple[Tables, str]]:
        made, tables = [], self._tables
        for mod, refusal in zip(update.mods, refusals, strict=True):
            if refusal is not None:
                self._result.refused[update.kind] += 1
                continue
            tables = tables.copy()
            tables.change(mod)
            made.append((tables, f"{update.kind}: {describe(mod)}"))
        return made

    def _load(self, number: int, name: str) -> None:
        answer = self._client.request(*chunks(number, "", (OBJECTS / f"{name}.o").read_bytes()))
        if not isinstance(answer, ProgramLoaded):
            raise OkoError(f"okod answered a load with {type(answer).__name__}")

    def _compare(self) -> None:
        """Raises OkoError when the bridge does not have the tables, programs and ports that it should."""
        if different := self._different(self._tables):
            raise OkoError(f"the bridge is not as the changes make it: {different}")
        programs = {
            entry.program: entry.name
            for entry in cast(ProgramListReply, self._client.report(ProgramListRequest())).entries
            if entry.program != SPARE
        }
        if programs != self._programs:
            raise OkoError(f"the bridge has the programs {programs}, and not {self._programs}")
        if self._is_live() != self._ports[FLAPPING].live:
            raise OkoError(f"port {FLAPPING} is {self._ports[FLAPPING]}, and okod says otherwise")

    def _different(self, tables: Tables) -> str:
        """What of the tables the bridge has otherwise."""
        client = self._client
        groups, meters = tables.groups.values(), tables.meters.values()
        pairs = (
            (
                "rules",
                map(print_rule, (entry.rule for entry in tables)),
                map(print_rule, map(rule_of, flows_of(client))),
            ),
            ("groups", (print_group(entry.spec) for entry in groups), map(print_group, groups_of(client))),
            ("meters", (print_meter(entry.spec) for entry in meters), map(print_meter, meters_of(client))),
            ("observers", map(print_observer, tables.observers), map(print_observer, observers_of(client))),
        )
        said = []
        for what, wanted, found in pairs:
            wanted_counts, found_counts = Counter(wanted), Counter(found)
            missing, others = wanted_counts - found_counts, found_counts - wanted_counts
            if missing or others:
                first = [f"no {text}" for text in list(missing)[:1]] + list(others)[:1]
                said.append(f"{missing.total()} {what} are missing, {others.total()} too many: {', '.join(first)}")
        return "; ".join(said)

    # ---- ports

    def _flap(self) -> None:
        """Let the far end of the port go down or up, or the port go and come."""
        up = not self._ports[FLAPPING].live
        possible, near, far = self._track.decided, f"p{FLAPPING}", f"s{FLAPPING}"
        if up and self._gone:
            make_veth(near, far)
        elif up:
            set_up(interface(far).index)
        else:
            self._gone = self._random.random() < 0.3
            if self._gone:
                delete_veth(interface(near).index)
            else:
                set_up(interface(far).index, up=False)
        way = "up" if up else "away" if self._gone else "down"
        deadline = time.monotonic() + _PATIENCE
        while self._is_live() != up:
            if time.monotonic() > deadline:
                raise OkoError(f"in {_PATIENCE:.0f} s okod has not heard that port {FLAPPING} goes {way}")
        self._ports = {**LIVE, FLAPPING: PortState(live=up)}
        self._note(possible, self._track.stamped, [(self._tables, f"port {FLAPPING} goes {way}")])
        self._result.flaps += 1

    def _is_live(self) -> bool:
        ports = cast(PortDescReply, self._client.report(PortDescRequest())).entries
        return any(port.port_no == FLAPPING and port.state & WireState.LIVE for port in ports)

    # ---- okod

    @property
    def _client(self) -> Writer:
        assert self._writer is not None
        return self._writer

    def _start(self) -> None:
        self._okod.start()
        self._writer = Writer.connect(BRIDGE, self._okod.rundir)
        self._writer.deafen()
        self._ear = Writer.connect(BRIDGE, self._okod.rundir)

    def _kill(self) -> None:
        """Send a change, kill okod whatever it has done by then, and start it again. Packets go their way. What was
        granted before must be there then, and of this change a part that makes sense."""
        update = self._changes.update(self._tables)
        while update.load is not None:
            update = self._changes.update(self._tables)
        with self._disturbers.away():
            self._hear()
            possible = self._track.decided
            self._client.post([_message(mod) for mod in update.mods], together=update.together)
            time.sleep(self._random.random() * _BEFORE_KILL)
            self._okod.kill()
            self._removed += self._client.removed
            self._client.close()
            self._result.kills += 1
            self._track.await_frames(_DEAD)
            self._start()
            self._recover(update, possible)
        self._compare()

    def _recover(self, update: Update, possible: int) -> None:
        """Find out how much of the update has come about. Packets may have met more of it, for a moment."""
        if update.together:
            made = self._made_together(update)
        else:
            granted = self._tables.copy()
            made = self._made_singly(update, [_refusal(granted, mod) for mod in update.mods])
        last = (self._tables, f"{update.kind}, of which nothing has come about")
        found = next((state for state in (last, *made) if not self._different(state[0])), None)
        if found is None:
            different = self._different(self._tables)
            raise OkoError(f"after a kill the bridge is as no part of the last change makes it: {different}")
        self._note(possible, self._track.stamped, [*made, found])

    def _hear(self) -> bool:
        """Take the packet-ins that have come; whether there were any."""
        assert self._ear is not None
        self._ear.barrier()
        told, self._ear.told = self._ear.told, []
        self._told += told
        return bool(told)

    def _hear_out(self) -> None:
        """Wait until no packet-in is under way."""
        quiet = 0
        while quiet < _QUIET:
            quiet = 0 if self._hear() else quiet + 1
            time.sleep(_PAUSE)

    def _wins(self) -> int:
        """The packets that rules have won, but for those that were replaced."""
        return sum(entry.packet_count for entry in flows_of(self._client)) + self._client.removed + self._removed

    def _drops(self) -> Counter[str]:
        reply = cast(DropListReply, self._client.report(DropListRequest()))
        return Counter({entry.reason: entry.packets for entry in reply.entries})

    # ---- what okod takes

    def _sample(self) -> None:
        pid = self._okod.pid
        # What another okod takes that is young or was killed says nothing of this one.
        lives = self._seconds / 4 < self.elapsed < _LATE * self._seconds
        pins, _ = files(pins_of(BRIDGE, BPFFS))
        _, run_bytes = files(self._okod.rundir.path)
        _, state_bytes = files(self._okod.statedir)
        self._vitals.add(
            (process(pid) if lives else {})
            | self._objects.look(pid)
            | {"pins": pins, "run directory": run_bytes, "state directory": state_bytes >> 10}
        )

    def _listen(self) -> None:
        """Read okod's log."""
        self._result.faults += (f"okod said: {line}" for line in self._okod.errors())


def _message(mod: Change) -> Message:
    match mod:
        case FlowMod():
            return write_flow_mod(mod)
        case GroupMod():
            return write_group_mod(mod)
        case MeterMod():
            return write_meter_mod(mod)
        case ObserverMod():
            return write_observer_mod(mod)


def _refusal(tables: Tables, mod: Change) -> RemoteError | None:
    """What a switch with these tables says to the change, which is made to them."""
    try:
        tables.change(mod)
    except FlowError as error:
        return RemoteError(str(error), error_type=0, error_code=0)
    return None


def _name(reason: Drop) -> str:
    """As the wire calls it."""
    return reason.name.lower().replace("_", "-")


def _times(first: float, end: float) -> Iterator[float]:
    """When okod is killed."""
    return itertools.takewhile(lambda moment: moment < end, itertools.count(first, _KILLS))
