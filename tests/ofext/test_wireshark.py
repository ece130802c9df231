"""What Wireshark shows of the extension, with ofext/wireshark/oko.lua."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap

from ofext.answers import extension_error
from ofext.extension import (
    COMMANDS,
    EXPERIMENTER,
    FILTER_PROG_CLASS,
    FILTER_PROG_FIELD,
    LIST_REPLIES,
    LIST_REQUESTS,
    MapDumpReply,
    MapDumpRequest,
    MapEntry,
    MapUpdate,
    ProgramListRequest,
)
from ofext.load import chunks
from ofext.messages import FlowMod, Hello, encode
from ofext.multipart import MultipartReply, MultipartRequest
from ofext.oxm import Oxm
from ofext.wireshark.generate import SCRIPT, fields, script, structures
from tests.oko.conftest import Rig, cables, rig  # noqa: F401
from tests.oko.openflow.peer import Peer
from tests.oko.reporting import reporting

needs_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")

FILTER = Oxm(FILTER_PROG_CLASS, FILTER_PROG_FIELD, (7).to_bytes(4, "big"), None, EXPERIMENTER)
ETH_TYPE = Oxm(0x8000, 5, b"\x08\x00")
LIST = MultipartRequest(ProgramListRequest())
SEGMENT = 1400
FAMILIES = ((COMMANDS, "command"), (LIST_REQUESTS, "request"), (LIST_REPLIES, "reply"))


def capture(path: Path, streams: Sequence[tuple[int, bytes]]) -> Path:
    """A file with TCP segments on OpenFlow's port; each stream is who sends, 0 for the switch, and what."""
    numbers = [1, 1]
    packets = []
    for sender, data in streams:
        ports = {"sport": 40000, "dport": 6653} if sender else {"sport": 6653, "dport": 40000}
        for at in range(0, len(data), SEGMENT):
            part = data[at : at + SEGMENT]
            tcp = TCP(**ports, seq=numbers[sender], ack=numbers[1 - sender], flags="PA")
            packets.append(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP() / tcp / part)
            numbers[sender] += len(part)
    wrpcap(str(path), packets)
    return path


def tshark(path: Path, *options: str) -> str:
    """What tshark prints of a capture."""
    command = ["tshark", "-X", f"lua_script:{SCRIPT}", "-r", path, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "Lua" not in done.stderr, done.stderr
    return done.stdout


def shown(path: Path) -> list[list[tuple[str, str]]]:
    """The name and text of each of our fields, packet by packet."""
    packets = ET.fromstring(tshark(path, "-T", "pdml")).findall("packet")
    return [
        [(field.get("name", ""), field.get("show", "")) for proto in packet if proto.get("name") == "oko"
         for field in proto.iter("field") if field.get("name", "").startswith("oko.")]
        for packet in packets
    ]  # fmt: skip


def example(cls: type, numbers: Iterator[int]) -> tuple[Any, list[tuple[str, str]]]:
    """A value of a structure, with the fields that are to be shown of it."""
    values: list[Any] = []
    expected: list[tuple[str, str]] = []
    by_name = {each.__name__: each for each in structures()}
    for name, kind, size, _ in fields(cls):
        number = next(numbers)
        match kind:
            case "number":
                values.append(number)
                expected.append((f"oko.{name}", str(number)))
            case "bytes" | "counted":
                data = bytes([number]) * (size if kind == "bytes" and size else 3)
                values.append(data)
                expected.append((f"oko.{name}", ":".join(f"{byte:02x}" for byte in data)))
            case "text":
                values.append(f"text {number}")
                expected.append((f"oko.{name}", f"text {number}"))
            case "oxms":
                values.append((ETH_TYPE, FILTER))
                expected += [("oko.oxm", "80:00:0a:02:08:00"), ("oko.filter_prog", "7")]
            case _:
                pairs = [example(by_name[kind], numbers) for _ in range(2)]
                values.append(tuple(value for value, _ in pairs))
                expected += [field for _, inner in pairs for field in inner]
    return cls(*values), expected


def message_of(family: object, value: Any) -> bytes:
    if family is LIST_REQUESTS:
        return encode(MultipartRequest(value), 5)
    return encode(MultipartReply(value) if family is LIST_REPLIES else value, 5)


def test_the_script_is_that_of_the_declarations() -> None:
    assert SCRIPT.read_text() == script(), "run python -m ofext.wireshark.generate"


def test_a_name_means_one_kind_of_field() -> None:
    kinds: dict[str, tuple[str, int]] = {}
    for cls in structures():
        for name, kind, size, _ in fields(cls):
            if kind == "number":
                assert kinds.setdefault(name, (kind, size)) == (kind, size), name
            else:
                assert kinds.get(name, ("", 0))[0] != "number", name


@needs_tshark
def test_every_structure_is_shown(tmp_path: Path) -> None:
    streams, wanted = [], []
    for family, label in FAMILIES:
        for cls, number in family.numbers.items():
            value, expected = example(cls, itertools.count(33))
            streams.append((0, message_of(family, value)))
            wanted.append([(f"oko.{label}", str(number)), *expected])
    for found, expected in zip(shown(capture(tmp_path / "all.pcap", streams)), wanted, strict=True):
        assert [(name, text.lower()) for name, text in found] == expected


@needs_tshark
def test_errors_and_matches_are_shown(tmp_path: Path) -> None:
    streams = [
        (0, encode(extension_error("unknown-map", "no map"))),
        (1, encode(FlowMod(match=(ETH_TYPE, FILTER)))),
        (1, encode(Hello()) + encode(LIST)),
    ]
    assert shown(capture(tmp_path / "some.pcap", streams)) == [
        [("oko.error", "8"), ("oko.error.text", "no map")],
        [("oko.filter_prog", "7")],
        [("oko.request", "16")],
    ]


@needs_tshark
def test_what_is_cut_off_is_called_so(tmp_path: Path) -> None:
    streams = []
    for family, _ in FAMILIES:
        for cls in family.numbers:
            whole = message_of(family, example(cls, itertools.count(33))[0])
            head = 16 if family is COMMANDS else 24
            for length in range(head, len(whole)):
                streams.append((0, whole[:2] + length.to_bytes(2, "big") + whole[4:length]))
    packets = shown(capture(tmp_path / "cut.pcap", streams))
    assert len(packets) == len(streams)
    # A list that ends behind an entry, or bytes that go on to the end, cannot be seen to be cut.
    called = [any(name == "oko.malformed" for name, _ in packet) for packet in packets]
    assert sum(called) > len(streams) / 2
    unknown = encode(LIST)[:-1] + b"\xee"
    assert shown(capture(tmp_path / "unknown.pcap", [(1, unknown)])) == [[("oko.request", str(0xEE))]]


@needs_tshark
@pytest.mark.needs_bpf
def test_a_real_exchange(rig: Rig, tmp_path: Path) -> None:  # noqa: F811
    """Of a session with a real bridge, over several segments."""
    peer = Peer(rig)
    entries = tuple(MapEntry(number.to_bytes(4, "little"), bytes(8)) for number in range(300))
    requests = [
        *(encode(chunk, 1) for chunk in chunks(1, "", reporting())),
        encode(MapUpdate(1, 0, "hash", entries), 2),
        encode(MultipartRequest(MapDumpRequest(1, 0, "hash")), 3),
        encode(MultipartRequest(MapDumpRequest(1, 0, "sash")), 4),
    ]
    streams = [(0, answer) for request in requests for answer in peer.raw([request])]
    exchange = [(1, b"".join(requests)), *streams]
    path = capture(tmp_path / "exchange.pcap", exchange)
    names = [name for packet in shown(path) for name, _ in packet]
    assert names.count("oko.key") == 600
    assert "oko.malformed" not in names
    told = tshark(path, "-Y", "oko")
    for part in ("ProgramLoad", "MapUpdate", "MapDumpRequest", "ProgramLoaded", MapDumpReply.__name__, "unknown-map"):
        assert part in told
