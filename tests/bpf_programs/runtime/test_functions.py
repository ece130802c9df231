"""What every function of the runtime must be, whichever clang made it: free of cycles, small on the stack, and without
data or maps but its own."""

from __future__ import annotations

import shutil
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from oko.compiler.runtime import FUNCTIONS
from tests.bpf_programs.runtime.linked import build_runtime
from tests.bpf_programs.test_objects import CLANGS, stack_depth, successors
from verifier import elf
from verifier.program import ReferenceKind

STACK = 192
"""Bytes: what the kernel's 512 leave beside the main function and a filter program."""
MAPS = {"meter": {"meters"}, "packet_in": {"packet_ins", "packet_in_drops"}}
OBJECTS = ("actions", "meter", "packet_in", "select")
NAMES = [name for name, (source, _) in FUNCTIONS.items() if source in OBJECTS]


@pytest.fixture(scope="module", params=CLANGS)
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    directory = tmp_path_factory.mktemp(request.param)
    build_runtime(directory, *OBJECTS, clang=request.param)
    return directory


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_linked_into_any_image(directory: Path, name: str) -> None:
    source, _ = FUNCTIONS[name]
    data = (directory / "runtime" / f"{source}.o").read_bytes()
    program = elf.load(data, section=f"runtime/{name.removeprefix('oko_')}")
    code = program.instructions
    TopologicalSorter({index: tuple(successors(code, index)) for index in range(len(code))}).prepare()
    assert stack_depth(code) <= STACK
    assert {reference.kind for reference in program.references} <= {ReferenceKind.MAP}
    assert {spec.name for spec in program.maps} == MAPS.get(source, set())
    assert [function.name for function in program.functions] == [name]
    assert program.license == "Dual BSD/GPL"
