"""Match fields as raw TLVs (OpenFlow 1.3.5, section 7.2.3). What a field means is declared elsewhere."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Annotated, Final, NamedTuple

from oko.errors import LimitExceeded

from .codec import Fault, fault, malformed

EXPERIMENTER_CLASS: Final = 0xFFFF
"""OFPXMC_EXPERIMENTER: the payload begins with the 32-bit id of the experimenter."""

_BAD_TYPE: Final = fault("bad-match/bad-type")
_BAD_LEN: Final = fault("bad-match/bad-len")
_MATCH: Final = struct.Struct(">HH")
_OXM: Final = struct.Struct(">HBB")
_OXM_MATCH_TYPE: Final = 1


class Oxm(NamedTuple):
    """One field: `value` and `mask` as they are on the wire, network order, equally long.

    `oxm_class` has 16 bits, `field` 7. `experimenter` is the 32-bit id, given exactly if the class is 0xffff.
    (A named tuple, as making one takes a third of the time: a match has many.)
    """

    oxm_class: int
    field: int
    value: bytes
    mask: bytes | None = None
    experimenter: int | None = None


def read_oxm(data: bytes, offset: int, end: int, what: Fault = _BAD_LEN) -> tuple[Oxm, int]:
    """The TLV at `offset` and the offset behind it. Raises ProtocolError with `what`."""
    start = offset + 4
    if start > end:
        raise malformed("the header of a match field is cut off", what)
    oxm_class, field, length = _OXM.unpack_from(data, offset)
    stop = start + length
    if stop > end:
        raise malformed(f"match field {oxm_class:#06x}:{field >> 1} has {length} bytes, {end - start} left", what)
    experimenter = None
    if oxm_class == EXPERIMENTER_CLASS:
        if length < 4:
            raise malformed(f"match field {oxm_class:#06x}:{field >> 1} has no room for its experimenter", what)
        experimenter = int.from_bytes(data[start : start + 4], "big")
        start += 4
    if not field & 1:
        return Oxm(oxm_class, field >> 1, data[start:stop], None, experimenter), stop
    half, odd = divmod(stop - start, 2)
    if odd:
        raise malformed(f"match field {oxm_class:#06x}:{field >> 1}: value and mask differ in length", what)
    middle = start + half
    return Oxm(oxm_class, field >> 1, data[start:middle], data[middle:stop], experimenter), stop


def write_oxm(oxm: Oxm) -> bytes:
    """The TLV. Raises ProtocolError for parts that contradict each other, LimitExceeded for more than 255 bytes."""
    mask = oxm.mask
    if (oxm.experimenter is None) is (oxm.oxm_class == EXPERIMENTER_CLASS):
        raise malformed(f"{oxm}: class 0xffff, and only it, goes with an experimenter", _BAD_LEN)
    if mask is not None and len(mask) != len(oxm.value):
        raise malformed(f"{oxm}: value and mask differ in length", _BAD_LEN)
    try:
        experimenter = b"" if oxm.experimenter is None else oxm.experimenter.to_bytes(4, "big")
        payload = experimenter + oxm.value + (mask or b"")
        if len(payload) > 0xFF:
            raise LimitExceeded("bytes of a match field", len(payload), 0xFF)
        return _OXM.pack(oxm.oxm_class, oxm.field << 1 | (mask is not None), len(payload)) + payload
    except (struct.error, OverflowError):
        raise malformed(f"{oxm}: class, field or experimenter is out of range", _BAD_LEN) from None


class OxmPart:
    """One field. `what` answers one that cannot be read."""

    extent: Final = "oxm"

    def __init__(self, what: Fault = _BAD_LEN) -> None:
        self._what = what

    def read(self, data: bytes, offset: int, end: int) -> tuple[Oxm, int]:
        return read_oxm(data, offset, end, self._what)

    def write(self, value: Oxm) -> bytes:
        return write_oxm(value)


@dataclass(frozen=True, slots=True)
class OxmId:
    """The header of a field, as table features list it. `length` counts the payload: value, mask, experimenter."""

    oxm_class: int
    field: int
    has_mask: bool
    length: int
    experimenter: int | None = None


class OxmIdPart:
    """The header of a field, with its experimenter if its class is 0xffff."""

    extent: Final = "4"

    def __init__(self, what: Fault) -> None:
        self._what = what

    def read(self, data: bytes, offset: int, end: int) -> tuple[OxmId, int]:
        stop = offset + 4
        if stop > end:
            raise malformed("the id of a match field is cut off", self._what)
        oxm_class, field, length = _OXM.unpack_from(data, offset)
        if oxm_class != EXPERIMENTER_CLASS:
            return OxmId(oxm_class, field >> 1, bool(field & 1), length), stop
        if stop + 4 > end:
            raise malformed(f"the id of match field {oxm_class:#06x}:{field >> 1} lacks its experimenter", self._what)
        experimenter = int.from_bytes(data[stop : stop + 4], "big")
        return OxmId(oxm_class, field >> 1, bool(field & 1), length, experimenter), stop + 4

    def write(self, value: OxmId) -> bytes:
        if (value.experimenter is None) is (value.oxm_class == EXPERIMENTER_CLASS):
            raise malformed(f"{value}: class 0xffff, and only it, goes with an experimenter", self._what)
        try:
            head = _OXM.pack(value.oxm_class, value.field << 1 | value.has_mask, value.length)
            return head if value.experimenter is None else head + value.experimenter.to_bytes(4, "big")
        except (struct.error, OverflowError):
            raise malformed(f"{value}: a number is out of range", self._what) from None


class MatchPart:
    """`struct ofp_match`: a tuple of fields, padded to 8 bytes. Its length does not count the padding."""

    extent: Final = "match"

    def read(self, data: bytes, offset: int, end: int) -> tuple[tuple[Oxm, ...], int]:
        if end - offset < 8:
            raise malformed(f"the match is cut off: {end - offset} bytes left of 8", _BAD_LEN)
        kind, length = _MATCH.unpack_from(data, offset)
        if kind != _OXM_MATCH_TYPE:
            raise malformed(f"match type {kind}: only OXM (1) is read", _BAD_TYPE)
        stop = offset + length
        behind = stop + (-length % 8)
        if length < 4 or behind > end:
            raise malformed(f"the match has length {length}, {end - offset} bytes left", _BAD_LEN)
        fields = []
        offset += 4
        while offset < stop:
            oxm, offset = read_oxm(data, offset, stop)
            fields.append(oxm)
        return tuple(fields), behind

    def write(self, value: tuple[Oxm, ...]) -> bytes:
        fields = b"".join([write_oxm(oxm) for oxm in value])
        length = 4 + len(fields)
        if length > 0xFFFF:
            raise LimitExceeded("bytes of a match", length, 0xFFFF)
        return _MATCH.pack(_OXM_MATCH_TYPE, length) + fields + bytes(-length % 8)


Match = Annotated[tuple[Oxm, ...], MatchPart()]
