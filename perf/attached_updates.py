"""Whether every packet is decided by the rules before a change or by those after it, on a bridge of Open vSwitch that
okod is attached to: random changes of plain rules and filter rules while stamped frames pass, each beside the reference
switch, whose one table has all of them.

Changes come through okod's own socket, through its relay, by ovs-ofctl through that, and by ovs-ofctl past Oko. A
change that Open vSwitch has a part in is in effect when its datapath goes by it, which is later than it says
(`AttachedSite.settle`); one of filter rules alone, when okod says so. Past Oko there is a window (docs/ovs.md), which
is measured. There is none when Open vSwitch lets a plain rule go whose time is over.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Final

from oko.flow.group import GroupMod
from oko.flow.rule import Command, FlowMod
from oko.flow.tables import Tables
from oko.flow.text import parse_rule, print_rule
from perf.attached_changes import LONGEST_MOMENT, AttachedChanges, AttachedUpdate, changed_past
from perf.attached_frames import FENCE_RULE, PORTS, frame
from perf.attached_judge import Judged, SentFrame, Version, judge
from perf.attached_site import AttachedSite, attached_site
from perf.changes import describe
from perf.machine import machine
from perf.progress import Progress

_AFTER: Final = 20
"""Frames that are sent when a change is over, none of which may be decided otherwise."""
_FIRST: Final = 40
"""Frames that pass before a change begins, at least."""
_BURST: Final = 3
"""Frames that are sent one behind the other while rules change."""
_PAUSE: Final = 0.0005  # seconds between two bursts
_LONG_PAUSE: Final = 0.003  # and while it takes seconds until something happens
_WAYS: Final = {"okod": 3, "relay": 3, "ovs-ofctl": 2, "past Oko": 2}
"""By whom a change is made, and how often."""
_SHOWN: Final = 3
_FENCE: Final = FlowMod(Command.ADD, parse_rule(FENCE_RULE))


@dataclass(slots=True)
class AttachedUpdatesResult:
    """Of `changes`, by who made them, and by kind; `refused` were not carried out, by what was said of it. `window` is
    how long after a change past Oko a frame still became what no rules say, at most, in seconds, `longest` that change;
    `different` counts the times that the rules that the bridge told of were not those that the changes make."""

    seed: int
    changes: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    judged: Judged = field(default_factory=Judged)
    window: float = 0.0
    longest: str = ""
    different: int = 0
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        return bool(self.judged.faults)

    def to_json(self) -> dict[str, Any]:
        """As json.dumps takes it."""
        judged = self.judged
        return {
            "machine": machine(),
            "seed": self.seed,
            "changes": self.changes,
            "kinds": self.kinds,
            "refused": self.refused,
            "frames": judged.frames,
            "contested": judged.contested,
            "arrivals": judged.arrivals,
            "windowed": judged.windowed,
            "by_plain": judged.by_plain,
            "along": judged.along,
            "dropped": judged.dropped,
            "window": self.window,
            "longest": self.longest,
            "wrapped": judged.wrapped,
            "unexplained": judged.unexplained,
            "different": self.different,
            "faults": judged.faults,
            "seconds": round(self.seconds, 1),
        }

    def __str__(self) -> str:
        judged = self.judged
        return "\n".join(
            (
                f"{self.changes.total()} changes (seed {self.seed}) in {self.seconds:.0f} s: {_listed(self.changes)}",
                f"of these kinds: {_listed(self.kinds)}",
                f"refused: {_listed(self.refused) or 'none'}",
                f"{judged.frames:,} frames, {judged.arrivals:,} arrivals; {judged.contested:,} frames were sent "
                f"during a change",
                f"{judged.windowed:,} frames while rules changed past Oko: {judged.by_plain:,} were decided by the "
                f"plain rules alone, {judged.along:,} by filter rules changed with them, {judged.dropped:,} "
                f"were dropped, for {self.window * 1e3:.1f} ms at most ({self.longest or 'no change'})",
                f"{judged.wrapped:,} frames left with a shim; {judged.unexplained:,} frames are not explained; "
                f"{self.different} times the rules were others",
                *judged.faults[:_SHOWN],
                machine(),
            )
        )


def attached_updates(changes: int, seed: int) -> AttachedUpdatesResult:
    """Make so many changes, half of them with an okod that stands in the bridge's place, half with one beside it.
    Raises OkoError when Open vSwitch or okod do not do their part. SIGINT ends it early, with what was judged so
    far."""
    result, progress = AttachedUpdatesResult(seed), Progress()
    with contextlib.suppress(KeyboardInterrupt):
        for listen, share in (False, changes - changes // 2), (True, changes // 2):
            if not share:
                continue
            with attached_site(listen=listen) as site:
                run = _Run(site, Random(f"{seed} {listen}"), result)
                run.begin()
                for _ in range(share):
                    run.step()
                    result.seconds = progress.seconds
                    judged = result.judged
                    progress.tell(
                        f"{result.changes.total()} changes, {judged.frames} frames, {len(judged.faults)} faults"
                    )
    return result


class _Run:
    """The bridge beside tables that the same changes are made to."""

    def __init__(self, site: AttachedSite, random: Random, result: AttachedUpdatesResult) -> None:
        self._site = site
        self._random = random
        self._result = result
        self._changes = AttachedChanges(random)
        self._versions = [Version(Tables(), "no rules")]
        self._certain = 0  # the first version that may still decide packets
        self._window = False
        self._pause = _PAUSE
        self._stamps = itertools.count()
        self._sent: list[SentFrame] = []

    @property
    def _tables(self) -> Tables:
        return self._versions[-1].tables

    def begin(self) -> None:
        """What there is before the first change."""
        for update in (AttachedUpdate("fence", (_FENCE,)), *self._changes.initial()):
            self._make(update, "okod")
        self._over()
        self._judge()

    def step(self) -> None:
        """One change while frames pass, and frames behind it."""
        way = self._random.choices(tuple(_WAYS), tuple(_WAYS.values()))[0]
        update = self._changes.update(self._tables, past=way == "past Oko")
        if way == "ovs-ofctl" and not (update.is_plain and _is_one(update)):
            way = "relay"
        self._result.changes[way] += 1
        self._result.kinds[update.kind] += 1
        ended = 0.0
        with self._traffic():
            if way == "past Oko":
                ended = self._change_past(update)
            else:
                self._make(update, way)
                if update.is_filter:
                    self._certain = len(self._versions) - 1
                    self._await(_AFTER)
            self._over()
            if update.expire:
                self._expire()
        if _FENCE.rule not in (entry.rule for entry in self._tables):
            self._make(AttachedUpdate("fence", (_FENCE,)), "okod")
            self._over()
        for _ in range(_AFTER):
            self._send(self._random)
        self._judge(ended)

    # ---- changes

    def _make(self, update: AttachedUpdate, way: str) -> None:
        """Through okod."""
        if way == "ovs-ofctl":
            refusals: Sequence[object | None] = self._site.ofctl(update, past=False)
        else:
            refusals = (self._site.okod if way == "okod" else self._site.relay).change(update)
        tables, taken = self._tables, []
        for mod, refusal in zip(update.mods, refusals, strict=True):
            if refusal is not None:
                self._result.refused[f"{update.kind}: {refusal}"] += 1
                continue
            tables = tables.copy()
            tables.change(mod)
            taken.append(describe(mod))
            if not update.together:
                self._versions.append(Version(tables, f"{update.kind} by {way}: {taken[-1]}"))
        if update.together and taken:
            self._versions.append(Version(tables, f"{update.kind} by {way}: {'; '.join(taken)}"))

    def _change_past(self, update: AttachedUpdate) -> float:
        """Past Oko. Returns when Open vSwitch said that it was made."""
        self._window = True
        for mod, refusal in zip(update.mods, self._site.ofctl(update, past=True), strict=True):
            assert isinstance(mod, FlowMod)
            if refusal is not None:
                self._result.refused[f"{update.kind} past Oko: {refusal}"] += 1
                continue
            along = self._tables.copy()
            along.change(mod)
            made = changed_past(self._tables, mod)
            self._versions.append(Version(made, f"{update.kind} past Oko: {describe(mod)}", along))
        ended = time.monotonic()
        self._await(_AFTER)
        self._site.catch_up()
        return ended

    def _expire(self) -> None:
        """Return when the rules are gone that were added for a moment, if they were."""
        rules = [entry.rule for entry in self._tables if 0 < entry.rule.hard_timeout <= LONGEST_MOMENT]
        tables = self._tables.copy()
        for rule in rules:
            tables.change(FlowMod(Command.DELETE_STRICT, replace(rule, cookie=0)))
            self._versions.append(Version(tables, f"its time is over: {print_rule(rule)}"))
        self._pause = _LONG_PAUSE
        while self._site.rules() & set(map(print_rule, rules)):
            self._await(_AFTER)
        self._pause = _PAUSE
        self._site.catch_up()
        self._over()

    def _over(self) -> None:
        """No packet that comes in from now on is decided by rules as they were before."""
        self._site.settle()
        self._certain = len(self._versions) - 1
        self._window = False

    # ---- frames

    def _send(self, random: Random) -> None:
        stamp, port = next(self._stamps), random.choice(PORTS)
        made = frame(random, stamp)
        sent = SentFrame(stamp, port, made, self._certain, time.monotonic(), self._window)
        self._site.send(port, made)
        self._sent.append(sent)

    @contextlib.contextmanager
    def _traffic(self) -> Iterator[None]:
        """Frames while the context lasts."""
        ended, random = threading.Event(), Random(self._random.random())

        def send() -> None:
            while not ended.wait(self._pause):
                for _ in range(_BURST):
                    self._send(random)

        thread = threading.Thread(target=send)
        thread.start()
        try:
            self._await(_FIRST)
            yield
        finally:
            ended.set()
            thread.join()

    def _await(self, frames: int) -> None:
        """Return when so many more were sent."""
        wanted = len(self._sent) + frames
        while len(self._sent) < wanted:
            time.sleep(_PAUSE)

    def _judge(self, ended: float = 0.0) -> None:
        """Of all frames since the last time."""
        result = self._result
        arrivals = self._site.collect()
        for deviating in judge(result.judged, self._versions, self._sent, arrivals):
            if deviating.time - ended > result.window:
                result.window, result.longest = deviating.time - ended, self._versions[1].cause
        there, wanted = self._site.rules(), {print_rule(entry.rule) for entry in self._tables}
        if there != wanted:
            result.different += 1
            lines = [f"the rules are not those that the changes make, after {self._versions[-1].cause}:"]
            lines += [f"  too many: {rule}" for rule in there - wanted]
            lines += [f"  missing: {rule}" for rule in wanted - there]
            result.judged.faults.append("\n".join(lines))
        self._versions = [self._versions[-1]]
        self._certain = 0
        self._sent = []


def _is_one(update: AttachedUpdate) -> bool:
    """Whether ovs-ofctl can make the change by itself."""
    return not update.together and not any(isinstance(mod, GroupMod) for mod in update.mods)


def _listed(counted: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counted.most_common())
