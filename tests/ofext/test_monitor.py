"""Flow monitors: what ovs-ofctl reads of ours, what Open vSwitch's bytes say, and what is malformed."""

from __future__ import annotations

import pytest

from ofext.bundles import ONF
from ofext.instructions import ApplyActions, GotoTable, Output
from ofext.messages import Message, decode, encode
from ofext.monitor import (
    DeletedReason,
    FlowMonitor,
    FlowMonitorCancel,
    FlowMonitorPaused,
    FlowMonitorRequest,
    FlowMonitorResumed,
    FlowUpdate,
    FlowUpdates,
    MonitorFlag,
    OwnUpdate,
    UpdateEvent,
)
from ofext.multipart import MultipartReply, MultipartRequest
from ofext.oxm import Oxm
from oko.errors import ProtocolError

from .oracles import needs_ovs_ofctl, printed

UDP = (Oxm(0x8000, 5, b"\x08\x00"), Oxm(0x8000, 10, b"\x11"))
EVERYTHING = MonitorFlag.INITIAL | MonitorFlag.ADD | MonitorFlag.DELETE | MonitorFlag.MODIFY

PRINTED: dict[str, tuple[Message, tuple[str, ...]]] = {
    "a monitor of one table": (
        MultipartRequest(FlowMonitorRequest((FlowMonitor(7, EVERYTHING, table_id=3, match=UDP),))),
        ("id=7 flags=initial,add,delete,modify table=3 udp",),
    ),
    "a monitor of what outputs to a port": (
        MultipartRequest(
            FlowMonitorRequest((FlowMonitor(7, MonitorFlag.ADD | MonitorFlag.INSTRUCTIONS | MonitorFlag.OWN, 5),))
        ),
        ("id=7 flags=add,actions,own out_port=5",),
    ),
    "two monitors": (
        MultipartRequest(
            FlowMonitorRequest((FlowMonitor(1, MonitorFlag.ADD, match=UDP), FlowMonitor(2, MonitorFlag.DELETE)))
        ),
        ("id=1 flags=add udp", "id=2 flags=delete"),
    ),
    "updates": (
        MultipartReply(
            FlowUpdates(
                (
                    FlowUpdate(UpdateEvent.ADDED, 0, 9, 5, 6, 3, 0xC, UDP, (ApplyActions((Output(2),)), GotoTable(4))),
                    FlowUpdate(UpdateEvent.DELETED, DeletedReason.IDLE_TIMEOUT, 9, 5, 6, 3, 0xC, UDP),
                    FlowUpdate(UpdateEvent.MODIFIED, 0, 9, 0, 0, 3, 0xC),
                    OwnUpdate(0x1234),
                )
            )
        ),
        (
            "event=ADDED table=3 idle_timeout=5 hard_timeout=6 cookie=0xc udp actions=output:2,goto_table:4",
            "event=DELETED reason=idle table=3 idle_timeout=5 hard_timeout=6 cookie=0xc udp",
            "event=MODIFIED table=3 cookie=0xc",
            "event=ABBREV xid=0x1234",
        ),
    ),
    "cancel": (FlowMonitorCancel(7), ("id=7",)),
    "paused": (FlowMonitorPaused(), ("FLOW_MONITOR_PAUSED",)),
    "resumed": (FlowMonitorResumed(), ("FLOW_MONITOR_RESUMED",)),
}


@needs_ovs_ofctl
@pytest.mark.parametrize(("message", "expected"), PRINTED.values(), ids=PRINTED.keys())
def test_ovs_ofctl_prints(message: Message, expected: tuple[str, ...]) -> None:
    text = printed(message)
    assert all(part in text for part in expected), text


def test_what_open_vswitch_sends() -> None:
    """OVS 3.1, of a flow with reg3, nw_ttl and a masked port; the match takes 48 bytes, the instructions 48 more."""
    data = bytes.fromhex(
        "0413009000000066 ffff000000000000 4f4e46000000074e"
        "0078000000000007 0000000000300000 0000000000000000"
        "0001003080000a02 080000013a010380 0014010680001b04 001000f000010604 0000000580000408 0000000000000003"
        "0004001800000000 0000001000000002 0000000000000000"
        "0002001800000000 0000000000000005 ffffffffffffffff"
    )
    message, xid = decode(data)
    assert isinstance(message, MultipartReply)
    assert isinstance(message.body, FlowUpdates)
    (update,) = message.body.entries
    assert isinstance(update, FlowUpdate)
    assert (update.event, update.priority, update.table_id, update.cookie) == (UpdateEvent.ADDED, 7, 0, 0)
    assert update.match[-2:] == (Oxm(1, 3, b"\0\0\0\5"), Oxm(0x8000, 2, b"\0\0\0\0\0\0\0\3"))
    assert len(update.instructions) == 2
    assert encode(message, xid)[:24] == data[:24]
    assert decode(encode(message, xid)) == (message, xid)


def test_a_length_of_the_match_that_is_padded() -> None:
    """Beside the match, too, its length does not count the padding."""
    data = encode(MultipartRequest(FlowMonitorRequest((FlowMonitor(7, 0, match=UDP),))))
    assert data[24:] == bytes.fromhex("00000007 0000 000f ffffffff ff000000 0001000f 80000a020800 8000140111 00")


def updates(body: str) -> bytes:
    content = bytes.fromhex("ffff0000 00000000") + ONF.to_bytes(4, "big") + bytes.fromhex("0000074e" + body)
    return bytes([4, 19]) + (8 + len(content)).to_bytes(2, "big") + bytes(4) + content


MALFORMED = {
    "an update of length 3": updates("0003 0003"),
    "an update without an event": updates("0003 00"),
    "an update beyond the end": updates("0009 0003 00000001"),
    "an unknown event": updates("0008 0004 00000001"),
    "an own update that is cut": updates("0006 0003 0000"),
    "an own update that is longer": updates("000a 0003 00000001 0000"),
    "a flow cut before its match": updates("0018 0000 0000 0007 0000 0000 0008 0000 0000000000000000"),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)


def test_a_flow_has_no_event_of_its_own_connection() -> None:
    with pytest.raises(ProtocolError, match="no event 3"):
        encode(MultipartReply(FlowUpdates((FlowUpdate(UpdateEvent.OWN, 0, 0, 0, 0, 0, 0),))))
