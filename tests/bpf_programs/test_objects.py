"""What every object must be, whichever clang made it: free of cycles, within the budgets, self-contained."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.bpf_programs.harness import SOURCES, build
from verifier import elf, isa
from verifier.isa import Instruction
from verifier.program import Program, ReferenceKind

CLANGS = ("clang-14", "clang-16", "clang-19")
FRAME_POINTER = 10

# section, stack in bytes, maps, functions of the switch that it calls, functions of its own
OBJECTS: dict[str, tuple[str, int, set[str], set[str], int]] = {
    "blocklist.o": ("filter", 256, {"prefixes", ".data.config"}, set(), 1),
    "firewall.o": (
        "filter",
        256,
        {"packets", "connections", "slots", "rings", "fragments", ".data.config"},
        {"oko_in_port"},
        14,
    ),
    "p0f.o": ("filter", 256, {"layouts", "signatures", "names", "counts", "searches", ".data.config"}, set(), 6),
    "token_bucket.o": ("filter", 256, {"limits", "sources", "buckets", "refused", ".data.config"}, set(), 2),
    "runtime/parser.o": ("runtime/parse", 64, set(), set(), 3),
    "runtime/stub.o": ("xdp", 64, {"slot", "fallthrough"}, set(), 1),
    "runtime/stub_open.o": ("xdp", 64, {"slot", "fallthrough"}, set(), 1),
}
"""The other objects of the runtime have several functions each: runtime/test_functions.py."""


@pytest.fixture(scope="module", params=CLANGS)
def objects(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with the objects that one version of clang makes."""
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    directory = tmp_path_factory.mktemp(request.param)
    build(directory, f"CLANG={request.param}")
    return directory


def read(directory: Path, name: str) -> Program:
    return elf.load((directory / name).read_bytes(), section=OBJECTS[name][0])


def successors(code: tuple[Instruction, ...], index: int) -> Iterator[int]:
    instruction = code[index]
    if instruction.opcode == isa.OPCODE_EXIT:
        return
    jumps = instruction.opcode & 0x07 in (isa.JMP, isa.JMP32)
    operation = instruction.opcode & 0xF0
    if jumps and operation != isa.CALL:
        yield index + 1 + (instruction.imm if instruction.opcode == isa.JMP32 | isa.JA else instruction.offset)
    if not (jumps and operation == isa.JA):
        yield index + 1


def stack_depth(code: tuple[Instruction, ...]) -> int:
    """Bytes below the frame pointer, as far as code that computes no address in the stack tells."""
    deepest, copies = 0, set()
    for instruction in code:
        kind = instruction.opcode & 0x07
        if kind == isa.ALU64 and instruction.opcode & 0xF0 == isa.MOV:
            copies.discard(instruction.dst)
            if instruction.src == FRAME_POINTER:
                copies.add(instruction.dst)
        elif instruction.opcode == isa.ALU64 | isa.ADD | isa.K and instruction.dst in copies:
            deepest = min(deepest, instruction.imm)
        if (kind == isa.LDX and instruction.src == FRAME_POINTER) or (
            kind in (isa.ST, isa.STX) and instruction.dst == FRAME_POINTER
        ):
            deepest = min(deepest, instruction.offset)
    return -deepest


@pytest.mark.parametrize("name", OBJECTS)
def test_code_is_free_of_cycles(objects: Path, name: str) -> None:
    code = read(objects, name).instructions
    graph = {index: tuple(successors(code, index)) for index in range(len(code))}
    TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("name", OBJECTS)
def test_code_is_within_its_budget(objects: Path, name: str) -> None:
    program = read(objects, name)
    assert len(program.instructions) <= elf.MAX_INSTRUCTIONS
    assert stack_depth(program.instructions) <= OBJECTS[name][1]


@pytest.mark.parametrize("name", OBJECTS)
def test_object_needs_nothing_else(objects: Path, name: str) -> None:
    """No read-only or global data, only the maps and the runtime functions that it is meant to use."""
    program = read(objects, name)
    _, _, maps, runtime, functions = OBJECTS[name]
    assert {spec.name for spec in program.maps} == maps
    assert {item.name for item in program.references if item.kind is ReferenceKind.RUNTIME} == runtime
    assert len(program.functions) == functions
    assert program.license == "Dual BSD/GPL"
    assert program.btf is not None


def test_building_again_does_nothing(objects: Path) -> None:
    command = ["make", "-q", "-C", str(SOURCES), f"BUILD={objects}"]
    assert subprocess.run(command, check=False).returncode == 0


def test_a_changed_header_rebuilds_what_includes_it(tmp_path: Path) -> None:
    build(tmp_path)
    command = ["make", "-n", "-C", str(SOURCES), f"BUILD={tmp_path}", "-W", "include/oko.h"]
    planned = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "firewall.c" in planned
    assert "runtime/parser.c" in planned
    assert "runtime/stub.c" not in planned


@pytest.mark.skipif(shutil.which("clang-format") is None, reason="clang-format is not installed")
def test_sources_are_formatted() -> None:
    tests = Path(__file__).parent
    files = sorted(path for root in (SOURCES, tests) for path in root.rglob("*.[ch]"))
    assert files
    done = subprocess.run(
        ["clang-format", "--dry-run", "-Werror", *map(str, files)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
