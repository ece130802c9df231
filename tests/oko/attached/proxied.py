"""The laboratory's bridge with Oko in its place, as far as its controllers and tools are concerned."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final, Self

from ofext.framing import Splitter
from ofext.messages import Hello, Message, decode, encode
from ofext.multipart import Aggregate
from oko.attached.endpoint import Endpoint, Mode
from oko.attached.ovsdb.description import OvsController
from oko.attached.record import Record
from oko.attached.relay.plane import Plane
from oko.attached.relay.relays import Relays
from oko.openflow.terms import Terms
from tests.oko.attached.conftest import BRIDGE, Laboratory
from tests.oko.attached.following import following
from tests.oko.attached.relaying import EchoingExtension, ListedRules, NotedEntrance, NotedOrder
from tests.patience import patience

_PATIENCE: Final = patience(20)
_LOG: Final = logging.getLogger("oko")


def database(ovs: Laboratory) -> Path:
    return Path(ovs.vswitch.remote.removeprefix("unix:"))


@asynccontextmanager
async def proxied(ovs: Laboratory, record: Record, *, mode: Mode = Mode.PROXY) -> AsyncIterator[Endpoint]:
    rules = ListedRules()

    async def own_totals() -> Aggregate:
        return Aggregate(0, 0, 0)

    plane = Plane(rules, NotedOrder(rules), NotedEntrance(), lambda send, backlog: EchoingExtension(), own_totals)
    management = ovs.vswitch.management(BRIDGE)
    async with (
        Relays(plane, 16) as relays,
        Endpoint(
            mode, management, database(ovs), relays, record, rights=Terms("a controller", may_load=True)
        ) as endpoint,
    ):
        yield endpoint


async def controllers(ovs: Laboratory) -> tuple[OvsController, ...]:
    """Those that OVSDB has."""
    async with following(ovs) as (follower, _):
        assert follower.bridge is not None
        return follower.bridge.controllers


class Logged(logging.Handler):
    """A context in which somebody waits for a message with these words in the log."""

    def __init__(self, words: str) -> None:
        super().__init__(logging.INFO)
        self._words = words
        self._written = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self._words in record.getMessage():
            self._written.set()

    async def written(self) -> None:
        """Returns when the message is there."""
        await asyncio.wait_for(self._written.wait(), _PATIENCE)

    def __enter__(self) -> Self:
        self._before = _LOG.level
        _LOG.setLevel(self.level)
        _LOG.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        _LOG.removeHandler(self)
        _LOG.setLevel(self._before)


def free_port() -> int:
    """A TCP port of this host that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


class Line:
    """A connection to a switch, whoever made it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._splitter = Splitter()
        self._waiting: list[Message] = []

    def send(self, message: Message, xid: int = 1) -> None:
        self.writer.write(encode(message, xid))

    async def told(self, kind: type[Message]) -> Message:
        """The next message of a kind; others before it are passed over."""
        async with asyncio.timeout(_PATIENCE):
            while True:
                while self._waiting:
                    if isinstance(found := self._waiting.pop(0), kind):
                        return found
                data = await self._reader.read(1 << 16)
                assert data, "the connection ended"
                self._waiting += [decode(each)[0] for each in self._splitter.feed(data)]

    async def greet(self) -> Hello:
        self.send(Hello())
        hello = await self.told(Hello)
        assert isinstance(hello, Hello)
        return hello

    async def close(self) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()


class FakeController:
    """Listens, and keeps the connections that come."""

    def __init__(self) -> None:
        self.lines: asyncio.Queue[Line] = asyncio.Queue()
        self._all: list[Line] = []

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(reader, writer)
        self._all.append(line)
        self.lines.put_nowait(line)

    async def close(self) -> None:
        for line in self._all:
            await line.close()

    async def line(self) -> Line:
        return await asyncio.wait_for(self.lines.get(), _PATIENCE)
