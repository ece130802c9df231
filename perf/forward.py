"""How fast frames are forwarded, in_port → output: Oko beside a redirect written by hand, in alternating rounds."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

from perf.machine import machine
from perf.switches import Switch, drop, hand_written, oko
from perf.track import Run, Track

OKO: Final = "oko"
BASELINE: Final = "hand-written"
DROP: Final = "drop"

SWITCHES: Final[dict[str, Callable[[], AbstractContextManager[Switch]]]] = {
    OKO: lambda: oko("in_port=1,actions=output:2"),
    BASELINE: hand_written,
    DROP: drop,
}


@dataclass(frozen=True, slots=True)
class Forward:
    """One run of every switch per round, by its name in SWITCHES."""

    rounds: Sequence[dict[str, Run]]

    def runs(self, name: str) -> list[Run]:
        return [runs[name] for runs in self.rounds]

    def net_costs(self, name: str) -> list[float]:
        """ns per frame of each round, without what the drop of the same round took: generator, first veth, count."""
        return [runs[name].cost - runs[DROP].cost for runs in self.rounds]

    @property
    def ratios(self) -> list[float]:
        """Oko's rate over that of the redirect written by hand, of each round."""
        return [runs[OKO].rate / runs[BASELINE].rate for runs in self.rounds]

    @property
    def lost(self) -> int:
        return sum(run.account.lost for runs in self.rounds for run in runs.values())

    def to_json(self) -> dict[str, Any]:
        """The result as json.dumps takes it: Mpps, ns, and the account of every run."""
        return {
            "machine": machine(),
            "rounds": [
                {
                    name: {"mpps": run.rate, "ns": run.cost, "account": run.account.to_json()}
                    for name, run in runs.items()
                }
                for runs in self.rounds
            ],
            "net_ns": {name: self.net_costs(name) for name in SWITCHES},
            "ratios": self.ratios,
            "lost": self.lost,
        }

    def __str__(self) -> str:
        lines = [f"{'':14}{'Mpps delivered':>24}{'ns per frame net of drop':>28}"]
        for name in SWITCHES:
            rates = spread([run.rate for run in self.runs(name)], 3)
            costs = "" if name == DROP else spread(self.net_costs(name), 1)
            lines.append(f"{name:14}{rates:>24}{costs:>28}")
        lines.append(f"oko / hand-written, of each round: {spread(self.ratios, 3)}")
        for name in SWITCHES:
            total = self.runs(name)
            sent, dropped = sum(run.account.sent for run in total), sum(run.account.dropped for run in total)
            lost = sum(run.account.lost for run in total)
            lines.append(f"{name}: sent {sent:,}, dropped and counted {dropped:,}, lost {lost:,}")
        return "\n".join((*lines, machine()))


def spread(values: Sequence[float], digits: int) -> str:
    """Median and range, as ``3.91 (3.70–4.02)``."""
    return f"{median(values):.{digits}f} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def forward(rounds: int, seconds: float) -> Forward:
    """Measure each switch for `seconds` in each round; which one begins changes from round to round."""
    # The generator drives the whole path in its own softirq: on one processor a frame has one cache to be in.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    names = list(SWITCHES)
    results = []
    with Track() as track:
        for number in range(rounds):
            start = number % len(names)
            runs = {}
            for name in names[start:] + names[:start]:
                with SWITCHES[name]() as switch:
                    runs[name] = track.run(switch, seconds)
            results.append(runs)
    return Forward(results)
