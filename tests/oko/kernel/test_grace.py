from __future__ import annotations

import sys
import threading

import pytest

from oko.kernel import maps
from oko.kernel.grace import wait_for_programs
from oko.kernel.maps import Map
from oko.kernel.program import load_program
from tests.oko.kernel import assembler as asm

pytestmark = pytest.mark.needs_bpf

FRAME = bytes(64)
KEY = bytes(4)
ROUNDS = 30_000


def slow_program() -> bytes:
    """Sets the first u32 of the value that slot 1 refers to, is busy for some ms, and calls itself through the program
    array that slot 10 refers to; when the kernel lets it do so no more (33 times), it sets the second u32."""
    busy = asm.add(6, 1) + asm.call(asm.KTIME)
    return (
        asm.mov_reg(8, 1)
        + asm.lddw(7)
        + asm.store_word(7, 0, 1)
        + asm.mov(6, 0)
        + busy
        + asm.op(0xA5, 6, off=-(len(busy) // 8 + 1), imm=ROUNDS)
        + asm.mov_reg(1, 8)
        + asm.mov(3, 0)
        + asm.lddw(2)
        + asm.call(asm.TAIL_CALL)
        + asm.store_word(7, 4, 1)
        + asm.returns(asm.XDP_DROP)
    )


def test_a_run_in_flight_has_ended_afterwards() -> None:
    with (
        Map.create("progress", maps.ARRAY, 4, 8, 1) as progress,
        Map.create("again", maps.PROG_ARRAY, 4, 4, 1) as again,
        load_program("slow", slow_program(), "GPL", references={1: (progress, 0), 10: (again, None)}) as slow,
    ):
        again.update(KEY, slow.fd.to_bytes(4, sys.byteorder))

        def seen() -> tuple[bool, bool]:
            value = progress.lookup(KEY) or b""
            return bool(value[0]), bool(value[4])

        caught_in_flight = False
        for _ in range(20):
            progress.update(KEY, bytes(8))
            runner = threading.Thread(target=slow.test_run, args=(FRAME,))
            runner.start()
            while not seen()[0]:
                pass
            caught_in_flight = not seen()[1]
            wait_for_programs()
            ended = seen()[1]
            runner.join()
            assert ended
            if caught_in_flight:
                break
        assert caught_in_flight
