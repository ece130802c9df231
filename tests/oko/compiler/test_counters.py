from __future__ import annotations

import pytest

from oko.compiler import counters
from oko.errors import LimitExceeded


@pytest.mark.parametrize(
    ("slots", "size"), [(0, 1024), (256, 1024), (257, 2048), (10_000, 65536), (65535, 262_144), (65536, 131_072)]
)
def test_counters_seldom_change_their_size(slots: int, size: int) -> None:
    assert counters.counters(slots).max_entries == size


@pytest.mark.parametrize(
    ("taken", "slot"),
    [(set(), 0), ({0, 1}, 2), ({1, 2}, 0), (set(range(63)), 63)],
    ids=["none", "first", "gap", "last"],
)
def test_the_lowest_slot_is_taken(taken: set[int], slot: int) -> None:
    assert counters.program_slot(taken) == slot


def test_one_program_too_many() -> None:
    with pytest.raises(LimitExceeded) as raised:
        counters.program_slot(set(range(64)))
    assert (raised.value.used, raised.value.limit) == (65, 64)
