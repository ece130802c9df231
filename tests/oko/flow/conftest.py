"""Open vSwitch's own tools, as the outside oracle of this room."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

OvsOfctl = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def ovs_ofctl() -> OvsOfctl:
    """Runs ovs-ofctl with these arguments, and returns what it printed without checking how it ended."""
    path = shutil.which("ovs-ofctl")
    if path is None and os.environ.get("CI") == "true":
        pytest.fail("ovs-ofctl is not installed (Debian package openvswitch-common)")
    if path is None:
        pytest.skip("ovs-ofctl is not installed")

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([path, *map(str, arguments)], capture_output=True, text=True, check=False)

    return run
