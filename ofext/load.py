"""A program's object file cut into ProgramLoad messages, and put together again."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from oko.errors import ProtocolError

from .errors import EXPERIMENTER_ERROR, EXTENSION_BY_NAME
from .extension import ProgramLoad

CHUNK: Final = 60 * 1024
TOTAL_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of an object file that an assembler takes, unless told otherwise."""
LOADS_LIMIT: Final = 4 * TOTAL_LIMIT
"""Bytes of the object files that the assemblers of one budget take at a time, unless told otherwise."""
IDLE_LIMIT: Final = 60.0
"""Seconds without a chunk after which a load is given up."""


class LoadError(ProtocolError):
    """A chunk that is refused. `name` is that of the extension's error: ``load-out-of-order``,
    ``load-digest-mismatch``, ``limit-exceeded`` or ``too-many-loads``."""

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


class LoadBudget:
    """What the loads in progress of all connections may come to: `limit` bytes, as their first chunks announce. One
    load alone may be larger. `clock` counts seconds."""

    def __init__(self, limit: int = LOADS_LIMIT, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._loads: dict[LoadAssembler, _Claim] = {}

    def claim(self, load: LoadAssembler, chunk: ProgramLoad) -> None:
        """Room for the load that the chunk begins. Raises LoadError."""
        taken = sum(claim.bytes for claim in self._loads.values())
        if self._loads and taken + chunk.total > self._limit:
            raise LoadError(
                "too-many-loads",
                f"program {chunk.program}: an object of {chunk.total} bytes while loads of {taken} bytes are in "
                f"progress, limit {self._limit}: load it when they have ended",
            )
        self._loads[load] = _Claim(chunk.total, self._clock())

    def renew(self, load: LoadAssembler) -> None:
        """The load goes on."""
        self._loads[load].renewed = self._clock()

    def give_back(self, load: LoadAssembler) -> None:
        """The load has ended, if there was one."""
        self._loads.pop(load, None)

    def expire(self) -> None:
        """Give up the loads that have stood still for `IDLE_LIMIT`."""
        latest = self._clock() - IDLE_LIMIT
        for load in [load for load, claim in self._loads.items() if claim.renewed < latest]:
            load.give_up()


@dataclass(slots=True)
class _Claim:
    """What a load takes of the budget, and when its last chunk has come."""

    bytes: int
    renewed: float


class LoadAssembler:
    """Puts the chunks of one connection together: one load at a time, in order. A chunk at offset 0 begins anew. Its
    `budget` is that of all connections."""

    def __init__(self, limit: int = TOTAL_LIMIT, budget: LoadBudget | None = None) -> None:
        self._limit = limit
        self._budget = LoadBudget() if budget is None else budget
        self._first: ProgramLoad | None = None
        self._bytes = bytearray()

    def give_up(self) -> None:
        """Forget the load in progress, if there is one."""
        self._budget.give_back(self)
        self._first = None
        self._bytes = bytearray()

    def feed(self, chunk: ProgramLoad) -> Load | None:
        """The program, if this chunk completes it. Raises LoadError; the load is then given up."""
        self._budget.expire()
        try:
            return self._feed(chunk)
        except LoadError:
            self.give_up()
            raise

    def _feed(self, chunk: ProgramLoad) -> Load | None:
        if chunk.offset == 0:
            self._begin(chunk)
        self._check(chunk)
        self._budget.renew(self)
        self._bytes += chunk.data
        if len(self._bytes) < chunk.total:
            return None
        elf = bytes(self._bytes)
        self.give_up()
        if hashlib.sha256(elf).digest() != chunk.digest:
            raise LoadError(
                "load-digest-mismatch",
                f"program {chunk.program}: the {len(elf)} bytes do not have the digest announced: load it again",
            )
        return Load(chunk.program, chunk.name, chunk.flags, elf)

    def _begin(self, chunk: ProgramLoad) -> None:
        self.give_up()
        if chunk.total > self._limit:
            raise LoadError(
                "limit-exceeded", f"program {chunk.program}: an object of {chunk.total} bytes, limit {self._limit}"
            )
        self._budget.claim(self, chunk)
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
