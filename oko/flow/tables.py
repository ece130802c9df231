"""The flow tables of one bridge, changed by flow_mods. A transaction works on a copy and keeps it or not."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import replace

from oko.errors import BadFlowMod
from oko.flow.action import Output
from oko.flow.match import Match
from oko.flow.rule import Command, Entry, FlowMod, Rule

_Key = tuple[int, int, Match]


class Tables:
    """Rules by (table, priority, match). One table, 0, for now: the pipeline compiles no goto yet."""

    def __init__(self) -> None:
        self._entries: dict[_Key, Entry] = {}
        self._next_age = 0
        self._next_slot = 0
        self._free_slots: list[int] = []

    def copy(self) -> Tables:
        """An independent copy; the entries are shared, as they never change."""
        other = Tables()
        other._entries = dict(self._entries)
        other._next_age = self._next_age
        other._next_slot = self._next_slot
        other._free_slots = list(self._free_slots)
        return other

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def slots(self) -> int:
        """Every slot in use is below this."""
        return self._next_slot

    def ranked(self, table: int = 0) -> list[Entry]:
        """The entries of a table in the order in which a lookup tries them."""
        return sorted((entry for entry in self if entry.rule.table == table), key=lambda entry: entry.rank)

    def apply(self, mod: FlowMod, *, now: int = 0) -> None:
        """Carry out one flow_mod at time `now` (ns, monotonic). Raises BadFlowMod and then changes nothing."""
        deletes = mod.command in (Command.DELETE, Command.DELETE_STRICT)
        if mod.all_tables and not deletes:
            raise BadFlowMod("only a delete can mean all tables: name one", reason="bad-table-id")
        if mod.rule.table != 0 and not mod.all_tables:
            raise BadFlowMod(f"table {mod.rule.table} does not exist: this switch has table 0", reason="bad-table-id")
        match mod.command:
            case Command.ADD:
                self._add(mod, now)
            case Command.MODIFY | Command.MODIFY_STRICT:
                for entry in list(self.select(mod)):
                    self._modify(entry, mod)
            case Command.DELETE | Command.DELETE_STRICT:
                for entry in list(self.select(mod)):
                    del self._entries[_key(entry.rule)]

    def select(self, mod: FlowMod) -> Iterator[Entry]:
        """The entries that a modify or delete is about (OpenFlow 1.3.5, 6.4)."""
        strict = mod.command in (Command.MODIFY_STRICT, Command.DELETE_STRICT)
        deletes = mod.command in (Command.DELETE, Command.DELETE_STRICT)
        candidates: Iterable[Entry] = self
        if strict and not mod.all_tables:
            exact = self._entries.get(_key(mod.rule))
            candidates = () if exact is None else (exact,)
        for entry in candidates:
            rule = entry.rule
            if rule.table != mod.rule.table and not mod.all_tables:
                continue
            if strict and (rule.priority, rule.match) != (mod.rule.priority, mod.rule.match):
                continue
            if not mod.rule.match.covers(rule.match) or (rule.cookie ^ mod.rule.cookie) & mod.cookie_mask:
                continue
            if deletes and mod.out_port is not None and Output(mod.out_port) not in rule.actions:
                continue
            yield entry

    def release(self, slots: Iterable[int]) -> None:
        """Give slots back, once no packet in flight can count in them any more and they are zero again."""
        for slot in slots:
            heapq.heappush(self._free_slots, slot)

    def _add(self, mod: FlowMod, now: int) -> None:
        rule = mod.rule
        replaced = self._entries.get(_key(rule))
        if mod.check_overlap and replaced is None:
            equals = (e.rule for e in self if (e.rule.table, e.rule.priority) == (rule.table, rule.priority))
            if any(other.match.overlaps(rule.match) for other in equals):
                raise BadFlowMod("the rule overlaps another of the same priority", reason="overlap")
        slot = self._new_slot() if replaced is None or mod.reset_counts else replaced.slot
        self._entries.pop(_key(rule), None)
        self._entries[_key(rule)] = Entry(rule, self._next_age, slot, now)
        self._next_age += 1

    def _modify(self, entry: Entry, mod: FlowMod) -> None:
        """Only the instructions change, and with reset_counts the counters: in a slot of their own, as packets in
        flight still count in the old one."""
        slot = self._new_slot() if mod.reset_counts else entry.slot
        rule = replace(entry.rule, instructions=mod.rule.instructions)
        self._entries[_key(rule)] = replace(entry, rule=rule, slot=slot)

    def _new_slot(self) -> int:
        if self._free_slots:
            return heapq.heappop(self._free_slots)
        self._next_slot += 1
        return self._next_slot - 1


def _key(rule: Rule) -> _Key:
    return (rule.table, rule.priority, rule.match)
