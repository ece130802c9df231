"""The match fields, declared once: the OXM codec, the text syntax, the key of the compiled pipeline and the
documentation derive from `FIELDS`.

OXM numbers: OpenFlow 1.3.5, table 12 (class 0x8000). `tcp_flags` is the ONF's extension EXT-109 (class 0xffff,
experimenter 0x4f4e4600), `ip_frag` Open vSwitch's NXM_NX_IP_FRAG (class 0x0001), `filter_prog` an experimenter field
of Oko (class 0xffff, experimenter 0xff4f4b4f). A field that a packet does not carry reads as zero, as in Open
vSwitch; prerequisites keep that from ever being seen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final

OXM_NICIRA: Final = 0x0001
OXM_BASIC: Final = 0x8000
OXM_EXPERIMENTER: Final = 0xFFFF

OKO: Final = 0xFF4F4B4F
"""Oko's experimenter number."""
ONF: Final = 0x4F4E4600
"""The Open Networking Foundation's."""


class Syntax(Enum):
    """How a value is written in the ovs-ofctl syntax."""

    DECIMAL = "decimal"
    HEX = "hex"
    MAC = "mac"
    IPV4 = "ipv4"
    IPV6 = "ipv6"
    FLAGS = "flags"
    FRAGMENT = "fragment"


@dataclass(frozen=True, slots=True)
class Prerequisite:
    """The field called `field` must be matched, under `mask` (None: all its bits), with one of `values`."""

    field: str
    values: tuple[int, ...]
    mask: int | None = None

    def __str__(self) -> str:
        is_hex = BY_NAME[self.field].syntax is Syntax.HEX
        mask = "" if self.mask is None else f"/{self.mask:#06x}"
        return " or ".join(
            f"{self.field}={value:#06x}{mask}" if is_hex else f"{self.field}={value}{mask}" for value in self.values
        )


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """One match field. There is one object per field: compared and hashed by identity, as rules are hashed by the
    million.

    `bits` is its width; values are plain integers (most significant byte first on the wire). `aliases` are
    other spellings that the text syntax reads. `member` is the member of `struct oko_key`
    (bpf_programs/runtime/key.h) that holds it, with `shift` low bits of that member below it. `settable` fields may
    be the subject of a set-field action. `full` is the mask of an exact match; `size` are the bytes of the value on the
    wire: as few as hold it, but 4 in place of 3 (OpenFlow 1.3.5, table 12).
    """

    name: str
    oxm_class: int
    oxm_field: int
    bits: int
    syntax: Syntax
    maskable: bool = False
    prerequisites: tuple[Prerequisite, ...] = ()
    aliases: tuple[str, ...] = ()
    member: str = ""
    shift: int = 0
    settable: bool = False
    experimenter: int | None = None
    full: int = field(init=False)
    size: int = field(init=False)

    def __post_init__(self) -> None:
        size = (self.bits + 7) // 8
        object.__setattr__(self, "full", (1 << self.bits) - 1)
        object.__setattr__(self, "size", 4 if size == 3 else size)


ETH_TYPE_IPV4: Final = 0x0800
ETH_TYPE_ARP: Final = 0x0806
ETH_TYPE_IPV6: Final = 0x86DD
ETH_TYPE_MPLS: Final = 0x8847
ETH_TYPE_MPLS_MULTICAST: Final = 0x8848
IP_PROTO_ICMP: Final = 1
IP_PROTO_TCP: Final = 6
IP_PROTO_UDP: Final = 17
IP_PROTO_ICMPV6: Final = 58
IP_PROTO_SCTP: Final = 132
ND_SOLICIT: Final = 135
ND_ADVERTISE: Final = 136
VLAN_PRESENT: Final = 0x1000
"""OFPVID_PRESENT: set in the vlan_vid of every tagged packet."""
FRAGMENT_ANY: Final = 1
FRAGMENT_LATER: Final = 2

_IPV4: Final = Prerequisite("eth_type", (ETH_TYPE_IPV4,))
_IPV6: Final = Prerequisite("eth_type", (ETH_TYPE_IPV6,))
_IP: Final = (Prerequisite("eth_type", (ETH_TYPE_IPV4, ETH_TYPE_IPV6)),)
_ARP: Final = (Prerequisite("eth_type", (ETH_TYPE_ARP,)),)
_MPLS: Final = (Prerequisite("eth_type", (ETH_TYPE_MPLS, ETH_TYPE_MPLS_MULTICAST)),)
_TAGGED: Final = (Prerequisite("vlan_vid", (VLAN_PRESENT,), VLAN_PRESENT),)
_TCP: Final = (*_IP, Prerequisite("ip_proto", (IP_PROTO_TCP,)))
_UDP: Final = (*_IP, Prerequisite("ip_proto", (IP_PROTO_UDP,)))
_SCTP: Final = (*_IP, Prerequisite("ip_proto", (IP_PROTO_SCTP,)))
_ICMP: Final = (_IPV4, Prerequisite("ip_proto", (IP_PROTO_ICMP,)))
_ICMPV6: Final = (_IPV6, Prerequisite("ip_proto", (IP_PROTO_ICMPV6,)))
_ND: Final = (*_ICMPV6, Prerequisite("icmpv6_type", (ND_SOLICIT, ND_ADVERTISE)))
_ND_SLL: Final = (*_ICMPV6, Prerequisite("icmpv6_type", (ND_SOLICIT,)))
_ND_TLL: Final = (*_ICMPV6, Prerequisite("icmpv6_type", (ND_ADVERTISE,)))

_D, _H, _M, _V4, _V6 = Syntax.DECIMAL, Syntax.HEX, Syntax.MAC, Syntax.IPV4, Syntax.IPV6

FILTER_PROG: Final = Field("filter_prog", OXM_EXPERIMENTER, 1, 32, _D, experimenter=OKO)

_B: Final = OXM_BASIC
# fmt: off
FIELDS: Final[tuple[Field, ...]] = (
    Field("in_port", _B, 0, 32, _D, member="in_port"),
    Field("metadata", _B, 2, 64, _H, True, member="metadata"),
    Field("eth_dst", _B, 3, 48, _M, True, (), ("dl_dst",), "eth_dst", settable=True),
    Field("eth_src", _B, 4, 48, _M, True, (), ("dl_src",), "eth_src", settable=True),
    Field("eth_type", _B, 5, 16, _H, False, (), ("dl_type",), "eth_type"),
    Field("vlan_vid", _B, 6, 13, _H, True, (), (), "vlan_tci", settable=True),
    Field("vlan_pcp", _B, 7, 3, _D, False, _TAGGED, ("dl_vlan_pcp",), "vlan_tci", 13, settable=True),
    Field("ip_dscp", _B, 8, 6, _D, False, _IP, (), "ip_tos", 2, settable=True),
    Field("ip_ecn", _B, 9, 2, _D, False, _IP, ("nw_ecn",), "ip_tos", settable=True),
    Field("ip_proto", _B, 10, 8, _D, False, _IP, ("nw_proto",), "ip_proto"),
    Field("ip_frag", OXM_NICIRA, 26, 2, Syntax.FRAGMENT, True, _IP, ("nw_frag",), "ip_frag"),
    Field("ipv4_src", _B, 11, 32, _V4, True, (_IPV4,), ("nw_src", "ip_src"), "ipv4_src", settable=True),
    Field("ipv4_dst", _B, 12, 32, _V4, True, (_IPV4,), ("nw_dst", "ip_dst"), "ipv4_dst", settable=True),
    Field("tcp_src", _B, 13, 16, _D, True, _TCP, ("tp_src",), "tp_src", settable=True),
    Field("tcp_dst", _B, 14, 16, _D, True, _TCP, ("tp_dst",), "tp_dst", settable=True),
    Field("tcp_flags", OXM_EXPERIMENTER, 42, 12, Syntax.FLAGS, True, _TCP, (), "tcp_flags", experimenter=ONF),
    Field("udp_src", _B, 15, 16, _D, True, _UDP, ("tp_src",), "tp_src", settable=True),
    Field("udp_dst", _B, 16, 16, _D, True, _UDP, ("tp_dst",), "tp_dst", settable=True),
    Field("sctp_src", _B, 17, 16, _D, True, _SCTP, ("tp_src",), "tp_src"),
    Field("sctp_dst", _B, 18, 16, _D, True, _SCTP, ("tp_dst",), "tp_dst"),
    Field("icmpv4_type", _B, 19, 8, _D, False, _ICMP, ("icmp_type",), "tp_src", settable=True),
    Field("icmpv4_code", _B, 20, 8, _D, False, _ICMP, ("icmp_code",), "tp_dst", settable=True),
    Field("arp_op", _B, 21, 16, _D, False, _ARP, ("nw_proto",), "arp_op", settable=True),
    Field("arp_spa", _B, 22, 32, _V4, True, _ARP, ("nw_src",), "ipv4_src", settable=True),
    Field("arp_tpa", _B, 23, 32, _V4, True, _ARP, ("nw_dst",), "ipv4_dst", settable=True),
    Field("arp_sha", _B, 24, 48, _M, True, _ARP, (), "arp_sha", settable=True),
    Field("arp_tha", _B, 25, 48, _M, True, _ARP, (), "arp_tha", settable=True),
    Field("ipv6_src", _B, 26, 128, _V6, True, (_IPV6,), (), "ipv6_src", settable=True),
    Field("ipv6_dst", _B, 27, 128, _V6, True, (_IPV6,), (), "ipv6_dst", settable=True),
    Field("ipv6_flabel", _B, 28, 20, _H, True, (_IPV6,), ("ipv6_label",), "ipv6_label", settable=True),
    Field("icmpv6_type", _B, 29, 8, _D, False, _ICMPV6, ("icmp_type",), "tp_src", settable=True),
    Field("icmpv6_code", _B, 30, 8, _D, False, _ICMPV6, ("icmp_code",), "tp_dst", settable=True),
    Field("ipv6_nd_target", _B, 31, 128, _V6, True, _ND, ("nd_target",), "nd_target", settable=True),
    Field("ipv6_nd_sll", _B, 32, 48, _M, True, _ND_SLL, ("nd_sll",), "arp_sha", settable=True),
    Field("ipv6_nd_tll", _B, 33, 48, _M, True, _ND_TLL, ("nd_tll",), "arp_tha", settable=True),
    Field("mpls_label", _B, 34, 20, _D, False, _MPLS, (), "mpls_lse", 12, settable=True),
    Field("mpls_tc", _B, 35, 3, _D, False, _MPLS, (), "mpls_lse", 9, settable=True),
    Field("mpls_bos", _B, 36, 1, _D, False, _MPLS, (), "mpls_lse", 8),
    Field("ipv6_exthdr", _B, 39, 9, _H, True, (_IPV6,), (), "ipv6_exthdr"),
    FILTER_PROG,
)
# fmt: on

BY_NAME: Final[dict[str, Field]] = {field.name: field for field in FIELDS}
BY_OXM: Final[dict[tuple[int, int, int | None], Field]] = {
    (field.oxm_class, field.oxm_field, field.experimenter): field for field in FIELDS
}
NEEDED: Final = frozenset(BY_NAME[needed.field] for field in FIELDS for needed in field.prerequisites)
"""Fields that others need a condition on."""
ORDER: Final[dict[str, int]] = {field.name: index for index, field in enumerate(FIELDS)}


def table() -> str:
    """`FIELDS` as a Markdown table, for docs/flow-syntax.md."""
    rows: list[tuple[str, ...]] = [
        ("Field", "Also written", "Bits", "Value", "Mask", "Set", "Needs", "OXM class:field"),
        ("---",) * 8,
    ]
    rows += [
        (
            f"`{field.name}`",
            ", ".join(f"`{alias}`" for alias in field.aliases) or "–",
            str(field.bits),
            field.syntax.value,
            "yes" if field.maskable else "no",
            "yes" if field.settable else "no",
            ", ".join(f"`{prerequisite}`" for prerequisite in field.prerequisites) or "–",
            f"`{field.oxm_class:#06x}:{field.oxm_field}`",
        )
        for field in FIELDS
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
