"""Reloads under full load, as ``python -m perf reload`` runs them: in a process with namespaces of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RELOADS = 20
FRAMES_BETWEEN = 1024  # that arrive after each reload before the next


@pytest.mark.needs_bpf
def test_reloads_lose_no_frame() -> None:
    command = [sys.executable, "-m", "perf", "reload", "--reloads", f"{RELOADS}", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    # Status 1 also says that a swap did not take effect, or that a new pipeline forwarded nothing.
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    account = result["account"]
    assert len(result["reload_ns"]) == RELOADS
    assert account["delivered"] >= RELOADS * FRAMES_BETWEEN
    assert (account["lost"], account["lost_behind_p1"]) == (0, 0), account
