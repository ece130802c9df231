"""Latencies from the histogram of ``sink.c``."""

from __future__ import annotations

import pytest

from perf.latency import BUCKETS, Latency, bound, latency


def bucket_of(delay: int) -> int:
    """As ``sink.c`` has it."""
    power = (delay | 1).bit_length() - 1
    return delay if power < 3 else (power - 2) * 8 + (delay >> power - 3 & 7)


@pytest.mark.parametrize("delay", [0, 1, 7, 8, 9, 15, 16, 17, 1_000, 123_456, 10**9, (1 << 63) + 5, (1 << 64) - 1])
def test_a_bucket_ends_at_most_an_eighth_behind_what_is_in_it(delay: int) -> None:
    bucket = bucket_of(delay)
    assert bucket < BUCKETS
    assert delay < bound(bucket) <= max(delay * 9 / 8 + 1, 1)
    assert bucket == 0 or bound(bucket - 1) <= delay


def test_quantiles_are_of_all_that_was_counted() -> None:
    counts = [0] * BUCKETS
    counts[bucket_of(1_000)], counts[bucket_of(100_000)], counts[bucket_of(10**7)] = 980, 15, 5
    assert latency(counts) == Latency(1.024, 106.496, 10_485.76)


def test_nothing_has_no_quantiles() -> None:
    assert latency([0] * BUCKETS) is None
