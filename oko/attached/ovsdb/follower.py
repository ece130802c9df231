"""`Follower`: the description of a bridge, as OVSDB has it, and every change to it.

The library `ovs` keeps a copy of the database, with a poller of its own. It runs in a thread here, which hands values
over to the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from oko.attached.ovsdb.description import OvsBridge
from oko.attached.ovsdb.jsonrpc import call
from oko.attached.ovsdb.replica import DATABASE, POLLIN, Idl, Poller, describe, open_replica
from oko.errors import AttachError

log = logging.getLogger("oko")

_SCHEME: Final = "unix:"
_PATIENCE: Final = 10.0
"""Seconds that the database may take for its first answer."""


class Follower:
    """Follows the bridge `name` in the database at `remote` (``unix:PATH``) while the context lasts.

    `changed` is called in the event loop with every new description, None when there is no such bridge, and `reached`
    with False when the database is lost and with True when it is there again. What was known stays known meanwhile.
    """

    def __init__(
        self,
        remote: str,
        name: str,
        changed: Callable[[OvsBridge | None], None],
        reached: Callable[[bool], None],
    ) -> None:
        if not remote.startswith(_SCHEME):
            raise AttachError(f"database {remote}: only those of this machine can be followed: write unix:PATH")
        self.name = name
        self.bridge: OvsBridge | None = None
        self._remote = remote
        self._changed = changed
        self._reached = reached
        self._ending = threading.Event()
        self._wake = -1
        self._thread = threading.Thread(target=self._follow, name=f"OVSDB of {name}", daemon=True)

    async def __aenter__(self) -> Self:
        """Returns when the first description is there. Raises AttachError without a database, or without the bridge."""
        self._loop = asyncio.get_running_loop()
        self._first: asyncio.Future[OvsBridge | None] = self._loop.create_future()
        try:
            async with asyncio.timeout(_PATIENCE):
                self._schema = await call(Path(self._remote.removeprefix(_SCHEME)), "get_schema", DATABASE)
                self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
                self._thread.start()
                self.bridge = await self._first
        except TimeoutError:
            await self._end()
            raise AttachError(f"database {self._remote} does not answer within {_PATIENCE:g} s") from None
        except BaseException:
            await self._end()
            raise
        if self.bridge is None:
            await self._end()
            raise AttachError(f"database {self._remote} has no bridge {self.name}: see 'ovs-vsctl list-br'")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        if self._wake < 0:
            return
        self._ending.set()
        os.eventfd_write(self._wake, 1)
        await asyncio.to_thread(self._thread.join)
        os.close(self._wake)
        self._wake = -1

    # ---- in the event loop

    def _take(self, bridge: OvsBridge | None) -> None:
        if not self._first.done():
            self._first.set_result(bridge)
        elif bridge != self.bridge:
            self.bridge = bridge
            self._changed(bridge)

    def _fail(self, error: Exception) -> None:
        if self._first.done():
            log.error("bridge %s: OVSDB is not followed any more: %s", self.name, error)
            self._reached(False)
        else:
            self._first.set_exception(AttachError(f"database {self._remote}: {error}"))

    # ---- in the thread

    def _follow(self) -> None:
        try:
            idl = open_replica(self._remote, self._schema)
            try:
                self._run(idl)
            finally:
                idl.close()
        except Exception as error:  # of the library: whatever it is, okod goes on with what it knows
            log.debug("bridge %s: the thread that follows OVSDB ends", self.name, exc_info=True)
            self._hand_over(self._fail, error)

    def _run(self, idl: Idl) -> None:
        seen, was_connected = idl.change_seqno, True
        while not self._ending.is_set():
            idl.run()
            if idl.change_seqno != seen:
                seen = idl.change_seqno
                self._hand_over(self._take, describe(idl, self.name))
            # The library says nowhere else whether its copy is up to date.
            connected = idl._session.is_connected()
            if connected != was_connected and idl.has_ever_connected():
                was_connected = connected
                self._hand_over(self._reached, connected)
            poller = Poller()
            idl.wait(poller)
            poller.fd_wait(self._wake, POLLIN)
            poller.block()

    def _hand_over(self, function: Callable[[Any], None], value: object) -> None:
        with suppress(RuntimeError):  # the loop has ended, and nobody is left to tell
            self._loop.call_soon_threadsafe(function, value)
