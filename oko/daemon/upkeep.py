"""`Upkeep`: what a bridge's store needs beside the changes: to reach the disk, and to begin anew from time to time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from oko.openflow.backoff import Backoff
from oko.switch.store import Steps, Store

log = logging.getLogger("oko")

_INTERVAL: Final = 1.0
"""Seconds between two looks: what a loss of power costs at most."""
_LONGEST_WAIT: Final = 64.0
"""Seconds between two attempts at a snapshot while the disk takes none."""


class Upkeep:
    """An asynchronous context manager. Snapshots are written in steps, with everything else in between; what waits for
    the disk does so in another thread."""

    def __init__(self, store: Store, snapshot: Callable[[], Steps]) -> None:
        """`snapshot` begins a snapshot of the bridge as it is."""
        self._store = store
        self._snapshot = snapshot
        self._backoff = Backoff(_LONGEST_WAIT)
        self._due = 0.0  # when a snapshot may be written again, by the loop's clock

    async def __aenter__(self) -> Self:
        self._task = asyncio.get_running_loop().create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        while True:
            try:
                await self._look()
            except Exception:
                # Without it nothing would reach the disk in time any more, and journals would grow for ever.
                log.exception("%s: the upkeep failed by a fault of okod: it goes on", self._store.path)
            await asyncio.sleep(_INTERVAL)

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        # Before a snapshot, too: it begins with what is not on the disk by now, and waits for that here.
        await _in_thread(self._store.sync)
        if self._store.wants_snapshot and loop.time() >= self._due:
            try:
                await self._write_snapshot()
            finally:
                # One that did not come to its end is still wanted.
                self._due = loop.time() + (self._backoff.after(0.0) if self._store.wants_snapshot else 0.0)

    async def _write_snapshot(self) -> None:
        with contextlib.closing(self._snapshot()) as steps:
            for step in steps:
                if step is None:
                    await asyncio.sleep(0)
                else:
                    await _in_thread(step)


async def _in_thread(work: Callable[[], None]) -> None:
    """Do it in another thread; when this is cancelled, not before it is done, as its file is closed next."""
    future = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        await asyncio.shield(future)
    except asyncio.CancelledError:
        await future
        raise
