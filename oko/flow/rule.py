"""A rule and the flow_mod that changes rules."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from oko.flow.action import Action, ApplyActions, Instruction
from oko.flow.match import Match


@dataclass(frozen=True, slots=True)
class Rule:
    """A flow entry as somebody wrote it. `priority` 0–65535, higher first; `cookie` is 64 bits."""

    match: Match
    instructions: tuple[Instruction, ...] = ()
    priority: int = 32768
    table: int = 0
    cookie: int = 0

    @property
    def actions(self) -> tuple[Action, ...]:
        """All actions that the rule applies, in order; none means drop."""
        return tuple(
            action
            for instruction in self.instructions
            if isinstance(instruction, ApplyActions)
            for action in instruction.actions
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """A rule in a table.

    `age` orders rules of equal priority: lower is older. `slot` is the index of its counters, unique among
    the rules that live. `installed` is the time it was added, in ns of the monotonic clock.
    """

    rule: Rule
    age: int
    slot: int
    installed: int = 0

    @property
    def rank(self) -> tuple[int, bool, int]:
        """Sorts entries in the order in which a lookup tries them: priority, then rules with a program
        before those without, then age."""
        return (-self.rule.priority, self.rule.match.program is None, self.age)


class Command(Enum):
    """What a flow_mod does (OpenFlow 1.3.5, 6.4), by the number it has on the wire."""

    ADD = 0
    MODIFY = 1
    MODIFY_STRICT = 2
    DELETE = 3
    DELETE_STRICT = 4


@dataclass(frozen=True, slots=True)
class FlowMod:
    """One change.

    For modifies and deletes `rule` names the rules meant: by its match, its table and, for the strict commands, its
    priority; `cookie_mask` restricts them to those whose cookie agrees with the rule's under the mask. For deletes
    only, `all_tables` means every table in place of the rule's, and `out_port` (None: any) restricts them to rules
    that output there. For adds and modifies `reset_counts` starts the counters anew; for adds `check_overlap`
    refuses a rule that overlaps another of its priority.
    """

    command: Command
    rule: Rule
    cookie_mask: int = 0
    all_tables: bool = False
    out_port: int | None = None
    reset_counts: bool = False
    check_overlap: bool = False
