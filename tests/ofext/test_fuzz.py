from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from tests.stage import ROOT


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_no_exception_but_protocol_error() -> None:
    command = [sys.executable, "-m", "tests.ofext.fuzz", "-runs=100000", "-max_len=400", "-seed=1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Done 100000 runs" in done.stderr
