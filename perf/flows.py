"""The flows of a load whose frames can be told apart: their frames, matches that they meet, and digests."""

from __future__ import annotations

from typing import Final

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from oko.errors import OkoError

FLOWS: Final = 32

SIZE: Final = 104
"""Bytes of a frame without its stamp."""

STAMP: Final = 8
"""Bytes at the end of every frame: its number, in the host's order."""

BEACON: Final = 0x88B5
"""The ethertype of flow 0, which is to arrive at every port: local experimental ethertype 1, IEEE 802."""

MATCHES: Final = (
    "",
    "ip",
    "ip",
    "ipv6",
    "arp",
    "udp",
    "tcp",
    "icmp",
    "mpls",
    "dl_vlan=5",
    "dl_vlan=5,ip",
    "dl_src=02:00:00:00:01:00/ff:ff:ff:ff:ff:f8",
    "dl_src=02:00:00:00:01:08/ff:ff:ff:ff:ff:f8",
    "dl_src=02:00:00:00:01:10/ff:ff:ff:ff:ff:f0",
    "dl_dst=02:00:00:00:02:00/ff:ff:ff:ff:ff:00",
    "metadata=1/1",
    "metadata=2/2",
    "ip,nw_src=10.0.0.0/30",
    "ip,nw_src=10.0.0.0/29",
    "ip,nw_dst=10.1.0.0/16",
    "ip,nw_dst=10.1.0.1",
    "ip,nw_dst=10.9.0.0/16",
    "ip,nw_frag=no",
    "tcp,tcp_flags=0x2/0x2",
    "ipv6,ipv6_src=2001:db8::/64",
    "udp6,tp_dst=2000",
    *(f"dl_src=02:00:00:00:01:{flow:02x}" for flow in range(1, FLOWS, 3)),
    *(f"udp,tp_dst={port}" for port in (5, 2000, 2001)),
    *(f"udp,nw_src=10.0.0.{host},tp_dst={2000 + host % 2}" for host in range(1, 7)),
    *(f"tcp,nw_dst=10.1.0.{host},tp_src=1000" for host in range(1, 4)),
)
"""What rules look for, in the syntax of ovs-ofctl."""

_WORD: Final = (1 << 32) - 1


def frames() -> tuple[bytes, ...]:
    """One frame of each flow, without its stamp: it ends STAMP bytes earlier than its headers say."""
    udp = [IP(src=f"10.0.0.{n}", dst=f"10.1.0.{n % 3 + 1}") / UDP(sport=1000 + n, dport=2000 + n % 2) for n in range(9)]
    tcp = [
        IP(src=f"10.0.0.{n}", dst=f"10.1.0.{n}") / TCP(sport=1000, dport=80 + n, flags="S" if n % 2 else "A")
        for n in range(1, 7)
    ]
    tagged = [
        Dot1Q(vlan=5, prio=3) / udp[1],
        Dot1Q(vlan=5) / tcp[1],
        Dot1Q(vlan=6) / Dot1Q(vlan=7) / udp[2],
        Dot1Q(vlan=5) / IPv6(src="2001:db8::5", dst="2001:db8::6") / UDP(sport=1, dport=2000),
    ]
    six = [IPv6(src=f"2001:db8::{n}", dst="2001:db8::9") / UDP(sport=n, dport=2000 + n) for n in range(3)]
    six += [IPv6(src="2001:db8:0:1::1", dst="2001:db8::9") / TCP(sport=7, dport=80)]
    others = [
        IPv6(src="2001:db8::1", dst="2001:db8::9") / ICMPv6EchoRequest(),
        IP(src="10.0.0.1", dst="10.1.0.1") / ICMP(),
        ARP(op=1, psrc="10.0.0.1", pdst="10.1.0.1"),
        ARP(op=2, psrc="10.1.0.1", pdst="10.0.0.1"),
        IP(src="10.0.0.3", dst="10.1.0.1", ttl=1) / UDP(sport=9, dport=2000),
        IP(src="10.0.0.2", dst="10.1.0.2", flags="MF") / UDP(sport=9, dport=2000),
        IP(src="10.0.0.2", dst="10.1.0.2", frag=40, proto=17),
    ]
    bodies = [*udp, *tcp, *tagged, *six, *others]
    made = [_padded(Ether(src=_source(0), dst="02:00:00:00:00:02", type=BEACON))]
    made += [
        _padded(Ether(src=_source(number), dst="02:00:00:00:00:02") / body) for number, body in enumerate(bodies, 1)
    ]
    label = (1000 << 12 | 1 << 8 | 64).to_bytes(4, "big")
    mpls = _padded(Ether(src=_source(len(made)), dst="02:00:00:00:00:02", type=0x8847) / Raw(label) / udp[3])
    return (*made, mpls)


def digest(frame: bytes) -> int:
    """What ``stamped.c`` makes of the frame, which is a number of words of 32 bits long. `frame` has no stamp."""
    value = 0x811C9DC5
    for start in range(0, len(frame), 4):
        value = (value ^ int.from_bytes(frame[start : start + 4], "little")) * 0x9E3779B1 & _WORD
        value ^= value >> 15
    return value | 1


def _source(flow: int) -> str:
    return f"02:00:00:00:01:{flow:02x}"


def _padded(packet: Packet) -> bytes:
    """The packet with its headers' lengths such that it fills the frame, or, of one that has no lengths, padding."""
    missing = SIZE + STAMP - len(packet)
    made = bytes(packet / Raw(bytes(missing)))
    if len(made) != SIZE + STAMP:
        raise OkoError(f"a frame of {len(made)} bytes: {SIZE + STAMP} are sent")
    return made[:SIZE]
