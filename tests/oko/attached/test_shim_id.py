from __future__ import annotations

import pytest

from oko.attached import shim_id
from oko.attached.shim_id import MARKER, RULE_IDS, ShimIds
from oko.errors import LimitExceeded


def test_ids_are_taken_from_the_lowest() -> None:
    ids = ShimIds()
    assert [ids.take(), ids.take()] == [1, 2]
    assert ids.used == {1, 2}


def test_an_id_in_quarantine_is_not_taken() -> None:
    ids = ShimIds([1])
    ids.retire(1)
    assert ids.quarantine == {1}
    assert ids.take() == 2
    ids.release([1])
    assert ids.quarantine == frozenset()
    assert ids.take() == 1


def test_an_id_that_was_not_used_is_free_at_once() -> None:
    ids = ShimIds()
    ids.cancel(ids.take())
    assert ids.take() == 1


def test_what_is_used_already_stays_used() -> None:
    ids = ShimIds([2, 4])
    assert [ids.take() for _ in range(3)] == [1, 3, 5]
    assert ids.used == {1, 2, 3, 4, 5}


def test_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shim_id, "RULE_IDS", range(1, 3))
    ids = ShimIds()
    ids.take()
    ids.retire(ids.take())
    with pytest.raises(LimitExceeded, match="2 used, limit 2"):
        ids.take()


def test_the_marker_is_of_no_rule() -> None:
    assert MARKER not in RULE_IDS
