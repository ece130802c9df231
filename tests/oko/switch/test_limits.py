from __future__ import annotations

from dataclasses import replace

import pytest

from oko.errors import LimitExceeded
from oko.kernel.cpus import possible_cpus
from oko.switch.limits import Limits, map_bytes
from tests.oko.conftest import Compile
from verifier.elf import load
from verifier.program import MapSpec, MapType


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param(MapSpec("a", MapType.HASH, 4, 9, 10), 10 * (8 + 16), id="hash"),
        pytest.param(MapSpec("a", MapType.ARRAY, 4, 8, 3), 3 * (8 + 8), id="array"),
        pytest.param(MapSpec("a", MapType.PERCPU_ARRAY, 4, 12, 2), 2 * (8 + 16 * possible_cpus()), id="per CPU"),
        pytest.param(MapSpec("a", MapType.RINGBUF, 0, 0, 1 << 16), 1 << 16, id="ring buffer"),
    ],
)
def test_memory(spec: MapSpec, expected: int) -> None:
    assert map_bytes([spec]) == expected
    assert map_bytes([spec, spec]) == 2 * expected


def test_limits(counting: Compile) -> None:
    program = load(counting())
    taken, maps = map_bytes(program.maps), len(program.maps)
    assert taken
    other = replace(program, name="other")
    Limits(programs=2, maps=maps, map_bytes=taken, all_map_bytes=2 * taken).require(program, [other])
    for limits, complaint in (
        (Limits(programs=1), "filter programs: 2 used, limit 1; unload one first, or let okod's"),
        (Limits(map_bytes=taken - 1), f"bytes of the maps of {program.name}: {taken} used, limit {taken - 1}; declare"),
        (Limits(all_map_bytes=2 * taken - 1), f"maps of all programs: {2 * taken} used, limit {2 * taken - 1}; unload"),
    ):
        with pytest.raises(LimitExceeded, match=complaint):
            limits.require(program, [other])
    with pytest.raises(LimitExceeded, match=r"maps of .*: 2 used, limit 1; declare fewer"):
        Limits(maps=1).require(replace(program, maps=program.maps[:1] * 2), [])
