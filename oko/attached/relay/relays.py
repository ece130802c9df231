"""`Relays`: the relays of one bridge, from when a connection comes to when it ends."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Self

from oko.attached.relay.plane import Plane
from oko.attached.relay.relay import Relay
from oko.openflow.terms import Terms

log = logging.getLogger("oko")

Protocols = Callable[[], asyncio.BaseProtocol]
Connect = Callable[[Protocols], Awaitable[Any]]
"""Makes the other connection of a relay: as the event loop's `create_connection` does, with the protocol that it is
given. Raises OSError."""
_BACKLOG: Final = 128
"""Connections that wait to be taken."""


class Relays:
    """At most `limit` at a time. They all end with the context."""

    def __init__(self, plane: Plane, limit: int) -> None:
        self._plane = plane
        self._limit = limit
        self._relays: set[Relay] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()
        self._full = False

    @property
    def connections(self) -> int:
        """Peers that are connected."""
        return len(self._relays)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.close()
        while self._relays:
            self._empty.clear()
            await self._empty.wait()

    def _forget(self, relay: Relay) -> None:
        self._relays.discard(relay)
        if not self._relays:
            self._empty.set()

    def close(self) -> None:
        """End all."""
        for relay in list(self._relays):
            relay.close("okod ends it")

    async def listen(
        self, listener: socket.socket, terms: Terms, connect: Connect, *, of_switch: bool = False, **options: Any
    ) -> asyncio.Server:
        """Take connections at a socket that is bound: of peers, and `connect` goes to Open vSwitch, or those that Open
        vSwitch makes, and `connect` goes to its controller. `options` are of the loop's `create_server`."""
        loop = asyncio.get_running_loop()

        def accept() -> asyncio.BaseProtocol:
            relay = Relay(self._plane, terms, lambda: self._forget(relay), primary=of_switch)
            accepted, other = (relay.switch, relay.peer) if of_switch else (relay.peer, relay.switch)
            if len(self._relays) >= self._limit:
                if not self._full:
                    log.warning("%s: refused: %d connections are relayed already", terms.peer, self._limit)
                self._full = True
                loop.call_soon(relay.close)
                return accepted
            self._full = False
            self._relays.add(relay)
            task = loop.create_task(self._connect(relay, terms, connect, lambda: other))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return accepted

        if listener.family == socket.AF_UNIX:
            return await loop.create_unix_server(accept, sock=listener, backlog=_BACKLOG)
        return await loop.create_server(accept, sock=listener, backlog=_BACKLOG, **options)

    async def _connect(self, relay: Relay, terms: Terms, connect: Connect, protocol: Protocols) -> None:
        try:
            await connect(protocol)
        except OSError as error:
            relay.close(f"not connected: {error.strerror or error}")
