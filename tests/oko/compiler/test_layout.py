from __future__ import annotations

import pytest

from oko.compiler.layout import WORD, KeyLayout, Lowered, PacketLayout
from oko.errors import NotReadable
from oko.flow.text import parse_rule
from tests.oko.compiler.objects import filter_program, runtime
from tests.oko.compiler.test_plan import LAYOUT, MEMBERS


@pytest.mark.parametrize(
    ("match", "value", "mask"),
    [
        pytest.param("", "", "", id="everything"),
        pytest.param("in_port=258", "00000102", "ffffffff", id="in_port"),
        pytest.param("filter_prog=7", "", "", id="a program is no header"),
        pytest.param("ip", "00000000 0800", "00000000 ffff", id="eth_type"),
        pytest.param("ip,ip_dscp=1", "00000000 080000 04", "00000000 ffff00 fc", id="ip_dscp stands above ip_ecn"),
        pytest.param("ip,nw_ecn=3", "00000000 080000 03", "00000000 ffff00 03", id="ip_ecn"),
        pytest.param("ip,nw_src=10.1.0.0/16", "00000000 08000000 0a010000", "00000000 ffff0000 ffff0000", id="prefix"),
        pytest.param(
            "udp,tp_dst=0x50/0xfff0",
            "00000000 08001100 00000000 00000000 0000 0050",
            "00000000 ffffff00 00000000 00000000 0000 fff0",
            id="tp_dst",
        ),
        pytest.param("dl_dst=01:00:00:00:00:00/01:00:00:00:00:00", "00" * 26 + "01", "00" * 26 + "01", id="eth_dst"),
    ],
)
def test_lower(match: str, value: str, mask: str) -> None:
    rule = parse_rule(f"{match},actions=drop" if match else "actions=drop")
    wanted = [int.from_bytes(bytes.fromhex(text).ljust(LAYOUT.size, b"\0"), "big") for text in (value, mask)]
    assert LAYOUT.lower(rule.match) == Lowered(*wanted)


def test_words_are_the_bytes_in_memory() -> None:
    number = int.from_bytes(bytes(range(LAYOUT.size)), "big")
    assert b"".join(LAYOUT.words(number)) == bytes(range(LAYOUT.size))


def test_the_layout_comes_from_the_parser() -> None:
    layout = runtime().layout
    assert layout.key.members["ipv4_src"] == (8, 4)
    assert layout.key.size % WORD == 0
    last = max(offset + size for offset, size in layout.key.members.values())
    assert layout.key.size - WORD < last <= layout.key.size
    assert layout.offsets["key"] + layout.key.size <= layout.offsets["outputs"] < layout.size
    assert layout.offsets["set.kinds"] == layout.offsets["set.fields"] + 8


@pytest.mark.parametrize(
    ("size", "missing", "message"),
    [
        pytest.param(LAYOUT.size + 4, "", "multiple of 8", id="no whole words"),
        pytest.param(LAYOUT.size, "tp_src", "no member tp_src for the field tcp_src", id="a field without member"),
    ],
)
def test_a_key_that_cannot_be(size: int, missing: str, message: str) -> None:
    with pytest.raises(NotReadable, match=message):
        KeyLayout(size, {name: place for name, place in MEMBERS.items() if name != missing})


def test_a_runtime_of_another_time_is_not_readable() -> None:
    with pytest.raises(NotReadable, match="compile it with -g"):
        PacketLayout.of(None)
    with pytest.raises(NotReadable, match="does not describe struct oko_packet: rebuild the objects"):
        PacketLayout.of(filter_program("odd_port").btf)
