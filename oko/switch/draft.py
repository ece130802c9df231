"""`Draft`: the tables of a bridge while they change, and what is known to be right of what comes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from oko.compiler.lowering import Lowering, Pending
from oko.errors import LimitExceeded
from oko.flow.action import Instruction, references
from oko.flow.change import Change
from oko.flow.port import PortState
from oko.flow.rule import Command, Entry, FlowMod, Rule
from oko.flow.tables import Tables
from oko.switch.timeouts import RemovalReason

_MOST_CHECKED: Final = 1 << 12
"""Lists of instructions that are known to be right, before what is known is forgotten."""


@dataclass(slots=True)
class Checks:
    """What is known to be right: good as long as groups, meters and ports are as they are."""

    lowering: Lowering
    right: set[tuple[Instruction, ...]] = field(default_factory=set)


@dataclass(slots=True)
class Draft:
    """Tables as they are to become, and the rules that go away on the way there."""

    tables: Tables
    checks: Checks | None = None
    removed: list[tuple[Entry, RemovalReason]] = field(default_factory=list)
    at_once: bool = False
    """Whether one of the changes is about rules of several tables, and so has to take effect at one instant."""

    def check(self, rule: Rule, states: Mapping[int, PortState], *, attached: bool) -> None:
        """Raises BadAction for a rule that one frame cannot do, or not in a bridge of this kind, whatever else is in
        the tables: a compiler would find out only after it has looked at everything."""
        tables = self.tables
        if self.checks is None or len(self.checks.right) > _MOST_CHECKED:
            self.checks = Checks(Lowering(states, tables.groups, tables.meters, attached))
        if attached:
            self.checks.lowering.require_place(rule)
        if rule.instructions in self.checks.right:
            return
        named = references(rule.instructions)
        if named.groups - tables.groups.keys() or named.meters - tables.meters.keys():
            return  # The tables refuse it, in better words.
        lowering = self.checks.lowering
        with contextlib.suppress(LimitExceeded):  # that is of all rules together
            lowering.behind(rule, lowering.procedure(rule, Pending()), Pending())
        self.checks.right.add(rule.instructions)

    def delete(self, entry: Entry, reason: RemovalReason) -> None:
        """Take one rule away."""
        self.change(FlowMod(Command.DELETE_STRICT, entry.rule), reason)

    def change(self, mod: Change, reason: RemovalReason) -> None:
        """Carry out one change; rules that it takes away go for this reason. Raises FlowError."""
        removed = self.tables.change(mod, now=time.monotonic_ns())
        if removed:
            self.removed += ((entry, reason) for entry in removed)
            self.at_once |= len({entry.rule.table for entry in removed}) > 1
        if isinstance(mod, FlowMod) and mod.all_tables and not mod.command.is_delete:
            self.at_once = True
