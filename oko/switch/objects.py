"""The objects of the runtime, built from `bpf_programs/runtime`: where they are and how they are read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import oko
from oko.compiler.runtime import Runtime
from oko.errors import NotReadable
from verifier.elf import load
from verifier.program import Program

_INSTALLED: Final = Path(oko.__file__).parent / "objects"
_BUILT: Final = Path(oko.__file__).parents[1] / "build" / "bpf"

OBJECTS: Final = Path(os.environ.get("OKO_OBJECTS", _INSTALLED if _INSTALLED.is_dir() else _BUILT))
"""The directory of the objects: $OKO_OBJECTS, or those of an installed package, or ``build/bpf`` of the source tree."""


def read_runtime() -> Runtime:
    """The C half of every image. Raises NotReadable."""
    return Runtime.read(_read)


def read_stub(*, fail_open: bool = False) -> Program:
    """The program that every port carries: one that drops packets which find no pipeline, or one that is to `fail_open`
    and passes them. Raises NotReadable."""
    return load(_read("stub_open" if fail_open else "stub"), section="xdp")


def read_guard() -> Program:
    """The program on the way out of every port of an attached bridge. Raises NotReadable."""
    return load(_read("guard"), section="tcx/egress")


def _read(name: str) -> bytes:
    path = OBJECTS / "runtime" / f"{name}.o"
    try:
        return path.read_bytes()
    except OSError as error:
        raise NotReadable(
            f"{path}: {error.strerror}: build it with 'make objects', or name the directory in OKO_OBJECTS"
        ) from None
