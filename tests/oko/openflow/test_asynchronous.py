from __future__ import annotations

import pytest

from ofext.constants import Role
from ofext.messages import FlowRemoved, GetAsyncReply, PacketIn, PortStatus
from oko.openflow.asynchronous import DEFAULT, Unasked, wants

CHOSEN = GetAsyncReply((0b010, 0b100), (0, 0b001), (0b1000, 0))


@pytest.mark.parametrize("kind", [PacketIn, PortStatus, FlowRemoved])
@pytest.mark.parametrize("role", [Role.EQUAL, Role.MASTER, Role.SLAVE])
def test_without_a_choice_a_slave_hears_of_ports_only(kind: type[Unasked], role: Role) -> None:
    assert wants(DEFAULT, kind, 2, role) is (role is not Role.SLAVE or kind is PortStatus)


@pytest.mark.parametrize(
    ("kind", "equal", "slave"),
    [(PacketIn, {1}, {2}), (PortStatus, set(), {0}), (FlowRemoved, {3}, set())],
)
def test_masks_choose_reasons(kind: type[Unasked], equal: set[int], slave: set[int]) -> None:
    for role, expected in ((Role.EQUAL, equal), (Role.MASTER, equal), (Role.SLAVE, slave)):
        assert {reason for reason in range(5) if wants(CHOSEN, kind, reason, role)} == expected
