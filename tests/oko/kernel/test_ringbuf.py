from __future__ import annotations

import asyncio
import mmap
import select
import sys
from collections.abc import Iterator

import pytest

from oko.errors import KernelError
from oko.kernel import maps
from oko.kernel.maps import Map
from oko.kernel.program import LoadedProgram, load_program
from oko.kernel.ringbuf import RINGBUF, RingBuffer
from tests.oko.kernel import assembler as asm

pytestmark = pytest.mark.needs_bpf

RINGBUF_OUTPUT, RINGBUF_RESERVE, RINGBUF_SUBMIT, RINGBUF_DISCARD = 130, 131, 132, 133  # enum bpf_func_id
HEADER = 8  # bytes that the kernel puts before a record
SIZE = 4096


def number(value: int) -> bytes:
    return value.to_bytes(8, sys.byteorder)


def sends_its_frame_length() -> bytes:
    """Sends the length of the frame as a u64 through the ring that slot 4 refers to; returns the helper's result."""
    return (
        asm.load_word(6, 1, 4)  # data_end
        + asm.load_word(7, 1, 0)  # data
        + asm.op(0x1F, 6, 7)
        + asm.op(0x7B, 10, 6, -8)
        + asm.lddw(1)
        + asm.mov_reg(2, 10)
        + asm.add(2, -8)
        + asm.mov(3, 8)
        + asm.mov(4, 0)
        + asm.call(RINGBUF_OUTPUT)
        + asm.EXIT
    )


def reserves_and(helper: int) -> bytes:
    """Reserves 8 bytes of the ring that slot 0 refers to and submits or discards them."""
    return (
        asm.lddw(1)
        + asm.mov(2, 8)
        + asm.mov(3, 0)
        + asm.call(RINGBUF_RESERVE)
        + asm.op(0x15, 0, off=4)
        + asm.op(0x7A, 0, imm=7)
        + asm.mov_reg(1, 0)
        + asm.mov(2, 0)
        + asm.call(helper)
        + asm.returns(asm.XDP_DROP)
    )


@pytest.fixture
def source() -> Iterator[Map]:
    with Map.create("ring", RINGBUF, 0, 0, SIZE) as made:
        yield made


@pytest.fixture
def ring(source: Map) -> Iterator[RingBuffer]:
    with RingBuffer(source) as made:
        yield made


@pytest.fixture
def sender(source: Map) -> Iterator[LoadedProgram]:
    with load_program("sender", sends_its_frame_length(), "GPL", references={4: (source, None)}) as loaded:
        yield loaded


def send(sender: LoadedProgram, value: int) -> bool:
    """Whether a record with this number, at least 14, found room in the ring."""
    return sender.test_run(bytes(value)).retval == 0


def readable(ring: RingBuffer) -> bool:
    waiting = select.poll()
    waiting.register(ring, select.POLLIN)
    return bool(waiting.poll(0))


def test_records_come_in_order_and_once(ring: RingBuffer, sender: LoadedProgram) -> None:
    assert ring.read(10) == []
    assert all(send(sender, value) for value in (20, 30, 40))
    assert ring.read(10) == [number(20), number(30), number(40)]
    assert ring.read(10) == []


def test_no_more_than_asked_for_and_the_rest_stays_readable(ring: RingBuffer, sender: LoadedProgram) -> None:
    assert not readable(ring)
    assert all(send(sender, value) for value in range(14, 19))
    assert ring.read(2) == [number(14), number(15)]
    assert readable(ring)
    assert ring.read(1) == [number(16)]
    assert ring.read(2) == [number(17), number(18)]
    assert not readable(ring)


def test_full_ring_refuses_and_reading_makes_room(ring: RingBuffer, sender: LoadedProgram) -> None:
    sent = 0
    while send(sender, 14 + sent):
        sent += 1
    assert sent == SIZE // (HEADER + 8) - 1  # the kernel keeps a ring from filling to the last byte
    assert ring.read(1) == [number(14)]
    assert send(sender, 500)
    assert not send(sender, 501)
    assert ring.read(SIZE) == [*map(number, range(15, 14 + sent)), number(500)]


def test_records_across_the_end_of_the_ring_are_whole(ring: RingBuffer, sender: LoadedProgram) -> None:
    rounds = 3 * SIZE // (HEADER + 8)
    for count in range(rounds):
        assert send(sender, 14 + count)
        assert ring.read(2) == [number(14 + count)]


def test_discarded_records_are_passed_over(source: Map, ring: RingBuffer, sender: LoadedProgram) -> None:
    with (
        load_program("keep", reserves_and(RINGBUF_SUBMIT), "GPL", references={0: (source, None)}) as keep,
        load_program("discard", reserves_and(RINGBUF_DISCARD), "GPL", references={0: (source, None)}) as discard,
    ):
        for program in (discard, keep, discard, discard, keep):
            program.test_run(bytes(14))
    assert ring.read(1) == [number(7)]
    assert ring.read(5) == [number(7)]
    assert not readable(ring)


def test_an_event_loop_is_told(ring: RingBuffer, sender: LoadedProgram) -> None:
    async def receive() -> list[bytes]:
        loop, come = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(ring, come.set)
        try:
            loop.call_soon(send, sender, 64)
            await asyncio.wait_for(come.wait(), 10)
        finally:
            loop.remove_reader(ring)
        return ring.read(10)

    assert asyncio.run(receive()) == [number(64)]


def test_a_new_reader_goes_on_where_the_last_one_was(source: Map, sender: LoadedProgram) -> None:
    with RingBuffer(source) as first:
        assert all(send(sender, value) for value in (20, 30))
        assert first.read(1) == [number(20)]
    with RingBuffer(source) as second:
        assert second.read(10) == [number(30)]


def test_map_of_another_type() -> None:
    with (
        Map.create("array", maps.ARRAY, 4, 4, 1) as array,
        pytest.raises(KernelError, match="the map array is of type 2, not a ring buffer"),
    ):
        RingBuffer(array)


def test_ring_of_a_size_that_is_no_power_of_two() -> None:
    with pytest.raises(KernelError, match=r"creating the map ring .*Invalid argument"):
        Map.create("ring", RINGBUF, 0, 0, mmap.PAGESIZE + 1)


def test_limit_of_nothing(ring: RingBuffer) -> None:
    with pytest.raises(KernelError, match="reading 0 records"):
        ring.read(0)


def test_closed_ring(source: Map) -> None:
    ring = RingBuffer(source)
    ring.close()
    ring.close()
    with pytest.raises(KernelError, match="this ring buffer is closed"):
        ring.read(1)
    assert source.fd >= 0
