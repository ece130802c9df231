"""An amended image against the tables: each packet finds the rule that the tables say, at the end and on the way."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oko.compiler.amendment import Amendment, amend, grown
from oko.compiler.compile import Compilation, compile_tables
from oko.compiler.hints import HINTS, hint_key
from oko.compiler.image import Filter
from oko.compiler.lookup import hashed_group, order, order_of, rules_map, slot_of
from oko.compiler.plan import Segment
from oko.flow.group import GroupCommand, GroupMod
from oko.flow.group_text import parse_group
from oko.flow.match import Match
from oko.flow.rule import Command, FlowMod
from oko.flow.tables import Tables
from oko.flow.text import parse_rule, parse_selection
from tests.oko.compiler.objects import filter_program, runtime
from tests.oko.compiler.strategies import make_tables

PORTS: dict[int, int | None] = {1: 1, 2: 2, 3: 3}
HOSTS = 24
FIRST = 60  # rules of each shape that are there from the beginning
SHAPES = ("dl_dst={0}", "dl_src={1}", "in_port={2},dl_dst={0}")
ACTIONS = ("drop", "output:1", "output:2", "set_field:{0}->eth_src,output:3")


def compiled(tables: Tables) -> Compilation:
    filters = {number: Filter(number, number - 1, filter_program("odd_port")) for number in (1, 2)}
    return compile_tables(tables, filters, PORTS, runtime())


class Scene:
    """Tables most of whose rules are of a few masks, and random changes of them. Rules name the programs below
    `programs`, 0 for none."""

    def __init__(self, seed: int, programs: int = 1) -> None:
        self._random = random.Random(seed)
        self._programs = programs
        rules = [self._flow(shape, ACTIONS[number % len(ACTIONS)]) for shape in SHAPES for number in range(FIRST)]
        self.tables = make_tables(map(parse_rule, rules))

    def mods(self) -> list[FlowMod]:
        """Changes that come together."""
        return [self._mod() for _ in range(self._random.choice((1, 2, 5)))]

    def packets(self, count: int) -> list[tuple[Match, Collection[int]]]:
        """What a packet has, and the programs that would say yes to it."""
        packets: list[tuple[Match, Collection[int]]] = []
        for _ in range(count):
            fields = f"in_port={self._below(3) + 1},dl_dst={self._address()},dl_src={self._address()}"
            packets.append((parse_rule(f"{fields},actions=drop").match, {p for p in (1, 2) if self._below(2)}))
        return packets

    def _below(self, bound: int) -> int:
        return self._random.randrange(bound)

    def _address(self) -> str:
        return f"02:00:00:00:00:{self._below(HOSTS):02x}"

    def _flow(self, shape: str, actions: str) -> str:
        program = self._below(self._programs)
        asked = f",filter_prog={program}" if program else ""
        match = shape.format(self._address(), self._address(), self._below(3) + 1)
        return f"priority={self._random.choice((5, 6, 7))},{match}{asked},actions={actions.format(self._address())}"

    def _mod(self) -> FlowMod:
        new = parse_rule(self._flow(self._random.choice(SHAPES), self._random.choice(ACTIONS)))
        rules = [entry.rule for entry in self.tables]
        command = self._random.choice((Command.ADD, Command.ADD, Command.MODIFY_STRICT, Command.DELETE_STRICT))
        if command is Command.ADD:
            return FlowMod(command, new)
        return FlowMod(command, replace(self._random.choice(rules), instructions=new.instructions))


def winner_by_tables(tables: Tables, packet: Match, says_yes: Collection[int]) -> int | None:
    """The slot of the rule that wins."""
    for entry in tables.ranked():
        match = entry.rule.match
        if (match.program is None or match.program in says_yes) and Match(match.headers).covers(packet):
            return entry.slot
    return None


def winner_by_code(
    compilation: Compilation, segments: tuple[Segment, ...], packet: Match, says_yes: Collection[int]
) -> int | None:
    """The same as the code of the image finds it: the entries of its maps, and `segments` as they were compiled."""
    layout, entries = compilation.layout, {each.name: each.entries for each in compilation.image.maps}
    key = layout.lower(packet).value
    for segment in segments:
        found: list[tuple[int, int]] = []  # order, slot
        for group in segment.groups.values():
            if group.number is None:
                found += (
                    (order(candidate.entry), candidate.entry.slot)
                    for value, candidate in group.candidates.items()
                    if key & group.mask == value
                )
                continue
            if key & group.kind.mask != group.kind.value:
                continue
            if group.hint is not None:
                named = int.from_bytes(entries[HINTS].get(hint_key(group.hint.index(key)), b""), "little")
                if not named & group.bit:
                    continue
            hashed = hashed_group(layout.size, group)
            if value := entries[hashed.map].get(hashed.key(key & group.mask & ~group.kind.mask)):
                found.append((order_of(value), slot_of(value)))
        if found and (segment.program is None or segment.program in says_yes):
            return min(found)[1]
    return None


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), programs=st.integers(1, 3))
def test_an_amended_image_decides_as_the_tables_do(seed: int, programs: int) -> None:
    scene = Scene(seed, programs)
    tables = scene.tables
    compilation = compiled(tables)
    for _ in range(6):
        tables.begin()
        versions = [tables.copy()]
        for mod in scene.mods():
            tables.change(mod)
            versions.append(tables.copy())
        delta = tables.delta()
        tables.commit()
        tables.release(tables.unused_slots)
        amendment = amend(compilation, delta.added, delta.removed, tables.slots)
        if amendment is None:
            compilation = compiled(tables)
            continue
        packets = scene.packets(20)
        segments = compilation.plans[0].segments
        for element in amendment.elements:
            replace(amendment, elements=[element], wants={}).apply(compilation.image)
            for packet in packets:
                possible = {winner_by_tables(version, *packet) for version in versions}
                assert winner_by_code(compilation, segments, *packet) in possible
        replace(amendment, elements=[]).apply(compilation.image)
        for packet in packets:
            assert winner_by_code(compilation, segments, *packet) == winner_by_tables(tables, *packet)
        assert compilation.image.wants.keys() == {entry.slot for entry in tables}


BASE = [f"priority=5,dl_dst=02:00:00:00:00:{number:02x},actions=output:1" for number in range(40)]
OTHERS = [f"priority=3,in_port={number},filter_prog=1,actions=output:1" for number in range(1, 3)]
SET_FIELD = "priority=5,dl_dst=02:00:00:00:01:00,actions=set_field:02:00:00:00:00:01->eth_src,output:2"


@pytest.mark.parametrize(
    ("flow", "possible"),
    [
        pytest.param("priority=5,dl_dst=02:00:00:00:99:00,actions=output:1", True, id="another value"),
        pytest.param("priority=4,dl_dst=02:00:00:00:99:00,actions=drop", True, id="lower priority, other actions"),
        pytest.param("priority=5,dl_dst=02:00:00:00:00:00,actions=drop", True, id="in the place of another"),
        pytest.param("priority=9,dl_dst=02:00:00:00:00:00,actions=drop", True, id="before another of its match"),
        pytest.param("priority=4,dl_dst=02:00:00:00:00:00,actions=drop", True, id="behind another of its match"),
        pytest.param(SET_FIELD.replace("00:01->", "00:07->"), True, id="other data of known actions"),
        pytest.param("priority=5,dl_src=02:00:00:00:00:00,actions=drop", False, id="new mask"),
        pytest.param("priority=3,in_port=3,filter_prog=1,actions=output:1", False, id="mask that is compared"),
        pytest.param("priority=5,dl_dst=02:00:00:00:99:00,actions=output:3", False, id="new port"),
        pytest.param(
            "priority=5,dl_dst=02:00:00:00:99:00,actions=push_vlan:0x8100,output:1", False, id="new kind of action"
        ),
        pytest.param("priority=5,dl_dst=02:00:00:00:99:00,filter_prog=1,actions=drop", False, id="with a program"),
        pytest.param("table=1,priority=5,dl_dst=02:00:00:00:99:00,actions=drop", True, id="where no packet comes"),
        pytest.param("priority=5,dl_dst=02:00:00:00:99:00,actions=goto_table:1", False, id="to a new table"),
        pytest.param("priority=2,dl_dst=02:00:00:00:99:00,actions=drop", False, id="behind rules with a program"),
    ],
)
def test_what_the_code_can_do_already(flow: str, possible: bool) -> None:
    tables = make_tables(
        map(parse_rule, [*BASE, SET_FIELD, "priority=5,dl_dst=02:00:00:00:02:00,actions=drop", *OTHERS])
    )
    compilation = compiled(tables)
    tables.begin()
    tables.change(FlowMod(Command.ADD, parse_rule(flow)))
    delta = tables.delta()
    assert (amend(compilation, delta.added, delta.removed, tables.slots) is not None) == possible


def test_a_rule_that_another_hid_comes_back_in_a_new_image() -> None:
    tables = make_tables(map(parse_rule, [*BASE, "priority=4,dl_dst=02:00:00:00:00:00,actions=drop"]))
    compilation = compiled(tables)
    tables.begin()
    tables.change(parse_selection("priority=5,dl_dst=02:00:00:00:00:00", strict=True))
    delta = tables.delta()
    assert amend(compilation, delta.added, delta.removed, tables.slots) is None


def amended(flows: list[str], *mods: FlowMod) -> Amendment | None:
    """The amendment for changes of tables with these flows."""
    tables = make_tables(map(parse_rule, flows))
    compilation = compiled(tables)
    tables.begin()
    for mod in mods:
        tables.change(mod)
    delta = tables.delta()
    return amend(compilation, delta.added, delta.removed, tables.slots)


def test_rules_that_one_change_deletes_go_worst_first() -> None:
    """As long as the best is there, it decides: for each packet all of them are there, or none."""
    better = [f"priority=9,dl_dst=02:00:00:00:00:{number:02x},actions=drop" for number in range(20)]
    worse = [f"priority=5,dl_src=02:00:00:00:00:{number:02x},actions=output:1" for number in range(20)]
    made = amended([*better, *worse], parse_selection("table=0"))
    assert made is not None
    assert [element.spot.lowered.mask for element in made.elements if element.spot is not None] == [
        *[runtime().layout.key.lower(parse_rule(worse[0]).match).mask] * 20,
        *[runtime().layout.key.lower(parse_rule(better[0]).match).mask] * 20,
    ]


DEAD = [f"priority=5,dl_dst=02:00:00:00:00:{number:02x},filter_prog=1,actions=output:1" for number in range(20)]


@pytest.mark.parametrize(
    "mod",
    [
        FlowMod(Command.ADD, parse_rule(DEAD[0].replace("00:00,", "99:00,"))),
        parse_selection("dl_dst=02:00:00:00:00:00"),
    ],
    ids=["added", "deleted"],
)
def test_rules_where_no_packet_comes_to_have_no_map(mod: FlowMod) -> None:
    assert amended([*DEAD, "priority=100,actions=drop"], mod) is None


def test_a_group_that_no_action_set_had_is_new_code() -> None:
    tables = Tables()
    for number in (5, 7):
        tables.change(GroupMod(GroupCommand.ADD, parse_group(f"group_id={number},type=all,bucket=output:1")))
    flows = [f"table=1,priority=5,dl_dst=02:00:00:00:00:{n:02x},actions=write_actions(group:5)" for n in range(20)]
    for flow in ("actions=write_actions(output:1),goto_table:1", *flows):
        tables.change(FlowMod(Command.ADD, parse_rule(flow)))
    for group, possible in ((5, True), (7, False)):
        compilation = compiled(tables)
        tables.begin()
        flow = f"table=1,priority=5,dl_dst=02:00:00:00:99:00,actions=write_actions(group:{group})"
        tables.change(FlowMod(Command.ADD, parse_rule(flow)))
        delta = tables.delta()
        assert (amend(compilation, delta.added, delta.removed, tables.slots) is not None) == possible
        tables.rollback()


def test_where_there_is_no_more_room() -> None:
    """Beyond what the map of rules, or that of counters, was made for the code stays, and the maps are larger."""
    tables = make_tables(map(parse_rule, BASE))
    room = next(each.spec.max_entries for each in compiled(tables).image.maps if each.name == rules_map(2))
    more = [
        f"priority=5,dl_dst=02:00:00:01:{n >> 8:02x}:{n & 255:02x},actions=output:1" for n in range(room - len(BASE))
    ]
    for flows, fits in ((more, True), ([*more, "priority=5,dl_dst=02:00:00:02:00:00,actions=output:1"], False)):
        tables = make_tables(map(parse_rule, BASE))
        compilation = compiled(tables)
        tables.begin()
        for flow in flows:
            tables.change(FlowMod(Command.ADD, parse_rule(flow)))
        delta = tables.delta()
        amendment = amend(compilation, delta.added, delta.removed, len(BASE) if fits else tables.slots)
        assert amendment is not None
        assert amendment.outgrown != fits
        if not fits:
            assert grown(compilation.image, amendment, tables.slots) == compiled(tables).image
            assert compilation.image == compiled(make_tables(map(parse_rule, BASE))).image
    amendment = amend(compiled(tables), (), (), 1 << 20)
    assert amendment is not None
    assert amendment.outgrown
