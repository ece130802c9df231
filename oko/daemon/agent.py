"""`Agent`: a bridge's side of all its OpenFlow connections, those that it makes and those that it takes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import ssl
import stat
import struct
import sys
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from ofext.load import LoadBudget
from oko.daemon.settings import ConnectionSettings, Settings
from oko.errors import LimitExceeded, SettingsError
from oko.openflow.admission import Admission
from oko.openflow.backoff import Backoff
from oko.openflow.connection import converse
from oko.openflow.controller import Controller
from oko.openflow.encodings import Encodings
from oko.openflow.endpoint import Address, Endpoint
from oko.openflow.roles import Roles
from oko.openflow.session import Session
from oko.openflow.terms import Terms
from oko.switch.bridge import Bridge

log = logging.getLogger("oko")

_HANDSHAKE: Final = 10.0
"""Seconds that a peer has for the handshake of TLS."""
_CREDENTIALS: Final = struct.Struct("=iII")
"""struct ucred of <linux/socket.h>: pid, uid, gid, host order."""


class Agent:
    """An asynchronous context manager: everything listens, and controllers are being connected to, while it lasts."""

    def __init__(self, bridge: Bridge, settings: Settings, management: Path, changed: Callable[[], None]) -> None:
        """`management` is the path of the socket for the tools of this host, whose peers may do everything. `changed`
        is called when a peer may have changed the bridge. Raises SettingsError for TLS files that cannot be used."""
        self._bridge = bridge
        self._settings = settings
        self._management = management
        self._changed = changed
        self._roles = Roles()
        self._tasks: set[asyncio.Task[None]] = set()
        self._admission = Admission(settings.max_connections)
        self._loads = LoadBudget(settings.limits.all_object_bytes)
        self._encodings = Encodings()
        self._served = 0
        self._contexts: dict[tuple[bool, bool], ssl.SSLContext] = {}
        if settings.tls is not None:
            kinds = {_tls_kind(item) for item in settings.connections if item.endpoint.secure}
            self._contexts = {kind: settings.tls.files.context(server=kind[0], named=kind[1]) for kind in kinds}
        self._stack = contextlib.AsyncExitStack()

    @property
    def connections(self) -> int:
        """Peers that are connected."""
        return self._served

    async def __aenter__(self) -> Self:
        """Raises SettingsError for an endpoint that cannot be listened at."""
        async with contextlib.AsyncExitStack() as stack:
            # Whoever comes from elsewhere keeps nobody away who is to see to it.
            unlimited = Admission(sys.maxsize)
            terms = Terms(self._management.name, may_load=True, may_read=True)
            await self._listen_unix(stack, self._management, terms, unlimited)
            for item in self._settings.connections:
                terms = Terms(str(item.endpoint), item.may_load, item.reads, self._settings.inactivity_probe)
                match item.endpoint:
                    case Endpoint(place=Path() as path):
                        await self._listen_unix(stack, path, replace(terms, probe=None), self._admission)
                    case Endpoint(passive=True, place=Address() as address):
                        await self._listen_tcp(stack, item, address, terms)
                    case Endpoint(place=Address() as address):
                        self._begin(self._controller(item, address, terms).run())
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._stack.aclose()

    # ---- connections that are taken

    async def _listen_unix(
        self, stack: contextlib.AsyncExitStack, path: Path, terms: Terms, admission: Admission
    ) -> None:
        """Only for the user that okod runs as."""
        accept = partial(self._accept, terms, None, admission)
        mask = os.umask(0o177)
        try:
            _remove_socket(path)
            await stack.enter_async_context(await asyncio.start_unix_server(accept, path))
        except OSError as error:
            raise SettingsError(f"{path}: {error.strerror}") from None
        finally:
            os.umask(mask)
        stack.callback(path.unlink, missing_ok=True)

    async def _listen_tcp(
        self, stack: contextlib.AsyncExitStack, item: ConnectionSettings, address: Address, terms: Terms
    ) -> None:
        context = self._contexts[_tls_kind(item)] if item.endpoint.secure else None
        accept = partial(self._accept, terms, context, self._admission)
        try:
            server = await asyncio.start_server(accept, address.host, address.port)
        except OSError as error:
            raise SettingsError(f"cannot listen on {address.host} port {address.port}: {error.strerror}") from None
        await stack.enter_async_context(server)

    def _accept(
        self,
        terms: Terms,
        context: ssl.SSLContext | None,
        admission: Admission,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        peer = f"{terms.peer} from {_origin(writer)}"

        def leave() -> None:
            log.warning(
                "%s: closing the connection: it has said nothing, and the share of such peers in max_connections has "
                "been reached",
                peer,
            )
            task.cancel()
            writer.transport.abort()  # The task may not have begun.

        introduced = partial(admission.admit, writer)
        try:
            admission.arrive(writer, leave)
        except LimitExceeded as error:
            log.warning("%s: refused: %s", peer, error)
            writer.transport.abort()
            return
        task = self._begin(self._take(replace(terms, peer=peer), context, introduced, reader, writer))
        task.add_done_callback(lambda _: admission.forget(writer))

    async def _take(
        self,
        terms: Terms,
        context: ssl.SSLContext | None,
        introduced: Callable[[], None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        if context is not None:
            # Not by the server itself, which would say nothing of peers that it refuses.
            try:
                await writer.start_tls(context, ssl_handshake_timeout=_HANDSHAKE)
            except OSError as error:
                log.warning("%s: refused: TLS: %s", terms.peer, getattr(error, "reason", None) or error)
                writer.transport.abort()
                return
            terms = replace(terms, peer=f"{terms.peer} ({_certified(writer)})")
        log.info("%s: connected", terms.peer)
        await self._serve(terms, introduced, reader, writer)

    # ---- connections that are made

    def _controller(self, item: ConnectionSettings, address: Address, terms: Terms) -> Controller:
        context = self._contexts[_tls_kind(item)] if item.endpoint.secure else None
        backoff = Backoff(self._settings.max_backoff)
        serve = partial(self._serve, terms, lambda: None)
        return Controller(terms.peer, address, context, backoff, serve, peer_name=item.peer_name)

    # ---- both

    async def _serve(
        self,
        terms: Terms,
        introduced: Callable[[], None],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        with self._counted():
            await converse(partial(self._session, terms), terms, reader, writer, self._changed, introduced)

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        self._served += 1
        try:
            yield
        finally:
            self._served -= 1

    def _session(
        self,
        terms: Terms,
        send: Callable[[bytes], None],
        backlog: Callable[[], int],
        fall_behind: Callable[[], None],
    ) -> Session:
        return Session(
            self._bridge,
            self._roles,
            send,
            backlog,
            fall_behind,
            terms=terms,
            datapath_id=self._settings.dpid,
            loads=self._loads,
            encodings=self._encodings,
        )

    def _begin(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _tls_kind(item: ConnectionSettings) -> tuple[bool, bool]:
    """What its TLS is like: whether okod listens, and whether it looks at the name in the peer's certificate."""
    return item.endpoint.passive, item.peer_name is not None


def _remove_socket(path: Path) -> None:
    """That which an okod before this one has left. Raises SettingsError for anything else, OSError."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise SettingsError(f"{path} is there, and no socket: remove it, or let okod listen elsewhere")
        path.unlink()


def _certified(writer: asyncio.StreamWriter) -> str:
    """The common name in a peer's certificate."""
    subject = writer.get_extra_info("peercert")["subject"]
    return next((value for part in subject for name, value in part if name == "commonName"), "no name")


def _origin(writer: asyncio.StreamWriter) -> str:
    """Who a peer is: a process and its user, or an address."""
    end: socket.socket = writer.get_extra_info("socket")
    if end.family == socket.AF_UNIX:
        pid, user, _ = _CREDENTIALS.unpack(end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        return f"process {pid} of user {user}"
    host, port, *_ = writer.get_extra_info("peername")
    return str(Address(host, port))
