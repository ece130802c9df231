"""The flow syntax of ovs-ofctl (ovs-ofctl(8), ovs-actions(7), ovs-fields(7)), both ways.

    priority=10,tcp,in_port=1,nw_dst=10.0.0.0/8,tp_dst=80,filter_prog=1 actions=output:2

Commas or blanks separate. What ovs-ofctl reads of the fields in `FIELDS` is read here with the same meaning, but for
what it corrects silently and this module refuses: a field without its prerequisite, a field given two values, a
value too wide for its field. Ports 65280 to 65535 are those ports, as in OpenFlow 1.3, not OpenFlow 1.0's
reserved ones.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address
from typing import Final

from oko.errors import BadAction, BadFlowMod, BadMatch, FlowError
from oko.flow.action import MAX_PORT, RESERVED_PORTS, Action, ApplyActions, Output
from oko.flow.fields import BY_NAME, ETH_TYPE_IPV4, FIELDS, IP_PROTO_TCP, IP_PROTO_UDP, Field, Syntax
from oko.flow.match import Condition, Match
from oko.flow.rule import Command, FlowMod, Rule

DEFAULT_PRIORITY: Final = 32768
ALL_TABLES: Final = 255
"""OFPTT_ALL (OpenFlow 1.3.5, 7.3.4.1)."""

_COOKIE_FULL: Final = 2**64 - 1

_IPV4_PROTOCOLS: Final = {"icmp": 1, "tcp": IP_PROTO_TCP, "udp": IP_PROTO_UDP, "sctp": 132}
_ETH_PROTOCOLS: Final = {
    "ip": ETH_TYPE_IPV4,
    "arp": 0x0806,
    "rarp": 0x8035,
    "ipv6": 0x86DD,
    "mpls": 0x8847,
    "mplsm": 0x8848,
}
_PROTOCOL_ALIASES: Final = {"ip4": "ip", "ipv4": "ip", "ip6": "ipv6"}
_PROTOCOLS: Final[dict[str, dict[str, int]]] = {
    **{word: {"eth_type": eth_type} for word, eth_type in _ETH_PROTOCOLS.items()},
    **{word: {"eth_type": ETH_TYPE_IPV4, "ip_proto": proto} for word, proto in _IPV4_PROTOCOLS.items()},
    **{alias: {"eth_type": _ETH_PROTOCOLS[word]} for alias, word in _PROTOCOL_ALIASES.items()},
}
"""Words that stand for conditions, with what they stand for."""

_PROTOCOL_WORDS: Final = {tuple(values.values()): word for word, values in reversed(_PROTOCOLS.items())}
"""How a protocol is printed, by (eth_type,) or (eth_type, ip_proto)."""

_TOS: Final = "nw_tos"
"""ip_dscp, written as the whole TOS byte. Its two low bits are not looked at."""

_PRINTED: Final = {
    "in_port": "in_port",
    "eth_src": "dl_src",
    "eth_dst": "dl_dst",
    "eth_type": "dl_type",
    "ipv4_src": "nw_src",
    "ipv4_dst": "nw_dst",
    "ip_proto": "nw_proto",
    "ip_dscp": _TOS,
    "ip_ecn": "nw_ecn",
    "tcp_src": "tp_src",
    "tcp_dst": "tp_dst",
    "udp_src": "tp_src",
    "udp_dst": "tp_dst",
    "filter_prog": "filter_prog",
}
"""What a field is called in print, in the order of printing."""


def _spellings() -> dict[str, tuple[Field, ...]]:
    spellings: dict[str, tuple[Field, ...]] = {_TOS: (BY_NAME["ip_dscp"],)}
    for known in FIELDS:
        for spelling in (known.name, *known.aliases):
            spellings[spelling] = (*spellings.get(spelling, ()), known)
    return spellings


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SPELLINGS: Final = _spellings()
"""Fields by what they may be called. Where there are several, prerequisites decide."""

_STATISTICS: Final = _words("duration n_packets n_bytes idle_age hard_age")
"""What dump-flows prints of a rule and a rule cannot carry: skipped, so that its output can be read back."""

_RULE_KEYS: Final = ("table", "priority", "cookie")

_UNSUPPORTED_KEYS: Final = _words(
    "idle_timeout hard_timeout importance send_flow_rem check_overlap reset_counts no_packet_counts no_byte_counts "
    "out_group tcp6 udp6 sctp6 icmp6 vlan dl_vlan dl_vlan_pcp vlan_tci vlan_tci1 vlan_vid vlan_pcp nw_ttl nw_frag "
    "ip_frag icmp_type icmp_code icmpv6_type icmpv6_code ipv6_src ipv6_dst ipv6_label arp_op arp_spa arp_tpa arp_sha "
    "arp_tha nd_target nd_sll nd_tll nd_reserved nd_options_type tcp_flags sctp_src sctp_dst mpls_label mpls_tc "
    "mpls_bos mpls_ttl metadata tun_id tunnel_id tun_src tun_dst tun_flags tun_metadata0 pkt_mark skb_priority "
    "ct_state ct_zone ct_mark ct_label ct_nw_src ct_nw_dst ct_nw_proto ct_tp_src ct_tp_dst conj_id actset_output "
    "packet_type dp_hash recirc_id in_port_oxm"
)
"""Words of ovs-ofctl that mean something this switch cannot do."""
_REGISTER: Final = re.compile(r"x{0,2}reg\d+")

_UNSUPPORTED_ACTIONS: Final = _words(
    "group resubmit ct ct_clear nat mod_dl_src mod_dl_dst mod_nw_src mod_nw_dst mod_nw_tos mod_nw_ecn mod_nw_ttl "
    "mod_tp_src mod_tp_dst mod_vlan_vid mod_vlan_pcp set_vlan_vid set_vlan_pcp set_field load move push pop push_vlan "
    "pop_vlan strip_vlan push_mpls pop_mpls set_mpls_label set_mpls_tc set_mpls_ttl dec_mpls_ttl dec_ttl set_queue "
    "pop_queue enqueue set_tunnel set_tunnel64 learn note multipath bundle bundle_load conjunction clone encap decap "
    "check_pkt_larger delete_field fin_timeout sample exit apply_actions write_actions clear_actions write_metadata "
    "meter goto_table"
)

_SEPARATORS: Final = ", \t\r\n"
_TOKEN: Final = re.compile(r"([^:=(]*)(?:[:=](.*)|\((.*)\))?", re.DOTALL)
_ACTIONS: Final = re.compile(rf"(?:^|[{_SEPARATORS}])actions?=")
_NUMBER: Final = re.compile(r"0[xX][0-9a-fA-F]+|[0-9]+")
_MAC: Final = re.compile(r"[0-9a-fA-F]{1,2}(?::[0-9a-fA-F]{1,2}){5}")


def parse_rule(text: str) -> Rule:
    """The rule that `text` describes, actions included. Raises BadMatch, BadAction or BadFlowMod."""
    found = _ACTIONS.search(text)
    if found is None:
        raise BadAction("no actions: end the rule with actions=…, or actions=drop")
    words = _Words.read(text[: found.start()])
    if words.cookie_mask is not None:
        raise BadFlowMod("cookie: a new rule takes a cookie without a mask")
    if words.out_port is not None:
        raise BadFlowMod("out_port selects rules to delete: a new rule has none")
    actions = _read_actions(text[found.end() :])
    return Rule(
        match=words.match(),
        instructions=(ApplyActions(actions),) if actions else (),
        priority=DEFAULT_PRIORITY if words.priority is None else words.priority,
        table=0 if words.table is None else words.table,
        cookie=words.cookie or 0,
    )


def parse_rules(lines: Iterable[str], source: str) -> list[Rule]:
    """The rules of a file called `source`, one a line; blank lines and what follows a # are skipped. The errors
    are those of `parse_rule`, with file and line number in front."""
    rules = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            rules.append(parse_rule(text))
        except FlowError as error:
            raise type(error)(f"{source}:{number}: {error}", reason=error.reason, details=error.details) from error
    return rules


def parse_selection(text: str, *, strict: bool = False) -> FlowMod:
    """The delete that `text` describes, as for del-flows: a match, table=N (all without it), cookie=VALUE/MASK,
    out_port=N, and with `strict` the priority (32768 without it). An empty text means every rule.

    Raises BadMatch or BadFlowMod.
    """
    if _ACTIONS.search(text):
        raise BadFlowMod("actions do not select rules: leave them out")
    words = _Words.read(text)
    if words.priority is not None and not strict:
        raise BadFlowMod("priority selects rules only with --strict")
    if words.cookie is not None and words.cookie_mask is None:
        raise BadFlowMod(f"cookie={words.cookie:#x} selects rules only with a mask: cookie={words.cookie:#x}/-1")
    all_tables = words.table is None or words.table == ALL_TABLES
    return FlowMod(
        command=Command.DELETE_STRICT if strict else Command.DELETE,
        rule=Rule(
            match=words.match(),
            priority=DEFAULT_PRIORITY if words.priority is None else words.priority,
            table=0 if words.table is None or all_tables else words.table,
            cookie=words.cookie or 0,
        ),
        cookie_mask=words.cookie_mask or 0,
        all_tables=all_tables,
        out_port=None if words.out_port == RESERVED_PORTS["ANY"] else words.out_port,
    )


def print_rule(rule: Rule) -> str:
    """The rule as ``ovs-ofctl --no-stats dump-flows`` prints it. `parse_rule` reads it back as an equal rule, if its
    instructions are as `parse_rule` makes them: none, or one non-empty ApplyActions."""
    head = [f"cookie={rule.cookie:#x}, "] if rule.cookie else []
    head += [f"table={rule.table}, "] if rule.table else []
    words = [] if rule.priority == DEFAULT_PRIORITY else [f"priority={rule.priority}"]
    words += _written_match(rule.match)
    actions = ",".join(f"output:{action.port}" for action in rule.actions) or "drop"
    return "".join(head) + ",".join(words) + (" " if words else "") + f"actions={actions}"


@dataclass(slots=True)
class _Words:
    """What stands before the actions."""

    conditions: list[tuple[str, int, int]] = field(default_factory=list)  # spelling, value, mask
    table: int | None = None
    priority: int | None = None
    cookie: int | None = None
    cookie_mask: int | None = None
    out_port: int | None = None

    @staticmethod
    def read(text: str) -> _Words:
        words = _Words()
        seen: set[str] = set()
        for key, value in _tokens(text):
            if key in seen and key not in _SPELLINGS and key not in _PROTOCOLS:
                raise BadFlowMod(f"{key} is given twice: give it once")
            seen.add(key)
            words._take(key, value)
        return words

    def _take(self, key: str, value: str | None) -> None:
        if key in _PROTOCOLS:
            if value is not None:
                raise BadMatch(f"{key} takes no value, it stands for a protocol", reason="bad-value")
            for name, number in _PROTOCOLS[key].items():
                self.conditions.append((name, number, BY_NAME[name].full))
            return
        if key in _STATISTICS:
            return
        if key not in _SPELLINGS and key not in (*_RULE_KEYS, "out_port"):
            raise _unknown(key)
        if not value:
            raise _refused(key, f"{key} needs a value: {key}=…")
        match key:
            case "table":
                self.table = _number(key, value, 8)
            case "priority":
                self.priority = _number(key, value, 16)
            case "cookie":
                cookie, slash, mask = value.partition("/")
                self.cookie = _number(key, cookie, 64)
                if slash:
                    self.cookie_mask = _COOKIE_FULL if mask == "-1" else _number(key, mask, 64)
            case "out_port":
                self.out_port = _port(value)
            case _:
                self.conditions.append((key, *_read_value(key, value)))

    def match(self) -> Match:
        """The match of the conditions. One that is said twice alike counts once: ``ip,tcp``."""
        protocols = {value for spelling, value, _ in self.conditions if BY_NAME["ip_proto"] in _SPELLINGS[spelling]}
        conditions = [
            Condition(_resolve(spelling, protocols) if mask else _SPELLINGS[spelling][0], value, mask)
            for spelling, value, mask in self.conditions
        ]
        return Match.of(dict.fromkeys(conditions))


def _tokens(text: str) -> Iterator[tuple[str, str | None]]:
    """(key, value) of every word, in order: ``key``, ``key=value``, ``key:value`` or ``key(value)``. Separators
    within parentheses do not separate."""
    start = depth = 0
    for index, char in enumerate(text + ","):
        depth += (char == "(") - (char == ")")
        if char in _SEPARATORS and (depth <= 0 or index == len(text)):
            word = text[start:index]
            start = index + 1
            if word:
                yield _token(word)


def _token(word: str) -> tuple[str, str | None]:
    found = _TOKEN.fullmatch(word)
    if found is None or not found[1]:
        raise BadMatch(f"{word!r} is not of the form key=value")
    return found[1], found[2] if found[2] is not None else found[3]


def _unknown(key: str) -> BadMatch:
    if key in _UNSUPPORTED_KEYS or _REGISTER.fullmatch(key):
        return BadMatch(f"{key} is a word of ovs-ofctl that this switch does not support", reason="bad-field")
    near = difflib.get_close_matches(key.lower(), (*_SPELLINGS, *_PROTOCOLS, *_RULE_KEYS), 3)
    advice = f"did you mean {' or '.join(near)}?" if near else "docs/flow-syntax.md has the list"
    return BadMatch(f"unknown field {key!r}: {advice}", reason="bad-field")


def _resolve(spelling: str, protocols: set[int]) -> Field:
    """The field called `spelling` in a match on these values of ip_proto."""
    candidates = _SPELLINGS[spelling]
    if len(candidates) == 1:
        return candidates[0]
    for candidate in candidates:
        if any(p.field == "ip_proto" and protocols & set(p.values) for p in candidate.prerequisites):
            return candidate
    raise BadMatch(f"{spelling} needs tcp or udp in the same match", reason="bad-prereq")


def _read_value(key: str, text: str) -> tuple[int, int]:
    """Value and mask of a field; the value has no bits outside the mask, as ovs-ofctl clears them."""
    known = _SPELLINGS[key][0]
    if text == "*":
        return 0, 0
    if key == _TOS:
        return _number(key, text, 8) >> 2, known.full
    if key == "in_port":
        return _port(text), known.full
    number, slash, mask_text = text.partition("/")
    value = _read_number(key, number, known)
    if not slash:
        return value, known.full
    if known.syntax is Syntax.IPV4 and mask_text.isdecimal():
        prefix = int(mask_text)
        if prefix > known.bits:
            raise BadMatch(f"{key}={text}: a prefix has 0 to {known.bits} bits", reason="bad-mask")
        mask = known.full & ~(known.full >> prefix)
    else:
        mask = _read_number(key, mask_text, known)
    return value & mask, mask


def _read_number(key: str, text: str, known: Field) -> int:
    match known.syntax:
        case Syntax.MAC:
            if _MAC.fullmatch(text) is None:
                raise BadMatch(f"{key}={text} is no Ethernet address: write aa:bb:cc:dd:ee:ff", reason="bad-value")
            return int.from_bytes(bytes(int(byte, 16) for byte in text.split(":")))
        case Syntax.IPV4:
            try:
                return int(IPv4Address(text))
            except AddressValueError:
                raise BadMatch(f"{key}={text} is no IPv4 address: write 10.0.0.1", reason="bad-value") from None
        case Syntax.DECIMAL | Syntax.HEX:
            return _number(key, text, known.bits)


def _number(key: str, text: str, bits: int) -> int:
    """A number as C writes it: 16, 0x10 or 020."""
    try:
        if _NUMBER.fullmatch(text) is None:
            raise ValueError
        value = int(text, 8 if text[0] == "0" and text.isdecimal() else 0)
    except ValueError:
        raise _refused(key, f"{key}={text} is no number") from None
    if value >> bits:
        raise _refused(key, f"{key}={text} is out of range: use 0–{(1 << bits) - 1}")
    return value


def _refused(key: str, message: str) -> FlowError:
    return BadFlowMod(message) if key in _RULE_KEYS else BadMatch(message, reason="bad-value")


def _port(text: str) -> int:
    """A port number, always decimal as ovs-ofctl has it (or 0x…), or the name of a reserved port."""
    reserved = RESERVED_PORTS.get(text.upper())
    if reserved is not None:
        return reserved
    if _NUMBER.fullmatch(text) is None:
        raise BadMatch(f"{text!r} is no port number", reason="bad-value")
    port = int(text, 16 if text[:2] in ("0x", "0X") else 10)
    if port >> 32:
        raise BadMatch(f"port {text} is out of range: use 0–{MAX_PORT}", reason="bad-value")
    return port


def _read_actions(text: str) -> tuple[Action, ...]:
    words = list(_tokens(text))
    if words == [("drop", None)]:
        return ()
    return tuple(_read_action(key, value) for key, value in words)


def _read_action(key: str, value: str | None) -> Action:
    if key == "drop":
        raise BadAction("drop stands alone: no other action goes with it")
    if key == "output":
        return Output(_output_port(value or ""))
    if value is None and key.isdecimal():
        return Output(_output_port(key))
    if key.upper() in RESERVED_PORTS:
        raise _reserved(key.upper())
    if key in _UNSUPPORTED_ACTIONS:
        raise BadAction(f"{key} is an action that this switch does not support", reason="bad-type")
    near = difflib.get_close_matches(key.lower(), ("output", "drop", *_UNSUPPORTED_ACTIONS), 1)
    advice = f"did you mean {near[0]}?" if near else "use output:PORT or drop"
    raise BadAction(f"unknown action {key!r}: {advice}", reason="bad-type")


def _output_port(text: str) -> int:
    try:
        port = _port(text)
    except BadMatch as error:
        raise BadAction(f"output: {error}", reason="bad-out-port") from None
    for name, number in RESERVED_PORTS.items():
        if port == number:
            raise _reserved(name)
    if port > MAX_PORT:
        raise BadAction(f"output: port {port} is out of range: use 0–{MAX_PORT}", reason="bad-out-port")
    return port


def _reserved(name: str) -> BadAction:
    return BadAction(f"output to the reserved port {name} is not supported: name a port", reason="bad-out-port")


def _written_match(match: Match) -> Iterator[str]:
    conditions = {condition.field.name: condition for condition in match.conditions}
    said = [conditions[name].value for name in ("eth_type", "ip_proto") if name in conditions]
    for length in range(len(said), 0, -1):
        word = _PROTOCOL_WORDS.get(tuple(said[:length]))
        if word is not None:
            yield word
            for name in ("eth_type", "ip_proto")[:length]:
                del conditions[name]
            break
    for name, spelling in _PRINTED.items():
        if name in conditions:
            yield f"{spelling}={_written_value(conditions[name])}"


def _written_value(condition: Condition) -> str:
    known, value, mask = condition.field, condition.value, condition.mask
    if known.name == "in_port":
        names = [name for name, number in RESERVED_PORTS.items() if number == value]
        return names[0] if names else str(value)
    if known.name == "ip_dscp":
        return str(value << known.shift)
    if known.syntax is Syntax.MAC:
        written = [value.to_bytes(6).hex(":"), mask.to_bytes(6).hex(":")]
    elif known.syntax is Syntax.IPV4:
        host_bits = known.full & ~mask
        is_prefix = host_bits & (host_bits + 1) == 0
        written = [str(IPv4Address(value)), str(mask.bit_count()) if is_prefix else str(IPv4Address(mask))]
    elif known.syntax is Syntax.HEX:
        written = [f"{value:#06x}"]
    else:
        written = [str(value)] if condition.exact else [f"{value:#x}", f"{mask:#x}"]
    return written[0] if condition.exact else "/".join(written)
