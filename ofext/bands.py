"""The bands of a meter (OpenFlow 1.3.5, section 7.3.4.4). Those without a class here are kept as bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

from .codec import BAD_LEN, U8, U32, Elements, Family, Pad, Padding, Rest

BANDS: Final = Family("meter band")


@BANDS.member(1)
@dataclass(frozen=True, slots=True)
class DropBand:
    """Drop what is above `rate`, in kbit/s or packets/s, with bursts of `burst_size` kilobits or packets."""

    rate: U32
    burst_size: Annotated[U32, Pad(4)] = 0


@BANDS.member(2)
@dataclass(frozen=True, slots=True)
class DscpRemarkBand:
    """Raise the drop precedence of what is above `rate` by `prec_level`."""

    rate: U32
    burst_size: U32
    prec_level: Annotated[U8, Pad(3)]


@BANDS.member(0xFFFF)
@dataclass(frozen=True, slots=True)
class ExperimenterBand:
    """A band that `experimenter` defines. `data` is a multiple of 8 bytes."""

    rate: U32
    burst_size: U32
    experimenter: U32
    data: Annotated[bytes, Rest(8)] = b""


@dataclass(frozen=True, slots=True)
class UnknownBand:
    """A band that has no class here. `body` is what follows the length: 4 bytes, 12, 20, …"""

    type: int
    body: bytes


Band = DropBand | DscpRemarkBand | ExperimenterBand | UnknownBand
Bands = Annotated[tuple[Band, ...], Elements(BANDS, UnknownBand, padding=Padding.COUNTED, what=BAD_LEN)]
