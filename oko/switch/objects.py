"""The objects of the runtime, built from `bpf_programs/runtime`: where they are and how they are read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from oko.compiler.runtime import Runtime
from oko.errors import NotReadable
from verifier.elf import load
from verifier.program import Program

OBJECTS: Final = Path(os.environ.get("OKO_OBJECTS", Path(__file__).parents[2] / "build" / "bpf"))
"""The directory of the built objects: ``build/bpf`` of the source tree, or $OKO_OBJECTS."""


def read_runtime() -> Runtime:
    """The C half of every image. Raises NotReadable."""
    return Runtime.read(_read)


def read_stub() -> Program:
    """The program that every port carries. Raises NotReadable."""
    return load(_read("stub"), section="xdp")


def _read(name: str) -> bytes:
    path = OBJECTS / "runtime" / f"{name}.o"
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotReadable(f"{path}: {error.strerror}: build the runtime with 'make objects'") from None
