from __future__ import annotations

import hashlib
import struct
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ofext.extension import (
    DropListReply,
    DropListRequest,
    FilterRulesShow,
    ImageReply,
    ImageRequest,
    LoadFlag,
    MapDumpReply,
    MapDumpRequest,
    MapEntry,
    MapListReply,
    MapListRequest,
    MapUpdate,
    Observe,
    ObserverEntry,
    ObserverListReply,
    ObserverListRequest,
    ProgramEntry,
    ProgramListReply,
    ProgramListRequest,
    ProgramLoad,
    ProgramLoaded,
    ProgramUnload,
    UnloadFlag,
    Unobserve,
)
from ofext.load import chunks
from ofext.messages import BarrierReply, BarrierRequest, ExperimenterError, Message
from ofext.multipart import MultipartRequest
from oko.flow.drop import OF_ATTACHED, Drop
from oko.flow.text import parse_rule
from oko.wire.match import write_match
from tests.oko.conftest import Compile, Rig
from tests.oko.openflow.peer import Peer, add, error_name

pytestmark = pytest.mark.needs_bpf

SIMPLE = "in_port=1,actions=output:2"


def programs(peer: Peer) -> tuple[ProgramEntry, ...]:
    body = peer.report(ProgramListRequest())
    assert isinstance(body, ProgramListReply)
    return body.entries


def dump(peer: Peer, name: str) -> dict[bytes, bytes]:
    body = peer.report(MapDumpRequest(1, 0, name))
    assert isinstance(body, MapDumpReply)
    return dict(body.entries)


def observers(peer: Peer) -> tuple[ObserverEntry, ...]:
    body = peer.report(ObserverListRequest())
    assert isinstance(body, ObserverListReply)
    return body.entries


def load(peer: Peer, elf: bytes, *, program: int = 1, flags: int = 0, name: str = "") -> list[Message]:
    return peer.ask(*chunks(program, name, elf, flags))


def state(rig: Rig, peer: Peer) -> tuple[object, ...]:
    """All that a refused message must leave as it was."""
    flows = [replace(flow, duration_sec=0, duration_nsec=0) for flow in peer.flows()]
    return flows, programs(peer), observers(peer), dump(peer, "seen"), dump(peer, "settings"), rig.pipeline()


@pytest.fixture
def peer(rig: Rig) -> Peer:
    return Peer(rig)


@pytest.fixture
def loaded(peer: Peer, counting: Compile) -> Peer:
    """Program 1, named by a rule, with content in a map."""
    (answer,) = load(peer, counting())
    assert answer == ProgramLoaded(1, 0, programs(peer)[0].instructions, 4, "counting")
    assert peer.ask(add("in_port=1,filter_prog=1,actions=output:2"), add(SIMPLE)) == []
    assert peer.ask(MapUpdate(1, 0, "seen", (MapEntry(struct.pack("<I", 1), struct.pack("<Q", 40)),))) == []
    return peer


def naming(text: str) -> tuple[object, ...]:
    return write_match(parse_rule(f"{text},actions=drop").match)


REFUSED: dict[str, tuple[Message, str]] = {
    "unknown program": (add("in_port=2,filter_prog=7,actions=output:1"), "unknown-program"),
    "no ELF": (next(chunks(2, "", b"#!/bin/sh\n")), "program-not-readable"),
    "program id 0": (next(chunks(0, "", b"\x7fELF")), "limit-exceeded"),
    "program id 65536": (next(chunks(65536, "", b"\x7fELF")), "limit-exceeded"),
    "reserved flag of a load": (replace(next(chunks(2, "", b"\x7fELF")), flags=4), "bad-request/bad-packet"),
    "unload an unknown program": (ProgramUnload(9), "unknown-program"),
    "unload a program in use": (ProgramUnload(1), "program-in-use"),
    "reserved flag of an unload": (ProgramUnload(1, 3), "bad-request/bad-packet"),
    "map of an unknown program": (MapUpdate(9, 0, "seen"), "unknown-program"),
    "unknown map": (MapUpdate(1, 0, "sean"), "unknown-map"),
    "key of wrong size": (MapUpdate(1, 0, "seen", (MapEntry(bytes(3), bytes(8)),)), "bad-map-access"),
    "value of wrong size": (MapUpdate(1, 0, "seen", (MapEntry(bytes(4), bytes(4)),)), "bad-map-access"),
    "one of two of wrong size": (
        MapUpdate(1, 0, "seen", (MapEntry(bytes(4), bytes(8)), MapEntry(bytes(4), bytes(4)))),
        "bad-map-access",
    ),
    "flags of an update": (MapUpdate(1, 3, "seen", (MapEntry(bytes(4), bytes(8)),)), "bad-map-access"),
    "read-only data": (MapUpdate(1, 0, ".rodata", (MapEntry(bytes(4), bytes(4)),)), "bad-map-access"),
    "dump of an unknown map": (MultipartRequest(MapDumpRequest(1, 0, "sean")), "unknown-map"),
    "dump from a cursor": (MultipartRequest(MapDumpRequest(1, 0, "seen", b"1")), "bad-map-access"),
    "maps of an unknown program": (MultipartRequest(MapListRequest(9)), "unknown-program"),
    "observer of an unknown program": (Observe(0, naming("filter_prog=7")), "unknown-program"),
    "observer without a program": (Observe(0, naming("tcp")), "bad-match/bad-value"),
    "observer of no table": (Observe(254, naming("filter_prog=1")), "flow-mod-failed/bad-table-id"),
    "observer that is not there": (Unobserve(0, naming("filter_prog=1")), "flow-mod-failed/unknown"),
}


@pytest.mark.parametrize(("message", "expected"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_changes_nothing(rig: Rig, loaded: Peer, message: Message, expected: str) -> None:
    before = state(rig, loaded)
    answers = loaded.ask(message, BarrierRequest())
    assert [error_name(answer) for answer in answers[:-1]] == [expected]
    assert answers[-1] == BarrierReply()
    assert state(rig, loaded) == before


def test_observers_come_and_go(loaded: Peer) -> None:
    first, second = naming("tcp,filter_prog=1"), naming("filter_prog=1")
    assert loaded.ask(Observe(3, first), Observe(0, second), Observe(3, first)) == []
    assert observers(loaded) == (ObserverEntry(0, second), ObserverEntry(3, first))
    assert loaded.refusals(ProgramUnload(1)) == ["program-in-use"]
    assert loaded.ask(Unobserve(3, tuple(reversed(first)))) == []
    assert observers(loaded) == (ObserverEntry(0, second),)


def test_filter_rules_are_shown_to_everybody(loaded: Peer) -> None:
    assert loaded.ask(FilterRulesShow(), BarrierRequest()) == [BarrierReply()]


def test_drops_are_listed_by_reason(rig: Rig, peer: Peer) -> None:
    rig.attach()
    rig.send("h1", "02:00:00:00:00:02", 3)
    body = peer.report(DropListRequest())
    assert isinstance(body, DropListReply)
    assert len(body.entries) == len(Drop) - len(OF_ATTACHED) + 2
    assert {drop.reason: drop.packets for drop in body.entries if drop.packets} == {"miss": 3}


def test_the_image_is_told(loaded: Peer) -> None:
    body = loaded.report(ImageRequest())
    assert isinstance(body, ImageReply)
    assert any("counting" in line.text for line in body.entries)


@pytest.fixture
def large(tmp_path: Path, counting: Compile) -> bytes:
    """An object beyond two messages, by a section that a debugger would read."""
    plain, padding, padded = (tmp_path / name for name in ("plain.o", "padding", "padded.o"))
    plain.write_bytes(counting())
    padding.write_bytes(bytes(150_000))
    subprocess.run(["llvm-objcopy", f"--add-section=.debug_padding={padding}", plain, padded], check=True)
    return padded.read_bytes()


def test_large_program_arrives_in_chunks(peer: Peer, large: bytes) -> None:
    parts = list(chunks(1, "", large))
    assert len(parts) == 3
    for part in parts[:-1]:
        assert peer.ask(part) == []
        assert programs(peer) == ()
    (answer,) = peer.ask(parts[-1])
    assert isinstance(answer, ProgramLoaded)
    assert [entry.digest for entry in programs(peer)] == [hashlib.sha256(large).digest()]


def without(index: int) -> Callable[[list[ProgramLoad]], Sequence[ProgramLoad]]:
    return lambda parts: parts[:index] + parts[index + 1 :]


def wrong_digest(parts: list[ProgramLoad]) -> Sequence[ProgramLoad]:
    return [replace(part, digest=bytes(32)) for part in parts]


def damaged(parts: list[ProgramLoad]) -> Sequence[ProgramLoad]:
    return [parts[0], replace(parts[1], data=bytes([parts[1].data[0] ^ 1]) + parts[1].data[1:]), *parts[2:]]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(without(0), "load-out-of-order", id="first missing"),
        pytest.param(without(1), "load-out-of-order", id="middle missing"),
        pytest.param(wrong_digest, "load-digest-mismatch", id="wrong digest"),
        pytest.param(damaged, "load-digest-mismatch", id="damaged"),
    ],
)
def test_load_is_whole_or_nothing(
    rig: Rig,
    loaded: Peer,
    large: bytes,
    change: Callable[[list[ProgramLoad]], Sequence[ProgramLoad]],
    expected: str,
) -> None:
    before = state(rig, loaded)
    answers = loaded.ask(*change(list(chunks(1, "", large))))
    assert expected in {error_name(answer) for answer in answers}
    assert not any(isinstance(answer, ProgramLoaded) for answer in answers)
    assert state(rig, loaded) == before
    (answer,) = load(loaded, large)
    assert isinstance(answer, ProgramLoaded)


def test_half_a_load_dies_with_its_connection(rig: Rig, loaded: Peer, large: bytes) -> None:
    before = state(rig, loaded)
    assert loaded.ask(*list(chunks(1, "", large))[:2]) == []
    loaded.session.close()
    assert state(rig, loaded) == before


def test_verify_only_changes_nothing(rig: Rig, loaded: Peer, counting: Compile) -> None:
    before = state(rig, loaded)
    (answer,) = load(loaded, counting(), program=2, flags=LoadFlag.VERIFY_ONLY, name="trial")
    assert isinstance(answer, ProgramLoaded)
    assert (answer.program, answer.name) == (2, "trial")
    assert state(rig, loaded) == before


def test_reload_keeps_contents_and_renews_constants(rig: Rig, loaded: Peer, counting: Compile) -> None:
    seen, constants, pipeline = dump(loaded, "seen"), dump(loaded, ".rodata"), rig.pipeline()
    assert seen
    (answer,) = load(loaded, counting("-DANSWER=77"))
    assert isinstance(answer, ProgramLoaded)
    assert dump(loaded, "seen") == seen
    assert dump(loaded, ".rodata") != constants
    assert rig.pipeline() != pipeline


def test_reload_with_fresh_maps(loaded: Peer, counting: Compile) -> None:
    (answer,) = load(loaded, counting(), flags=LoadFlag.FRESH_MAPS)
    assert isinstance(answer, ProgramLoaded)
    assert dump(loaded, "seen") == {}


def test_changed_shape_is_refused_unless_fresh(rig: Rig, loaded: Peer, counting: Compile) -> None:
    before = state(rig, loaded)
    (answer,) = load(loaded, counting("-DENTRIES=8"))
    assert error_name(answer) == "map-shape-changed"
    assert isinstance(answer, ExperimenterError)
    assert b"map seen of program 1 would change (max_entries 4 \xe2\x86\x92 8)" in answer.data
    assert state(rig, loaded) == before
    (answer,) = load(loaded, counting("-DENTRIES=8"), flags=LoadFlag.FRESH_MAPS)
    assert isinstance(answer, ProgramLoaded)
    assert dump(loaded, "seen") == {}


@pytest.mark.parametrize("what", ["counting", "seen"], ids=["function", "map"])
def test_names_that_no_list_could_hold_are_refused(rig: Rig, loaded: Peer, counting: Compile, what: str) -> None:
    before = state(rig, loaded)
    (answer,) = load(loaded, counting(f"-D{what}={'n' * 64}"), program=2)
    assert error_name(answer) == "limit-exceeded"
    assert state(rig, loaded) == before
    (answer,) = load(loaded, counting(f"-D{what}={'n' * 63}"), program=2)
    assert isinstance(answer, ProgramLoaded)
    assert len(programs(loaded)) == 2


def test_unload_with_force_takes_the_rules_along(rig: Rig, loaded: Peer) -> None:
    assert loaded.ask(ProgramUnload(1, UnloadFlag.FORCE)) == []
    assert programs(loaded) == ()
    assert len(loaded.flows()) == 1
    assert not (rig.datapath.pins / "programs" / "1" / "seen").exists()


def test_unload_and_load_under_the_same_id(peer: Peer, counting: Compile) -> None:
    for _ in range(2):
        (answer,) = load(peer, counting())
        assert isinstance(answer, ProgramLoaded)
        assert peer.ask(ProgramUnload(1)) == []


def test_maps_are_described(loaded: Peer) -> None:
    body = loaded.report(MapListRequest(0))
    assert isinstance(body, MapListReply)
    sizes = {entry.name: (entry.key_size, entry.value_size, entry.max_entries) for entry in body.entries}
    assert sizes == {"seen": (4, 8, 4), "settings": (4, 28, 1), "packets": (4, 4, 1), ".rodata": (4, 4, 1)}
    assert all(entry.value_schema for entry in body.entries)


def test_full_map_says_so(loaded: Peer) -> None:
    entries = tuple(MapEntry(struct.pack("<I", key), bytes(8)) for key in range(10, 16))
    (answer,) = loaded.ask(MapUpdate(1, 0, "seen", entries))
    assert error_name(answer) == "bad-map-access"
    assert loaded.ask(BarrierRequest()) == [BarrierReply()]
