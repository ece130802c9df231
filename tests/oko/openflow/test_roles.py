from __future__ import annotations

import pytest

from ofext.constants import Role
from ofext.errors import BY_NAME
from oko.errors import ProtocolError
from oko.openflow.roles import UNKNOWN_GENERATION, Roles

A, B = "a", "b"


def refusal(roles: Roles, role: int, generation: int = 0) -> str:
    with pytest.raises(ProtocolError) as caught:
        roles.request(A, role, generation)
    error = caught.value
    return next(k.name for k in BY_NAME.values() if (k.type, k.code) == (error.error_type, error.error_code))


def test_who_asks_for_nothing_is_equal() -> None:
    roles = Roles()
    assert roles.request(A, Role.NOCHANGE, 5) == Role.EQUAL
    assert roles.generation == UNKNOWN_GENERATION


def test_there_is_one_master() -> None:
    roles = Roles()
    assert roles.request(A, Role.MASTER, 1) == Role.MASTER
    assert roles.request(B, Role.MASTER, 1) == Role.MASTER
    assert (roles.of(A), roles.of(B)) == (Role.SLAVE, Role.MASTER)
    assert roles.request(A, Role.EQUAL, 0) == Role.EQUAL
    assert roles.of(B) == Role.MASTER


@pytest.mark.parametrize(
    ("first", "second", "stale"),
    [(5, 5, False), (5, 6, False), (5, 4, True), (2**64 - 1, 0, False), (0, 2**64 - 1, True), (0, 2**63 - 1, False)],
)
def test_generations_go_round(first: int, second: int, stale: bool) -> None:
    roles = Roles()
    roles.request(B, Role.SLAVE, first)
    if stale:
        assert refusal(roles, Role.MASTER, second) == "role-request-failed/stale"
        assert (roles.generation, roles.of(A)) == (first, Role.EQUAL)
    else:
        assert roles.request(A, Role.MASTER, second) == Role.MASTER
        assert roles.generation == second


def test_a_generation_counts_for_masters_and_slaves_only() -> None:
    roles = Roles()
    roles.request(A, Role.MASTER, 9)
    assert roles.request(B, Role.EQUAL, 1) == Role.EQUAL
    assert roles.generation == 9


def test_no_such_role() -> None:
    assert refusal(Roles(), 4) == "role-request-failed/bad-role"


def test_a_role_ends_with_its_connection() -> None:
    roles = Roles()
    roles.request(A, Role.SLAVE, 1)
    roles.leave(A)
    roles.leave(A)
    assert roles.of(A) == Role.EQUAL
