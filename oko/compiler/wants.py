"""`Wants`: what every rule of a bridge wants to happen when it wins, lowered to procedures and their data."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from oko.compiler import counters
from oko.compiler.image import ImageMap, Want
from oko.compiler.lowering import Lowering, Pending
from oko.compiler.step import Procedure, Step
from oko.errors import BadAction, LimitExceeded
from oko.flow.action import Group, Instruction, WriteActions
from oko.flow.rule import Entry, Rule
from oko.flow.tables import Tables
from verifier.program import MapSpec, MapType

DATA_LIMIT: Final = 1 << 15
"""Bytes of the data of one procedure: an instruction reaches no farther."""

ARGUMENTS_LIMIT: Final = 1 << 28
"""Bytes of the map `arguments`."""

ARGUMENTS: Final = "arguments"
"""The map of the data."""

_Kind = tuple[tuple[Instruction, ...], bool]
"""What decides what a rule of a table wants: its instructions, and whether it is the table-miss rule."""


@dataclass
class Wants:
    """`pending` has the tables that packets can reach, with what is pending when they do; `procedures` what each
    table's rules want, by template; `by_slot` what a rule wants; `groups` the groups that an action set may name:
    number → (index of the data, steps)."""

    lowering: Lowering
    pending: dict[int, Pending] = field(default_factory=lambda: {0: Pending()})
    procedures: dict[int, tuple[Procedure, ...]] = field(default_factory=dict)
    by_slot: dict[int, Want] = field(default_factory=dict)
    groups: dict[int, tuple[int, tuple[Step, ...]]] = field(default_factory=dict)
    _known: dict[int, dict[_Kind, Want]] = field(default_factory=dict)  # by table
    _arguments: dict[bytes, int] = field(default_factory=dict)
    _data: list[bytes] = field(default_factory=list)  # the same, by index
    _size: int = 0  # bytes of an element of the map
    _room: int = 0  # elements of it

    def add(self, tables: Tables) -> None:
        """Lower every group that action sets may name, and every rule. Raises BadAction, LimitExceeded."""
        for number in sorted(_written_groups(tables)):
            try:
                steps = self.lowering.group(number)
            except BadAction as error:
                raise BadAction(f"group {number}, in an action set: {error}", reason=error.reason) from error
            self.groups[number] = (self._index(Procedure(steps).data), steps)
        by_table: dict[int, list[Entry]] = {}
        for entry in tables:
            by_table.setdefault(entry.rule.table, []).append(entry)
        for number in sorted(by_table):
            self._table(number, by_table[number])

    def amend(self, rule: Rule) -> Want | None:
        """What a new rule of a table that packets can reach wants, None if the code cannot do that: it takes another
        template, leaves something else pending, or finds no room for its data. Raises BadAction, LimitExceeded; after
        that, and after None, this is good for nothing."""
        kind = _kind(rule)
        known = self._known.setdefault(rule.table, {})
        if kind not in known:
            sets = self.lowering.sets
            before = sets.size
            if not self.groups.keys() >= _groups_written(rule):
                return None
            procedure, behind = self._lower(rule, self.pending[rule.table])
            shapes = [other.shape for other in self.procedures.get(rule.table, ())]
            if sets.size != before or procedure.shape not in shapes or not self._is_pending(rule.goto, behind):
                return None
            want = self._want(shapes.index(procedure.shape), procedure)
            if not procedure.direct and (len(procedure.data) > self._size or want.argument >= self._room):
                return None
            known[kind] = want
        return known[kind]

    @property
    def arguments(self) -> int:
        """How many elements of the map are in use."""
        return len(self._arguments)

    def elements(self, first: int = 0) -> dict[bytes, bytes]:
        """The elements of the map from the index `first` on. With those that are all zeros: what is not named counts as
        free, and may be written under readers' eyes."""
        return {
            index.to_bytes(4, "little"): data.ljust(self._size, b"\0")
            for index, data in enumerate(islice(self._data, first, None), first)
        }

    def maps(self) -> list[ImageMap]:
        """The data of all steps. Raises LimitExceeded."""
        if not self._arguments:
            return []
        self._size = counters.power_of_two(max(map(len, self._arguments)), 16)
        self._room = _room(len(self._arguments), self._size)
        if self._size * self._room > ARGUMENTS_LIMIT:
            raise LimitExceeded(
                "bytes of the data of all actions",
                self._size * self._room,
                ARGUMENTS_LIMIT,
                advice=f"every rule's take as much as the longest, {self._size}: use smaller groups",
            )
        spec = MapSpec(ARGUMENTS, MapType.ARRAY, 4, self._size, self._room)
        return [ImageMap(ARGUMENTS, spec, shared=False, entries=self.elements())]

    def _table(self, number: int, entries: list[Entry]) -> None:
        """Lower the rules of one table. Those of a table that no packet reaches are looked at, and forgotten."""
        reached = number in self.pending
        pending = self.pending.get(number, Pending())
        lowered: dict[_Kind, Procedure] = {}
        kinds: list[_Kind] = []
        for entry in entries:
            kind = _kind(entry.rule)
            kinds.append(kind)
            if kind in lowered:
                continue
            lowered[kind], behind = self._lower(entry.rule, pending)
            goto = entry.rule.goto
            if reached and goto is not None:
                self.pending[goto] = self.pending[goto] | behind if goto in self.pending else behind
        shapes = {procedure.shape: procedure for procedure in lowered.values()}
        order = sorted(shapes, key=repr)
        self.procedures[number] = tuple(shapes[shape] for shape in order)
        if not reached:
            return
        templates = {shape: index for index, shape in enumerate(order)}
        known = {kind: self._want(templates[procedure.shape], procedure) for kind, procedure in lowered.items()}
        self._known[number] = known
        for entry, kind in zip(entries, kinds, strict=True):
            self.by_slot[entry.slot] = known[kind]

    def _lower(self, rule: Rule, pending: Pending) -> tuple[Procedure, Pending]:
        """What happens for a rule, and what is pending behind it."""
        try:
            procedure = self.lowering.procedure(rule, pending)
            behind = self.lowering.behind(rule, procedure, pending)
            if rule.goto is None:
                self.lowering.end(behind)
        except BadAction as error:
            raise BadAction(f"table {rule.table}, priority {rule.priority}: {error}", reason=error.reason) from error
        return procedure, behind

    def _is_pending(self, table: int | None, behind: Pending) -> bool:
        """Whether packets come to a table with all that already."""
        if table is None:
            return True
        pending = self.pending.get(table)
        return pending is not None and pending | behind == pending

    def _want(self, template: int, procedure: Procedure) -> Want:
        return Want(template, procedure.argument if procedure.direct else self._index(procedure.data))

    def _index(self, data: bytes) -> int:
        if len(data) > DATA_LIMIT:
            raise LimitExceeded(
                "bytes of data of one list of actions",
                len(data),
                DATA_LIMIT,
                advice="use fewer actions, or fewer buckets",
            )
        if not data:
            return 0
        if data not in self._arguments:
            self._arguments[data] = len(self._data)
            self._data.append(data)
        return self._arguments[data]


def _room(elements: int, size: int) -> int:
    """How many elements of so many bytes the map is made for: some more, as long as that stays within the limit."""
    room = counters.room_for(elements)
    while size * room > ARGUMENTS_LIMIT and room // 2 >= elements:
        room //= 2
    return room


def _kind(rule: Rule) -> _Kind:
    return rule.instructions, rule.is_table_miss


def _written_groups(tables: Tables) -> set[int]:
    """The groups that action sets may name."""
    return {number for entry in tables for number in _groups_written(entry.rule)}


def _groups_written(rule: Rule) -> set[int]:
    return {
        action.number
        for instruction in rule.instructions
        if isinstance(instruction, WriteActions)
        for action in instruction.actions
        if isinstance(action, Group)
    }
