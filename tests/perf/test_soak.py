"""Everything at once, in short: changes under full load, peers that disturb, a port that flaps, kills."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from tests.stage import ROOT

COMMAND = [sys.executable, "-m", "perf", "soak", "--json"]


@pytest.mark.needs_bpf
def test_soak() -> None:
    command = [*COMMAND, "--seconds", "10", "--seed", "11"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr + done.stdout
    result = json.loads(done.stdout)
    assert (result["failed"], result["interrupted"]) == (False, False)
    frames = result["frames"]
    assert (frames["unexplained"], frames["lost"], frames["driver"]) == (0, 0, {})
    # Enough has happened.
    assert result["kills"] >= 2
    assert result["flaps"] >= 1
    assert frames["contested"] > 10_000
    assert frames["versions"] >= 3
    assert result["disturbances"]["done"].keys() >= {"refusal"}
    assert result["trends"].keys() >= {"pins"}


@pytest.mark.needs_bpf
def test_ends_early() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([*COMMAND, "--seconds", "1000"], cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stderr.readline() == "seed 1: okod runs\n"
        running.send_signal(signal.SIGINT)
        result = json.loads(running.stdout.read())
        assert running.stderr.read() == ""
    assert (running.returncode, result["interrupted"], result["faults"], result["trends"]) == (0, True, [], {})
