"""What `oko trace` says of a frame is what happens to it."""

from __future__ import annotations

import pytest

from ofext.messages import PortStatus
from tests.e2e.conftest import Switch
from tests.e2e.wire import frame
from tests.stage import BRIDGE, FIREWALL

pytestmark = pytest.mark.needs_bpf


def test_a_frame_goes_where_the_trace_says(switch: Switch) -> None:
    controller = switch.begin()
    switch.output("oko-load", BRIDGE, "1", FIREWALL)
    controller.add_group("group_id=2,type=ff,bucket=watch_port:2,output:2,bucket=watch_port:3,output:3")
    controller.add(
        "priority=40000,filter_prog=1,actions=drop",
        "in_port=1,actions=set_field:02:00:00:00:00:77->eth_src,write_metadata:3,goto_table:1",
        "table=1,metadata=3,actions=group:2",
    )
    words = ("oko", "trace", BRIDGE, "--program", f"1={FIREWALL}", "--in-port", "1", frame().hex())
    for port in (2, 3):
        *story, sent, verdict = switch.output(*words).splitlines()
        assert "  not    priority=40000,filter_prog=1 actions=drop: program 1 (firewall) runs and says no" in story
        assert f"      group 2 (fast-failover): live buckets {'0, 1' if port == 2 else '1'}, takes {port - 2}" in story
        assert verdict == "the image in the kernel agrees"
        head, _, told = sent.rpartition(" ")
        assert head == f"sent to port {port}: 60 bytes:"
        switch.wires[1].send(frame())
        assert switch.wires[port].receive() == bytes.fromhex(told) != frame()
        if port == 2:
            switch.ip("host2", "link set eth0 down")
            assert controller.hear(PortStatus).desc.port_no == 2


def test_a_port_that_is_not_there(switch: Switch) -> None:
    switch.begin()
    assert switch.error("oko", "trace", BRIDGE, "--in-port", "9", frame().hex()).startswith("there is no port 9: ")
