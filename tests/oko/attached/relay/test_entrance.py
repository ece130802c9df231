from __future__ import annotations

from pathlib import Path

import pytest

from oko.attached.relay.entrance import EnteringPacket, Entrance
from oko.flow.action import TABLE, Output, SetField
from oko.flow.fields import BY_NAME
from tests.e2e.wire import frame
from tests.oko.attached.attached import AttachedLab, odd, with_attached
from tests.oko.attached.conftest import Laboratory
from tests.ovs import needs_ovs

pytestmark = [needs_ovs, pytest.mark.needs_bpf]


def test_packets_enter(ovs: Laboratory, tmp_path: Path) -> None:
    """Those with an odd number are sent to host 3 from port 1, and continued, by NORMAL, from port 2. Refused are
    a frame that is too long, and one to be changed whose tags Open vSwitch does not all read."""
    source = SetField(BY_NAME["eth_src"], 0x020000000007)
    packets = [
        EnteringPacket((Output(TABLE),), frame(1), 1),
        EnteringPacket((Output(TABLE),), frame(2), 1),
        EnteringPacket((source, Output(TABLE)), frame(3), 1),
        EnteringPacket((Output(TABLE),), frame(4, size=9000), 1),
        EnteringPacket((source, Output(TABLE)), frame(7)[:12] + bytes.fromhex("8100000181000002") + frame(7)[12:], 1),
        EnteringPacket((Output(TABLE),), frame(5, source=2), 2),
    ]

    async def body(lab: AttachedLab) -> None:
        entrance = Entrance(lab.bridge, lambda: {1, 2}, lab.upstream.settle)
        assert [entrance.has(port) for port in (1, 2, 3)] == [True, True, False]
        await lab.filter("priority=10,in_port=1,filter_prog=1 actions=output:3")
        await lab.filter("priority=10,in_port=2,filter_prog=1 actions=NORMAL")
        # What Open vSwitch goes by later than it says so.
        for number in range(10):
            await lab.plain(f"priority={5 + number % 2} actions=output:{2 + number % 2}")
        refused = await entrance.enter(packets)
        assert [error is None for error in refused] == [True, True, True, False, False, True]
        found = [await lab.exchange(port=port) for port in (1, 2)]
        assert sorted(number for each in found for number in each.get(3, ())) == [1, 2, 3, 5]
        assert sorted(number for each in found for number in each.get(1, ())) == [5]
        assert not any(2 in each for each in found)

    ovs.add("priority=5,actions=output:2")
    with_attached(ovs, odd(tmp_path), body)
