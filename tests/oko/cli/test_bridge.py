"""What `oko bridge show` prints of a bridge without ports; tests/e2e has bridges with ports and packets."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.run_time import run_time
from tests.stage import BRIDGE, Stage

pytestmark = pytest.mark.needs_bpf


@pytest.fixture(params=[False, True], ids=["not measuring", "measuring"])
def measures(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Whether the kernel measures the run time of programs."""
    measured: bool = request.param
    with run_time(measured):
        yield measured


def test_run_time_is_shown_while_it_is_measured(switch: Stage, measures: bool) -> None:
    shown = switch.output("oko", "bridge", "show", BRIDGE)
    assert ("run time per packet: no packet was measured yet\n" in shown) == measures
    assert ("run time" in shown) == measures
    found = json.loads(switch.output("oko", "bridge", "show", BRIDGE, "--json"))
    assert found["run_time"] == ({"packets": 0, "ns": 0} if measures else None)
