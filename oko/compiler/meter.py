"""The value of the array `meters`, `struct oko_meter` of bpf_programs/runtime/meter.c: index, a meter's slot."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from oko.flow.meter import BAND_LIMIT, Band, MeterSpec

METER_LIMIT: Final = 1024
"""Meters of a bridge: the entries of the array."""

_METER: Final = struct.Struct("<IIQQQQQ")
"""The kernel's lock, the number of bands, the time of the last packet (ns), what a packet and what each of its bytes
costs; packets and bytes that came in. Host order."""
_BAND: Final = struct.Struct("<QQQQQQ")
"""Rate, capacity, the ns in which it fills, tokens; packets and bytes that it dropped."""
VALUE_SIZE: Final = _METER.size + BAND_LIMIT * _BAND.size

_NEVER: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class MeterCounts:
    """What came in, and by band what it dropped. Bytes are of whole frames."""

    packets: int
    bytes: int
    bands: tuple[tuple[int, int], ...]


def pack_meter(spec: MeterSpec) -> bytes:
    """A meter with full buckets that has seen no packet yet."""
    each, byte = spec.cost(0), spec.cost(1) - spec.cost(0)
    meter = _METER.pack(0, len(spec.bands), 0, each, byte, 0, 0)
    return (meter + b"".join(map(_pack_band, spec.bands))).ljust(VALUE_SIZE, b"\0")


def unpack_meter(value: bytes) -> MeterCounts:
    """The counters in a value of the array."""
    _, count, _, _, _, packets, size = _METER.unpack_from(value)
    bands = (_BAND.unpack_from(value, _METER.size + _BAND.size * number) for number in range(count))
    return MeterCounts(packets, size, tuple((dropped, dropped_bytes) for *_, dropped, dropped_bytes in bands))


def _pack_band(band: Band) -> bytes:
    fill = -(-band.capacity // band.rate) if band.rate else _NEVER
    return _BAND.pack(band.rate, band.capacity, fill, band.capacity, 0, 0)
