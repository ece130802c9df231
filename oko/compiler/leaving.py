"""What only the image of an attached switch has: the frames that come to no table, and the ways to Open vSwitch.

The shim is put before a packet at the very end: `bpf_xdp_adjust_head` moves what every filter program reads.
"""

from __future__ import annotations

from typing import Final

from oko.compiler.assembler import Label
from oko.compiler.emission import CTX_DATA, CTX_DATA_END, R0, R1, R2, R3, R6, R8, XDP_PASS, Emission
from oko.flow import shim
from oko.flow.attachment import Shims
from oko.flow.drop import Drop
from oko.flow.headers import ETH_HEADER, TAG, TPIDS
from verifier import isa

HELPER_ADJUST_HEAD: Final = 44

_ETH_TYPE: Final = ETH_HEADER - 2


def emit_forged(emission: Emission) -> None:
    """Drop a frame that comes with a shim (`oko.flow.shim.is_shim`)."""
    asm = emission.asm
    clean = Label("no shim")
    asm.note("forged shims")
    _reach(emission, shim.SIZE, clean)
    for offset, mark in shim.MARKS:
        asm.load(len(mark), R3, R1, offset)
        asm.jump_if_value(isa.JNE, R3, int.from_bytes(mark, "little"), clean)
    emission.drop(Drop.FORGED)
    asm.place(clean)


def emit_length_check(emission: Emission, limit: int, long: Label, too_long: Label) -> None:
    """Jump to `long` with a frame that is not too long only if it has a tag, to `too_long` with a longer one."""
    asm = emission.asm
    asm.load(4, R1, R6, CTX_DATA_END)
    asm.load(4, R2, R6, CTX_DATA)
    asm.operate(isa.SUB, R1, R2)
    asm.jump_if_value(isa.JGT, R1, limit + TAG, too_long)
    asm.jump_if_value(isa.JGT, R1, limit, long)


def emit_long(emission: Emission, long: Label, too_long: Label, good: Label) -> None:
    """What is behind these labels."""
    asm = emission.asm
    asm.note("long frames")
    asm.place(long)
    _reach(emission, ETH_HEADER, too_long)
    asm.load(2, R1, R1, _ETH_TYPE)
    for tpid in sorted(TPIDS):
        asm.jump_if_value(isa.JEQ, R1, int.from_bytes(tpid.to_bytes(2, "big"), "little"), good)
    asm.place(too_long)
    emission.drop(Drop.TOO_LONG)


def emit_left(emission: Emission) -> None:
    """The ways to Open vSwitch: behind a shim, the end of which is R8, or as the packet came."""
    asm = emission.asm
    wanted, no_room = Label("with a shim"), Label("no room for a shim")
    asm.note("continue")
    asm.place(emission.continuing)
    asm.map_value(R1, "shims")
    asm.load(4, R1, R1, 0)
    asm.jump_if_value(isa.JEQ, R1, Shims.USED, wanted)
    asm.jump_if_value(isa.JEQ, R1, Shims.PASSED, emission.passing)
    emission.drop(Drop.SUSPENDED)
    asm.place(wanted)
    asm.copy(R1, R6)
    asm.set(R2, (1 << 64) - shim.SIZE)
    asm.call_helper(HELPER_ADJUST_HEAD)
    asm.jump_if_value(isa.JNE, R0, 0, no_room)
    _reach(emission, shim.SIZE, no_room)
    for start, width in ((0, 8), (8, 8), (16, 2)):
        asm.set(R2, int.from_bytes(shim.HEAD[start : start + width], "little"))
        asm.store(width, R1, start, R2)
    asm.store(4, R1, len(shim.HEAD), R8)
    asm.jump(emission.passing)
    asm.place(no_room)
    emission.drop(Drop.NO_ROOM)
    asm.note("pass")
    asm.place(emission.passing)
    asm.set(R0, XDP_PASS)
    asm.exit()


def _reach(emission: Emission, size: int, short: Label) -> None:
    """R1 = the frame, of which the kernel knows from here on that it has `size` bytes; to `short` if it has not."""
    asm = emission.asm
    asm.load(4, R1, R6, CTX_DATA)
    asm.load(4, R2, R6, CTX_DATA_END)
    asm.copy(R3, R1)
    asm.operate_value(isa.ADD, R3, size)
    asm.jump_if(isa.JGT, R3, R2, short)
