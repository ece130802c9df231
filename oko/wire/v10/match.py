"""Matches between OpenFlow 1.0's wire (`ofext.v10`), in both formats, and the tables (`oko.flow`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ofext.oxm import Oxm
from ofext.v10 import match as wire
from ofext.v10.constants import NW_BITS, NW_DST_SHIFT, NW_SRC_SHIFT, VLAN_NONE, WILDCARDS_ALL, Wildcard
from oko.errors import BadMatch, NotExpressible
from oko.flow.fields import (
    BY_NAME,
    BY_OXM,
    ETH_TYPE_ARP,
    ETH_TYPE_IPV4,
    ETH_TYPE_IPV6,
    IP_PROTO_ICMP,
    IP_PROTO_ICMPV6,
    IP_PROTO_SCTP,
    IP_PROTO_TCP,
    IP_PROTO_UDP,
    OXM_BASIC,
    VLAN_PRESENT,
    Field,
)
from oko.flow.match import Condition, Match
from oko.wire.v10.port import read_port_number, write_port_number

# ---- Nicira's match

NXM: Final[dict[str, tuple[int, int]]] = {
    "in_port": (0, 0),
    "eth_dst": (0, 1),
    "eth_src": (0, 2),
    "eth_type": (0, 3),
    "ip_dscp": (0, 5),
    "ip_proto": (0, 6),
    "ipv4_src": (0, 7),
    "ipv4_dst": (0, 8),
    "tcp_src": (0, 9),
    "tcp_dst": (0, 10),
    "udp_src": (0, 11),
    "udp_dst": (0, 12),
    "icmpv4_type": (0, 13),
    "icmpv4_code": (0, 14),
    "arp_op": (0, 15),
    "arp_spa": (0, 16),
    "arp_tpa": (0, 17),
    "arp_sha": (1, 17),
    "arp_tha": (1, 18),
    "ipv6_src": (1, 19),
    "ipv6_dst": (1, 20),
    "icmpv6_type": (1, 21),
    "icmpv6_code": (1, 22),
    "ipv6_nd_target": (1, 23),
    "ipv6_nd_sll": (1, 24),
    "ipv6_nd_tll": (1, 25),
    "ip_frag": (1, 26),
    "ipv6_flabel": (1, 27),
    "ip_ecn": (1, 28),
    "tcp_flags": (1, 34),
}
"""Class and field that Nicira's extension has for our fields; most others keep those of OXM. `in_port` has 16 bits
there, and of `ip_dscp` the value stands in the high six bits of eight."""
_VLAN_TCI: Final = (0, 4)
"""`vlan_vid` with its present bit, and `vlan_pcp`, in one."""
_COOKIE: Final = (1, 30)

_READ: Final[dict[tuple[int, int, int | None], Field]] = {
    **BY_OXM,
    **{(oxm_class, number, None): BY_NAME[name] for name, (oxm_class, number) in NXM.items()},
}
_UNKNOWN: Final = frozenset(("ipv6_exthdr", "filter_prog"))
"""Fields that readers of Nicira's extension do not know."""

_IN_PORT: Final = BY_NAME["in_port"]
_VID: Final = BY_NAME["vlan_vid"]
_PCP: Final = BY_NAME["vlan_pcp"]
_DSCP: Final = BY_NAME["ip_dscp"]
_PCP_SHIFT: Final = 13
_DSCP_SHIFT: Final = 2


@dataclass(frozen=True, slots=True)
class NxmMatch:
    """What a Nicira match says: of the packet, and of the cookie of a rule."""

    match: Match
    cookie: int = 0
    cookie_mask: int = 0


def read_nxm(fields: Iterable[Oxm]) -> NxmMatch:
    """What the fields say. Raises BadMatch."""
    cookie, cookie_mask = 0, 0
    conditions: list[Condition] = []
    for oxm in fields:
        if (oxm.oxm_class, oxm.field) == _COOKIE:
            cookie, cookie_mask = _numbers(oxm, "cookie", 64)
            cookie &= cookie_mask
        elif (oxm.oxm_class, oxm.field) == _VLAN_TCI:
            conditions += _read_tci(*_numbers(oxm, "vlan_tci", 16))
        else:
            conditions.append(_read_condition(oxm))
    return NxmMatch(Match.of(conditions), cookie, cookie_mask)


def write_nxm(match: Match) -> tuple[Oxm, ...]:
    """The fields of a match, each behind those that it depends on. Raises NotExpressible."""
    by_name = {condition.field.name: condition for condition in match.conditions}
    return tuple(_write_conditions(by_name))


def nxm_header(field: Field) -> int:
    """The header of a whole field without a mask, as actions name it. Raises NotExpressible."""
    oxm_class, number = _nxm(field)
    size = 2 if field is _IN_PORT else field.size
    return oxm_class << 16 | number << 9 | size


def field_of(header: int) -> Field | None:
    """The field that has this header."""
    field = _READ.get((header >> 16, header >> 9 & 0x7F, None))
    return field if field is not None and header & 0x1FF == nxm_header(field) & 0x1FF else None


def _numbers(oxm: Oxm, name: str, bits: int) -> tuple[int, int]:
    """Value and mask."""
    if len(oxm.value) * 8 != bits:
        raise BadMatch(f"{name} has {bits // 8} bytes, not {len(oxm.value)}", reason="bad-len")
    return int.from_bytes(oxm.value, "big"), (1 << bits) - 1 if oxm.mask is None else int.from_bytes(oxm.mask, "big")


def _read_condition(oxm: Oxm) -> Condition:
    field = _READ.get((oxm.oxm_class, oxm.field, oxm.experimenter))
    if field is None or field.name in _UNKNOWN:
        raise BadMatch(f"field {oxm.oxm_class:#06x}:{oxm.field} is not matched here", reason="bad-field")
    if oxm.oxm_class != OXM_BASIC and field is _IN_PORT:
        port, mask = _numbers(oxm, field.name, 16)
        if mask != 0xFFFF:
            raise BadMatch("in_port takes no mask", reason="bad-mask")
        return Condition(field, read_port_number(port), field.full)
    value, mask = _numbers(oxm, field.name, 8 * field.size)
    if oxm.oxm_class != OXM_BASIC and field is _DSCP:
        if value & 3:
            raise BadMatch(f"nw_tos={value:#x}: the low two bits are ip_ecn's", reason="bad-value")
        value, mask = value >> _DSCP_SHIFT, mask >> _DSCP_SHIFT
    # A mask may reach beyond a field whose bits do not fill its bytes.
    return Condition(field, value, mask & field.full)


def _read_tci(value: int, mask: int) -> Iterator[Condition]:
    vid, pcp = value & _VID.full, value >> _PCP_SHIFT
    vid_mask, pcp_mask = mask & _VID.full, mask >> _PCP_SHIFT
    yield Condition(_VID, vid, vid_mask)
    if pcp_mask and (vid_mask != _VID.full or vid or pcp):  # else of no tag, which has no priority either
        yield Condition(_PCP, pcp, pcp_mask)


def _write_conditions(by_name: dict[str, Condition]) -> Iterator[Oxm]:
    for name, condition in by_name.items():
        field = condition.field
        if field is _IN_PORT:
            yield Oxm(*NXM[name], write_port_number(condition.value).to_bytes(2, "big"))
        elif field is _VID:
            yield _write_tci(condition, by_name.get(_PCP.name))
        elif field is _DSCP:
            yield Oxm(*NXM[name], bytes([condition.value << _DSCP_SHIFT]))
        elif field is not _PCP:
            value = condition.value.to_bytes(field.size, "big")
            yield Oxm(*_nxm(field), value, None if condition.exact else condition.mask.to_bytes(field.size, "big"))


def _write_tci(vid: Condition, pcp: Condition | None) -> Oxm:
    value, mask = vid.value, vid.mask
    if vid.exact and not vid.value:
        mask = 0xFFFF
    elif pcp is not None:
        value, mask = value | pcp.value << _PCP_SHIFT, mask | pcp.mask << _PCP_SHIFT
    return Oxm(*_VLAN_TCI, value.to_bytes(2, "big"), None if mask == 0xFFFF else mask.to_bytes(2, "big"))


def _nxm(field: Field) -> tuple[int, int]:
    if field.name in _UNKNOWN:
        raise NotExpressible(f"{field.name}: Nicira's extension has no such field")
    return NXM.get(field.name, (field.oxm_class, field.oxm_field))


# ---- the match of fixed size

_IPS: Final = (ETH_TYPE_IPV4, ETH_TYPE_IPV6)
_TRANSPORT: Final[dict[tuple[int, int], tuple[str, str]]] = {
    **{(eth_type, IP_PROTO_TCP): ("tcp_src", "tcp_dst") for eth_type in _IPS},
    **{(eth_type, IP_PROTO_UDP): ("udp_src", "udp_dst") for eth_type in _IPS},
    **{(eth_type, IP_PROTO_SCTP): ("sctp_src", "sctp_dst") for eth_type in _IPS},
    (ETH_TYPE_IPV4, IP_PROTO_ICMP): ("icmpv4_type", "icmpv4_code"),
    (ETH_TYPE_IPV6, IP_PROTO_ICMPV6): ("icmpv6_type", "icmpv6_code"),
}
"""What tp_src and tp_dst are, by Ethernet type and IP protocol."""
_PROTO: Final = {ETH_TYPE_IPV4: "ip_proto", ETH_TYPE_IPV6: "ip_proto", ETH_TYPE_ARP: "arp_op"}
_ADDRESSES: Final = {ETH_TYPE_IPV4: ("ipv4_src", "ipv4_dst"), ETH_TYPE_ARP: ("arp_spa", "arp_tpa")}


def read_match(match: wire.Match) -> Match:
    """What the match of fixed size says. A field that packets of this type do not have does not count (OpenFlow 1.0.1,
    3.4). Raises BadMatch."""
    return Match.of(_read_fixed(match))


def _read_fixed(match: wire.Match) -> Iterator[Condition]:
    wildcards = match.wildcards
    if not wildcards & Wildcard.IN_PORT:
        yield _exactly("in_port", read_port_number(match.in_port))
    for bit, name, address in (
        (Wildcard.DL_SRC, "eth_src", match.dl_src),
        (Wildcard.DL_DST, "eth_dst", match.dl_dst),
    ):
        if not wildcards & bit:
            yield _exactly(name, int.from_bytes(address, "big"))
    yield from _read_fixed_vlan(match)
    if wildcards & Wildcard.DL_TYPE:
        return
    eth_type = match.dl_type
    yield _exactly("eth_type", eth_type)
    if eth_type in _IPS and not wildcards & Wildcard.NW_TOS:
        yield _exactly("ip_dscp", match.nw_tos >> _DSCP_SHIFT)
    for name, shift, value in zip(
        _ADDRESSES.get(eth_type, ()), (NW_SRC_SHIFT, NW_DST_SHIFT), (match.nw_src, match.nw_dst), strict=False
    ):
        mask = 0xFFFFFFFF << min(32, wildcards >> shift & NW_BITS) & 0xFFFFFFFF
        yield Condition(BY_NAME[name], value & mask, mask)
    if eth_type not in _PROTO or wildcards & Wildcard.NW_PROTO:
        return
    yield _exactly(_PROTO[eth_type], match.nw_proto)
    for name, bit, value in zip(
        _TRANSPORT.get((eth_type, match.nw_proto), ()),
        (Wildcard.TP_SRC, Wildcard.TP_DST),
        (match.tp_src, match.tp_dst),
        strict=False,
    ):
        if not wildcards & bit:
            yield _exactly(name, value)


def _read_fixed_vlan(match: wire.Match) -> Iterator[Condition]:
    by_vid, by_pcp = (not match.wildcards & bit for bit in (Wildcard.DL_VLAN, Wildcard.DL_VLAN_PCP))
    if by_vid and match.dl_vlan == VLAN_NONE:
        yield _exactly("vlan_vid", 0)
        return
    if by_vid:
        yield _exactly("vlan_vid", match.dl_vlan & 0xFFF | VLAN_PRESENT)
    elif by_pcp:
        yield Condition(_VID, VLAN_PRESENT, VLAN_PRESENT)
    if by_pcp:
        yield _exactly("vlan_pcp", match.dl_vlan_pcp & _PCP.full)


def write_match(match: Match) -> wire.Match:
    """The match of fixed size. Raises NotExpressible for what it has no room for."""
    by_name = {condition.field.name: condition for condition in match.conditions}
    values: dict[str, int | bytes] = {}
    wildcards = WILDCARDS_ALL

    def take(name: str, bit: Wildcard, member: str) -> int | None:
        nonlocal wildcards
        condition = by_name.pop(name, None)
        if condition is None:
            return None
        if not condition.exact:
            raise NotExpressible(f"{name} under a mask")
        wildcards &= ~bit
        values[member] = condition.value
        return condition.value

    vid = by_name.get("vlan_vid")
    if vid is not None and (vid.value, vid.mask) == (VLAN_PRESENT, VLAN_PRESENT) and "vlan_pcp" in by_name:
        del by_name["vlan_vid"]
    tag = take("vlan_vid", Wildcard.DL_VLAN, "dl_vlan")
    if tag is not None:
        values["dl_vlan"] = tag & 0xFFF if tag else VLAN_NONE
    take("vlan_pcp", Wildcard.DL_VLAN_PCP, "dl_vlan_pcp")
    port = take("in_port", Wildcard.IN_PORT, "in_port")
    if port is not None:
        values["in_port"] = write_port_number(port)
    for name, bit, member in (("eth_src", Wildcard.DL_SRC, "dl_src"), ("eth_dst", Wildcard.DL_DST, "dl_dst")):
        address = take(name, bit, member)
        if address is not None:
            values[member] = address.to_bytes(6, "big")
    eth_type = take("eth_type", Wildcard.DL_TYPE, "dl_type") or 0
    dscp = take("ip_dscp", Wildcard.NW_TOS, "nw_tos")
    if dscp is not None:
        values["nw_tos"] = dscp << _DSCP_SHIFT
    proto = take(_PROTO.get(eth_type, ""), Wildcard.NW_PROTO, "nw_proto")
    if proto is not None and proto > 0xFF:
        raise NotExpressible(f"arp_op={proto}")
    for name, bit, member in zip(
        _TRANSPORT.get((eth_type, proto or 0), ()),
        (Wildcard.TP_SRC, Wildcard.TP_DST),
        ("tp_src", "tp_dst"),
        strict=False,
    ):
        take(name, bit, member)
    for name, shift, member in zip(
        _ADDRESSES.get(eth_type, ()), (NW_SRC_SHIFT, NW_DST_SHIFT), ("nw_src", "nw_dst"), strict=False
    ):
        condition = by_name.pop(name, None)
        if condition is not None:
            hidden = 32 - condition.mask.bit_count()
            if condition.mask != 0xFFFFFFFF >> hidden << hidden:
                raise NotExpressible(f"{name} under a mask that is no prefix")
            wildcards = wildcards & ~(NW_BITS << shift) | hidden << shift
            values[member] = condition.value
    if by_name:
        raise NotExpressible(f"the match of OpenFlow 1.0 has no {', '.join(by_name)}")
    return wire.Match(wildcards, **values)  # type: ignore[arg-type]


def _exactly(name: str, value: int) -> Condition:
    field = BY_NAME[name]
    return Condition(field, value, field.full)
