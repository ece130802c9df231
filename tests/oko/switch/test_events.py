"""Records of a real ring buffer, written by a real program for real packets, on their way to those who asked."""

from __future__ import annotations

import json
import select
import struct
import time

import pytest

from ofext.extension import (
    Event,
    EventEntry,
    EventFlag,
    EventListReply,
    EventListRequest,
    EventSubscribe,
    EventUnsubscribe,
    LoadFlag,
    MapListReply,
    MapListRequest,
    ProgramUnload,
    UnloadFlag,
)
from ofext.load import chunks
from ofext.messages import Message
from oko.openflow.extension import EVENT_BACKLOG
from oko.switch.schema import read
from tests.oko.conftest import Rig
from tests.oko.openflow.peer import Peer, add
from tests.oko.reporting import reporting

pytestmark = pytest.mark.needs_bpf

SUBSCRIBE = EventSubscribe(1, "packets")
RECORD = struct.Struct("<IIQ")


@pytest.fixture
def peer(rig: Rig) -> Peer:
    """With reporting.c as program 1, asked about every packet of port 1."""
    peer = Peer(rig)
    assert len(peer.ask(*chunks(1, "", reporting()))) == 1
    assert peer.ask(add("in_port=1,filter_prog=1,actions=output:2")) == []
    rig.attach()
    return peer


def events(rig: Rig, peer: Peer) -> list[Event]:
    """Those that the peer has heard of by now."""
    rig.bridge.events.deliver()
    return [message for message in peer.heard if isinstance(message, Event)]


def numbers(found: list[Event]) -> list[int]:
    return [RECORD.unpack(event.data)[2] for event in found]


def subscriptions(peer: Peer) -> tuple[EventEntry, ...]:
    body = peer.report(EventListRequest())
    assert isinstance(body, EventListReply)
    return body.entries


def send(rig: Rig, count: int) -> None:
    rig.send("h1", "02:00:00:00:00:02", count)


def test_every_record_is_an_event(rig: Rig, peer: Peer) -> None:
    assert peer.ask(SUBSCRIBE, SUBSCRIBE) == []
    before = time.time_ns()
    send(rig, 3)
    found = events(rig, peer)
    assert numbers(found) == [0, 1, 2]
    for event in found:
        assert (event.program, event.flags, event.lost, event.length, event.map) == (1, 0, 0, RECORD.size, "packets")
        assert before <= event.time <= time.time_ns()
    assert subscriptions(peer) == (EventEntry(1, 3, 0, "packets"),)


def test_the_record_has_a_schema(peer: Peer) -> None:
    body = peer.report(MapListRequest(1))
    assert isinstance(body, MapListReply)
    (ring,) = [entry for entry in body.entries if entry.name == "packets"]
    assert (ring.key_size, ring.value_size, ring.key_schema) == (0, 0, "")
    shown = read(json.loads(ring.value_schema), RECORD.pack(4, 1, 9))
    assert shown == {"port": 4, "verdict": "PASSED", "number": 9}


def test_records_wait_for_the_first_who_asks(rig: Rig, peer: Peer) -> None:
    send(rig, 2)
    assert events(rig, peer) == []
    assert peer.ask(SUBSCRIBE) == []
    assert numbers(events(rig, peer)) == [0, 1]


def test_two_connections_hear_the_same(rig: Rig, peer: Peer) -> None:
    other = Peer(rig)
    assert peer.ask(SUBSCRIBE) == []
    assert other.ask(SUBSCRIBE) == []
    send(rig, 2)
    assert numbers(events(rig, peer)) == numbers(events(rig, other)) == [0, 1]
    other.session.close()
    other.session.close()
    send(rig, 1)
    assert numbers(events(rig, peer)) == [0, 1, 2]
    assert numbers(events(rig, other)) == [0, 1]


def test_nothing_comes_after_unsubscribing(rig: Rig, peer: Peer) -> None:
    assert peer.ask(SUBSCRIBE, EventUnsubscribe(1, "packets")) == []
    send(rig, 1)
    assert events(rig, peer) == []
    assert subscriptions(peer) == ()
    assert peer.refusals(EventUnsubscribe(1, "packets")) == ["bad-map-access"]


def test_a_slow_reader_loses_records_and_is_told(rig: Rig, peer: Peer) -> None:
    assert peer.ask(SUBSCRIBE) == []
    peer.backlog = EVENT_BACKLOG + 1
    send(rig, 2)
    assert events(rig, peer) == []
    assert subscriptions(peer) == (EventEntry(1, 0, 2, "packets"),)
    peer.backlog = EVENT_BACKLOG
    send(rig, 1)
    (event,) = events(rig, peer)
    assert (numbers([event]), event.lost) == ([2], 2)


REFUSED: dict[str, tuple[Message, str]] = {
    "unknown program": (EventSubscribe(7, "packets"), "unknown-program"),
    "unknown map": (EventSubscribe(1, "sent"), "unknown-map"),
    "no ring buffer": (EventSubscribe(1, "hash"), "bad-map-access"),
    "event from a controller": (Event(1, 0, 0, 0, 0, "packets", b""), "bad-request/bad-exp-type"),
}


@pytest.mark.parametrize(("message", "expected"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(peer: Peer, message: Message, expected: str) -> None:
    assert peer.refusals(message) == [expected]
    assert subscriptions(peer) == ()


def test_a_subscription_outlives_the_program_that_is_replaced(rig: Rig, peer: Peer) -> None:
    assert peer.ask(SUBSCRIBE) == []
    for flags in (0, LoadFlag.FRESH_MAPS):
        send(rig, 1)
        assert len(peer.ask(*chunks(1, "", reporting(), flags))) == 1
    send(rig, 1)
    assert numbers(events(rig, peer)) == [0, 1, 0]


def test_unloading_ends_a_subscription(rig: Rig, peer: Peer) -> None:
    assert peer.ask(SUBSCRIBE) == []
    send(rig, 1)
    assert peer.ask(ProgramUnload(1, UnloadFlag.FORCE)) == []
    *records, end = events(rig, peer)
    assert numbers(records) == [0]
    assert (end.flags, end.length, end.data) == (EventFlag.ENDED, 0, b"")
    assert subscriptions(peer) == ()


def test_a_ring_buffer_that_is_gone_ends_its_subscriptions_only(rig: Rig, peer: Peer) -> None:
    assert len(peer.ask(*chunks(1, "", reporting("-DSECOND_RING")))) == 1
    assert peer.ask(SUBSCRIBE, EventSubscribe(1, "others")) == []
    assert len(peer.ask(*chunks(1, "", reporting()))) == 1
    (end,) = events(rig, peer)
    assert (end.map, end.flags) == ("others", EventFlag.ENDED)
    assert [entry.map for entry in subscriptions(peer)] == ["packets"]


def test_the_descriptor_is_readable_while_there_is_something_to_deliver(rig: Rig, peer: Peer) -> None:
    assert peer.ask(SUBSCRIBE) == []
    waiting = select.poll()
    waiting.register(rig.bridge.events, select.POLLIN)
    assert waiting.poll(0) == []
    send(rig, 200)
    assert [kind for _, kind in waiting.poll(0)] == [select.POLLIN]
    found = 0
    while waiting.poll(0):
        found = len(events(rig, peer))
    assert 128 < found < 200, "a round takes some, and the ring of a page holds 170 of the 200"
