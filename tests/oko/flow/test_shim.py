"""The shim as bytes. What Open vSwitch makes of it: tests/oko/attached/test_shim.py."""

from __future__ import annotations

import pytest

from oko.flow import headers, shim

INNER = bytes.fromhex("0200000000020200000000010800") + bytes(46)
WHOLE = shim.frame(0x123456, INNER)


def test_bytes() -> None:
    assert WHOLE.hex() == "0180c200000e0200000c0000894f0fc20203123456ff" + INNER.hex()
    assert len(WHOLE) == len(INNER) + shim.SIZE
    parsed = headers.parse(WHOLE, 1)
    assert parsed is not None
    assert parsed["eth_type"] == shim.ETHERTYPE


@pytest.mark.parametrize("shim_id", [shim.IDS[0], shim.IDS[-1]])
def test_ids(shim_id: int) -> None:
    assert len(shim.frame(shim_id, b"")) == shim.SIZE


def test_a_shim_is_known_by_its_type_and_index() -> None:
    """Whoever forges one may choose its addresses, TTL and id."""
    found = {at for at in range(shim.SIZE) if not shim.is_shim(WHOLE[:at] + bytes((WHOLE[at] ^ 1,)) + WHOLE[at + 1 :])}
    assert found == {12, 13, 16, 17, 21}


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        pytest.param(shim.frame(7, b""), True, id="of nothing"),
        pytest.param(shim.frame(7, b"")[:-1], False, id="cut off"),
        pytest.param(INNER, False, id="another frame"),
        pytest.param(WHOLE[:12] + bytes.fromhex("81000005") + WHOLE[12:], False, id="behind a tag"),
    ],
)
def test_what_a_shim_is(frame: bytes, wanted: bool) -> None:
    assert shim.is_shim(frame) is wanted
