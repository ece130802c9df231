"""Open vSwitch's own actions: from and to the bytes of an experimenter's action."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofext import nicira
from ofext.instructions import ExperimenterAction
from ofext.nicira import NICIRA_ACTIONS, ConntrackNat, Learn, NiciraAction, Note, pack_range, unpack_range
from oko.errors import ProtocolError
from tests.ofext.strategies import of_family


@given(of_family(NICIRA_ACTIONS))
def test_what_is_written_reads_back(action: NiciraAction) -> None:
    assert nicira.read(nicira.write(action)) == action


@given(st.integers(0, 1023), st.integers(1, 64))
def test_ranges(start: int, bits: int) -> None:
    assert unpack_range(pack_range(start, bits)) == (start, bits)


def test_bytes() -> None:
    """As `ovs-ofctl add-flow` sends note:01.02.03.04.05.06, the end of nat(src=1.2.3.4), and of learn()."""
    assert nicira.write(Note(bytes(range(1, 7)))).data.hex() == "0008010203040506"
    assert nicira.write(ConntrackNat(1, 4, bytes((1, 2, 3, 4)))).data.hex() == "002400000001000401020304"
    assert (
        nicira.write(Learn(5, 0, 7, 5, 3, 1, 3, 4, b"")).data.hex() == "0010"
        "000500000007"
        "0000000000000005"
        "0003010000030004"
    )


@pytest.mark.parametrize(
    "action",
    [
        pytest.param(ExperimenterAction(0x2321, bytes(12)), id="of another experimenter"),
        pytest.param(ExperimenterAction(0x2320, bytes.fromhex("002f") + bytes(10)), id="without a class"),
        pytest.param(ExperimenterAction(0x2320), id="without a subtype"),
    ],
)
def test_others(action: ExperimenterAction) -> None:
    assert nicira.read(action) is None


@pytest.mark.parametrize("data", ["0007 001f", "000e 0001ff000000 00000000"], ids=["cut off", "too long"])
def test_lengths(data: str) -> None:
    with pytest.raises(ProtocolError):
        nicira.read(ExperimenterAction(0x2320, bytes.fromhex(data)))
