"""How many tags Open vSwitch reads, and what it sees behind them."""

from __future__ import annotations

import pytest

from oko.flow.headers import parse
from tests.oko.attached.conftest import BRIDGE, Laboratory
from tests.ovs import needs_ovs

ADDRESSES = bytes.fromhex("020000000002 020000000001")
BEHIND = bytes.fromhex("0800 4500002800000000400600000a0000010a000002 04d2005000000000000000005002000000000000")


@needs_ovs
@pytest.mark.parametrize(("setting", "limit"), [("1", 1), ("0", 2), ("2", 2), ("3", 2)])
@pytest.mark.parametrize(
    "tags",
    [
        pytest.param("81000005", id="one tag"),
        pytest.param("88a80005 81000006", id="two"),
        pytest.param("81000005 88a80006", id="two, the other way round"),
        pytest.param("81000001 81000002 81000003", id="three"),
    ],
)
def test_reads_as_oko(ovs: Laboratory, setting: str, limit: int, tags: str) -> None:
    """The rule that says what Oko reads matches."""
    frame = ADDRESSES + bytes.fromhex(tags) + BEHIND
    read = parse(frame, 1, vlan_limit=limit)
    assert read is not None
    ovs.vswitch.vsctl("set", "Open_vSwitch", ".", f"other_config:vlan-limit={setting}")
    seen = f"dl_vlan={read['vlan_vid'] & 0xFFF},dl_type={read['eth_type']:#06x}"
    seen += f",nw_proto={read['ip_proto']}" if read["eth_type"] == 0x0800 else ""
    ovs.add(f"priority=9,{seen},actions=drop")
    traced = ovs.vswitch.appctl("ofproto/trace", BRIDGE, "in_port=1", frame.hex())
    ovs.vswitch.vsctl("remove", "Open_vSwitch", ".", "other_config", "vlan-limit")
    assert "priority 9" in traced
