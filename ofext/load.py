"""A program's object file cut into ProgramLoad messages, and put together again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from oko.errors import ProtocolError

from .errors import EXPERIMENTER_ERROR, EXTENSION_BY_NAME
from .extension import ProgramLoad

CHUNK: Final = 60 * 1024
TOTAL_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of an object file that an assembler takes, unless told otherwise."""


class LoadError(ProtocolError):
    """A chunk that is refused. `name` is that of the extension's error: ``load-out-of-order``,
    ``load-digest-mismatch`` or ``limit-exceeded``."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message, error_type=EXPERIMENTER_ERROR, error_code=EXTENSION_BY_NAME[name].exp_type)
        self.name = name


@dataclass(frozen=True, slots=True)
class Load:
    """A program that has arrived whole. `flags`: `extension.LoadFlag`."""

    program: int
    name: str
    flags: int
    elf: bytes


def chunks(program: int, name: str, elf: bytes, flags: int = 0, size: int = CHUNK) -> Iterator[ProgramLoad]:
    """The messages that load `elf`, each with at most `size` bytes of it: at least one."""
    first = ProgramLoad(program, flags, len(elf), 0, hashlib.sha256(elf).digest(), name, elf[:size])
    yield first
    for offset in range(size, len(elf), size):
        yield replace(first, offset=offset, data=elf[offset : offset + size])


class LoadAssembler:
    """Puts the chunks of one connection together: one load at a time, in order. A chunk at offset 0 begins anew."""

    def __init__(self, limit: int = TOTAL_LIMIT) -> None:
        self._limit = limit
        self._first: ProgramLoad | None = None
        self._bytes = bytearray()

    def feed(self, chunk: ProgramLoad) -> Load | None:
        """The program, if this chunk completes it. Raises LoadError; the load is then given up."""
        try:
            return self._feed(chunk)
        except LoadError:
            self._give_up()
            raise

    def _feed(self, chunk: ProgramLoad) -> Load | None:
        if chunk.offset == 0:
            self._begin(chunk)
        self._check(chunk)
        self._bytes += chunk.data
        if len(self._bytes) < chunk.total:
            return None
        elf = bytes(self._bytes)
        self._give_up()
        if hashlib.sha256(elf).digest() != chunk.digest:
            raise LoadError(
                "load-digest-mismatch",
                f"program {chunk.program}: the {len(elf)} bytes do not have the digest announced: load it again",
            )
        return Load(chunk.program, chunk.name, chunk.flags, elf)

    def _begin(self, chunk: ProgramLoad) -> None:
        self._give_up()
        if chunk.total > self._limit:
            raise LoadError(
                "limit-exceeded", f"program {chunk.program}: an object of {chunk.total} bytes, limit {self._limit}"
            )
        self._first = chunk

    def _check(self, chunk: ProgramLoad) -> None:
        where = f"program {chunk.program}: chunk at offset {chunk.offset}"
        if self._first is None:
            raise LoadError("load-out-of-order", f"{where}, but no load is in progress: begin at offset 0")
        if replace(chunk, offset=0, data=b"") != replace(self._first, offset=0, data=b""):
            raise LoadError(
                "load-out-of-order",
                f"{where} does not belong to the load of program {self._first.program} in progress: begin at offset 0",
            )
        if chunk.offset != len(self._bytes):
            raise LoadError("load-out-of-order", f"{where}, expected offset {len(self._bytes)}: begin at offset 0")
        if chunk.offset + len(chunk.data) > chunk.total:
            raise LoadError("load-out-of-order", f"{where} goes beyond the {chunk.total} bytes announced")
        if not chunk.data and chunk.total:
            raise LoadError("load-out-of-order", f"{where} is empty: leave it out")

    def _give_up(self) -> None:
        self._first = None
        self._bytes = bytearray()
