from __future__ import annotations

import pytest

from ofext.constants import PortFeature, PortState
from ofext.multipart import Port
from ofext.v10 import stats
from oko.errors import NotExpressible
from oko.flow.action import CONTROLLER, FLOOD, IN_PORT, LOCAL
from oko.wire.v10.port import read_any_port, read_port_number, write_port, write_port_number


@pytest.mark.parametrize(
    ("number", "low"),
    [
        pytest.param(1, 1, id="first"),
        pytest.param(0xFEFF, 0xFEFF, id="last"),
        pytest.param(IN_PORT, 0xFFF8, id="IN_PORT"),
        pytest.param(FLOOD, 0xFFFB, id="FLOOD"),
        pytest.param(CONTROLLER, 0xFFFD, id="CONTROLLER"),
        pytest.param(LOCAL, 0xFFFE, id="LOCAL"),
    ],
)
def test_numbers(number: int, low: int) -> None:
    assert write_port_number(number) == low
    assert read_port_number(low) == number
    assert read_any_port(low) == number


def test_no_port_means_all() -> None:
    assert read_any_port(0xFFFF) is None


@pytest.mark.parametrize("number", [0xFF00, 0x10000, 0xFFFFFF00])
def test_ports_without_a_number(number: int) -> None:
    with pytest.raises(NotExpressible, match=f"port {number}: "):
        write_port_number(number)


def test_features_move_and_states_are_left_out() -> None:
    features = PortFeature.MB_10_HD | PortFeature.GB_10_FD | PortFeature.TB_1_FD
    more = PortFeature.COPPER | PortFeature.PAUSE_ASYM
    port = Port(1, b"\2\0\0\0\0\1", "p1", 0, PortState.LINK_DOWN | PortState.BLOCKED, features | more, 0, 0, more)
    assert write_port(port) == stats.Port(1, port.hw_addr, "p1", 0, 1, 1 | 1 << 6 | 1 << 7 | 1 << 11, 0, 0, 0x880)
