"""How rules go: by their timeouts, and with groups and meters. And what meters let through."""

from __future__ import annotations

import itertools
import time

import pytest

from ofext.constants import FlowRemovedReason
from ofext.messages import FlowRemoved
from tests.e2e.conftest import Switch
from tests.e2e.wire import frame

pytestmark = pytest.mark.needs_bpf


@pytest.mark.parametrize(
    ("timeouts", "reason"),
    [
        pytest.param("idle_timeout=1", FlowRemovedReason.IDLE_TIMEOUT, id="idle"),
        pytest.param("hard_timeout=1", FlowRemovedReason.HARD_TIMEOUT, id="hard"),
        pytest.param("idle_timeout=60,hard_timeout=1", FlowRemovedReason.HARD_TIMEOUT, id="both"),
    ],
)
def test_a_rule_goes_in_time(switch: Switch, timeouts: str, reason: FlowRemovedReason) -> None:
    controller = switch.begin()
    began = time.monotonic()
    controller.add(f"{timeouts},send_flow_rem,cookie=5,priority=9,in_port=1,actions=output:2")
    switch.wires[1].send(frame())
    removed = controller.hear(FlowRemoved)
    took = time.monotonic() - began
    assert (removed.cookie, removed.priority, removed.reason) == (5, 9, reason)
    assert (removed.packet_count, removed.byte_count) == (1, 60)
    # A rule that was used is looked at again a second later at most.
    assert 1 <= took < 3.5
    assert abs(removed.duration_sec + removed.duration_nsec / 1e9 - took) < 0.5
    switch.wires[1].send(frame(1))
    switch.assert_received([frame()], at=[2])


def test_a_rule_that_is_used_stays(switch: Switch) -> None:
    controller = switch.begin()
    controller.add("idle_timeout=1,send_flow_rem,in_port=1,actions=output:2")
    deadline = time.monotonic() + 3.5
    for number in itertools.count():
        switch.wires[1].send(frame(number))
        assert switch.wires[2].receive() == frame(number)
        if time.monotonic() > deadline:
            break
    assert controller.heard(FlowRemoved) == []
    assert controller.hear(FlowRemoved).packet_count == number + 1


def test_rules_go_with_their_group(switch: Switch) -> None:
    controller = switch.begin()
    controller.add_group("group_id=1,type=indirect,bucket=output:2")
    controller.add("send_flow_rem,in_port=1,actions=group:1")
    switch.wires[1].send(frame())
    switch.assert_received([frame()], at=[2])
    controller.delete_group(1)
    removed = controller.hear(FlowRemoved)
    assert (removed.reason, removed.packet_count) == (FlowRemovedReason.GROUP_DELETE, 1)


def test_a_meter_drops_what_is_too_much(switch: Switch) -> None:
    controller = switch.begin()
    controller.add_meter("meter=1,pktps,burst,bands=type=drop,rate=1,burst_size=10")
    controller.add("in_port=1,actions=meter:1,output:2")
    began = time.monotonic()
    for number in range(100):
        switch.wires[1].send(frame(number))
    gained = int(time.monotonic() - began) + 1
    got = switch.wires[2].waiting()
    assert got[:10] == [frame(number) for number in range(10)]
    assert 10 <= len(got) <= 10 + gained
