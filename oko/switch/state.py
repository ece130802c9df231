"""`State`: a bridge as it is on disk, and how each element that was written changes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from oko.errors import StateDamaged
from oko.flow.group import GroupEntry
from oko.flow.meter import MeterEntry
from oko.flow.observer import Observer
from oko.flow.rule import Entry
from oko.flow.tables import Tables
from oko.switch.datapath import Count
from oko.switch.saved import (
    Element,
    SavedCounts,
    SavedEnd,
    SavedGroups,
    SavedInherited,
    SavedMeters,
    SavedObservers,
    SavedProgram,
    SavedRules,
    SavedUnload,
    read_groups,
    read_meters,
    read_observers,
)


@dataclass(slots=True)
class State:
    """Rules by age, groups, meters and programs by number, and by slot what was counted outside of the kernel's map.
    `objects` are the object files of the programs, by digest. The state `inherits` when the tables are empty only as
    nobody knows those of the pinned pipeline, which decides packets on."""

    entries: dict[int, Entry] = field(default_factory=dict)
    groups: dict[int, GroupEntry] = field(default_factory=dict)
    meters: dict[int, MeterEntry] = field(default_factory=dict)
    observers: tuple[Observer, ...] = ()
    programs: dict[int, SavedProgram] = field(default_factory=dict)
    counts: dict[int, Count] = field(default_factory=dict)
    objects: Mapping[bytes, bytes] = field(default_factory=dict)
    inherits: bool = False

    def tables(self) -> Tables:
        """The tables of a state that is whole."""
        return Tables.restored(self.entries.values(), self.groups, self.meters, self.observers)

    def apply(self, element: Element) -> None:
        """Follow what was written. Raises FlowError, and StateDamaged for what can follow nothing that was."""
        if isinstance(element, SavedRules | SavedGroups | SavedMeters | SavedObservers):
            self.inherits = False
        match element:
            case SavedRules():
                self._apply_rules(element)
            case SavedGroups():
                before = _slots(self.groups)
                self.groups = read_groups(element)
                self._free(before - _slots(self.groups))
            case SavedMeters():
                self.meters = read_meters(element)
            case SavedObservers():
                self.observers = read_observers(element)
            case SavedProgram():
                self.programs[element.id] = element
            case SavedUnload():
                if self.programs.pop(element.id, None) is None:
                    raise StateDamaged(f"program {element.id} is unloaded, and was not loaded")
            case SavedCounts():
                self.counts |= {each.slot: Count(each.packets, each.bytes) for each in element.counts}
            case SavedEnd():
                if element.rules != len(self.entries):
                    raise StateDamaged(f"{element.rules} rules were written, {len(self.entries)} are there")
            case SavedInherited():
                self.inherits = True

    def require_whole(self) -> None:
        """Raises StateDamaged when a rule or observer names a program that is not loaded, or two have one place."""
        named = {entry.rule.match.program for entry in self.entries.values()}
        named |= {observer.match.program for observer in self.observers}
        if missing := {number for number in named if number is not None} - self.programs.keys():
            raise StateDamaged(f"rules name programs that are not loaded: {', '.join(map(str, sorted(missing)))}")
        for places in (
            [entry.slot for entry in self.entries.values()]
            + [slot for entry in self.groups.values() for slot in (entry.slot, *entry.slots)],
            [entry.slot for entry in self.meters.values()],
            [saved.slot for saved in self.programs.values()],
            [(entry.rule.table, entry.rule.priority, entry.rule.match) for entry in self.entries.values()],
        ):
            if len(set(places)) != len(places):
                raise StateDamaged("two have the same place in the tables, or the same counters")

    def begin_anew(self, now: int) -> None:
        """Another boot has begun: what stood in the kernel is gone, and so are the times of its clock; everything
        counts as added `now` (ns, monotonic)."""
        self.entries = {age: replace(entry, installed=now) for age, entry in self.entries.items()}
        self.groups = {number: replace(entry, installed=now) for number, entry in self.groups.items()}
        self.meters = {number: replace(entry, installed=now) for number, entry in self.meters.items()}
        self.counts.clear()
        self.inherits = False

    def _apply_rules(self, element: SavedRules) -> None:
        freed = set()
        for (age,) in element.removed:
            entry = self.entries.pop(age, None)
            if entry is None:
                raise StateDamaged(f"the rule of age {age} is removed, and was not there")
            freed.add(entry.slot)
        for entry in element.added:
            if entry.age in self.entries:
                raise StateDamaged(f"two rules have the age {entry.age}")
            self.entries[entry.age] = entry
            freed.discard(entry.slot)
        self._free(freed)

    def _free(self, slots: set[int]) -> None:
        for slot in slots:
            self.counts.pop(slot, None)


def _slots(groups: Mapping[int, GroupEntry]) -> set[int]:
    return {slot for entry in groups.values() for slot in (entry.slot, *entry.slots)}
