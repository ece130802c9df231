"""Plans: looking a packet up by a plan is looking it up by the rules in rank order, programs asked included."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from oko.compiler.layout import WORD, KeyLayout
from oko.compiler.plan import INLINE_LIMIT, Group, Plan, plan
from oko.flow.fields import FIELDS
from oko.flow.rule import Entry, Rule
from oko.flow.tables import Tables
from oko.flow.text import parse_rule
from tests.oko.compiler.strategies import LARGE_SHAPES, VALUES, make_tables, match_of, tables, written

SIZES = {"in_port": 4, "eth_type": 2, "ip_proto": 1, "ip_tos": 1, "ipv4_src": 4, "ipv4_dst": 4}
SIZES |= {"tp_src": 2, "tp_dst": 2, "eth_src": 6, "eth_dst": 6}
USED = tuple(SIZES)
"""The members that the rules here look at: they come first in the key; all others are there, and zero."""
SIZES |= {
    item.member: max(-(-(other.shift + other.bits) // 8) for other in FIELDS if other.member == item.member)
    for item in FIELDS
    if item.member and item.member not in USED
}
SIZES["padding"] = -sum(SIZES.values()) % WORD
MEMBERS = {name: (sum(list(SIZES.values())[:index]), size) for index, (name, size) in enumerate(SIZES.items())}
LAYOUT = KeyLayout(sum(SIZES.values()), MEMBERS)
PROGRAMS = (1, 2, 3)

Key = dict[str, int]
"""The members of the key, but those that are zero."""
Ask = Callable[[int], bool]


def by_rank(table: Tables, key: Key, ask: Ask) -> Entry | None:
    """The winner, as the semantics say: rule by rule."""
    headers = {field.name: key.get(field.member, 0) >> field.shift & field.full for field in FIELDS if field.member}
    for entry in table.ranked():
        match = entry.rule.match
        if all(headers[c.field.name] & c.mask == c.value for c in match.headers) and (
            match.program is None or ask(match.program)
        ):
            return entry
    return None


def by_plan(planned: Plan, key: Key, ask: Ask) -> Entry | None:
    """The winner, as the pipeline finds it: of each segment the best of what is found in each hash and in the first run
    that has a rule."""
    packed = int.from_bytes(b"".join(key.get(name, 0).to_bytes(size, "big") for name, size in SIZES.items()), "big")
    for segment in planned.segments:
        first = next(filter(None, (_found(run, packed) for run in segment.runs)), None)
        entries = [first, *(_found(group, packed) for group in segment.hashed)]
        found = [entry for entry in entries if entry is not None]
        if found and (segment.program is None or ask(segment.program)):
            return min(found, key=lambda entry: entry.rank)
    return None


def _found(group: Group, packed: int) -> Entry | None:
    """The rule of a group, or run, that matches."""
    candidate = group.candidates.get(packed & group.mask)
    return candidate.entry if candidate is not None else None


def asked(verdicts: dict[int, bool]) -> tuple[list[int], Ask]:
    """A way to ask programs, each once, and the list of those that were asked."""
    order: list[int] = []

    def ask(program: int) -> bool:
        if program not in order:
            order.append(program)
        return verdicts[program]

    return order, ask


def keys() -> st.SearchStrategy[Key]:
    members = {
        "in_port": VALUES["in_port"],
        "eth_type": (0x0800, 0x0806),
        "ip_proto": (6, 17),
        "ip_tos": (0, 0xB8, 0x03, 0xFF),
        "ipv4_src": VALUES["ipv4_src"],
        "ipv4_dst": VALUES["ipv4_dst"],
        "tp_src": VALUES["tcp_src"],
        "tp_dst": VALUES["tcp_dst"],
        "eth_src": VALUES["eth_src"],
        "eth_dst": VALUES["eth_dst"],
    }
    return st.fixed_dictionaries({name: st.sampled_from(values) for name, values in members.items()})


@settings(max_examples=300)
@given(
    tables(PROGRAMS),
    st.lists(keys(), min_size=1, max_size=12),
    st.fixed_dictionaries({program: st.booleans() for program in PROGRAMS}),
)
def test_a_plan_finds_what_the_ranks_say(table: Tables, some_keys: list[Key], verdicts: dict[int, bool]) -> None:
    planned = plan(table.ranked(), LAYOUT)
    event(f"{min(len(planned.segments), 8)} segments or more")
    for key in some_keys:
        wanted_order, wanted_ask = asked(verdicts)
        order, ask = asked(verdicts)
        assert by_plan(planned, key, ask) == by_rank(table, key, wanted_ask)
        assert order == wanted_order


@settings(max_examples=100)
@given(tables(PROGRAMS))
def test_every_rule_stands_in_one_place(table: Tables) -> None:
    planned = plan(table.ranked(), LAYOUT)
    entries = [
        c.entry for segment in planned.segments for group in segment.groups.values() for c in group.candidates.values()
    ]
    assert len({entry.slot for entry in entries}) == len(entries)
    assert {entry.rule.match for entry in entries} == {entry.rule.match for entry in table}
    for segment in planned.segments:
        ranks = [candidate.entry.rank for candidate in segment.inline]
        assert ranks == sorted(ranks)
        assert sum(len(group.candidates) for group in segment.hashed) + len(ranks) == sum(
            len(group.candidates) for group in segment.groups.values()
        )


@pytest.mark.parametrize(
    ("rules", "sizes"),
    [
        pytest.param(
            [flow for port in (22, 80) for flow in (f"in_port=1,tcp,tp_dst={port}", f"in_port=2,tcp,tp_src={port}")],
            [2, 2],
            id="masks that take turns",
        ),
        pytest.param(
            ["tcp,tp_dst=22", "tcp,tp_src=9", "tcp,tp_dst=80"], [1, 1, 1], id="a packet may match the one between"
        ),
    ],
)
def test_runs(rules: list[str], sizes: list[int]) -> None:
    (segment,) = plan(written(*(f"{rule},actions=drop" for rule in rules)).ranked(), LAYOUT).segments
    assert [len(run.candidates) for run in segment.runs] == sizes


def test_many_tenants_share_few_segments() -> None:
    rules = [
        parse_rule(f"priority={5000 - n},ip,nw_src=10.{n // 250}.{n % 250}.1,filter_prog={n % 3 + 1},actions=output:1")
        for n in range(1000)
    ]
    planned = plan(make_tables(rules).ranked(), LAYOUT)
    assert [segment.program for segment in planned.segments] == [1, 2, 3]


@pytest.mark.parametrize(
    ("rules", "programs"),
    [
        pytest.param((), [], id="no rules"),
        pytest.param(("priority=2,in_port=1,actions=drop", "priority=1,actions=drop"), [None], id="no programs"),
        pytest.param(
            (
                "priority=3,filter_prog=1,actions=drop",
                "priority=2,in_port=1,actions=drop",
                "priority=1,filter_prog=1,in_port=1,actions=drop",
            ),
            [1, None, 1],
            id="one between overlaps",
        ),
        pytest.param(
            (
                "priority=3,filter_prog=1,actions=drop",
                "priority=2,in_port=1,actions=drop",
                "priority=1,filter_prog=1,in_port=2,actions=drop",
            ),
            [1, None],
            id="none between overlaps",
        ),
        pytest.param(
            (
                "priority=9,filter_prog=1,in_port=1,actions=drop",
                "priority=8,filter_prog=2,in_port=2,actions=drop",
                "priority=7,filter_prog=1,in_port=2,actions=drop",
                "priority=6,filter_prog=2,in_port=1,actions=drop",
                "priority=5,filter_prog=1,in_port=3,actions=drop",
            ),
            [1, 2, 1],
            id="the earliest that will do",
        ),
        pytest.param(
            (
                "priority=9,filter_prog=1,in_port=1,actions=drop",
                "priority=8,in_port=1,dl_src=02:00:00:00:00:01,actions=drop",
                "priority=7,filter_prog=1,in_port=2,actions=drop",
                "priority=6,in_port=2,dl_src=02:00:00:00:00:01,actions=drop",
                "priority=5,filter_prog=1,in_port=2,dl_type=0x806,actions=drop",
            ),
            [1, None, 1],
            id="one that came between later overlaps",
        ),
        pytest.param(
            ("priority=1,actions=drop", "priority=1,filter_prog=1,actions=drop"), [1, None], id="programs first"
        ),
    ],
)
def test_segments(rules: tuple[str, ...], programs: list[int | None]) -> None:
    assert [segment.program for segment in plan(written(*rules).ranked(), LAYOUT).segments] == programs


@pytest.mark.parametrize(("rules", "hashes"), [(1, 0), (INLINE_LIMIT, 0), (INLINE_LIMIT + 1, 1), (40, 1)])
def test_many_rules_of_one_mask_are_hashed(rules: int, hashes: int) -> None:
    table = make_tables(Rule(match_of(LARGE_SHAPES[0], number, None), (), 9) for number in range(rules))
    (segment,) = plan(table.ranked(), LAYOUT).segments
    assert len(segment.hashed) == hashes
    assert len(segment.inline) == (0 if hashes else rules)


def test_hashed_groups_come_highest_priority_first() -> None:
    rules = [f"priority=3,in_port=1,eth_src=02:00:00:00:00:{n:02x},actions=drop" for n in range(20)]
    rules += [f"priority={n},eth_src=02:00:00:00:00:{n:02x},actions=drop" for n in range(1, 21)]
    (segment,) = plan(written(*rules).ranked(), LAYOUT).segments
    assert [group.top_priority for group in segment.hashed] == [20, 3]


def test_the_mask_of_a_plan_is_all_that_rules_look_at() -> None:
    planned = plan(written("in_port=1,actions=drop", "filter_prog=1,eth_type=0x800,actions=drop").ranked(), LAYOUT)
    assert LAYOUT.words(planned.mask) == (bytes.fromhex("ffffffffffff0000"), *[bytes(8)] * (LAYOUT.size // WORD - 1))
