"""The header fields of a packet, read in plain Python: what bpf_programs/runtime/parser.c does, said again.

The rules are Open vSwitch's (its flow extraction), for the fields of `FIELDS`:

- At most two tags (TPID 0x8100 or 0x88a8) are skipped, or one if the VLAN limit says so; the TPID of the next, or of
  one that the frame cuts off, is the eth_type. The VLAN fields are those of the outermost tag.
- A type below 0x0600 is an 802.3 length. Behind it LLC/SNAP with organisation 0 carries an eth_type; anything else
  reads as 0x05ff, as OpenFlow 1.0 (section 3.4) has it.
- Of MPLS the outermost label entry is read, without its TTL, and nothing below it.
- ARP and RARP are read if they are about Ethernet and IPv4. An operation beyond 255 reads as 0.
- An IPv4 header is read if it lies within the frame and its lengths agree. Version and checksum are not looked at.
- An IPv6 header is read if it and the payload lie within the frame. At most `MAX_EXTENSIONS` extension headers are
  walked over; whatever the next one is, it is then the ip_proto and nothing behind it is read (Open vSwitch walks on).
  If an extension header is cut off, only the addresses are read.
- Of a fragment, the first too, nothing behind the IP header is read: what Open vSwitch does when it handles fragments
  the "normal" way (OFPC_FRAG_NORMAL). The ip_proto of a later IPv6 fragment is 44.
- Transport headers are read if they (TCP: with the options) lie within the IP packet: Ethernet padding is no part of
  it. Which version of IP is below makes no difference.
- Link-layer addresses of neighbour discovery are looked for in the first `MAX_ND_OPTIONS` options. An address that
  comes twice makes all fields of neighbour discovery zero.
- What is not there reads as zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from oko.flow.fields import (
    ETH_TYPE_ARP,
    ETH_TYPE_IPV4,
    ETH_TYPE_IPV6,
    ETH_TYPE_MPLS,
    ETH_TYPE_MPLS_MULTICAST,
    FIELDS,
    FRAGMENT_ANY,
    FRAGMENT_LATER,
    IP_PROTO_ICMP,
    IP_PROTO_ICMPV6,
    IP_PROTO_SCTP,
    IP_PROTO_TCP,
    IP_PROTO_UDP,
    ND_ADVERTISE,
    ND_SOLICIT,
    VLAN_PRESENT,
)

ETH_HEADER: Final = 14
"""Bytes of an untagged Ethernet header; a shorter frame is a runt."""
TAG: Final = 4
MAX_TAGS: Final = 2
TPIDS: Final = frozenset((0x8100, 0x88A8))

ETH_TYPE_RARP: Final = 0x8035
ETH_TYPE_MIN: Final = 0x0600
"""Values below are lengths (IEEE 802.3, 3.2.6)."""
ETH_TYPE_NONE: Final = 0x05FF
"""The eth_type of an 802.3 frame that names none (OpenFlow 1.0, 3.4: OFP_DL_TYPE_NOT_ETH_TYPE)."""
SNAP: Final = bytes.fromhex("aaaa03000000")
"""LLC for SNAP, then organisation 0: a 16-bit eth_type follows (RFC 1042)."""

LABEL_ENTRY: Final = 4
ARP_PACKET: Final = 28
ARP_OVER_ETHERNET: Final = bytes.fromhex("0001 0800 0604")
"""Hardware and protocol type and their address lengths, of Ethernet and IPv4 (RFC 826)."""

IPV4_HEADER: Final = 20
MORE_FRAGMENTS: Final = 0x2000
FRAGMENT_OFFSET: Final = 0x1FFF

IPV6_HEADER: Final = 40
MAX_EXTENSIONS: Final = 8
LEAST_EXTENSION: Final = 8
HOP_BY_HOP: Final = 0
ROUTING: Final = 43
FRAGMENT: Final = 44
ESP: Final = 50
AUTHENTICATION: Final = 51
NO_NEXT_HEADER: Final = 59
DESTINATION: Final = 60
WALKED: Final = frozenset((HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION))
"""The extension headers that are walked over; another header ends the walk."""

PREFERRED_ORDER: Final = (
    HOP_BY_HOP, DESTINATION, ROUTING, FRAGMENT, AUTHENTICATION, ESP, DESTINATION, NO_NEXT_HEADER,
)  # fmt: skip
"""The order of extension headers (RFC 8200, 4.1)."""
EXTENSION_BITS: Final = {
    NO_NEXT_HEADER: 1 << 0,
    ESP: 1 << 1,
    AUTHENTICATION: 1 << 2,
    DESTINATION: 1 << 3,
    FRAGMENT: 1 << 4,
    ROUTING: 1 << 5,
    HOP_BY_HOP: 1 << 6,
}
"""The bits of ipv6_exthdr (OpenFlow 1.3.5, 7.2.3.8: OFPIEH_NONEXT to OFPIEH_HOP)."""
REPEATED: Final = 1 << 7
"""OFPIEH_UNREP: more than one of a header, where the preferred order has one."""
OUT_OF_ORDER: Final = 1 << 8
"""OFPIEH_UNSEQ: not in the preferred order."""

TCP_HEADER: Final = 20
TCP_FLAGS: Final = 0x0FFF
L4_HEADER: Final = {
    IP_PROTO_TCP: TCP_HEADER, IP_PROTO_UDP: 8, IP_PROTO_SCTP: 12, IP_PROTO_ICMP: 8, IP_PROTO_ICMPV6: 8,
}  # fmt: skip
"""The least bytes of a transport header, by ip_proto."""

ND_TARGET: Final = 16
ND_OPTION_UNIT: Final = 8
MAX_ND_OPTIONS: Final = 8
ND_LINK_ADDRESSES: Final = {1: "arp_sha", 2: "arp_tha"}
"""The member that holds the address of a source or target link-layer option (RFC 4861, 4.6.1), by type."""


@dataclass(frozen=True, slots=True)
class Offsets:
    """Where the headers of a frame are. Offsets in bytes from its start.

    `network`: what follows the eth_type, behind the tags and SNAP; `transport`: the header whose ports or type were
    read, 0 if none was; `tags`: how many tags lie between the addresses and the eth_type.
    """

    network: int
    transport: int
    eth_type: int
    tags: int


def parse(frame: bytes, in_port: int, metadata: int = 0, *, vlan_limit: int = MAX_TAGS) -> dict[str, int] | None:
    """The value of every header field of `FIELDS` (all but filter_prog) by name, for a frame that came in by
    `in_port`, when at most `vlan_limit` tags are read; None for a runt (fewer than 14 bytes), which no table ever
    sees."""
    if len(frame) < ETH_HEADER:
        return None
    key = dict.fromkeys((field.member for field in FIELDS if field.member), 0)
    key |= _Reader(frame, vlan_limit).members
    key |= {"in_port": in_port, "metadata": metadata}
    return {field.name: key[field.member] >> field.shift & field.full for field in FIELDS if field.member}


def offsets(frame: bytes) -> Offsets:
    """Where the headers of `frame` are, which must not be a runt."""
    reader = _Reader(frame)
    return Offsets(reader.network, reader.transport, reader.members["eth_type"], reader.tags)


class _Reader:
    """Reads the headers of one frame, from the outermost inwards. `members` are those of the key that were found."""

    def __init__(self, frame: bytes, vlan_limit: int = MAX_TAGS) -> None:
        self._frame = frame
        self._vlan_limit = vlan_limit
        self.members: dict[str, int] = {"eth_dst": self._number(0, 6), "eth_src": self._number(6, 6)}
        self.tags = 0
        self.network = ETH_HEADER
        self.transport = 0
        self._read_link()
        eth_type = self.members["eth_type"]
        if eth_type == ETH_TYPE_IPV4:
            self._read_ipv4()
        elif eth_type == ETH_TYPE_IPV6:
            self._read_ipv6()
        elif eth_type in (ETH_TYPE_ARP, ETH_TYPE_RARP):
            self._read_arp()
        elif eth_type in (ETH_TYPE_MPLS, ETH_TYPE_MPLS_MULTICAST):
            self._read_mpls()

    def _number(self, offset: int, size: int) -> int:
        return int.from_bytes(self._frame[offset : offset + size], "big")

    def _read_link(self) -> None:
        """Tags, the eth_type, and where the network layer starts."""
        while self.tags < self._vlan_limit and self._number(self.network - 2, 2) in TPIDS:
            if len(self._frame) < self.network + TAG:
                break
            if not self.tags:
                self.members["vlan_tci"] = self._number(self.network, 2) | VLAN_PRESENT
            self.network += TAG
            self.tags += 1
        eth_type = self._number(self.network - 2, 2)
        if eth_type < ETH_TYPE_MIN:
            eth_type = ETH_TYPE_NONE
            inner = self.network + len(SNAP)
            if self._frame[self.network : inner] == SNAP and self._number(inner, 2) >= ETH_TYPE_MIN:
                eth_type = self._number(inner, 2)
                self.network = inner + 2
        self.members["eth_type"] = eth_type

    def _read_mpls(self) -> None:
        """The outermost entry of the label stack (RFC 3032, 2.1)."""
        if len(self._frame) >= self.network + LABEL_ENTRY:
            self.members["mpls_lse"] = self._number(self.network, LABEL_ENTRY) & ~0xFF

    def _read_arp(self) -> None:
        """RFC 826, packet format."""
        packet = self._frame[self.network : self.network + ARP_PACKET]
        if len(packet) < ARP_PACKET or not packet.startswith(ARP_OVER_ETHERNET):
            return
        operation = self._number(self.network + 6, 2)
        self.members |= {
            "arp_op": operation if operation <= 0xFF else 0,
            "arp_sha": self._number(self.network + 8, 6),
            "ipv4_src": self._number(self.network + 14, 4),
            "arp_tha": self._number(self.network + 18, 6),
            "ipv4_dst": self._number(self.network + 24, 4),
        }

    def _read_ipv4(self) -> None:
        """RFC 791, 3.1."""
        start = self.network
        left = len(self._frame) - start
        if left < IPV4_HEADER:
            return
        header = (self._frame[start] & 0x0F) * 4
        total = self._number(start + 2, 2)
        if not IPV4_HEADER <= header <= total <= left:
            return
        self.members |= {
            "ip_tos": self._frame[start + 1],
            "ip_proto": self._frame[start + 9],
            "ipv4_src": self._number(start + 12, 4),
            "ipv4_dst": self._number(start + 16, 4),
        }
        fragment = self._number(start + 6, 2)
        if fragment & FRAGMENT_OFFSET:
            self.members["ip_frag"] = FRAGMENT_ANY | FRAGMENT_LATER
        elif fragment & MORE_FRAGMENTS:
            self.members["ip_frag"] = FRAGMENT_ANY
        else:
            self._read_transport(start + header, start + total)

    def _read_ipv6(self) -> None:
        """RFC 8200, section 3."""
        start = self.network
        if len(self._frame) < start + IPV6_HEADER:
            return
        end = start + IPV6_HEADER + self._number(start + 4, 2)
        if len(self._frame) < end:
            return
        self.members |= {"ipv6_src": self._number(start + 8, 16), "ipv6_dst": self._number(start + 24, 16)}
        walk = _ExtensionWalk(self._frame[:end], start + IPV6_HEADER, self._frame[start + 6])
        if walk.is_cut_off:
            return
        first = self._number(start, 4)
        self.members |= {
            "ip_tos": first >> 20 & 0xFF,
            "ipv6_label": first & 0xFFFFF,
            "ip_proto": walk.proto,
            "ip_frag": walk.fragment,
            "ipv6_exthdr": walk.bits,
        }
        if not walk.fragment:
            self._read_transport(walk.offset, end)

    def _read_transport(self, start: int, end: int) -> None:
        """The transport header in the bytes from `start` to `end`, if it is of a known protocol and whole."""
        proto = self.members["ip_proto"]
        if proto not in L4_HEADER or end - start < L4_HEADER[proto]:
            return
        if proto == IP_PROTO_TCP:
            if not TCP_HEADER <= (self._frame[start + 12] >> 4) * 4 <= end - start:
                return
            self.members["tcp_flags"] = self._number(start + 12, 2) & TCP_FLAGS
        self.transport = start
        size = 1 if proto in (IP_PROTO_ICMP, IP_PROTO_ICMPV6) else 2
        self.members["tp_src"] = self._number(start, size)
        self.members["tp_dst"] = self._number(start + size, size)
        is_nd = self.members["tp_src"] in (ND_SOLICIT, ND_ADVERTISE) and not self.members["tp_dst"]
        if proto == IP_PROTO_ICMPV6 and is_nd:
            self._read_neighbour_discovery(start + L4_HEADER[proto], end)

    def _read_neighbour_discovery(self, start: int, end: int) -> None:
        """RFC 4861, 4.3 and 4.4, from the target address on."""
        if end - start < ND_TARGET:
            return
        found = {"nd_target": self._number(start, ND_TARGET)}
        offset = start + ND_TARGET
        for _ in range(MAX_ND_OPTIONS):
            size = self._frame[offset + 1] * ND_OPTION_UNIT if end - offset >= ND_OPTION_UNIT else 0
            if not 0 < size <= end - offset:
                break
            member = ND_LINK_ADDRESSES.get(self._frame[offset])
            if member and size == ND_OPTION_UNIT:
                if found.get(member):
                    return
                found[member] = self._number(offset + 2, 6)
            offset += size
        self.members |= found


class _ExtensionWalk:
    """The walk over the extension headers of an IPv6 packet that ends where `data` ends, from `offset`, where a header
    of the type `proto` is.

    At the end, `offset` and `proto` are of the first header that is not walked over; `fragment` is as in ip_frag and
    `bits` as in ipv6_exthdr. When `is_cut_off`, a header reaches beyond the packet.
    """

    def __init__(self, data: bytes, offset: int, proto: int) -> None:
        self.offset = offset
        self.proto = proto
        self.fragment = 0
        self.bits = 0
        self.is_cut_off = False
        self._places: set[int] = set()
        self._begins_with_hop_by_hop = proto == HOP_BY_HOP
        for _ in range(MAX_EXTENSIONS):
            if self.proto not in WALKED or self._is_later_fragment:
                break
            self._note()
            self._step(data)
            if self.is_cut_off:
                return
        if not self._is_later_fragment:
            self._note()
        if not self._begins_with_hop_by_hop:
            self.bits &= ~EXTENSION_BITS[HOP_BY_HOP]

    @property
    def _is_later_fragment(self) -> bool:
        return bool(self.fragment & FRAGMENT_LATER)

    def _note(self) -> None:
        """Put the header in hand in its place of the preferred order: the second destination options, or the first
        behind another header than the hop-by-hop options, are those of the final destination."""
        if self.proto not in EXTENSION_BITS:
            return
        place = PREFERRED_ORDER.index(self.proto)
        if self.proto == DESTINATION and max(self._places, default=0) >= place:
            place = PREFERRED_ORDER.index(DESTINATION, place + 1)
        self.bits |= EXTENSION_BITS[self.proto]
        if place in self._places:
            self.bits |= REPEATED
        if place < max(self._places, default=0):
            self.bits |= OUT_OF_ORDER
        self._places.add(place)

    def _step(self, data: bytes) -> None:
        """Go behind the header in hand."""
        left = len(data) - self.offset
        if left < LEAST_EXTENSION:
            self.is_cut_off = True
            return
        following, length = data[self.offset : self.offset + 2]
        size = LEAST_EXTENSION
        if self.proto == AUTHENTICATION:
            size = (length + 2) * 4
        elif self.proto != FRAGMENT:
            size = (length + 1) * 8
        if left < size:
            self.is_cut_off = True
            return
        if self.proto == FRAGMENT:
            place = int.from_bytes(data[self.offset + 2 : self.offset + 4], "big")
            if place:
                self.fragment = FRAGMENT_ANY
            if place & ~0x7:
                self.fragment |= FRAGMENT_LATER
                following = FRAGMENT
        self.proto = following
        self.offset += size
