"""Hints: what they say of groups of rules, and that an image with them finds what the reference switch finds."""

from __future__ import annotations

import random

import pytest

from oko.compiler.amendment import amend
from oko.compiler.compile import Compilation, compile_tables
from oko.compiler.hints import HINTS, Hints, hint_key
from oko.compiler.plan import Group, plan
from oko.flow.rule import Command, FlowMod
from oko.flow.tables import Tables
from oko.flow.text import parse_rule
from tests.oko.compiler.objects import runtime
from tests.oko.compiler.strategies import written
from tests.oko.compiler.test_pipeline import run_both

LAYOUT = runtime().layout.key
FIELDS = (
    "in_port=1",
    "dl_src=02:00:00:00:00:01",
    "nw_tos=32",
    "nw_src=10.0.0.0/8",
    "tp_src=7",
    "tp_dst=9",
    "dl_vlan=0xffff",
)
EACH = 20
PER_PORT = {1: 1, 2: 2}


def shape(number: int) -> str:
    """What rules of a mask look at, but for the destination."""
    return ",".join(field for bit, field in enumerate(FIELDS) if number >> bit & 1)


def flow(number: int, destination: int, priority: int = 5, port: int = 2) -> str:
    """A rule of the mask `number`."""
    fields = ("udp", f"nw_dst=192.0.{destination >> 8}.{destination & 255}", *filter(None, [shape(number)]))
    return f"priority={priority},{','.join(fields)},actions=output:{port}"


def of_masks(masks: int, spread: int) -> Tables:
    """EACH rules of so many masks; `spread`: from the destinations of one mask to those of the next."""
    return written(*(flow(mask, mask * spread + n) for mask in range(masks) for n in range(EACH)))


def compiled(tables: Tables) -> Compilation:
    return compile_tables(tables, {}, PER_PORT, runtime())


def groups_of(tables: Tables) -> list[Group]:
    (segment,) = plan(tables.ranked(), LAYOUT).segments
    return segment.hashed


def test_a_hint_names_the_group_of_every_rule() -> None:
    hints, groups = Hints(LAYOUT.size), groups_of(of_masks(16, EACH))
    hint = hints.add(groups)
    assert hint is not None
    for number, group in enumerate(groups):
        for value in group.candidates:
            assert hints.entries[hint.index(value)] >> number & 1
    (made,) = hints.maps()
    assert made.spec.max_entries == 2048
    assert made.entries.keys() == {hint_key(index) for index in hints.entries}


@pytest.mark.parametrize(
    ("masks", "spread"), [(16, 0), (4, 1)], ids=["the same destinations", "few masks, mostly the same"]
)
def test_there_are_none_that_spare_little(masks: int, spread: int) -> None:
    hints = Hints(LAYOUT.size)
    assert hints.add(groups_of(of_masks(masks, spread))) is None
    assert hints.maps() == []


def frame(destination: int, generator: random.Random) -> bytes:
    """A datagram to there that has some of what the rules look at."""
    tos, source = generator.choice((0, 32)), generator.choice(("0a000001", "0b000001"))
    ports = generator.choice(("0007", "0008")) + generator.choice(("0009", "000a"))
    ip = f"45{tos:02x}001c000000004011 0000 {source} c000{destination:04x}"
    tag = generator.choice(("", "", "81000005"))
    return bytes.fromhex(f"020000000002 0200000000{generator.choice((1, 3)):02x}{tag}0800{ip}{ports}00080000").ljust(
        60, b"\0"
    )


@pytest.mark.needs_bpf
@pytest.mark.parametrize("masks", [5, 9, 64, 100])
def test_finds_what_the_reference_finds(masks: int) -> None:
    """Also where some destinations have rules of two masks, of which the better one wins, and where more groups are
    than one number has bits."""
    generator = random.Random(masks)
    rules = [
        flow(mask, mask * (EACH - 1) + n, 1 + mask % 7, 1 + mask % 2) for mask in range(masks) for n in range(EACH)
    ]
    table = written(*rules)
    assert any(each.name == HINTS for each in compiled(table).image.maps)
    destinations = [generator.randrange(masks * EACH) for _ in range(300)]
    decisions = run_both(table, {}, [(frame(each, generator), 1 + each % 2, 0) for each in destinations])
    assert sum(decision.drop is None for decision in decisions) > 3


def test_a_rule_is_hinted_at_before_it_comes() -> None:
    tables = of_masks(8, EACH)
    compilation = compiled(tables)
    tables.begin()
    tables.change(FlowMod(Command.ADD, parse_rule(flow(3, 0))))
    tables.change(FlowMod(Command.ADD, parse_rule(flow(0, 1))))
    delta = tables.delta()
    amendment = amend(compilation, delta.added, delta.removed, tables.slots)
    assert amendment is not None
    assert [element.map for element in amendment.elements if element.map == HINTS] == [HINTS]
    assert amendment.elements[0].map == HINTS
    assert not amendment.elements[0].frees
    group = groups_of(tables)[3]
    known = compilation.plans[0].segments[0].groups[group.mask]
    assert known.hint is not None
    assert int.from_bytes(amendment.elements[0].value or b"", "little") & known.bit


def test_when_too_many_are_hinted_at_the_hints_are_made_anew() -> None:
    tables = of_masks(8, EACH)
    compilation = compiled(tables)
    tables.begin()
    for destination in range(1000, 2000):
        tables.change(FlowMod(Command.ADD, parse_rule(flow(0, destination))))
    delta = tables.delta()
    assert amend(compilation, delta.added, delta.removed, tables.slots) is None
