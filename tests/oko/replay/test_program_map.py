"""The same entries are taken and refused in the kernel and in Python."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

from oko.author.clang import compile_filter
from oko.errors import BadMapAccess
from oko.flow.text import parse_rule
from oko.kernel.maps import Map as KernelMap
from oko.replay.engine import Engine, KernelEngine, ReferenceEngine, usual
from oko.replay.program_map import ProgramMap, program_maps
from oko.replay.replay import make_tables
from oko.switch.objects import read_runtime
from verifier import elf
from verifier.program import Program

RUNTIME = cache(read_runtime)
SOURCE = Path(__file__).parents[1] / "author" / "kinds_of_maps.c"
NUMBER = 7
ONE, TWO = (bytes((number, 0, 0, 0)) for number in (1, 2))
PREFIX = (128).to_bytes(4, "little") + bytes(10) + bytes.fromhex("ffff0a000001")
KEYS = {"hash": ONE, "lru": ONE, "percpu_hash": ONE, "array": ONE, "percpu_array": ONE, "prefixes": PREFIX}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    target = tmp_path_factory.mktemp("kinds") / "kinds_of_maps.o"
    compile_filter(SOURCE, target)
    return elf.load(target.read_bytes())


@pytest.fixture(params=[pytest.param(True, marks=pytest.mark.needs_bpf, id="kernel"), pytest.param(False, id="Python")])
def maps(program: Program, request: pytest.FixtureRequest) -> Iterator[dict[str, ProgramMap]]:
    tables = make_tables([parse_rule(f"filter_prog={NUMBER},actions=drop")], {NUMBER})
    with ExitStack() as own:
        engine: Engine
        if request.param:
            engine = own.enter_context(KernelEngine(tables, {NUMBER: program}, usual([1]), RUNTIME()))
        else:
            engine = ReferenceEngine(tables, {NUMBER: program}, usual([1]), RUNTIME())
        yield program_maps(engine, NUMBER, program)


def content(found: ProgramMap) -> dict[bytes, set[bytes]]:
    """The values of each key; those of all CPUs are a set."""
    if isinstance(found.present, KernelMap) and found.present.per_cpu:
        return {key: set(values) for key, values in found.present.items_percpu()}
    return {key: {value} for key, value in found.present.items()}


def test_names_and_schemas(maps: dict[str, ProgramMap]) -> None:
    assert {*KEYS, ".data.config", "ring"} <= maps.keys()
    assert maps[".data.config"].name == "config"
    assert [member["name"] for member in maps["hash"].value["members"]] == ["packets", "last_port"]
    assert maps["prefixes"].key["kind"] == "prefix"


@pytest.mark.parametrize("name", KEYS)
def test_what_is_written_is_there(maps: dict[str, ProgramMap], name: str) -> None:
    maps[name].write([(KEYS[name], ONE + TWO), (KEYS[name], TWO + ONE)])
    assert content(maps[name])[KEYS[name]] == {TWO + ONE}


@pytest.mark.parametrize(
    ("name", "keys", "complaint"),
    [
        pytest.param("array", (ONE, bytes((9, 0, 0, 0))), "09000000", id="beyond the array"),
        pytest.param("hash", tuple(bytes((number, 0, 0, 0)) for number in range(1, 6)), "05000000", id="a full map"),
        pytest.param("ring", (ONE,), "map ring is a ring buffer, which has no entries", id="no entries"),
    ],
)
def test_what_is_refused(maps: dict[str, ProgramMap], name: str, keys: tuple[bytes, ...], complaint: str) -> None:
    with pytest.raises(BadMapAccess, match=complaint):
        maps[name].write([(key, ONE + TWO) for key in keys])
    if name != "ring":
        assert content(maps[name])[ONE] == {ONE + TWO}
