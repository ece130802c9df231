"""Hypothesis strategies for whole tables, made to be hard: few values, many masks and equal priorities, so that rules
overlap and shadow each other; now and then more rules of one mask than are compared one by one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hypothesis import strategies as st

from oko.flow.action import ApplyActions, Output
from oko.flow.fields import BY_NAME
from oko.flow.match import Condition, Match
from oko.flow.rule import Command, FlowMod, Rule
from oko.flow.tables import Tables
from oko.flow.text import parse_rule
from tests.oko.flow.strategies import ADDRESSES, L4_PORTS, MACS, PORTS

_ADDRESSES = tuple(int.from_bytes(address, "big") for address in ADDRESSES)
_MACS = tuple(int.from_bytes(mac, "big") for mac in MACS)
VALUES: dict[str, tuple[int, ...]] = {
    "in_port": PORTS,
    "eth_dst": _MACS,
    "eth_src": _MACS,
    "eth_type": (0x0800,),
    "ip_dscp": (0, 46, 63),
    "ip_ecn": (0, 3),
    "ip_proto": (6,),
    "ipv4_src": _ADDRESSES,
    "ipv4_dst": _ADDRESSES,
    "tcp_src": L4_PORTS,
    "tcp_dst": L4_PORTS,
}

# Masks by field, None for all bits: what the rules of one mask look at.
_IPV4 = {"eth_type": None}
_TCP = {**_IPV4, "ip_proto": None}
SHAPES: tuple[dict[str, int | None], ...] = (
    {},
    {"in_port": None},
    {"eth_type": None},
    {"eth_dst": None},
    {"eth_src": 0x0000_0000_0003},
    {"eth_dst": 0x8000_0000_0001, "eth_src": 0xFF00_0000_0000},
    {"in_port": None, "eth_src": None, "eth_dst": 0xFFFF_FF00_0000},
    {**_IPV4, "ip_dscp": None},
    {**_IPV4, "ip_ecn": None, "in_port": None},
    {**_IPV4, "ipv4_src": None},
    {**_IPV4, "ipv4_src": 0x8000_0000},
    {**_IPV4, "ipv4_dst": 0x0000_00FF, "eth_dst": 0x0000_0000_00FF},
    {**_TCP},
    {**_TCP, "tcp_dst": None},
    {**_TCP, "tcp_src": 0x0001, "ipv4_src": 0xFF00_FF00},
    {**_TCP, "ip_dscp": None, "ipv4_src": None, "ipv4_dst": 0xC000_0000, "tcp_src": 0xFF00},
)
# Of these there are more combinations than are compared one by one.
LARGE_SHAPES: tuple[dict[str, int | None], ...] = (
    {**_TCP, "tcp_src": None, "tcp_dst": None, "ipv4_dst": None},
    {"in_port": None, "eth_src": None, "eth_dst": None},
    {**_IPV4, "in_port": None, "ipv4_src": None, "ipv4_dst": None},
)
PRIORITIES = (0, 1, 1, 2, 7, 32768, 65535)


def make_tables(rules: Iterable[Rule]) -> Tables:
    """The tables that result when the rules are added in order."""
    tables = Tables()
    for rule in rules:
        tables.apply(FlowMod(Command.ADD, rule))
    return tables


def written(*rules: str) -> Tables:
    """The same for rules in the syntax of ovs-ofctl."""
    return make_tables(parse_rule(rule) for rule in rules)


def match_of(shape: dict[str, int | None], number: int, program: int | None) -> Match:
    """The match of this shape with combination `number` (any) of the values of its fields."""
    conditions = []
    for name, mask in shape.items():
        field, values = BY_NAME[name], VALUES[name]
        bits = field.full if mask is None else mask
        conditions.append(Condition(field, values[number % len(values)] & bits, bits))
        number //= len(values)
    if program is not None:
        conditions.append(Condition(BY_NAME["filter_prog"], program, BY_NAME["filter_prog"].full))
    return Match.of(conditions)


@st.composite
def tables(draw: st.DrawFn, programs: Sequence[int]) -> Tables:
    """Tables whose rules name `programs` or none, and send to PORTS or nowhere."""
    chosen = st.sampled_from((None, *programs))
    actions = st.sampled_from(((), *((ApplyActions((Output(port),)),) for port in PORTS)))
    single = st.builds(
        lambda shape, number, program, priority, instructions: Rule(
            match_of(shape, number, program), instructions, priority
        ),
        st.sampled_from(SHAPES + LARGE_SHAPES),
        st.integers(0, 255),
        chosen,
        st.sampled_from(PRIORITIES),
        actions,
    )
    rules = draw(st.lists(single, max_size=25))
    for shape in draw(st.lists(st.sampled_from(LARGE_SHAPES), min_size=draw(st.integers(0, 1)), max_size=3)):
        named = draw(st.lists(chosen, min_size=1, max_size=3))
        priorities = draw(st.lists(st.sampled_from(PRIORITIES), min_size=1, max_size=3))
        sent = draw(st.lists(actions, min_size=1, max_size=3))
        first, count = draw(st.integers(0, 20)), draw(st.sampled_from((16, 17, 33)))
        many = [
            Rule(match_of(shape, number, named[number // 9 % len(named)]), sent[number % len(sent)], priority)
            for number in range(first, first + count)
            for priority in (priorities[number // 3 % len(priorities)],)
        ]
        rules = rules + many if draw(st.booleans()) else many + rules
    return make_tables(rules)
