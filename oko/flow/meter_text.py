"""Meters as text, both ways, as ovs-ofctl's add-meter reads them.

meter=1,pktps,burst,bands=type=drop,rate=100,burst_size=10
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

from oko.errors import BadMeter
from oko.flow.meter import Band, MeterSpec
from oko.flow.validity import check_meter
from oko.flow.words import SEPARATORS, Word, advice, read_number, read_words

_BANDS: Final = re.compile(rf"(?:^|[{SEPARATORS}])bands?[=:]")
_FLAGS: Final = ("kbps", "pktps", "burst", "stats")
"""Words for OFPMF_* (OpenFlow 1.3.5, 7.3.4.4)."""
_KEYS: Final = ("meter", *_FLAGS, "bands")
_BAND_KEYS: Final = {"rate": "bad-rate", "burst_size": "bad-burst"}
"""What a band has, with the error of a value that is none."""


def parse_meter(text: str) -> MeterSpec:
    """The meter that `text` describes. Raises BadMeter."""
    head, *behind = _BANDS.split(text, maxsplit=1)
    number: int | None = None
    flags: set[str] = set()
    for key, value in read_words(head, BadMeter):
        if key in flags or (key == "meter" and number is not None):
            raise BadMeter(f"{key} is given twice: give it once", reason="invalid-meter")
        if key == "meter":
            number = read_number(key, value or "", 32, BadMeter, "invalid-meter")
        elif key in _FLAGS and value is None:
            flags.add(key)
        else:
            hint = advice(key, _KEYS, f"use {', '.join(_KEYS)}")
            raise BadMeter(f"unknown word {key!r} of a meter: {hint}", reason="bad-flags")
    if number is None:
        raise BadMeter("a meter needs meter=…", reason="invalid-meter")
    if ("kbps" in flags) == ("pktps" in flags):
        raise BadMeter("a meter counts kilobits or packets: give kbps or pktps", reason="bad-flags")
    keys = ("rate", "burst_size") if "burst" in flags else ("rate",)
    bands = tuple(_read_band(words, keys) for words in _split_bands(read_words("".join(behind), BadMeter)))
    if not bands:
        raise BadMeter("a meter needs bands=type=drop,rate=…", reason="bad-band")
    spec = MeterSpec(number, bands, packets="pktps" in flags, stats="stats" in flags)
    check_meter(spec)
    return spec


def print_meter(spec: MeterSpec) -> str:
    """The meter in one line. `parse_meter` reads it back as an equal meter, if it has bands."""
    words = [f"meter={spec.number}", "pktps" if spec.packets else "kbps"]
    bursts = any(band.burst for band in spec.bands)
    words += ["burst"] if bursts else []
    words += ["stats"] if spec.stats else []
    bands = ",".join(
        f"type=drop,rate={band.rate}" + (f",burst_size={band.burst}" if bursts else "") for band in spec.bands
    )
    return ",".join((*words, f"bands={bands}"))


def _split_bands(words: Iterator[Word]) -> list[list[Word]]:
    """Each band begins with its type."""
    bands: list[list[Word]] = []
    for word in words:
        if word[0] == "type":
            bands.append([])
        if not bands:
            raise BadMeter(f"{word[0]} stands before a band: begin it with type=drop", reason="bad-band")
        bands[-1].append(word)
    return bands


def _read_band(words: list[Word], keys: Collection[str]) -> Band:
    """The band of these words, which must have these keys, and has no others."""
    (_, type_), *options = words
    if type_ != "drop":
        raise BadMeter(f"bands of type {type_} are not supported: use type=drop", reason="bad-band")
    values: dict[str, int] = {}
    for key, value in options:
        if key not in _BAND_KEYS:
            hint = advice(key, _BAND_KEYS, f"use {', '.join(_BAND_KEYS)}")
            raise BadMeter(f"unknown word {key!r} of a band: {hint}", reason="bad-band")
        if key not in keys:
            raise BadMeter(f"{key} needs the word burst before the bands", reason="bad-flags")
        if key in values:
            raise BadMeter(f"{key} is given twice in a band: give it once", reason="bad-band")
        values[key] = read_number(key, value or "", 32, BadMeter, _BAND_KEYS[key])
    for key in keys:
        if key not in values:
            raise BadMeter(f"a band of this meter needs {key}=…", reason="bad-band")
    return Band(values["rate"], values.get("burst_size", 0))
