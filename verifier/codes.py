"""The codes of a rejection, each with its meaning. They are stable: tools and documentation refer to them."""

from __future__ import annotations

from typing import Final

STRUCTURE: Final[dict[str, str]] = {
    "unknown-opcode": "an instruction that no version of the instruction set up to v4 has, or that filters may not use",
    "reserved-field": "a field that the instruction does not use is not zero",
    "bad-register": "a register beyond r10",
    "frame-pointer-write": "r10, the frame pointer, is written",
    "bad-immediate": "a constant shift beyond the width, a division by the constant zero, a swap of an unknown width",
    "bad-wide-load": "a 64-bit load that lacks its second half, is jumped into, or names a map by number",
    "bad-jump": "a jump out of its function",
    "falls-off-end": "a function whose last instruction is neither an exit nor an unconditional jump",
    "unreachable": "instructions that nothing leads to",
    "bad-call": "a call of something that is not a function of this program or of the switch",
    "forbidden-helper": "a helper function of the kernel that filter programs may not call",
    "cycle": "a jump back to an instruction that led to it: the program might not end",
    "recursion": "a function that calls itself, directly or through others",
}
"""What is found by looking at instructions and jumps alone."""

VALUES: Final[dict[str, str]] = {
    "uninitialised": "a register or stack byte is read that was never written, or was lost in a call",
    "not-a-pointer": "a number is used as a pointer",
    "maybe-null": "a pointer is used that was not compared with null",
    "packet-bounds": "bytes of the packet are read that no check on the way has proved to be there",
    "packet-write": "the packet is written",
    "context-access": "a part of struct xdp_md is read that filter programs may not read",
    "context-write": "struct xdp_md is written",
    "map-bounds": "bytes before or behind a map's value are touched",
    "read-only-data": "a constant of the program is written",
    "stack-bounds": "bytes outside of the stack are touched, or the stack is too small for the calls",
    "unaligned": "an access that must be aligned to its size is not",
    "pointer-arithmetic": "arithmetic that this kind of pointer does not allow",
    "pointer-comparison": "pointers are compared that have no known order",
    "pointer-leak": "a pointer, or a part of one, is stored where others can read it",
    "bad-argument": "a helper is called with something that it does not take",
    "bad-record": "bytes before or behind a ring-buffer record are touched",
    "record-leak": "a ring-buffer record is neither submitted nor discarded",
    "lock": "a spin lock is taken twice, not released, or something is called while it is held",
    "return-value": "the program does not return a number",
    "call-depth": "too many functions call each other",
    "too-complex": "too many states have to be looked at",
}
"""What is found by following registers and memory."""

CODES: Final[dict[str, str]] = {**STRUCTURE, **VALUES}
