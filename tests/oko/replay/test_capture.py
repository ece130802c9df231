"""Capture files: what other tools wrote reads back the same, and nothing damaged passes for a whole file."""

from __future__ import annotations

import gzip
import json
import shutil
import struct
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.utils import PcapNgWriter, RawPcapReader, RawPcapWriter

from oko.errors import CaptureError
from oko.replay.capture import LONGEST_FRAME, Capture, CaptureWriter, Packet, PortCaptures

# Real captures, which may lie next to the checkout.
SHARED_CAPTURES = Path(__file__).parents[4] / "shared" / "data" / "pcaps"

PACKETS = [
    Packet(1_700_000_000_123_456_000, bytes(range(60)), 60, 0),
    Packet(1_700_000_000_123_457_000, b"\xff" * 14, 1514, 0),
    Packet(1_700_000_001_000_000_000, b"", 60, 0),
    Packet(1_700_000_001_999_999_000, bytes(61), 61, 0),
]


def read(path: Path) -> list[Packet]:
    with Capture(path) as capture:
        return list(capture)


def pcap_header(
    order: str = "<", *, magic: int = 0xA1B2C3D4, version: tuple[int, int] = (2, 4), link: int = 1
) -> bytes:
    return struct.pack(f"{order}IHHiIII", magic, *version, 0, 0, 65535, link)


def pcap_record(order: str = "<", *, length: int = 60) -> bytes:
    return struct.pack(f"{order}IIII", 1, 2, length, 60) + bytes(60)


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    length = struct.pack(f"{order}I", len(body) + 12)
    return struct.pack(f"{order}I", kind) + length + body + length


def section(order: str, major: int = 1) -> bytes:
    return block(order, 0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, major, 0, -1))


def interface(order: str, *, link: int = 1, snap: int = 0, options: dict[int, bytes] | None = None) -> bytes:
    body = struct.pack(f"{order}HHI", link, 0, snap)
    for code, value in (options or {}).items():
        body += struct.pack(f"{order}HH", code, len(value)) + value + bytes(-len(value) % 4)
    return block(order, 1, body + bytes(4 if options else 0))


def enhanced(order: str, data: bytes, *, ticks: int = 0, number: int = 0, wire: int | None = None) -> bytes:
    lengths = (len(data), len(data) if wire is None else wire)
    fields = struct.pack(f"{order}IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, *lengths)
    padded = data + bytes(-len(data) % 4)
    comment = struct.pack(f"{order}HH4sI", 1, 4, b"note", 0)
    return block(order, 6, fields + padded + comment)


def obsolete(order: str, data: bytes, *, ticks: int, number: int) -> bytes:
    fields = struct.pack(f"{order}HHIIII", number, 9, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
    return block(order, 2, fields + data)


def simple(order: str, data: bytes, wire: int) -> bytes:
    return block(order, 3, struct.pack(f"{order}I", wire) + data)


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("nano", [False, True], ids=["us", "ns"])
@pytest.mark.parametrize("order", ["<", ">"], ids=["little-endian", "big-endian"])
def test_reads_what_scapy_wrote(tmp_path: Path, order: str, nano: bool, compressed: bool) -> None:
    path = tmp_path / "in.bin"
    with RawPcapWriter(str(path), linktype=1, endianness=order, nano=nano, gz=compressed) as writer:
        writer.write_header(None)
        for packet in PACKETS:
            seconds, rest = divmod(packet.time_ns, 1_000_000_000)
            fraction = rest if nano else rest // 1000
            writer.write_packet(packet.data, sec=seconds, usec=fraction, wirelen=packet.wire_length)
    assert read(path) == PACKETS


def test_reads_the_pcapng_that_scapy_wrote(tmp_path: Path) -> None:
    path = tmp_path / "in.pcapng"
    # scapy takes the time as a float, which holds these exactly only as whole seconds.
    packets = [replace(packet, time_ns=packet.time_ns // 1_000_000_000 * 1_000_000_000) for packet in PACKETS]
    with PcapNgWriter(str(path)) as writer:
        for packet in packets:
            writer.write_header(packet.data)
            writer.write_packet(packet.data, sec=packet.time_ns // 1_000_000_000, wirelen=packet.wire_length)
    assert read(path) == packets


@pytest.mark.skipif(shutil.which("editcap") is None, reason="editcap is not installed")
@pytest.mark.parametrize(("file_type", "format_"), [("pcap", "pcap"), ("nsecpcap", "pcap"), ("pcapng", "pcapng")])
def test_reads_what_editcap_converted(tmp_path: Path, file_type: str, format_: str) -> None:
    source, converted = tmp_path / "source.pcap", tmp_path / "converted"
    with CaptureWriter(source) as writer:
        for packet in PACKETS:
            writer.write(packet)
    subprocess.run(["editcap", "-F", file_type, source, converted], check=True)
    with Capture(converted) as capture:
        assert list(capture) == PACKETS
        assert (capture.format, capture.link_types, capture.packets) == (format_, (1,), len(PACKETS))


@pytest.mark.parametrize("order", ["<", ">"], ids=["little-endian", "big-endian"])
def test_pcapng_blocks(tmp_path: Path, order: str) -> None:
    other = "<" if order == ">" else ">"
    path = tmp_path / "in.pcapng"
    path.write_bytes(
        section(order)
        + interface(order, options={2: b"eth0", 9: b"\x09"})
        + interface(order, snap=3, options={9: bytes([0x80 | 10]), 14: struct.pack(f"{order}q", 100)})
        + block(order, 0x0BAD0001, b"somebody's own block")
        + enhanced(order, b"abcde", ticks=5_000_000_000_123_456_789, wire=900)
        + enhanced(order, b"on the other", ticks=1536, number=1)
        + obsolete(order, b"four", ticks=7, number=0)
        + simple(order, b"seven b", 7)
        + section(other)
        + interface(other, snap=3)
        + simple(other, b"abc", 1000)
        + enhanced(other, b"us", ticks=2)
    )
    with Capture(path) as capture:
        assert list(capture) == [
            Packet(5_000_000_000_123_456_789, b"abcde", 900, 0),
            Packet(101_500_000_000, b"on the other", 12, 1),
            Packet(7, b"four", 4, 0),
            Packet(7, b"seven b", 7, 0),
            Packet(7, b"abc", 1000, 0),
            Packet(2000, b"us", 2, 0),
        ]
        assert capture.link_types == (1,)


SMALL_PCAP = pcap_header() + pcap_record() * 3
SMALL_PCAPNG_PARTS = [section("<"), interface("<"), enhanced("<", b"abcde"), simple("<", b"xy", 2), enhanced("<", b"")]


@pytest.mark.parametrize(
    ("content", "whole"),
    [
        (SMALL_PCAP, {24: 0, 100: 1, 176: 2}),
        (
            b"".join(SMALL_PCAPNG_PARTS),
            {sum(map(len, SMALL_PCAPNG_PARTS[:n])): max(0, n - 2) for n in range(1, len(SMALL_PCAPNG_PARTS))},
        ),
        (gzip.compress(SMALL_PCAP, mtime=0), {}),
    ],
    ids=["pcap", "pcapng", "gzip"],
)
def test_truncated_at_every_byte(tmp_path: Path, content: bytes, whole: dict[int, int]) -> None:
    """`whole`: the lengths at which the file ends between records, and the packets that it then holds."""
    path = tmp_path / "cut"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        if length in whole:
            assert len(read(path)) == whole[length]
        else:
            with pytest.raises(CaptureError) as caught:
                read(path)
            assert str(caught.value).startswith(f"{path}: ")
    path.write_bytes(content)
    assert len(read(path)) == 3


def test_truncation_names_the_packet(tmp_path: Path) -> None:
    path = tmp_path / "cut.pcap"
    path.write_bytes(SMALL_PCAP[:-1])
    with pytest.raises(CaptureError, match=r"cut\.pcap: truncated: the file ends in packet 3 \(59 of 60 bytes"):
        read(path)
    path.write_bytes(SMALL_PCAP[: -60 - 9])
    with pytest.raises(CaptureError, match=r"the header of packet 3 \(7 of 16 bytes"):
        read(path)


def damage(content: bytes, at: int, value: bytes) -> bytes:
    return content[:at] + value + content[at + len(value) :]


REFUSED = {
    "empty": (b"", "is empty"),
    "text": (b"hello, world", "neither pcap nor pcapng: it starts with 68 65 6c 6c"),
    "old-version": (pcap_header(version=(2, 2)), "pcap version 2.2"),
    "linux-cooked": (pcap_header(link=113), "link type 113 (LINUX_SLL)"),
    "unnamed-link-type": (pcap_header(">", link=4711), "link type 4711;"),
    "fcs": (pcap_header(link=1 | 1 << 26 | 2 << 28), "checksum (FCS) of 4 bytes"),
    "huge-record": (SMALL_PCAP + pcap_record(length=0xFFFFFFFF), "packet 4 claims 4294967295 bytes"),
    "corrupt-gzip": (damage(gzip.compress(SMALL_PCAP, mtime=0), 12, b"\xff\xff\xff"), "cannot be read"),
    "pcapng-version": (section("<", major=2), "pcapng version 2.0"),
    "pcapng-byte-order": (damage(section("<"), 8, b"oops"), "byte order mark 6f 6f 70 73"),
    "pcapng-link-type": (
        section("<") + interface("<") + interface("<", link=113) + enhanced("<", b"", number=1),
        "interface 1: link type 113 (LINUX_SLL)",
    ),
    "pcapng-fcs": (section("<") + interface("<", options={13: b"\x04"}) + enhanced("<", b""), "checksum (FCS) of 4"),
    "pcapng-no-interface": (section("<") + enhanced("<", b""), "interface 0, which is not described"),
    "pcapng-interface-of-another-section": (
        section("<") + interface("<") + section("<") + enhanced("<", b""),
        "interface 0, which is not described",
    ),
    "pcapng-lengths-differ": (damage(section("<"), 24, b"\x20"), "two lengths of a block differ"),
    "pcapng-length-odd": (section("<") + struct.pack("<II", 99, 13) + bytes(5), "a length of 13 bytes"),
    "pcapng-length-huge": (section("<") + struct.pack("<II", 99, 0xFFFFFFFC), "a length of 4294967292 bytes"),
    "pcapng-short-block": (section("<") + interface("<") + block("<", 6, bytes(8)), "type 6 does not hold its fields"),
    "pcapng-bad-option": (section("<") + interface("<", options={14: b"\x01"}), "type 1 does not hold its fields"),
    "pcapng-time-beyond-all": (
        section("<") + interface("<") + enhanced("<", b"", ticks=(1 << 64) - 1),
        "packet 1 is of 18446744073709551615000 ns since 1970",
    ),
    "pcapng-frame-beyond-block": (
        section("<") + interface("<") + block("<", 6, struct.pack("<IIIII", 0, 0, 0, 9, 9) + bytes(8)),
        "packet 1 claims 9 bytes, its block has 8",
    ),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad"
    path.write_bytes(content)
    with pytest.raises(CaptureError) as caught:
        read(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_an_unused_interface_of_another_link_type_is_no_fault(tmp_path: Path) -> None:
    path = tmp_path / "in.pcapng"
    path.write_bytes(section("<") + interface("<", link=113) + interface("<") + enhanced("<", b"ok", number=1))
    with Capture(path) as capture:
        assert [packet.data for packet in capture] == [b"ok"]
        assert capture.link_types == (113, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda directory: directory / "missing.pcap", "cannot be opened: No such file"),
        (lambda directory: directory, "cannot be opened: Is a directory"),
    ],
    ids=["missing", "directory"],
)
def test_cannot_be_opened(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(CaptureError, match=message):
        Capture(make(tmp_path))


def test_progress(tmp_path: Path) -> None:
    path = tmp_path / "in.pcap"
    path.write_bytes(pcap_header() + pcap_record() * 10_000)
    calls: list[tuple[int, int]] = []
    with Capture(path, progress=lambda position, size: calls.append((position, size))) as capture:
        assert sum(1 for _ in capture) == 10_000
    size = path.stat().st_size
    assert len(calls) == 3
    assert calls == sorted(calls)
    assert calls[-1] == (size, size)


ANY_PACKETS = st.lists(
    st.builds(
        Packet,
        time_ns=st.integers(0, (1 << 32) * 1_000_000_000 - 1),
        data=st.binary(max_size=200),
        wire_length=st.integers(0, (1 << 32) - 1),
        interface=st.just(0),
    ),
    max_size=8,
)


@given(packets=ANY_PACKETS)
def test_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, packets: list[Packet]) -> None:
    path = tmp_path_factory.mktemp("written") / "out.pcap"
    with CaptureWriter(path) as writer:
        for packet in packets:
            writer.write(packet)
    assert read(path) == packets
    if packets:
        with RawPcapReader(str(path)) as reader:
            by_scapy = [(meta.sec * 1_000_000_000 + meta.usec, data, meta.wirelen) for data, meta in reader]
        assert by_scapy == [(packet.time_ns, packet.data, packet.wire_length) for packet in packets]


def test_microseconds_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "out.pcap"
    with CaptureWriter(path, resolution="us") as writer:
        writer.write(Packet(1_000_001_999, b"x", 1, 0))
    assert [packet.time_ns for packet in read(path)] == [1_000_001_000]


@pytest.mark.parametrize("time_ns", [-1, (1 << 32) * 1_000_000_000], ids=["before-1970", "after-2106"])
def test_a_time_that_pcap_cannot_hold(tmp_path: Path, time_ns: int) -> None:
    with CaptureWriter(tmp_path / "out.pcap") as writer, pytest.raises(CaptureError, match=f"the time {time_ns} ns"):
        writer.write(Packet(time_ns, b"", 0, 0))


def test_one_file_per_port(tmp_path: Path) -> None:
    directory = tmp_path / "new" / "out"
    with PortCaptures(directory) as captures:
        for port, packet in zip((2, 1, 2, 2), PACKETS, strict=True):
            captures.write(port, packet)
    assert sorted(path.name for path in directory.iterdir()) == ["port-1.pcap", "port-2.pcap"]
    assert read(directory / "port-1.pcap") == [PACKETS[1]]
    assert read(directory / "port-2.pcap") == [PACKETS[0], PACKETS[2], PACKETS[3]]


def test_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="cannot be written: No such file"):
        CaptureWriter(tmp_path / "missing" / "out.pcap")
    occupied = tmp_path / "file"
    occupied.touch()
    with pytest.raises(CaptureError, match="file: cannot be made"):
        PortCaptures(occupied)


def shared_entries() -> list[tuple[str, int]]:
    manifest = SHARED_CAPTURES / "MANIFEST.json"
    if not manifest.exists():
        return []
    entries = json.loads(manifest.read_text())["entries"]
    return [(e["file"], e["stats"]["packets"]) for e in entries if set(e["stats"]["linktype"]) == {"1"}]


@pytest.mark.parametrize(("name", "packets"), shared_entries())
def test_shared_captures(name: str, packets: int) -> None:
    longest = 0
    with Capture(SHARED_CAPTURES / name) as capture:
        for packet in capture:
            longest = max(longest, len(packet.data))
        assert capture.packets == packets
    assert 0 < longest <= LONGEST_FRAME


@pytest.mark.skipif(not SHARED_CAPTURES.exists(), reason="the shared captures are not here")
def test_shared_cooked_capture_is_refused() -> None:
    with pytest.raises(CaptureError, match=r"linktype__100_sll\.pcap: link type 113 \(LINUX_SLL\)"):
        Capture(SHARED_CAPTURES / "odd" / "linktype__100_sll.pcap")
