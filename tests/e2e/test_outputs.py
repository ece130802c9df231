"""Where frames leave by, and how: one copy at each host that is to have one, and the right bytes in it."""

from __future__ import annotations

import pytest

from demo.lab import SWITCH
from ofext.messages import PacketIn
from oko.flow.packet_in import PacketInReason
from tests.e2e.conftest import Switch
from tests.e2e.wire import frame

pytestmark = pytest.mark.needs_bpf

FRAMES = [frame(number, size=60 + 500 * number) for number in range(3)]
NO_PORT = 0xFFFFFFFD  # OFPP_CONTROLLER


@pytest.mark.parametrize(
    ("actions", "expected"),
    [
        pytest.param("output:2", [2], id="one port"),
        pytest.param("output:2,output:3", [2, 3], id="two ports"),
        pytest.param("output:2,output:1", [2], id="not back"),
        pytest.param("FLOOD", [2, 3], id="flood"),
        pytest.param("ALL", [2, 3], id="all"),
        pytest.param("IN_PORT", [1], id="in_port"),
        pytest.param("output:3,IN_PORT", [1, 3], id="in_port and another"),
        pytest.param("write_actions(output:3)", [3], id="action set"),
    ],
)
def test_every_host_gets_one_copy(switch: Switch, actions: str, expected: list[int]) -> None:
    switch.begin().add(f"in_port=1,actions={actions}")
    for sent in FRAMES:
        switch.wires[1].send(sent)
    switch.assert_received(FRAMES, expected)


def test_a_rewritten_frame_goes_to_several_ports(switch: Switch) -> None:
    switch.begin().add("in_port=1,actions=set_field:02:00:00:00:00:aa->eth_src,output:2,output:3")
    switch.wires[1].send(frame(7))
    switch.assert_received([frame(7, source=0xAA)], [2, 3])


@pytest.mark.parametrize(
    ("flow", "reason"),
    [
        pytest.param("priority=0,cookie=0x77,actions=CONTROLLER:65535", PacketInReason.NO_MATCH, id="table miss"),
        pytest.param("in_port=1,cookie=0x77,actions=CONTROLLER:65535,output:2", PacketInReason.ACTION, id="action"),
    ],
)
def test_the_controller_gets_whole_frames(switch: Switch, flow: str, reason: PacketInReason) -> None:
    controller = switch.begin()
    controller.add(flow)
    for sent in FRAMES:
        switch.wires[1].send(sent)
    for sent in FRAMES:
        heard = controller.hear(PacketIn)
        assert (heard.data, heard.total_len, heard.cookie) == (sent, len(sent), 0x77)
        assert heard.reason == reason.value
    assert controller.heard(PacketIn) == []


def test_controllers_hear_only_their_bridge_while_packets_pour(switch: Switch) -> None:
    """More packets than the ring takes, while requests go on."""
    controller = switch.begin()
    controller.add("in_port=1,actions=CONTROLLER:65535")
    for number in range(5000):
        switch.wires[1].send(frame(number))
    assert controller.hear(PacketIn).data == frame(0)
    controller.add("in_port=1,actions=drop")


@pytest.mark.parametrize(
    ("actions", "in_port", "expected"),
    [
        pytest.param("output:2", NO_PORT, [2], id="one port"),
        pytest.param("FLOOD", NO_PORT, [1, 2, 3], id="flood"),
        pytest.param("FLOOD", 1, [2, 3], id="flood from a port"),
        pytest.param("IN_PORT", 3, [3], id="in_port"),
        pytest.param("TABLE", 1, [3], id="through the tables"),
        pytest.param("TABLE", NO_PORT, [2], id="through the tables, from no port"),
    ],
)
def test_packet_out(switch: Switch, actions: str, in_port: int, expected: list[int]) -> None:
    controller = switch.begin()
    controller.add("priority=10,in_port=1,actions=output:3", "priority=1,actions=output:2")
    for sent in FRAMES:
        controller.packet_out(actions, sent, in_port)
    switch.assert_received(FRAMES, expected)


def test_packet_out_leaves_out_what_is_down(switch: Switch) -> None:
    controller = switch.begin()
    switch.ip(SWITCH, "link set p2 down")
    controller.packet_out("FLOOD", frame(), NO_PORT)
    switch.assert_received([frame()], [1, 3])
