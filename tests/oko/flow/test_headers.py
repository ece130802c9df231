"""The headers of a frame: cases by hand, and Open vSwitch's own flow extraction as the oracle."""

from __future__ import annotations

import re
import struct
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.all import ARP, ICMP, IP, LLC, SNAP, TCP, UDP, Dot1AD, Dot1Q, Dot3, Ether, IPOption_Router_Alert, IPv6, Raw
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptMTU,
    ICMPv6NDOptSrcLLAddr,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.packet import Packet

from oko.flow.fields import FIELDS
from oko.flow.headers import Offsets, offsets, parse
from tests.oko.flow.conftest import OvsOfctl
from tests.oko.flow.frames import frames

IN_PORT = 7
ETHER = Ether(dst="02:00:00:00:00:01", src="02:00:00:00:00:02")
ADDRESSES = {"src": "10.0.0.1", "dst": "192.0.2.9"}
TCP_80 = TCP(sport=1234, dport=80)
UDP_53 = UDP(sport=5353, dport=53)

# What is expected: the members of the key that are not zero.
LINK = {"eth_dst": 0x020000000001, "eth_src": 0x020000000002}
IPV4 = {**LINK, "eth_type": 0x0800, "ipv4_src": 0x0A000001, "ipv4_dst": 0xC0000209}
NO_IP = {**LINK, "eth_type": 0x0800}
PORTS_80 = {"tp_src": 1234, "tp_dst": 80, "tcp_flags": 0x002}
PORTS_53 = {"tp_src": 5353, "tp_dst": 53}
IS_TCP = {**IPV4, "ip_proto": 6, **PORTS_80}
IS_UDP = {**IPV4, "ip_proto": 17, **PORTS_53}

SIX = IPv6(src="fd00::1", dst="fd00::2", tc=0xB9, fl=0x12345)
ADDRESSES_6 = {**LINK, "eth_type": 0x86DD, "ipv6_src": 0xFD << 120 | 1, "ipv6_dst": 0xFD << 120 | 2}
IPV6 = {**ADDRESSES_6, "ip_tos": 0xB9, "ipv6_label": 0x12345}
IS_UDP_6 = {**IPV6, "ip_proto": 17, **PORTS_53}
NO_IP_6 = {**LINK, "eth_type": 0x86DD}
TARGET = "fd00::9"
SOURCE = ICMPv6NDOptSrcLLAddr(lladdr="02:00:00:00:00:08")
DESTINATION = ICMPv6NDOptDstLLAddr(lladdr="02:00:00:00:00:09")
IS_SOLICIT = {**IPV6, "ip_proto": 58, "tp_src": 135}
IS_ADVERTISE = {**IPV6, "ip_proto": 58, "tp_src": 136}
HAS_TARGET = {"nd_target": 0xFD << 120 | 9}

# Extension headers of 8 bytes by the first byte of their names: the type of each, and a header that is not walked over.
EXTENSIONS = {"H": 0, "R": 43, "F": 44, "E": 50, "A": 51, "N": 59, "D": 60, "U": 17}
# The bits of OpenFlow 1.3.5, 7.2.3.8.
NONEXT, ESP, AUTH, DEST, FRAG, ROUTER, HOP, UNREP, UNSEQ = (1 << bit for bit in range(9))


def ip(**fields: int) -> Packet:
    return IP(**ADDRESSES, **fields)


def patched(packet: Packet, offset: int, data: bytes) -> bytes:
    """The bytes of `packet` with `data` written over those at `offset`."""
    raw = bytes(packet)
    return raw[:offset] + data + raw[offset + len(data) :]


def chain(kinds: str) -> Packet:
    """A packet with these extension headers, then UDP."""
    types = [EXTENSIONS[kind] for kind in kinds]
    headers = b"".join(bytes((following, 0)) + bytes(6) for following in (*types[1:], 17))
    return ETHER / IPv6(src="fd00::1", dst="fd00::2", tc=0xB9, fl=0x12345, nh=types[0]) / Raw(headers + bytes(UDP_53))


def arp(**fields: int) -> Packet:
    addresses = {"hwsrc": "02:00:00:00:00:05", "hwdst": "02:00:00:00:00:06", "psrc": "10.0.0.1", "pdst": "192.0.2.9"}
    return ETHER / ARP(**addresses, **fields)


IS_ARP = {**IPV4, "eth_type": 0x0806, "arp_sha": 0x020000000005, "arp_tha": 0x020000000006}
NO_ARP = {**LINK, "eth_type": 0x0806}
TAGGED = bytes(ETHER)[:12]

CASES: dict[str, tuple[Packet | bytes, dict[str, int]]] = {
    "tcp": (ETHER / ip() / TCP_80, IS_TCP),
    "udp": (ETHER / ip() / UDP_53, IS_UDP),
    "tos": (ETHER / ip(tos=0xBA) / UDP_53, {**IS_UDP, "ip_tos": 0xBA}),
    "tcp flags": (
        patched(ETHER / ip() / TCP_80, 14 + 20 + 12, b"\x5f\x35"),
        {**IS_TCP, "tcp_flags": 0xF35},
    ),
    "icmp": (ETHER / ip() / ICMP(type=3, code=1), {**IPV4, "ip_proto": 1, "tp_src": 3, "tp_dst": 1}),
    "icmp of 7 bytes": (ETHER / ip(proto=1) / Raw(b"\x03\x01" + bytes(5)), {**IPV4, "ip_proto": 1}),
    "arp request": (arp(op=1), {**IS_ARP, "arp_op": 1}),
    "arp operation that fits": (arp(op=255), {**IS_ARP, "arp_op": 255}),
    "arp operation that does not": (arp(op=256), IS_ARP),
    "arp of another hardware": (arp(hwtype=6), NO_ARP),
    "arp of another protocol": (arp(ptype=0x86DD), NO_ARP),
    "arp of long hardware addresses": (patched(arp(), 18, b"\x08"), NO_ARP),
    "arp of long protocol addresses": (patched(arp(), 19, b"\x10"), NO_ARP),
    "arp of 27 bytes": (bytes(arp())[:-1], NO_ARP),
    "rarp": (patched(arp(op=3), 12, b"\x80\x35"), {**IS_ARP, "eth_type": 0x8035, "arp_op": 3}),
    "mpls": (
        TAGGED + bytes.fromhex("8847 12345bff 22222222"),
        {**LINK, "eth_type": 0x8847, "mpls_lse": 0x12345B00},
    ),
    "mpls multicast": (TAGGED + bytes.fromhex("8848 00000140"), {**LINK, "eth_type": 0x8848, "mpls_lse": 0x100}),
    "mpls cut off": (TAGGED + bytes.fromhex("8847 123451"), {**LINK, "eth_type": 0x8847}),
    "14 bytes": (bytes(ETHER)[:12] + b"\x08\x06", {**LINK, "eth_type": 0x0806}),
    "vlan": (ETHER / Dot1Q(vlan=5) / ip() / TCP_80, {**IS_TCP, "vlan_tci": 0x1005}),
    "priority tag": (ETHER / Dot1Q(vlan=0, prio=3) / ip() / TCP_80, {**IS_TCP, "vlan_tci": 0x7000}),
    "service tag alone": (ETHER / Dot1AD(vlan=5) / ip() / TCP_80, {**IS_TCP, "vlan_tci": 0x1005}),
    "qinq": (ETHER / Dot1AD(vlan=5) / Dot1Q(vlan=6) / ip() / TCP_80, {**IS_TCP, "vlan_tci": 0x1005}),
    "two customer tags": (ETHER / Dot1Q(vlan=5) / Dot1Q(vlan=6) / ip() / TCP_80, {**IS_TCP, "vlan_tci": 0x1005}),
    "three tags": (
        ETHER / Dot1Q(vlan=1) / Dot1Q() / Dot1Q() / ip() / TCP_80,
        {**LINK, "eth_type": 0x8100, "vlan_tci": 0x1001},
    ),
    "third tag is a service tag": (
        TAGGED + bytes.fromhex("81000001 81000002 88a80003 0800") + bytes(ip() / TCP_80),
        {**LINK, "eth_type": 0x88A8, "vlan_tci": 0x1001},
    ),
    "tag cut off in its TCI": (TAGGED + bytes.fromhex("8100 0005 08"), {**LINK, "eth_type": 0x8100}),
    "tag with nothing behind it": (TAGGED + bytes.fromhex("8100 0005 0800"), {**NO_IP, "vlan_tci": 0x1005}),
    "second tag cut off": (
        TAGGED + bytes.fromhex("8100 0005 88a8 0006"),
        {**LINK, "eth_type": 0x88A8, "vlan_tci": 0x1005},
    ),
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
    "snap in a vlan": (
        TAGGED + bytes.fromhex("8100 0005 0030 aaaa03000000 0800") + bytes(ip() / TCP_80),
        {**IS_TCP, "vlan_tci": 0x1005},
    ),
    "snap cut off": (TAGGED + bytes.fromhex("0010 aaaa03000000 08"), {**LINK, "eth_type": 0x05FF}),
    "snap with nothing behind it": (TAGGED + bytes.fromhex("0008 aaaa03000000 0806"), {**LINK, "eth_type": 0x0806}),
    "snap that names a tag": (
        TAGGED + bytes.fromhex("0010 aaaa03000000 8100 0005 0800") + bytes(ip() / TCP_80),
        {**LINK, "eth_type": 0x8100},
    ),
    "length 0": (TAGGED + bytes(30), {**LINK, "eth_type": 0x05FF}),
    "smallest type": (TAGGED + bytes.fromhex("0600"), {**LINK, "eth_type": 0x0600}),
    "first fragment": (ETHER / ip(flags="MF") / UDP_53 / Raw(bytes(8)), {**IPV4, "ip_proto": 17, "ip_frag": 1}),
    "later fragment": (ETHER / ip(frag=2) / UDP_53 / Raw(bytes(8)), {**IPV4, "ip_proto": 17, "ip_frag": 3}),
    "fragment of the highest offset": (ETHER / ip(frag=0x1FFF) / UDP_53, {**IPV4, "ip_proto": 17, "ip_frag": 3}),
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
    "sctp": (
        ETHER / ip(proto=132) / Raw(struct.pack("!HHQ", 7, 9, 0)),
        {**IPV4, "ip_proto": 132, "tp_src": 7, "tp_dst": 9},
    ),
    "sctp of 11 bytes": (ETHER / ip(proto=132) / Raw(b"\x07" * 11), {**IPV4, "ip_proto": 132}),
    "ipv6 udp": (ETHER / SIX / UDP_53, IS_UDP_6),
    "ipv6 tcp": (ETHER / SIX / TCP_80, {**IPV6, "ip_proto": 6, **PORTS_80}),
    "ipv6 with an unknown protocol": (
        ETHER / IPv6(src="fd00::1", dst="fd00::2", nh=99),
        {**ADDRESSES_6, "ip_proto": 99},
    ),
    "ipv6 header cut off": (bytes(ETHER / SIX)[:-1], NO_IP_6),
    "ipv6 payload one beyond the frame": (bytes(ETHER / SIX / UDP_53)[:-1], NO_IP_6),
    "ipv6 version is not looked at": (patched(ETHER / SIX / UDP_53, 14, b"\x4b"), IS_UDP_6),
    "ipv6 padding is no l4 header": (
        bytes(ETHER / IPv6(src="fd00::1", dst="fd00::2", nh=17, plen=7)) + bytes(range(1, 30)),
        {**ADDRESSES_6, "ip_proto": 17},
    ),
    "jumbogram": (patched(ETHER / SIX / IPv6ExtHdrHopByHop() / UDP_53, 18, bytes(2)), ADDRESSES_6),
    "extension headers of every kind": (
        ETHER / SIX / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / IPv6ExtHdrRouting(addresses=["fd00::5"]) / UDP_53,
        {**IS_UDP_6, "ipv6_exthdr": HOP | DEST | ROUTER},
    ),
    "an extension header of 24 bytes": (
        ETHER / SIX / IPv6ExtHdrDestOpt(nh=17, len=2) / Raw(bytes(16)) / UDP_53,
        {**IS_UDP_6, "ipv6_exthdr": DEST},
    ),
    "an authentication header of 12 bytes": (
        patched(ETHER / SIX / Raw(b"\x11\x01" + bytes(10) + bytes(UDP_53)), 20, b"\x33"),
        {**IS_UDP_6, "ipv6_exthdr": AUTH},
    ),
    "an extension header cut off in its 8 bytes": (
        patched(ETHER / SIX / IPv6ExtHdrHopByHop(nh=43) / Raw(bytes(7)), 20, b"\x00"),
        ADDRESSES_6,
    ),
    "an extension header beyond the packet": (
        ETHER / SIX / IPv6ExtHdrFragment(nh=60, m=1) / IPv6ExtHdrDestOpt(nh=17, len=1),
        ADDRESSES_6,
    ),
    "8 extension headers": (chain("HRRRRRRR"), {**IS_UDP_6, "ipv6_exthdr": HOP | ROUTER | UNREP}),
    "9 extension headers": (
        chain("HRRRRRRRA"),
        {**IPV6, "ip_proto": 51, "ipv6_exthdr": HOP | ROUTER | AUTH | UNREP},
    ),
    "atomic fragment": (ETHER / SIX / IPv6ExtHdrFragment() / UDP_53, {**IS_UDP_6, "ipv6_exthdr": FRAG}),
    "first ipv6 fragment": (
        ETHER / SIX / IPv6ExtHdrFragment(m=1) / UDP_53,
        {**IPV6, "ip_proto": 17, "ip_frag": 1, "ipv6_exthdr": FRAG},
    ),
    "reserved bits of an ipv6 fragment": (
        ETHER / SIX / IPv6ExtHdrFragment(res2=1) / UDP_53,
        {**IPV6, "ip_proto": 17, "ip_frag": 1, "ipv6_exthdr": FRAG},
    ),
    "later ipv6 fragment": (
        ETHER / SIX / IPv6ExtHdrHopByHop() / IPv6ExtHdrFragment(nh=0, offset=1) / UDP_53,
        {**IPV6, "ip_proto": 44, "ip_frag": 3, "ipv6_exthdr": HOP | FRAG},
    ),
    "icmpv6": (ETHER / SIX / ICMPv6EchoRequest(), {**IPV6, "ip_proto": 58, "tp_src": 128}),
    "icmpv6 of 7 bytes": (
        ETHER / IPv6(src="fd00::1", dst="fd00::2", nh=58) / Raw(b"\x87" * 7),
        {**ADDRESSES_6, "ip_proto": 58},
    ),
    "neighbour solicitation": (
        ETHER / SIX / ICMPv6ND_NS(tgt=TARGET) / SOURCE,
        {**IS_SOLICIT, **HAS_TARGET, "arp_sha": 0x020000000008},
    ),
    "neighbour advertisement": (
        ETHER / SIX / ICMPv6ND_NA(tgt=TARGET) / ICMPv6NDOptMTU() / DESTINATION,
        {**IS_ADVERTISE, **HAS_TARGET, "arp_tha": 0x020000000009},
    ),
    "neighbour discovery with a code": (
        ETHER / SIX / ICMPv6ND_NS(tgt=TARGET, code=1) / SOURCE,
        {**IS_SOLICIT, "tp_dst": 1},
    ),
    "neighbour discovery without options": (ETHER / SIX / ICMPv6ND_NS(tgt=TARGET), {**IS_SOLICIT, **HAS_TARGET}),
    "neighbour discovery whose target is cut off": (
        ETHER / SIX / ICMPv6EchoRequest(type=135, data=bytes(range(15))),
        IS_SOLICIT,
    ),
    "source address twice": (ETHER / SIX / ICMPv6ND_NS(tgt=TARGET) / SOURCE / DESTINATION / SOURCE, IS_SOLICIT),
    "source address of another length": (
        ETHER / SIX / ICMPv6ND_NS(tgt=TARGET) / Raw(b"\x01\x02" + bytes(range(1, 15))) / SOURCE,
        {**IS_SOLICIT, **HAS_TARGET, "arp_sha": 0x020000000008},
    ),
    "option of no length": (
        ETHER / SIX / ICMPv6ND_NS(tgt=TARGET) / SOURCE / Raw(b"\x02" + bytes(7)) / DESTINATION,
        {**IS_SOLICIT, **HAS_TARGET, "arp_sha": 0x020000000008},
    ),
    "option cut off": (
        ETHER / SIX / ICMPv6ND_NS(tgt=TARGET) / SOURCE / Raw(b"\x02\x01" + bytes(range(1, 6))),
        {**IS_SOLICIT, **HAS_TARGET, "arp_sha": 0x020000000008},
    ),
    "8th option": (
        ETHER / SIX / ICMPv6ND_NS(tgt=TARGET) / Raw(bytes(ICMPv6NDOptMTU()) * 7) / SOURCE / DESTINATION,
        {**IS_SOLICIT, **HAS_TARGET, "arp_sha": 0x020000000008},
    ),
}


def fields(members: dict[str, int]) -> dict[str, int]:
    """The fields of a key with these members."""
    return {field.name: members.get(field.member, 0) >> field.shift & field.full for field in FIELDS if field.member}


@pytest.mark.parametrize(("frame", "expected"), CASES.values(), ids=CASES.keys())
def test_parse(frame: Packet | bytes, expected: dict[str, int]) -> None:
    assert parse(bytes(frame), IN_PORT, 3 << 62) == fields({**expected, "in_port": IN_PORT, "metadata": 3 << 62})


EXTENSION_BITS = {
    "U": 0,
    "N": NONEXT,
    "E": ESP,
    "H": HOP,
    "HDRFAE": HOP | DEST | ROUTER | FRAG | AUTH | ESP,
    "HDRFADN": HOP | DEST | ROUTER | FRAG | AUTH | NONEXT,
    "DD": DEST,
    "DDD": DEST | UNREP,
    "RD": ROUTER | DEST,
    "RDD": ROUTER | DEST | UNREP,
    "DRD": ROUTER | DEST,
    "DFE": DEST | FRAG | ESP,
    "RDE": ROUTER | DEST | ESP | UNSEQ,
    "DDR": ROUTER | DEST | UNSEQ,
    "RR": ROUTER | UNREP,
    "RFR": ROUTER | FRAG | UNREP | UNSEQ,
    "FR": ROUTER | FRAG | UNSEQ,
    "AF": AUTH | FRAG | UNSEQ,
    "HH": HOP | UNREP,
    "RH": ROUTER | UNSEQ,
    "RHH": ROUTER | UNREP | UNSEQ,
}


@pytest.mark.parametrize(("kinds", "bits"), EXTENSION_BITS.items(), ids=EXTENSION_BITS)
def test_extension_header_bits(kinds: str, bits: int) -> None:
    headers = parse(bytes(chain(kinds)), IN_PORT)
    assert headers is not None
    assert headers["ipv6_exthdr"] == bits


OFFSETS: dict[str, tuple[Packet | bytes, Offsets]] = {
    "tcp": (ETHER / ip() / TCP_80, Offsets(14, 34, 0x0800, 0)),
    "vlan and options": (
        ETHER / Dot1Q() / ip(options=[IPOption_Router_Alert()]) / ICMP(),
        Offsets(18, 42, 0x0800, 1),
    ),
    "qinq": (ETHER / Dot1AD() / Dot1Q() / ip() / UDP_53, Offsets(22, 42, 0x0800, 2)),
    "three tags": (ETHER / Dot1Q() / Dot1Q() / Dot1Q() / ip(), Offsets(22, 0, 0x8100, 2)),
    "snap": (Dot3(dst=ETHER.dst) / LLC() / SNAP(OUI=0, code=0x0800) / ip() / UDP_53, Offsets(22, 42, 0x0800, 0)),
    "first fragment": (ETHER / ip(flags="MF") / UDP_53, Offsets(14, 0, 0x0800, 0)),
    "udp cut off": (ETHER / ip(proto=17) / Raw(bytes(7)), Offsets(14, 0, 0x0800, 0)),
    "unknown protocol": (ETHER / ip(proto=99) / Raw(bytes(40)), Offsets(14, 0, 0x0800, 0)),
    "ipv6 extension headers": (chain("HRD"), Offsets(14, 78, 0x86DD, 0)),
    "arp": (arp(), Offsets(14, 0, 0x0806, 0)),
    "802.3": (TAGGED + bytes(20), Offsets(14, 0, 0x05FF, 0)),
}


@pytest.mark.parametrize(("frame", "expected"), OFFSETS.values(), ids=OFFSETS.keys())
def test_offsets(frame: Packet | bytes, expected: Offsets) -> None:
    assert offsets(bytes(frame)) == expected


@pytest.mark.parametrize("length", [0, 1, 13])
def test_a_runt_has_no_headers(length: int) -> None:
    assert parse(bytes(ETHER / ip() / TCP_80)[:length], IN_PORT) is None


@given(frames(), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
def test_every_header_field_has_a_value_that_fits(frame: bytes, in_port: int, metadata: int) -> None:
    headers = parse(frame, in_port, metadata)
    assert headers is not None
    assert list(headers) == [field.name for field in FIELDS if field.name != "filter_prog"]
    assert all(0 <= headers[field.name] <= field.full for field in FIELDS if field.name in headers)


# The eth_type and ip_proto that the first word of a line stands for.
OVS_PROTOCOLS = {
    "ip": (0x0800, None),
    "icmp": (0x0800, 1),
    "tcp": (0x0800, 6),
    "udp": (0x0800, 17),
    "sctp": (0x0800, 132),
    "igmp": (0x0800, 2),
    "arp": (0x0806, None),
    "rarp": (0x8035, None),
    "mpls": (0x8847, None),
    "mplsm": (0x8848, None),
    "ipv6": (0x86DD, None),
    "icmp6": (0x86DD, 58),
    "tcp6": (0x86DD, 6),
    "udp6": (0x86DD, 17),
    "sctp6": (0x86DD, 132),
}
OVS_NUMBERS = {
    "nw_proto": "ip_proto", "arp_op": "arp_op", "ipv6_label": "ipv6_label", "tp_src": "tp_src", "tp_dst": "tp_dst",
    "icmp_type": "tp_src", "icmp_code": "tp_dst",
}  # fmt: skip
OVS_ADDRESSES = {
    "dl_src": "eth_src", "dl_dst": "eth_dst", "arp_sha": "arp_sha", "arp_tha": "arp_tha", "nd_sll": "arp_sha",
    "nd_tll": "arp_tha", "nw_src": "ipv4_src", "nw_dst": "ipv4_dst", "arp_spa": "ipv4_src", "arp_tpa": "ipv4_dst",
    "ipv6_src": "ipv6_src", "ipv6_dst": "ipv6_dst", "nd_target": "nd_target",
}  # fmt: skip
OVS_TCP_FLAGS = ("fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns")
OF_TRANSPORT = {"tp_src", "tp_dst", "tcp_flags", "nd_target", "arp_sha", "arp_tha"}
OVS_DOES_NOT_TELL = {"ipv6_exthdr"}
OF_NEIGHBOUR_DISCOVERY = {field.name for field in FIELDS if field.member in ("nd_target", "arp_sha", "arp_tha")}
"""Open vSwitch reads them over IPv4 too, but does not print them."""


def ovs_address(text: str) -> int:
    if "." in text and ":" not in text:
        return int(IPv4Address(text))
    return int(text.replace(":", ""), 16) if re.fullmatch("(..:){5}..", text) else int(IPv6Address(text))


def ovs_tcp_flag(text: str) -> int:
    return 1 << OVS_TCP_FLAGS.index(text) if text in OVS_TCP_FLAGS else int(text.strip("[]"), 16)


def as_ovs(line: str) -> dict[str, int]:
    """The fields that a line of ``ovs-ofctl parse-pcap`` tells of, as OpenFlow rules see them."""
    words = {name: value for name, _, value in (word.partition("=") for word in line.split(","))}
    protocol = next((word for word in words if word in OVS_PROTOCOLS), None)
    eth_type, proto = OVS_PROTOCOLS[protocol] if protocol else (int(words["dl_type"], 16), None)
    key = {"eth_type": eth_type, "ip_proto": proto or 0}
    key |= {member: int(words[name], 0) for name, member in OVS_NUMBERS.items() if name in words}
    for name, member in OVS_ADDRESSES.items():
        if name in words:
            key[member] = ovs_address(words[name])
    if "dl_vlan" in words:
        key["vlan_tci"] = 0x1000 | int(words["dl_vlan"]) | int(words["dl_vlan_pcp"]) << 13
    if "nw_tos" in words:
        key["ip_tos"] = int(words["nw_tos"]) | int(words["nw_ecn"])
    if "mpls_label" in words:
        label, tc, bos = (int(words[f"mpls_{name}"]) for name in ("label", "tc", "bos"))
        key["mpls_lse"] = label << 12 | tc << 9 | bos << 8
    if "tcp_flags" in words:
        key["tcp_flags"] = sum(ovs_tcp_flag(text) for text in words["tcp_flags"].split("|"))
    if words.get("nw_frag", "no") != "no":
        key["ip_frag"] = {"first": 1, "later": 3}[words["nw_frag"]]
        key = {name: value for name, value in key.items() if name not in OF_TRANSPORT}
    return fields(key)


@given(st.lists(frames(most_extensions=8, most_options=8), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_open_vswitch_reads_the_same(ovs_ofctl: OvsOfctl, tmp_path: Path, batch: list[bytes]) -> None:
    capture = tmp_path / "frames.pcap"
    records = b"".join(struct.pack("<IIII", 0, 0, len(frame), len(frame)) + frame for frame in batch)
    capture.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + records)
    lines = ovs_ofctl("parse-pcap", capture).stdout.splitlines()
    assert len(lines) == len(batch)
    for frame, line in zip(batch, lines, strict=True):
        ours = {name: value for name, value in (parse(frame, 0) or {}).items() if name not in OVS_DOES_NOT_TELL}
        if (ours["eth_type"], ours["ip_proto"]) == (0x0800, 58):
            ours |= dict.fromkeys(OF_NEIGHBOUR_DISCOVERY, 0)
        theirs = {name: value for name, value in as_ovs(line).items() if name not in OVS_DOES_NOT_TELL}
        assert ours == theirs, f"{frame.hex()}\n{line}"
