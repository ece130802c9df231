"""What the log says of programs that are loaded and unloaded: who, which, and how it went."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from ofext.extension import Command, LoadFlag, ProgramLoad, ProgramLoaded, ProgramUnload
from oko.errors import OkoError
from oko.switch.logs import FIELDS

log = logging.getLogger("oko")

_Values = dict[str, int | str]


def audited(peer: str, command: Command, answers: Iterator[Command]) -> Iterator[Command]:
    """`answers`, the answers to a command of `peer`; what comes of a load or an unload is written into the log.

    The digest is that which the peer announced. It is the object's when the load succeeds: others are refused.
    """
    match command:
        case ProgramLoad():
            what = "verify" if command.flags & LoadFlag.VERIFY_ONLY else "load"
            values: _Values = {"program": command.program, "name": command.name, "sha256": command.digest.hex()}
            try:
                for answer in answers:
                    if isinstance(answer, ProgramLoaded):
                        values["name"] = answer.name
                        _say(logging.INFO, peer, what, values, "done")
                    yield answer
            except OkoError as error:
                _say(logging.WARNING, peer, what, values, str(error))
                raise
        case ProgramUnload():
            values = {"program": command.program}
            try:
                yield from answers
            except OkoError as error:
                _say(logging.WARNING, peer, "unload", values, str(error))
                raise
            _say(logging.INFO, peer, "unload", values, "done")
        case _:
            yield from answers


def _say(level: int, peer: str, what: str, values: _Values, result: str) -> None:
    said = ", ".join(f"{name} {value}" for name, value in values.items())
    fields = {"event": what, "peer": peer, **values, "result": result}
    log.log(level, "%s: %s: %s: %s", peer, what, said, result, extra={FIELDS: fields})
