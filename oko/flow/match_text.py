"""Matches as text, both ways: the names of fields and protocols (ovs-fields(7))."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final

from oko.errors import BadMatch
from oko.flow.fields import (
    BY_NAME,
    ETH_TYPE_ARP,
    ETH_TYPE_IPV4,
    ETH_TYPE_IPV6,
    ETH_TYPE_MPLS,
    ETH_TYPE_MPLS_MULTICAST,
    FIELDS,
    IP_PROTO_ICMP,
    IP_PROTO_ICMPV6,
    IP_PROTO_SCTP,
    IP_PROTO_TCP,
    IP_PROTO_UDP,
    NEEDED,
    VLAN_PRESENT,
    Field,
    Prerequisite,
)
from oko.flow.match import Condition, Match, implied
from oko.flow.value import read_value, write_condition
from oko.flow.words import Word, advice, names, read_number, read_port, write_port

_IN_PORT: Final = BY_NAME["in_port"]
_VLAN_VID: Final = BY_NAME["vlan_vid"]
_VLAN_PCP: Final = BY_NAME["vlan_pcp"]
_ANY_TAG: Final = Condition(_VLAN_VID, VLAN_PRESENT, VLAN_PRESENT)
_NO_TAG: Final = 0xFFFF
"""What dl_vlan is of a packet without a tag (OFP_VLAN_NONE of OpenFlow 1.0)."""

DL_VLAN: Final = "dl_vlan"
"""vlan_vid without VLAN_PRESENT."""
NW_TOS: Final = "nw_tos"
"""ip_dscp, written as the whole TOS byte. Its two low bits are not looked at."""

_ETH_PROTOCOLS: Final = {
    "ip": ETH_TYPE_IPV4,
    "arp": ETH_TYPE_ARP,
    "rarp": 0x8035,
    "ipv6": ETH_TYPE_IPV6,
    "mpls": ETH_TYPE_MPLS,
    "mplsm": ETH_TYPE_MPLS_MULTICAST,
}
_IP_PROTOCOLS: Final = {
    "icmp": (ETH_TYPE_IPV4, IP_PROTO_ICMP),
    "tcp": (ETH_TYPE_IPV4, IP_PROTO_TCP),
    "udp": (ETH_TYPE_IPV4, IP_PROTO_UDP),
    "sctp": (ETH_TYPE_IPV4, IP_PROTO_SCTP),
    "icmp6": (ETH_TYPE_IPV6, IP_PROTO_ICMPV6),
    "tcp6": (ETH_TYPE_IPV6, IP_PROTO_TCP),
    "udp6": (ETH_TYPE_IPV6, IP_PROTO_UDP),
    "sctp6": (ETH_TYPE_IPV6, IP_PROTO_SCTP),
}
_PROTOCOL_ALIASES: Final = {"ip4": "ip", "ipv4": "ip", "ip6": "ipv6"}
PROTOCOLS: Final[dict[str, dict[str, int]]] = {
    **{word: {"eth_type": eth_type} for word, eth_type in _ETH_PROTOCOLS.items()},
    **{word: {"eth_type": eth_type, "ip_proto": proto} for word, (eth_type, proto) in _IP_PROTOCOLS.items()},
    **{alias: {"eth_type": _ETH_PROTOCOLS[word]} for alias, word in _PROTOCOL_ALIASES.items()},
}
"""Words that stand for conditions, with what they stand for."""

_PROTOCOL_CONDITIONS: Final = {
    word: [Condition(BY_NAME[name], number, BY_NAME[name].full) for name, number in values.items()]
    for word, values in PROTOCOLS.items()
}
_PROTOCOL_WORDS: Final = {tuple(values.values()): word for word, values in reversed(PROTOCOLS.items())}
"""How a protocol is printed, by (eth_type,) or (eth_type, ip_proto)."""

_PRINTED: Final = {
    "metadata": "metadata",
    "in_port": "in_port",
    "vlan_vid": "vlan_vid",
    "vlan_pcp": "dl_vlan_pcp",
    "eth_src": "dl_src",
    "eth_dst": "dl_dst",
    "eth_type": "dl_type",
    "ipv4_src": "nw_src",
    "ipv4_dst": "nw_dst",
    "ipv6_src": "ipv6_src",
    "ipv6_dst": "ipv6_dst",
    "arp_spa": "arp_spa",
    "arp_tpa": "arp_tpa",
    "ipv6_flabel": "ipv6_label",
    "ipv6_exthdr": "ipv6_exthdr",
    "arp_op": "arp_op",
    "ip_proto": "nw_proto",
    "arp_sha": "arp_sha",
    "arp_tha": "arp_tha",
    "ip_dscp": NW_TOS,
    "ip_ecn": "nw_ecn",
    "mpls_label": "mpls_label",
    "mpls_tc": "mpls_tc",
    "mpls_bos": "mpls_bos",
    "ip_frag": "nw_frag",
    "icmpv4_type": "icmp_type",
    "icmpv4_code": "icmp_code",
    "icmpv6_type": "icmp_type",
    "icmpv6_code": "icmp_code",
    "ipv6_nd_target": "nd_target",
    "ipv6_nd_sll": "nd_sll",
    "ipv6_nd_tll": "nd_tll",
    "tcp_src": "tp_src",
    "tcp_dst": "tp_dst",
    "udp_src": "tp_src",
    "udp_dst": "tp_dst",
    "sctp_src": "tp_src",
    "sctp_dst": "tp_dst",
    "tcp_flags": "tcp_flags",
    "filter_prog": "filter_prog",
}
"""What a field is called in print, in the order of printing."""


def _spellings() -> dict[str, tuple[Field, ...]]:
    spellings: dict[str, tuple[Field, ...]] = {NW_TOS: (BY_NAME["ip_dscp"],), DL_VLAN: (_VLAN_VID,)}
    for field in FIELDS:
        for spelling in (field.name, *field.aliases):
            spellings[spelling] = (*spellings.get(spelling, ()), field)
    return spellings


SPELLINGS: Final = _spellings()
"""Fields by what they may be called. Where there are several, prerequisites decide."""

_UNSUPPORTED: Final = names(
    "importance no_packet_counts no_byte_counts vlan vlan_tci vlan_tci1 nw_ttl mpls_ttl nd_reserved nd_options_type "
    "tun_id tunnel_id tun_src tun_dst tun_flags tun_metadata0 pkt_mark skb_priority ct_state ct_zone ct_mark ct_label "
    "ct_nw_src ct_nw_dst ct_nw_proto ct_tp_src ct_tp_dst conj_id actset_output packet_type dp_hash recirc_id "
    "in_port_oxm"
)
"""Words of ovs-ofctl that mean something this switch cannot do."""
_REGISTER: Final = re.compile(r"x{0,2}reg\d+")


def is_unsupported_field(key: str) -> bool:
    """Whether Open vSwitch has a field of this name and Oko has not."""
    return key in _UNSUPPORTED or _REGISTER.fullmatch(key) is not None


def unknown_field(key: str, others: Iterable[str] = ()) -> BadMatch:
    """What to raise for a word of a match that is none; `others` are words that may stand there, too."""
    if is_unsupported_field(key):
        return BadMatch(f"{key} is a word of ovs-ofctl that this switch does not support", reason="bad-field")
    hint = advice(key, (*SPELLINGS, *PROTOCOLS, *others), "docs/flow-syntax.md has the list")
    return BadMatch(f"unknown field {key!r}: {hint}", reason="bad-field")


def read_match(words: Iterable[Word]) -> Match:
    """The match that these words describe; their keys are in SPELLINGS or PROTOCOLS. A condition that is said twice
    alike counts once: ``ip,tcp``. Raises BadMatch."""
    conditions: list[Condition] = []
    ambiguous: list[tuple[str, str]] = []
    for key, text in words:
        if key in PROTOCOLS:
            if text is not None:
                raise BadMatch(f"{key} takes no value, it stands for a protocol", reason="bad-value")
            conditions += _PROTOCOL_CONDITIONS[key]
        elif not text:
            raise BadMatch(f"{key} needs a value: {key}=…", reason="bad-value")
        elif len(SPELLINGS[key]) > 1 and text != "*":
            ambiguous.append((key, text))
        else:
            conditions.append(_read_condition(key, text, SPELLINGS[key][0]))
    # nw_proto first, as the others may depend on it
    for key, text in sorted(ambiguous, key=_is_dependent):
        known = tuple([condition for condition in conditions if condition.field in NEEDED])
        conditions.append(_read_condition(key, text, _resolve(key, known)))
    named = {condition.field for condition in conditions if condition.mask}
    if _VLAN_PCP in named and _VLAN_VID not in named:
        conditions.append(_ANY_TAG)
    return Match.of(dict.fromkeys(conditions))


def _is_dependent(word: tuple[str, str]) -> bool:
    return word[0] != "nw_proto"


def write_match(match: Match) -> Iterator[str]:
    """The words for a match, as ovs-ofctl prints them."""
    conditions = {condition.field.name: condition for condition in match.conditions}
    said = [conditions[name].value for name in ("eth_type", "ip_proto") if name in conditions]
    for length in range(len(said), 0, -1):
        word = _PROTOCOL_WORDS.get(tuple(said[:length]))
        if word is not None:
            yield word
            for name in ("eth_type", "ip_proto")[:length]:
                del conditions[name]
            break
    if "vlan_pcp" in conditions and conditions["vlan_vid"] == _ANY_TAG:
        del conditions["vlan_vid"]
    for name, spelling in _PRINTED.items():
        if name in conditions:
            yield _write_condition(spelling, conditions[name])


@lru_cache(maxsize=1 << 12)
def _resolve(key: str, conditions: tuple[Condition, ...]) -> Field:
    """The field called `key` in a match with these conditions. Remembered: many rules match alike."""
    by_name = {condition.field.name: condition for condition in conditions}
    for field in SPELLINGS[key]:
        if all(implied(prerequisite, by_name) for prerequisite in field.prerequisites):
            return field
    words = [_protocol(field.prerequisites) for field in SPELLINGS[key]]
    raise BadMatch(
        f"{key} needs {', '.join(words[:-1])} or {words[-1]} in the same match",
        reason="bad-prereq",
    )


def _protocol(prerequisites: tuple[Prerequisite, ...]) -> str:
    return _PROTOCOL_WORDS[tuple(prerequisite.values[0] for prerequisite in prerequisites)]


def _read_condition(key: str, text: str, field: Field) -> Condition:
    if text == "*":
        return Condition(field, 0, 0)
    if field is _IN_PORT:
        return Condition(field, read_port(text, BadMatch, "bad-value"), field.full)
    if key == NW_TOS:
        return Condition(field, read_number(key, text, 8, BadMatch, "bad-value") >> field.shift, field.full)
    if key == DL_VLAN:
        return Condition(field, _read_dl_vlan(text), field.full)
    return Condition(field, *read_value(key, text, field))


def _read_dl_vlan(text: str) -> int:
    vid = read_number(DL_VLAN, text, 16, BadMatch, "bad-value")
    if vid == _NO_TAG:
        return 0
    if vid >= VLAN_PRESENT:
        raise BadMatch(
            f"{DL_VLAN}={text} is out of range: use 0–{VLAN_PRESENT - 1}, or {_NO_TAG:#x} for no tag",
            reason="bad-value",
        )
    return vid | VLAN_PRESENT


def _write_condition(spelling: str, condition: Condition) -> str:
    field, value = condition.field, condition.value
    if field is _IN_PORT:
        return f"{spelling}={write_port(value)}"
    if spelling == NW_TOS:
        return f"{spelling}={value << field.shift}"
    if field is _VLAN_VID and condition.exact and value & VLAN_PRESENT:
        return f"{DL_VLAN}={value & ~VLAN_PRESENT}"
    return f"{spelling}={write_condition(condition)}"
