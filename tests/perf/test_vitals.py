"""What a process holds, and whether it grows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from oko.errors import KernelError
from oko.kernel.maps import Map
from perf.vitals import MEMORY, KernelObjects, Measure, Trend, Vitals, files, process
from verifier.program import MapType

BOUND = MEMORY.bound


@pytest.mark.parametrize(
    ("samples", "early", "late", "flat"),
    [
        pytest.param([5] * 8, 5, 5, True, id="the same all the time"),
        pytest.param([9, 9, 1, 1, 9, 9, 1, 1], 1, 1, True, id="up and down"),
        pytest.param([0, 0, 7, 7, 7, 7, BOUND + 7, BOUND + 7], 7, BOUND + 7, True, id="as much as may be"),
        pytest.param([0, 0, 7, 7, 7, 7, BOUND + 8, BOUND + 8], 7, BOUND + 8, False, id="more than may be"),
        pytest.param([*[3 * BOUND] * 2, 0, 0, *[3 * BOUND] * 2, 0, 0], 0, 0, True, id="high for a while"),
        pytest.param([0, 0, 0, 9 * BOUND, 5, 5, 5, 5, 5, 5, 5, 9 * BOUND], 5, 5, True, id="a peak in a quarter"),
    ],
)
def test_trend(samples: Sequence[int], early: float, late: float, flat: bool) -> None:
    vitals = Vitals()
    for sample in samples:
        vitals.add({MEMORY.name: sample})
    (trend,) = vitals.trends()
    assert (trend.early, trend.late, trend.highest, trend.is_flat) == (early, late, max(samples), flat)


def test_what_was_not_seen_often_enough_has_no_trend() -> None:
    vitals = Vitals()
    for _ in range(3):
        vitals.add({MEMORY.name: 1})
    assert vitals.trends() == []


def test_a_trend_in_words() -> None:
    measure = Measure("water", "litres", 10)
    assert str(Trend(measure, 9, 1000, 1010.4, 2000)) == (
        "water: 1,000 litres in the second quarter, 1,010 in the last, at most 2,000: grows by more than 10 litres"
    )
    assert str(Trend(measure, 9, 10, 5, 12)).endswith("5 in the last, at most 12: flat")


def test_process() -> None:
    found = process(os.getpid())
    assert found["memory"] > 1000
    with Path("/dev/null").open(), Path("/dev/null").open():
        assert process(os.getpid())["descriptors"] >= found["descriptors"] + 2
    assert found["threads"] >= 1


def test_a_process_that_is_gone() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    with pytest.raises(KernelError, match=f"process {ended.pid}: No such"):
        process(ended.pid)


def test_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(bytes(100))
    (tmp_path / "c").write_bytes(bytes(11))
    assert files(tmp_path) == (2, 111)
    assert files(tmp_path / "nothing") == (0, 0)


@pytest.mark.needs_bpf
def test_objects_in_the_kernel_are_counted_until_they_are_gone() -> None:
    objects = KernelObjects()
    before = objects.look(os.getpid())["maps in the kernel"]
    with Map.create("one", MapType.ARRAY, 4, 4, 1) as one:
        assert objects.look(os.getpid())["maps in the kernel"] == before + 1
        descriptor = os.dup(one.fd)
    # Held by another descriptor, and then by none.
    assert objects.count()["maps in the kernel"] == before + 1
    os.close(descriptor)
    while objects.count()["maps in the kernel"] != before:
        pass
