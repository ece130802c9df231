"""Compiling a filter program: with clang, the SDK's headers, and the flags of the programs that come with Oko."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Final

import oko
from oko.errors import NotCompiled

SDK: Final = Path(oko.__file__).parents[1] / "bpf_programs"
"""Beside the package, in a clone and when installed: ``include``, the headers; ``cflags``; ``template``."""

CLANG: Final = "clang"


def compile_filter(source: Path, target: Path, clang: str = CLANG) -> None:
    """Compile the C file `source` into the object file `target`. `clang` is the name or path of the compiler.

    Raises NotCompiled, whose details are what the compiler says; `target` is then not there.
    """
    if not source.is_file():
        raise NotCompiled(f"{source}: no such file: 'oko program new' writes one")
    command = [clang, *_flags(), "-c", str(source), "-o", str(target)]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError as error:
        raise NotCompiled(
            f"{clang}: {error.strerror}: install clang 14 or later (on Debian, apt install clang), or name one with"
            " --clang"
        ) from None
    if done.returncode:
        target.unlink(missing_ok=True)
        said = done.stderr.decode(errors="replace")
        raise NotCompiled(f"{source}: {clang} does not take it", details=said)


def _flags() -> list[str]:
    # <asm/types.h> is in a directory per architecture, which clang does not search when its target is bpf.
    per_architecture = f"/usr/include/{platform.machine()}-linux-gnu"
    flags = (SDK / "cflags").read_text().split()
    return [*flags, "-I", str(SDK / "include"), "-isystem", per_architecture]
