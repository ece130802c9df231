"""Tables of packets: what stands in one, and what is wrong with one."""

from __future__ import annotations

import pytest

from oko.author.packets import PacketTest, parse_packets
from oko.errors import BadPacketTable
from oko.replay.engine import LONGEST, SHORTEST

FRAME = "020000000002 020000000001 ffff"
GOOD = f'name = "x"\nhex = "{FRAME}"\nverdict = "match"\n'


def packets(*bodies: str) -> list[PacketTest]:
    return parse_packets("".join(f"[[packet]]\n{body}\n" for body in bodies), "table.toml")


def test_all_that_may_stand_in_one() -> None:
    first, second, third = packets(
        GOOD,
        f'name = "second"\nhex = "{FRAME}"\nin_port = 7\ntime = 1.000000001\nverdict = "no match"\n'
        'update.config.0 = { port = 1 }\nmaps.seen."10.0.0.1" = 5\nmaps.none = {}',
        'name = "third"\nfields = "udp"\npayload = "0102"\nverdict = "match"',
    )
    frame = bytes.fromhex(FRAME)
    assert first == PacketTest("x", frame, 1, 1_000_000_000, True)
    assert second == PacketTest(
        "second", frame, 7, 1_000_000_001, False, {"config": {"0": {"port": 1}}}, {"seen": {"10.0.0.1": 5}, "none": {}}
    )
    assert third.time == second.time
    assert third.frame.endswith(b"\1\2")


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        pytest.param("x = 1", "'x' is nothing known: there are name, fields", id="key"),
        pytest.param('name = 1\nhex = ""\nverdict = "match"', "name cannot be 1", id="type"),
        pytest.param(GOOD + "in_port = true", "in_port cannot be True", id="bool"),
        pytest.param(GOOD + "in_port = 0", "in_port cannot be 0: ports are 1 to", id="port"),
        pytest.param('hex = ""\nverdict = "match"', "name is missing", id="name"),
        pytest.param('name = "x"\nhex = ""', r"packet 1 \(x\): verdict is missing", id="verdict"),
        pytest.param(GOOD.replace("match", "yes"), "verdict cannot be 'yes': it is one of match, no match", id="word"),
        pytest.param('name = "x"\nverdict = "match"', "with fields or with hex", id="no packet"),
        pytest.param(GOOD + 'fields = "ip"', "with fields or with hex", id="two packets"),
        pytest.param(GOOD + 'payload = "00"', "hex is the whole frame", id="payload"),
        pytest.param(GOOD.replace("ffff", "fffg"), "hex is not hexadecimal", id="hex"),
        pytest.param(GOOD.replace("ffff", "ff"), f"13 bytes reaches no program: it has {SHORTEST}", id="runt"),
        pytest.param(GOOD.replace("ffff", "ff" * LONGEST), f"to {LONGEST}", id="too long"),
        pytest.param('name = "x"\nfields = "tpc"\nverdict = "match"', "tpc", id="field"),
        pytest.param('name = "x"\nfields = "ip,nw_src=10.0.0.0/8"\nverdict = "match"', "one value there", id="mask"),
        pytest.param(GOOD + "time = 0.5", "time goes back to 0.5 s", id="time"),
        pytest.param(GOOD + "time = -1", "time cannot be -1", id="negative"),
        pytest.param(GOOD + "time = nan", "time cannot be NaN", id="not a number"),
        pytest.param(GOOD + "time = 1e99999999", "time cannot be", id="huge"),
        pytest.param(GOOD + "time = 1.0000000001", "whole ns", id="too fine"),
        pytest.param(GOOD + "maps.seen = 1", "maps.seen: write maps.seen.KEY = VALUE", id="map"),
    ],
)
def test_packets_that_cannot_be(body: str, complaint: str) -> None:
    with pytest.raises(BadPacketTable, match=complaint):
        packets(body)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "table.toml: no packets: begin each with"),
        ("packet = 1", "table.toml: no packets"),
        ("packets = []", "table.toml: 'packets' is nothing known"),
        ("[[packet]\n", "table.toml: Expected"),
    ],
)
def test_tables_that_cannot_be(text: str, complaint: str) -> None:
    with pytest.raises(BadPacketTable, match=complaint):
        parse_packets(text, "table.toml")


def test_the_second_of_two_is_named() -> None:
    with pytest.raises(BadPacketTable, match=r"table\.toml, packet 2 \(x\): verdict"):
        packets(GOOD, GOOD.replace("match", "maybe"))
