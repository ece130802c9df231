from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from verifier.isa import Instruction, decode, encode


@given(st.binary(max_size=64).map(lambda raw: raw[: len(raw) // 8 * 8]))
def test_every_slot_survives(code: bytes) -> None:
    assert encode(decode(code)) == code


def test_fields() -> None:
    assert encode([Instruction(0x61, dst=2, src=1, offset=-4, imm=-1)]) == bytes.fromhex("6112fcffffffffff")


def test_half_a_slot() -> None:
    with pytest.raises(ValueError, match="12 bytes"):
        decode(bytes(12))
