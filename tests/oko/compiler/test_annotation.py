"""Images for people: instructions stand behind the rules that they belong to, graphs have what packets can meet."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from oko.compiler.annotation import LONGEST_LINE, SHOWN, annotate, draw
from oko.compiler.compile import compile_image
from oko.compiler.image import Filter, Image
from oko.flow.action import Continue, Pass
from oko.flow.group_text import parse_group
from oko.flow.observer_text import parse_observer
from oko.flow.rule import Command, FlowMod
from oko.flow.tables import Tables
from oko.flow.text import parse_rule
from oko.replay.replay import make_tables
from tests.oko.compiler.objects import filter_program, runtime
from tests.oko.flow.written import rule

FILTERS = {1: Filter(1, 0, filter_program("odd_port")), 2: Filter(2, 1, filter_program("spaced"))}
RULES = (
    "priority=9,tcp,filter_prog=1 actions=output:2",
    "priority=8,ip actions=dec_ttl,goto_table:3",
    "table=3, priority=3,ip actions=group:4",
    "table=3, actions=drop",
    "table=7, actions=output:1",
)
GROUPS = ("group_id=4,type=all,bucket=group:5", "group_id=5,type=select,bucket=output:1,bucket=weight:3,output:2")


def tables(rules: Sequence[str] = RULES) -> Tables:
    groups = map(parse_group, reversed(GROUPS))
    return make_tables(map(parse_rule, rules), FILTERS, groups, (), [parse_observer("arp,filter_prog=2")])


def compiled(made: Tables) -> Image:
    return compile_image(made, FILTERS, {1: 1, 2: 2}, runtime())


def behind(text: str, comment: str) -> list[str]:
    """The comments that follow this one."""
    lines = text.splitlines()
    start = lines.index(f"; {comment}") + 1
    stop = next(index for index in range(start, len(lines)) if not lines[index].startswith(";   "))
    return [line.removeprefix(";   ") for line in lines[start:stop]]


def test_every_instruction_is_listed_once() -> None:
    image = compiled(tables())
    listed = [int(number) for number in re.findall(r"^ *(\d+): ", annotate(image, tables()), re.MULTILINE)]
    long = {index for index, instruction in enumerate(image.instructions) if instruction.opcode == 0}
    assert listed == [index for index in range(len(image.instructions)) if index not in long]


@pytest.mark.parametrize(
    ("comment", "rules"),
    [
        ("rule in slot 5, priority 9", [0]),
        ("rule in slot 6, priority 8", [1]),
        ("table 0, actions 0", [0]),
        ("table 0, actions 1", [1]),
        ("table 0, observer 2", []),
        ("table 3, segment 0, no program", []),
    ],
)
def test_rules_of_instructions(comment: str, rules: list[int]) -> None:
    made = tables()
    assert behind(annotate(compiled(made), made), comment) == [RULES[rule] for rule in rules]


def test_a_rule_that_no_packet_reaches_has_no_code() -> None:
    assert RULES[4] not in annotate(compiled(tables()), tables())


def test_programs_are_named() -> None:
    lines = annotate(compiled(tables()), tables()).splitlines()
    assert [lines[lines.index(f"{name}:") + 1] for name in ("odd_port", "spaced")] == ["; program 1", "; program 2"]


def test_hashed_rules() -> None:
    rules = [f"dl_dst=02:00:00:00:00:{number:02x} actions=output:1" for number in range(20)]
    made = tables(rules)
    text = annotate(compiled(made), made)
    (hashed,) = re.findall(r"^; (hash 0: .*)$", text, re.MULTILINE)
    assert behind(text, hashed) == [*rules[:SHOWN], f"and {20 - SHOWN} more rules"]


def test_a_long_rule_is_cut_off() -> None:
    actions = ",".join(f"set_field:{number}->tcp_dst" for number in range(80))
    made = tables([f"tcp actions={actions},output:1"])
    lines = annotate(compiled(made), made).splitlines()
    assert max(map(len, lines)) == LONGEST_LINE + len(";    …")


def test_graph() -> None:
    lines = [line.strip() for line in draw(tables(), runtime().layout.key).splitlines()]
    edges = [line for line in lines if " -> " in line]
    assert edges == [
        "start -> t0",
        't0o0 -> program2 [label="asks" style=dashed]',
        't0s0 -> program1 [label="asks" style=dashed]',
        "t0s0 -> port2",
        't0s1 -> t3 [label="goto"]',
        "t0 -> t0o0",
        "t0o0 -> t0s0",
        't0s0 -> t0s1 [label="else"]',
        't0s1 -> t0miss [label="else"]',
        "t3s0 -> end",
        "t3s0 -> group4",
        "t3 -> t3s0",
        't3s0 -> t3miss [label="else"]',
        "group4 -> group5",
        "group5 -> port1",
        "group5 -> port2",
    ]
    names = {name for edge in edges for name in edge.split(" [")[0].split(" -> ")}
    assert names == {line.split(" [")[0] for line in lines if " [label=" in line and " -> " not in line}


def test_graph_of_an_attached_bridge() -> None:
    tables = Tables()
    for number, action in enumerate((Pass(), Continue(7))):
        tables.apply(FlowMod(Command.ADD, rule(f"in_port={number + 1}", action)))
    lines = {line.strip() for line in draw(tables, runtime().layout.key, attached=True).splitlines()}
    assert lines >= {
        't0miss [label="miss"]',
        't0s0 -> switch [label="with a shim"]',
        "t0s0 -> switch",
        "t0miss -> switch",
        'switch [label="Open vSwitch" shape=ellipse]',
    }


def test_graph_of_nothing() -> None:
    assert "t0 -> t0miss" in draw(Tables(), runtime().layout.key)
