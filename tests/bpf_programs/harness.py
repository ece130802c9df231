"""Objects compiled for tests: built by the Makefile of bpf_programs, loaded as XDP programs, run on frames."""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from oko.kernel.btf import load_btf
from oko.kernel.program import RunResult, load_program
from oko.switch.loaded_image import create_map
from verifier import elf, isa
from verifier.program import ReferenceKind

SOURCES = Path(__file__).resolve().parents[2] / "bpf_programs"

OBJECTS = "OKO_OBJECTS"
"""The environment variable for `compiled`."""


def compiled() -> Path | None:
    """A directory with objects to take in place of compiling, laid out as `build` does: in a virtual machine without
    KVM a compiler takes half a minute for each. None where there is none."""
    directory = os.environ.get(OBJECTS)
    return Path(directory) if directory else None


def build(directory: Path, *variables: str) -> None:
    """Build the objects under `directory`; `variables` are make's, e.g. ``CLANG=clang-16``. Fails with the errors."""
    command = ["make", "--no-print-directory", "-C", str(SOURCES), f"BUILD={directory}", *variables]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def build_test_object(source: Path, directory: Path) -> Path:
    """Compile a C file that is beside a test, with the flags of the real objects."""
    build(directory, f"SOURCES={source.name}", f"VPATH={source.parent}")
    return directory / f"{source.stem}.o"


class Harness:
    """The program in the section ``xdp`` of an object, in the kernel, with its maps by name."""

    def __init__(self, path: Path) -> None:
        program = elf.load(path.read_bytes(), section="xdp")
        with ExitStack() as owned:
            btf = owned.enter_context(load_btf(program.btf.raw)) if program.btf is not None else None
            self.maps = {spec.name: owned.enter_context(create_map(spec.name, spec, btf)) for spec in program.maps}
            references = {
                reference.instruction: (
                    self.maps[reference.name],
                    reference.offset if reference.kind is ReferenceKind.MAP_VALUE else None,
                )
                for reference in program.references
            }
            self.program = owned.enter_context(
                load_program(program.name, isa.encode(program.instructions), program.license, references=references)
            )
            self._owned = owned.pop_all()

    def run(self, frame: bytes, *, repeat: int = 1) -> RunResult:
        return self.program.test_run(frame, repeat=repeat)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._owned.close()
