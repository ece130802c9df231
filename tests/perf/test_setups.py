"""Each setup of the benchmark forwards what it should and blocks what it should."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from perf.setups import SETUPS
from perf.xdp import build
from tests.perf.setup_trial import SCENARIOS, cases

ROOT = Path(__file__).resolve().parents[2]

FILTERED = ("forward", "firewall", "p0f", "token_bucket")
TRIALS: dict[str, tuple[str, ...]] = {
    "oko": (*FILTERED, "addresses", "prefixes", "masks"),
    "by-hand": (*FILTERED, "addresses", "prefixes"),
    "ovs-afxdp": ("forward", "firewall", "addresses", "masks"),
    "ovs-afpacket": ("forward",),
    "process": FILTERED,
    "process-alone": ("forward",),
    "testpmd": ("forward",),
    # Its limit for each source never gives the same figure twice: that one is of the others.
    "kernel": ("forward", "firewall", "p0f", "addresses", "prefixes"),
}
WITHOUT_FILTER = {"ovs-afxdp", "ovs-afpacket"}
LOSSY = {"ovs-afpacket"}
"""Their sockets have little room, so that frames are lost when others need the processor."""


def test_every_setup_has_a_trial_or_cannot_run() -> None:
    absent = {setup.name for setup in SETUPS if setup.missing(SCENARIOS["forward"]()) is not None}
    assert {setup.name for setup in SETUPS} - absent <= set(TRIALS)
    assert len({setup.letter for setup in SETUPS} | {"d"}) == len(SETUPS) - 1  # both of Open vSwitch are d


@pytest.mark.needs_bpf
@pytest.mark.parametrize("name", TRIALS)
def test_it_forwards_and_blocks(name: str) -> None:
    setup = next(setup for setup in SETUPS if setup.name == name)
    wanted = [each for each in TRIALS[name] if setup.missing(SCENARIOS[each]()) is None]
    if not wanted:
        pytest.skip(str(setup.missing(SCENARIOS["forward"]())))
    build()
    command = [sys.executable, "-m", "tests.perf.setup_trial", name, *wanted]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    for each in wanted:
        for case in cases(each):
            sent, delivered = found[each][case.name]
            expected = case.plain if name in WITHOUT_FILTER else case.filtered
            assert sent == case.passes * len(case.phase.templates), case.name
            least = expected // 2 if name in LOSSY else expected
            assert least <= delivered <= expected, (each, case.name, sent, delivered)
