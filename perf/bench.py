"""``python -m perf bench``: every setup under every scenario, in alternation, and what came of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any, Final

from oko.errors import NotReadable, OkoError
from perf.footprint import footprint
from perf.latency import Latency
from perf.machine import Neighbours, machine
from perf.scenarios import STAGED, STAGES, Scenario, scenarios
from perf.setups import SETUPS, Drop, Setup, started
from perf.testbed import Run, Testbed
from perf.traffic import Traffic

LATEST: Final = Path(__file__).parent / "results" / "latest.json"
ACCEPTED: Final = Path(__file__).parent / "results" / "accepted.json"

LOSS: Final = 0.001
"""Of the packets that were to arrive, those that may be missing where it says "without loss"."""

MOST_WORSE: Final = 0.10

CALM: Final = 100_000  # packets per second
LOADED: Final = 0.8

_OPENING_RATE: Final = 50_000  # packets per second, of which nobody loses any
_TRIAL_RATE: Final = 20_000
_TRIAL: Final = 1_000  # packets, at least
_STEP: Final = 0.9  # from one offered load to the next
_OFFERED: Final = 0.8  # of the load that was to be offered, at least: the generator, too, may not get to run

OKO: Final = "oko"
BY_HAND: Final = "by-hand"
SAMPLED: Final = ("process-alone", "testpmd")
"""The process that Oko is compared with, and what it is compared with itself, to be known for a fair one."""
DROP: Final = Drop()


@dataclass(frozen=True, slots=True)
class Plan:
    """How long is measured: `seconds` for each run, in so many `rounds`. Setups with processes of their own, which
    take seconds to start, take part in `processes` of them. `attempts` are made to find the load without loss."""

    name: str
    seconds: float
    rounds: int
    processes: int
    attempts: int


PLANS: Final = {
    plan.name: plan
    for plan in (
        Plan("quick", 0.25, 3, 1, 3),
        Plan("default", 0.4, 3, 1, 3),
        Plan("full", 300.0, 10, 10, 8),
    )
}
"""`full` is the paper's: five minutes for each run, ten times."""


@dataclass(slots=True)
class Point:
    """A setup under a scenario, a value for each round. `mpps` is without loss, 0 if none of the loads was; `flat` is
    what arrived when as much was sent as could be, of which `loss` was lost; `net` are ns per packet without what the
    drop of the same round took, where a setup works inline. `curve` has of every run the Mpps that were offered and the
    share that was lost. `calm` and `loaded` are how long packets took at CALM packets per second, and at LOADED of what
    arrives without loss, else flat out; of uniform traffic. `megabytes` are what maps and processes of the setup take.
    `reason` says why there are none."""

    mpps: list[float] = field(default_factory=list)
    flat: list[float] = field(default_factory=list)
    loss: list[float] = field(default_factory=list)
    net: list[float] = field(default_factory=list)
    calm: list[Latency] = field(default_factory=list)
    loaded: list[Latency] = field(default_factory=list)
    megabytes: list[float] = field(default_factory=list)
    curve: list[tuple[float, float]] = field(default_factory=list)
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A scenario, by its name, and what came of each setup, by theirs."""

    name: str
    text: str
    traffic: str
    points: Mapping[str, Point]

    def ratios(self) -> Iterator[tuple[str, float]]:
        """Of Oko and each other setup, and of SAMPLED, medians over the rounds: Mpps flat out, in which others get
        credit for what they deliver even if they lose more; and of ns the inverse, so that more is better."""
        mine = self.points.get(OKO)
        for name, other in self.points.items():
            if mine is None or name == OKO:
                continue
            shared = min(len(mine.flat), len(other.flat))
            if shared and all(other.flat):
                rates = zip(mine.flat[:shared], other.flat[:shared], strict=True)
                yield f"Mpps, oko / {name}", median(own / its for own, its in rates)
            if name == BY_HAND and other.net and min(mine.net, default=0) > 0:
                costs = zip(mine.net, other.net, strict=False)
                yield f"1 / ns, oko / {name}", median(its / own for own, its in costs)
        baseline, sample = (self.points.get(name, Point()) for name in SAMPLED)
        if baseline.flat and sample.flat and all(sample.flat):
            rates = zip(baseline.flat, sample.flat, strict=False)
            yield f"Mpps, {' / '.join(SAMPLED)}", median(own / its for own, its in rates)


@dataclass(frozen=True, slots=True)
class Bench:
    """The result of a run. `warning` is about the machine."""

    machine: str
    plan: Plan
    minutes: float
    warning: str | None
    rows: Sequence[Row]

    def stages(self) -> list[tuple[str, float]]:
        """What each of STAGES, and then each filter program, adds to the ns of a packet in Oko: medians. Empty if one
        of them was not measured."""
        net = {row.name: median(row.points[OKO].net) for row in self.rows if row.points.get(OKO, Point()).net}
        found, before = [], 0.0
        for scenario in STAGES:
            if scenario.name not in net:
                return []
            found.append((scenario.name, net[scenario.name] - before))
            before = net[scenario.name]
        return found + [(name, cost - before) for name, cost in net.items() if name.endswith(f", {STAGED}")]

    def to_json(self) -> dict[str, Any]:
        """The result as json.dumps takes it, with the ratios that `check` compares."""
        return asdict(self) | {"ratios": {row.name: dict(row.ratios()) for row in self.rows}}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Bench:
        """The result that `to_json` gave."""
        rows = [
            Row(
                row["name"],
                row["text"],
                row["traffic"],
                {name: _point(made) for name, made in row["points"].items()},
            )
            for row in found["rows"]
        ]
        return cls(found["machine"], Plan(**found["plan"]), found["minutes"], found["warning"], rows)

    def __str__(self) -> str:
        lines = [f"{'':32}{'Mpps without loss':>20}{'flat out, lost':>24}{'ns net of the drop':>22}"]
        for row in self.rows:
            lines.append(row.name)
            lines += [f"  {name:30}{_cells(point)}" for name, point in row.points.items()]
        return "\n".join((*lines, *([self.warning] if self.warning else []), self.machine))


def _point(found: dict[str, Any]) -> Point:
    """JSON has no tuples."""
    latencies = {name: [Latency(*values) for values in found[name]] for name in ("calm", "loaded")}
    return Point(**found | latencies | {"curve": [(offered, lost) for offered, lost in found["curve"]]})


def _cells(point: Point) -> str:
    if point.reason is not None and not point.flat:
        return point.reason
    flat = f"{median(point.flat):.3f}, {median(point.loss):.1%}"
    return f"{middle(point.mpps, 3):>20}{flat:>24}{middle(point.net, 1):>22}"


def middle(values: Sequence[float], digits: int) -> str:
    """Median and range, as ``3.91 (3.70–4.02)``; a dash for none."""
    if not values:
        return "–"
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


# ---- measuring


def bench(plan: Plan, chosen: Sequence[Scenario], setups: Collection[str]) -> Bench:
    """Measure these scenarios with the setups of these names, all if there are none. Writes LATEST after each scenario:
    what takes an hour is not lost at its end. Raises OkoError."""
    begun = time.monotonic()
    taking_part = [setup for setup in SETUPS if not setups or setup.name in setups]
    with Neighbours() as neighbours:
        # The generator and whatever works inline have one processor; switches with threads have the others.
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
        result = Bench(machine(), plan, 0, None, [])
        for processors, group in groupby(chosen, lambda scenario: scenario.processors):
            with Testbed(processors) as testbed:
                for scenario in group:
                    rows = [*result.rows, _row(scenario, taking_part, testbed, plan)]
                    minutes = (time.monotonic() - begun) / 60
                    result = replace(result, minutes=minutes, warning=neighbours.warning, rows=rows)
                    LATEST.parent.mkdir(exist_ok=True)
                    LATEST.write_text(json.dumps(result.to_json(), indent=1, ensure_ascii=False) + "\n")
    return result


def _missing(setup: Setup, scenario: Scenario, plan: Plan) -> str | None:
    """Why the setup is not measured under this scenario, None if it is."""
    if scenario.seldom and not setup.inline and plan.name != "full":
        return "so many rules take it minutes: measured with --full"
    if scenario.processors > 1 and not setup.inline:
        return "all processors send: none is left for its threads"
    return setup.missing(scenario)


def _row(scenario: Scenario, setups: Sequence[Setup], testbed: Testbed, plan: Plan) -> Row:
    traffic = scenario.traffic()
    points = {setup.name: Point(reason=_missing(setup, scenario, plan)) for setup in setups}
    present = [setup for setup in setups if points[setup.name].reason is None]
    for number in range(1 if scenario.seldom else plan.rounds):
        dropped = _run(DROP, scenario, traffic, testbed, plan).flat
        start = number % max(len(present), 1)
        for setup in present[start:] + present[:start]:
            point = points[setup.name]
            if point.reason is not None or not (setup.inline or number < plan.processes):
                continue
            try:
                _take(point, setup, _run(setup, scenario, traffic, testbed, plan), dropped)
            except (OkoError, OSError, AssertionError, subprocess.SubprocessError) as error:
                point.reason = f"failed: {str(error).strip()[:200]}"
            print(f"{scenario.name}, round {number + 1}: {setup.name} {_cells(point).strip()}", file=sys.stderr)
    return Row(scenario.name, scenario.text, traffic.name, points)


@dataclass(frozen=True, slots=True)
class _Measured:
    """The run flat out, and all runs as (Mpps offered, share lost); Mpps without loss, 0 if every attempt lost some."""

    flat: Run
    curve: Sequence[tuple[float, float]]
    lossless: float
    latencies: Sequence[Latency | None] = (None, None)
    megabytes: float = 0.0


def _take(point: Point, setup: Setup, measured: _Measured, dropped: Run) -> None:
    point.mpps.append(measured.lossless)
    point.flat.append(measured.flat.rate)
    point.loss.append(measured.curve[0][1])
    point.curve += measured.curve
    point.megabytes.append(measured.megabytes)
    for known, found in zip((point.calm, point.loaded), measured.latencies, strict=True):
        known.extend([found] if found is not None else [])
    if setup.inline:
        point.net.append(measured.flat.cost - dropped.cost)


def _run(setup: Setup, scenario: Scenario, traffic: Traffic, testbed: Testbed, plan: Plan) -> _Measured:
    """Start the setup, open the traffic's connections, and measure."""
    testbed.rewind()
    before = footprint()
    with started(setup, scenario, testbed):
        for phase in traffic.opening:
            testbed.send(phase, _OPENING_RATE)
        passes = ceil(_TRIAL / len(traffic.steady.templates))
        trial = testbed.send(traffic.steady, _TRIAL_RATE, passes=passes)
        if not trial.delivered:
            raise OkoError(f"{setup.name}: nothing of {trial.sent} packets arrived")
        # Of uniform traffic everything is to arrive.
        measured = _measure(trial.share if traffic.mixed else 1.0, traffic, testbed, plan)
        megabytes = (footprint() - before) / 1e6
        if traffic.mixed or setup is DROP:
            return replace(measured, megabytes=megabytes)
        rates = (CALM, LOADED * 1e6 * (measured.lossless or measured.flat.rate))
        latencies = [testbed.latency(traffic.steady, plan.seconds, rate) for rate in rates]
        return replace(measured, megabytes=megabytes, latencies=latencies)


def _measure(share: float, traffic: Traffic, testbed: Testbed, plan: Plan) -> _Measured:
    """Flat out, and then less and less until nothing is lost. `share` of the packets are to arrive."""
    flat = testbed.run(traffic.steady, plan.seconds)
    curve = [(flat.offered, _lost(flat, share))]
    if curve[0][1] <= LOSS:
        return _Measured(flat, curve, flat.rate)
    offered = flat.rate * 1e6 / share
    for _ in range(plan.attempts):
        offered *= _STEP
        run = testbed.run(traffic.steady, plan.seconds, rate=offered)
        curve.append((run.offered, _lost(run, share)))
        if curve[-1][1] <= LOSS and run.offered * 1e6 > offered * _OFFERED:
            return _Measured(flat, curve, run.rate)
        offered = min(offered, run.rate * 1e6 / share)
    return _Measured(flat, curve, 0.0)


def _lost(run: Run, share: float) -> float:
    """Of the packets that were to arrive, the share that did not."""
    return max(1 - run.share / share, 0.0)


# ---- comparing


@dataclass(frozen=True, slots=True)
class Check:
    """Ratios that got worse by more than MOST_WORSE, as lines of text, and how many were compared."""

    worse: Sequence[str]
    compared: int

    @property
    def failed(self) -> bool:
        return bool(self.worse)

    def to_json(self) -> dict[str, Any]:
        """The result as json.dumps takes it."""
        return asdict(self)

    def __str__(self) -> str:
        head = f"{self.compared} ratios compared, {len(self.worse)} of them worse by more than {MOST_WORSE:.0%}"
        return "\n".join((head, *self.worse))


def check(*, accept: bool) -> Check:
    """Compare the ratios of LATEST with those of ACCEPTED, or make them the accepted ones. Raises NotReadable."""
    latest = _read(LATEST, "run 'python -m perf bench' first")["ratios"]
    if accept:
        ACCEPTED.write_text(json.dumps(latest, indent=1, ensure_ascii=False) + "\n")
        return Check((), 0)
    return compare(latest, _read(ACCEPTED, "run 'python -m perf bench-check --accept' when you trust the last run"))


def compare(latest: dict[str, dict[str, float]], accepted: dict[str, dict[str, float]]) -> Check:
    """Ratios by scenario and name; those that only one side has are left out."""
    pairs = [
        (f"{scenario}: {name}", latest[scenario][name], before)
        for scenario, ratios in accepted.items()
        for name, before in ratios.items()
        if name in latest.get(scenario, {})
    ]
    worse = [f"{name} was {before:.3f}, is {now:.3f}" for name, now, before in pairs if now < before * (1 - MOST_WORSE)]
    return Check(worse, len(pairs))


def _read(path: Path, advice: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise NotReadable(f"{path}: {error}: {advice}") from None
    return found


def choose(plan: Plan, names: Collection[str], pcap: Path | None) -> list[Scenario]:
    """The scenarios whose names begin with one of these; without names those of the plan. Raises OkoError."""
    known = scenarios(pcap, full=bool(names) or plan.name != "quick")
    chosen = [scenario for scenario in known if not names or any(scenario.name.startswith(name) for name in names)]
    if not chosen:
        raise OkoError(f"no scenario begins with {' or '.join(names)}: there are {', '.join(s.name for s in known)}")
    return chosen
