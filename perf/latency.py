"""`Latency`: how long packets took, from a histogram with eight buckets from each power of two to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

BUCKETS: Final = 62 * 8
_PARTS: Final = 8
_QUANTILES: Final = (0.5, 0.99, 0.999)


class Latency(NamedTuple):
    """Quantiles in microseconds: the upper ends of the buckets of ``sink.c`` that they fall into, at most an eighth
    more than they are."""

    p50: float
    p99: float
    p999: float


def bound(bucket: int) -> int:
    """The ns that the bucket of ``sink.c`` with this number ends before."""
    if bucket < _PARTS:
        return bucket + 1
    power, part = divmod(bucket, _PARTS)
    return _PARTS + part + 1 << power - 1


def latency(counts: Sequence[int]) -> Latency | None:
    """The quantiles of a histogram, None if nothing is in it."""
    total = sum(counts)
    if not total:
        return None
    found = []
    for quantile in _QUANTILES:
        seen = 0
        for bucket, number in enumerate(counts):
            seen += number
            if seen >= quantile * total:
                found.append(bound(bucket) / 1e3)
                break
    return Latency(*found)
