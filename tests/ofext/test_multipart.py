"""Answers divided into parts and joined; every body against os-ken and ovs-ofctl."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from os_ken.ofproto import ofproto_v1_3_parser as osken

from ofext import multipart
from ofext.bands import DropBand, DscpRemarkBand
from ofext.buckets import Bucket
from ofext.constants import GROUP_ANY, MULTIPART_MORE, GroupType, MeterFlag
from ofext.extension import MapDumpReply, MapEntry, ProgramListReply
from ofext.instructions import Output
from ofext.messages import decode, encode
from ofext.multipart import (
    PART_LIMIT,
    BucketCounter,
    Desc,
    ExperimenterBody,
    FlowStats,
    FlowStatsReply,
    GroupDesc,
    GroupDescReply,
    GroupDescRequest,
    GroupFeatures,
    GroupFeaturesRequest,
    GroupStats,
    GroupStatsReply,
    GroupStatsRequest,
    MeterBandStats,
    MeterConfig,
    MeterConfigReply,
    MeterConfigRequest,
    MeterFeatures,
    MeterFeaturesRequest,
    MeterStats,
    MeterStatsReply,
    MeterStatsRequest,
    MultipartReply,
    MultipartRequest,
    PortStats,
    PortStatsReply,
    PortStatsRequest,
    QueueStats,
    QueueStatsReply,
    QueueStatsRequest,
    ReplyBody,
    RequestBody,
    TableFeaturesRequest,
    TableStats,
    TableStatsReply,
    join,
    split,
)
from oko.errors import LimitExceeded, ProtocolError

from .oracles import OSKEN, needs_ovs_ofctl, osken_built, osken_read, printed

MULTIPART_HEADERS = 16


@given(st.lists(st.binary(max_size=60), max_size=30), st.integers(90, 300))
def test_split_and_join(values: list[bytes], limit: int) -> None:
    body = MapDumpReply(3, "flows", b"next", tuple(MapEntry(b"key", value) for value in values))
    parts = list(split(body, limit))
    assert join(parts) == body
    assert [part.flags for part in parts] == [MULTIPART_MORE] * (len(parts) - 1) + [0]
    assert all(len(encode(part)) <= limit + MULTIPART_HEADERS for part in parts)
    assert all(isinstance(part.body, MapDumpReply) and part.body.entries for part in parts[:-1])


def test_parts_are_filled() -> None:
    flow = FlowStats(*range(10))
    parts = list(split(FlowStatsReply((flow,) * 3000)))
    assert len(parts) == -(-3000 // (PART_LIMIT // 56))


def test_entries_are_taken_as_parts_are() -> None:
    taken = []

    def flows() -> Iterator[FlowStats]:
        for number in range(3000):
            taken.append(number)
            yield FlowStats(*range(9), number)

    parts = split(FlowStatsReply(), entries=flows())
    first = next(parts)
    assert len(taken) == len(cast(FlowStatsReply, first.body).entries) + 1 < 1200
    assert join([first, *parts]) == FlowStatsReply(tuple(FlowStats(*range(9), number) for number in range(3000)))
    assert list(split(FlowStatsReply(), entries=iter(()))) == [MultipartReply(FlowStatsReply())]


@pytest.mark.parametrize(
    "body", [Desc("Oko"), ProgramListReply(), FlowStatsReply()], ids=lambda body: type(body).__name__
)
def test_one_part(body: Desc | ProgramListReply | FlowStatsReply) -> None:
    assert list(split(body)) == [MultipartReply(body)]
    assert join([MultipartReply(body)]) == body


def test_an_entry_that_fits_nowhere_is_refused() -> None:
    with pytest.raises(LimitExceeded, match="one entry of a MapDumpReply"):
        list(split(MapDumpReply(1, "m", b"", (MapEntry(b"k", bytes(PART_LIMIT)),))))


FOREIGN_PARTS = {
    "two kinds": [MultipartReply(FlowStatsReply(), 1), MultipartReply(TableStatsReply((TableStats(0, 0, 0, 0),)))],
    "undivided kind": [MultipartReply(Desc(), 1), MultipartReply(Desc())],
}


@pytest.mark.parametrize("parts", FOREIGN_PARTS.values(), ids=FOREIGN_PARTS.keys())
def test_parts_that_do_not_belong_together(parts: list[MultipartReply]) -> None:
    with pytest.raises(ProtocolError, match="do not belong together"):
        join(parts)


REQUESTS: dict[str, tuple[Any, RequestBody]] = {
    "port": (osken.OFPPortStatsRequest(OSKEN, 0, 3), PortStatsRequest(3)),
    "queue": (osken.OFPQueueStatsRequest(OSKEN, 0, 3, 4), QueueStatsRequest(3, 4)),
    "group": (osken.OFPGroupStatsRequest(OSKEN, 0, 3), GroupStatsRequest(3)),
    "group desc": (osken.OFPGroupDescStatsRequest(OSKEN, 0), GroupDescRequest()),
    "group features": (osken.OFPGroupFeaturesStatsRequest(OSKEN, 0), GroupFeaturesRequest()),
    "meter": (osken.OFPMeterStatsRequest(OSKEN, 0, 3), MeterStatsRequest(3)),
    "meter config": (osken.OFPMeterConfigStatsRequest(OSKEN, 0, 3), MeterConfigRequest(3)),
    "meter features": (osken.OFPMeterFeaturesStatsRequest(OSKEN, 0), MeterFeaturesRequest()),
    "table features": (osken.OFPTableFeaturesStatsRequest(OSKEN, 0, []), TableFeaturesRequest()),
    "experimenter": (
        osken.OFPExperimenterStatsRequest(OSKEN, 0, 0x2320, 9, b"abc"),
        ExperimenterBody(0x2320, 9, b"abc"),
    ),
}


@pytest.mark.parametrize(("theirs", "ours"), REQUESTS.values(), ids=REQUESTS.keys())
def test_os_ken_builds_the_same_request(theirs: Any, ours: RequestBody) -> None:
    data = osken_built(theirs)
    assert encode(MultipartRequest(ours), 5) == data
    assert decode(data) == (MultipartRequest(ours), 5)


PORT_STATS = PortStats(*range(1, 16))
QUEUE_STATS = QueueStats(*range(1, 8))
GROUP_STATS = GroupStats(1, 2, 3, 4, 5, 6, (BucketCounter(7, 8), BucketCounter(9, 10)))
GROUP_DESC = GroupDesc(GroupType.FAST_FAILOVER, 9, (Bucket(0, 6, 7, (Output(2),)), Bucket(0, 3)))
GROUP_FEATURES = GroupFeatures(0xF, 5, (1, 2, 3, 4), (0x1801, 6, 7, 8))
METER_STATS = MeterStats(1, 2, 3, 4, 5, 6, (MeterBandStats(7, 8), MeterBandStats(9, 10)))
METER_CONFIG = MeterConfig(MeterFlag.PKTPS | MeterFlag.BURST, 9, (DropBand(1000, 100), DscpRemarkBand(500, 50, 1)))
METER_FEATURES = MeterFeatures(100, 6, 15, 4, 8)

FLAT: dict[str, tuple[ReplyBody, str]] = {
    "port": (
        PortStatsReply((PortStats(0), PORT_STATS)),
        "port_no rx_packets tx_packets rx_bytes tx_bytes rx_dropped tx_dropped rx_errors tx_errors rx_frame_err "
        "rx_over_err rx_crc_err collisions duration_sec duration_nsec",
    ),
    "queue": (
        QueueStatsReply((QueueStats(0, 0), QUEUE_STATS)),
        "port_no queue_id tx_bytes tx_packets tx_errors duration_sec duration_nsec",
    ),
    "group": (
        GroupStatsReply((GroupStats(*[0] * 6), GROUP_STATS)),
        "group_id ref_count packet_count byte_count duration_sec duration_nsec",
    ),
    "meter": (
        MeterStatsReply((MeterStats(*[0] * 6), METER_STATS)),
        "meter_id flow_count packet_in_count byte_in_count duration_sec duration_nsec",
    ),
}


@pytest.mark.parametrize(("reply", "names"), FLAT.values(), ids=FLAT.keys())
def test_os_ken_reads_counters(reply: ReplyBody, names: str) -> None:
    entry = osken_read(encode(MultipartReply(reply))).body[1]
    assert [getattr(entry, name) for name in names.split()] == list(range(1, 1 + len(names.split())))


def test_os_ken_reads_counters_of_buckets_and_bands() -> None:
    group = osken_read(encode(MultipartReply(GroupStatsReply((GROUP_STATS,))))).body[0]
    assert [(part.packet_count, part.byte_count) for part in group.bucket_stats] == [(7, 8), (9, 10)]
    meter = osken_read(encode(MultipartReply(MeterStatsReply((METER_STATS,))))).body[0]
    assert [(part.packet_band_count, part.byte_band_count) for part in meter.band_stats] == [(7, 8), (9, 10)]


def test_os_ken_reads_groups() -> None:
    group = osken_read(encode(MultipartReply(GroupDescReply((GROUP_DESC,))))).body[0]
    assert (group.type, group.group_id) == (3, 9)
    first, second = group.buckets
    assert (first.weight, first.watch_port, first.watch_group, first.actions[0].port) == (0, 6, 7, 2)
    assert (second.watch_port, second.watch_group, second.actions) == (3, GROUP_ANY, [])
    features = osken_read(encode(MultipartReply(GROUP_FEATURES))).body
    assert (features.types, features.capabilities) == (15, 5)
    assert (features.max_groups, features.actions) == ([1, 2, 3, 4], [0x1801, 6, 7, 8])


def test_os_ken_reads_meters() -> None:
    meter = osken_read(encode(MultipartReply(MeterConfigReply((METER_CONFIG,))))).body[0]
    assert (meter.flags, meter.meter_id) == (6, 9)
    drop, remark = meter.bands
    assert (drop.rate, drop.burst_size) == (1000, 100)
    assert (remark.rate, remark.burst_size, remark.prec_level) == (500, 50, 1)
    features = osken_read(encode(MultipartReply(METER_FEATURES))).body[0]
    assert (features.max_meter, features.band_types, features.capabilities) == (100, 6, 15)
    assert (features.max_bands, features.max_color) == (4, 8)


PRINTED: dict[str, tuple[RequestBody | ReplyBody, tuple[str, ...]]] = {
    "port request": (PortStatsRequest(3), ("OFPST_PORT request", "port_no=3")),
    "port": (
        PortStatsReply((PORT_STATS,)),
        (
            "rx pkts=2, bytes=4, drop=6, errs=8, frame=10, over=11, crc=12",
            "tx pkts=3, bytes=5",
            "duration=14.000000015s",
        ),
    ),
    "queue request": (QueueStatsRequest(3, 4), ("port=3 queue=4",)),
    "queue": (QueueStatsReply((QUEUE_STATS,)), ("port 1 queue 2: bytes=3, pkts=4, errors=5, duration=6.000000007s",)),
    "group request": (GroupStatsRequest(3), ("group_id=3",)),
    "group": (
        GroupStatsReply((GROUP_STATS,)),
        (
            "group_id=1,duration=5.000000006s,ref_count=2,packet_count=3,byte_count=4,"
            "bucket0:packet_count=7,byte_count=8,bucket1:packet_count=9,byte_count=10",
        ),
    ),
    "group desc request": (GroupDescRequest(), ("OFPST_GROUP_DESC request",)),
    "group desc": (
        GroupDescReply((GROUP_DESC,)),
        (
            "group_id=9,type=ff,bucket=",
            "watch_port:6,watch_group:7,actions=output:2,bucket=",
            "watch_port:3,actions=drop",
        ),
    ),
    "group features request": (GroupFeaturesRequest(), ("OFPST_GROUP_FEATURES request",)),
    "group features": (
        GROUP_FEATURES,
        (
            "Types:  0xf",
            "Capabilities:  0x5",
            "all group:",
            "max_groups=0x1",
            "actions: output",
        ),
    ),
    "meter request": (MeterStatsRequest(3), ("meter=3",)),
    "meter": (
        MeterStatsReply((METER_STATS,)),
        (
            "meter:1 flow_count:2 packet_in_count:3 byte_in_count:4 duration:5.000000006s",
            "0: packet_count:7 byte_count:8",
            "1: packet_count:9 byte_count:10",
        ),
    ),
    "meter config request": (MeterConfigRequest(), ("meter=all",)),
    "meter config": (
        MeterConfigReply((METER_CONFIG,)),
        ("meter=9 pktps burst bands=", "type=drop rate=1000 burst_size=100", "rate=500 burst_size=50 prec_level=1"),
    ),
    "meter features request": (MeterFeaturesRequest(), ("OFPST_METER_FEATURES request",)),
    "meter features": (
        METER_FEATURES,
        ("max_meter:100 max_bands:4 max_color:8", "band_types: drop dscp_remark", "kbps pktps burst stats"),
    ),
}


@needs_ovs_ofctl
@pytest.mark.parametrize(("body", "expected"), PRINTED.values(), ids=PRINTED.keys())
def test_ovs_ofctl_prints(body: Any, expected: tuple[str, ...]) -> None:
    is_request = type(body) in multipart.REQUESTS.numbers
    text = printed(MultipartRequest(body) if is_request else MultipartReply(body))
    assert all(part in text for part in expected), text
