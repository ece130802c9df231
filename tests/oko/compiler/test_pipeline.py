"""The pipeline in the kernel decides as the reference switch does, on tables and frames that are made to be hard."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from oko.compiler.counters import COUNTER
from oko.compiler.plan import plan
from oko.flow.drop import Drop
from oko.flow.tables import Tables
from oko.kernel.maps import Map
from oko.replay.engine import SHORTEST, Decided, KernelEngine, ReferenceEngine, usual
from tests.oko.compiler.objects import filter_program, runtime
from tests.oko.compiler.strategies import tables, written
from tests.oko.flow.strategies import PORTS, frames
from verifier.program import Program

pytestmark = pytest.mark.needs_bpf

EXAMPLES = int(os.environ.get("OKO_EXAMPLES", "150"))
"""Tables per test, with up to 32 frames each; set higher for a long search."""

FILTERS = {1: "every_second", 2: "per_source", 7: "odd_port", 40: "lottery", 41: "lottery", 65535: "spaced"}


def contents(found: Map) -> dict[bytes, bytes]:
    """A kernel map; of a per-CPU map, the values of the CPU that did all the work."""
    if not found.per_cpu:
        return dict(found.items())
    return {key: max(values, key=any) for key, values in found.items_percpu()}


def run_both(
    table: Tables, programs: Mapping[int, Program], packets: Sequence[tuple[bytes, int, int]]
) -> list[Decided]:
    """What was decided on (frame, in_port, now in ns), the same both ways, as is everything that was counted."""
    ports = usual(PORTS)
    reference = ReferenceEngine(table, programs, ports, runtime())
    drops: Counter[Drop] = Counter()
    decisions = []
    with KernelEngine(table, programs, ports, runtime()) as kernel:
        for frame, in_port, now in packets:
            wanted = reference.decide(frame, in_port, now)
            assert kernel.decide(frame, in_port, now) == wanted
            decisions.append(wanted)
            if wanted.drop is not None:
                drops[wanted.drop] += 1
        for program in programs:
            assert kernel.program_counts(program) == reference.program_counts(program)
        for name, simulated in reference.maps.items():
            assert contents(kernel.maps[name]) == dict(simulated.items()), name
        if "counters" in kernel.maps:
            slots = range(table.slots)
            assert [kernel.counts(slot) for slot in slots] == [reference.counts(slot) for slot in slots]
        counted = contents(kernel.maps["drops"])
        assert [COUNTER.unpack(counted[drop.to_bytes(4, "little")])[0] for drop in Drop] == [drops[d] for d in Drop]
    return decisions


def packets() -> st.SearchStrategy[list[tuple[bytes, int, int]]]:
    """Frames with their ports and times."""
    usable = frames().filter(lambda frame: len(frame) >= SHORTEST)
    step = st.sampled_from((0, 1, 50, 150))
    return st.lists(st.tuples(usable, st.sampled_from(PORTS), step), min_size=8, max_size=32).map(_timed)


def _timed(drawn: list[tuple[bytes, int, int]]) -> list[tuple[bytes, int, int]]:
    now = 0
    timed = []
    for frame, in_port, step in drawn:
        now += step
        timed.append((frame, in_port, now))
    return timed


@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_decides_as_the_reference(data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.sampled_from(tuple(FILTERS)), max_size=4, unique=True))
    programs = {number: filter_program(FILTERS[number]) for number in ids}
    table = data.draw(tables(ids))
    planned = plan(table.ranked(), runtime().layout.key)
    event(f"a hash: {any(segment.hashed for segment in planned.segments)}")
    asked = [segment.program for segment in planned.segments if segment.program is not None]
    event(f"a memo: {len(set(asked)) < len(asked)}")
    run_both(table, programs, data.draw(packets()))


ANY = bytes.fromhex("0200000000010200000000020806") + bytes(46)


def test_a_program_runs_once_however_many_segments_name_it() -> None:
    table = written(
        "priority=9,filter_prog=1,actions=output:2",
        "priority=8,filter_prog=7,actions=output:3",
        "priority=7,filter_prog=1,in_port=2,actions=drop",
        "priority=6,filter_prog=7,in_port=2,actions=drop",
        "priority=5,filter_prog=1,in_port=2,actions=output:1",
        "priority=0,actions=output:2",
    )
    programs = {number: filter_program(FILTERS[number]) for number in (1, 7)}
    decisions = run_both(table, programs, [(ANY, 2, now) for now in range(6)])
    assert decisions == [Decided(0, drop=Drop.TO_INGRESS), Decided(5, drop=Drop.TO_INGRESS)] * 3


def test_a_program_counts_per_cpu_on_one_cpu_only() -> None:
    """Whoever replays may be moved to another CPU between two packets."""
    allowed = os.sched_getaffinity(0)
    with KernelEngine(
        written("filter_prog=5,actions=drop"), {5: filter_program("spaced")}, usual(PORTS), runtime()
    ) as kernel:
        assert len(os.sched_getaffinity(0)) == 1
        for now in range(100):
            kernel.decide(ANY, 1, now)
        clocks = [values for _, values in kernel.maps["5.clocks"].items_percpu()]
        assert [sum(map(any, values)) for values in clocks] == [1]
    assert os.sched_getaffinity(0) == allowed


def test_a_hash_and_a_compare_of_one_priority() -> None:
    """The older rule wins, wherever it stands."""
    hashed = [f"priority=5,eth_src=02:00:00:00:00:{number:02x},actions=output:1" for number in range(20)]
    compared = "priority=5,in_port=3,actions=output:2"
    for rules, port in (([*hashed, compared], 1), ([compared, *hashed], 2)):
        (decided,) = run_both(written(*rules), {}, [(ANY, 3, 0)])
        assert [number for number, _ in decided.sent] == [port]


def test_hashes_are_searched_until_nothing_better_can_come() -> None:
    """A later hash may hold an older rule of the priority that an earlier one found."""
    by_source = [f"priority=5,eth_src=02:00:00:00:00:{number:02x},actions=output:1" for number in range(20)]
    by_target = [f"priority=5,eth_dst=02:00:00:00:00:{number:02x},actions=output:2" for number in range(20)]
    top = "priority=9,eth_dst=02:00:00:00:00:99,actions=drop"
    for rules, port in ((by_source + by_target, 1), (by_target + by_source, 2)):
        for table in (written(*rules), written(*rules, top)):
            (decided,) = run_both(table, {}, [(ANY, 3, 0)])
            assert [number for number, _ in decided.sent] == [port]
