"""Instructions for the kernel room's tests, which may not import the verifier's encoder: a few of eBPF's as bytes."""

from __future__ import annotations

import struct

XDP_DROP, XDP_PASS, XDP_TX, XDP_REDIRECT = 1, 2, 3, 4

MAP_LOOKUP, MAP_UPDATE, REDIRECT, REDIRECT_MAP, TAIL_CALL, KTIME = 1, 2, 23, 51, 12, 5  # enum bpf_func_id


def op(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    """One instruction slot (RFC 9669, section 3)."""
    return struct.pack("=BBhi", code, src << 4 | dst, off, imm)


def mov(dst: int, imm: int) -> bytes:
    return op(0xB7, dst, imm=imm)


def mov_reg(dst: int, src: int) -> bytes:
    return op(0xBF, dst, src)


def add(dst: int, imm: int) -> bytes:
    return op(0x07, dst, imm=imm)


def load_word(dst: int, src: int, off: int) -> bytes:
    return op(0x61, dst, src, off)


def store_word(dst: int, off: int, imm: int) -> bytes:
    return op(0x62, dst, off=off, imm=imm)


def lddw(dst: int) -> bytes:
    """Two slots, whose operand a reference fills in."""
    return op(0x18, dst) + op(0)


def call(helper: int) -> bytes:
    return op(0x85, imm=helper)


def returns(value: int) -> bytes:
    return mov(0, value) + op(0x95)


EXIT = op(0x95)


def count_and_return(verdict: int) -> bytes:
    """Adds 1 to the u64 at the start of the map value that slot 0 refers to, then returns the verdict."""
    return lddw(1) + mov(2, 1) + op(0xDB, 1, 2) + returns(verdict)


def btf_of_function(name: str, source: str, line: int) -> tuple[bytes, bytes, bytes]:
    """BTF of one function ``int name()``, its func_info, and the line_info that says: all of it is `source`."""
    names = [b"", b"int", name.encode(), b"filter.c", source.encode()]
    offsets = [sum(len(earlier) + 1 for earlier in names[:index]) for index in range(len(names))]
    strings = b"".join(string + b"\0" for string in names)
    types = (
        struct.pack("=IIII", offsets[1], 1 << 24, 4, 1 << 24 | 32)  # 1: INT, signed, 32 bits
        + struct.pack("=III", 0, 13 << 24, 1)  # 2: FUNC_PROTO returning 1
        + struct.pack("=III", offsets[2], 12 << 24, 2)  # 3: FUNC of prototype 2
    )
    header = struct.pack("=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(strings))
    func_info = struct.pack("=II", 0, 3)
    line_info = struct.pack("=IIII", 0, offsets[3], offsets[4], line << 10 | 1)
    return header + types + strings, func_info, line_info
