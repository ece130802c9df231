from __future__ import annotations

import pytest

from oko.errors import FlowError
from oko.flow.observer_text import parse_observer, print_observer


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        pytest.param("filter_prog=3", "table=0,filter_prog=3", id="table 0 by itself"),
        pytest.param("table=7, tcp tp_dst=80,filter_prog=1", "table=7,tcp,tp_dst=80,filter_prog=1", id="headers"),
    ],
)
def test_both_ways(text: str, printed: str) -> None:
    observer = parse_observer(text)
    assert print_observer(observer) == printed
    assert parse_observer(printed) == observer


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("ip", "name it with filter_prog", id="no program"),
        pytest.param("filter_prog=1,priority=3", "priority", id="priority"),
        pytest.param("filter_prog=1,cookie=1/-1", "leave cookie", id="cookie"),
        pytest.param("filter_prog=1,out_port=1", "leave cookie", id="port"),
        pytest.param("filter_prog=1,actions=drop", "actions", id="actions"),
        pytest.param("tp_dst=80,filter_prog=1", "tp_dst", id="prerequisite"),
    ],
)
def test_what_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(FlowError, match=complaint):
        parse_observer(text)
