from __future__ import annotations

import json

import pytest

from perf.relay import RelayCost, Ways, measure_relay
from tests.ovs import needs_ovs


def test_what_is_said_of_it() -> None:
    cost = RelayCost(Ways([20_000] * 99, [90_000] * 99), Ways([10**9, 2 * 10**9, 10**9], [10**9, 10**9, 2 * 10**9]))
    assert cost.flow_mods.ratio == 1.0
    lines = str(cost).splitlines()
    assert lines[:2] == ["barrier, direct: p50 20 µs, p99 20 µs", "barrier, relayed: p50 90 µs, p99 90 µs"]
    assert lines[2] == "20,000 flow_mods, direct: 1.000 s (20,000 per second)"
    assert json.loads(json.dumps(cost.to_json()))["flow_mods"]["ratio"] == pytest.approx(1.0)


@needs_ovs
def test_both_ways_are_measured() -> None:
    cost = measure_relay(1)
    assert len(cost.barriers.direct) == len(cost.barriers.relayed) > 100
    assert all(value > 0 for ways in (cost.barriers, cost.flow_mods) for value in (*ways.direct, *ways.relayed))
