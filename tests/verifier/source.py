"""Filter programs as C source, compiled."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

INCLUDE = Path(__file__).parents[2] / "bpf_programs" / "include"


def compile_source(source: str, target: Path, *flags: str) -> Path:
    """Compile a program to the object file `target`; `source` is saved beside it, with the suffix .c."""
    text = target.with_suffix(".c")
    text.write_text(source)
    options: list[str | Path] = ["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-I", INCLUDE]
    options += ["-isystem", f"/usr/include/{platform.machine()}-linux-gnu", *flags]
    subprocess.run(["clang", *options, "-c", text.name, "-o", target], check=True, cwd=target.parent)
    return target
