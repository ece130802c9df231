"""`python -m perf attached`: not how fast anything is, but that packets and TCP pass in every case."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from perf.attached import CASES, AttachedCost, Figures
from tests.ovs import needs_ovs

ROOT = Path(__file__).resolve().parents[2]
MEASURED = ("alone", "plain", "decided", "continued")


def test_the_table() -> None:
    figures = {
        "alone": Figures([0.5, 0.4, 0.6], [0.5, 0.6, 0.4], [2.0, 1.0, 2.0]),
        "alone-made": Figures(gigabits=[0.0, 0.0, 0.0], reason="unable to connect to server"),
        "plain": Figures([0.25, 0.3, 0.36], [0.75, 0.7, 0.7], [1.0, 1.0, 0.5]),
    }
    cost = AttachedCost("a processor", 5.0, None, figures)
    assert cost.ratios("plain", "mpps") == pytest.approx([0.5, 0.75, 0.6])
    assert str(cost).splitlines()[2:] == [
        "| Open vSwitch alone | as attaching needs them | 0.500 (0.400–0.600) | 50% | 1.00 (1.00–1.00) "
        "| 2.00 (1.00–2.00) | 1.00 (1.00–1.00) |",
        "| Open vSwitch alone | as the kernel makes them | – | – | – | none | none |",
        "| attached, only plain rules | as attaching needs them | 0.300 (0.250–0.360) | 70% | 0.60 (0.50–0.75) "
        "| 1.00 (0.50–1.00) | 0.50 (0.25–1.00) |",
        "alone-made: unable to connect to server",
        "a processor",
    ]
    assert json.loads(json.dumps(cost.to_json()))["ratios"]["plain"]["gigabits"] == pytest.approx([0.5, 1.0, 0.25])


def test_rows_tell_the_cases_apart() -> None:
    assert len({(case.text, case.hosts) for case in CASES}) == len({case.name for case in CASES}) == len(CASES)


@needs_ovs
@pytest.mark.needs_bpf
@pytest.mark.skipif(os.environ.get("CI") != "true" and shutil.which("iperf3") is None, reason="iperf3 is not installed")
def test_packets_and_tcp_pass_in_every_way() -> None:
    chosen = [word for name in MEASURED for word in ("--case", name)]
    command = [sys.executable, "-m", "perf", "attached", "--rounds", "1", "--seconds", "0.1", "--json", *chosen]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)["figures"]
    assert set(figures) == set(MEASURED)
    for name, found in figures.items():
        (mpps,), (lost,), (gigabits,) = (found[column] for column in ("mpps", "lost", "gigabits"))
        assert mpps > 0, name
        assert 0 <= lost < 1, name
        assert gigabits > 0, found["reason"]
