"""`AttachedChanges`: random changes of the plain rules and the filter rules of an attached bridge, such that the frames
of `perf.attached_frames` meet them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Final

from oko.flow.action_text import write_instructions
from oko.flow.group import GroupCommand, GroupMod
from oko.flow.group_text import parse_group
from oko.flow.match_text import write_match
from oko.flow.rule import Command, FlowMod, Rule
from oko.flow.tables import Tables
from oko.flow.text import parse_flow_mod, parse_selection
from perf.attached_frames import DESTINATIONS, PORTS, PROGRAMS

_PROGRAM_WORDS: Final = tuple(f"filter_prog={number}" for number in PROGRAMS)
_KINDS: Final = ("", "", "ip", "udp", "tcp", "dl_type=0x88b6")
_WITH_PORTS: Final = ("udp", "tcp")
_TAGS: Final = ("dl_vlan=5", "dl_vlan=6", "dl_vlan=0xffff", "vlan_vid=0x1000/0x1000")
_PRIORITIES: Final = range(10, 130)
_LONG: Final = ("idle_timeout=1000", "hard_timeout=2000")
_SHORT: Final = ((0, 1), (1, 2))
"""Timeouts that do not come to their end while the run lasts, and those that do: idle and hard, in seconds."""
_MANY: Final = {(0, False): 14, (0, True): 12, (1, False): 6}
"""Rules by table, and whether with a program, before more of the changes take some away."""
_SOURCE: Final = "02:00:00:00:01:{:02x}"
LONGEST_MOMENT: Final = max(hard for _, hard in _SHORT)
"""The longest of those, s."""

Mod = FlowMod | GroupMod


@dataclass(frozen=True, slots=True)
class AttachedUpdate:
    """`mods`, one after the other or at one instant if they are to go `together`. Rules that are added for a moment
    `expire`: it is to be waited for."""

    kind: str
    mods: tuple[Mod, ...]
    together: bool = False
    expire: bool = False

    @property
    def is_filter(self) -> bool:
        """Whether it is about filter rules alone."""
        return all(isinstance(mod, FlowMod) and mod.rule.match.program is not None for mod in self.mods)

    @property
    def is_plain(self) -> bool:
        """Whether it names no filter program."""
        return not any(isinstance(mod, FlowMod) and mod.rule.match.program is not None for mod in self.mods)


class AttachedChanges:
    """Random ones, for tables as they are."""

    def __init__(self, random: Random) -> None:
        self._random = random

    def initial(self) -> list[AttachedUpdate]:
        """Groups, and rules to begin with."""
        groups = tuple(GroupMod(GroupCommand.ADD, parse_group(self._group(number))) for number in (1, 2))
        made = [AttachedUpdate("groups", groups)]
        tables = Tables()
        for group in groups:
            tables.change(group)
        for table, programs in (0, False), (0, True), (1, False):
            for _ in range(5):
                mod = self._add(tables, table, programs=programs)
                tables.change(mod)
                made.append(AttachedUpdate("initial", (mod,)))
        return made

    def update(self, tables: Tables, *, past: bool = False) -> AttachedUpdate:
        """The next one. `past`: it is made past Oko, who would be needed for filter rules."""
        kinds = {
            "add plain": 10,
            "add filter": 10,
            "add to table 1": 3,
            "add plain for a moment": 4,
            "replace": 8,
            "modify strictly": 10,
            "modify": 6,
            "delete": 4,
            "delete strictly": 10,
            "delete all": 1,
            "several plain": 5,
            "plain bundle": 6,
            "filter bundle": 6,
            "group": 3,
        }
        for (table, programs), many in _MANY.items():
            if len(_rules(tables, table, programs=programs)) > many:
                kinds["delete strictly"] += 20
        if past:
            kinds = {kind: weight for kind, weight in kinds.items() if "filter" not in kind and kind != "group"}
        kind = self._random.choices(tuple(kinds), tuple(kinds.values()))[0]
        return self._update(kind, tables, past=past)

    def _update(self, kind: str, tables: Tables, *, past: bool) -> AttachedUpdate:
        random = self._random
        programs = not past and random.random() < 0.5
        match kind:
            case "add plain" | "add filter":
                return AttachedUpdate(kind, (self._add(tables, 0, programs="filter" in kind),))
            case "add plain for a moment":
                mod = self._add(tables, 0, programs=False)
                idle, hard = random.choice(_SHORT)
                rule = replace(mod.rule, idle_timeout=idle, hard_timeout=hard)
                return AttachedUpdate(kind, (replace(mod, rule=rule),), expire=True)
            case "add to table 1":
                return AttachedUpdate(kind, (self._add(tables, 1, programs=False),))
            case "several plain" | "plain bundle":
                return AttachedUpdate(kind, self._several(tables, programs=False), together="bundle" in kind)
            case "filter bundle":
                return AttachedUpdate(kind, self._several(tables, programs=True), together=True)
            case "group":
                spec = parse_group(self._group(random.choice((1, 2))))
                return AttachedUpdate(kind, (GroupMod(GroupCommand.MODIFY, spec),))
            case "modify":
                return AttachedUpdate(kind, (self._modify(programs=programs),))
            case "delete":
                return AttachedUpdate(kind, (self._delete(programs=programs),))
            case "delete all":
                texts = ("", "table=0", "table=0,filter_prog=1") if programs else ("", "table=0")
                return AttachedUpdate(kind, (parse_selection(random.choice(texts)),))
            case _:
                return AttachedUpdate(
                    kind, (self._named(kind, tables, self._table(programs=programs), programs=programs),)
                )

    def _several(self, tables: Tables, *, programs: bool) -> tuple[FlowMod, ...]:
        """Of one table: filter rules are not changed at one instant with the later tables that they lead to."""
        random, draft, made = self._random, tables.copy(), []
        table = self._table(programs=programs)
        for _ in range(random.randint(2, 6)):
            kind = random.choice(("add", "add", "replace", "modify strictly", "delete strictly"))
            mod = self._named(kind, draft, table, programs=programs)
            draft.change(mod)
            made.append(mod)
        return tuple(made)

    def _table(self, *, programs: bool) -> int:
        return 1 if not programs and self._random.random() < 0.2 else 0

    def _named(self, kind: str, tables: Tables, table: int, *, programs: bool) -> FlowMod:
        """Something that is done to one rule of a table: an add, if there is none."""
        random = self._random
        rules = _rules(tables, table, programs=programs)
        if kind == "add" or not rules:
            return self._add(tables, table, programs=programs)
        rule = random.choice(rules)
        if kind == "delete strictly":
            return FlowMod(Command.DELETE_STRICT, replace(rule, cookie=0))
        command = Command.ADD if kind == "replace" else Command.MODIFY_STRICT
        made = self._parsed([*write_match(rule.match)], table, rule.priority, command, programs=programs)
        return made if command is Command.ADD else replace(made, rule=replace(made.rule, cookie=0))

    # ---- rules

    def _match(self) -> list[str]:
        random = self._random
        kind = random.choice(_KINDS)
        words = [kind] if kind else []
        if kind in ("ip", *_WITH_PORTS) and random.random() < 0.4:
            words.append(f"nw_dst=10.0.1.{random.randint(1, 2)}")
        if kind in _WITH_PORTS and random.random() < 0.4:
            words.append(f"tp_dst={random.choice((80, 443))}")
        if random.random() < 0.3:
            words.append(f"in_port={random.choice(PORTS)}")
        if random.random() < 0.25:
            words.append(random.choice(_TAGS))
        if random.random() < 0.3:
            words.append(f"dl_dst={random.choice(DESTINATIONS)}")
        if random.random() < 0.2:
            words.append("dl_src=00:00:00:00:00:02/00:00:00:00:00:02")
        return words

    def _add(self, tables: Tables, table: int, *, programs: bool) -> FlowMod:
        random = self._random
        words = self._match()
        if programs:
            words.append(random.choice(_PROGRAM_WORDS))
        # Which of two plain rules of one priority Open vSwitch takes is not said.
        used = {rule.priority for rule in _rules(tables, table, programs=False)}
        free = list(_PRIORITIES) if programs else [number for number in _PRIORITIES if number not in used]
        return self._parsed(words, table, random.choice(free), Command.ADD, programs=programs)

    def _parsed(self, words: list[str], table: int, priority: int, command: Command, *, programs: bool) -> FlowMod:
        is_ip = any(word in ("ip", *_WITH_PORTS) for word in words)
        actions = self._actions(table, is_ip=is_ip, programs=programs)
        head = [f"table={table}", f"priority={priority}", *words]
        if command is Command.ADD:
            head.append(f"cookie={self._random.randint(1, 3)}")
            if not programs and self._random.random() < 0.3:
                head.append(self._random.choice(_LONG))
        return parse_flow_mod(f"{','.join(head)},actions={actions}", command)

    def _actions(self, table: int, *, is_ip: bool, programs: bool) -> str:
        random = self._random
        one, other = random.sample(PORTS, 2)
        simple = ["drop", f"output:{one}", f"output:{one}", f"output:{one},output:{other}"]
        rewriting = [f"set_field:{_SOURCE.format(random.randrange(4))}->eth_src"]
        if is_ip:
            rewriting += ["dec_ttl", "set_field:10.0.2.9->ip_dst"]
        rewrite = random.choice(rewriting)
        # Not twice, as behind more than two tags Open vSwitch loses one.
        push = "push_vlan:0x8100,set_field:4103->vlan_vid"
        ways = [f"{rewrite},output:{one}", "group:1", "group:2", "in_port", f"{rewrite},output:{one},output:{other}"]
        if table == 0:
            # No action set goes with it: Open vSwitch executes that when no rule of the table matches.
            ways += [f"{push},output:{one}", "goto_table:1", f"{rewrite},goto_table:1", f"write_actions(output:{one})"]
        if random.random() < 0.15:
            ways.append("flood")
        return random.choice(ways if random.random() < (0.6 if programs else 0.4) else simple)

    def _modify(self, *, programs: bool) -> FlowMod:
        """A loose one."""
        random = self._random
        words = ["table=0", *self._match()]
        is_ip = any(word in ("ip", *_WITH_PORTS) for word in words)
        if programs:
            words.append(random.choice(_PROGRAM_WORDS))
        if random.random() < 0.5:
            words.append(f"cookie={random.randint(1, 3)}/-1")
        actions = self._actions(0, is_ip=is_ip, programs=programs)
        return parse_flow_mod(f"{','.join(words)},actions={actions}", Command.MODIFY)

    def _delete(self, *, programs: bool) -> FlowMod:
        """A loose one."""
        random = self._random
        words = [random.choice(("table=0", "table=0", ""))]
        if programs:
            words.append(random.choice(_PROGRAM_WORDS))
        narrowing = random.randrange(4)
        if narrowing == 0:
            words.append(f"cookie={random.randint(1, 3)}/-1")
        elif narrowing == 1:
            words.append(f"out_port={random.choice(PORTS)}")
        else:
            words += self._match() or [f"in_port={random.choice(PORTS)}"]
        return parse_selection(",".join(filter(None, words)))

    def _group(self, number: int) -> str:
        random = self._random
        one, other = random.sample(PORTS, 2)
        source = _SOURCE.format(random.randrange(4))
        if number == 1:
            return (
                f"group_id=1,type=all,bucket=actions=set_field:{source}->eth_src,output:{one},"
                f"bucket=actions=output:{other}"
            )
        return f"group_id=2,type=indirect,bucket=actions=output:{one}"


def _rules(tables: Tables, table: int, *, programs: bool) -> list[Rule]:
    """Those of a table that changes are about, with a program or without."""
    return [
        entry.rule
        for entry in tables
        if entry.rule.table == table
        and entry.rule.priority in _PRIORITIES
        and (entry.rule.match.program is not None) == programs
    ]


def changed_past(tables: Tables, mod: FlowMod) -> Tables:
    """The tables after a change of plain rules alone."""
    filters = [entry.rule for entry in tables.ranked(0) if entry.rule.match.program is not None]
    found = tables.copy()
    for rule in filters:
        found.change(FlowMod(Command.DELETE_STRICT, rule))
    found.change(mod)
    for rule in filters:
        found.change(FlowMod(Command.ADD, rule))
    return found


def as_text(mod: FlowMod) -> tuple[list[str], str]:
    """The command and options of ovs-ofctl, and its argument."""
    rule = mod.rule
    strict = mod.command in (Command.MODIFY_STRICT, Command.DELETE_STRICT)
    command = {Command.ADD: "add-flow", Command.MODIFY: "mod-flows", Command.MODIFY_STRICT: "mod-flows"}.get(
        mod.command, "del-flows"
    )
    words = [] if mod.all_tables else [f"table={rule.table}"]
    if mod.command is Command.ADD:
        words.append(f"cookie={rule.cookie:#x}")
        words += [f"idle_timeout={rule.idle_timeout}", f"hard_timeout={rule.hard_timeout}"]
    elif mod.cookie_mask:
        words.append(f"cookie={rule.cookie:#x}/{mod.cookie_mask:#x}")
    if mod.command is Command.ADD or strict:
        words.append(f"priority={rule.priority}")
    words += write_match(rule.match)
    if mod.out_port is not None:
        words.append(f"out_port={mod.out_port}")
    if not mod.command.is_delete:
        words.append(f"actions={write_instructions(rule.instructions)}".replace("FLOOD", "NORMAL"))
    return (["--strict"] if strict else []) + [command], ",".join(words)
