from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import pytest

from ofext.constants import VERSION
from ofext.framing import Splitter
from ofext.messages import BarrierReply, BarrierRequest, EchoReply, EchoRequest, FlowRemoved, Hello, decode, encode
from ofext.multipart import FlowStatsRequest, MultipartRequest
from oko.errors import LimitExceeded, OkoError
from oko.flow.change import Change
from oko.flow.rule import Command, FlowMod
from oko.flow.text import parse_rule, parse_selection
from oko.openflow import connection
from oko.openflow.connection import converse
from oko.openflow.roles import Roles
from oko.openflow.session import PROMPT_LIMIT, Session
from oko.openflow.terms import Terms
from oko.switch.limits import Limits
from tests.oko.conftest import Rig
from tests.oko.openflow.peer import add

pytestmark = pytest.mark.needs_bpf

A_PEER = Terms("a peer")
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(rig: Rig, changed: Callable[[], None], terms: Terms = A_PEER) -> tuple[Streams, asyncio.Task[None]]:
    """A connection: its peer's end, and the task that serves it."""
    here, there = socket.socketpair()
    for end in (here, there):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    session = partial(Session, rig.bridge, Roles())
    served = asyncio.ensure_future(converse(session, terms, *await asyncio.open_connection(sock=here), changed))
    # The peer's stream holds back what has been read for it beyond a little.
    return await asyncio.open_connection(sock=there, limit=1024), served


def talk(rig: Rig, body: Callable[[Streams, asyncio.Task[None]], Awaitable[None]], terms: Terms = A_PEER) -> int:
    """Run `body` as the peer of a connection, whose task it gets too. How often the bridge may have changed."""
    changes = 0

    def changed() -> None:
        nonlocal changes
        changes += 1

    async def both() -> None:
        peer, served = await connect(rig, changed, terms)
        try:
            await asyncio.wait_for(body(peer, served), 20)
        finally:
            served.cancel()
            peer[1].transport.abort()
            await asyncio.gather(served, return_exceptions=True)

    rig.inside(lambda: asyncio.run(both()))
    return changes


async def hear(reader: asyncio.StreamReader, last: object) -> list[object]:
    """The messages up to one that equals `last`."""
    splitter, messages = Splitter(), list[object]()
    while last not in messages:
        data = await reader.read(1 << 16)
        assert data, "the connection ended"
        messages += (decode(message)[0] for message in splitter.feed(data))
    return messages


def test_requests_and_answers(rig: Rig) -> None:
    async def peer(streams: Streams, served: asyncio.Task[None]) -> None:
        reader, writer = streams
        writer.write(encode(Hello(), 1) + encode(EchoRequest(b"x"), 2) + encode(BarrierRequest(), 3))
        heard = await hear(reader, BarrierReply())
        assert [type(message) for message in heard] == [Hello, EchoReply, BarrierReply]
        writer.close()
        await served

    assert talk(rig, peer) >= 1


def test_a_peer_that_reads_gets_every_event(rig: Rig) -> None:
    rules = [f"send_flow_rem,priority={number},in_port=1,actions=output:2" for number in range(1000)]

    async def peer(streams: Streams, served: asyncio.Task[None]) -> None:
        reader, writer = streams
        writer.write(encode(Hello(), 1) + encode(BarrierRequest(), 2))
        await hear(reader, BarrierReply())
        assert rig.bridge.change([parse_selection("")]) == [None]
        writer.write(encode(BarrierRequest(), 3))
        heard = await hear(reader, BarrierReply())
        assert sum(isinstance(message, FlowRemoved) for message in heard) == 1000

    assert rig.add(*rules) == []
    talk(rig, peer)


def test_a_peer_that_does_not_read_is_left(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "UNREAD_LIMIT", 1 << 14)
    rules = [f"send_flow_rem,priority={number},in_port=1,actions=output:2" for number in range(2000)]

    async def peer(streams: Streams, served: asyncio.Task[None]) -> None:
        reader, writer = streams
        writer.write(encode(Hello(), 1) + encode(BarrierRequest(), 2))
        await hear(reader, BarrierReply())
        assert rig.bridge.change([parse_selection("")]) == [None]
        await served
        assert served.exception() is None

    assert rig.add(*rules) == []
    with caplog.at_level(logging.WARNING, "oko"):
        talk(rig, peer)
    assert any("are left unread" in record.message for record in caplog.records)


MANY = 3000
"""Rules whose messages are more than a peer that does not read is told at once."""


def test_a_peer_that_reads_late_hears_of_every_rule(rig: Rig) -> None:
    rules = [f"send_flow_rem,cookie={number},priority={number},arp,actions=drop" for number in range(MANY)]
    waiting: list[int] = []

    def session(send: Callable[[bytes], None], backlog: Callable[[], int], fall_behind: Callable[[], None]) -> Session:
        def note() -> None:
            waiting.append(backlog())
            fall_behind()

        return Session(rig.bridge, Roles(), send, backlog, note)

    async def scenario() -> None:
        here, there = socket.socketpair()
        streams = await asyncio.open_connection(sock=here)
        served = asyncio.ensure_future(converse(session, A_PEER, *streams, lambda: None))
        reader, writer = await asyncio.open_connection(sock=there, limit=1024)
        writer.write(encode(Hello(), 1) + encode(BarrierRequest(), 2))
        await hear(reader, BarrierReply())
        assert rig.bridge.change([parse_selection("")]) == [None]
        # Its own requests are answered when it has heard of what went before.
        writer.write(encode(EchoRequest(b"x"), 3))
        heard = await hear(reader, EchoReply(b"x"))
        assert [message.cookie for message in heard if isinstance(message, FlowRemoved)] == list(range(MANY))
        assert heard[-1] == EchoReply(b"x")
        # Without a request, too.
        assert rig.bridge.change([FlowMod(Command.ADD, parse_rule(rule)) for rule in rules]) == [None] * MANY
        assert rig.bridge.change([parse_selection("")]) == [None]
        splitter, told = Splitter(), 0
        while told < MANY:
            told += len(list(splitter.feed(await reader.read(1 << 16))))
        writer.close()
        await served

    assert rig.add(*rules) == []
    rig.inside(lambda: asyncio.run(asyncio.wait_for(scenario(), 60)))
    assert len(waiting) > MANY
    assert max(waiting) < 2 * PROMPT_LIMIT


def test_a_peer_that_hears_of_no_rules_is_left(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rules = [f"send_flow_rem,priority={number},arp,actions=drop" for number in range(MANY)]

    async def peer(streams: Streams, served: asyncio.Task[None]) -> None:
        reader, writer = streams
        writer.write(encode(Hello(), 1) + encode(BarrierRequest(), 2))
        await hear(reader, BarrierReply())
        assert rig.bridge.change([parse_selection("")]) == [None]
        while not served.done():
            writer.write(encode(EchoReply(), 0))  # It is not silent.
            await asyncio.wait([served], timeout=0.01)
        assert served.exception() is None

    assert rig.add(*rules) == []
    with caplog.at_level(logging.WARNING, "oko"):
        talk(rig, peer, Terms("somebody", probe=0.2))
        assert rig.add(*rules) == []
        rig.bridge.limits = Limits(rules=100)
        talk(rig, peer)
    assert [record.message for record in caplog.records] == [
        "somebody: closing the connection: rules that went are left unread",
        "a peer: closing the connection: too many rules that went are left unread",
    ]


def test_a_peer_that_falls_silent_is_asked_and_then_left(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    async def peer(streams: Streams, served: asyncio.Task[None]) -> None:
        reader, writer = streams
        writer.write(encode(Hello(), 1))
        assert EchoRequest() in await hear(reader, EchoRequest())
        writer.write(encode(EchoReply(), 0))
        assert await hear(reader, EchoRequest()) == [EchoRequest()]
        await served

    with caplog.at_level(logging.WARNING, "oko"):
        talk(rig, peer, Terms("somebody", probe=0.05))
    assert [record.message for record in caplog.records] == [
        "somebody: closing the connection: no answer to an echo request"
    ]


def test_a_peer_that_takes_no_answers_is_left(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    async def peer(streams: Streams, served: asyncio.Task[None]) -> None:
        _, writer = streams
        writer.write(encode(Hello(), 1) + encode(EchoRequest(bytes(60_000)), 2) * 8)
        await served

    with caplog.at_level(logging.WARNING, "oko"):
        talk(rig, peer, Terms("somebody", probe=0.05))
    assert [record.message for record in caplog.records] == [
        "somebody: closing the connection: answers are left unread"
    ]


def test_a_fault_of_ours_costs_one_connection(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fault(*_: object) -> None:
        raise ZeroDivisionError("a fault")

    async def peer(streams: Streams, served: asyncio.Task[None]) -> None:
        (other_reader, other_writer), other_served = await connect(rig, lambda: None)
        reader, writer = streams
        writer.write(encode(Hello(), 1) + encode(MultipartRequest(FlowStatsRequest()), 2))
        while await reader.read(1 << 16):
            pass
        await served
        assert served.exception() is None
        other_writer.write(encode(Hello(), 1) + encode(BarrierRequest(), 2))
        await hear(other_reader, BarrierReply())
        other_writer.close()
        await other_served

    monkeypatch.setattr(rig.bridge, "select", fault)
    with caplog.at_level(logging.ERROR, "oko"):
        talk(rig, peer)
    (record,) = caplog.records
    assert record.message == "a peer: the connection ended by a fault of okod"
    assert record.exc_info is not None
    assert record.exc_info[0] is ZeroDivisionError


def test_the_end_does_not_wait_for_a_peer_that_does_not_read(rig: Rig) -> None:
    async def peer(streams: Streams, served: asyncio.Task[None]) -> None:
        _, writer = streams
        echo = encode(EchoRequest(bytes(60_000)), 1)
        assert echo[0] == VERSION
        for _ in range(4):
            writer.write(echo)
        await asyncio.sleep(0)
        while not served.done():
            served.cancel()
            await asyncio.wait([served], timeout=0.01)

    talk(rig, peer)


async def serve(rig: Rig, *messages: bytes) -> int:
    """Serve a peer of whom these messages are read at once. How often others had their turn meanwhile."""
    here, there = socket.socketpair()
    with there:
        _, writer = await asyncio.open_connection(sock=here)
        reader = asyncio.StreamReader()
        reader.feed_data(b"".join(messages))
        reader.feed_eof()
        served = asyncio.ensure_future(
            converse(partial(Session, rig.bridge, Roles()), A_PEER, reader, writer, lambda: None)
        )
        turns = 0
        while not served.done():
            await asyncio.sleep(0)
            turns += 1
        await served
    return turns


def test_others_have_their_turn_between_messages(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "TURN", 0)
    unanswered = [encode(EchoReply(), number) for number in range(1000)]
    assert rig.inside(lambda: asyncio.run(serve(rig, encode(Hello(), 1), *unanswered))) >= 1000


def test_changes_are_made_together_in_portions(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    portions = []
    change = rig.bridge.change

    def counted(mods: Sequence[Change]) -> list[OkoError | None]:
        portions.append(len(mods))
        return change(mods)

    monkeypatch.setattr(connection, "TURN", 0)
    monkeypatch.setattr(connection, "PORTION", 64)
    monkeypatch.setattr(rig.bridge, "change", counted)
    adds = [encode(add(f"priority={number},actions=drop"), number) for number in range(100)]
    rig.inside(lambda: asyncio.run(serve(rig, encode(Hello(), 1), *adds, encode(BarrierRequest(), 1), *adds[:9])))
    assert portions == [64, 36, 9]
    assert len(rig.bridge.tables) == 100


def test_a_peer_that_has_ended_its_half_and_does_not_read_is_left(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "FAREWELL", 0.05)

    async def peer(streams: Streams, served: asyncio.Task[None]) -> None:
        _, writer = streams
        writer.write(encode(Hello(), 1) + encode(EchoRequest(bytes(60_000)), 2))
        writer.write_eof()
        await served

    talk(rig, peer)


def test_a_peer_that_reads_is_kept_while_okod_is_busy(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    probe = 1.0
    backlogs: list[Callable[[], int]] = []

    def session(send: Callable[[bytes], None], backlog: Callable[[], int], fall_behind: Callable[[], None]) -> Session:
        backlogs.append(backlog)
        return Session(rig.bridge, Roles(), send, backlog, fall_behind)

    async def scenario() -> None:
        here, there = socket.socketpair()
        streams = await asyncio.open_connection(sock=here)
        served = asyncio.ensure_future(converse(session, Terms("somebody", probe=probe), *streams, lambda: None))
        reader, writer = await asyncio.open_connection(sock=there, limit=1024)
        echoes = encode(Hello(), 1) + encode(EchoRequest(bytes(60_000)), 2) * 16
        writer.write(echoes + encode(BarrierRequest(), 3))
        before = -1
        while not backlogs or backlogs[0]() < 1 << 16 or backlogs[0]() != before:
            before = backlogs[0]() if backlogs else -1
            for _ in range(10):  # Enough turns for more to be answered, if okod went on.
                await asyncio.sleep(0)
        # So long another peer's message has taken.
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: time.monotonic() + 3 * probe)
        assert sum(isinstance(message, EchoReply) for message in await hear(reader, BarrierReply())) == 16
        writer.close()
        await served

    async def in_time() -> None:
        async with asyncio.timeout(20):
            await scenario()

    rig.inside(lambda: asyncio.run(in_time()))


def test_a_peer_that_is_not_admitted_is_not_listened_to(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    def introduced() -> None:
        raise LimitExceeded("connections", 1, 1)

    async def scenario() -> None:
        here, there = socket.socketpair()
        streams = await asyncio.open_connection(sock=here)
        session = partial(Session, rig.bridge, Roles())
        served = asyncio.ensure_future(converse(session, A_PEER, *streams, lambda: None, introduced))
        reader, writer = await asyncio.open_connection(sock=there)
        writer.write(encode(Hello(), 1) + encode(EchoRequest(b"x"), 2))
        heard = await reader.read()
        assert [decode(message)[0] for message in Splitter().feed(heard)] == [decode(greeting)[0]]
        writer.close()
        await served

    greeting = Session(rig.bridge, Roles(), lambda _: None).greeting()
    rig.inside(lambda: asyncio.run(asyncio.wait_for(scenario(), 20)))
    assert [record.message for record in caplog.records] == [
        "a peer: the connection ended: connections: 1 used, limit 1"
    ]
