from __future__ import annotations

import pytest

from ofext import instructions as wire
from ofext.constants import NO_BUFFER
from ofext.messages import FlowRemoved, PacketIn, PacketOut
from ofext.oxm import Oxm
from oko.compiler.packet_in import PacketInRecord
from oko.errors import ProtocolError
from oko.flow.action import Output
from oko.flow.packet_in import PacketInReason
from oko.flow.rule import Entry
from oko.flow.text import parse_rule
from oko.openflow.packets import read_packet_out, write_packet_in, write_removed
from oko.switch.bridge import Removed
from oko.switch.datapath import Count
from oko.switch.timeouts import RemovalReason
from oko.wire.match import write_match

FRAME = bytes(60)


@pytest.mark.parametrize(
    ("metadata", "context"),
    [(0, ()), (5, (Oxm(0x8000, 2, bytes(7) + b"\5"),))],
    ids=["no metadata", "metadata"],
)
def test_packet_in(metadata: int, context: tuple[Oxm, ...]) -> None:
    record = PacketInRecord(7, PacketInReason.INVALID_TTL, 3, 2, metadata, FRAME)
    match = (Oxm(0x8000, 0, b"\0\0\0\2"), *context)
    assert write_packet_in(record, 9) == PacketIn(NO_BUFFER, 60, 2, 3, 9, match, FRAME)


def test_flow_removed() -> None:
    rule = parse_rule("table=4,cookie=0x5,priority=6,idle_timeout=7,hard_timeout=8,tcp,actions=drop")
    removed = Removed(Entry(rule, 0, 0), RemovalReason.HARD_TIMEOUT, Count(10, 600), 8_000_000_009)
    assert write_removed(removed) == FlowRemoved(5, 6, 1, 4, 8, 9, 7, 8, 10, 600, write_match(rule.match))


def test_packet_out() -> None:
    assert read_packet_out(PacketOut(NO_BUFFER, 1, (wire.Output(2),), FRAME)) == ((Output(2),), FRAME)


@pytest.mark.parametrize(
    ("message", "complaint"),
    [
        (PacketOut(1, 1), "buffer 0x1"),
        (PacketOut(NO_BUFFER, 1, (wire.Output(2),), bytes(13)), "13 bytes is no Ethernet frame"),
    ],
    ids=["buffer", "runt"],
)
def test_packet_outs_that_are_none(message: PacketOut, complaint: str) -> None:
    with pytest.raises(ProtocolError, match=complaint):
        read_packet_out(message)
