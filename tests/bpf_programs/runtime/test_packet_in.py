"""Packets for the controllers: what goes into the ring buffer comes out of it, and what does not fit is counted."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from oko.compiler.packet_in import ARGUMENT, PacketInRecord, unpack
from oko.errors import NotReadable
from oko.flow.packet_in import PacketInReason
from oko.kernel.program import LONGEST_TEST_FRAME
from oko.kernel.ringbuf import RingBuffer
from tests.bpf_programs.runtime.linked import ONLY, LinkedFunction, build_runtime

pytestmark = pytest.mark.needs_bpf

METADATA = 0x0123456789ABCDEF
PACKET = {"key.in_port": struct.pack(">I", 0xFFFFFFFE), "key.metadata": struct.pack(">Q", METADATA)}
TOLD = ARGUMENT.pack(7, PacketInReason.INVALID_TTL.value, 253)


@pytest.fixture
def packet_in(tmp_path: Path) -> Iterator[LinkedFunction]:
    build_runtime(tmp_path, "packet_in")
    with LinkedFunction(tmp_path, "oko_packet_in") as function:
        yield function


def lost(packet_in: LinkedFunction) -> int:
    values = packet_in.maps["packet_in_drops"].lookup_percpu(ONLY)
    assert values is not None
    return sum(int.from_bytes(value, "little") for value in values)


@pytest.mark.parametrize(
    "size", [14, 60, 96, 97, 480, 481, 1514, 1632, 1633, LONGEST_TEST_FRAME], ids=lambda size: f"{size} bytes"
)
def test_a_record_has_the_whole_frame_and_where_it_was(packet_in: LinkedFunction, size: int) -> None:
    frame = bytes(index % 251 for index in range(size))
    packet_in.now = 123_456_789_012
    assert packet_in.call(frame, PACKET, TOLD).retval == 0
    with RingBuffer(packet_in.maps["packet_ins"]) as ring:
        (record,) = ring.read(10)
    assert unpack(record) == PacketInRecord(
        7, PacketInReason.INVALID_TTL, 253, 0xFFFFFFFE, METADATA, frame, 123_456_789_012
    )
    assert lost(packet_in) == 0


def test_a_full_ring_counts_what_it_loses_and_recovers(packet_in: LinkedFunction) -> None:
    repeat = 10_000
    assert packet_in.call(bytes(60), PACKET, TOLD, repeat=repeat).retval == 1
    with RingBuffer(packet_in.maps["packet_ins"]) as ring:
        kept = ring.read(repeat)
        assert 0 < len(kept) < repeat
        assert lost(packet_in) == repeat - len(kept)
        assert packet_in.call(bytes(60), PACKET, TOLD).retval == 0
        assert [unpack(record).frame for record in ring.read(repeat)] == [bytes(60)]


@pytest.mark.parametrize("length", [0, 31, 127])
def test_bytes_that_are_no_record(packet_in: LinkedFunction, length: int) -> None:
    packet_in.call(bytes(96), PACKET, TOLD)
    with RingBuffer(packet_in.maps["packet_ins"]) as ring:
        (record,) = ring.read(1)
    with pytest.raises(NotReadable):
        unpack(record[:length])
