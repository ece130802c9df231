"""Entries of a program's maps over OpenFlow: what each type of map takes, gives and refuses."""

from __future__ import annotations

import struct

import pytest

from ofext.extension import (
    MapDelete,
    MapDumpReply,
    MapDumpRequest,
    MapEntry,
    MapKey,
    MapLookupReply,
    MapLookupRequest,
    MapUpdate,
    RunTimeFlag,
    RunTimeReply,
    RunTimeRequest,
)
from ofext.load import chunks
from ofext.messages import ExperimenterError, Message
from ofext.multipart import MultipartReply, MultipartRequest
from oko.kernel.cpus import possible_cpus
from oko.openflow import extension
from tests.oko.conftest import Rig
from tests.oko.openflow.peer import Peer, add
from tests.oko.reporting import reporting
from tests.run_time import run_time

pytestmark = pytest.mark.needs_bpf

HASHES = ("hash", "lru")


def key(number: int) -> bytes:
    return struct.pack("<I", number)


def value(number: int) -> bytes:
    return struct.pack("<Q", number)


def prefix(length: int, address: str) -> bytes:
    return struct.pack("<I", length) + bytes(map(int, address.split(".")))


@pytest.fixture
def peer(rig: Rig) -> Peer:
    """With reporting.c as program 1, and a few entries in its maps."""
    peer = Peer(rig)
    assert len(peer.ask(*chunks(1, "", reporting()))) == 1
    entries = tuple(MapEntry(key(number), value(number)) for number in range(3))
    assert peer.ask(*(MapUpdate(1, 0, name, entries) for name in (*HASHES, "array"))) == []
    assert peer.ask(MapUpdate(1, 0, "percpu", (MapEntry(key(1), key(7)),))) == []
    tries = (MapEntry(prefix(8, "10.0.0.0"), value(8)), MapEntry(prefix(24, "10.1.1.0"), value(24)))
    assert peer.ask(MapUpdate(1, 0, "lpm", tries)) == []
    return peer


def dump(peer: Peer, name: str) -> dict[bytes, bytes]:
    body = peer.report(MapDumpRequest(1, 0, name))
    assert isinstance(body, MapDumpReply)
    assert not body.cursor
    return dict(body.entries)


def lookup(peer: Peer, name: str, *keys: bytes) -> list[MapEntry]:
    body = peer.report(MapLookupRequest(1, name, tuple(map(MapKey, keys))))
    assert isinstance(body, MapLookupReply)
    assert (body.program, body.map) == (1, name)
    return list(body.entries)


def delete(name: str, *keys: bytes, flags: int = 0) -> MapDelete:
    return MapDelete(1, flags, name, tuple(map(MapKey, keys)))


@pytest.mark.parametrize("name", HASHES)
def test_lookup_gives_what_is_there_in_the_order_of_the_request(peer: Peer, name: str) -> None:
    assert lookup(peer, name, key(2), key(9), key(0)) == [MapEntry(key(2), value(2)), MapEntry(key(0), value(0))]
    assert lookup(peer, name) == []


def test_lookup_of_other_types(peer: Peer) -> None:
    assert lookup(peer, "array", key(3), key(1)) == [MapEntry(key(1), value(1))]
    assert lookup(peer, "percpu", key(1)) == [MapEntry(key(1), key(7) * possible_cpus())]
    asked = [prefix(32, "10.1.1.9"), prefix(16, "10.1.0.0"), prefix(32, "11.0.0.0"), prefix(33, "10.0.0.0")]
    assert lookup(peer, "lpm", *asked) == [MapEntry(asked[0], value(24)), MapEntry(asked[1], value(8))]


@pytest.mark.parametrize("name", HASHES)
def test_delete(peer: Peer, name: str) -> None:
    assert peer.ask(delete(name, key(0), key(9), key(1))) == []
    assert dump(peer, name) == {key(2): value(2)}


def test_delete_of_keys_that_have_to_be_there(peer: Peer) -> None:
    assert peer.refusals(delete("hash", key(0), key(9), key(1), flags=2)) == ["bad-map-access"]
    assert dump(peer, "hash") == {key(1): value(1), key(2): value(2)}


def test_delete_from_other_types(peer: Peer) -> None:
    assert peer.ask(delete("percpu", key(1)), delete("lpm", prefix(24, "10.1.1.0"), prefix(16, "10.1.0.0"))) == []
    assert dump(peer, "percpu") == {}
    assert dump(peer, "lpm") == {prefix(8, "10.0.0.0"): value(8)}


def test_updates_of_an_lru_map_that_is_full_succeed(peer: Peer) -> None:
    entries = tuple(MapEntry(key(number), value(number)) for number in range(1000))
    assert peer.ask(MapUpdate(1, 0, "lru", entries)) == []
    assert 0 < len(dump(peer, "lru")) <= 64


REFUSED: dict[str, Message] = {
    "delete from an array": delete("array", key(0)),
    "delete from data": delete(".bss", key(0)),
    "delete from a ring buffer": delete("packets"),
    "delete a key of wrong size": delete("hash", key(0), b"123"),
    "delete with wrong flags": delete("hash", key(0), flags=1),
    "delete a prefix that is too long": delete("lpm", prefix(33, "10.0.0.0")),
    "update a ring buffer": MapUpdate(1, 0, "packets"),
    "update beyond an array": MapUpdate(1, 0, "array", (MapEntry(key(3), value(0)),)),
    "new entry of an array": MapUpdate(1, 1, "array", (MapEntry(key(0), value(9)),)),
    "new entry that is there": MapUpdate(1, 1, "hash", (MapEntry(key(0), value(9)),)),
    "present entry that is not there": MapUpdate(1, 2, "hash", (MapEntry(key(9), value(9)),)),
    "update of a prefix that is too long": MapUpdate(1, 0, "lpm", (MapEntry(prefix(33, "10.0.0.0"), value(0)),)),
    "lookup in a ring buffer": MultipartRequest(MapLookupRequest(1, "packets", (MapKey(b""),))),
    "lookup of a key of wrong size": MultipartRequest(MapLookupRequest(1, "hash", (MapKey(b"123"),))),
    "dump of a ring buffer": MultipartRequest(MapDumpRequest(1, 0, "packets")),
    "cursor that is none": MultipartRequest(MapDumpRequest(1, 0, "hash", b"1")),
}


@pytest.mark.parametrize("message", REFUSED.values(), ids=REFUSED)
def test_what_is_refused_changes_nothing(peer: Peer, message: Message) -> None:
    names = ("hash", "lru", "array", "percpu", "lpm")
    before = [dump(peer, name) for name in names]
    assert peer.refusals(message) == ["bad-map-access"]
    assert [dump(peer, name) for name in names] == before


def test_a_map_that_is_not_there(peer: Peer) -> None:
    assert peer.refusals(delete("hush"), MultipartRequest(MapLookupRequest(1, "hush"))) == ["unknown-map"] * 2
    assert peer.refusals(MapDelete(7, 0, "hash")) == ["unknown-program"]


def test_no_lookup_or_whole_dump_is_answered_at_any_length(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extension, "LOOKUP_LIMIT", 3 * 12)
    assert len(lookup(peer, "hash", *[key(0)] * 3, key(9))) == 3
    assert peer.refusals(MultipartRequest(MapLookupRequest(1, "hash", (MapKey(key(0)),) * 4))) == ["limit-exceeded"]
    monkeypatch.setattr(extension, "DUMP_LIMIT", 3 * 12)
    assert len(dump(peer, "hash")) == 3
    assert peer.ask(MapUpdate(1, 0, "hash", (MapEntry(key(3), value(3)),))) == []
    assert peer.refusals(MultipartRequest(MapDumpRequest(1, 0, "hash"))) == ["limit-exceeded"]
    body = peer.report(MapDumpRequest(1, 2, "hash"))
    assert isinstance(body, MapDumpReply)
    assert len(body.entries) == 2


def test_pages_over_openflow(peer: Peer) -> None:
    entries = tuple(MapEntry(key(number), value(number)) for number in range(4000))
    assert peer.ask(*(MapUpdate(1, 0, "hash", entries[at : at + 1000]) for at in range(0, 4000, 1000))) == []
    found: list[MapEntry] = []
    cursor, pages = b"", 0
    while cursor or not pages:
        # A limit beyond what a message holds: the page is what fits.
        (answer,) = peer.ask(MultipartRequest(MapDumpRequest(1, 1 << 31, "hash", cursor)))
        assert isinstance(answer, MultipartReply)
        assert not answer.flags
        assert isinstance(answer.body, MapDumpReply)
        found += answer.body.entries
        cursor, pages = answer.body.cursor, pages + 1
    assert pages == 2
    assert sorted(found) == sorted(entries)


def test_run_time_is_what_the_kernel_measures(rig: Rig, peer: Peer) -> None:
    assert peer.ask(add("in_port=1,filter_prog=1,actions=output:2")) == []
    rig.attach()
    with run_time(measured=True):
        rig.send("h1", "02:00:00:00:00:02", 3)
        body = peer.report(RunTimeRequest())
    assert isinstance(body, RunTimeReply)
    assert (body.flags, body.packets) == (RunTimeFlag.MEASURING, 3)
    assert 0 < body.run_time < 3 * 10**9


def test_an_error_names_map_and_key(peer: Peer) -> None:
    (answer,) = peer.ask(delete("hash", key(9), flags=2))
    assert isinstance(answer, ExperimenterError)
    assert b"map hash of program 1 has no key 09000000" in answer.data
