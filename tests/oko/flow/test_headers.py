"""The headers of a frame: cases by hand, and Open vSwitch's own flow extraction as the oracle."""

from __future__ import annotations

import re
import struct
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.all import ARP, ICMP, IP, LLC, SNAP, TCP, UDP, Dot1AD, Dot1Q, Dot3, Ether, IPOption_Router_Alert, IPv6, Raw
from scapy.packet import Packet

from oko.flow.fields import FIELDS
from oko.flow.headers import parse
from tests.oko.flow.conftest import OvsOfctl
from tests.oko.flow.strategies import frames

IN_PORT = 7
ETHER = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
ADDRESSES = {"src": "10.0.0.1", "dst": "192.0.2.9"}
TCP_80 = TCP(sport=1234, dport=80)
UDP_53 = UDP(sport=5353, dport=53)

LINK = {"in_port": IN_PORT, "eth_dst": 0x020000000001, "eth_src": 0x020000000002}
IPV4 = {**LINK, "eth_type": 0x0800, "ipv4_src": 0x0A000001, "ipv4_dst": 0xC0000209}
NO_IP = {**LINK, "eth_type": 0x0800}
PORTS_80 = {"tcp_src": 1234, "tcp_dst": 80, "udp_src": 1234, "udp_dst": 80}
PORTS_53 = {"tcp_src": 5353, "tcp_dst": 53, "udp_src": 5353, "udp_dst": 53}
IS_TCP = {**IPV4, "ip_proto": 6, **PORTS_80}
IS_UDP = {**IPV4, "ip_proto": 17, **PORTS_53}


def ip(**fields: int) -> Packet:
    return IP(**ADDRESSES, **fields)


def patched(packet: Packet, offset: int, data: bytes) -> bytes:
    """The bytes of `packet` with `data` written over those at `offset`."""
    raw = bytes(packet)
    return raw[:offset] + data + raw[offset + len(data) :]


TAGGED = bytes(ETHER)[:12]

CASES: dict[str, tuple[Packet | bytes, dict[str, int]]] = {
    "tcp": (ETHER / ip() / TCP_80, IS_TCP),
    "udp": (ETHER / ip() / UDP_53, IS_UDP),
    "tos": (ETHER / ip(tos=0xBA) / UDP_53, {**IS_UDP, "ip_dscp": 46, "ip_ecn": 2}),
    "icmp has no ports": (ETHER / ip() / ICMP(), {**IPV4, "ip_proto": 1}),
    "arp": (ETHER / ARP(), {**LINK, "eth_type": 0x0806}),
    "ipv6 reads as its eth_type only": (ETHER / IPv6() / TCP_80, {**LINK, "eth_type": 0x86DD}),
    "14 bytes": (bytes(ETHER)[:12] + b"\x08\x06", {**LINK, "eth_type": 0x0806}),
    "vlan": (ETHER / Dot1Q(vlan=5) / ip() / TCP_80, IS_TCP),
    "priority tag": (ETHER / Dot1Q(vlan=0, prio=3) / ip() / TCP_80, IS_TCP),
    "service tag alone": (ETHER / Dot1AD(vlan=5) / ip() / TCP_80, IS_TCP),
    "qinq": (ETHER / Dot1AD(vlan=5) / Dot1Q(vlan=6) / ip() / TCP_80, IS_TCP),
    "two customer tags": (ETHER / Dot1Q(vlan=5) / Dot1Q(vlan=6) / ip() / TCP_80, IS_TCP),
    "three tags": (ETHER / Dot1Q() / Dot1Q() / Dot1Q() / ip() / TCP_80, {**LINK, "eth_type": 0x8100}),
    "third tag is a service tag": (
        TAGGED + bytes.fromhex("81000001 81000002 88a80003 0800") + bytes(ip() / TCP_80),
        {**LINK, "eth_type": 0x88A8},
    ),
    "tag cut off in its TCI": (TAGGED + bytes.fromhex("8100 0005 08"), {**LINK, "eth_type": 0x8100}),
    "tag with nothing behind it": (TAGGED + bytes.fromhex("8100 0005 0800"), NO_IP),
    "second tag cut off": (TAGGED + bytes.fromhex("8100 0005 88a8 0006"), {**LINK, "eth_type": 0x88A8}),
    "old qinq TPID is no tag": (TAGGED + bytes.fromhex("9100 0005 0800"), {**LINK, "eth_type": 0x9100}),
    "llc": (
        Dot3(dst=ETHER.dst, src=ETHER.src) / LLC(dsap=0x42, ssap=0x42, ctrl=3) / Raw(bytes(35)),
        {**LINK, "eth_type": 0x05FF},
    ),
    "snap": (Dot3(dst=ETHER.dst, src=ETHER.src) / LLC() / SNAP(OUI=0, code=0x0800) / ip() / TCP_80, IS_TCP),
    "snap of an organisation": (
        Dot3(dst=ETHER.dst, src=ETHER.src) / LLC() / SNAP(OUI=0x00000C, code=0x2000) / Raw(bytes(9)),
        {**LINK, "eth_type": 0x05FF},
    ),
    "snap that names a length": (
        TAGGED + bytes.fromhex("0010 aaaa03000000 05ff") + bytes(ip() / TCP_80),
        {**LINK, "eth_type": 0x05FF},
    ),
    "snap in a vlan": (TAGGED + bytes.fromhex("8100 0005 0030 aaaa03000000 0800") + bytes(ip() / TCP_80), IS_TCP),
    "snap cut off": (TAGGED + bytes.fromhex("0010 aaaa03000000 08"), {**LINK, "eth_type": 0x05FF}),
    "snap with nothing behind it": (TAGGED + bytes.fromhex("0008 aaaa03000000 0806"), {**LINK, "eth_type": 0x0806}),
    "snap that names a tag": (
        TAGGED + bytes.fromhex("0010 aaaa03000000 8100 0005 0800") + bytes(ip() / TCP_80),
        {**LINK, "eth_type": 0x8100},
    ),
    "length 0": (TAGGED + bytes(30), {**LINK, "eth_type": 0x05FF}),
    "smallest type": (TAGGED + bytes.fromhex("0600"), {**LINK, "eth_type": 0x0600}),
    "first fragment": (ETHER / ip(flags="MF") / UDP_53 / Raw(bytes(8)), IS_UDP),
    "later fragment": (ETHER / ip(frag=2) / UDP_53 / Raw(bytes(8)), {**IPV4, "ip_proto": 17}),
    "fragment of the highest offset": (ETHER / ip(frag=0x1FFF) / UDP_53, {**IPV4, "ip_proto": 17}),
    "don't fragment and the reserved bit": (ETHER / ip(flags="DF+evil") / UDP_53, IS_UDP),
    "options": (ETHER / ip(options=[IPOption_Router_Alert()]) / TCP_80, IS_TCP),
    "longest options": (ETHER / ip(options=[IPOption_Router_Alert()] * 10) / TCP_80, IS_TCP),
    "options beyond the frame": (patched(ETHER / ip(), 14, b"\x46"), NO_IP),
    "ihl 4": (patched(ETHER / ip() / TCP_80, 14, b"\x44"), NO_IP),
    "ihl 0": (patched(ETHER / ip() / TCP_80, 14, b"\x40"), NO_IP),
    "the version is not looked at": (patched(ETHER / ip() / TCP_80, 14, b"\x65"), IS_TCP),
    "the checksum is not looked at": (patched(ETHER / ip() / TCP_80, 24, b"\xde\xad"), IS_TCP),
    "header cut off": (bytes(ETHER / ip() / TCP_80)[: 14 + 19], NO_IP),
    "header alone": (ETHER / ip(proto=6), {**IPV4, "ip_proto": 6}),
    "total_length one beyond the frame": (patched(ETHER / ip() / TCP_80, 16, struct.pack("!H", 41)), NO_IP),
    "total_length less than the header": (patched(ETHER / ip() / TCP_80, 16, struct.pack("!H", 19)), NO_IP),
    "total_length less than the options": (
        patched(ETHER / ip(options=[IPOption_Router_Alert()]) / TCP_80, 16, struct.pack("!H", 23)),
        NO_IP,
    ),
    "total_length short of the tcp header": (
        patched(ETHER / ip() / TCP_80, 16, struct.pack("!H", 39)),
        {**IPV4, "ip_proto": 6},
    ),
    "total_length short of the udp header": (
        patched(ETHER / ip() / UDP_53, 16, struct.pack("!H", 27)),
        {**IPV4, "ip_proto": 17},
    ),
    "padding behind a packet": (bytes(ETHER / ip() / UDP_53) + bytes(18), IS_UDP),
    "padding is no l4 header": (
        bytes(ETHER / ip(proto=17) / Raw(b"\x14\xe9\x00\x35")) + bytes(20),
        {**IPV4, "ip_proto": 17},
    ),
    "tcp of 19 bytes": (ETHER / ip(proto=6) / Raw(bytes(TCP_80)[:19]), {**IPV4, "ip_proto": 6}),
    "udp of 7 bytes": (ETHER / ip(proto=17) / Raw(bytes(UDP_53)[:7]), {**IPV4, "ip_proto": 17}),
    "tcp whose data offset is beyond the segment": (
        patched(ETHER / ip() / TCP_80, 14 + 20 + 12, b"\xf0"),
        {**IPV4, "ip_proto": 6},
    ),
    "tcp whose data offset is below 20 bytes": (
        patched(ETHER / ip() / TCP_80, 14 + 20 + 12, b"\x40"),
        {**IPV4, "ip_proto": 6},
    ),
    "sctp has no ports here": (ETHER / ip(proto=132) / Raw(bytes(30)), {**IPV4, "ip_proto": 132}),
}


@pytest.mark.parametrize(("frame", "expected"), CASES.values(), ids=CASES.keys())
def test_parse(frame: Packet | bytes, expected: dict[str, int]) -> None:
    present = {name: value for name, value in (parse(bytes(frame), IN_PORT) or {}).items() if value}
    assert present == expected


@pytest.mark.parametrize("length", [0, 1, 13])
def test_a_runt_has_no_headers(length: int) -> None:
    assert parse(bytes(ETHER / ip() / TCP_80)[:length], IN_PORT) is None


@given(frames(), st.integers(0, 2**32 - 1))
def test_every_header_field_has_a_value_that_fits(frame: bytes, in_port: int) -> None:
    headers = parse(frame, in_port)
    if len(frame) < 14:
        assert headers is None
        return
    assert headers is not None
    assert list(headers) == [field.name for field in FIELDS if field.name != "filter_prog"]
    assert all(0 <= headers[field.name] <= field.full for field in FIELDS if field.name in headers)


OVS_PROTOCOLS = {
    "ip": (0x0800, None),
    "icmp": (0x0800, 1),
    "tcp": (0x0800, 6),
    "udp": (0x0800, 17),
    "sctp": (0x0800, 132),
    "arp": (0x0806, None),
    **dict.fromkeys(("ipv6", "icmp6", "tcp6", "udp6", "sctp6"), (0x86DD, None)),
}


def as_ovs(line: str) -> dict[str, int]:
    """The fields that both know, from a line of ``ovs-ofctl parse-pcap``. Open vSwitch reads IPv6 and SCTP ports too;
    they are left out."""
    words = dict(re.fullmatch(r"([^=]*)=?(.*)", word).groups() for word in line.split(","))  # type: ignore[union-attr]
    protocol = next((word for word in words if word in OVS_PROTOCOLS), "")
    eth_type, proto = OVS_PROTOCOLS.get(protocol, (0, None))
    fields = {
        "eth_src": int(words["dl_src"].replace(":", ""), 16),
        "eth_dst": int(words["dl_dst"].replace(":", ""), 16),
        "eth_type": int(words["dl_type"], 16) if "dl_type" in words else eth_type,
    }
    if fields["eth_type"] == 0x0800:
        fields["ip_proto"] = int(words["nw_proto"]) if proto is None else proto
        fields["ipv4_src"] = int(IPv4Address(words["nw_src"]))
        fields["ipv4_dst"] = int(IPv4Address(words["nw_dst"]))
        fields["ip_dscp"] = int(words["nw_tos"]) >> 2
        fields["ip_ecn"] = int(words["nw_ecn"])
        if protocol in ("tcp", "udp") and words["nw_frag"] != "later":
            for side in ("src", "dst"):
                fields[f"tcp_{side}"] = fields[f"udp_{side}"] = int(words[f"tp_{side}"])
    return fields


@given(st.lists(frames().filter(lambda frame: len(frame) >= 14), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_open_vswitch_reads_the_same(ovs_ofctl: OvsOfctl, tmp_path: Path, batch: list[bytes]) -> None:
    capture = tmp_path / "frames.pcap"
    records = b"".join(struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame for frame in batch)
    capture.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + records)
    lines = ovs_ofctl("parse-pcap", capture).stdout.splitlines()
    assert len(lines) == len(batch)
    for frame, line in zip(batch, lines, strict=True):
        ours = {name: value for name, value in (parse(frame, 0) or {}).items() if value}
        theirs = {name: value for name, value in as_ovs(line).items() if value}
        assert ours == theirs, f"{frame.hex()}\n{line}"
