from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from oko.openflow.backoff import Backoff
from oko.openflow.controller import Controller
from oko.openflow.endpoint import Address

HOST = "127.0.0.1"


@contextmanager
def awaited(words: str) -> Iterator[asyncio.Event]:
    """An event that is set when the log says `words`."""
    said = asyncio.Event()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if words in record.getMessage():
                said.set()

    listener = Listener()
    logging.getLogger("oko").addHandler(listener)
    try:
        yield said
    finally:
        logging.getLogger("oko").removeHandler(listener)


def test_it_connects_again(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        arrived = asyncio.Semaphore(0)

        async def accept(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            arrived.release()
            writer.close()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                assert await reader.read() == b""
            finally:
                writer.close()

        server = await asyncio.start_server(accept, HOST, 0)
        port: int = server.sockets[0].getsockname()[1]
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            controller = Controller("them", Address(HOST, port), None, Backoff(0.01), serve)
            running = group.create_task(controller.run())
            for _ in range(3):
                await arrived.acquire()
            with awaited("not connected") as refused:
                server.close()
                await server.wait_closed()
                await refused.wait()
            server = await asyncio.start_server(accept, HOST, port)
            await arrived.acquire()
            running.cancel()
        server.close()

    with caplog.at_level(logging.INFO, "oko"):
        asyncio.run(scenario())
    said = [record.message for record in caplog.records]
    assert said[:3] == ["them: connected"] * 3
    assert sum("not connected" in line for line in said) == 1, "it is said once"


class Recorder(Backoff):
    """Notes how long connections have lasted, and has no patience; after `enough` of them it says so."""

    def __init__(self, enough: int) -> None:
        super().__init__(0.001)
        self.lasted: list[float] = []
        self.enough = asyncio.Event()
        self._count = enough

    @property
    def patience(self) -> float:
        return 0.05

    def after(self, lasted: float) -> float:
        self.lasted.append(lasted)
        if len(self.lasted) == self._count:
            self.enough.set()
        return super().after(lasted)


def attempts(address: Address) -> list[float]:
    """What the back-off hears of three attempts at an address where nobody answers."""

    async def serve(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        raise AssertionError("somebody is there")

    async def scenario() -> list[float]:
        backoff = Recorder(3)
        running = asyncio.ensure_future(Controller("them", address, None, backoff, serve).run())
        async with asyncio.timeout(20):
            await asyncio.wait([running, asyncio.ensure_future(backoff.enough.wait())], return_when="FIRST_COMPLETED")
        assert not running.done(), "the task goes on"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return backoff.lasted

    return asyncio.run(scenario())


def test_attempts_that_take_their_time_are_no_connections() -> None:
    # A listener whose queue is full does not answer.
    with socket.create_server((HOST, 0), backlog=0) as server, socket.create_connection(server.getsockname()):
        assert attempts(Address(HOST, server.getsockname()[1])) == [0, 0, 0]


def test_a_name_that_no_resolver_takes(caplog: pytest.LogCaptureFixture) -> None:
    assert attempts(Address("a..b", 6653)) == [0, 0, 0]
    (record,) = caplog.records
    assert record.message.startswith("them: not connected: ")


def test_a_host_that_does_not_answer(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Backoff, "patience", 0.01)

    async def scenario() -> None:
        async def serve(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            raise AssertionError("somebody is there")

        # A listener whose queue is full does not answer.
        with socket.create_server((HOST, 0), backlog=0) as server, socket.create_connection(server.getsockname()):
            address = Address(HOST, server.getsockname()[1])
            with awaited("them") as said:
                running = asyncio.ensure_future(Controller("them", address, None, Backoff(0.01), serve).run())
                async with asyncio.timeout(20):
                    await said.wait()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    with caplog.at_level(logging.WARNING, "oko"):
        asyncio.run(scenario())
    assert caplog.records[0].message == "them: not connected: it does not answer: trying again"
