"""What an earlier okod has pinned: whether it can be used again."""

from __future__ import annotations

import logging
from dataclasses import replace
from enum import Enum
from pathlib import Path

from oko.errors import KernelError
from oko.kernel.maps import Map
from oko.kernel.program import LoadedProgram
from verifier.program import MapSpec

log = logging.getLogger("oko")


class Adoption(Enum):
    """What becomes of the pins that a bridge has when its okod starts."""

    NOTHING = "nothing"
    """There must be none."""
    EVERYTHING = "everything"
    """What fits is used again: it belongs to the tables that are restored."""
    PIPELINE = "pipeline"
    """Nobody knows of which tables the pipeline is. It goes on until there is another; what counts for rules, meters
    and programs begins anew."""


def reopen_map(pin: Path, spec: MapSpec, *, resizable: bool = False) -> tuple[Map, MapSpec] | None:
    """The map that is pinned there, if it is as `spec` says, and its spec: a `resizable` one may have another number of
    entries. None, and a line in the log, if it is not; None if there is none. Raises KernelError."""
    if not pin.exists():
        return None
    found = Map.open(pin)
    as_it_is = replace(spec, max_entries=found.max_entries) if resizable else spec
    shape = (found.type, found.key_size, found.value_size, found.max_entries, found.flags)
    if shape == (as_it_is.type, as_it_is.key_size, as_it_is.value_size, as_it_is.max_entries, as_it_is.flags):
        return found, as_it_is
    found.close()
    log.warning("%s: the pinned map has another shape than this Oko's: it begins anew", pin)
    return None


def reopen_program(pin: Path, like: LoadedProgram) -> LoadedProgram | None:
    """The program that is pinned there, if it has the instructions of `like`; None if it has others or there is none.
    Raises KernelError."""
    if not pin.exists():
        return None
    found = LoadedProgram.open(pin)
    if found.info().tag == like.info().tag:
        return found
    found.close()
    return None


def remove_strangers(directory: Path, known: set[Path]) -> None:
    """Remove the pins below `directory` that are none of `known`: what an okod was about to do when it was killed.
    Raises KernelError."""
    for path in sorted(directory.rglob("*")):
        if path not in known and not path.is_dir():
            try:
                path.unlink()
            except OSError as error:
                raise KernelError(f"removing {path}: {error.strerror}", errno=error.errno or 0) from None
