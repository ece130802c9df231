"""`detach`: gives Open vSwitch back what the record says was changed, whether okod and Open vSwitch run or not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from oko.attached.continuation import DELETE_ALL
from oko.attached.endpoint import NameTaken, TargetTaken, answers, give_back_name, give_back_target
from oko.attached.management import Management
from oko.attached.near_end import NearEndChange, undo
from oko.attached.record import Record
from oko.errors import AttachError, OkoError
from oko.switch import store
from oko.switch.datapath import take_down
from oko.switch.removal import end_okod
from oko.switch.rundir import ATTACHED, RunDirectory

log = logging.getLogger("oko")


@dataclass(frozen=True, slots=True)
class Pinned:
    """Links to the bridge's ports, and what they run, are pinned in the directory `pins`."""

    pins: str

    def __str__(self) -> str:
        return f"XDP, pinned at {self.pins}"


@dataclass(frozen=True, slots=True)
class OwnRules:
    """Oko's own rules are in the bridge whose management socket is `name`."""

    name: str

    def __str__(self) -> str:
        return f"Oko's own rules, behind socket {self.name}"


@dataclass(frozen=True, slots=True)
class Guarded:
    """What its ports send is guarded, by what is pinned in the directory `pins`."""

    pins: str

    def __str__(self) -> str:
        return f"the guard, pinned at {self.pins}"


async def _take_off(change: Pinned | Guarded) -> None:
    take_down(Path(change.pins))


async def _delete_own(change: OwnRules) -> None:
    """An Open vSwitch that does not run has no rules."""
    taken = NameTaken(change.name)
    place = next(filter(answers, (taken.beside, Path(taken.name))), None)
    if place is None:
        return
    management = await Management.connect(place, lambda _: None, lambda _: None)
    with contextlib.closing(management):
        management.send(DELETE_ALL)
        await management.barrier()


async def _restore_end(change: NearEndChange) -> None:
    await asyncio.to_thread(undo, change)


UNDO: Final[Mapping[type[Any], Callable[[Any], Awaitable[None]]]] = {
    Pinned: _take_off,
    OwnRules: _delete_own,
    Guarded: _take_off,
    NearEndChange: _restore_end,
    NameTaken: give_back_name,
    TargetTaken: give_back_target,
}
"""How each kind of change is undone, in this order: nothing is continued any more when the rules go that it takes, and
no shim is left when the guard goes. Doing so twice, or for a change that was not made, is harmless."""


def open_record(statedir: Path, bridge: str) -> Record:
    """The record of a bridge. Raises StateDamaged."""
    return Record(statedir / f"{bridge}{ATTACHED}", tuple(UNDO))


async def give_back(record: Record) -> None:
    """Undo all that the record holds, last things first among those of a kind. What cannot be undone now stays in the
    record. Raises AttachError, which says why: the first in one line, all in `details`."""
    left = []
    for kind, function in UNDO.items():
        for change in reversed([each for each in record if type(each) is kind]):
            try:
                await function(change)
            except OkoError as error:
                left.append(f"{change}: {error}")
            else:
                record.remove(change)
    if left:
        raise AttachError(
            f"{len(left)} of the changes cannot be undone now, and stay in {record.path}: {left[0]}: detach again then",
            details="\n".join(left),
        )


def detach(rundir: RunDirectory, statedir: Path, bridge: str) -> None:
    """End the bridge's okod if it runs, and give back what it has changed. Raises BridgeError when there is nothing to
    detach or its okod does not end, StateDamaged, AttachError."""
    record = open_record(statedir, bridge)
    if not len(record):
        raise AttachError(f"bridge {bridge}: Oko is not attached to it (no {record.path})")
    pid = rundir.pid(bridge)
    if pid is not None:
        end_okod(bridge, pid)
    with rundir.claim(bridge):
        asyncio.run(give_back(record))
        store.remove(statedir / bridge)
        rundir.forget(bridge)
