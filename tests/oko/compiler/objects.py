"""Objects compiled once for all tests of the compiler: the runtime and the filter programs in ``filters``."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from oko.compiler.runtime import Runtime
from tests.bpf_programs import harness
from tests.bpf_programs.harness import build, build_test_object
from verifier import elf
from verifier.check import check
from verifier.program import Program

FILTERS = Path(__file__).with_name("filters")


@cache
def runtime() -> Runtime:
    if directory := harness.compiled():
        return _runtime(directory)
    with TemporaryDirectory() as built:
        build(Path(built))
        return _runtime(Path(built))


def _runtime(directory: Path) -> Runtime:
    return Runtime.read(lambda name: (directory / "runtime" / f"{name}.o").read_bytes())


@cache
def filter_program(name: str) -> Program:
    """The program in ``filters/NAME.c``, accepted by the verifier."""
    with TemporaryDirectory() as directory:
        return _read(build_test_object(FILTERS / f"{name}.c", Path(directory)))


def compiled(source: str) -> Program:
    """The program that `source` is, accepted by the verifier."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / "program.c"
        path.write_text(source)
        return _read(build_test_object(path, Path(directory)))


def _read(path: Path) -> Program:
    program = elf.load(path.read_bytes())
    check(program)
    return program
