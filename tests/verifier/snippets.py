"""Pieces of programs in the text of tests/verifier/assembly.py, and what tracks programs made of them."""

from __future__ import annotations

from tests.verifier.assembly import assemble
from verifier.check import check_structure
from verifier.findings import Tracking
from verifier.tracking import track

PACKET = "r6 = u32[r1+0]; r7 = u32[r1+4];"
VARIABLE = f"{PACKET} r8 = u32[r1+12]; r8 &= 63; r9 = r6; r9 += r8;"
KEY = "u64[r10-8] = 0; r2 = r10; r2 += -8;"
LOOKUP = f"{KEY} r1 = map array; call map_lookup_elem;"
FOUND = f"{LOOKUP} if r0 == 0 goto out;"
LOCKED = f"{KEY} r1 = map locked; call map_lookup_elem; if r0 == 0 goto out; r6 = r0;"
LOCK = "r1 = r6; r1 += 4; call spin_lock;"
UNLOCK = "r1 = r6; r1 += 4; call spin_unlock;"
RESERVE = "r1 = map ring; r2 = 16; r3 = 0; call ringbuf_reserve;"
RECORD = f"{RESERVE} if r0 == 0 goto out; r6 = r0;"
SUBMIT = "r1 = r6; r2 = 0; call ringbuf_submit;"
INDEX = "call get_prandom_u32; r3 = r0;"
EITHER = f"{INDEX} {KEY} r1 = map array; if r3 == 0 goto either; r1 = map hash; either:; call map_lookup_elem;"
"""One call that looks up in one of two maps, as compilers make it of two calls."""


def complete(text: str) -> str:
    """A program without an exit goes on to returning 0, at `out`."""
    return text if "exit" in text else f"{text}\nout:; r0 = 0; exit"


def run(text: str) -> Tracking:
    """Tracks a program after the structural checks."""
    program, _ = assemble(complete(text))
    check_structure(program)
    return track(program)
