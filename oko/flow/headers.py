"""The header fields of a packet, read in plain Python: what bpf_programs/runtime/parser.c does, said again.

The rules are Open vSwitch's (its flow extraction), cut down to the fields of `FIELDS`:

- At most two tags (TPID 0x8100 or 0x88a8) are skipped; the TPID of a third, or of one that the frame cuts off, is
  the eth_type.
- A type below 0x0600 is an 802.3 length. Behind it LLC/SNAP with organisation 0 carries an eth_type; anything else
  reads as 0x05ff, as OpenFlow 1.0 (section 3.4) has it.
- An IPv4 header is read if it lies within the frame and its lengths agree. Version and checksum are not looked at.
- Ports are read from whole packets and first fragments, if the TCP header (with its options) or UDP header lies
  within the IP packet: Ethernet padding is no part of it.
- What is not there reads as zero.
"""

from __future__ import annotations

from typing import Final

from oko.flow.fields import ETH_TYPE_IPV4, FIELDS, IP_PROTO_TCP, IP_PROTO_UDP

ETH_HEADER: Final = 14
"""Bytes of an untagged Ethernet header; a shorter frame is a runt."""
TAG: Final = 4
MAX_TAGS: Final = 2
TPIDS: Final = frozenset((0x8100, 0x88A8))

ETH_TYPE_MIN: Final = 0x0600
"""Values below are lengths (IEEE 802.3, 3.2.6)."""
ETH_TYPE_NONE: Final = 0x05FF
"""The eth_type of an 802.3 frame that names none (OpenFlow 1.0, 3.4: OFP_DL_TYPE_NOT_ETH_TYPE)."""
SNAP: Final = bytes.fromhex("aaaa03000000")
"""LLC for SNAP, then organisation 0: a 16-bit eth_type follows (RFC 1042)."""

IPV4_HEADER: Final = 20
FRAGMENT_OFFSET: Final = 0x1FFF
L4_HEADER: Final = {IP_PROTO_TCP: 20, IP_PROTO_UDP: 8}
"""The least bytes of a header whose first four are the two ports, by ip_proto."""


def parse(frame: bytes, in_port: int) -> dict[str, int] | None:
    """The value of every header field of `FIELDS` (all but filter_prog) by name, for a frame that came in by
    `in_port`; None for a runt (fewer than 14 bytes), which no table ever sees."""
    if len(frame) < ETH_HEADER:
        return None
    eth_type, payload = _eth_type(frame)
    key = dict.fromkeys((field.member for field in FIELDS if field.member), 0)
    key["in_port"] = in_port
    key["eth_dst"] = _number(frame, 0, 6)
    key["eth_src"] = _number(frame, 6, 6)
    key["eth_type"] = eth_type
    if eth_type == ETH_TYPE_IPV4:
        key.update(_ipv4(frame[payload:]))
    return {field.name: key[field.member] >> field.shift & field.full for field in FIELDS if field.member}


def _eth_type(frame: bytes) -> tuple[int, int]:
    """The eth_type and the offset of what follows the link-layer headers."""
    offset = ETH_HEADER
    for _ in range(MAX_TAGS):
        if _number(frame, offset - 2, 2) in TPIDS and len(frame) >= offset + TAG:
            offset += TAG
    value = _number(frame, offset - 2, 2)
    if value >= ETH_TYPE_MIN:
        return value, offset
    snap = frame[offset : offset + len(SNAP) + 2]
    if len(snap) == len(SNAP) + 2 and snap.startswith(SNAP) and _number(snap, len(SNAP), 2) >= ETH_TYPE_MIN:
        return _number(snap, len(SNAP), 2), offset + len(snap)
    return ETH_TYPE_NONE, offset


def _ipv4(packet: bytes) -> dict[str, int]:
    """Key members of an IPv4 packet (RFC 791, 3.1) with whatever padding follows it; none if it is malformed."""
    if len(packet) < IPV4_HEADER:
        return {}
    header = (packet[0] & 0x0F) * 4
    total = _number(packet, 2, 2)
    if not IPV4_HEADER <= header <= total <= len(packet):
        return {}
    proto = packet[9]
    members = {
        "ip_tos": packet[1],
        "ip_proto": proto,
        "ipv4_src": _number(packet, 12, 4),
        "ipv4_dst": _number(packet, 16, 4),
    }
    later_fragment = _number(packet, 6, 2) & FRAGMENT_OFFSET
    if proto in L4_HEADER and not later_fragment and _whole(proto, packet[header:total]):
        members["tp_src"] = _number(packet, header, 2)
        members["tp_dst"] = _number(packet, header + 2, 2)
    return members


def _whole(proto: int, segment: bytes) -> bool:
    """Whether the header of a TCP segment or UDP datagram lies within it."""
    if len(segment) < L4_HEADER[proto]:
        return False
    return proto != IP_PROTO_TCP or L4_HEADER[proto] <= (segment[12] >> 4) * 4 <= len(segment)


def _number(data: bytes, offset: int, size: int) -> int:
    return int.from_bytes(data[offset : offset + size], "big")
