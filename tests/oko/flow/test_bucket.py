"""The token bucket."""

from __future__ import annotations

import pytest

from oko.flow.bucket import TokenBucket
from oko.flow.meter import SECOND, Band, MeterSpec

PACKET = MeterSpec(1, (), packets=True).cost(1500)

# band, arrivals in ns, which of them pass
CASES: dict[str, tuple[Band, list[int], list[bool]]] = {
    "a full second's worth at first": (Band(2), [0, 0, 0], [True, True, False]),
    "refilled at its rate": (
        Band(2),
        [0, 0, SECOND // 2 - 1, SECOND // 2, SECOND // 2],
        [True, True, False, True, False],
    ),
    "never above its burst": (Band(5, 1), [0, 10 * SECOND, 10 * SECOND], [True, True, False]),
    "rate 0 with a burst": (Band(0, 1), [0, 10 * SECOND], [True, False]),
    "rate 0 without": (Band(0), [10 * SECOND], [False]),
    "time that goes back": (
        Band(1),
        [SECOND, 0, SECOND, 2 * SECOND - 1, 2 * SECOND],
        [True, False, False, False, True],
    ),
}


@pytest.mark.parametrize(("band", "arrivals", "passed"), CASES.values(), ids=CASES)
def test_take(band: Band, arrivals: list[int], passed: list[bool]) -> None:
    bucket = TokenBucket(band)
    assert [bucket.take(PACKET, now) for now in arrivals] == passed


def test_kilobits() -> None:
    """125 bytes are a kilobit: of 3 kbit/s three of them pass, and a third of a second later one more."""
    bucket, cost = TokenBucket(Band(3)), MeterSpec(1, (Band(3),)).cost(125)
    assert [bucket.take(cost, 0) for _ in range(4)] == [True] * 3 + [False]
    assert not bucket.take(cost, SECOND // 3)
    assert bucket.take(cost, SECOND // 3 + 1)
