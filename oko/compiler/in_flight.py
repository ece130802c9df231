"""`InFlight`: which changes of live maps a packet in flight may have seen or not, and when the next has to wait for it.

A packet looks into one group of hashed rules after the other, and into one table after the other. If a rule went into a
group that the packet has looked into already, and another into one that it has not, the packet would see the second
without the first: tables that never were. Within a table that matters only if one packet can match both. Between tables
packets are rewritten, so any two may matter; but not when the later change is of an earlier table, as a packet that
meets it comes to the other afterwards. So before a rule changes that may be seen without one which changed lately,
packets have to be through.

And the kernel gives the memory of an element that is deleted or replaced to the next element that goes into the same
map, though a packet may be reading it (kernel/bpf/memalloc.c since 6.1): before that, too, packets have to be through.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from oko.compiler.layout import Lowered


class Spot(NamedTuple):
    """Where packets find a rule: in the group of this number of this table, when they have what it looks at."""

    table: int
    group: int
    lowered: Lowered


class Element(NamedTuple):
    """A change of one element of the map that images call `map`: `value` None removes it, `replaces` says that there is
    one. A rule's has a `spot`. (A named tuple, as is that, for the sake of flow_mods by the ten thousand.)"""

    map: str
    key: bytes
    value: bytes | None
    replaces: bool = False
    spot: Spot | None = None

    @property
    def frees(self) -> bool:
        """Whether memory becomes free that packets may be reading."""
        return self.value is None or self.replaces


@dataclass(slots=True)
class _Changed:
    """The rules of one group that changed."""

    table: int
    mask: int
    values: set[int] = field(default_factory=set)
    projections: dict[int, set[int]] = field(default_factory=dict)

    def add(self, value: int) -> None:
        self.values.add(value)
        for common, projected in self.projections.items():
            projected.add(value & common)

    def overlaps(self, lowered: Lowered) -> bool:
        common = self.mask & lowered.mask
        if common not in self.projections:
            self.projections[common] = {value & common for value in self.values}
        return lowered.value & common in self.projections[common]


class InFlight:
    """What has changed since the last wait."""

    def __init__(self) -> None:
        self._changed: dict[int, _Changed] = {}
        self._freed: set[str] = set()

    def clear(self) -> None:
        """Every packet is through."""
        self._changed.clear()
        self._freed.clear()

    def steps(self, elements: Iterable[Element]) -> list[list[Element]]:
        """The elements, in order, with a wait between each of the lists and the next. The first list is empty when the
        first element has to wait already. They count as changed from now on."""
        steps: list[list[Element]] = [[]]
        for element in elements:
            if self._must_wait(element):
                self.clear()
                steps.append([])
            self._note(element)
            steps[-1].append(element)
        return steps

    def _must_wait(self, element: Element) -> bool:
        if element.value is not None and element.map in self._freed:
            return True
        if element.spot is None:
            return False
        table, group, lowered = element.spot
        for number, changed in self._changed.items():
            if number != group and (changed.table < table or (changed.table == table and changed.overlaps(lowered))):
                return True
        return False

    def _note(self, element: Element) -> None:
        if element.frees:
            self._freed.add(element.map)
        if element.spot is None:
            return
        table, group, lowered = element.spot
        changed = self._changed.get(group)
        if changed is None:
            changed = self._changed[group] = _Changed(table, lowered.mask)
        changed.add(lowered.value)
