"""Groups, between real hosts whose links go down."""

from __future__ import annotations

import itertools
import time

import pytest

from demo.lab import SWITCH
from ofext.messages import PortStatus
from tests.e2e.conftest import Switch
from tests.e2e.wire import frame

pytestmark = pytest.mark.needs_bpf


def test_every_bucket_of_an_all_group_sends_a_copy(switch: Switch) -> None:
    controller = switch.begin()
    controller.add_group("group_id=1,type=all,bucket=output:2,bucket=output:3")
    controller.add("in_port=1,actions=group:1")
    switch.wires[1].send(frame())
    switch.assert_received([frame()], at=[2, 3])


def test_a_flow_keeps_its_bucket(switch: Switch) -> None:
    controller = switch.begin()
    controller.add_group("group_id=1,type=select,bucket=output:2,bucket=output:3")
    controller.add("in_port=1,actions=group:1")
    flows = [frame(source=source) for source in range(1, 33)]
    for sent in flows * 2:
        switch.wires[1].send(sent)
    got = {number: switch.wires[number].waiting() for number in (2, 3)}
    assert sorted(got[2] + got[3]) == sorted(flows * 2)
    for frames in got.values():
        half = len(frames) // 2
        assert frames[:half] == frames[half:] != []


@pytest.mark.parametrize("end", ["host", "port"])
def test_fast_failover_follows_the_links(switch: Switch, end: str) -> None:
    place, interface = ("host2", "eth0") if end == "host" else (SWITCH, "p2")
    controller = switch.begin()
    controller.add_group("group_id=1,type=ff,bucket=watch_port:2,output:2,bucket=watch_port:3,output:3")
    controller.add("in_port=1,actions=group:1")
    sender, second, third = switch.wires.values()
    sender.send(frame())
    assert second.receive() == frame()
    began = time.monotonic()
    switch.ip(place, f"link set {interface} down")
    for number in itertools.count(1):
        sender.send(frame(number))
        if third.waiting():
            break
    took = time.monotonic() - began
    print(f"frames arrived elsewhere {took * 1000:.0f} ms after the command that took the link down; {number - 1} lost")
    assert took < 2
    assert controller.hear(PortStatus).desc.port_no == 2
    switch.ip(place, f"link set {interface} up")
    assert controller.hear(PortStatus).desc.port_no == 2
    sender.send(frame(10**6))
    assert third.waiting() == []
