"""Bundles: messages that take effect together. OpenFlow 1.4 has them; OpenFlow 1.3 as the ONF's extension 230, in
messages of experimenter 0x4f4e4600."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Annotated, Final

from oko.errors import ProtocolError

from .codec import BAD_LEN, U16, U32, Elements, Family, Padding, malformed
from .errors import BUNDLE_BY_NAME, EXPERIMENTER_ERROR

ONF: Final = 0x4F4E4600
"""The experimenter id of the ONF's extensions to OpenFlow 1.3."""

BUNDLE_MESSAGES: Final = Family("bundle message")

_HEADER_SIZE: Final = 8


class BundleError(ProtocolError):
    """A bundle message that is refused. `name` is that of an error in `errors.BUNDLE_ERRORS`, such as
    ``bundle-failed/bad-id``; `answers.refusal` makes the ONF's experimenter error of it."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message, error_type=EXPERIMENTER_ERROR, error_code=BUNDLE_BY_NAME[name].exp_type)
        self.name = name


class BundleCommand(IntEnum):
    """What a BundleControl asks for, or says is done."""

    OPEN_REQUEST = 0
    OPEN_REPLY = 1
    CLOSE_REQUEST = 2
    CLOSE_REPLY = 3
    COMMIT_REQUEST = 4
    COMMIT_REPLY = 5
    DISCARD_REQUEST = 6
    DISCARD_REPLY = 7


class BundleFlag(IntFlag):
    """How a bundle takes effect."""

    ATOMIC = 1
    """No packet meets a part of it."""
    ORDERED = 2
    """In the order in which the messages were added."""


@dataclass(frozen=True, slots=True)
class BundleProperty:
    """A property of a bundle message. `body` is what follows the length, without padding."""

    type: int
    body: bytes


_PROPERTIES: Final = Elements(Family("bundle property"), BundleProperty, padding=Padding.BEHIND, what=BAD_LEN)


@BUNDLE_MESSAGES.member(2300)
@dataclass(frozen=True, slots=True)
class BundleControl:
    """Open, close, commit or discard a bundle, and the answers: `type` is a BundleCommand, `flags` of BundleFlag."""

    bundle_id: U32
    type: U16
    flags: U16 = 0
    properties: Annotated[tuple[BundleProperty, ...], _PROPERTIES] = ()


@dataclass(frozen=True, slots=True)
class BundleAdd:
    """Put a message into a bundle: `message` is all of it, with its header, whose transaction id must be that of this
    message."""

    bundle_id: int
    flags: int
    message: bytes
    properties: tuple[BundleProperty, ...] = ()


class _BundleAddPart:
    """The message stands as long as its header says. Properties, if there are any, begin at the next multiple of 8
    bytes."""

    extent: Final = "8 + n"
    _head: Final = struct.Struct(">I2xH")

    def read(self, data: bytes, offset: int, end: int) -> tuple[BundleAdd, int]:
        start = offset + self._head.size
        if start + _HEADER_SIZE > end:
            raise BundleError(
                "bundle-failed/msg-bad-len", f"{end - offset} bytes are no bundle message with a message in it"
            )
        bundle_id, flags = self._head.unpack_from(data, offset)
        length = int.from_bytes(data[start + 2 : start + 4], "big")
        stop = start + length
        if length < _HEADER_SIZE or stop > end:
            raise BundleError(
                "bundle-failed/msg-bad-len",
                f"bundle {bundle_id}: the message in it has length {length}, {end - start} bytes are left",
            )
        properties, reached = _PROPERTIES.read(data, min(end, stop + -length % 8), end)
        return BundleAdd(bundle_id, flags, data[start:stop], properties), reached

    def write(self, value: BundleAdd) -> bytes:
        length = len(value.message)
        if length < _HEADER_SIZE or int.from_bytes(value.message[2:4], "big") != length:
            raise BundleError(
                "bundle-failed/msg-bad-len",
                f"bundle {value.bundle_id}: the header of the message in it does not say its {length} bytes",
            )
        try:
            head = self._head.pack(value.bundle_id, value.flags)
        except struct.error as error:
            raise malformed(f"bundle {value.bundle_id}, flags {value.flags}: {error}") from None
        if not value.properties:
            return head + value.message
        return head + value.message + bytes(-length % 8) + _PROPERTIES.write(value.properties)


BUNDLE_MESSAGES.add(2301, _BundleAddPart(), BundleAdd)
