"""The account of frames: what adds up, what is lost, and where."""

from __future__ import annotations

import pytest

from perf.account import DRIVER_DROPS, HOPS, Account


def an_account(
    sent: int, delivered: int, *, received: int, drops: dict[str, int] | None = None, hops: dict[str, int] | None = None
) -> Account:
    return Account(
        sent,
        delivered,
        dict.fromkeys(DRIVER_DROPS, 0) | (drops or {}),
        dict.fromkeys(HOPS, 0) | {"p1 received": received} | (hops or {}),
    )


@pytest.mark.parametrize(
    ("account", "lost", "behind"),
    [
        pytest.param(an_account(100, 100, received=100), 0, 0, id="everything arrived"),
        pytest.param(an_account(100, 90, received=90, drops={"no room behind gen": 10}), 0, 0, id="dropped before p1"),
        pytest.param(an_account(100, 90, received=100, drops={"no room behind p2": 10}), 0, 0, id="dropped behind p1"),
        pytest.param(an_account(100, 95, received=100, drops={"oko: miss": 5}), 0, 0, id="dropped by the switch"),
        pytest.param(an_account(100, 52, received=100), 48, 48, id="lost behind p1"),
        pytest.param(an_account(100, 20, received=20, drops={"no room behind gen": 32}), 48, 0, id="lost before p1"),
    ],
)
def test_what_nobody_can_account_for(account: Account, lost: int, behind: int) -> None:
    assert (account.lost, account.lost_behind_p1) == (lost, behind)


def test_since_takes_away_every_count() -> None:
    before = an_account(10, 6, received=9, drops={"no room behind gen": 1, "oko: miss": 3}, hops={"p1 dropped": 3})
    after = an_account(40, 29, received=35, drops={"no room behind gen": 5, "oko: miss": 6}, hops={"p1 dropped": 6})
    expected = an_account(30, 23, received=26, drops={"no room behind gen": 4, "oko: miss": 3}, hops={"p1 dropped": 3})
    assert after.since(before) == expected
