"""The SDK's parsers: which headers they find, where the cursor stands after them and how much is left."""

from __future__ import annotations

import platform
import shutil
import struct
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, LLC, SNAP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.packet import Packet, Raw

from oko.flow.headers import L4_HEADER, offsets, parse
from oko.switch.schema import read, schema
from tests.bpf_programs.harness import SOURCES, Harness, build_test_object
from tests.oko.flow.frames import frames
from verifier import elf
from verifier.btf import Btf, Struct
from verifier.check import check

pytestmark = pytest.mark.needs_bpf

HARNESS = Path(__file__).with_name("oko_harness.c")
CLANGS = ("clang-14", "clang-16", "clang-19")
CPUS = ("v1", "v2", "v3")
ONLY = bytes(4)
WHOLE, FIRST_FRAGMENT, LATER_FRAGMENT = 0, 1, 2

ETHER = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
IPV6 = IPv6(src="2001:db8::1", dst="2001:db8::2")
PAYLOAD = Raw(b"payload")
PADDING = Raw(bytes(9))
OPTIONS = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7)]
CUT_OFF = ETHER.copy() / Raw(bytes(IPV6)[:39])
CUT_OFF.type = 0x86DD

# headers found, offset of the cursor, bytes left
CASES: dict[str, tuple[Packet, tuple[int, int, int]]] = {
    "nothing behind Ethernet": (ETHER / ARP(), (1, 14, 28)),
    "two tags": (ETHER / Dot1AD() / Dot1Q() / IP() / TCP() / PAYLOAD, (3, 62, 7)),
    "a third tag is the payload": (ETHER / Dot1AD() / Dot1Q() / Dot1Q() / IP(), (1, 22, 24)),
    "SNAP": (Dot3(src="02:00:00:00:00:01") / LLC() / SNAP() / IP() / UDP() / PAYLOAD, (3, 50, 7)),
    "TCP, behind its options": (ETHER / IP() / TCP(options=[("MSS", 1460)]) / PAYLOAD, (3, 58, 7)),
    "TCP, longer than the segment": (ETHER / IP() / TCP(dataofs=8) / PAYLOAD, (2, 34, 27)),
    "UDP": (ETHER / IP() / UDP() / PAYLOAD, (3, 42, 7)),
    "ICMP": (ETHER / IP() / ICMP() / PAYLOAD, (3, 42, 7)),
    "ICMPv6": (ETHER / IPV6 / ICMPv6EchoRequest() / PAYLOAD, (3, 62, 7)),
    "IPv4 options": (ETHER / IP(options=[b"\x01" * 8]) / UDP() / PAYLOAD, (3, 50, 7)),
    "IPv4 without the padding": (ETHER / IP(len=35) / UDP() / PAYLOAD / PADDING, (3, 42, 7)),
    "padding is no header": (ETHER / IP(len=27, proto=17) / PAYLOAD / PADDING, (2, 34, 7)),
    "IPv4 malformed": (ETHER / IP(ihl=4) / UDP(), (1, 14, 28)),
    "IPv4 fragment": (ETHER / IP(frag=1, proto=17) / PAYLOAD, (2, 34, 7)),
    "IPv6 and TCP": (ETHER / IPV6 / TCP() / PAYLOAD, (3, 74, 7)),
    "IPv6 and UDP": (ETHER / IPV6 / UDP() / PAYLOAD, (3, 62, 7)),
    "IPv6 without the padding": (ETHER / IPv6(plen=7, nh=17) / PAYLOAD / PADDING, (2, 54, 7)),
    "IPv6 longer than the frame": (ETHER / IPv6(plen=8) / PAYLOAD, (1, 14, 47)),
    "IPv6 cut off": (CUT_OFF, (1, 14, 39)),
    "IPv6 extension headers": (
        ETHER / IPV6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrRouting() / IPv6ExtHdrDestOpt() / UDP() / PAYLOAD,
        (3, 86, 7),
    ),
    "IPv6 extension header cut off": (ETHER / IPV6 / IPv6ExtHdrDestOpt(len=1), (2, 54, 8)),
    "IPv6 first fragment": (ETHER / IPV6 / IPv6ExtHdrFragment(m=1) / UDP() / PAYLOAD, (2, 62, 15)),
    "IPv6 later fragment": (ETHER / IPV6 / IPv6ExtHdrFragment(offset=1, nh=17) / PAYLOAD, (2, 54, 15)),
    "IPv6 fragment that is whole": (ETHER / IPV6 / IPv6ExtHdrFragment() / UDP() / PAYLOAD, (3, 70, 7)),
}


class Found:
    """The parsers in the kernel, and what they find in a frame."""

    def __init__(self, path: Path, harness: Harness) -> None:
        btf = cast(Btf, elf.load(path.read_bytes(), section="xdp").btf)
        self._schema = schema(btf, cast(int, btf.id_of("found", Struct)))
        self._harness = harness

    def __call__(self, packet: Packet | bytes) -> dict[str, Any]:
        self._harness.run(bytes(packet))
        value = self._harness.maps["reached"].lookup(ONLY)
        return cast(dict[str, Any], read(self._schema, value or b""))


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    path = build_test_object(HARNESS, tmp_path_factory.mktemp("oko"))
    with Harness(path) as harness:
        yield Found(path, harness)


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("clang", CLANGS)
def test_every_compiler_makes_what_both_verifiers_take(tmp_path: Path, clang: str, cpu: str) -> None:
    if shutil.which(clang) is None:
        pytest.skip(f"{clang} is not installed")
    path = tmp_path / "harness.o"
    include = [f"-isystem/usr/include/{platform.machine()}-linux-gnu", f"-I{SOURCES / 'include'}"]
    options = ["-O2", "-g", "-target", "bpf", f"-mcpu={cpu}", "-Wall", "-Wextra", "-Werror", *include]
    subprocess.run([clang, *options, "-c", str(HARNESS), "-o", str(path)], check=True)
    check(elf.load(path.read_bytes(), section="xdp"))
    with Harness(path):
        pass


@pytest.mark.parametrize(("packet", "reached"), CASES.values(), ids=CASES)
def test_cursor(found: Found, packet: Packet, reached: tuple[int, int, int]) -> None:
    result = found(packet)
    assert (result["headers"], result["offset"], result["left"]) == reached


FRAGMENTS: dict[str, tuple[Packet, tuple[int, int, int]]] = {
    "IPv4, whole": (IP(id=7, flags="DF") / UDP(), (WHOLE, 0, 17)),
    "IPv4, first": (IP(id=7, flags="MF") / UDP(), (FIRST_FRAGMENT, 7 << 16, 17)),
    "IPv4, later": (IP(id=7, frag=3, proto=17) / PAYLOAD, (LATER_FRAGMENT, 7 << 16, 17)),
    "IPv6, whole": (IPV6 / UDP(), (WHOLE, 0, 17)),
    "IPv6, atomic": (IPV6 / IPv6ExtHdrFragment(id=7) / UDP(), (WHOLE, 0, 17)),
    "IPv6, first": (IPV6 / IPv6ExtHdrFragment(id=7, m=1) / UDP(), (FIRST_FRAGMENT, 7, 17)),
    "IPv6, later": (IPV6 / IPv6ExtHdrFragment(id=7, offset=3, nh=17) / PAYLOAD, (LATER_FRAGMENT, 7, 44)),
    "IPv6, later, options before": (
        IPV6 / IPv6ExtHdrDestOpt() / IPv6ExtHdrFragment(id=7, offset=3, nh=17) / PAYLOAD,
        (LATER_FRAGMENT, 7, 44),
    ),
}


@pytest.mark.parametrize(("packet", "expected"), FRAGMENTS.values(), ids=FRAGMENTS)
def test_fragments(found: Found, packet: Packet, expected: tuple[int, int, int]) -> None:
    result = found(ETHER / packet)
    assert (result["place"], result["identification"], result["protocol"]) == expected


OPTION_LISTS: dict[str, tuple[bytes, list[tuple[int, int]], int]] = {
    "none": (b"", [], 0),
    "one of four bytes": (bytes.fromhex("020405b4"), [(2, 4)], 0),
    "the end, with padding": (bytes.fromhex("01000000"), [(1, 1), (0, 3)], 0),
    "the end twice": (bytes(4), [(0, 4)], 0),
    "as many as there can be": (b"\x01" * 40, [(1, 1)] * 40, 0),
    "length 0": (bytes.fromhex("01020000"), [(1, 1)], -1),
    "length 1": (bytes.fromhex("01020100"), [(1, 1)], -1),
    "beyond the header": (bytes.fromhex("01080a00"), [(1, 1)], -1),
    "a kind without a length": (bytes.fromhex("01010108"), [(1, 1)] * 3, -1),
    "unknown kind": (bytes.fromhex("fe04ffff"), [(254, 4)], 0),
}


def segment(options: bytes) -> bytes:
    return struct.pack("!HHIIBBHHH", 1, 2, 3, 4, (5 + len(options) // 4) << 4, 2, 5, 6, 7) + options


@pytest.mark.parametrize("below", [IP(proto=6), IPV6.copy()], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(("data", "expected", "end"), OPTION_LISTS.values(), ids=OPTION_LISTS)
def test_tcp_options(found: Found, below: Packet, data: bytes, expected: list[tuple[int, int]], end: int) -> None:
    if isinstance(below, IPv6):
        below.nh = 6
    result = found(ETHER / below / Raw(segment(data)) / PAYLOAD)
    assert taken(result) == expected
    assert (result["end"], result["left"]) == (end, len(PAYLOAD))


def taken(result: dict[str, Any]) -> list[tuple[int, int]]:
    """Kind and length of every option."""
    kinds, lengths = bytes.fromhex(result["kinds"]), bytes.fromhex(result["lengths"])
    return list(zip(kinds, lengths, strict=True))[: result["options"]]


def test_values_of_tcp_options(found: Found) -> None:
    result = found(ETHER / IP() / TCP(options=OPTIONS))
    assert (result["mss"], result["window_scale"]) == (1460, 7)
    assert [kind for kind, _ in taken(result)] == [2, 4, 8, 1, 3]


def test_an_option_of_another_length_has_no_value(found: Found) -> None:
    assert found(ETHER / IP(proto=6) / Raw(segment(bytes.fromhex("0205ffffffff0000"))))["mss"] == 0


def walked(data: bytes) -> tuple[list[tuple[int, int]], int]:
    """What oko_next_tcp_option() should find."""
    options: list[tuple[int, int]] = []
    while data:
        if data[0] == 0:
            options.append((0, len(data)))
            break
        length = 1 if data[0] == 1 else data[1] if len(data) > 1 else 0
        if (data[0] != 1 and length < 2) or length > len(data):
            return options, -1
        options.append((data[0], length))
        data = data[length:]
    return options, 0


@settings(deadline=None)
@given(
    st.lists(st.sampled_from((0, 1, 1, 2, 3, 4, 4, 5, 8, 10)), max_size=40).map(
        lambda numbers: bytes(numbers[: len(numbers) // 4 * 4])
    )
)
def test_tcp_options_against_a_walk_in_python(found: Found, data: bytes) -> None:
    result = found(ETHER / IP(proto=6) / Raw(segment(data)))
    assert (taken(result), result["end"]) == walked(data)


QUOTED: dict[str, tuple[Packet, tuple[int, int, int, int]]] = {
    # protocol, bytes left behind its IP headers, ports
    "IPv4, 8 bytes of a long one": (IP(len=1500, proto=6) / Raw(struct.pack("!HHI", 1, 2, 3)), (6, 8, 1, 2)),
    "IPv4, whole": (IP() / UDP(sport=1, dport=2) / PAYLOAD, (17, 15, 1, 2)),
    "IPv4, options": (IP(options=[b"\x01" * 4], proto=17) / Raw(bytes((0, 1, 0, 2))), (17, 4, 1, 2)),
    "IPv4, padding behind it": (IP(len=28) / UDP(sport=1, dport=2) / PADDING, (17, 8, 1, 2)),
    "IPv4, header cut off": (Raw(bytes(IP())[:19]), (0, 0, 0, 0)),
    "IPv4, malformed": (IP(ihl=4) / UDP(), (0, 0, 0, 0)),
    "IPv6, of a long one": (IPv6(plen=1400, nh=6) / Raw(struct.pack("!HHI", 1, 2, 3)), (6, 8, 1, 2)),
    "IPv6, extension header": (IPV6 / IPv6ExtHdrDestOpt() / UDP(sport=1, dport=2), (17, 8, 1, 2)),
    "IPv6, padding behind it": (IPv6(plen=8) / UDP(sport=1, dport=2) / PADDING, (17, 8, 1, 2)),
    "IPv6, header cut off": (Raw(bytes(IPV6)[:39]), (0, 0, 0, 0)),
}


@pytest.mark.parametrize(("name", "case"), QUOTED.items(), ids=QUOTED)
def test_the_packet_that_an_error_quotes(found: Found, name: str, case: tuple[Packet, tuple[int, ...]]) -> None:
    quoted, expected = case
    error = IP() / ICMP(type=3, code=1) if name.startswith("IPv4") else IPV6 / ICMPv6DestUnreach()
    result = found(ETHER / error / Raw(bytes(quoted)))
    ports = result["quoted_ports"]
    assert (result["quoted_protocol"], result["quoted_left"], ports["source"], ports["dest"]) == expected


def test_an_echo_quotes_nothing(found: Found) -> None:
    assert found(ETHER / IP() / ICMP(type=8) / IP() / UDP())["quoted_protocol"] == 0
    assert found(ETHER / IPV6 / ICMPv6EchoRequest() / IPV6 / UDP())["quoted_protocol"] == 0


def compare(found: Found, frame: bytes, where: str = "") -> None:
    """What the SDK finds in a frame is what the Python parser finds."""
    result, fields, places = found(frame), parse(frame, 0), offsets(frame)
    assert fields is not None
    where = where or frame.hex()
    protocol = fields["ip_proto"]
    assert result["eth_type"] == fields["eth_type"], where
    if fields["eth_type"] in (0x0800, 0x86DD):
        assert result["protocol"] == protocol, where
        assert result["place"] == (fields["ip_frag"] + 1) // 2, where
        assert flow_addresses(result) == addresses(fields), where
    if protocol in L4_HEADER and protocol != 132:
        assert result["transport"] == places.transport or result["headers"] == 2, where
        assert (result["headers"] == 3) == bool(places.transport), where
    if protocol in (6, 17):
        ports = [fields[f"{'tcp' if protocol == 6 else 'udp'}_{end}"] for end in ("src", "dst")]
        assert result["flow"]["port"] == ports, where


def flow_addresses(result: dict[str, Any]) -> list[int]:
    """As numbers of 128 bits; what is written as an IPv4 address is mapped into IPv6."""
    found = [ip_address(text) for text in result["flow"]["addr"]]
    return [int(address) + (0xFFFF << 32 if address.version == 4 else 0) for address in found]


def addresses(fields: dict[str, int]) -> list[int]:
    """Source and destination, as struct oko_flow has them; 0 if there is no IP header."""
    if fields["eth_type"] == 0x86DD:
        return [fields["ipv6_src"], fields["ipv6_dst"]]
    pair = [fields["ipv4_src"], fields["ipv4_dst"]]
    return [0xFFFF << 32 | addr for addr in pair] if any(pair) or fields["ip_proto"] else pair


@settings(max_examples=500, deadline=None)
@given(frames())
def test_against_the_parser_in_python(found: Found, frame: bytes) -> None:
    compare(found, frame)
