"""Messages of OpenFlow 1.0: there and back, against ovs-ofctl, and malformed."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ofext.constants import NO_BUFFER, PacketInReason, PortReason
from ofext.messages import EchoRequest, Error, GetConfigReply, Hello
from ofext.multipart import Aggregate, Desc
from ofext.oxm import Oxm
from ofext.v10.actions import (
    DecTtl,
    Enqueue,
    Group,
    Output,
    RegLoad,
    ResubmitTable,
    SetDlSrc,
    SetNwSrc,
    SetNwTos,
    SetTpDst,
    SetVlanPcp,
    SetVlanVid,
    StripVlan,
    WriteMetadata,
)
from ofext.v10.constants import NICIRA, PORT_NONE, WILDCARDS_ALL, Wildcard
from ofext.v10.match import Match
from ofext.v10.messages import (
    FeaturesReply,
    FlowMod,
    FlowModTableId,
    FlowRemoved,
    Message,
    NxmFlowMod,
    NxmFlowRemoved,
    PacketIn,
    PacketOut,
    PortMod,
    PortStatus,
    Queue,
    QueueGetConfigReply,
    SetFlowFormat,
    VendorError,
    decode,
    encode,
)
from ofext.v10.stats import (
    FlowStats,
    FlowStatsReply,
    NxmAggregate,
    NxmFlowStats,
    NxmFlowStatsReply,
    NxmFlowStatsRequest,
    Port,
    PortDescReply,
    PortStats,
    PortStatsReply,
    StatsReply,
    StatsRequest,
    TableStats,
    TableStatsReply,
    split,
)
from oko.errors import LimitExceeded, ProtocolError
from tests.ofext.oracles import needs_ovs_ofctl
from tests.ofext.v10.strategies import BY_NAME, MESSAGES

TCP = Match(
    WILDCARDS_ALL & ~(Wildcard.IN_PORT | Wildcard.DL_TYPE | Wildcard.NW_PROTO | Wildcard.TP_DST),
    in_port=1,
    dl_type=0x800,
    nw_proto=6,
    tp_dst=80,
)
NXM_TCP = (
    Oxm(0, 0, b"\0\1"),
    Oxm(0, 3, b"\x08\x00"),
    Oxm(0, 6, b"\6"),
    Oxm(0, 10, b"\0\x50"),
)
ACTIONS = (SetVlanVid(5), SetVlanPcp(3), StripVlan(), SetDlSrc(b"\2\0\0\0\0\1"), SetNwSrc(0x0A000001), SetNwTos(16))
MORE = (SetTpDst(5), Enqueue(1, 2), Output(2), Output(0xFFFD, 128))
NICIRAS = (
    RegLoad(31, 0x00000E04, 3),
    DecTtl(),
    Group(7),
    ResubmitTable(0xFFF8, 3),
)


@pytest.mark.parametrize("strategy", BY_NAME.values(), ids=BY_NAME.keys())
def test_there_and_back(strategy: st.SearchStrategy[Any]) -> None:
    @given(strategy, st.integers(0, 0xFFFFFFFF))
    @settings(max_examples=25)
    def check(message: Any, xid: int) -> None:
        data = encode(message, xid)
        assert decode(data) == (message, xid)
        assert encode(*decode(data)) == data

    check()


@given(MESSAGES, st.data())
def test_any_other_bytes_are_read_or_refused(message: Any, data: st.DataObject) -> None:
    whole = bytearray(encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(4, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = whole[: data.draw(st.integers(8, len(whole)))]
    cut[2:4] = len(cut).to_bytes(2, "big")
    with suppress(ProtocolError):
        encode(*decode(bytes(cut)))


@given(st.integers(0, 25), st.binary(max_size=120))
def test_noise_is_read_or_refused(kind: int, noise: bytes) -> None:
    data = bytes([1, kind]) + (8 + len(noise)).to_bytes(2, "big") + bytes(4) + noise
    with suppress(ProtocolError):
        encode(*decode(data))


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        pytest.param("010e0008 00000000", (1, 6), id="a flow_mod without anything"),
        pytest.param("040e0008 00000000", (1, 0), id="version 1.3"),
        pytest.param("01040010 00000000 00002320 00000063", (1, 4), id="unknown message of Nicira"),
        pytest.param("0104000c 00000000 00002320", (1, 6), id="a vendor without a subtype"),
        pytest.param("0101000a 00000000 b0c2", (1, 6), id="an error without a code"),
        pytest.param("01010010 00000000 b0c20000 00002320", (1, 6), id="a vendor's error without its code"),
        pytest.param(
            "010d0018 00000000 ffffffff ffff0008 ffff0008 00002320", (2, 1), id="a vendor's action of 8 bytes"
        ),
        pytest.param("010d0018 00000000 ffffffff ffff0008 00000004 00000000", (2, 1), id="an action of 4 bytes"),
    ],
)
def test_what_is_malformed(data: str, fault: tuple[int, int]) -> None:
    with pytest.raises(ProtocolError) as refused:
        decode(bytes.fromhex(data))
    assert (refused.value.error_type, refused.value.error_code) == fault


def test_match_longer_than_its_message() -> None:
    whole = bytearray(encode(NxmFlowMod(1, 0, match=NXM_TCP)))
    whole[40:42] = b"\x01\x00"
    with pytest.raises(ProtocolError, match="the match has length 256, 24 bytes left"):
        decode(bytes(whole))


def test_answers_of_many_flows_are_divided() -> None:
    flow = NxmFlowStats(0, 1, 2, 3, 4, 5, 0, 0, 6, 7, 8, NXM_TCP, (Output(1),))
    parts = list(split(NxmFlowStatsReply((flow,) * 2000)))
    assert [part.flags for part in parts] == [1, 1, 0]
    assert sum(len(part.body.entries) for part in parts if isinstance(part.body, NxmFlowStatsReply)) == 2000
    for part in parts:
        assert decode(encode(part))[0] == part
    with pytest.raises(LimitExceeded):
        encode(StatsReply(NxmFlowStatsReply((flow,) * 2000)))


PORT = Port(1, b"\2\0\0\0\0\1", "p1", 1, 1, 0x20, 0x20, 0x20, 0)
PRINTED: dict[str, tuple[Message, str]] = {
    "hello": (Hello((), 1), "OFPT_HELLO (xid=0x5):"),
    "echo": (EchoRequest(b"abc"), "OFPT_ECHO_REQUEST (xid=0x5): 3 bytes of payload"),
    "error": (Error(3, 1, encode(EchoRequest())), "OFPT_ERROR (xid=0x5): OFPFMFC_OVERLAP"),
    "error of Nicira": (VendorError(NICIRA, 1, 260, encode(EchoRequest())), "OFPT_ERROR (xid=0x5): OFPBMC_BAD_PREREQ"),
    "features": (FeaturesReply(1, 0, 254, 1, 1, (PORT,)), " 1(p1): addr:02:00:00:00:00:01"),
    "config": (GetConfigReply(0, 128), "frags=normal miss_send_len=128"),
    "packet_in": (
        PacketIn(NO_BUFFER, 60, 1, PacketInReason.ACTION, bytes(60)),
        "OFPT_PACKET_IN (xid=0x5): total_len=60 in_port=1 (via action) data_len=60 (unbuffered)",
    ),
    "packet_out": (PacketOut(NO_BUFFER, 1, (Output(2),), bytes(14)), "in_port=1 actions=output:2 data_len=14"),
    "flow_removed": (
        FlowRemoved(TCP, 5, 7, 0, 1, 500_000_000, 9, 3, 4),
        "priority=7,tcp,in_port=1,tp_dst=80 reason=idle cookie:0x5 duration1.500s idle9 pkts3 bytes4",
    ),
    "flow_removed of Nicira": (
        NxmFlowRemoved(5, 7, 2, 3, 1, 500_000_000, 9, 3, 4, NXM_TCP),
        "priority=7,tcp,in_port=1,tp_dst=80 reason=delete table_id=2 cookie:0x5 duration1.500s idle9 pkts3 bytes4",
    ),
    "port_status": (PortStatus(PortReason.ADD, PORT), "ADD:"),
    "port_mod": (PortMod(1, b"\2\0\0\0\0\1", 1, 1), "port: 1: addr:02:00:00:00:00:01"),
    "flow_mod": (
        FlowMod(TCP, 5, 0, 1, 2, 3, actions=ACTIONS + MORE),
        "ADD priority=3,tcp,in_port=1,tp_dst=80 cookie:0x5 idle:1 hard:2 actions=mod_vlan_vid:5,mod_vlan_pcp:3,"
        "strip_vlan,mod_dl_src:02:00:00:00:00:01,mod_nw_src:10.0.0.1,mod_nw_tos:16,mod_tp_dst:5,enqueue:1:2,output:2,"
        "CONTROLLER:128",
    ),
    "flow_mod of Nicira": (
        NxmFlowMod(5, 3, match=NXM_TCP, actions=NICIRAS),
        "DEL tcp,in_port=1,tp_dst=80 cookie:0x5 actions=load:0x3->NXM_OF_IP_SRC[],dec_ttl,group:7,resubmit(,3)",
    ),
    "metadata": (NxmFlowMod(5, 0, actions=(WriteMetadata(5, 7),)), "ADD cookie:0x5 actions=write_metadata:0x5/0x7"),
    "flow format": (SetFlowFormat(2), "NXT_SET_FLOW_FORMAT (xid=0x5): format=nxm"),
    "table ids": (FlowModTableId(1), "NXT_FLOW_MOD_TABLE_ID (xid=0x5): enable"),
    "queues": (QueueGetConfigReply(1, (Queue(3),)), "queue 3:"),
    "desc": (StatsReply(Desc("Oko")), "Manufacturer: Oko"),
    "flows": (
        StatsReply(FlowStatsReply((FlowStats(1, TCP, 1, 500_000_000, 3, 4, 5, 6, 7, 8, (Output(2),)),))),
        "cookie=0x6, duration=1.500s, table=1, n_packets=7, n_bytes=8, idle_timeout=4, hard_timeout=5, "
        "priority=3,tcp,in_port=1,tp_dst=80 actions=output:2",
    ),
    "flows of Nicira": (
        StatsReply(
            NxmFlowStatsReply((NxmFlowStats(1, 1, 500_000_000, 3, 4, 5, 2, 0, 6, 7, 8, NXM_TCP, (Output(2),)),) * 2)
        ),
        "cookie=0x6, duration=1.500s, table=1, n_packets=7, n_bytes=8, idle_timeout=4, hard_timeout=5, idle_age=1, "
        "priority=3,tcp,in_port=1,tp_dst=80 actions=output:2",
    ),
    "flows request": (
        StatsRequest(NxmFlowStatsRequest(PORT_NONE, 3, NXM_TCP)),
        "NXST_FLOW request (xid=0x5): table=3 tcp,in_port=1,tp_dst=80",
    ),
    "aggregate": (StatsReply(Aggregate(1, 2, 3)), "packet_count=1 byte_count=2 flow_count=3"),
    "aggregate of Nicira": (StatsReply(NxmAggregate(1, 2, 3)), "packet_count=1 byte_count=2 flow_count=3"),
    "tables": (
        StatsReply(TableStatsReply((TableStats(0, "first", WILDCARDS_ALL, 9, 1, 2, 3),))),
        'table 0 ("first"):\n    active=1, lookup=2, matched=3\n    max_entries=9',
    ),
    "ports": (StatsReply(PortStatsReply((PortStats(1, 2, 3),))), "port  1: rx pkts=2"),
    "port descriptions": (StatsReply(PortDescReply((PORT,))), " 1(p1): addr:02:00:00:00:00:01"),
}


@needs_ovs_ofctl
@pytest.mark.parametrize(("message", "text"), PRINTED.values(), ids=PRINTED.keys())
def test_ovs_ofctl_prints_it(message: Message, text: str) -> None:
    done = subprocess.run(
        ["ovs-ofctl", "-m", "ofp-print", "-"],
        input=encode(message, 5).hex() + "\n",
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert "***" not in done.stdout, done.stdout
    assert text in done.stdout
