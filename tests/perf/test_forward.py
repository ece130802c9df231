"""Forwarding as ``python -m perf forward`` measures it: not how fast, but that the figures mean what they say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.needs_bpf
def test_every_switch_is_measured_and_accounted_for() -> None:
    command = [sys.executable, "-m", "perf", "forward", "--rounds", "1", "--seconds", "0.1", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    (runs,) = result["rounds"]
    assert result["lost"] == 0
    redirected = {name: run["account"]["hops"]["p1 redirected"] for name, run in runs.items()}
    delivered = {name: run["account"]["delivered"] for name, run in runs.items()}
    assert all(delivered.values())
    # Oko and its counterpart forward what they deliver; the drop is where frames end at p1.
    assert redirected == delivered | {"drop": 0}
