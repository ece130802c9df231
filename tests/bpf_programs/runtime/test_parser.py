"""The C parser against the one in Python, on frames made, mutated and captured."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, LLC, SNAP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.packet import Packet, Raw

from oko.errors import CaptureError
from oko.flow.fields import FIELDS
from oko.flow.headers import parse
from oko.replay.capture import Capture
from tests.bpf_programs.harness import Harness, build_test_object

pytestmark = pytest.mark.needs_bpf

SHARED_CAPTURES = Path(__file__).parents[4] / "shared" / "data" / "pcaps"
SHORTEST_FRAME = 14  # the kernel never hands XDP a runt
LONGEST_FRAME = 3500  # what fits in the one page of a test run, beside headroom and tail
XDP_PASS = 2

# struct oko_key as it lies in memory, by the names of its members.
KEY = struct.Struct(">IHBBIIHH6s6s")
MEMBERS = (
    "in_port", "eth_type", "ip_proto", "ip_tos", "ipv4_src", "ipv4_dst", "tp_src", "tp_dst", "eth_src", "eth_dst",
)  # fmt: skip


class Parser:
    """The C parser in the kernel."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness

    def parse(self, frame: bytes) -> dict[str, int]:
        """The fields as `oko.flow.headers.parse` gives them."""
        assert self._harness.run(frame).retval == XDP_PASS
        key = self._harness.maps["parsed"].lookup(bytes(4))
        assert key is not None
        members = {
            name: int.from_bytes(value, "big") if isinstance(value, bytes) else value
            for name, value in zip(MEMBERS, KEY.unpack(key), strict=True)
        }
        return {field.name: members[field.member] >> field.shift & field.full for field in FIELDS if field.member}


@pytest.fixture(scope="module")
def parser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parser]:
    source = Path(__file__).with_name("parser_harness.c")
    with Harness(build_test_object(source, tmp_path_factory.mktemp("parser"))) as harness:
        yield Parser(harness)


ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
LENGTH = Dot3(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
LLC_SNAP = LLC(dsap=0xAA, ssap=0xAA, ctrl=3)
ADDRESSES = IP(src="10.0.0.1", dst="192.0.2.255", tos=0xB9)
SEGMENT = TCP(sport=40000, dport=443)
DATAGRAM = UDP(sport=53, dport=5353)
OPTIONS = IP(src="10.0.0.1", dst="10.0.0.2", options=[b"\x01" * 8])

FRAMES: dict[str, Packet] = {
    "Ethernet header only": ETHER / Raw(b""),
    "TCP": ETHER / ADDRESSES / SEGMENT,
    "UDP": ETHER / ADDRESSES / DATAGRAM / Raw(b"x"),
    "ICMP has no ports": ETHER / ADDRESSES / ICMP(),
    "ARP": ETHER / ARP(),
    "IPv6": ETHER / IPv6() / SEGMENT,
    "one tag": ETHER / Dot1Q(vlan=5) / ADDRESSES / SEGMENT,
    "two tags": ETHER / Dot1AD(vlan=5) / Dot1Q(vlan=6) / ADDRESSES / SEGMENT,
    "three tags": ETHER / Dot1Q() / Dot1Q() / Dot1Q(vlan=6) / ADDRESSES / SEGMENT,
    "a tag cut off": Ether(bytes(ETHER)[:12] + b"\x81\x00") / Raw(b"\x00\x05\x08"),
    "a second tag cut off": ETHER / Dot1Q(type=0x88A8) / Raw(b"\x00\x05\x08"),
    "802.3 with SNAP": LENGTH / LLC_SNAP / SNAP(code=0x0800) / ADDRESSES / SEGMENT,
    "802.3 with SNAP behind a tag": ETHER / Dot1Q(type=60) / LLC_SNAP / SNAP(code=0x0800) / ADDRESSES / DATAGRAM,
    "SNAP of an organisation": LENGTH / LLC_SNAP / SNAP(OUI=0xC, code=0x0800) / ADDRESSES,
    "SNAP with a length as its type": LENGTH / LLC_SNAP / SNAP(code=0x0100) / ADDRESSES,
    "SNAP cut off": LENGTH / LLC_SNAP / Raw(bytes(4)),
    "802.3 without SNAP": LENGTH / LLC(dsap=0x42, ssap=0x42, ctrl=3) / Raw(bytes(35)),
    "options": ETHER / OPTIONS / SEGMENT,
    "total length beyond the frame": ETHER / IP(len=41) / SEGMENT,
    "total length short of the header": ETHER / IP(len=19) / SEGMENT,
    "header length of 16": ETHER / IP(ihl=4) / SEGMENT,
    "header length beyond the total": ETHER / IP(ihl=15, len=40) / SEGMENT / Raw(bytes(40)),
    "version 5": ETHER / IP(version=5) / SEGMENT,
    "padding is not a TCP header": ETHER / IP(len=39, proto=6) / Raw(bytes(range(1, 40))),
    "padding is not a UDP header": ETHER / IP(len=27, proto=17) / Raw(bytes(range(1, 40))),
    "a UDP header exactly": ETHER / IP(len=28, proto=17) / Raw(bytes(range(1, 40))),
    "first fragment": ETHER / IP(flags="MF") / SEGMENT,
    "later fragment": ETHER / IP(frag=1) / SEGMENT,
    "last fragment": ETHER / IP(flags="MF", frag=8191) / DATAGRAM,
    "don't fragment": ETHER / IP(flags="DF") / DATAGRAM,
}


@pytest.mark.parametrize("packet", FRAMES.values(), ids=FRAMES)
def test_made_frames(parser: Parser, packet: Packet) -> None:
    frame = bytes(packet)
    assert parser.parse(frame) == parse(frame, 0)


def test_every_length_of_a_frame(parser: Parser) -> None:
    """Cut anywhere, with the total length as it was and with one that fits."""
    whole = bytes(ETHER / Dot1Q() / OPTIONS / SEGMENT)
    total_length = SHORTEST_FRAME + 4 + 2
    for length in range(SHORTEST_FRAME, len(whole) + 1):
        frame = bytearray(whole[:length])
        assert parser.parse(bytes(frame)) == parse(bytes(frame), 0)
        if length >= total_length + 2:
            frame[total_length : total_length + 2] = struct.pack(">H", length - SHORTEST_FRAME - 4)
            assert parser.parse(bytes(frame)) == parse(bytes(frame), 0)


@st.composite
def ipv4_packets(draw: st.DrawFn) -> bytes:
    """Mostly sane: every field that decides something has its usual values and any."""
    words = draw(st.sampled_from((5, 5, 5, 6, 15, *range(5))))
    payload = draw(st.binary(max_size=48))
    length = words * 4 + len(payload)
    total = draw(st.one_of(st.just(length), st.integers(max(0, length - 30), length + 2), st.integers(0, 0xFFFF)))
    fragment = draw(st.one_of(st.sampled_from((0, 0, 0x2000, 0x4000, 1)), st.integers(0, 0xFFFF)))
    proto = draw(st.one_of(st.sampled_from((6, 17, 1)), st.integers(0, 255)))
    header = struct.pack(">BBHHHBBH", 0x40 | words, draw(st.integers(0, 255)), total, 0, fragment, 64, proto, 0)
    options = bytes(max(0, words * 4 - 20))
    return header + draw(st.binary(min_size=8, max_size=8)) + options + payload


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    tags = draw(st.lists(st.tuples(st.sampled_from((0x8100, 0x88A8, 0x9100)), st.integers(0, 0xFFFF)), max_size=3))
    eth_type = draw(st.one_of(st.sampled_from((0x0800, 0x0800, 0x05FF, 0x0600, 60)), st.integers(0, 0xFFFF)))
    snap = draw(st.sampled_from((b"", b"\xaa\xaa\x03\0\0\0\x08\0", b"\xaa\xaa\x03\0\0\x01\x08\0", b"\xaa\xaa\x03")))
    frame = b"".join(
        (
            draw(st.binary(min_size=12, max_size=12)),
            *(struct.pack(">HH", *tag) for tag in tags),
            struct.pack(">H", eth_type),
            snap if eth_type < 0x0600 else b"",
            draw(ipv4_packets()),
            draw(st.binary(max_size=20)),
        )
    )
    return frame[: draw(st.one_of(st.just(len(frame)), st.integers(SHORTEST_FRAME, len(frame))))]


@settings(max_examples=2000, deadline=None)
@given(frame=frames())
def test_mutated_frames(parser: Parser, frame: bytes) -> None:
    assert parser.parse(frame) == parse(frame, 0)


@pytest.mark.skipif(not SHARED_CAPTURES.exists(), reason="the shared captures are not here")
def test_captured_frames(parser: Parser) -> None:
    compared = 0
    for path in sorted(SHARED_CAPTURES.rglob("*.pcap*")):
        try:
            with Capture(path) as capture:
                for number, packet in enumerate(capture, 1):
                    frame = packet.data
                    if SHORTEST_FRAME <= len(frame) <= LONGEST_FRAME:
                        assert parser.parse(frame) == parse(frame, 0), f"{path.name}, packet {number}"
                        compared += 1
        except CaptureError:  # another link type, or cut off: what came before it counts
            continue
    assert compared > 10_000
