"""The SDK's cursor: which headers it finds, where it stands after them and how much is left."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from tests.bpf_programs.harness import Harness, build_test_object

pytestmark = pytest.mark.needs_bpf

ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
IPV6 = IPv6(src="2001:db8::1", dst="2001:db8::2")
PAYLOAD = Raw(b"payload")
PADDING = Raw(bytes(9))

# headers found, offset of the cursor, bytes left
CASES: dict[str, tuple[Packet, tuple[int, int, int]]] = {
    "nothing behind Ethernet": (ETHER / ARP(), (1, 14, 28)),
    "two tags": (ETHER / Dot1AD() / Dot1Q() / IP() / TCP() / PAYLOAD, (3, 62, 7)),
    "TCP, its options left": (ETHER / IP() / TCP(options=[("MSS", 1460)]) / PAYLOAD, (3, 54, 11)),
    "UDP": (ETHER / IP() / UDP() / PAYLOAD, (3, 42, 7)),
    "ICMP": (ETHER / IP() / ICMP() / PAYLOAD, (3, 42, 7)),
    "IPv4 options": (ETHER / IP(options=[b"\x01" * 8]) / UDP() / PAYLOAD, (3, 50, 7)),
    "IPv4 without the padding": (ETHER / IP(len=35) / UDP() / PAYLOAD / PADDING, (3, 42, 7)),
    "padding is no header": (ETHER / IP(len=27, proto=17) / PAYLOAD / PADDING, (2, 34, 7)),
    "IPv4 malformed": (ETHER / IP(ihl=4) / UDP(), (1, 14, 28)),
    "IPv6 and TCP": (ETHER / IPV6 / TCP() / PAYLOAD, (3, 74, 7)),
    "IPv6 and UDP": (ETHER / IPV6 / UDP() / PAYLOAD, (3, 62, 7)),
    "IPv6 without the padding": (ETHER / IPv6(plen=7, nh=17) / PAYLOAD / PADDING, (2, 54, 7)),
    "IPv6 longer than the frame": (ETHER / IPv6(plen=8) / PAYLOAD, (1, 14, 47)),
    "IPv6 cut off": (ETHER / Raw(bytes(IPV6)[:39]), (1, 14, 39)),
}
CASES["IPv6 cut off"][0].type = 0x86DD


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    source = Path(__file__).with_name("oko_harness.c")
    with Harness(build_test_object(source, tmp_path_factory.mktemp("oko"))) as loaded:
        yield loaded


@pytest.mark.parametrize(("packet", "reached"), CASES.values(), ids=CASES)
def test_cursor(harness: Harness, packet: Packet, reached: tuple[int, int, int]) -> None:
    harness.run(bytes(packet))
    assert struct.unpack("=3I", harness.maps["reached"].lookup(bytes(4)) or b"") == reached
