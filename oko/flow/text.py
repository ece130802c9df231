"""Rules and changes of rules in the syntax of ovs-ofctl (ovs-ofctl(8), ovs-actions(7), ovs-fields(7)), both ways.

    priority=10,tcp,in_port=1,nw_dst=10.0.0.0/8,tp_dst=80,filter_prog=1 actions=output:2

Commas or blanks separate. What ovs-ofctl reads of the fields in `FIELDS` is read here with the same meaning, but for
what it corrects silently and this module refuses: a field without its prerequisite, a field given two values, a
value too wide for its field. Ports 65280 to 65535 are those ports, as in OpenFlow 1.3, not OpenFlow 1.0's
reserved ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Final, TypeVar

from oko.errors import BadAction, BadFlowMod, BadMatch, FlowError
from oko.flow.action import RESERVED_PORTS, Action, Instruction
from oko.flow.action_text import read_actions, read_instructions, write_instructions
from oko.flow.consistency import Known, check_instructions
from oko.flow.fields import NEEDED
from oko.flow.match import Condition, Match
from oko.flow.match_text import PROTOCOLS, SPELLINGS, read_match, unknown_field, write_match
from oko.flow.rule import Command, FlowMod, Rule
from oko.flow.validity import check_action_list, check_rule
from oko.flow.words import SEPARATORS, Word, read_number, read_port, read_words

DEFAULT_PRIORITY: Final = 32768
ALL_TABLES: Final = 255
"""OFPTT_ALL (OpenFlow 1.3.5, 7.3.4.1)."""

_ACTIONS: Final = re.compile(rf"(?:^|[{SEPARATORS}])actions?=")

_STATISTICS: Final = ("duration", "n_packets", "n_bytes", "idle_age", "hard_age")
"""What dump-flows prints of a rule and a rule cannot carry: skipped, so that its output can be read back."""

_WIDTHS: Final = {"table": 8, "priority": 16, "idle_timeout": 16, "hard_timeout": 16, "out_group": 32}
"""Keys whose value is a number, with its bits."""
_FLAGS: Final = ("send_flow_rem", "check_overlap", "reset_counts")
_KEYS: Final = (*_WIDTHS, "cookie", "out_port", *_FLAGS)

_ANY_PORT: Final = RESERVED_PORTS["ANY"]
_ANY_GROUP: Final = 0xFFFFFFFF
_COOKIE_BITS: Final = 64

_T = TypeVar("_T")


def parse_rule(text: str) -> Rule:
    """The rule that `text` describes, actions included. Raises FlowErrors."""
    mod = parse_flow_mod(text)
    if mod.check_overlap or mod.reset_counts:
        raise BadFlowMod("check_overlap and reset_counts are of a change, not of a rule: leave them out")
    return mod.rule


def parse_flow_mod(text: str, command: Command = Command.ADD, *, open_vswitch: bool = False) -> FlowMod:
    """The add or modify that `text` describes, as for add-flow and mod-flows. A modify may have
    cookie=VALUE/MASK, which selects the rules to modify. `open_vswitch`: it is for a switch that may be Open vSwitch,
    and may say what only that does. Raises FlowErrors."""
    found = _ACTIONS.search(text)
    if found is None:
        raise BadAction("no actions: end the rule with actions=…, or actions=drop")
    head = _Head(text[: found.start()])
    if head.cookie_mask and command is Command.ADD:
        raise BadFlowMod("cookie: a new rule takes a cookie without a mask")
    for key in ("out_port", "out_group"):
        if key in head.given:
            raise BadFlowMod(f"{key} selects rules to delete: leave it out")
    match = head.match()
    needed = tuple([condition for condition in match.conditions if condition.field in NEEDED])
    instructions = _read_instructions(text[found.end() :], needed)
    check_instructions(match, instructions)
    rule = Rule(
        match=match,
        instructions=instructions,
        priority=head.numbers.get("priority", DEFAULT_PRIORITY),
        table=head.numbers.get("table", 0),
        cookie=head.cookie,
        idle_timeout=head.numbers.get("idle_timeout", 0),
        hard_timeout=head.numbers.get("hard_timeout", 0),
        send_removed="send_flow_rem" in head.given,
    )
    check_rule(rule, open_vswitch=open_vswitch)
    return FlowMod(
        command,
        rule,
        cookie_mask=head.cookie_mask,
        reset_counts="reset_counts" in head.given,
        check_overlap="check_overlap" in head.given,
    )


@lru_cache(maxsize=1 << 12)
def _read_instructions(text: str, needed: tuple[Condition, ...]) -> tuple[Instruction, ...]:
    """The instructions that `text` describes for packets of which this is known, of what may be needed. Remembered:
    many rules do the same."""
    return read_instructions(text, Known(Match(needed)))


def parse_selection(text: str, *, strict: bool = False) -> FlowMod:
    """The delete that `text` describes, as for del-flows: a match, table=N (all without it), cookie=VALUE/MASK,
    out_port=N, out_group=N, and with `strict` the priority (32768 without it). An empty text means every rule.

    Raises BadMatch or BadFlowMod.
    """
    if _ACTIONS.search(text):
        raise BadFlowMod("actions do not select rules: leave them out")
    head = _Head(text)
    for key in ("idle_timeout", "hard_timeout", *_FLAGS):
        if key in head.given:
            raise BadFlowMod(f"{key} selects no rules: leave it out")
    if "priority" in head.given and not strict:
        raise BadFlowMod("priority selects rules only with --strict")
    if "cookie" in head.given and not head.cookie_mask:
        raise BadFlowMod(f"cookie={head.cookie:#x} selects rules only with a mask: cookie={head.cookie:#x}/-1")
    table = head.numbers.get("table", ALL_TABLES)
    out_group = head.numbers.get("out_group", _ANY_GROUP)
    return FlowMod(
        command=Command.DELETE_STRICT if strict else Command.DELETE,
        rule=Rule(
            match=head.match(),
            priority=head.numbers.get("priority", DEFAULT_PRIORITY),
            table=0 if table == ALL_TABLES else table,
            cookie=head.cookie,
        ),
        cookie_mask=head.cookie_mask,
        all_tables=table == ALL_TABLES,
        out_port=None if head.out_port == _ANY_PORT else head.out_port,
        out_group=None if out_group == _ANY_GROUP else out_group,
    )


def parse_actions(text: str) -> tuple[Action, ...]:
    """The actions of a packet-out. Raises BadAction."""
    actions = read_actions(text, Known(Match()))
    check_action_list(actions, packet_out=True)
    return actions


def parse_lines(parse: Callable[[str], _T], lines: Iterable[str], source: str) -> list[_T]:
    """What `parse` makes of the lines of a file called `source`; blank lines and what follows a # are skipped. Its
    FlowErrors get file and line number in front."""
    parsed = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            parsed.append(parse(text))
        except FlowError as error:
            raise type(error)(f"{source}:{number}: {error}", reason=error.reason, details=error.details) from error
    return parsed


def print_rule(rule: Rule) -> str:
    """The rule as ``ovs-ofctl --no-stats dump-flows`` prints it. `parse_rule` reads it back as an equal rule, if its
    instructions are in order, fit the match, and have no empty list of actions."""
    head = [f"cookie={rule.cookie:#x}, "] if rule.cookie else []
    head += [f"table={rule.table}, "] if rule.table else []
    head += [f"idle_timeout={rule.idle_timeout}, "] if rule.idle_timeout else []
    head += [f"hard_timeout={rule.hard_timeout}, "] if rule.hard_timeout else []
    head += ["send_flow_rem "] if rule.send_removed else []
    words = [] if rule.priority == DEFAULT_PRIORITY else [f"priority={rule.priority}"]
    words += write_match(rule.match)
    return "".join(head) + ",".join(words) + (" " if words else "") + f"actions={write_instructions(rule.instructions)}"


class _Head:
    """What stands before the actions."""

    def __init__(self, text: str) -> None:
        self.given: set[str] = set()
        self.numbers: dict[str, int] = {}
        self.cookie = self.cookie_mask = 0
        self.out_port = _ANY_PORT
        self._match: list[Word] = []
        for key, value in read_words(text, BadMatch):
            if key in SPELLINGS or key in PROTOCOLS:
                self._match.append((key, value))
            elif key in _KEYS:
                self._take(key, value)
            elif key not in _STATISTICS:
                raise unknown_field(key, _KEYS)

    def match(self) -> Match:
        return read_match(self._match)

    def _take(self, key: str, value: str | None) -> None:
        if key in self.given:
            raise BadFlowMod(f"{key} is given twice: give it once")
        self.given.add(key)
        if key in _FLAGS:
            if value is not None:
                raise BadFlowMod(f"{key} takes no value", reason="bad-flags")
        elif not value:
            raise BadFlowMod(f"{key} needs a value: {key}=…")
        elif key == "cookie":
            cookie, slash, mask = value.partition("/")
            full = (1 << _COOKIE_BITS) - 1
            self.cookie = read_number(key, cookie, _COOKIE_BITS, BadFlowMod)
            if slash:
                self.cookie_mask = full if mask == "-1" else read_number(key, mask, _COOKIE_BITS, BadFlowMod)
        elif key == "out_port":
            self.out_port = read_port(value, BadFlowMod)
        else:
            self.numbers[key] = read_number(key, value, _WIDTHS[key], BadFlowMod)
