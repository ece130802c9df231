"""Every packet is decided by the tables before a change or by those after it, under full load."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

import pytest

from oko.flow.drop import Drop
from perf.explanation import NOTHING, Outcome, Run, Version, explain
from tests.stage import ROOT

A: Outcome = (1, 0)
B: Outcome = (0, 1)

# Frame N is of flow N % 2. Version 0 drops flow 0 and sends flow 1 by A; version 1 sends flow 0 by A and flow 1 by B,
# version 2 both by B. The first change was over when frame 8 was stamped and began when frame 2 had arrived, the
# second at 16 and 10.
_BEFORE = ({NOTHING: frozenset({Drop.MISS})}, {A: frozenset({None})})
_BETWEEN = ({A: frozenset({None})}, {B: frozenset({None})})
_AFTER = ({B: frozenset({None})}, {B: frozenset({None})})
VERSIONS = (
    Version(0, 0, _BEFORE, ((0, 0), (1, 1))),
    Version(2, 8, _BETWEEN, ((1, 1), (1, 1))),
    Version(10, 16, _AFTER, ((2, 2), (1, 1))),
)

_OUTCOMES = {"-": NOTHING, "A": A, "B": B}


def outcomes(written: str) -> list[list[Run]]:
    """Frames as runs, by flow: what arrived of each as a letter."""
    rows: list[list[Run]] = [[], []]
    for stamp, letter in enumerate(written):
        rows[stamp % 2].append(Run(stamp, stamp, _OUTCOMES[letter]))
    return rows


@pytest.mark.parametrize(
    ("written", "unexplained"),
    [
        pytest.param("-A-A-AABABABBBBBBBBB", [], id="each version in turn"),
        pytest.param("-AABABABABABABABBBBB", [], id="as early and as late as may be"),
        pytest.param("AA-A-AABABABBBBBBBBB", [0], id="before the change began"),
        pytest.param("-A-A-A-A-BABABBBBBBB", [8], id="after the change was over"),
        pytest.param("-A-AABABABABABABABBB", [16], id="after the last change was over"),
        pytest.param("-AAB-AABABABBBBBBBBB", [4, 5], id="the old tables behind the new ones"),
        pytest.param("-A-A-BAAABABABABBBBB", [7], id="one flow old behind another that is new"),
        pytest.param("-A-A-A-AABABBBABBBBB", [14], id="the version between behind the last"),
        pytest.param("-A-A-AAAAB-BBBBBBBBB", [7, 10], id="one old, one lost"),
    ],
)
def test_frames_are_explained_one_by_one(written: str, unexplained: Sequence[int]) -> None:
    found = explain(VERSIONS, outcomes(written), len(written))
    assert [frame.stamp for frame in found.unexplained] == unexplained


def test_what_is_certain_is_counted() -> None:
    found = explain(VERSIONS, outcomes("-A-A-AABABABBBBBBBBB"), 20)
    assert (found.nowhere, found.least, found.most) == (3, {Drop.MISS: 3}, {Drop.MISS: 3})
    assert (found.contested, found.open, found.metered) == (12, 1, 0)
    # Flow 0: three frames that no rule wins, three that one wins, four that two win.
    assert found.wins == (21, 21)
    assert [list(found.versions(stamp)) for stamp in (5, 6, 10, 11, 12)] == [[0], [1], [1], [1, 2], [2]]


def test_a_meter_may_decide_either_way() -> None:
    fates = ({A: frozenset({None}), NOTHING: frozenset({Drop.METER})}, {A: frozenset({None})})
    found = explain([Version(0, 0, fates, ((1, 2), (1, 1)))], outcomes("-AAA-AAA"), 8)
    assert found.unexplained == []
    assert (found.metered, found.nowhere, found.least) == (4, 2, {Drop.METER: 2})
    assert found.wins == (8, 12)


@pytest.mark.needs_bpf
def test_updates_under_traffic() -> None:
    command = [sys.executable, "-m", "perf", "updates", "--changes", "20", "--seed", "3", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["faults"] == []
    assert (result["unexplained"], result["lost"], result["driver"]) == (0, 0, {})
    # Enough has happened: tables that differ to the frames, and frames under way while they changed.
    assert result["visible"] >= 5
    assert result["contested"] > 10_000
