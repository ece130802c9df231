"""Meters (OpenFlow 1.3.5, 5.7), with drop bands only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

BAND_LIMIT: Final = 4
"""Bands of one meter."""

SECOND: Final = 10**9
"""A token bucket counts in billionths of a packet, or of a kilobit: then `rate` is what it gains in each ns."""


@dataclass(frozen=True, slots=True)
class Band:
    """Drops what is above `rate`: kbit/s or packets/s. Its token bucket holds `burst` kilobits or packets; 0 stands
    for what flows in one second."""

    rate: int
    burst: int = 0

    @property
    def capacity(self) -> int:
        return (self.burst or self.rate) * SECOND


@dataclass(frozen=True, slots=True)
class MeterSpec:
    """A meter as somebody wrote it. `packets` means bands in packets, else in kilobits. `stats` says that statistics
    were asked for; every meter has them."""

    number: int
    bands: tuple[Band, ...]
    packets: bool = False
    stats: bool = False

    def cost(self, size: int) -> int:
        """What a frame of `size` bytes takes from a bucket."""
        return SECOND if self.packets else size * 8 * (SECOND // 1000)


@dataclass(frozen=True, slots=True)
class MeterEntry:
    """A meter in the tables. `slot` is its index in the array `meters`. `installed` is in ns, monotonic."""

    spec: MeterSpec
    slot: int
    installed: int = 0


class MeterCommand(Enum):
    """What a meter_mod does, by the number on the wire."""

    ADD = 0
    MODIFY = 1
    DELETE = 2


@dataclass(frozen=True, slots=True)
class MeterMod:
    """One change. A delete names a meter in `spec.number`, or all of them with `all_meters`; the rules that use a
    deleted meter go with it. A modify starts with full buckets."""

    command: MeterCommand
    spec: MeterSpec
    all_meters: bool = False
