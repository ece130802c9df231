"""Frames from header fields: what has the headers of a match, with usual values in all others.

Lengths are right, and so are the checksums of IPv4, TCP, UDP, ICMP and ICMPv6 (RFC 1071).
"""

from __future__ import annotations

import struct
from typing import Final

from oko.errors import BadMatch
from oko.flow.fields import (
    ETH_TYPE_ARP,
    ETH_TYPE_IPV4,
    ETH_TYPE_IPV6,
    IP_PROTO_ICMP,
    IP_PROTO_ICMPV6,
    IP_PROTO_TCP,
    IP_PROTO_UDP,
)
from oko.flow.match import Match

_USUAL: Final = {
    "eth_dst": 0x020000000002,
    "eth_src": 0x020000000001,
    "vlan_vid": 0,
    "vlan_pcp": 0,
    "eth_type": 0xFFFF,
    "ip_dscp": 0,
    "ip_ecn": 0,
    "ip_proto": 0xFD,  # for experiments (RFC 3692)
    "ipv4_src": 0x0A000001,
    "ipv4_dst": 0x0A000002,
    "ipv6_src": 0xFD000000_00000000_00000000_00000001,
    "ipv6_dst": 0xFD000000_00000000_00000000_00000002,
    "ipv6_flabel": 0,
    "tcp_src": 51000,
    "tcp_dst": 80,
    "tcp_flags": 0x10,  # ACK
    "udp_src": 51000,
    "udp_dst": 53,
    "icmpv4_type": 8,  # echo
    "icmpv4_code": 0,
    "icmpv6_type": 128,  # echo
    "icmpv6_code": 0,
    "arp_op": 1,
    "arp_spa": 0x0A000001,
    "arp_tpa": 0x0A000002,
    "arp_sha": 0x020000000001,
    "arp_tha": 0,
}
"""The fields that a frame can be made of, with what they are unless the match says otherwise."""

_TPID: Final = 0x8100
_TTL: Final = 64
_WINDOW: Final = 65535
_TCP_WORDS: Final = 5
_CHECKSUM_AT: Final = {IP_PROTO_TCP: 16, IP_PROTO_UDP: 6, IP_PROTO_ICMP: 2, IP_PROTO_ICMPV6: 2}
"""By protocol, the offset of the checksum in the transport header."""


def build_frame(match: Match, payload: bytes = b"") -> bytes:
    """The frame, without FCS and padding. Raises BadMatch for a condition that a frame cannot be made of."""
    fields = dict(_USUAL)
    for condition in match.conditions:
        name = condition.field.name
        if name not in _USUAL:
            raise BadMatch(f"{name}: no frame is made of that field: write the frame with hex")
        if not condition.exact:
            raise BadMatch(f"{name}: a frame has one value there: leave the mask out")
        fields[name] = condition.value
    is_tagged = any(condition.field.name in ("vlan_vid", "vlan_pcp") for condition in match.conditions)
    return _ethernet(fields, is_tagged=is_tagged and fields["vlan_vid"] != 0) + _network(fields, payload)


def _ethernet(fields: dict[str, int], *, is_tagged: bool) -> bytes:
    tag = struct.pack(">HH", _TPID, fields["vlan_pcp"] << 13 | fields["vlan_vid"] & 0x0FFF) if is_tagged else b""
    addresses = fields["eth_dst"].to_bytes(6, "big") + fields["eth_src"].to_bytes(6, "big")
    return addresses + tag + struct.pack(">H", fields["eth_type"])


def _network(fields: dict[str, int], payload: bytes) -> bytes:
    tos = fields["ip_dscp"] << 2 | fields["ip_ecn"]
    protocol = fields["ip_proto"]
    match fields["eth_type"]:
        case t if t == ETH_TYPE_ARP:
            head = struct.pack(">HHBBH", 1, ETH_TYPE_IPV4, 6, 4, fields["arp_op"])
            sender = fields["arp_sha"].to_bytes(6, "big") + fields["arp_spa"].to_bytes(4, "big")
            return head + sender + fields["arp_tha"].to_bytes(6, "big") + fields["arp_tpa"].to_bytes(4, "big") + payload
        case t if t == ETH_TYPE_IPV4:
            addresses = fields["ipv4_src"].to_bytes(4, "big") + fields["ipv4_dst"].to_bytes(4, "big")
            content = _transport(fields, protocol, addresses, payload)
            length = 20 + len(content)
            header = bytearray(struct.pack(">BBHIBBH", 0x45, tos, length, 0, _TTL, protocol, 0) + addresses)
            struct.pack_into(">H", header, 10, _checksum(header))
            return bytes(header) + content
        case t if t == ETH_TYPE_IPV6:
            addresses = fields["ipv6_src"].to_bytes(16, "big") + fields["ipv6_dst"].to_bytes(16, "big")
            content = _transport(fields, protocol, addresses, payload)
            first = 6 << 28 | tos << 20 | fields["ipv6_flabel"]
            return struct.pack(">IHBB", first, len(content), protocol, _TTL) + addresses + content
    return payload


def _transport(fields: dict[str, int], protocol: int, addresses: bytes, payload: bytes) -> bytes:
    match protocol:
        case t if t == IP_PROTO_TCP:
            flags = _TCP_WORDS << 12 | fields["tcp_flags"]
            header = struct.pack(">HHIIHHI", fields["tcp_src"], fields["tcp_dst"], 0, 0, flags, _WINDOW, 0)
        case t if t == IP_PROTO_UDP:
            header = struct.pack(">HHHH", fields["udp_src"], fields["udp_dst"], 8 + len(payload), 0)
        case t if t == IP_PROTO_ICMP:
            header = struct.pack(">BBHI", fields["icmpv4_type"], fields["icmpv4_code"], 0, 0)
        case t if t == IP_PROTO_ICMPV6:
            header = struct.pack(">BBHI", fields["icmpv6_type"], fields["icmpv6_code"], 0, 0)
        case _:
            return payload
    content = bytearray(header + payload)
    covered = b"" if protocol == IP_PROTO_ICMP else addresses + struct.pack(">II", len(content), protocol)
    checksum = _checksum(covered + content)
    if protocol == IP_PROTO_UDP and checksum == 0:
        checksum = 0xFFFF  # 0 says that there is none (RFC 768)
    struct.pack_into(">H", content, _CHECKSUM_AT[protocol], checksum)
    return bytes(content)


def _checksum(data: bytes | bytearray) -> int:
    padded = bytes(data) + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF ^ total
