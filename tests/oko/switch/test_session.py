from __future__ import annotations

import hashlib
import struct
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ofext import instructions as wire_instructions
from ofext.constants import MULTIPART_MORE, Role
from ofext.errors import BY_NAME, EXTENSION_BY_NAME
from ofext.extension import (
    EXPERIMENTER,
    LoadFlag,
    MapDumpReply,
    MapDumpRequest,
    MapEntry,
    MapListReply,
    MapListRequest,
    MapUpdate,
    ProgramEntry,
    ProgramListReply,
    ProgramListRequest,
    ProgramLoad,
    ProgramLoaded,
    ProgramUnload,
    UnloadFlag,
)
from ofext.load import chunks
from ofext.messages import (
    BarrierReply,
    BarrierRequest,
    EchoReply,
    EchoRequest,
    Error,
    Experimenter,
    ExperimenterError,
    FeaturesReply,
    FeaturesRequest,
    FlowMod,
    GetConfigReply,
    GetConfigRequest,
    Hello,
    Message,
    RoleReply,
    RoleRequest,
    SetConfig,
    Unknown,
    VersionBitmap,
    encode,
)
from ofext.multipart import (
    Aggregate,
    AggregateRequest,
    Desc,
    DescRequest,
    ExperimenterBody,
    MultipartReply,
    MultipartRequest,
    PortDescReply,
    PortDescRequest,
    TableStatsReply,
    TableStatsRequest,
    UnknownBody,
)
from ofext.oxm import Oxm
from oko.flow.rule import Command
from oko.flow.rule import FlowMod as Change
from oko.flow.text import parse_rule, parse_selection
from oko.switch.wire import write_flow_mod
from tests.oko.switch.conftest import Compile, Rig

pytestmark = pytest.mark.needs_bpf

SIMPLE = "in_port=1,actions=output:2"


def add(flow: str) -> FlowMod:
    return write_flow_mod(Change(Command.ADD, parse_rule(flow)))


def programs(rig: Rig) -> tuple[ProgramEntry, ...]:
    answer = rig.report(ProgramListRequest())
    assert isinstance(answer, MultipartReply)
    assert isinstance(answer.body, ProgramListReply)
    return answer.body.entries


def dump(rig: Rig, name: str) -> dict[bytes, bytes]:
    answer = rig.report(MapDumpRequest(1, 0, name))
    assert isinstance(answer, MultipartReply)
    assert isinstance(answer.body, MapDumpReply)
    return dict(answer.body.entries)


def load(rig: Rig, elf: bytes, *, program: int = 1, flags: int = 0, name: str = "") -> list[Message]:
    return rig.ask(*chunks(program, name, elf, flags))


def error_name(answer: Message) -> str:
    if isinstance(answer, ExperimenterError):
        return next(name for name, kind in EXTENSION_BY_NAME.items() if kind.exp_type == answer.exp_type)
    assert isinstance(answer, Error)
    return next(name for name, kind in BY_NAME.items() if (kind.type, kind.code) == (answer.type, answer.code))


def state(rig: Rig) -> tuple[object, ...]:
    """All that a refused message must leave as it was."""
    flows = [replace(flow, duration_sec=0, duration_nsec=0) for flow in rig.flows()]
    return flows, programs(rig), dump(rig, "seen"), dump(rig, "settings"), rig.pipeline()


@pytest.fixture
def loaded(rig: Rig, counting: Compile) -> Rig:
    """Program 1, named by a rule, with content in a map."""
    (answer,) = load(rig, counting())
    assert answer == ProgramLoaded(1, 0, programs(rig)[0].instructions, 4, "counting")
    assert rig.add("in_port=1,filter_prog=1,actions=output:2", SIMPLE) == []
    assert rig.ask(MapUpdate(1, 0, "seen", (MapEntry(struct.pack("<I", 1), struct.pack("<Q", 40)),))) == []
    return rig


SHORT = encode(add(SIMPLE), 1)[:40]
REFUSED: dict[str, tuple[Message | bytes, str]] = {
    "wrong length": (SHORT[:2] + len(SHORT).to_bytes(2, "big") + SHORT[4:], "bad-request/bad-len"),
    "wrong version": (b"\5" + encode(BarrierRequest(), 1)[1:], "bad-request/bad-version"),
    "unknown type": (Unknown(99, b"payload!"), "bad-request/bad-type"),
    "answer for the switch": (BarrierReply(), "bad-request/bad-type"),
    "unknown experimenter": (Experimenter(0x4F4E4600, 1), "bad-request/bad-experimenter"),
    "unknown experimenter type": (
        encode(Unknown(4, EXPERIMENTER.to_bytes(4, "big") + (99).to_bytes(4, "big"))),
        "bad-request/bad-exp-type",
    ),
    "unknown multipart": (MultipartRequest(UnknownBody(77)), "bad-request/bad-multipart"),
    "experimenter multipart": (MultipartRequest(ExperimenterBody(0x4F4E4600, 1)), "bad-request/bad-multipart"),
    "multipart request in parts": (
        MultipartRequest(DescRequest(), MULTIPART_MORE),
        "bad-request/multipart-buffer-overflow",
    ),
    "role": (RoleRequest(Role.MASTER, 0), "role-request-failed/unsup"),
    "unknown port": (add("in_port=2,actions=output:9"), "bad-action/bad-out-port"),
    "reserved port": (
        FlowMod(instructions=(wire_instructions.ApplyActions((wire_instructions.Output(0xFFFFFFFB),)),)),
        "bad-action/bad-out-port",
    ),
    "unknown program": (add("in_port=2,filter_prog=7,actions=output:1"), "unknown-program"),
    "program 0": (FlowMod(match=(Oxm(0xFFFF, 1, bytes(4), None, EXPERIMENTER),)), "bad-match/bad-value"),
    "unknown field": (FlowMod(match=(Oxm(0x8000, 3, bytes(6)), Oxm(0x8000, 38, bytes(8)))), "bad-match/bad-field"),
    "another's field": (FlowMod(match=(Oxm(0xFFFF, 1, bytes(4), None, 0x4F4E4600),)), "bad-match/bad-field"),
    "field of wrong size": (FlowMod(match=(Oxm(0x8000, 0, bytes(2)),)), "bad-match/bad-len"),
    "field without prerequisite": (FlowMod(match=(Oxm(0x8000, 14, bytes(2)),)), "bad-match/bad-prereq"),
    "value beyond its mask": (
        FlowMod(match=(Oxm(0x8000, 3, b"\1\1\1\1\1\1", b"\1\1\1\1\1\0"),)),
        "bad-match/bad-wildcards",
    ),
    "unknown action": (
        FlowMod(instructions=(wire_instructions.ApplyActions((wire_instructions.UnknownAction(18, bytes(4)),)),)),
        "bad-action/bad-type",
    ),
    "goto_table": (FlowMod(instructions=(wire_instructions.GotoTable(1),)), "bad-instruction/unsup-inst"),
    "table 1": (FlowMod(table_id=1), "flow-mod-failed/bad-table-id"),
    "command": (FlowMod(command=5), "flow-mod-failed/bad-command"),
    "timeout": (FlowMod(idle_timeout=1), "flow-mod-failed/bad-timeout"),
    "flags": (FlowMod(flags=1), "flow-mod-failed/bad-flags"),
    "overlap": (replace(add("in_port=1,arp,actions=drop"), flags=2), "flow-mod-failed/overlap"),
    "no ELF": (next(chunks(2, "", b"#!/bin/sh\n")), "program-not-readable"),
    "program id 0": (next(chunks(0, "", b"\x7fELF")), "limit-exceeded"),
    "program id 65536": (next(chunks(65536, "", b"\x7fELF")), "limit-exceeded"),
    "unload an unknown program": (ProgramUnload(9), "unknown-program"),
    "unload a program in use": (ProgramUnload(1), "program-in-use"),
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
}


@pytest.mark.parametrize(("message", "expected"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_changes_nothing(loaded: Rig, message: Message | bytes, expected: str) -> None:
    before = state(loaded)
    request = message if isinstance(message, bytes) else encode(message, 1)
    answers = loaded.raw([request, encode(BarrierRequest(), 2)])
    assert [error_name(answer) for answer in answers[:-1]] == [expected]
    assert answers[-1] == BarrierReply()
    if isinstance(answers[0], Error):
        assert answers[0].data == request[:64]
    assert state(loaded) == before


def test_one_refused_flow_mod_leaves_those_that_arrived_with_it(rig: Rig) -> None:
    (answer,) = rig.add("in_port=1,actions=output:2", "in_port=1,actions=output:3", "in_port=2,actions=output:1")
    assert error_name(answer) == "bad-action/bad-out-port"
    assert len(rig.flows()) == 2


def test_greeting_and_small_questions(rig: Rig) -> None:
    assert rig.session.greeting() == encode(Hello())
    answers = rig.ask(
        Hello(),
        EchoRequest(b"are you there"),
        FeaturesRequest(),
        SetConfig(0, 64),
        GetConfigRequest(),
        RoleRequest(Role.NOCHANGE, 5),
        BarrierRequest(),
    )
    datapath_id = int.from_bytes(rig.ports[0].mac, "big")
    assert answers == [
        EchoReply(b"are you there"),
        FeaturesReply(datapath_id, capabilities=3),
        GetConfigReply(0, 64),
        RoleReply(Role.EQUAL, 5),
        BarrierReply(),
    ]


def test_other_versions_are_turned_away(rig: Rig) -> None:
    (answer,) = rig.ask(Hello((VersionBitmap(frozenset({1, 6})),), 6))
    assert error_name(answer) == "hello-failed/incompatible"
    assert rig.session.failed


def test_nothing_is_done_behind_a_hello_that_failed(rig: Rig) -> None:
    (answer,) = rig.ask(Hello((), 1), EchoRequest(b"still there"), FlowMod())
    assert error_name(answer) == "hello-failed/incompatible"
    assert rig.bridge.rules == 0


def test_descriptions(rig: Rig) -> None:
    description, ports = rig.report(DescRequest()), rig.report(PortDescRequest())
    assert isinstance(description, MultipartReply)
    assert isinstance(description.body, Desc)
    assert (description.body.mfr_desc, description.body.dp_desc) == ("Oko", "br0")
    assert isinstance(ports, MultipartReply)
    assert isinstance(ports.body, PortDescReply)
    assert [(port.port_no, port.name, port.hw_addr) for port in ports.body.entries] == [
        (1, "p1", rig.ports[0].mac),
        (2, "p2", rig.ports[1].mac),
    ]


def test_flow_statistics_select(rig: Rig) -> None:
    assert rig.add("cookie=1,arp,in_port=1,actions=output:2", "cookie=2,ip,in_port=2,actions=output:1") == []
    wanted = write_flow_mod(parse_selection("in_port=2"))
    answer = rig.report(AggregateRequest(wanted.table_id, match=wanted.match))
    assert isinstance(answer, MultipartReply)
    assert answer.body == Aggregate(0, 0, 1)
    assert [flow.cookie for flow in rig.flows()] == [1, 2]
    tables = rig.report(TableStatsRequest())
    assert isinstance(tables, MultipartReply)
    assert isinstance(tables.body, TableStatsReply)
    assert [(table.table_id, table.active_count) for table in tables.body.entries] == [(0, 2)]


def test_deletes_and_modifies(rig: Rig) -> None:
    assert rig.add("arp,in_port=1,actions=output:2", "ip,in_port=1,actions=output:2", "ip,actions=drop") == []
    modify = write_flow_mod(Change(Command.MODIFY, parse_rule("in_port=1,actions=drop")))
    assert rig.ask(modify) == []
    assert [flow.instructions for flow in rig.flows()] == [(), (), ()]
    assert rig.ask(write_flow_mod(parse_selection("in_port=1"))) == []
    assert len(rig.flows()) == 1
    assert rig.ask(write_flow_mod(parse_selection(""))) == []
    assert rig.flows() == []


# ---- programs


@pytest.fixture
def large(tmp_path: Path, counting: Compile) -> bytes:
    """An object beyond two messages, by a section that a debugger would read."""
    plain, padding, padded = (tmp_path / name for name in ("plain.o", "padding", "padded.o"))
    plain.write_bytes(counting())
    padding.write_bytes(bytes(150_000))
    subprocess.run(["llvm-objcopy", f"--add-section=.debug_padding={padding}", plain, padded], check=True)
    return padded.read_bytes()


def test_large_program_arrives_in_chunks(rig: Rig, large: bytes) -> None:
    parts = list(chunks(1, "", large))
    assert len(parts) == 3
    for part in parts[:-1]:
        assert rig.ask(part) == []
        assert programs(rig) == ()
    (answer,) = rig.ask(parts[-1])
    assert isinstance(answer, ProgramLoaded)
    assert [entry.digest for entry in programs(rig)] == [hashlib.sha256(large).digest()]


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
    loaded: Rig, large: bytes, change: Callable[[list[ProgramLoad]], Sequence[ProgramLoad]], expected: str
) -> None:
    before = state(loaded)
    answers = loaded.ask(*change(list(chunks(1, "", large))))
    assert expected in {error_name(answer) for answer in answers}
    assert not any(isinstance(answer, ProgramLoaded) for answer in answers)
    assert state(loaded) == before
    (answer,) = load(loaded, large)
    assert isinstance(answer, ProgramLoaded)


def test_half_a_load_dies_with_its_connection(loaded: Rig, large: bytes) -> None:
    before = state(loaded)
    assert loaded.ask(*list(chunks(1, "", large))[:2]) == []
    loaded.session = type(loaded.session)(loaded.bridge)
    assert state(loaded) == before


def test_verify_only_changes_nothing(loaded: Rig, counting: Compile) -> None:
    before = state(loaded)
    (answer,) = load(loaded, counting(), program=2, flags=LoadFlag.VERIFY_ONLY, name="trial")
    assert isinstance(answer, ProgramLoaded)
    assert (answer.program, answer.name) == (2, "trial")
    assert state(loaded) == before


def test_reload_keeps_contents_and_renews_constants(loaded: Rig, counting: Compile) -> None:
    seen, constants, pipeline = dump(loaded, "seen"), dump(loaded, ".rodata"), loaded.pipeline()
    assert seen
    (answer,) = load(loaded, counting("-DANSWER=77"))
    assert isinstance(answer, ProgramLoaded)
    assert dump(loaded, "seen") == seen
    assert dump(loaded, ".rodata") != constants
    assert loaded.pipeline() != pipeline


def test_reload_with_fresh_maps(loaded: Rig, counting: Compile) -> None:
    (answer,) = load(loaded, counting(), flags=LoadFlag.FRESH_MAPS)
    assert isinstance(answer, ProgramLoaded)
    assert dump(loaded, "seen") == {}


def test_changed_shape_is_refused_unless_fresh(loaded: Rig, counting: Compile) -> None:
    before = state(loaded)
    (answer,) = load(loaded, counting("-DENTRIES=8"))
    assert error_name(answer) == "map-shape-changed"
    assert isinstance(answer, ExperimenterError)
    assert b"map seen of program 1 would change (max_entries 4 \xe2\x86\x92 8)" in answer.data
    assert state(loaded) == before
    (answer,) = load(loaded, counting("-DENTRIES=8"), flags=LoadFlag.FRESH_MAPS)
    assert isinstance(answer, ProgramLoaded)
    assert dump(loaded, "seen") == {}


@pytest.mark.parametrize("what", ["counting", "seen"], ids=["function", "map"])
def test_names_that_no_list_could_hold_are_refused(loaded: Rig, counting: Compile, what: str) -> None:
    before = state(loaded)
    (answer,) = load(loaded, counting(f"-D{what}={'n' * 64}"), program=2)
    assert error_name(answer) == "limit-exceeded"
    assert state(loaded) == before
    (answer,) = load(loaded, counting(f"-D{what}={'n' * 63}"), program=2)
    assert isinstance(answer, ProgramLoaded)
    assert len(programs(loaded)) == 2


def test_unload_with_force_takes_the_rules_along(loaded: Rig) -> None:
    assert loaded.ask(ProgramUnload(1, UnloadFlag.FORCE)) == []
    assert programs(loaded) == ()
    assert len(loaded.flows()) == 1
    assert not (loaded.datapath.pins / "programs" / "1" / "seen").exists()


def test_unload_and_load_under_the_same_id(rig: Rig, counting: Compile) -> None:
    for _ in range(2):
        (answer,) = load(rig, counting())
        assert isinstance(answer, ProgramLoaded)
        assert rig.ask(ProgramUnload(1)) == []


def test_maps_are_described(loaded: Rig) -> None:
    answer = loaded.report(MapListRequest(0))
    assert isinstance(answer, MultipartReply)
    assert isinstance(answer.body, MapListReply)
    sizes = {entry.name: (entry.key_size, entry.value_size, entry.max_entries) for entry in answer.body.entries}
    assert sizes == {"seen": (4, 8, 4), "settings": (4, 28, 1), "packets": (4, 4, 1), ".rodata": (4, 4, 1)}
    assert all(entry.value_schema for entry in answer.body.entries)


def test_full_map_says_so(loaded: Rig) -> None:
    entries = tuple(MapEntry(struct.pack("<I", key), bytes(8)) for key in range(10, 16))
    (answer,) = loaded.ask(MapUpdate(1, 0, "seen", entries))
    assert error_name(answer) == "kernel"
    assert loaded.ask(BarrierRequest()) == [BarrierReply()]
