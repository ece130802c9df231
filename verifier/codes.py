"""The codes of a rejection, each with its meaning. They are stable: tools and documentation refer to them."""

from __future__ import annotations

from typing import Final

CODES: Final[dict[str, str]] = {
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
