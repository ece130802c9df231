"""Comparisons of the kernel with the reference, as ``python -m perf datapath-fuzz`` runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from oko.flow.tables import Tables
from oko.replay.engine import KernelEngine
from perf import __main__ as perf
from perf.datapath_fuzz import datapath_fuzz

ROOT = Path(__file__).resolve().parents[2]
CASES = 3


@pytest.mark.needs_bpf
def test_a_few_cases_do_not_differ() -> None:
    command = [sys.executable, "-m", "perf", "datapath-fuzz", "--cases", f"{CASES}", "--seed", "7", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["seed"], result["cases"], result["faults"]) == (7, CASES, {})
    assert result["changes"] >= CASES
    assert result["packets"] >= 4 * CASES


@pytest.mark.needs_bpf
def test_a_difference_fails(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A kernel without any rules."""
    whole = KernelEngine.__init__

    def forgetful(engine: KernelEngine, _: Tables, *rest: Any) -> None:
        whole(engine, Tables(), *rest)

    monkeypatch.setattr(KernelEngine, "__init__", forgetful)
    monkeypatch.setattr(perf, "build", lambda: None)
    monkeypatch.setattr(perf, "isolate", lambda: None)
    monkeypatch.setattr(sys, "argv", ["perf", "datapath-fuzz", "--cases", "1", "--seed", "7"])
    assert perf.main() == 1
    assert "but for 1 cases\ncase 7:\n" in capsys.readouterr().out


@pytest.mark.needs_bpf
def test_an_interrupt_ends_it_with_what_was_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = KernelEngine.__init__
    begun: list[KernelEngine] = []

    def interrupted(engine: KernelEngine, *rest: Any) -> None:
        begun.append(engine)
        if len(begun) == 5:  # A case is two switches, one of them attached.
            raise KeyboardInterrupt
        whole(engine, *rest)

    monkeypatch.setattr(KernelEngine, "__init__", interrupted)
    result = datapath_fuzz(10, 7)
    assert (result.cases, result.faults) == (2, {})
