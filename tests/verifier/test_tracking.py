"""Programs that tracking rejects, each with its accepted twin, by whatever module has the rule; what it costs."""

from __future__ import annotations

import pytest

from tests.verifier.assembly import assemble
from tests.verifier.conftest import HERE, Compile
from tests.verifier.snippets import (
    EITHER,
    FOUND,
    INDEX,
    KEY,
    LOCK,
    LOCKED,
    LOOKUP,
    PACKET,
    RECORD,
    RESERVE,
    SUBMIT,
    UNLOCK,
    VARIABLE,
    complete,
    run,
)
from verifier import tracking
from verifier.codes import VALUES
from verifier.elf import load
from verifier.findings import Found
from verifier.merge import KEPT
from verifier.tracking import track

# name → code, what is rejected at the instruction marked with !, and what is accepted in its place.
CASES: dict[str, tuple[str, str, str]] = {
    # registers and stack
    "register-unset": ("uninitialised", "! r0 = r6", "r6 = 1; r0 = r6"),
    "register-unset-on-one-way": (
        "uninitialised",
        f"{INDEX} if r3 == 0 goto on; r6 = 1; on: ; ! r0 = r6",
        f"{INDEX} r6 = 0; if r3 == 0 goto on; r6 = 1; on: ; r0 = r6",
    ),
    "register-unset-compared": ("uninitialised", "! if r6 == 0 goto out", "r6 = 0; if r6 == 0 goto out"),
    "register-unset-stored": ("uninitialised", "! u64[r10-8] = r6", "r6 = 0; u64[r10-8] = r6"),
    "register-xor-itself": ("uninitialised", "! r3 ^= r3", "r3 = 5; r3 ^= r3"),
    "argument-lost-in-helper": (
        "uninitialised",
        "r2 = 5; call ktime_get_ns; ! r0 = r2",
        "r6 = 5; call ktime_get_ns; r0 = r6",
    ),
    "argument-lost-in-switch": (
        "uninitialised",
        "r6 = r1; call oko_in_port; ! r0 = u32[r1+12]",
        "r6 = r1; call oko_in_port; r0 = u32[r6+12]",
    ),
    "argument-lost-in-function": (
        "uninitialised",
        "fn main; r5 = 1; call f; ! r0 = r5; exit; fn f; r0 = 0; exit",
        "fn main; r6 = 1; call f; r0 = r6; exit; fn f; r0 = 0; exit",
    ),
    "argument-never-given": (
        "uninitialised",
        "fn main; call f; exit; fn f; ! r0 = r2; exit",
        "fn main; r2 = 1; call f; exit; fn f; r0 = r2; exit",
    ),
    "saved-register-of-the-caller": (
        "uninitialised",
        "fn main; r6 = 1; call f; exit; fn f; ! r0 = r6; exit",
        "fn main; r1 = 1; call f; exit; fn f; r0 = r1; exit",
    ),
    "result-of-nothing": (
        "uninitialised",
        f"{RECORD} {SUBMIT} ! r6 = r0",
        f"{RECORD} {SUBMIT} r0 = 1; r6 = r0",
    ),
    "stack-unwritten": ("uninitialised", "! r0 = u64[r10-8]", "u64[r10-8] = 1; r0 = u64[r10-8]"),
    "stack-half-written": ("uninitialised", "u32[r10-8] = 1; ! r0 = u64[r10-8]", "u32[r10-8] = 1; r0 = u32[r10-8]"),
    "stack-written-on-one-way": (
        "uninitialised",
        f"{INDEX} if r3 == 0 goto on; u64[r10-8] = 1; on: ; ! r0 = u64[r10-8]",
        f"{INDEX} u64[r10-8] = 0; if r3 == 0 goto on; u64[r10-8] = 1; on: ; r0 = u64[r10-8]",
    ),
    "key-with-unwritten-padding": (
        "uninitialised",
        "u32[r10-8] = 1; r2 = r10; r2 += -8; r1 = map hash; ! call map_lookup_elem",
        "u32[r10-8] = 1; u32[r10-4] = 0; r2 = r10; r2 += -8; r1 = map hash; call map_lookup_elem",
    ),
    "part-of-spilled-pointer": (
        "uninitialised",
        "u64[r10-8] = r1; ! r0 = u32[r10-8]",
        "u64[r10-8] = r1; r0 = u64[r10-8]",
    ),
    "rest-of-an-overwritten-spill": (
        "uninitialised",
        "u64[r10-8] = r1; u32[r10-8] = 0; ! r0 = u32[r10-4]",
        "u64[r10-8] = r1; u32[r10-8] = 0; r0 = u32[r10-8]",
    ),
    "value-of-the-smaller-of-two-maps": (
        "map-bounds",
        f"{EITHER} if r0 == 0 goto out; ! r0 = u64[r0+8]".replace("hash", ".data"),
        f"{EITHER} if r0 == 0 goto out; r0 = u64[r0+8]",
    ),
    "key-of-the-larger-of-two-maps": (
        "uninitialised",
        EITHER.replace("u64[r10-8]", "u32[r10-8]").replace("call map", "! call map"),
        EITHER,
    ),
    "overwritten-spill-as-a-pointer": (
        "uninitialised",
        "u64[r10-8] = r1; u32[r10-8] = 0; ! r0 = u64[r10-8]",
        "u64[r10-8] = r1; u32[r10-8] = 0; u32[r10-4] = 0; r0 = u64[r10-8]",
    ),
    "spill-overwritten-by-helper": (
        "pointer-leak",
        "u64[r10-8] = r1; r2 = 0; r3 = r10; r3 += -8; r4 = 8; ! call xdp_load_bytes",
        "u64[r10-8] = 1; r2 = 0; r3 = r10; r3 += -8; r4 = 8; call xdp_load_bytes",
    ),
    "stack-of-returned-function": (
        "uninitialised",
        "fn main; u64[r10-8] = 0; r1 = r10; r1 += -8; call f; r0 = 0; ! r1 = u64[r10-16]; exit;"
        "fn f; r2 = r10; r2 += -8; u64[r1+0] = 0; r0 = 0; exit",
        "fn main; u64[r10-8] = 0; r1 = r10; r1 += -8; call f; r0 = 0; r1 = u64[r10-8]; exit;"
        "fn f; r2 = r10; r2 += -8; u64[r1+0] = 0; r0 = 0; exit",
    ),
    "partial-buffer-of-unknown-size": (
        "uninitialised",
        f"r6 = r1; {INDEX} r4 = r3; r4 &= 7; r4 += 1; r1 = r6; r2 = 0; r3 = r10; r3 += -8; ! call xdp_load_bytes",
        f"r6 = r1; {INDEX} r4 = r3; r4 &= 7; r4 += 1; u64[r10-8] = 0; r1 = r6; r2 = 0; r3 = r10; r3 += -8;"
        "call xdp_load_bytes; r0 = u64[r10-8]",
    ),
    "stack-above": ("stack-bounds", "! u64[r10+0] = 1", "u64[r10-8] = 1"),
    "stack-below": ("stack-bounds", "! u64[r10-264] = 1", "u64[r10-256] = 1"),
    "stack-across-top": (
        "stack-bounds",
        "u64[r10-8] = 0; r1 = map hash; r2 = r10; r2 += -4; ! call map_lookup_elem",
        "u64[r10-8] = 0; r1 = map hash; r2 = r10; r2 += -8; call map_lookup_elem",
    ),
    "stack-of-a-chain": (
        "stack-bounds",
        "fn main; u64[r10-128] = 0; call f; exit; fn f; ! u64[r10-136] = 0; r0 = 0; exit",
        "fn main; u64[r10-128] = 0; call f; exit; fn f; u64[r10-128] = 0; r0 = 0; exit",
    ),
    "stack-of-a-chain-rounded": (
        "stack-bounds",
        "fn main; u64[r10-232] = 0; call f; exit; fn f; ! r0 = 0; exit",
        "fn main; u64[r10-224] = 0; call f; exit; fn f; r0 = 0; exit",
    ),
    "stack-unaligned-store": ("unaligned", "! u32[r10-6] = 1", "u16[r10-6] = 1"),
    "stack-unaligned-load": (
        "unaligned",
        "u64[r10-8] = 0; ! r0 = u32[r10-6]",
        "u64[r10-8] = 0; r0 = u16[r10-6]",
    ),
    "atomic-unaligned": ("unaligned", f"{FOUND} r1 = 1; ! add u64[r0+4], r1", f"{FOUND} r1 = 1; add u64[r0+8], r1"),
    "frame-pointer-moved-by-a-variable": (
        "pointer-arithmetic",
        f"{INDEX} r3 &= 7; r2 = r10; ! r2 += r3",
        "r3 = -8; r2 = r10; r2 += r3",
    ),
    "frame-pointer-subtraction": ("pointer-arithmetic", "r2 = r10; ! r2 -= 8", "r2 = r10; r2 += -8"),
    # pointers
    "number-as-pointer": ("not-a-pointer", "r2 = 64; ! r0 = u8[r2+0]", "r0 = u32[r1+12]"),
    "null-as-pointer": (
        "not-a-pointer",
        f"{LOOKUP} if r0 != 0 goto out; ! r0 = u8[r0+0]",
        f"{LOOKUP} if r0 == 0 goto out; r0 = u8[r0+0]",
    ),
    "helper-number-as-key": (
        "not-a-pointer",
        "r1 = map array; r2 = 0; ! call map_lookup_elem",
        LOOKUP,
    ),
    "maybe-null": ("maybe-null", f"{LOOKUP} ! r0 = u8[r0+0]", f"{FOUND} r0 = u8[r0+0]"),
    "maybe-null-store": ("maybe-null", f"{LOOKUP} ! u8[r0+0] = 1", f"{FOUND} u8[r0+0] = 1"),
    "maybe-null-moved": ("maybe-null", f"{LOOKUP} ! r0 += 4", f"{FOUND} r0 += 4"),
    "maybe-null-to-helper": (
        "maybe-null",
        f"{LOOKUP} r1 = map array; r2 = r10; r2 += -8; r3 = r0; r4 = 0; ! call map_update_elem",
        f"{FOUND} r1 = map array; r2 = r10; r2 += -8; r3 = r0; r4 = 0; call map_update_elem",
    ),
    "maybe-null-record": ("maybe-null", f"{RESERVE} ! u8[r0+0] = 1", f"{RECORD} u8[r6+0] = 1; {SUBMIT}"),
    "maybe-null-record-submitted": (
        "maybe-null",
        f"{RESERVE} r1 = r0; r2 = 0; ! call ringbuf_submit",
        f"{RECORD} {SUBMIT}",
    ),
    "maybe-null-checked-against-register": (
        "pointer-comparison",
        f"{LOOKUP} r1 = 0; ! if r0 == r1 goto out",
        f"{LOOKUP} if r0 == 0 goto out",
    ),
    "maybe-null-other-lookup-checked": (
        "maybe-null",
        f"{LOOKUP} r6 = r0; {FOUND} ! r0 = u8[r6+0]",
        f"{LOOKUP} r6 = r0; {FOUND} if r6 == 0 goto out; r0 = u8[r6+0]",
    ),
    "pointer-multiplied": ("pointer-arithmetic", f"{PACKET} ! r6 *= 2", f"{PACKET} r6 += 2"),
    "pointer-32-bit": ("pointer-arithmetic", f"{PACKET} ! w6 += 2", f"{PACKET} r6 += 2"),
    "pointer-half-copied": ("pointer-arithmetic", f"{PACKET} ! w3 = w6", f"{PACKET} r3 = r6"),
    "pointer-sign-extended": ("pointer-arithmetic", f"{PACKET} ! r3 = s32 r6", f"{PACKET} r3 = r6"),
    "pointer-negated": ("pointer-arithmetic", f"{PACKET} ! r6 = -r6", "r6 = 1; r6 = -r6"),
    "pointer-swapped": ("pointer-arithmetic", f"{PACKET} ! r6 = be32", "r6 = 1; r6 = be32"),
    "pointers-added": ("pointer-arithmetic", f"{PACKET} r3 = r6; ! r3 += r6", f"{PACKET} r3 = 4; r3 += r6"),
    "pointer-from-number": ("pointer-arithmetic", f"{PACKET} r3 = 4; ! r3 -= r6", f"{PACKET} r3 = 4; r3 += r6"),
    "context-moved": ("pointer-arithmetic", "! r1 += 4", "r0 = u32[r1+4]"),
    "end-moved": ("pointer-arithmetic", f"{PACKET} ! r7 += -4", f"{PACKET} r6 += 4"),
    "map-moved": ("pointer-arithmetic", "r1 = map array; ! r1 += 4", "r1 = value .data; r1 += 4"),
    "packet-moved-by-anything": (
        "pointer-arithmetic",
        f"{PACKET} u64[r10-8] = 0; {FOUND} r3 = u64[r0+0]; ! r6 += r3",
        f"{PACKET} u64[r10-8] = 0; {FOUND} r3 = u16[r0+0]; r6 += r3",
    ),
    "packet-moved-by-a-negative": (
        "pointer-arithmetic",
        f"{PACKET} {FOUND} r3 = s16[r0+0]; ! r6 += r3",
        f"{PACKET} {FOUND} r3 = s16[r0+0]; if r3 s< 0 goto out; r6 += r3",
    ),
    "packet-moved-too-far": (
        "pointer-arithmetic",
        f"{PACKET} r3 = 0x1ffffff0; r6 += r3; ! r6 += r3",
        f"{PACKET} r3 = 0x0ffffff0; r6 += r3; r6 += r3",
    ),
    "map-value-moved-too-far": (
        "pointer-arithmetic",
        f"{FOUND} r3 = -0x1ffffff0; r0 += r3; ! r0 += r3",
        f"{FOUND} r3 = -0x0ffffff0; r0 += r3; r0 += r3",
    ),
    "pointers-compared": ("pointer-comparison", f"{PACKET} ! if r6 > r1 goto out", f"{PACKET} if r6 > r7 goto out"),
    "packets-compared": (
        "pointer-comparison",
        f"{PACKET} r3 = r6; r3 += 4; ! if r3 s> r6 goto out",
        f"{PACKET} r3 = r6; r3 += 4; if r3 > r7 goto out",
    ),
    "packet-equals-end": ("pointer-comparison", f"{PACKET} ! if r6 == r7 goto out", f"{PACKET} if r6 >= r7 goto out"),
    "pointer-with-number": ("pointer-comparison", f"{PACKET} ! if r6 > 14 goto out", "r6 = 1; if r6 > 14 goto out"),
    "pointer-compared-in-32-bit": (
        "pointer-comparison",
        f"{LOOKUP} ! if w0 == 0 goto out",
        f"{LOOKUP} if r0 == 0 goto out",
    ),
    "pointer-bit-tested": ("pointer-comparison", f"{PACKET} ! if r6 & 1 goto out", "r6 = 1; if r6 & 1 goto out"),
    # leaks
    "leak-to-map": ("pointer-leak", f"r6 = r1; {FOUND} ! u64[r0+0] = r6", f"r6 = 1; {FOUND} u64[r0+0] = r6"),
    "leak-of-half-to-map": ("pointer-leak", f"r6 = r1; {FOUND} ! u32[r0+0] = r6", f"r6 = 1; {FOUND} u32[r0+0] = r6"),
    "leak-to-record": (
        "pointer-leak",
        f"r7 = r1; {RECORD} ! u64[r6+0] = r7; {SUBMIT}",
        f"r7 = 1; {RECORD} u64[r6+0] = r7; {SUBMIT}",
    ),
    "leak-of-a-part-to-stack": ("pointer-leak", "! u32[r10-8] = r1", "u64[r10-8] = r1"),
    "leak-by-update": (
        "pointer-leak",
        "u64[r10-8] = 0; u64[r10-16] = r1; u64[r10-24] = 0; r1 = map hash; r2 = r10; r2 += -8; r3 = r10; r3 += -24;"
        "r4 = 0; ! call map_update_elem",
        "u64[r10-8] = 0; u64[r10-16] = 1; u64[r10-24] = 0; r1 = map hash; r2 = r10; r2 += -8; r3 = r10; r3 += -24;"
        "r4 = 0; call map_update_elem",
    ),
    "leak-by-key": (
        "pointer-leak",
        "u64[r10-8] = r10; r1 = map hash; r2 = r10; r2 += -8; ! call map_lookup_elem",
        "u64[r10-8] = 1; r1 = map hash; r2 = r10; r2 += -8; call map_lookup_elem",
    ),
    "leak-by-output": (
        "pointer-leak",
        "u64[r10-8] = r1; r1 = map ring; r2 = r10; r2 += -8; r3 = 8; r4 = 0; ! call ringbuf_output",
        "u64[r10-8] = 1; r1 = map ring; r2 = r10; r2 += -8; r3 = 8; r4 = 0; call ringbuf_output",
    ),
    "leak-by-checksum": (
        "pointer-leak",
        "u64[r10-8] = r1; r1 = 0; r2 = 0; r3 = r10; r3 += -8; r4 = 8; r5 = 0; ! call csum_diff",
        "u64[r10-8] = 1; r1 = 0; r2 = 0; r3 = r10; r3 += -8; r4 = 8; r5 = 0; call csum_diff",
    ),
    "leak-by-atomic": ("pointer-leak", f"r6 = r1; {FOUND} ! xchg u64[r0+0], r6", f"r6 = 1; {FOUND} xchg u64[r0+0], r6"),
    "leak-by-compare-and-exchange": (
        "pointer-leak",
        f"{FOUND} r6 = r0; r1 = 1; ! cmpxchg u64[r6+0], r1",
        f"{FOUND} r6 = r0; r0 = 0; r1 = 1; cmpxchg u64[r6+0], r1",
    ),
    "atomic-on-spilled-pointer": (
        "pointer-leak",
        "u64[r10-8] = r1; r2 = 1; ! add u64[r10-8], r2",
        "u64[r10-8] = 1; r2 = 1; add u64[r10-8], r2",
    ),
    "stack-pointer-to-caller": (
        "pointer-leak",
        "fn main; u64[r10-8] = 0; r1 = r10; r1 += -8; call f; exit; fn f; ! u64[r1+0] = r10; r0 = 0; exit",
        "fn main; u64[r10-8] = 0; r1 = r10; r1 += -8; call f; exit; fn f; u64[r1+0] = 1; r0 = 0; exit",
    ),
    "return-pointer": ("return-value", "r0 = r1; ! exit", "r0 = 1; exit"),
    "return-maybe-null": ("return-value", f"{LOOKUP} out: ; ! exit", f"{LOOKUP} out: ; r0 = 0; exit"),
    "return-nothing": ("return-value", "! exit", "r0 = 0; exit"),
    "return-of-own-stack": (
        "return-value",
        "fn main; call f; r0 = 0; exit; fn f; r0 = r10; ! exit",
        "fn main; call f; r0 = 0; exit; fn f; r0 = 1; exit",
    ),
    # packet
    "packet-unchecked": (
        "packet-bounds",
        f"{PACKET} ! r0 = u8[r6+0]",
        f"{PACKET} r3 = r6; r3 += 1; if r3 > r7 goto out; r0 = u8[r6+0]",
    ),
    "packet-one-byte-more": (
        "packet-bounds",
        f"{PACKET} r3 = r6; r3 += 14; if r3 > r7 goto out; ! r0 = u16[r6+13]",
        f"{PACKET} r3 = r6; r3 += 14; if r3 > r7 goto out; r0 = u16[r6+12]",
    ),
    "packet-wrong-side": (
        "packet-bounds",
        f"{PACKET} r3 = r6; r3 += 14; if r3 <= r7 goto out; ! r0 = u8[r6+0]",
        f"{PACKET} r3 = r6; r3 += 14; if r3 > r7 goto out; r0 = u8[r6+0]",
    ),
    "packet-before": (
        "packet-bounds",
        f"{PACKET} r3 = r6; r3 += 14; if r3 > r7 goto out; ! r0 = u8[r6-1]",
        f"{PACKET} r3 = r6; r3 += 14; if r3 > r7 goto out; r0 = u8[r3-1]",
    ),
    "packet-end-read": ("packet-bounds", f"{PACKET} ! r0 = u8[r7+0]", f"{PACKET} r0 = r7; r0 = 1"),
    "packet-variable-unchecked": (
        "packet-bounds",
        f"{VARIABLE} r3 = r6; r3 += 64; if r3 > r7 goto out; ! r0 = u8[r9+0]",
        f"{VARIABLE} r3 = r9; r3 += 1; if r3 > r7 goto out; r0 = u8[r9+0]",
    ),
    "packet-second-variable-step": (
        "packet-bounds",
        f"{VARIABLE} r3 = r9; r3 += 8; if r3 > r7 goto out; r9 += r8; ! r0 = u8[r9+0]",
        f"{VARIABLE} r9 += r8; r3 = r9; r3 += 8; if r3 > r7 goto out; r0 = u8[r9+0]",
    ),
    "packet-same-step-elsewhere": (
        "packet-bounds",
        f"{VARIABLE} r3 = r9; r3 += 8; if r3 > r7 goto out; r4 = r6; r4 += r8; ! r0 = u8[r4+0]",
        f"{VARIABLE} r3 = r9; r3 += 8; if r3 > r7 goto out; r4 = r9; r4 += 7; r0 = u8[r4+0]",
    ),
    "packet-too-far": (
        "packet-bounds",
        f"{PACKET} {FOUND} r8 = u32[r0+0]; r8 &= 0x1ffff; r6 += r8;"
        "r3 = r6; r3 += 1; if r3 > r7 goto out; ! r0 = u8[r6+0]",
        f"{PACKET} {FOUND} r8 = u32[r0+0]; r8 &= 0x7fff; r6 += r8;r3 = r6; r3 += 1; if r3 > r7 goto out; r0 = u8[r6+0]",
    ),
    "packet-check-before-join": (
        "packet-bounds",
        f"{PACKET} r3 = r6; r3 += 14; if r3 > r7 goto on; r4 = 1; on: ; ! r0 = u8[r6+0]",
        f"{PACKET} r3 = r6; r3 += 14; if r3 > r7 goto out; r4 = 1; r0 = u8[r6+0]",
    ),
    "packet-variable-check-before-join": (
        "packet-bounds",
        f"{VARIABLE} r3 = r9; r3 += 14; if r3 > r7 goto on; r4 = 1; on: ; ! r0 = u8[r9+0]",
        f"{VARIABLE} r3 = r9; r3 += 14; if r3 > r7 goto out; r4 = 1; r0 = u8[r9+0]",
    ),
    "packet-variable-check-before-join-mirrored": (
        "packet-bounds",
        f"{VARIABLE} r3 = r9; r3 += 14; if r3 <= r7 goto on; r4 = 1; on: ; ! r0 = u8[r9+0]",
        f"{VARIABLE} r3 = r9; r3 += 14; if r3 <= r7 goto on; goto out; on: ; r0 = u8[r9+0]",
    ),
    "packet-loaded-again-behind-the-check": (
        "packet-bounds",
        f"{PACKET} r3 = r6; r3 += 4; if r3 > r7 goto out; r4 = u32[r1+0]; ! r0 = u32[r4+0]",
        f"{PACKET} r4 = u32[r1+0]; r3 = r6; r3 += 4; if r3 > r7 goto out; r0 = u32[r4+0]",
    ),
    "packet-vlan-checked-too-little": (
        "packet-bounds",
        f"{PACKET} r3 = r6; r3 += 14; if r3 > r7 goto out; r4 = u16[r6+12]; r8 = r6; r8 += 14; if r4 != 129 goto ip;"
        "r8 += 4; ip: ; r3 = r8; r3 += 20; if r3 > r7 goto out; ! r0 = u32[r8+20]",
        f"{PACKET} r3 = r6; r3 += 14; if r3 > r7 goto out; r4 = u16[r6+12]; r8 = r6; r8 += 14; if r4 != 129 goto ip;"
        "r8 += 4; ip: ; r3 = r8; r3 += 20; if r3 > r7 goto out; r0 = u32[r8+16]",
    ),
    "packet-kept-on-stack": (
        "packet-bounds",
        f"{PACKET} u64[r10-16] = r6; call ktime_get_ns; r3 = u64[r10-16]; ! r0 = u8[r3+0]",
        f"{PACKET} u64[r10-16] = r6; r6 += 4; if r6 > r7 goto out; call ktime_get_ns; r3 = u64[r10-16]; r0 = u32[r3+0]",
    ),
    "packet-checked-in-a-function-on-one-way": (
        "packet-bounds",
        f"fn main; {PACKET} r1 = r6; r2 = r7; call f; ! r0 = u8[r6+0]; exit;"
        "fn f; r1 += 4; if r1 > r2 goto no; r0 = 1; exit; no: ; r0 = 0; exit",
        f"fn main; {PACKET} r1 = r6; r2 = r7; call f; if r0 == 0 goto out; r0 = u8[r6+0]; exit; out:; r0 = 0; exit;"
        "fn f; r1 += 4; if r1 > r2 goto no; r0 = 1; exit; no: ; r0 = 0; exit",
    ),
    "packet-written": (
        "packet-write",
        f"{PACKET} r3 = r6; r3 += 4; if r3 > r7 goto out; ! u8[r6+0] = 1",
        f"{PACKET} r3 = r6; r3 += 4; if r3 > r7 goto out; r0 = u8[r6+0]; u8[r10-1] = r0",
    ),
    "packet-atomic": (
        "packet-write",
        f"{PACKET} r3 = 1; ! add u32[r6+0], r3",
        f"{FOUND} r3 = 1; add u32[r0+0], r3",
    ),
    "packet-written-atomically": (
        "packet-write",
        f"{PACKET} r3 = r6; r3 += 4; if r3 > r7 goto out; r8 = 1; ! add u32[r6+0], r8",
        f"{FOUND} r3 = 1; or u32[r0+0], r3",
    ),
    "packet-written-by-helper": (
        "packet-write",
        f"{PACKET} r3 = r6; r3 += 4; if r3 > r7 goto out; r2 = 0; r3 = r6; r4 = 4; ! call xdp_load_bytes",
        "r2 = 0; r3 = r10; r3 += -4; r4 = 4; call xdp_load_bytes",
    ),
    # context
    "context-meta": ("context-access", "! r0 = u32[r1+8]", "r0 = u32[r1+12]"),
    "context-egress": ("context-access", "! r0 = u32[r1+20]", "r0 = u32[r1+16]"),
    "context-part": ("context-access", "! r0 = u16[r1+0]", "r0 = u32[r1+0]; r0 = 1"),
    "context-wide": ("context-access", "! r0 = u64[r1+0]", "r0 = u32[r1+4]; r0 = 1"),
    "context-before": ("context-access", "! r0 = u32[r1-4]", "r0 = u32[r1+12]"),
    "context-sign-extended": ("context-access", "! r0 = s32[r1+16]", "r0 = u32[r1+16]"),
    "context-written": ("context-write", "! u32[r1+16] = 0", "u32[r10-4] = 0"),
    "context-atomic": ("context-write", "r2 = 1; ! add u32[r1+12], r2", "u64[r10-8] = 0; r2 = 1; add u32[r10-8], r2"),
    # maps
    "map-behind": ("map-bounds", f"{FOUND} ! r0 = u32[r0+13]", f"{FOUND} r0 = u32[r0+12]"),
    "map-before": ("map-bounds", f"{FOUND} ! r0 = u8[r0-1]", f"{FOUND} r0 = u8[r0+0]"),
    "map-variable": (
        "map-bounds",
        f"{FOUND} r3 = u8[r0+0]; r0 += r3; ! r0 = u8[r0+0]",
        f"{FOUND} r3 = u8[r0+0]; r3 &= 15; r0 += r3; r0 = u8[r0+0]",
    ),
    "map-variable-negative": (
        "map-bounds",
        f"{FOUND} r3 = s8[r0+0]; if r3 s> 15 goto out; r0 += r3; ! r0 = u8[r0+0]",
        f"{FOUND} r3 = s8[r0+0]; if r3 > 15 goto out; r0 += r3; r0 = u8[r0+0]",
    ),
    "map-variable-in-32-bit": (
        "pointer-arithmetic",
        f"{FOUND} r3 = u32[r0+0]; if w3 s> 15 goto out; ! r0 += r3; r0 = u8[r0+0]",
        f"{FOUND} r3 = u32[r0+0]; if w3 > 15 goto out; r0 += r3; r0 = u8[r0+0]",
    ),
    "map-value-to-helper": (
        "map-bounds",
        f"{FOUND} r2 = r0; r2 += 9; r1 = map hash; ! call map_lookup_elem",
        f"{FOUND} r2 = r0; r2 += 8; r1 = map hash; call map_lookup_elem",
    ),
    "data-behind": ("map-bounds", "r1 = value .data+4; ! u32[r1+4] = 1", "r1 = value .data+4; u32[r1+0] = 1"),
    "constant-written": ("read-only-data", "r1 = value .rodata; ! u8[r1+0] = 1", "r1 = value .data; u8[r1+0] = 1"),
    "constant-atomic": (
        "read-only-data",
        "r1 = value .rodata; r2 = 1; ! add u64[r1+0], r2",
        "r1 = value .data; r2 = 1; add u64[r1+0], r2",
    ),
    "constant-written-by-helper": (
        "read-only-data",
        "r2 = 0; r3 = value .rodata; r4 = 4; ! call xdp_load_bytes",
        "r2 = 0; r3 = value .data; r4 = 4; call xdp_load_bytes",
    ),
    "read-only-map-written": (
        "read-only-data",
        f"{KEY} r1 = map constant; call map_lookup_elem; if r0 == 0 goto out; ! u8[r0+0] = 1",
        f"{KEY} r1 = map constant; call map_lookup_elem; if r0 == 0 goto out; r0 = u8[r0+0]",
    ),
    "read-only-map-updated": (
        "bad-argument",
        "u64[r10-8] = 0; u64[r10-16] = 0; r1 = map constant; r2 = r10; r2 += -8; r3 = r10; r3 += -16; r4 = 0;"
        "! call map_update_elem",
        "u64[r10-8] = 0; u64[r10-16] = 0; r1 = map array; r2 = r10; r2 += -8; r3 = r10; r3 += -16; r4 = 0;"
        "call map_update_elem",
    ),
    # helpers
    "not-a-map": ("bad-argument", f"{KEY} r1 = r10; ! call map_lookup_elem", LOOKUP),
    "map-as-key": ("bad-argument", "r1 = map array; r2 = map array; ! call map_lookup_elem", LOOKUP),
    "map-read": ("bad-argument", "r1 = map array; ! r0 = u32[r1+0]", f"{FOUND} r0 = u32[r0+0]"),
    "lookup-in-ring": ("bad-argument", f"{KEY} r1 = map ring; ! call map_lookup_elem", LOOKUP),
    "update-of-ring": (
        "bad-argument",
        f"{KEY} r1 = map ring; r3 = r2; r4 = 0; ! call map_update_elem",
        f"u64[r10-16] = 0; {KEY} r1 = map hash; r3 = r10; r3 += -16; r4 = 0; call map_update_elem",
    ),
    "delete-from-ring": (
        "bad-argument",
        f"{KEY} r1 = map ring; ! call map_delete_elem",
        f"{KEY} r1 = map hash; call map_delete_elem",
    ),
    "reserve-in-array": (
        "bad-argument",
        "r1 = map array; r2 = 8; r3 = 0; ! call ringbuf_reserve",
        f"{RECORD} {SUBMIT}",
    ),
    "output-to-hash": (
        "bad-argument",
        f"{KEY} r1 = map hash; r3 = 8; r4 = 0; ! call ringbuf_output",
        f"{KEY} r1 = map ring; r3 = 8; r4 = 0; call ringbuf_output",
    ),
    "flags-a-pointer": (
        "bad-argument",
        f"{KEY} r1 = map ring; r3 = 8; r4 = r10; ! call ringbuf_output",
        f"{KEY} r1 = map ring; r3 = 8; r4 = 0; call ringbuf_output",
    ),
    "size-a-pointer": (
        "bad-argument",
        f"{KEY} r1 = map ring; r3 = r10; r4 = 0; ! call ringbuf_output",
        f"{KEY} r1 = map ring; r3 = 8; r4 = 0; call ringbuf_output",
    ),
    "size-unset": (
        "uninitialised",
        f"{KEY} r1 = map ring; r4 = 0; ! call ringbuf_output",
        f"{KEY} r1 = map ring; r3 = 8; r4 = 0; call ringbuf_output",
    ),
    "size-negative": (
        "bad-argument",
        f"{KEY} r1 = map ring; r3 = -1; r4 = 0; ! call ringbuf_output",
        f"{KEY} r1 = map ring; r3 = 1; r4 = 0; call ringbuf_output",
    ),
    "size-zero": (
        "bad-argument",
        "r2 = 0; r3 = r10; r3 += -8; r4 = 0; ! call xdp_load_bytes",
        "r2 = 0; r3 = r10; r3 += -8; r4 = 8; call xdp_load_bytes",
    ),
    "size-zero-of-context": (
        "bad-argument",
        "r2 = r1; r1 = map ring; r3 = 0; r4 = 0; ! call ringbuf_output",
        f"{KEY} r1 = map ring; r3 = 0; r4 = 0; call ringbuf_output",
    ),
    "size-zero-of-number": (
        "not-a-pointer",
        "r1 = 4; r2 = 0; r3 = 0; r4 = 0; r5 = 0; ! call csum_diff",
        "r1 = 0; r2 = 0; r3 = 0; r4 = 0; r5 = 0; call csum_diff",
    ),
    "size-of-null": (
        "not-a-pointer",
        "r1 = 0; r2 = 4; r3 = 0; r4 = 0; r5 = 0; ! call csum_diff",
        "r1 = 0; r2 = 0; r3 = 0; r4 = 0; r5 = 0; call csum_diff",
    ),
    "size-beyond-the-stack": (
        "stack-bounds",
        f"{INDEX} r3 &= 15; r2 = r10; r2 += -8; u64[r10-8] = 0; r1 = map ring; r4 = 0; ! call ringbuf_output",
        f"{INDEX} r3 &= 7; r2 = r10; r2 += -8; u64[r10-8] = 0; r1 = map ring; r4 = 0; call ringbuf_output",
    ),
    "size-of-record-unknown": (
        "bad-argument",
        f"{INDEX} r2 = r3; r2 &= 15; r1 = map ring; r3 = 0; ! call ringbuf_reserve",
        f"{RECORD} {SUBMIT}",
    ),
    "size-of-record-enormous": (
        "bad-argument",
        "r1 = map ring; r2 = 0x100000008 ll; r3 = 0; ! call ringbuf_reserve",
        f"{RECORD} {SUBMIT}",
    ),
    "packet-to-output": (
        "bad-argument",
        f"{PACKET} r3 = r6; r3 += 8; if r3 > r7 goto out; r1 = map ring; r2 = r6; r3 = 8; r4 = 0;! call ringbuf_output",
        f"{PACKET} r3 = r6; r3 += 8; if r3 > r7 goto out; r1 = map hash; r2 = r6; call map_lookup_elem",
    ),
    "packet-as-key-too-short": (
        "packet-bounds",
        f"{PACKET} r3 = r6; r3 += 7; if r3 > r7 goto out; r1 = map hash; r2 = r6; ! call map_lookup_elem",
        f"{PACKET} r3 = r6; r3 += 8; if r3 > r7 goto out; r1 = map hash; r2 = r6; call map_lookup_elem",
    ),
    "context-wanted": (
        "bad-argument",
        "r1 = r10; r2 = 0; r3 = r10; r3 += -8; r4 = 8; ! call xdp_load_bytes",
        "r2 = 0; r3 = r10; r3 += -8; r4 = 8; call xdp_load_bytes",
    ),
    "context-wanted-by-switch": ("bad-argument", "r1 = 0; ! call oko_in_port", "call oko_in_port"),
    # records
    "record-behind": ("bad-record", f"{RECORD} ! u64[r6+9] = 0; {SUBMIT}", f"{RECORD} u64[r6+8] = 0; {SUBMIT}"),
    "record-before": ("bad-record", f"{RECORD} ! u64[r6-8] = 0; {SUBMIT}", f"{RECORD} u64[r6+0] = 0; {SUBMIT}"),
    "record-kept": (
        "record-leak",
        f"{RESERVE} if r0 == 0 goto out; r0 = 0; ! exit; out: ; r0 = 0; exit",
        f"{RECORD} {SUBMIT}",
    ),
    "record-kept-on-one-way": (
        "record-leak",
        f"{RECORD} {INDEX} if r3 == 0 goto on; {SUBMIT} r0 = 0; exit; on: ; r0 = 0; ! exit; out: ; r0 = 0; exit",
        f"{RECORD} {INDEX} if r3 == 0 goto on; {SUBMIT} r0 = 0; exit; on: ; {SUBMIT} out: ; r0 = 0; exit",
    ),
    "record-unchecked": ("record-leak", f"{RESERVE} r0 = 0; ! exit", f"{RECORD} {SUBMIT}"),
    "record-submitted-twice": (
        "uninitialised",
        f"{RECORD} r7 = r6; {SUBMIT} ! r1 = r7; r2 = 0; call ringbuf_submit",
        f"{RECORD} r7 = r6; r1 = r7; r2 = 0; call ringbuf_submit",
    ),
    "record-used-after-submission": (
        "uninitialised",
        f"{RECORD} {SUBMIT} ! u8[r6+0] = 1",
        f"{RECORD} u8[r6+0] = 1; {SUBMIT}",
    ),
    "record-spilled-used-after-submission": (
        "uninitialised",
        f"{RECORD} u64[r10-16] = r6; {SUBMIT} ! r6 = u64[r10-16]",
        f"{RECORD} u64[r10-16] = r6; r1 = u64[r10-16]; r2 = 0; call ringbuf_submit",
    ),
    "record-submitted-in-the-middle": (
        "bad-argument",
        f"{RECORD} r1 = r6; r1 += 8; r2 = 0; ! call ringbuf_submit",
        f"{RECORD} r1 = r6; r1 += 8; r1 += -8; r2 = 0; call ringbuf_discard",
    ),
    "record-kept-by-a-function": (
        "record-leak",
        f"fn main; call f; r0 = 0; ! exit; fn f; {RESERVE} r0 = 0; exit",
        f"fn main; call f; r0 = 0; exit; fn f; {RESERVE} if r0 == 0 goto no; r1 = r0; r2 = 0; call ringbuf_discard;"
        "no: ; r0 = 0; exit",
    ),
    "map-value-submitted": ("bad-argument", f"{FOUND} r1 = r0; r2 = 0; ! call ringbuf_submit", f"{RECORD} {SUBMIT}"),
    # locks
    "lock-kept": (
        "lock",
        f"{LOCKED} {LOCK} r0 = 0; ! exit; out: ; r0 = 0; exit",
        f"{LOCKED} {LOCK} {UNLOCK}",
    ),
    "lock-taken-twice": (
        "lock",
        f"{LOCKED} {LOCK} r1 = r6; r1 += 4; ! call spin_lock",
        f"{LOCKED} {LOCK} {UNLOCK} {LOCK} {UNLOCK}",
    ),
    "lock-not-held": ("lock", f"{LOCKED} r1 = r6; r1 += 4; ! call spin_unlock", f"{LOCKED} {LOCK} {UNLOCK}"),
    "lock-of-another": (
        "lock",
        f"{LOCKED} r7 = r6; {LOCKED} {LOCK} r1 = r7; r1 += 4; ! call spin_unlock",
        f"{LOCKED} r7 = r6; {LOCKED} {LOCK} r1 = r6; r1 += 4; call spin_unlock",
    ),
    "lock-helper-called": (
        "lock",
        f"{LOCKED} {LOCK} ! call ktime_get_ns; {UNLOCK}",
        f"{LOCKED} {LOCK} {UNLOCK} call ktime_get_ns",
    ),
    "lock-switch-called": (
        "lock",
        f"r9 = r1; {LOCKED} {LOCK} r1 = r9; ! call oko_in_port; {UNLOCK}",
        f"r9 = r1; {LOCKED} {LOCK} {UNLOCK} r1 = r9; call oko_in_port",
    ),
    "lock-function-called": (
        "lock",
        f"fn main; {LOCKED} {LOCK} ! call f; {UNLOCK} out: ; r0 = 0; exit; fn f; r0 = 0; exit",
        f"fn main; {LOCKED} {LOCK} {UNLOCK} call f; out: ; r0 = 0; exit; fn f; r0 = 0; exit",
    ),
    "lock-bytes-read": ("lock", f"{LOCKED} ! r0 = u64[r6+0]", f"{LOCKED} r0 = u32[r6+0]"),
    "lock-bytes-written": ("lock", f"{LOCKED} ! u8[r6+7] = 0", f"{LOCKED} u8[r6+8] = 0"),
    "lock-place": ("bad-argument", f"{LOCKED} r1 = r6; ! call spin_lock", f"{LOCKED} {LOCK} {UNLOCK}"),
    "lock-maybe-null": (
        "maybe-null",
        f"{KEY} r1 = map locked; call map_lookup_elem; r1 = r0; ! call spin_lock",
        f"{LOCKED} {LOCK} {UNLOCK}",
    ),
    "lock-kept-on-one-way": (
        "lock",
        f"{LOCKED} {LOCK} r3 = u32[r6+0]; if r3 == 0 goto on; {UNLOCK} r0 = 0; exit; on: ; r0 = 0; ! exit;"
        "out: ; r0 = 0; exit",
        f"{LOCKED} {LOCK} r3 = u32[r6+0]; if r3 == 0 goto on; u32[r6+0] = 0; on: ; {UNLOCK}",
    ),
    # calls
    "seven-functions": (
        "call-depth",
        "fn a; call b; exit; fn b; call c; exit; fn c; call d; exit; fn d; call e; exit; fn e; call f; exit;"
        "fn f; ! call g; exit; fn g; r0 = 0; exit",
        "fn a; call b; exit; fn b; call c; exit; fn c; call d; exit; fn d; call e; exit; fn e; call f; exit;"
        "fn f; r0 = 0; exit",
    ),
    "seven-functions-never-entered": (
        "call-depth",
        "fn a; r0 = 0; if r0 == 0 goto on; call b; on: ; exit; fn b; call c; exit; fn c; call d; exit; fn d; call e;"
        "exit; fn e; call f; exit; fn f; call g; exit; fn g; ! r0 = 0; exit",
        "fn a; r0 = 0; if r0 == 0 goto on; call b; on: ; exit; fn b; call c; exit; fn c; call d; exit; fn d; call e;"
        "exit; fn e; call f; exit; fn f; r0 = 0; exit",
    ),
}


@pytest.mark.parametrize(("code", "text"), [case[:2] for case in CASES.values()], ids=list(CASES))
def test_rejected(code: str, text: str) -> None:
    _, marked = assemble(complete(text))
    with pytest.raises(Found) as found:
        run(text)
    assert (found.value.fault.code, found.value.index) == (code, marked)


@pytest.mark.parametrize("text", [case[2] for case in CASES.values()], ids=list(CASES))
def test_accepted(text: str) -> None:
    run(text)


def test_every_code_has_a_case() -> None:
    assert VALUES.keys() == {code for code, _, _ in CASES.values()} | {"too-complex"}


# ---- accepted, without a twin

ACCEPTED = {
    "map-types": "; ".join(
        f"{KEY} r1 = map {name}; call map_lookup_elem; {KEY} r1 = map {name}; call map_delete_elem"
        for name in ("array", "hash", "locked")
    ),
    "no-argument-helpers": "; ".join(
        f"call {name}"
        for name in (
            "ktime_get_ns",
            "ktime_get_boot_ns",
            "ktime_get_coarse_ns",
            "get_prandom_u32",
            "get_smp_processor_id",
        )
    ),
    "null-check-of-a-copy": f"{LOOKUP} r6 = r0; if r6 == 0 goto out; r0 = u64[r0+0]",
    "null-check-before-a-spill-is-filled": f"{LOOKUP} u64[r10-16] = r0; if r0 == 0 goto out; r3 = u64[r10-16];"
    "r0 = u64[r3+0]",
    "null-check-of-a-filled-spill": f"{LOOKUP} u64[r10-16] = r0; r6 = r0; r3 = u64[r10-16]; if r3 == 0 goto out;"
    "r0 = u64[r6+0]",
    "null-check-not-equal": f"{LOOKUP} if r0 != 0 goto on; goto out; on:; r0 = u64[r0+0]",
    "null-check-in-a-function": f"fn main; {LOOKUP} r6 = r0; r1 = r0; call f; if r0 == 0 goto out;"
    "r0 = u64[r6+0]; exit; out:; r0 = 0; exit; fn f; if r1 == 0 goto no; r0 = 1; exit; no:; r0 = 0; exit",
    "second-null-check": f"{FOUND} if r0 == 0 goto never; goto out; never:; r0 = u8[r9+0]",
    "number-check-of-a-copy": f"{FOUND} r3 = u64[r0+0]; r4 = r3; if r4 > 8 goto out; r0 += r3; r0 = u64[r0+0]",
    "number-check-of-a-spill": f"{FOUND} r3 = u64[r0+0]; u64[r10-16] = r3; if r3 > 8 goto out; r4 = u64[r10-16];"
    "r0 += r4; r0 = u64[r0+0]",
    "number-check-of-a-filled-spill": f"{FOUND} r3 = u64[r0+0]; u64[r10-16] = r3; r3 = u64[r10-16]; r4 = u64[r10-16];"
    "if r4 > 8 goto out; r0 += r3; r0 = u64[r0+0]",
    "constant-of-the-program": f"r3 = value .rodata; r6 = u8[r3+7]; {FOUND} r0 += r6; r0 = u64[r0+1]",
    "zeros-of-the-stack": f"u64[r10-16] = 0; {FOUND} r3 = u8[r10-13]; r0 += r3; r0 = u64[r0+8]",
    "packet-length": f"{PACKET} r3 = r7; r3 -= r6; if r3 > 64 goto out; r0 = r3",
    "packet-two-variable-steps": f"{VARIABLE} r9 += 4; r9 += r8; r3 = r9; r3 += 4; if r3 > r7 goto out; r0 = u32[r9+0]",
    "packet-behind-a-variable-step": f"{VARIABLE} r3 = r9; r3 += 40; if r3 > r7 goto out; r4 = r9; r4 += 36;"
    "r0 = u32[r4+0]",
    "packet-vlan-then-one-check": f"{PACKET} r3 = r6; r3 += 18; if r3 > r7 goto out; r4 = u16[r6+12]; r8 = r6;"
    "r8 += 14; if r4 != 129 goto ip; r8 += 4; ip:; r3 = r8; r3 += 20; if r3 > r7 goto out; r0 = u32[r8+16]",
    "packet-spilled-across-a-call-and-checked": f"{PACKET} u64[r10-16] = r6; u64[r10-24] = r7; call ktime_get_ns;"
    "r3 = u64[r10-16]; r4 = u64[r10-24]; r5 = r3; r5 += 8; if r5 > r4 goto out; r3 = u64[r10-16]; r0 = u64[r3+0]",
    "packet-from-a-function": f"fn main; {PACKET} r1 = r6; r2 = r7; call f; r3 = r0; r3 += 4; if r3 > r7 goto out;"
    "r0 = u32[r0+0]; exit; out:; r0 = 0; exit; fn f; r0 = r1; r0 += 14; exit",
    "stack-filled-by-a-function": "fn main; r1 = r10; r1 += -8; call f; r0 = u64[r10-8]; exit;"
    "fn f; u64[r1+0] = 5; r0 = 0; exit",
    "two-callers": "fn main; r1 = 1; call f; r6 = r0; r1 = r10; r2 = r6; call g; r0 = r6; exit;"
    "fn f; r0 = r1; exit; fn g; u64[r1-8] = r2; r0 = u64[r1-8]; r1 = 3; r6 = 1; call f; exit",
    "atomics": f"{FOUND} r6 = r0; r1 = 1; add u32[r6+4], r1; fetch_add u64[r6+8], r1; xchg u32[r6+0], r1; r0 = 7;"
    "cmpxchg u64[r6+0], r1; r0 = r1",
    "atomic-result": f"{FOUND} r6 = r0; r1 = 1; fetch_add u32[r6+0], r1; r1 &= 15; r6 += r1; r0 = u8[r6+0]",
    "record-of-a-function": f"fn main; r6 = r1; call f; if r0 == 0 goto out; r1 = r0; r2 = 0; call ringbuf_submit;"
    f"out:; r0 = 0; exit; fn f; {RESERVE} exit",
    "record-unchecked-on-one-way": f"{INDEX} r8 = r3; {RESERVE} r6 = r0; if r8 == 0 goto on; if r6 == 0 goto out; on:;"
    f"if r6 == 0 goto out; {SUBMIT}",
    "locks-one-after-the-other": f"{LOCKED} {LOCK} {UNLOCK} {LOCKED} {LOCK} {UNLOCK}",
    "lock-of-either-lookup": f"{LOCKED} r7 = r6; {LOCKED} {INDEX} if r3 == 0 goto on; r6 = r7; on:; {LOCK} {UNLOCK}",
}


@pytest.mark.parametrize("text", ACCEPTED.values(), ids=list(ACCEPTED))
def test_accepted_too(text: str) -> None:
    run(text)


# ---- cost


def branches(count: int, name: str = "b") -> str:
    """`count` branches on unknown bits of R8 in a row, each of which changes R7."""
    steps = (f"if r8 & {1 << number % 31} goto {name}{number}; r7 += 1; {name}{number}:" for number in range(count))
    return f"{'; '.join(steps)};"


UNKNOWN_BITS = "call get_prandom_u32; r8 = r0; r7 = 0;"


def test_values_of_two_maps_are_kept_apart_when_many_states_are_joined() -> None:
    run(f"{EITHER} if r0 == 0 goto out; r9 = r0; {UNKNOWN_BITS} {branches(6)} r0 = u64[r9+8]")


def test_two_places_of_the_stack_are_kept_apart_when_many_states_are_joined() -> None:
    run(
        f"u64[r10-8] = 0; u64[r10-16] = 0; r9 = r10; r9 += -8; {INDEX} if r3 == 0 goto on; r9 = r10; r9 += -16; on:;"
        f"{UNKNOWN_BITS} {branches(6)} r0 = u64[r9+0]"
    )


@pytest.mark.parametrize("count", [64, 256])
@pytest.mark.parametrize(
    ("hold", "release"),
    [("", ""), (RECORD, SUBMIT)],
    ids=["numbers", "record"],
)
def test_branches_in_a_row(count: int, hold: str, release: str) -> None:
    assert run(f"{UNKNOWN_BITS} {hold} {branches(count)} {release}").work <= KEPT * (2 * count + 30)


def test_records_reserved_on_many_ways_are_joined() -> None:
    text = f"{UNKNOWN_BITS} {branches(6)} u64[r10-8] = r7; {RECORD} {branches(40, 'c')} {SUBMIT}"
    assert run(text).work <= KEPT * 140


def tree(levels: int, calls: int) -> str:
    """Functions, each of which calls the next `calls` times, each time after a branch."""
    functions = []
    for level in range(levels):
        body = "".join(
            f"if r6 & {1 << call} goto l{level}c{call}; r6 += 1; l{level}c{call}:; r1 = r6; call f{level + 1};"
            for call in range(calls if level < levels - 1 else 0)
        )
        begin = "call get_prandom_u32; r6 = r0;" if level == 0 else "r6 = r1;"
        functions.append(f"fn f{level}; {begin} {body} r0 = 0; exit")
    return ";".join(functions)


def test_tree_of_calls() -> None:
    assert run(tree(6, 2)).work < 20_000


def test_too_complex_names_what_costs_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "WORK_LIMIT", 20_000)
    program, _ = assemble(tree(6, 6))
    with pytest.raises(Found) as found:
        track(program)
    assert found.value.fault.code == "too-complex"
    last = program.functions[-1]
    assert last.start <= found.value.index < last.end


def test_stack_of_a_chain_with_many_ways_down() -> None:
    """Each function calls the next two, behind a branch that is never taken: the number of chains is enormous."""
    names = [f"f{number}" for number in range(60)]
    text = ";".join(
        f"fn {name}; r0 = 0; if r0 == 0 goto e{name};"
        + "".join(f"call {callee};" for callee in names[number + 1 : number + 3])
        + f"e{name}:; exit"
        for number, name in enumerate(names)
    )
    with pytest.raises(Found) as found:
        run(text)
    assert found.value.fault.code == "call-depth"


# ---- C


def faults() -> dict[str, tuple[str, str]]:
    """The programs in rejected/ that say themselves which code they are rejected with, and on which line."""
    found = {}
    for path in sorted((HERE / "rejected").glob("*.c")):
        for line in path.read_text().splitlines():
            code = line.partition("/* fault: ")[2].partition(" */")[0]
            if code:
                found[path.stem] = (code, line.strip())
    return found


@pytest.mark.parametrize(
    ("name", "code", "line"), [(name, *fault) for name, fault in faults().items()], ids=list(faults())
)
def test_compiled_program_is_rejected_at_its_line(compiled: Compile, name: str, code: str, line: str) -> None:
    program = load(compiled(f"rejected/{name}"))
    with pytest.raises(Found) as found:
        track(program)
    at = program.line_at(found.value.index)
    assert at is not None
    assert (found.value.fault.code, at.text.strip()) == (code, line)


@pytest.mark.parametrize("name", faults())
def test_its_mended_twin_is_accepted(compiled: Compile, name: str) -> None:
    track(load(compiled(f"rejected/{name}", "-DMENDED")))
