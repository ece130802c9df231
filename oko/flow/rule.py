"""A rule and the flow_mod that changes rules."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from oko.flow.action import Action, ApplyActions, GotoTable, Instruction, WriteActions
from oko.flow.match import Match


@dataclass(frozen=True, slots=True)
class Rule:
    """A flow entry as somebody wrote it. `priority` 0–65535, higher first; `cookie` is 64 bits. `instructions` are in
    the order of INSTRUCTION_ORDER. Timeouts are in seconds, 0 for none: the rule goes away when it has matched no
    packet for `idle_timeout`, and `hard_timeout` after it was added. `send_removed`: controllers hear when it goes."""

    match: Match
    instructions: tuple[Instruction, ...] = ()
    priority: int = 32768
    table: int = 0
    cookie: int = 0
    idle_timeout: int = 0
    hard_timeout: int = 0
    send_removed: bool = False

    @property
    def actions(self) -> tuple[Action, ...]:
        """All actions that the rule applies or writes, in order."""
        return tuple(
            action
            for instruction in self.instructions
            if isinstance(instruction, ApplyActions | WriteActions)
            for action in instruction.actions
        )

    @property
    def is_table_miss(self) -> bool:
        """Whether it is its table's table-miss entry (OpenFlow 1.3.5, 5.4): lowest priority, no conditions."""
        return self.priority == 0 and not self.match.conditions

    @property
    def goto(self) -> int | None:
        """The table where the lookup goes on."""
        last = self.instructions[-1] if self.instructions else None
        return last.table if isinstance(last, GotoTable) else None


Rank = tuple[int, bool, int]
"""Sorts the entries of a table in the order in which a lookup tries them."""


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
    def rank(self) -> Rank:
        """Sorts entries in the order in which a lookup tries them: priority, then rules with a program
        before those without, then age."""
        return (-self.rule.priority, self.rule.match.program is None, self.age)


class Command(Enum):
    """What a flow_mod does (OpenFlow 1.3.5, 6.4), by its number on the wire. `is_delete`: it takes rules away."""

    ADD = 0
    MODIFY = 1
    MODIFY_STRICT = 2
    DELETE = 3
    DELETE_STRICT = 4

    def __init__(self, number: int) -> None:
        self.is_delete = number in (3, 4)


@dataclass(frozen=True, slots=True)
class FlowMod:
    """One change.

    For modifies and deletes `rule` names the rules meant: by its match, its table and, for the strict commands, its
    priority; `cookie_mask` restricts them to those whose cookie agrees with the rule's under the mask. For deletes
    only, `all_tables` means every table in place of the rule's, and `out_port` and `out_group` (None: any) restrict
    them to rules that send there. For adds and modifies `reset_counts` starts the counters anew; for adds
    `check_overlap` refuses a rule that overlaps another of its priority.

    A modify of OpenFlow 1.0 (1.0.1, 4.6) may mean `all_tables`, too. With `new_cookie`, the rules that it modifies get
    this cookie, and where it finds none and has no `cookie_mask`, it adds one to the rule's table.
    """

    command: Command
    rule: Rule
    cookie_mask: int = 0
    all_tables: bool = False
    out_port: int | None = None
    out_group: int | None = None
    reset_counts: bool = False
    check_overlap: bool = False
    new_cookie: int | None = None
