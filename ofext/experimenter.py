"""What experimenters define, behind their id: messages and multipart bodies alike."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, Final

from .codec import Family, fault, malformed

_BAD_EXP_TYPE: Final = fault("bad-request/bad-exp-type")


class ExperimenterPart:
    """The experimenter, its type, and what they announce: a member of the experimenter's family, or `foreign` for
    everything else. Of the experimenter `strict`, a type that its family lacks is refused with
    bad-request/bad-exp-type."""

    extent: Final = "8 + n"
    _head: Final = struct.Struct(">II")

    def __init__(self, families: Mapping[int, Family], foreign: type[Any], *, strict: int) -> None:
        self._families = families
        self._strict = strict
        self._foreign = foreign

    def read(self, data: bytes, offset: int, end: int) -> tuple[Any, int]:
        start = offset + self._head.size
        if start > end:
            raise malformed(f"the experimenter header is cut off: {end - offset} bytes left of 8")
        experimenter, exp_type = self._head.unpack_from(data, offset)
        family = self._families.get(experimenter)
        part = family.parts.get(exp_type) if family else None
        if part is not None:
            return part.read(data, start, end)
        if family and experimenter == self._strict:
            raise malformed(f"experimenter {experimenter:#x} has no {family.noun} {exp_type}", _BAD_EXP_TYPE)
        return self._foreign(experimenter, exp_type, data[start:end]), end

    def write(self, value: Any) -> bytes:
        if isinstance(value, self._foreign):
            foreign: bytes = value.data
            return self._pack(value.experimenter, value.exp_type) + foreign
        for experimenter, family in self._families.items():
            if type(value) in family.numbers:
                number = family.number(value)
                return self._pack(experimenter, number) + family.parts[number].write(value)
        raise TypeError(f"{type(value).__name__} is of no experimenter")

    def _pack(self, experimenter: int, exp_type: int) -> bytes:
        try:
            return self._head.pack(experimenter, exp_type)
        except struct.error:
            raise malformed(f"experimenter {experimenter}, type {exp_type}: not 32 bits each") from None
