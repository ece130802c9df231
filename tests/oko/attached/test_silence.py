from __future__ import annotations

from oko.attached.silence import FULL, LITTLE, Silences


def test_a_port_that_stays_silent() -> None:
    """It has the full time at the beginning, and then after 10, 20, 40 s and so on, and after 320 s each time."""
    silences, full = Silences(), []
    for now in range(1500):
        patience = silences.patience(7, now)
        if patience == FULL:
            full.append(now)
        assert silences.silent(7, patience, now) == (now == 0)
    assert full == [0, 10, 30, 70, 150, 310, 630, 950, 1270]


def test_a_port_that_is_heard_again() -> None:
    silences = Silences()
    assert silences.silent(7, FULL, 0.0)
    assert (silences.patience(7, 0.0), silences.patience(8, 0.0)) == (LITTLE, FULL)
    silences.heard(7)
    assert silences.patience(7, 0.0) == FULL
    assert silences.silent(7, FULL, 0.0)
    silences.heard(9)
