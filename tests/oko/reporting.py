"""reporting.c, compiled."""

from __future__ import annotations

import platform
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from tests.bpf_programs.harness import SOURCES


@cache
def reporting(*flags: str) -> bytes:
    """The object; with ``-DSECOND_RING`` it has another ring buffer, which it writes instead."""
    system = f"/usr/include/{platform.machine()}-linux-gnu"
    options = ["-O2", "-g", "-target", "bpf", "-mcpu=v3", f"-I{SOURCES / 'include'}", "-isystem", system, *flags]
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory) / "reporting.o"
        source = Path(__file__).with_name("reporting.c")
        subprocess.run(["clang", *options, "-c", source, "-o", target], check=True)
        return target.read_bytes()
