"""The eBPF instruction set (RFC 9669): one value per 8-byte slot, decode and encode.

A `lddw` (load of a 64-bit immediate) takes two slots and therefore two instructions; the second has
opcode 0 and carries the upper half in `imm`. Indices of instructions are thus the kernel's own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_SLOT: Final = struct.Struct("<BBhi")
SLOT_SIZE: Final = _SLOT.size


@dataclass(frozen=True, slots=True)
class Instruction:
    """One slot. `offset` is signed 16 bit, `imm` signed 32 bit."""

    opcode: int
    dst: int = 0
    src: int = 0
    offset: int = 0
    imm: int = 0


def encode(instructions: Iterable[Instruction]) -> bytes:
    """The 8-byte slots of `instructions` as the kernel of a little-endian machine reads them."""
    return b"".join(_SLOT.pack(i.opcode, i.src << 4 | i.dst, i.offset, i.imm) for i in instructions)


def decode(code: bytes) -> tuple[Instruction, ...]:
    """The inverse of `encode`. Raises ValueError if `code` is not a whole number of slots."""
    if len(code) % SLOT_SIZE:
        raise ValueError(f"{len(code)} bytes of code are not a multiple of {SLOT_SIZE}")
    return tuple(
        Instruction(opcode, registers & 0xF, registers >> 4, offset, imm)
        for opcode, registers, offset, imm in _SLOT.iter_unpack(code)
    )


# Classes: the low three bits of an opcode (RFC 9669, section 3).
LD: Final = 0x00
LDX: Final = 0x01
ST: Final = 0x02
STX: Final = 0x03
ALU: Final = 0x04
JMP: Final = 0x05
JMP32: Final = 0x06
ALU64: Final = 0x07

# Source bit of ALU and JMP.
K: Final = 0x00
X: Final = 0x08

# Sizes of LD/LDX/ST/STX.
W: Final = 0x00
H: Final = 0x08
B: Final = 0x10
DW: Final = 0x18

# Modes of LD/LDX/ST/STX.
IMM: Final = 0x00
ABS: Final = 0x20
IND: Final = 0x40
MEM: Final = 0x60
MEMSX: Final = 0x80
ATOMIC: Final = 0xC0

# ALU operations.
ADD: Final = 0x00
SUB: Final = 0x10
MUL: Final = 0x20
DIV: Final = 0x30
OR: Final = 0x40
AND: Final = 0x50
LSH: Final = 0x60
RSH: Final = 0x70
NEG: Final = 0x80
MOD: Final = 0x90
XOR: Final = 0xA0
MOV: Final = 0xB0
ARSH: Final = 0xC0
END: Final = 0xD0

# JMP operations.
JA: Final = 0x00
JEQ: Final = 0x10
JGT: Final = 0x20
JGE: Final = 0x30
JSET: Final = 0x40
JNE: Final = 0x50
JSGT: Final = 0x60
JSGE: Final = 0x70
CALL: Final = 0x80
EXIT: Final = 0x90
JLT: Final = 0xA0
JLE: Final = 0xB0
JSLT: Final = 0xC0
JSLE: Final = 0xD0

# Meaning of `src` in a lddw (RFC 9669, section 5.4).
PSEUDO_MAP_FD: Final = 1
PSEUDO_MAP_VALUE: Final = 2

# Operations of an atomic STX, in `imm` (RFC 9669, section 5.3). FETCH is combined with ADD, OR, AND or XOR of the ALU.
FETCH: Final = 0x01
XCHG: Final = 0xE0 | FETCH
CMPXCHG: Final = 0xF0 | FETCH

# Fields of an opcode.
CLASS_MASK: Final = 0x07
SIZE_MASK: Final = 0x18
MODE_MASK: Final = 0xE0
OPERATION_MASK: Final = 0xF0

SIZES: Final = {B: 1, H: 2, W: 4, DW: 8}

# Meaning of `src` in a call (RFC 9669, section 4.3.1).
CALL_HELPER: Final = 0
CALL_LOCAL: Final = 1

FRAME_POINTER: Final = 10

LDDW: Final = LD | IMM | DW
OPCODE_CALL: Final = JMP | CALL
OPCODE_EXIT: Final = JMP | EXIT
GOTO: Final = JMP | JA
GOTO_LONG: Final = JMP32 | JA
