"""What actions do to the bytes of a packet, in plain Python: what bpf_programs/runtime/actions.c does, said again.

Every function takes a frame (at least 14 bytes) and gives the frame as it is afterwards. A frame that has not got what
an action is about, or that cuts it off, stays as it is.

- Checksums are mended, not computed (RFC 1624, equation 3): a wrong one stays wrong by as much. A UDP checksum of 0
  says that there is none and stays; one that becomes 0 is written as 0xffff (RFC 768).
- An IPv4 or IPv6 header is one that lies within the frame, with lengths that agree.
- What reads as 0 because it is in a fragment is not there. But the transport header of a first fragment has the
  checksum over the addresses.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from oko.flow.fields import (
    ETH_TYPE_ARP,
    ETH_TYPE_IPV4,
    ETH_TYPE_IPV6,
    ETH_TYPE_MPLS,
    ETH_TYPE_MPLS_MULTICAST,
    IP_PROTO_ICMP,
    IP_PROTO_ICMPV6,
    IP_PROTO_TCP,
    IP_PROTO_UDP,
    ND_ADVERTISE,
    ND_SOLICIT,
    Field,
)
from oko.flow.headers import (
    ARP_OVER_ETHERNET,
    ARP_PACKET,
    AUTHENTICATION,
    FRAGMENT,
    FRAGMENT_OFFSET,
    IPV4_HEADER,
    IPV6_HEADER,
    L4_HEADER,
    LABEL_ENTRY,
    LEAST_EXTENSION,
    MAX_EXTENSIONS,
    MAX_ND_OPTIONS,
    ND_OPTION_UNIT,
    ND_TARGET,
    ROUTING,
    TPIDS,
    WALKED,
    Offsets,
    offsets,
)

DEFAULT_TTL: Final = 64
"""Of a label that is pushed on a packet without a TTL."""

_ADDRESSES: Final = 12  # bytes of the two Ethernet addresses
_TAG_END: Final = 18  # where the outermost tag ends, with the type behind it
_MPLS_TYPES: Final = (ETH_TYPE_MPLS, ETH_TYPE_MPLS_MULTICAST)
_BOTTOM: Final = 0x100
"""Of a label: there is none below it."""

_ARP_FIELDS: Final = {"arp_op": 6, "arp_sha": 8, "arp_spa": 14, "arp_tha": 18, "arp_tpa": 24}
_ADDRESS_FIELDS: Final = {"ipv4_src": 12, "ipv4_dst": 16, "ipv6_src": 8, "ipv6_dst": 24}
_TRANSPORT_FIELDS: Final = {
    "tcp_src": (IP_PROTO_TCP, 0),
    "tcp_dst": (IP_PROTO_TCP, 2),
    "udp_src": (IP_PROTO_UDP, 0),
    "udp_dst": (IP_PROTO_UDP, 2),
    "icmpv4_type": (IP_PROTO_ICMP, 0),
    "icmpv4_code": (IP_PROTO_ICMP, 1),
    "icmpv6_type": (IP_PROTO_ICMPV6, 0),
    "icmpv6_code": (IP_PROTO_ICMPV6, 1),
}
"""By field, the protocol that has it, and the offset in its header."""
_ND_LINK_LAYER: Final = {"ipv6_nd_sll": (ND_SOLICIT, 1), "ipv6_nd_tll": (ND_ADVERTISE, 2)}
"""By field, the message and the option that have it."""

_CHECKSUMS: Final = {
    (ETH_TYPE_IPV4, IP_PROTO_ICMP): 2,
    (ETH_TYPE_IPV4, IP_PROTO_TCP): 16,
    (ETH_TYPE_IPV4, IP_PROTO_UDP): 6,
    (ETH_TYPE_IPV6, IP_PROTO_ICMPV6): 2,
    (ETH_TYPE_IPV6, IP_PROTO_TCP): 16,
    (ETH_TYPE_IPV6, IP_PROTO_UDP): 6,
}
"""By eth_type and protocol, the offset of the checksum in the transport header."""


@dataclass(frozen=True, slots=True)
class _Transport:
    """A transport header with a checksum: `offset` in the frame, and the offset `end` where the IP packet ends.
    `routed`: a routing header names more places to go to before the destination."""

    proto: int
    offset: int
    end: int
    checksum: int
    routed: bool


def set_field(frame: bytes, field: Field, value: int) -> bytes:
    """The frame with `value` in `field`, which is settable."""
    found = offsets(frame)
    edited = bytearray(frame)
    data = value.to_bytes(field.size, "big")
    at = found.network
    match field.name:
        case "eth_dst":
            _write(edited, 0, data)
        case "eth_src":
            _write(edited, 6, data)
        case "vlan_vid" if _is_tagged(frame):
            _write_bits(edited, 14, 0x0FFF, value)
        case "vlan_pcp" if _is_tagged(frame):
            _write_bits(edited, 14, 0xE000, value << 13)
        case "mpls_label" if _has_label(frame, at):
            _write(edited, at, struct.pack(">H", value >> 4))
            _write_bits(edited, at + 2, 0xF000, value << 12 & 0xF000)
        case "mpls_tc" if _has_label(frame, at):
            _write_bits(edited, at + 2, 0x0E00, value << 9)
        case "ip_dscp" if _is_ipv4(frame, at, found.eth_type):
            _mend(edited, at + 10, _write_bits(edited, at, 0x00FC, value << 2))
        case "ip_ecn" if _is_ipv4(frame, at, found.eth_type):
            _mend(edited, at + 10, _write_bits(edited, at, 0x0003, value))
        case "ip_dscp" if _is_ipv6(frame, at, found.eth_type):
            _write_bits(edited, at, 0x0FC0, value << 6)
        case "ip_ecn" if _is_ipv6(frame, at, found.eth_type):
            _write_bits(edited, at, 0x0030, value << 4)
        case "ipv6_flabel" if _is_ipv6(frame, at, found.eth_type):
            _write_bits(edited, at, 0x000F, value >> 16)
            _write(edited, at + 2, struct.pack(">H", value & 0xFFFF))
        case "ipv4_src" | "ipv4_dst" if _is_ipv4(frame, at, found.eth_type):
            difference = _write(edited, at + _ADDRESS_FIELDS[field.name], data)
            _mend(edited, at + 10, difference)
            transport = _transport(frame, at, found.eth_type)
            if transport is not None and transport.proto != IP_PROTO_ICMP:
                _mend_transport(edited, transport, difference)
        case "ipv6_src" | "ipv6_dst" if _is_ipv6(frame, at, found.eth_type):
            difference = _write(edited, at + _ADDRESS_FIELDS[field.name], data)
            transport = _transport(frame, at, found.eth_type)
            # The checksum covers the last destination, which the routing header has (RFC 8200, 8.1).
            if transport is not None and not (transport.routed and field.name == "ipv6_dst"):
                _mend_transport(edited, transport, difference)
        case "ipv6_nd_target" | "ipv6_nd_sll" | "ipv6_nd_tll":
            transport = _transport(frame, at, found.eth_type)
            if transport is not None and (place := _discovery(frame, found, transport, field.name)):
                _mend_transport(edited, transport, _write(edited, place, data))
        case name if name in _TRANSPORT_FIELDS:
            transport = _transport(frame, at, found.eth_type)
            proto, offset = _TRANSPORT_FIELDS[name]
            if transport is not None and transport.proto == proto and found.transport:
                _mend_transport(edited, transport, _write(edited, transport.offset + offset, data))
        case name if name in _ARP_FIELDS and found.eth_type == ETH_TYPE_ARP and _has_arp(frame, at):
            _write(edited, at + _ARP_FIELDS[name], data)
    return bytes(edited)


def push_vlan(frame: bytes, tpid: int) -> bytes:
    """A new outermost tag, with the VID and PCP of the tag that was outermost, 0 without one."""
    tci = _number(frame, 14) & 0xEFFF if _is_tagged(frame) else 0
    return frame[:_ADDRESSES] + struct.pack(">HH", tpid, tci) + frame[_ADDRESSES:]


def pop_vlan(frame: bytes) -> bytes:
    """Without the outermost tag."""
    return frame[:_ADDRESSES] + frame[_ADDRESSES + 4 :] if _is_tagged(frame) else frame


def push_mpls(frame: bytes, eth_type: int) -> bytes:
    """A new outermost label, right behind the Ethernet addresses: `eth_type` stands where the packet had its type or
    the TPID of its outermost tag, and the label before what followed that."""
    found = offsets(frame)
    if found.network == _ADDRESSES + 2 and _has_label(frame, found.network):
        label = int.from_bytes(frame[14:18], "big") & ~_BOTTOM
    else:
        ttl = _ip_ttl(frame, found.network, found.eth_type)
        label = _BOTTOM | (DEFAULT_TTL if ttl is None else ttl)
    return frame[:_ADDRESSES] + struct.pack(">HI", eth_type, label) + frame[14:]


def pop_mpls(frame: bytes, eth_type: int) -> bytes:
    """Without the outermost label, behind tags or not; what follows is of `eth_type`."""
    at = offsets(frame).network
    if not _has_label(frame, at):
        return frame
    return frame[: at - 2] + struct.pack(">H", eth_type) + frame[at + LABEL_ENTRY :]


def dec_ttl(frame: bytes) -> bytes | None:
    """One less in the TTL or hop limit of an IP packet; None if it is 0 or 1."""
    found = offsets(frame)
    ttl = _ip_ttl(frame, found.network, found.eth_type)
    if ttl is None:
        return frame
    return None if ttl <= 1 else _with_ip_ttl(frame, found.network, found.eth_type, ttl - 1)


def set_ttl(frame: bytes, ttl: int) -> bytes:
    """With this TTL or hop limit in an IP packet."""
    found = offsets(frame)
    if _ip_ttl(frame, found.network, found.eth_type) is None:
        return frame
    return _with_ip_ttl(frame, found.network, found.eth_type, ttl)


def dec_mpls_ttl(frame: bytes) -> bytes | None:
    """One less in the TTL of the outermost label; None if it is 0 or 1."""
    at = offsets(frame).network
    if not _has_label(frame, at):
        return frame
    return None if frame[at + 3] <= 1 else _with_byte(frame, at + 3, frame[at + 3] - 1)


def set_mpls_ttl(frame: bytes, ttl: int) -> bytes:
    """With this TTL in the outermost label."""
    at = offsets(frame).network
    return _with_byte(frame, at + 3, ttl) if _has_label(frame, at) else frame


def copy_ttl_out(frame: bytes) -> bytes:
    """The TTL of the second label, or of the IP header behind the last, goes to the outermost label."""
    at = offsets(frame).network
    if not _has_label(frame, at):
        return frame
    ttl = frame[at + 7] if _has_second_label(frame, at) else _ip_ttl(frame, *_below(frame, at))
    return frame if ttl is None else _with_byte(frame, at + 3, ttl)


def copy_ttl_in(frame: bytes) -> bytes:
    """The TTL of the outermost label goes to the second one, or to the IP header behind the last."""
    at = offsets(frame).network
    if not _has_label(frame, at):
        return frame
    if _has_second_label(frame, at):
        return _with_byte(frame, at + 7, frame[at + 3])
    below = _below(frame, at)
    return frame if _ip_ttl(frame, *below) is None else _with_ip_ttl(frame, *below, frame[at + 3])


# ---- what there is in a frame


def _number(frame: bytes | bytearray, at: int) -> int:
    """The 16 bits at an offset."""
    return int.from_bytes(frame[at : at + 2], "big")


def _is_tagged(frame: bytes) -> bool:
    return _number(frame, _ADDRESSES) in TPIDS and len(frame) >= _TAG_END


def _has_label(frame: bytes, at: int) -> bool:
    """Whether the outermost label is at the offset `at` of what follows the eth_type."""
    return _number(frame, at - 2) in _MPLS_TYPES and len(frame) >= at + LABEL_ENTRY


def _has_second_label(frame: bytes, at: int) -> bool:
    """The same of the label below the one at `at`."""
    return not frame[at + 2] & 1 and len(frame) >= at + 2 * LABEL_ENTRY


def _below(frame: bytes, at: int) -> tuple[int, int]:
    """The offset of what is below the label at `at`, and the eth_type it has if it is an IP header: 0 below any label
    but the last. Nothing but the IP version tells."""
    below = at + LABEL_ENTRY
    version = frame[below] >> 4 if frame[at + 2] & 1 and len(frame) > below else 0
    return below, {4: ETH_TYPE_IPV4, 6: ETH_TYPE_IPV6}.get(version, 0)


def _has_arp(frame: bytes, at: int) -> bool:
    return len(frame) >= at + ARP_PACKET and frame.startswith(ARP_OVER_ETHERNET, at)


def _is_ipv4(frame: bytes, at: int, eth_type: int) -> bool:
    if eth_type != ETH_TYPE_IPV4 or len(frame) < at + IPV4_HEADER:
        return False
    header = (frame[at] & 0x0F) * 4
    return IPV4_HEADER <= header <= _number(frame, at + 2) <= len(frame) - at


def _is_ipv6(frame: bytes, at: int, eth_type: int) -> bool:
    return (
        eth_type == ETH_TYPE_IPV6
        and len(frame) >= at + IPV6_HEADER
        and IPV6_HEADER + _number(frame, at + 4) <= len(frame) - at
    )


def _transport(frame: bytes, at: int, eth_type: int) -> _Transport | None:
    """The transport header of the IP packet at `at`; None if there is none with a checksum, or not the whole header."""
    routed = False
    if _is_ipv4(frame, at, eth_type):
        proto = frame[at + 9]
        offset = at + (frame[at] & 0x0F) * 4
        end = at + _number(frame, at + 2)
        if _number(frame, at + 6) & FRAGMENT_OFFSET:
            return None
    elif _is_ipv6(frame, at, eth_type):
        proto = frame[at + 6]
        offset = at + IPV6_HEADER
        end = offset + _number(frame, at + 4)
        for _ in range(MAX_EXTENSIONS):
            if proto not in WALKED:
                break
            if offset + LEAST_EXTENSION > end:
                return None
            size = (frame[offset + 1] + 1) * 8
            if proto == AUTHENTICATION:
                size = (frame[offset + 1] + 2) * 4
            elif proto == ROUTING:
                routed |= frame[offset + 3] != 0
            elif proto == FRAGMENT:
                size = LEAST_EXTENSION
                if _number(frame, offset + 2) & 0xFFF8:
                    return None
            proto = frame[offset]
            offset += size
    else:
        return None
    checksum = _CHECKSUMS.get((eth_type, proto))
    if checksum is None or offset + L4_HEADER[proto] > end:
        return None
    return _Transport(proto, offset, end, offset + checksum, routed)


def _discovery(frame: bytes, found: Offsets, transport: _Transport, name: str) -> int:
    """The offset of a field of neighbour discovery, an option's in the first that is of its kind; 0 if it is not
    there."""
    message, code = frame[transport.offset : transport.offset + 2]
    target = transport.offset + L4_HEADER[IP_PROTO_ICMPV6]
    option = target + ND_TARGET
    if transport.proto != IP_PROTO_ICMPV6 or not found.transport or code or option > transport.end:
        return 0
    if name == "ipv6_nd_target":
        return target if message in (ND_SOLICIT, ND_ADVERTISE) else 0
    wanted_message, wanted = _ND_LINK_LAYER[name]
    if message != wanted_message:
        return 0
    for _ in range(MAX_ND_OPTIONS):
        if option + ND_OPTION_UNIT > transport.end or not frame[option + 1]:
            return 0
        if frame[option] == wanted and frame[option + 1] == 1:
            return option + 2
        option += frame[option + 1] * ND_OPTION_UNIT
    return 0


# ---- how it is changed


def _write(frame: bytearray, at: int, data: bytes) -> int:
    """Write `data`. Returns by how much the sum of the words changes that it lies in, which are at even offsets: what
    to add to the complement of a checksum over them, always positive (the ~m + m' of RFC 1624)."""
    words = range(at & ~1, at + len(data), 2)
    before = sum(0xFFFF ^ _number(frame, word) for word in words)
    frame[at : at + len(data)] = data
    return before + sum(_number(frame, word) for word in words)


def _write_bits(frame: bytearray, at: int, mask: int, value: int) -> int:
    """Write the bits under `mask` of the word at `at`. Returns as `_write`."""
    word = _number(frame, at) & ~mask | value & mask
    return _write(frame, at, struct.pack(">H", word))


def _mended(checksum: int, difference: int) -> int:
    total = (0xFFFF ^ checksum) + difference
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF ^ total


def _mend(frame: bytearray, at: int, difference: int) -> None:
    struct.pack_into(">H", frame, at, _mended(_number(frame, at), difference))


def _mend_transport(frame: bytearray, transport: _Transport, difference: int) -> None:
    if transport.proto != IP_PROTO_UDP:
        _mend(frame, transport.checksum, difference)
    elif checksum := _number(frame, transport.checksum):
        struct.pack_into(">H", frame, transport.checksum, _mended(checksum, difference) or 0xFFFF)


def _ip_ttl(frame: bytes, at: int, eth_type: int) -> int | None:
    """The TTL or hop limit of the IP header at `at`."""
    if _is_ipv4(frame, at, eth_type):
        return frame[at + 8]
    if _is_ipv6(frame, at, eth_type):
        return frame[at + 7]
    return None


def _with_ip_ttl(frame: bytes, at: int, eth_type: int, ttl: int) -> bytes:
    if eth_type == ETH_TYPE_IPV6:
        return _with_byte(frame, at + 7, ttl)
    edited = bytearray(frame)
    _mend(edited, at + 10, _write(edited, at + 8, bytes((ttl,))))
    return bytes(edited)


def _with_byte(frame: bytes, at: int, value: int) -> bytes:
    return frame[:at] + bytes((value,)) + frame[at + 1 :]
