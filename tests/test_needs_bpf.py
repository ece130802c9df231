"""What the marker needs_bpf does where BPF may not be loaded, tried in a pytest without any capability."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TRIED = "tests/oko/kernel/test_grace.py"


def without_capabilities(**environment: str) -> subprocess.CompletedProcess[str]:
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    command += [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", TRIED]
    inherited = {name: value for name, value in os.environ.items() if name != "CI"}
    return subprocess.run(
        command, cwd=ROOT, env=inherited | environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.needs_bpf
def test_marked_test_is_skipped_with_the_reason() -> None:
    result = without_capabilities()
    assert result.returncode == 0, result.stdout
    assert "1 skipped" in result.stdout
    assert "needs BPF: loading XDP programs: not permitted" in result.stdout


@pytest.mark.needs_bpf
def test_marked_test_fails_in_ci() -> None:
    result = without_capabilities(CI="true")
    assert result.returncode == 1, result.stdout
    assert "needs BPF, and CI must have it: loading XDP programs: not permitted" in result.stdout
