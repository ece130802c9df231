from __future__ import annotations

from oko.openflow.backoff import PATIENCE, Backoff


def test_waits_double_up_to_the_ceiling() -> None:
    backoff = Backoff(8.0)
    assert [backoff.after(0.1) for _ in range(6)] == [1, 2, 4, 8, 8, 8]
    assert backoff.patience == PATIENCE


def test_a_connection_that_lasts_begins_anew() -> None:
    backoff = Backoff(8.0)
    assert [backoff.after(lasted) for lasted in (60, 1.0, 2.0, 4.1, 0)] == [1, 2, 4, 1, 2]


def test_a_low_ceiling() -> None:
    backoff = Backoff(1.5)
    assert [backoff.after(0) for _ in range(3)] == [1, 1.5, 1.5]


def test_an_attempt_has_time_for_several_round_trips_and_as_long_as_the_wait() -> None:
    assert PATIENCE >= 5
    backoff = Backoff(60.0)
    assert backoff.patience == PATIENCE
    assert [backoff.after(0) for _ in range(6)][-1] == 32
    assert backoff.patience == 32
