"""An image for people: its code as text, with the rules that the instructions belong to, and the way of packets through
the tables as a graph for Graphviz."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from typing import Final

from oko.compiler.image import Image
from oko.compiler.layout import KeyLayout
from oko.compiler.lookup import group_of, slot_of
from oko.compiler.plan import Segment, plan
from oko.flow.action import Action, Continue, Group, Output, Pass
from oko.flow.group import GroupEntry
from oko.flow.group_text import print_group
from oko.flow.observer_text import print_observer
from oko.flow.rule import Entry
from oko.flow.tables import Tables
from oko.flow.text import print_rule
from oko.flow.words import write_port
from verifier.text import commented

SHOWN: Final = 12
"""Rules, or buckets, that are told in one place; of the others only how many they are."""
LONGEST_LINE: Final = 400
"""Characters of a rule or bucket that are told."""

_RULE: Final = re.compile(r"rule in slot (\d+)")
_HASH: Final = re.compile(r"hash (\d+):")
_ACTIONS: Final = re.compile(r"table (\d+), actions (\d+)")


def annotate(image: Image, tables: Tables) -> str:
    """The code of an image that was compiled from `tables`, a line per instruction, behind what it does and for which
    rules."""
    notes = _Notes(image, tables)
    comments: dict[int, list[str]] = {}
    for index, note in image.notes:
        comments.setdefault(index, []).extend((note, *(f"  {line}" for line in notes.rules_of(note))))
    return "".join(f"{line}\n" for line in commented(image, comments))


class _Notes:
    """Finds the rules that a note of the image speaks of."""

    def __init__(self, image: Image, tables: Tables) -> None:
        self._entries = {entry.slot: entry for entry in tables}
        self._by_actions: dict[tuple[int, int], list[Entry]] = {}
        for entry in tables:
            want = image.wants.get(entry.slot)
            if want is not None:
                self._by_actions.setdefault((entry.rule.table, want.template), []).append(entry)
        self._hashed: dict[int, list[Entry]] = {}
        for image_map in image.maps:
            for key, value in image_map.entries.items():
                if (group := group_of(image_map.name, key)) is not None:
                    self._hashed.setdefault(group, []).append(self._entries[slot_of(value)])

    def rules_of(self, note: str) -> Iterator[str]:
        """The rules, as text."""
        if found := _RULE.match(note):
            return _shown([self._entries[int(found[1])]])
        if found := _HASH.match(note):
            return _shown(self._hashed[int(found[1])])
        if found := _ACTIONS.match(note):
            return _shown(self._by_actions.get((int(found[1]), int(found[2])), ()))
        return iter(())


def draw(tables: Tables, layout: KeyLayout, *, attached: bool = False) -> str:
    """The way of packets through the tables that they can reach: observers, segments (rules of one program that stand
    next to each other), programs, and from each where packets go. `attached`: those that miss go to Open vSwitch."""
    graph = _Graph(layout, attached=attached)
    reached, ahead = set[int](), [0]
    while ahead:
        table = ahead.pop()
        if table not in reached:
            reached.add(table)
            ahead += (entry.rule.goto for entry in tables.ranked(table) if entry.rule.goto is not None)
    for table in sorted(reached):
        graph.add_table(table, tables)
    for number in sorted(graph.groups(tables)):
        graph.add_group(tables.groups[number])
    return graph.text()


class _Graph:
    """Collects nodes and edges. The names of nodes are made of what they stand for: t0, t0s1, program3, group1."""

    def __init__(self, layout: KeyLayout, *, attached: bool) -> None:
        self._layout = layout
        self._attached = attached
        self._nodes: list[str] = []
        self._edges: dict[str, None] = {"start -> t0": None}
        self._ends: dict[str, str] = {}
        self._groups: set[int] = set()

    def text(self) -> str:
        """The whole graph."""
        nodes = ["node [shape=box fontname=monospace]", _node("start", "packet", "ellipse"), *self._nodes]
        nodes += [_node(name, label, "ellipse") for name, label in sorted(self._ends.items())]
        body = "".join(f"  {line}\n" for line in ("rankdir=LR", *nodes, *self._edges))
        return f"digraph pipeline {{\n{body}}}\n"

    def groups(self, tables: Tables) -> set[int]:
        """The groups that were named, and those that they lead to."""
        found, ahead = set[int](), set(self._groups)
        while ahead:
            number = ahead.pop()
            found.add(number)
            buckets = tables.groups[number].spec.buckets
            ahead |= {a.number for b in buckets for a in b.actions if isinstance(a, Group)} - found
        return found

    def add_table(self, number: int, tables: Tables) -> None:
        """A table: its stages from top to bottom, and where rules of each lead to."""
        segments = plan(tables.ranked(number), self._layout).segments
        observers = [observer for observer in tables.observers if observer.table == number]
        stages: list[tuple[str, str]] = [(f"t{number}", f"table {number}")]
        for index, observer in enumerate(observers):
            stages.append((f"t{number}o{index}", f"observer: {print_observer(observer)}"))
            self._ask(stages[-1][0], observer.match.program)
        for index, segment in enumerate(segments):
            name = f"t{number}s{index}"
            stages.append((name, _lines([f"segment {index}", *_shown(_entries_of(segment))])))
            self._ask(name, segment.program)
            for entry in _entries_of(segment):
                self._lead(name, entry)
        stages.append((f"t{number}miss", "miss" if self._attached else "miss: drop"))
        if self._attached:
            self._leave(stages[-1][0])
        self._nodes.append(f"subgraph cluster_{number} {{")
        self._nodes += [f"  {_node(name, label)}" for name, label in stages]
        self._nodes.append("}")
        for (name, _), (following, _) in pairwise(stages):
            self._edge(name, following, "else" if name.startswith(f"t{number}s") else "")

    def add_group(self, group: GroupEntry) -> None:
        """A group, and where its buckets lead to."""
        name = f"group{group.spec.number}"
        head, *buckets = print_group(group.spec).split(",bucket=")
        lines = [f"bucket {index}: {bucket}" for index, bucket in enumerate(buckets)]
        self._nodes.append(_node(name, _lines([head, *_first(lines, len(lines), "buckets")])))
        for bucket in group.spec.buckets:
            self._act(name, bucket.actions)

    def _ask(self, name: str, program: int | None) -> None:
        if program is not None:
            self._ends[f"program{program}"] = f"program {program}"
            self._edge(name, f"program{program}", "asks", style="dashed")

    def _lead(self, name: str, entry: Entry) -> None:
        """Edges to where a rule sends its packets."""
        rule = entry.rule
        self._act(name, rule.actions)
        if rule.goto is not None:
            self._edge(name, f"t{rule.goto}", "goto")
        elif not any(isinstance(action, Output | Group | Pass | Continue) for action in rule.actions):
            self._ends["end"] = "end"
            self._edge(name, "end")

    def _act(self, name: str, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case Output(port):
                    self._ends[f"port{port}"] = f"port {write_port(port)}"
                    self._edge(name, f"port{port}")
                case Group(number):
                    self._groups.add(number)
                    self._edge(name, f"group{number}")
                case Pass():
                    self._leave(name)
                case Continue():
                    self._leave(name, "with a shim")

    def _leave(self, name: str, label: str = "") -> None:
        self._ends["switch"] = "Open vSwitch"
        self._edge(name, "switch", label)

    def _edge(self, one: str, other: str, label: str = "", *, style: str = "") -> None:
        marks = [f'label="{label}"'] if label else []
        marks += [f"style={style}"] if style else []
        self._edges[f"{one} -> {other}" + (f" [{' '.join(marks)}]" if marks else "")] = None


def _entries_of(segment: Segment) -> list[Entry]:
    """The rules of a segment that can win, in rank order."""
    entries = [candidate.entry for group in segment.groups.values() for candidate in group.candidates.values()]
    return sorted(entries, key=lambda entry: entry.rank)


def _shown(entries: Sequence[Entry]) -> Iterator[str]:
    """The first of them as text, in rank order, and how many the others are."""
    ranked = sorted(entries, key=lambda entry: entry.rank)
    return _first((print_rule(entry.rule) for entry in ranked), len(ranked), "rules")


def _first(lines: Iterable[str], count: int, what: str) -> Iterator[str]:
    """The first of `count` lines, none too long, and how many the others are."""
    for line in islice(lines, SHOWN):
        yield line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]} …"
    if count > SHOWN:
        yield f"and {count - SHOWN} more {what}"


def _node(name: str, label: str, shape: str = "") -> str:
    return f'{name} [label="{label}"{f" shape={shape}" if shape else ""}]'


def _lines(lines: Iterable[str]) -> str:
    """The label that has these lines, each on the left."""
    return "".join(f"{line}\\l" for line in lines)
