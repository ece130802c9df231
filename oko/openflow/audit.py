"""`Audit`: what the log says of what a peer asks for: who, which program, and how it went.

OpenFlow's errors are numbers, so of a refused flow_mod it says what the peer is not told: why.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Final

from ofext.extension import (
    Command,
    EventSubscribe,
    LoadFlag,
    MapDelete,
    MapDumpRequest,
    MapLookupRequest,
    MapUpdate,
    ProgramLoad,
    ProgramLoaded,
    ProgramUnload,
)
from oko.errors import OkoError
from oko.flow.change import Change
from oko.openflow.rights import Asked

log = logging.getLogger("oko")

FIELDS: Final = "fields"
"""The attribute of a record with its values for machines: ``log.info(…, extra={FIELDS: {"program": 1}})``."""

SHOWN: Final = 10
"""Refusals of one peer that are shown in a `PERIOD`; the others are counted."""
PERIOD: Final = 60.0
"""Seconds."""

_Values = dict[str, int | str]


class Audit:
    """Of one peer. `clock` counts seconds."""

    def __init__(self, peer: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._peer = peer
        self._clock = clock
        self._period_ends = 0.0
        self._shown = 0
        self._hidden = 0

    def audited(self, command: Command, answers: Iterator[Command]) -> Iterator[Command]:
        """`answers`, the answers to a command; what comes of a load or an unload is written into the log.

        The digest is that which the peer announced. It is the object's when the load succeeds: others are refused.
        """
        if not isinstance(command, ProgramLoad | ProgramUnload):
            yield from answers
            return
        what, values = _described(command)
        try:
            for answer in answers:
                if isinstance(answer, ProgramLoaded):
                    self._say(logging.INFO, what, values | {"name": answer.name}, "done")
                yield answer
        except OkoError as error:
            self.refused(command, error)
            raise
        if isinstance(command, ProgramUnload):
            self._say(logging.INFO, what, values, "done")

    def refused(self, asked: Asked | Change, error: OkoError) -> None:
        """The peer was refused what it asked for."""
        now = self._clock()
        if now >= self._period_ends:
            self.close()
            self._period_ends = now + PERIOD
            self._shown = 0
        if self._shown < SHOWN:
            self._shown += 1
            self._say(logging.WARNING, *_described(asked), str(error))
        else:
            self._hidden += 1

    def close(self) -> None:
        """Say how many refusals were not shown, if any were not. Closing twice is harmless."""
        if self._hidden:
            log.warning("%s: %d more refusals are not shown", self._peer, self._hidden)
            self._hidden = 0

    def _say(self, level: int, what: str, values: _Values, result: str) -> None:
        said = "".join(f"{name} {value}, " for name, value in values.items()).removesuffix(", ")
        fields = {"event": what, "peer": self._peer, **values, "result": result}
        log.log(level, "%s", ": ".join(filter(None, (self._peer, what, said, result))), extra={FIELDS: fields})


def _described(asked: Asked | Change) -> tuple[str, _Values]:
    """What a peer asks for, and of which program."""
    match asked:
        case ProgramLoad():
            what = "verify" if asked.flags & LoadFlag.VERIFY_ONLY else "load"
            return what, {"program": asked.program, "name": asked.name, "sha256": asked.digest.hex()}
        case ProgramUnload():
            return "unload", {"program": asked.program}
        case MapUpdate() | MapDelete() | MapDumpRequest() | MapLookupRequest() | EventSubscribe():
            return type(asked).__name__, {"program": asked.program, "map": asked.map}
        case _:
            return type(asked).__name__, {}
