"""An image for people: its code as text, with the rules that the instructions belong to, and the way of packets through
the tables as a graph for Graphviz."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from oko.compiler.image import Image
from oko.compiler.layout import KeyLayout
from oko.compiler.lookup import RULES, age_of, slot_of
from oko.compiler.plan import Segment, plan
from oko.flow.action import Action, Group, Output
from oko.flow.group import GroupEntry
from oko.flow.group_text import print_group
from oko.flow.observer_text import print_observer
from oko.flow.rule import Entry
from oko.flow.tables import Tables
from oko.flow.text import print_rule
from oko.flow.words import write_port
from verifier.text import commented

RULES_SHOWN: Final = 12
"""Rules that are told in one place; of the others only how many they are."""

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
            if image_map.name.startswith(RULES):
                for key, value in sorted(image_map.entries.items(), key=lambda item: age_of(item[1])):
                    self._hashed.setdefault(hash_of(key), []).append(self._entries[slot_of(value)])

    def rules_of(self, note: str) -> Iterator[str]:
        """The rules, as text."""
        if found := _RULE.match(note):
            return _shown([self._entries[int(found[1])]])
        if found := _HASH.match(note):
            return _shown(self._hashed[int(found[1])])
        if found := _ACTIONS.match(note):
            return _shown(self._by_actions.get((int(found[1]), int(found[2])), ()))
        return iter(())


def draw(tables: Tables, layout: KeyLayout) -> str:
    """The way of packets through the tables that they can reach: observers, segments (rules of one program that stand
    next to each other), programs, and from each where packets go."""
    graph = _Graph(layout)
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
