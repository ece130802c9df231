"""Actions on bytes, against packets that scapy builds as they should be afterwards, checksums and all."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptMTU,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, LLC, SNAP, Dot1AD, Dot1Q, Dot3, Ether
from scapy.packet import Packet, Raw

from oko.flow.fields import BY_NAME, Field
from oko.flow.headers import parse
from oko.flow.rewrite import (
    copy_ttl_in,
    copy_ttl_out,
    dec_mpls_ttl,
    dec_ttl,
    pop_mpls,
    pop_vlan,
    push_mpls,
    push_vlan,
    set_field,
    set_mpls_ttl,
    set_ttl,
)

A, B, C = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c"
MAC_C = 0x02000000000C
V4, V4_BYTES = "198.51.100.77", 0xC633644D
V6 = "2001:db8:1:2:3:4:5:6"
V6_BYTES = 0x20010DB8000100020003000400050006
ETHER = Ether(src=A, dst=B)
SNAP_802_3 = Dot3(src=A, dst=B) / LLC(dsap=0xAA, ssap=0xAA, ctrl=3)
DATA = Raw(b"odd number of bytes")


def ip(**fields: object) -> IP:
    return IP(**{"src": "10.0.0.1", "dst": "10.0.0.2", "ttl": 9, "tos": 0xB9} | fields)


def ip6(**fields: object) -> IPv6:
    return IPv6(**{"src": "2001:db8::1", "dst": "2001:db8::2", "hlim": 9, "tc": 0xB9, "fl": 0xABCDE} | fields)


def tcp(sport: int = 1000, dport: int = 2000) -> Packet:
    return TCP(sport=sport, dport=dport, flags="PA") / DATA


def udp(sport: int = 1000, dport: int = 2000) -> Packet:
    return UDP(sport=sport, dport=dport) / DATA


def solicit(target: str = "fe80::2", lladdr: str = A) -> Packet:
    return ICMPv6ND_NS(tgt=target) / ICMPv6NDOptMTU() / ICMPv6NDOptSrcLLAddr(lladdr=lladdr)


def advertise(lladdr: str = A) -> Packet:
    return ICMPv6ND_NA(tgt="fe80::2") / ICMPv6NDOptDstLLAddr(lladdr=lladdr)


def arp(**fields: object) -> Packet:
    return ETHER / ARP(**{"op": 1, "hwsrc": A, "psrc": "10.0.0.1", "hwdst": B, "pdst": "10.0.0.2"} | fields)


def label(number: int = 77, tc: int = 2, bottom: int = 1, ttl: int = 9) -> MPLS:
    return MPLS(label=number, cos=tc, s=bottom, ttl=ttl)


EXTENSIONS = IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt()

# field, value, the packet before, the packet after
SET: dict[str, tuple[str, int, Packet, Packet]] = {
    "eth_src": ("eth_src", MAC_C, ETHER / ip() / tcp(), Ether(src=C, dst=B) / ip() / tcp()),
    "eth_dst": ("eth_dst", MAC_C, ETHER / ip() / tcp(), Ether(src=A, dst=C) / ip() / tcp()),
    "vlan_vid": (
        "vlan_vid",
        0x1123,
        ETHER / Dot1Q(vlan=5, prio=3, dei=1) / Dot1Q(vlan=6) / ip() / tcp(),
        ETHER / Dot1Q(vlan=0x123, prio=3, dei=1) / Dot1Q(vlan=6) / ip() / tcp(),
    ),
    "vlan_pcp": ("vlan_pcp", 6, ETHER / Dot1AD(vlan=5, prio=3) / ip(), ETHER / Dot1AD(vlan=5, prio=6) / ip()),
    "vlan_vid without a tag": ("vlan_vid", 0x1123, ETHER / ip() / tcp(), ETHER / ip() / tcp()),
    "ip_dscp": ("ip_dscp", 10, ETHER / ip() / tcp(), ETHER / ip(tos=0x29) / tcp()),
    "ip_ecn": ("ip_ecn", 2, ETHER / ip() / tcp(), ETHER / ip(tos=0xBA) / tcp()),
    "ip_dscp of IPv6": ("ip_dscp", 10, ETHER / ip6() / tcp(), ETHER / ip6(tc=0x29) / tcp()),
    "ip_ecn of IPv6": ("ip_ecn", 2, ETHER / ip6() / tcp(), ETHER / ip6(tc=0xBA) / tcp()),
    "ipv4_src, TCP": ("ipv4_src", V4_BYTES, ETHER / ip() / tcp(), ETHER / ip(src=V4) / tcp()),
    "ipv4_dst, UDP": ("ipv4_dst", V4_BYTES, ETHER / ip() / udp(), ETHER / ip(dst=V4) / udp()),
    "ipv4_dst, ICMP": ("ipv4_dst", V4_BYTES, ETHER / ip() / ICMP() / DATA, ETHER / ip(dst=V4) / ICMP() / DATA),
    "ipv4_dst, UDP without checksum": (
        "ipv4_dst",
        V4_BYTES,
        ETHER / ip() / UDP(chksum=0) / DATA,
        ETHER / ip(dst=V4) / UDP(chksum=0) / DATA,
    ),
    "ipv4_src behind options and tags": (
        "ipv4_src",
        V4_BYTES,
        ETHER / Dot1AD() / Dot1Q() / ip(options=[b"\x01" * 8]) / tcp(),
        ETHER / Dot1AD() / Dot1Q() / ip(options=[b"\x01" * 8], src=V4) / tcp(),
    ),
    "ipv4_src behind SNAP": (
        "ipv4_src",
        V4_BYTES,
        SNAP_802_3 / SNAP(code=0x0800) / ip() / tcp(),
        SNAP_802_3 / SNAP(code=0x0800) / ip(src=V4) / tcp(),
    ),
    "ipv4_src of IPv6": ("ipv4_src", V4_BYTES, ETHER / ip6() / tcp(), ETHER / ip6() / tcp()),
    "ipv6_src, TCP": ("ipv6_src", V6_BYTES, ETHER / ip6() / tcp(), ETHER / ip6(src=V6) / tcp()),
    "ipv6_dst, UDP": ("ipv6_dst", V6_BYTES, ETHER / ip6() / udp(), ETHER / ip6(dst=V6) / udp()),
    "ipv6_dst, ICMPv6": (
        "ipv6_dst",
        V6_BYTES,
        ETHER / ip6() / ICMPv6EchoRequest(data=b"abc"),
        ETHER / ip6(dst=V6) / ICMPv6EchoRequest(data=b"abc"),
    ),
    "ipv6_src behind extension headers": (
        "ipv6_src",
        V6_BYTES,
        ETHER / ip6() / EXTENSIONS / tcp(),
        ETHER / ip6(src=V6) / EXTENSIONS / tcp(),
    ),
    "ipv6_dst before a routing header": (
        "ipv6_dst",
        V6_BYTES,
        ETHER / ip6() / IPv6ExtHdrRouting(addresses=["2001:db8::9"], segleft=1) / udp(),
        ETHER / ip6(dst=V6) / IPv6ExtHdrRouting(addresses=["2001:db8::9"], segleft=1) / udp(),
    ),
    "ipv6_flabel": ("ipv6_flabel", 0x54321, ETHER / ip6() / tcp(), ETHER / ip6(fl=0x54321) / tcp()),
    "tcp_src": ("tcp_src", 443, ETHER / ip() / tcp(), ETHER / ip() / tcp(sport=443)),
    "tcp_dst of IPv6": ("tcp_dst", 443, ETHER / ip6() / tcp(), ETHER / ip6() / tcp(dport=443)),
    "udp_src": ("udp_src", 53, ETHER / ip() / udp(), ETHER / ip() / udp(sport=53)),
    "udp_dst of IPv6": ("udp_dst", 53, ETHER / ip6() / EXTENSIONS / udp(), ETHER / ip6() / EXTENSIONS / udp(dport=53)),
    "udp_dst of TCP": ("udp_dst", 53, ETHER / ip() / tcp(), ETHER / ip() / tcp()),
    "icmpv4_type": ("icmpv4_type", 0, ETHER / ip() / ICMP(type=8) / DATA, ETHER / ip() / ICMP(type=0) / DATA),
    "icmpv4_code": (
        "icmpv4_code",
        3,
        ETHER / ip() / ICMP(type=8, code=1) / DATA,
        ETHER / ip() / ICMP(type=8, code=3) / DATA,
    ),
    "icmpv6_type": (
        "icmpv6_type",
        200,
        ETHER / ip6() / ICMPv6EchoRequest(data=b"a"),
        ETHER / ip6() / ICMPv6EchoRequest(type=200, data=b"a"),
    ),
    "icmpv6_code": (
        "icmpv6_code",
        7,
        ETHER / ip6() / ICMPv6EchoRequest(data=b"a"),
        ETHER / ip6() / ICMPv6EchoRequest(code=7, data=b"a"),
    ),
    "ipv6_nd_target": ("ipv6_nd_target", V6_BYTES, ETHER / ip6() / solicit(), ETHER / ip6() / solicit(target=V6)),
    "ipv6_nd_sll": ("ipv6_nd_sll", MAC_C, ETHER / ip6() / solicit(), ETHER / ip6() / solicit(lladdr=C)),
    "ipv6_nd_tll": ("ipv6_nd_tll", MAC_C, ETHER / ip6() / advertise(), ETHER / ip6() / advertise(lladdr=C)),
    "ipv6_nd_tll of a solicitation": ("ipv6_nd_tll", MAC_C, ETHER / ip6() / solicit(), ETHER / ip6() / solicit()),
    "arp_op": ("arp_op", 2, arp(), arp(op=2)),
    "arp_sha": ("arp_sha", MAC_C, arp(), arp(hwsrc=C)),
    "arp_spa": ("arp_spa", V4_BYTES, arp(), arp(psrc=V4)),
    "arp_tha": ("arp_tha", MAC_C, arp(), arp(hwdst=C)),
    "arp_tpa": ("arp_tpa", V4_BYTES, arp(), arp(pdst=V4)),
    "mpls_label": ("mpls_label", 0xFEDCB, ETHER / label() / ip(), ETHER / label(0xFEDCB) / ip()),
    "mpls_tc behind a tag": (
        "mpls_tc",
        5,
        ETHER / Dot1Q(type=0x8847) / label() / ip(),
        ETHER / Dot1Q(type=0x8847) / label(tc=5) / ip(),
    ),
    "tcp_dst under a label": ("tcp_dst", 1, ETHER / label() / ip() / tcp(), ETHER / label() / ip() / tcp()),
}


@pytest.mark.parametrize(("name", "value", "before", "after"), SET.values(), ids=SET)
def test_set_field(name: str, value: int, before: Packet, after: Packet) -> None:
    assert set_field(bytes(before), BY_NAME[name], value) == bytes(after)


WHOLE = ETHER / ip() / tcp()
WHOLE6 = ETHER / ip6() / tcp()

# the action, the packet before, the packet after
MOVES: dict[str, tuple[Callable[[bytes], bytes | None], Packet, Packet]] = {
    "push_vlan": (lambda f: push_vlan(f, 0x8100), WHOLE, ETHER / Dot1Q(vlan=0) / ip() / tcp()),
    "push_vlan on a tag": (
        lambda f: push_vlan(f, 0x88A8),
        ETHER / Dot1Q(vlan=5, prio=3, dei=1) / ip(),
        ETHER / Dot1AD(vlan=5, prio=3, dei=0) / Dot1Q(vlan=5, prio=3, dei=1) / ip(),
    ),
    "pop_vlan": (pop_vlan, ETHER / Dot1AD(vlan=5) / Dot1Q(vlan=6) / ip(), ETHER / Dot1Q(vlan=6) / ip()),
    "pop_vlan of three": (
        pop_vlan,
        ETHER / Dot1Q(vlan=5) / Dot1Q(vlan=6) / Dot1Q(vlan=7) / ip(),
        ETHER / Dot1Q(vlan=6) / Dot1Q(vlan=7) / ip(),
    ),
    "pop_vlan without a tag": (pop_vlan, WHOLE, WHOLE),
    "push_mpls on IPv4": (lambda f: push_mpls(f, 0x8847), WHOLE, ETHER / label(0, 0, 1, 9) / ip() / tcp()),
    "push_mpls on IPv6": (
        lambda f: push_mpls(f, 0x8848),
        WHOLE6,
        Ether(src=A, dst=B, type=0x8848) / label(0, 0, 1, 9) / ip6() / tcp(),
    ),
    "push_mpls on a label": (
        lambda f: push_mpls(f, 0x8847),
        ETHER / label() / ip(),
        ETHER / label(bottom=0) / label() / ip(),
    ),
    "push_mpls on ARP": (lambda f: push_mpls(f, 0x8847), arp(), ETHER / label(0, 0, 1, 64) / arp()[ARP]),
    "push_mpls before a tag": (
        lambda f: push_mpls(f, 0x8847),
        ETHER / Dot1Q(vlan=5) / ip(),
        ETHER / label(0, 0, 1, 9) / Raw(bytes(Dot1Q(vlan=5) / ip())),
    ),
    "pop_mpls": (lambda f: pop_mpls(f, 0x0800), ETHER / label() / ip() / tcp(), WHOLE),
    "pop_mpls behind a tag": (
        lambda f: pop_mpls(f, 0x86DD),
        ETHER / Dot1Q(type=0x8847) / label() / ip6(),
        ETHER / Dot1Q() / ip6(),
    ),
    "pop_mpls of two": (
        lambda f: pop_mpls(f, 0x8847),
        ETHER / label(bottom=0) / label(3) / ip(),
        ETHER / label(3) / ip(),
    ),
    "pop_mpls without a label": (lambda f: pop_mpls(f, 0x0800), WHOLE6, WHOLE6),
    "dec_ttl": (dec_ttl, WHOLE, ETHER / ip(ttl=8) / tcp()),
    "dec_ttl of IPv6": (dec_ttl, WHOLE6, ETHER / ip6(hlim=8) / tcp()),
    "dec_ttl of 2": (dec_ttl, ETHER / ip(ttl=2), ETHER / ip(ttl=1)),
    "dec_ttl of ARP": (dec_ttl, arp(), arp()),
    "dec_ttl under a label": (dec_ttl, ETHER / label() / ip(ttl=1), ETHER / label() / ip(ttl=1)),
    "set_ttl": (lambda f: set_ttl(f, 200), WHOLE, ETHER / ip(ttl=200) / tcp()),
    "set_ttl of IPv6": (lambda f: set_ttl(f, 200), WHOLE6, ETHER / ip6(hlim=200) / tcp()),
    "dec_mpls_ttl": (dec_mpls_ttl, ETHER / label() / ip(), ETHER / label(ttl=8) / ip()),
    "dec_mpls_ttl of IP": (dec_mpls_ttl, WHOLE, WHOLE),
    "set_mpls_ttl": (lambda f: set_mpls_ttl(f, 200), ETHER / label() / ip(), ETHER / label(ttl=200) / ip()),
    "copy_ttl_out of IPv4": (copy_ttl_out, ETHER / label(ttl=99) / ip(), ETHER / label() / ip()),
    "copy_ttl_out of IPv6": (copy_ttl_out, ETHER / label(ttl=99) / ip6(), ETHER / label() / ip6()),
    "copy_ttl_out of a label": (
        copy_ttl_out,
        ETHER / label(bottom=0, ttl=99) / label(ttl=3) / ip(),
        ETHER / label(bottom=0, ttl=3) / label(ttl=3) / ip(),
    ),
    "copy_ttl_out without a label": (copy_ttl_out, WHOLE, WHOLE),
    "copy_ttl_in to IPv4": (copy_ttl_in, ETHER / label(ttl=99) / ip(), ETHER / label(ttl=99) / ip(ttl=99)),
    "copy_ttl_in to IPv6": (copy_ttl_in, ETHER / label(ttl=99) / ip6(), ETHER / label(ttl=99) / ip6(hlim=99)),
    "copy_ttl_in to a label": (
        copy_ttl_in,
        ETHER / label(bottom=0, ttl=99) / label(ttl=3) / ip(),
        ETHER / label(bottom=0, ttl=99) / label(ttl=99) / ip(),
    ),
    "copy_ttl_in to what is not IP": (
        copy_ttl_in,
        ETHER / label(ttl=99) / Raw(bytes(60)),
        ETHER / label(ttl=99) / Raw(bytes(60)),
    ),
}


@pytest.mark.parametrize(("action", "before", "after"), MOVES.values(), ids=MOVES)
def test_moves_and_ttls(action: Callable[[bytes], bytes | None], before: Packet, after: Packet) -> None:
    assert action(bytes(before)) == bytes(after)


INVALID: dict[str, tuple[Callable[[bytes], bytes | None], Packet]] = {
    "IPv4, 1": (dec_ttl, ETHER / ip(ttl=1) / tcp()),
    "IPv4, 0": (dec_ttl, ETHER / ip(ttl=0) / tcp()),
    "IPv6, 1": (dec_ttl, ETHER / ip6(hlim=1) / tcp()),
    "MPLS, 1": (dec_mpls_ttl, ETHER / label(ttl=1) / ip()),
    "MPLS, 0": (dec_mpls_ttl, ETHER / label(ttl=0) / ip()),
}


@pytest.mark.parametrize(("action", "before"), INVALID.values(), ids=INVALID)
def test_an_invalid_ttl(action: Callable[[bytes], bytes | None], before: Packet) -> None:
    assert action(bytes(before)) is None


def test_the_checksum_of_a_first_fragment_is_mended() -> None:
    """That of the whole datagram: put together again, it is right."""
    before, after = (bytes(ip(src=source, flags="MF") / tcp())[20:] for source in ("10.0.0.1", V4))
    frame = bytes(ETHER / ip(flags="MF", proto=6) / Raw(before))
    assert set_field(frame, BY_NAME["ipv4_src"], V4_BYTES)[34:] == after
    extended = bytes(ETHER / ip6() / IPv6ExtHdrFragment(m=1, nh=6) / Raw(bytes(ip6() / tcp())[40:]))
    assert set_field(extended, BY_NAME["ipv6_src"], V6_BYTES)[62:] == bytes(ip6(src=V6) / tcp())[40:]


def test_a_later_fragment_has_nothing_but_the_ip_checksum() -> None:
    before = ETHER / ip(frag=8, proto=6) / Raw(bytes(range(60)))
    after = ETHER / ip(frag=8, proto=6, dst=V4) / Raw(bytes(range(60)))
    assert set_field(bytes(before), BY_NAME["ipv4_dst"], V4_BYTES) == bytes(after)


@pytest.mark.parametrize("fragment", [{"flags": "MF"}, {"frag": 8}], ids=["first", "later"])
def test_ports_of_a_fragment_stay(fragment: dict[str, object]) -> None:
    frame = bytes(ETHER / ip(**fragment) / tcp())
    assert set_field(frame, BY_NAME["tcp_dst"], 443) == frame


def test_a_udp_checksum_that_becomes_0_is_written_as_all_ones() -> None:
    """The checksum with port 0 is the port with which the sum comes out so."""
    frame = bytes(ETHER / ip() / udp(dport=0))
    port = int.from_bytes(frame[40:42], "big")
    after = set_field(frame, BY_NAME["udp_dst"], port)
    assert after == bytes(ETHER / ip() / udp(dport=port))
    assert after[40:42] == b"\xff\xff"


@pytest.mark.parametrize(("layer", "offset"), [(tcp(), 50), (udp(), 40)], ids=["TCP", "UDP"])
def test_a_wrong_checksum_stays_wrong_by_as_much(layer: Packet, offset: int) -> None:
    def off_by(frame: bytes, right: bytes) -> int:
        checksums = (int.from_bytes(data[offset : offset + 2], "big") for data in (frame, right))
        return (next(checksums) - next(checksums)) % 0xFFFF

    right = bytes(ETHER / ip() / layer)
    wrong = bytearray(right)
    wrong[offset] ^= 0x5A
    changed = set_field(bytes(wrong), BY_NAME["ipv4_src"], V4_BYTES)
    assert off_by(changed, bytes(ETHER / ip(src=V4) / layer)) == off_by(bytes(wrong), right) != 0


SETTABLE = [field for field in BY_NAME.values() if field.settable]
PACKETS = (
    WHOLE,
    WHOLE6,
    ETHER / Dot1AD() / Dot1Q() / ip() / udp(),
    ETHER / ip6() / EXTENSIONS / udp(),
    ETHER / ip() / ICMP() / DATA,
    ETHER / ip6() / solicit(),
    ETHER / ip6() / advertise(),
    arp(),
    ETHER / label(bottom=0) / label() / ip(),
)


@settings(max_examples=300)
@given(packet=st.sampled_from(PACKETS), field=st.sampled_from(SETTABLE), data=st.data())
def test_what_was_set_is_read_and_nothing_else_changes(packet: Packet, field: Field, data: st.DataObject) -> None:
    """For any field whose prerequisites hold; and writing the old value back restores every byte."""
    frame = bytes(packet)
    before = parse(frame, 1)
    assert before is not None
    name = field.name
    wanted = BY_NAME[name]
    for need in wanted.prerequisites:
        mask = BY_NAME[need.field].full if need.mask is None else need.mask
        assume(before[need.field] & mask in need.values)
    assume(name != "vlan_vid" or before[name])
    value = data.draw(st.integers(1, 0xFF if name == "arp_op" else wanted.full))
    after = set_field(frame, wanted, value)
    read = parse(after, 1)
    assert read is not None
    # Type and code are what makes a message one of neighbour discovery.
    loose = (
        {"ipv6_nd_target", "ipv6_nd_sll", "ipv6_nd_tll", "arp_sha", "arp_tha"} if name.startswith("icmpv6") else set()
    )
    same_member = {other.name for other in BY_NAME.values() if other.member == wanted.member}
    changed = {other for other in read if read[other] != before[other]} - loose
    expected = value | 0x1000 if name == "vlan_vid" else value
    assert read[name] == expected
    assert changed <= same_member
    assert set_field(after, wanted, before[name]) == frame


@pytest.mark.parametrize("packet", PACKETS, ids=[packet.summary() for packet in PACKETS])
def test_a_frame_cut_anywhere_keeps_its_length(packet: Packet) -> None:
    whole = bytes(packet)
    for length in range(14, len(whole)):
        for field in SETTABLE:
            assert len(set_field(whole[:length], field, field.full)) == length
