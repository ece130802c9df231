from __future__ import annotations

from functools import partial

import pytest

from oko.errors import LimitExceeded
from oko.openflow.admission import Admission


def test_newcomers_make_room_for_each_other_and_for_nobody_else() -> None:
    admission = Admission(8)
    left: list[int] = []
    for peer in range(4):
        admission.arrive(peer, partial(left.append, peer))
    assert left == [0, 1], "a quarter of the limit, the oldest first"
    admission.admit(2)
    admission.admit(2)
    admission.arrive(4, lambda: left.append(4))
    assert left == [0, 1], "one that is admitted is no newcomer any more"
    admission.arrive(5, lambda: left.append(5))
    assert left == [0, 1, 3]


def test_those_that_are_admitted_are_counted() -> None:
    admission = Admission(2)
    for peer in range(2):
        admission.arrive(peer, lambda: None)
        admission.admit(peer)
    admission.forget(1)
    admission.arrive(2, lambda: None)
    admission.admit(2)
    for attempt in (lambda: admission.arrive(3, lambda: None), lambda: admission.admit(4)):
        with pytest.raises(LimitExceeded, match="max_connections has been reached"):
            attempt()
    admission.admit(0)
