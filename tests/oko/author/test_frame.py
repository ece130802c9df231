"""Frames from fields: read back they have them, and Scapy finds the same lengths and checksums."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from oko.author.frame import build_frame
from oko.errors import BadMatch
from oko.flow.headers import parse
from oko.flow.match import Match
from oko.flow.match_text import read_match
from oko.flow.words import read_words

MACS = {"src": "02:00:00:00:00:01", "dst": "02:00:00:00:00:02"}
V4 = {"src": "10.0.0.1", "dst": "10.0.0.2"}
V6 = {"src": "fd00::1", "dst": "fd00::2"}


def match(text: str) -> Match:
    return read_match(list(read_words(text, BadMatch)))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param("", Ether(**MACS, type=0xFFFF), id="Ethernet"),
        pytest.param("arp", Ether(**MACS) / ARP(hwsrc=MACS["src"], psrc=V4["src"], pdst=V4["dst"]), id="ARP"),
        pytest.param("ip", Ether(**MACS) / IP(**V4, id=0, proto=0xFD), id="IPv4"),
        pytest.param("ip,nw_proto=47", Ether(**MACS) / IP(**V4, id=0, proto=47), id="GRE"),
        pytest.param(
            "tcp,nw_src=192.0.2.1,tcp_src=1,tcp_dst=2,tcp_flags=syn",
            Ether(**MACS) / IP(src="192.0.2.1", dst=V4["dst"], id=0) / TCP(sport=1, dport=2, flags="S", window=65535),
            id="TCP",
        ),
        pytest.param(
            "tcp,vlan_vid=0x1007,dl_vlan_pcp=3",
            Ether(**MACS)
            / Dot1Q(vlan=7, prio=3)
            / IP(**V4, id=0)
            / TCP(sport=51000, dport=80, flags="A", window=65535),
            id="tagged TCP",
        ),
        pytest.param("udp", Ether(**MACS) / IP(**V4, id=0) / UDP(sport=51000, dport=53), id="UDP"),
        pytest.param("udp6", Ether(**MACS) / IPv6(**V6) / UDP(sport=51000, dport=53), id="UDP over IPv6"),
        pytest.param("icmp", Ether(**MACS) / IP(**V4, id=0) / ICMP(), id="ICMP"),
        pytest.param("icmp6", Ether(**MACS) / IPv6(**V6) / ICMPv6EchoRequest(), id="ICMPv6"),
        pytest.param(
            "ipv6,ipv6_label=0x12345,ip_dscp=10,nw_ecn=1",
            Ether(**MACS) / IPv6(**V6, fl=0x12345, tc=41, nh=0xFD),
            id="IPv6",
        ),
    ],
)
@pytest.mark.parametrize("payload", [b"", b"odd", b"even"])
def test_as_scapy_builds_it(fields: str, expected: Packet, payload: bytes) -> None:
    if payload:
        expected = expected / Raw(payload)
    assert build_frame(match(fields), payload) == bytes(expected)


@given(
    st.sampled_from(("tcp", "udp", "tcp6", "udp6")),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFF),
    st.binary(max_size=9),
)
def test_what_was_asked_for_is_there(protocol: str, source: int, dest: int, vid: int, payload: bytes) -> None:
    word = protocol.removesuffix("6")
    wanted = match(f"{protocol},{word}_src={source},{word}_dst={dest},vlan_vid={0x1000 | vid}")
    found = parse(build_frame(wanted, payload), 1)
    assert {c.field.name: found[c.field.name] for c in wanted.conditions} == {
        c.field.name: c.value for c in wanted.conditions
    }


def test_no_tag() -> None:
    assert build_frame(match("ip,vlan_vid=0")) == build_frame(match("ip"))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ("ip,nw_src=10.0.0.0/8", "ipv4_src: a frame has one value there"),
        ("in_port=1", "in_port: no frame is made of that field"),
        ("ip,ip_frag=later", "ip_frag: no frame is made of that field"),
        ("filter_prog=1", "filter_prog: no frame is made of that field"),
    ],
)
def test_no_frame_is_made_of(fields: str, complaint: str) -> None:
    with pytest.raises(BadMatch, match=complaint):
        build_frame(match(fields))
