from __future__ import annotations

import pytest

from oko.flow.match import Match
from oko.flow.rule import Entry, Rule
from oko.switch.timeouts import SECOND, RemovalReason, Timeouts

IDLE, HARD = RemovalReason.IDLE_TIMEOUT, RemovalReason.HARD_TIMEOUT


def entry(idle: int = 0, hard: int = 0, *, age: int = 0, slot: int = 0) -> Entry:
    return Entry(Rule(Match(), idle_timeout=idle, hard_timeout=hard), age, slot)


def end(idle: int, hard: int, packets: dict[int, int], *, until: int = 100) -> tuple[float, RemovalReason] | None:
    """When (seconds) and why a rule goes that is looked at whenever that is asked for. `packets`: by second, how many
    it has won from then on."""
    timeouts = Timeouts()
    timeouts.watch(entry(idle, hard), 0)
    while (now := timeouts.next) is not None and now <= until * SECOND:
        so_far = max((count for second, count in packets.items() if second * SECOND <= now), default=0)
        for _, reason in timeouts.expired(now, lambda _, count=so_far: count):
            return now / SECOND, reason
        assert timeouts.next is not None
        assert timeouts.next > now
    return None


@pytest.mark.parametrize(
    ("idle", "hard", "packets", "expected"),
    [
        pytest.param(0, 0, {}, None, id="none"),
        pytest.param(0, 5, {1: 100}, (5, HARD), id="hard"),
        pytest.param(5, 0, {}, (5, IDLE), id="idle without packets"),
        pytest.param(10, 8, {}, (8, HARD), id="hard before idle"),
        pytest.param(5, 8, {}, (5, IDLE), id="idle before hard"),
        pytest.param(5, 8, {4: 1}, (8, HARD), id="kept from idle until hard"),
        pytest.param(1, 0, {1: 1}, (2, IDLE), id="one packet"),
        pytest.param(3, 0, {2: 1, 4: 2}, (7, IDLE), id="packets now and then"),
        pytest.param(80, 0, {85: 1}, (80, IDLE), id="packets too late"),
    ],
)
def test_when_rules_go(
    idle: int, hard: int, packets: dict[int, int], expected: tuple[float, RemovalReason] | None
) -> None:
    assert end(idle, hard, packets) == expected


@pytest.mark.parametrize("idle", [1, 7, 64, 65535])
@pytest.mark.parametrize("last", [0.2, 0.5, 0.99])
def test_an_idle_rule_goes_never_too_early_and_at_most_one_interval_late(idle: int, last: float) -> None:
    used = int(idle * last * SECOND)
    timeouts = Timeouts()
    timeouts.watch(entry(idle), 0)
    while True:
        now = timeouts.next
        assert now is not None
        if list(timeouts.expired(now, lambda _, at=now: 1 if at >= used else 0)):
            break
    assert used + idle * SECOND <= now <= used + idle * SECOND + max(SECOND, idle * SECOND // 8)


def test_a_rule_that_cannot_be_taken_away_is_named_again_a_second_later() -> None:
    timeouts = Timeouts()
    rule = entry(hard=5)
    timeouts.watch(rule, 0)
    for now in (5 * SECOND, 6 * SECOND):
        assert timeouts.next == now
        assert list(timeouts.expired(now, lambda _: 0)) == [(rule, HARD)]
    timeouts.forget(rule)
    assert list(timeouts.expired(7 * SECOND, lambda _: 0)) == []
    assert timeouts.next is None


def test_a_changed_rule_goes_on_in_a_new_slot() -> None:
    timeouts = Timeouts()
    timeouts.watch(entry(idle=5, slot=1), 0)
    assert list(timeouts.expired(SECOND, {1: 100}.__getitem__)) == []
    timeouts.watch(entry(idle=5, slot=2), SECOND)
    # The new slot begins at zero, which is no packet.
    assert list(timeouts.expired(6 * SECOND, {2: 0}.__getitem__)) == [(entry(idle=5, slot=2), IDLE)]


def test_rules_that_went_before_their_time_leave_nothing() -> None:
    timeouts = Timeouts()
    kept = entry(hard=65535, age=10**6)
    timeouts.watch(kept, 0)
    for age in range(1000):
        rule = entry(hard=1000, age=age)
        timeouts.watch(rule, 0)
        timeouts.forget(rule)
    assert timeouts.next == 1000 * SECOND
    assert list(timeouts.expired(1000 * SECOND, lambda _: 0)) == []
    assert len(timeouts._due) == 1
