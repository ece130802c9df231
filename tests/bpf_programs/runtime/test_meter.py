"""Meters in C against token buckets in Python, in virtual time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oko.compiler.meter import METER_LIMIT, VALUE_SIZE, pack_meter, unpack_meter
from oko.flow.bucket import TokenBucket
from oko.flow.meter import BAND_LIMIT, SECOND, Band, MeterSpec
from tests.bpf_programs.runtime.linked import ONLY, LinkedFunction, build_runtime

pytestmark = pytest.mark.needs_bpf

LAST_SLOT = METER_LIMIT - 1
RATES = st.one_of(st.sampled_from((0, 1, 2, 1000, 2**32 - 1)), st.integers(0, 2**32 - 1))
BANDS = st.builds(Band, RATES, st.one_of(st.just(0), RATES))
METERS = st.builds(
    lambda bands, packets: MeterSpec(1, tuple(bands), packets), st.lists(BANDS, max_size=BAND_LIMIT), st.booleans()
)
STEPS = st.one_of(
    st.sampled_from((0, 1, SECOND // 1000, SECOND, -SECOND, 2**62)), st.integers(0, 10**6), st.integers(0, 10**10)
)
ARRIVALS = st.lists(st.tuples(STEPS, st.sampled_from((14, 60, 1500, 3500))), max_size=12)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("meter")
    build_runtime(directory, "meter")
    return directory


@pytest.fixture(scope="module")
def meter(directory: Path) -> Iterator[LinkedFunction]:
    with LinkedFunction(directory, "oko_meter") as function:
        yield function


def install(meter: LinkedFunction, spec: MeterSpec, slot: int = LAST_SLOT) -> None:
    meter.maps["meters"].update(slot.to_bytes(4, "little"), pack_meter(spec))


def counts(meter: LinkedFunction, slot: int = LAST_SLOT) -> tuple[int, int, tuple[tuple[int, int], ...]]:
    value = meter.maps["meters"].lookup(slot.to_bytes(4, "little"))
    assert value is not None
    found = unpack_meter(value)
    return found.packets, found.bytes, found.bands


def test_the_layout_is_that_of_the_object(meter: LinkedFunction) -> None:
    meters = meter.maps["meters"]
    assert (meters.value_size, meters.max_entries) == (VALUE_SIZE, METER_LIMIT)


@given(spec=METERS, arrivals=ARRIVALS)
def test_it_drops_what_the_reference_drops(
    meter: LinkedFunction, spec: MeterSpec, arrivals: list[tuple[int, int]]
) -> None:
    install(meter, spec)
    buckets = [TokenBucket(band) for band in spec.bands]
    dropped = [[0, 0] for _ in buckets]
    now = 10 * SECOND
    for step, size in arrivals:
        now = min(now + step, 2**64 - 1) if now + step >= 0 else 0
        exceeded = [index for index, bucket in enumerate(buckets) if not bucket.take(spec.cost(size), now)]
        if exceeded:
            highest = max(exceeded, key=lambda index: spec.bands[index].rate)
            dropped[highest][0] += 1
            dropped[highest][1] += size
        meter.now = now
        assert meter.call(bytes(size), {}, number=LAST_SLOT).retval == bool(exceeded)
    sizes = [size for _, size in arrivals]
    assert counts(meter) == (len(sizes), sum(sizes), tuple((packets, size) for packets, size in dropped))


def test_a_slot_that_does_not_exist_drops(meter: LinkedFunction) -> None:
    assert meter.call(bytes(60), {}, number=METER_LIMIT).retval == 1


def test_no_token_is_taken_twice_or_lost_between_processors(meter: LinkedFunction) -> None:
    """Many packets at once from every processor: exactly as many pass as there were tokens."""
    tokens, each = 30_000, 40_000
    install(meter, MeterSpec(1, (Band(0, tokens),), packets=True))
    processors = sorted(os.sched_getaffinity(0))
    meter.call(bytes(60), {}, number=LAST_SLOT)

    def run(processor: int) -> None:
        os.sched_setaffinity(0, {processor})  # of this thread
        meter.program.test_run(bytes(60), repeat=each)

    with ThreadPoolExecutor(len(processors)) as pool:
        list(pool.map(run, processors))
    packets, size, ((dropped, dropped_bytes),) = counts(meter)
    assert packets == each * len(processors) + 1
    assert size == packets * 60
    assert dropped == packets - tokens
    assert dropped_bytes == dropped * 60


def test_slots_do_not_share_tokens(meter: LinkedFunction) -> None:
    for slot in (0, 1):
        install(meter, MeterSpec(slot + 1, (Band(0, 1),), packets=True), slot)
    assert [meter.call(bytes(60), {}, number=slot).retval for slot in (0, 0, 1, 1)] == [0, 1, 0, 1]
    assert counts(meter, 0) == counts(meter, 1) == (2, 120, ((1, 60),))
    assert meter.maps["meters"].lookup(ONLY) is not None
