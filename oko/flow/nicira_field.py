"""The fields of Open vSwitch's own actions, by the names that these have for them (ovs-fields(7): NXM_*, and OXM_*
where there is no older name): `FIELDS`, declared once, and parts of them.

Most are match fields of `oko.flow.fields`, some are not known there: registers, the state of a connection, a tunnel's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from oko.flow.fields import BY_NAME, Field, Syntax

_D, _H, _V4, _V6 = Syntax.DECIMAL, Syntax.HEX, Syntax.IPV4, Syntax.IPV6


@dataclass(frozen=True, slots=True, eq=False)
class NiciraField:
    """`name` is how it is printed. `oxm_class` and `number` are those of its header in an action of Nicira's; a
    set_field of OpenFlow writes `field`, which may have other ones. `word` is what ovs-ofctl calls it where it is
    matched or set as a whole."""

    name: str
    oxm_class: int
    number: int
    bits: int
    word: str
    field: Field

    @property
    def header(self) -> int:
        """The 32 bits that name it: class, number and the length in bytes."""
        return self.oxm_class << 16 | self.number << 9 | self.field.size


def _of(name: str, oxm_class: int, number: int, field: str, word: str = "", *, bits: int = 0) -> NiciraField:
    """A match field of Oko's, which ovs-ofctl calls `word`, if not as Oko does."""
    known = BY_NAME[field]
    return NiciraField(name, oxm_class, number, bits or known.bits, word or field, known)


def _own(
    name: str,
    oxm_class: int,
    number: int,
    word: str,
    bits: int,
    syntax: Syntax = _H,
    oxm: tuple[int, int] | None = None,
) -> NiciraField:
    """One that Oko does not match; `oxm` are class and number for a set_field, where they are others."""
    return NiciraField(name, oxm_class, number, bits, word, Field(word, *(oxm or (oxm_class, number)), bits, syntax))


_OF, _NX, _OXM, _XREG = 0x0000, 0x0001, 0x8000, 0x8001

FIELDS: Final[tuple[NiciraField, ...]] = (
    _own("NXM_OF_IN_PORT", _OF, 0, "in_port", 16, _D),
    _of("OXM_OF_IN_PORT", _OXM, 0, "in_port", "in_port_oxm"),
    _of("OXM_OF_METADATA", _OXM, 2, "metadata"),
    _of("NXM_OF_ETH_DST", _OF, 1, "eth_dst"),
    _of("NXM_OF_ETH_SRC", _OF, 2, "eth_src"),
    _of("NXM_OF_ETH_TYPE", _OF, 3, "eth_type"),
    _own("NXM_OF_VLAN_TCI", _OF, 4, "vlan_tci", 16),
    _of("OXM_OF_VLAN_VID", _OXM, 6, "vlan_vid", bits=12),
    _of("OXM_OF_VLAN_PCP", _OXM, 7, "vlan_pcp"),
    _own("NXM_OF_IP_TOS", _OF, 5, "nw_tos", 8, _D),
    _of("OXM_OF_IP_DSCP", _OXM, 8, "ip_dscp"),
    _of("NXM_NX_IP_ECN", _NX, 28, "ip_ecn", "nw_ecn"),
    _own("NXM_NX_IP_TTL", _NX, 29, "nw_ttl", 8, _D),
    _of("NXM_OF_IP_PROTO", _OF, 6, "ip_proto", "nw_proto"),
    _of("NXM_NX_IP_FRAG", _NX, 26, "ip_frag"),
    _of("NXM_OF_IP_SRC", _OF, 7, "ipv4_src", "ip_src"),
    _of("NXM_OF_IP_DST", _OF, 8, "ipv4_dst", "ip_dst"),
    _of("NXM_OF_TCP_SRC", _OF, 9, "tcp_src"),
    _of("NXM_OF_TCP_DST", _OF, 10, "tcp_dst"),
    _of("NXM_NX_TCP_FLAGS", _NX, 34, "tcp_flags"),
    _of("NXM_OF_UDP_SRC", _OF, 11, "udp_src"),
    _of("NXM_OF_UDP_DST", _OF, 12, "udp_dst"),
    _of("OXM_OF_SCTP_SRC", _OXM, 17, "sctp_src"),
    _of("OXM_OF_SCTP_DST", _OXM, 18, "sctp_dst"),
    _of("NXM_OF_ICMP_TYPE", _OF, 13, "icmpv4_type", "icmp_type"),
    _of("NXM_OF_ICMP_CODE", _OF, 14, "icmpv4_code", "icmp_code"),
    _of("NXM_OF_ARP_OP", _OF, 15, "arp_op"),
    _of("NXM_OF_ARP_SPA", _OF, 16, "arp_spa"),
    _of("NXM_OF_ARP_TPA", _OF, 17, "arp_tpa"),
    _of("NXM_NX_ARP_SHA", _NX, 17, "arp_sha"),
    _of("NXM_NX_ARP_THA", _NX, 18, "arp_tha"),
    _of("NXM_NX_IPV6_SRC", _NX, 19, "ipv6_src"),
    _of("NXM_NX_IPV6_DST", _NX, 20, "ipv6_dst"),
    _of("NXM_NX_IPV6_LABEL", _NX, 27, "ipv6_flabel", "ipv6_label"),
    _of("NXM_NX_ICMPV6_TYPE", _NX, 21, "icmpv6_type"),
    _of("NXM_NX_ICMPV6_CODE", _NX, 22, "icmpv6_code"),
    _of("NXM_NX_ND_TARGET", _NX, 23, "ipv6_nd_target", "nd_target"),
    _of("NXM_NX_ND_SLL", _NX, 24, "ipv6_nd_sll", "nd_sll"),
    _of("NXM_NX_ND_TLL", _NX, 25, "ipv6_nd_tll", "nd_tll"),
    _of("OXM_OF_MPLS_LABEL", _OXM, 34, "mpls_label"),
    _of("OXM_OF_MPLS_TC", _OXM, 35, "mpls_tc"),
    _of("OXM_OF_MPLS_BOS", _OXM, 36, "mpls_bos"),
    *(_own(f"NXM_NX_REG{number}", _NX, number, f"reg{number}", 32) for number in range(16)),
    *(_own(f"OXM_OF_PKT_REG{number}", _XREG, number, f"xreg{number}", 64) for number in range(8)),
    *(_own(f"NXM_NX_XXREG{number}", _NX, 111 + number, f"xxreg{number}", 128) for number in range(4)),
    _own("NXM_NX_PKT_MARK", _NX, 33, "pkt_mark", 32),
    _own("NXM_NX_TUN_ID", _NX, 16, "tun_id", 64, _H, (_OXM, 38)),
    _own("NXM_NX_TUN_IPV4_SRC", _NX, 31, "tun_src", 32, _V4),
    _own("NXM_NX_TUN_IPV4_DST", _NX, 32, "tun_dst", 32, _V4),
    _own("NXM_NX_TUN_IPV6_SRC", _NX, 109, "tun_ipv6_src", 128, _V6),
    _own("NXM_NX_TUN_IPV6_DST", _NX, 110, "tun_ipv6_dst", 128, _V6),
    _own("NXM_NX_CT_STATE", _NX, 105, "ct_state", 32),
    _own("NXM_NX_CT_ZONE", _NX, 106, "ct_zone", 16),
    _own("NXM_NX_CT_MARK", _NX, 107, "ct_mark", 32),
    _own("NXM_NX_CT_LABEL", _NX, 108, "ct_label", 128),
    _own("NXM_NX_CT_NW_PROTO", _NX, 119, "ct_nw_proto", 8, _D),
    _own("NXM_NX_CT_NW_SRC", _NX, 120, "ct_nw_src", 32, _V4),
    _own("NXM_NX_CT_NW_DST", _NX, 121, "ct_nw_dst", 32, _V4),
    _own("NXM_NX_CT_IPV6_SRC", _NX, 122, "ct_ipv6_src", 128, _V6),
    _own("NXM_NX_CT_IPV6_DST", _NX, 123, "ct_ipv6_dst", 128, _V6),
    _own("NXM_NX_CT_TP_SRC", _NX, 124, "ct_tp_src", 16, _D),
    _own("NXM_NX_CT_TP_DST", _NX, 125, "ct_tp_dst", 16, _D),
)

_SET_BY_OTHERS: Final = ("in_port", "vlan_tci", "nw_tos", "nw_ttl")
"""Words that a set_field has no field for, or another action."""
_READ_ONLY: Final = re.compile(r"ct_(?!mark$|label$)")

SET_FIELDS: Final = {
    each.word: each
    for each in FIELDS
    if each.field.name not in BY_NAME and each.word not in _SET_BY_OTHERS and not _READ_ONLY.match(each.word)
}
"""What only a set_field of Open vSwitch writes, by the word for it."""

BY_HEADER: Final = {each.header: each for each in FIELDS}


@dataclass(frozen=True, slots=True)
class Part:
    """`bits` bits of `field` from bit `start` on, 0 being the lowest."""

    field: NiciraField
    start: int
    bits: int

    @property
    def whole(self) -> bool:
        return self.bits == self.field.bits
