"""`Changes`: random changes of tables, programs, groups, meters and observers, made so that the frames of
`perf.flows` meet them."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from random import Random
from typing import Final

from oko.errors import FlowError
from oko.flow.change import Change
from oko.flow.group import GroupCommand, GroupMod, GroupSpec, GroupType
from oko.flow.group_text import parse_group, print_group
from oko.flow.match import Match
from oko.flow.meter import MeterCommand, MeterMod
from oko.flow.meter_text import parse_meter, print_meter
from oko.flow.observer import Observer, ObserverMod
from oko.flow.observer_text import print_observer
from oko.flow.rule import Command, FlowMod, Rule
from oko.flow.tables import Tables
from oko.flow.text import parse_flow_mod, parse_rule, print_rule
from perf.flows import BEACON, FLOWS, MATCHES
from perf.stamped import PORTS

TABLES: Final = (0, 1, 2, 3)
PROGRAMS: Final = (1, 2, 3)
OBJECTS: Final = ("odd_source", "even_source", "any", "ethernet")
"""Filter programs of ``perf/programs``."""

KEPT_COOKIE: Final = 1 << 63
"""The cookie of rules that no change of these is about."""
BEACON_RULE: Final = (
    f"priority=65535,dl_type={BEACON:#x},cookie={KEPT_COOKIE},"
    f"actions=in_port,{','.join(f'output:{port.number}' for port in PORTS[1:])}"
)
"""One of them: by it the frames of flow 0 arrive at every port."""

_PRIORITIES: Final = ((0, 1), (1, 5, 5, 9), (5, 9, 20, 100))
"""Of rules for all packets, for those of a protocol, and for fewer: what is wide is seldom before what is narrow."""
_PLAIN: Final = (1, 2, 3, 4)
_CHAINED: Final = (5, 6)
_GROUPS: Final = (*_PLAIN, *_CHAINED)
"""Groups; those that may lead to another of them are apart, so that none leads back."""
_METERS: Final = (1, 2, 3)
_LIMITED: Final = 3
NO_LIMIT: Final = (1 << 32) - 1
"""The rate, in packets per second, of a band that lets everything pass."""
_OUTPUTS: Final = ("output:2", "output:3", "output:4", "in_port")
_THROUGH: Final = (
    *(f"table={table},priority=0,send_flow_rem,actions=goto_table:{table + 1}" for table in TABLES[:-1]),
    f"table={TABLES[-1]},priority=0,send_flow_rem,actions=output:2",
)
"""Rules that are there at first, so that packets see every table. They tell what they have counted when they go, as
all do that may go."""
_HASHED: Final = tuple(
    f"priority=200,{match},cookie={KEPT_COOKIE},actions=output:2"
    for number in range(18)
    for match in (f"dl_src=02:00:00:00:09:{number:02x}", f"udp,nw_src=10.0.9.{number},tp_dst=2000")
)
"""Rules that no frame meets, so many of a mask that it is looked up in a hash, and of the highest priority there: then
others can be added while packets are looked up."""
_MANY: Final = 80 + len(_HASHED)
"""Rules, before more of the changes take some away."""


@dataclass(frozen=True, slots=True)
class Update:
    """One change of the bridge: `mods`, at one instant if they are to go `together`; or a program to be loaded, by id
    and name."""

    kind: str
    mods: tuple[Change, ...] = ()
    together: bool = False
    load: tuple[int, str] | None = None


def _mask(match: Match) -> tuple[tuple[str, int], ...]:
    """The fields that a match looks at, and their bits."""
    return tuple((condition.field.name, condition.mask) for condition in match.conditions)


def describe(mod: Change) -> str:
    """One line for a reader."""
    match mod:
        case FlowMod():
            narrowed = [f"{name}={value}" for name, value in _narrowing(mod).items() if value]
            return " ".join((mod.command.name.lower(), print_rule(mod.rule), *narrowed))
        case GroupMod():
            return f"{mod.command.name.lower()} {print_group(mod.spec)}"
        case MeterMod():
            return f"{mod.command.name.lower()} {print_meter(mod.spec)}"
        case ObserverMod(observer, add):
            return f"{'observe' if add else 'observe no longer'} {print_observer(observer)}"


def _narrowing(mod: FlowMod) -> dict[str, int | None]:
    """What else a flow_mod says of the rules that it is about."""
    return {
        "cookie_mask": mod.cookie_mask,
        "all_tables": mod.all_tables,
        "out_port": mod.out_port,
        "out_group": mod.out_group,
        "reset_counts": mod.reset_counts,
    }


class Changes:
    """Random updates for tables as they are; `initial` first."""

    def __init__(self, random: Random, watched: int | None = None) -> None:
        """`watched` is a port that nothing is sent to, and that buckets may watch."""
        self._random = random
        self._watched = watched

    def initial(self) -> list[Update]:
        """Programs, meters, groups and rules to begin with."""
        programs = [Update("load", load=(number, name)) for number, name in zip(PROGRAMS, OBJECTS, strict=False)]
        mods: list[Change] = [MeterMod(MeterCommand.ADD, parse_meter(self._meter(number))) for number in _METERS]
        mods += (GroupMod(GroupCommand.ADD, self._group(number)) for number in _PLAIN)
        tables = Tables()
        for mod in mods:
            tables.change(mod)
        rules = [FlowMod(Command.ADD, parse_rule(rule)) for rule in (*_THROUGH, *_HASHED)]
        rules += (self._add(tables) for _ in range(60))
        return [*programs, Update("initial", (*mods, *rules))]

    def update(self, tables: Tables) -> Update:
        """The next one, for a bridge with these tables."""
        random = self._random
        kinds = {
            "add": 24,
            "add several": 6,
            "add to hashes": 8,
            "change hashes": 16,
            "modify": 10,
            "modify strictly": 6,
            "delete": 10 if len(tables) > _MANY else 5,
            "delete strictly": 20 if len(tables) > _MANY else 6,
            "group": 12,
            "meter": 6,
            "observer": 4,
            "load": 12,
            "bundle": 16,
            "replace a table": 6,
        }
        kind = random.choices(tuple(kinds), tuple(kinds.values()))[0]
        match kind:
            case "load":
                return Update(kind, load=(random.choice(PROGRAMS), random.choice(OBJECTS)))
            case "add several":
                return Update(kind, tuple(self._add(tables) for _ in range(random.randint(2, 6))))
            case "add to hashes":
                return Update(kind, tuple(self._add_to_hash() for _ in range(random.randint(1, 5))))
            case "change hashes":
                return Update(kind, tuple(self._change_of_hash(tables) for _ in range(random.randint(1, 6))))
            case "bundle":
                return Update(kind, self._bundle(tables), together=True)
            case "replace a table":
                return Update(kind, self._replace(tables), together=True)
            case _:
                return Update(kind, (self._mod(kind, tables),))

    def _bundle(self, tables: Tables) -> tuple[Change, ...]:
        """Changes of several kinds, each for the tables that those before it leave."""
        random, draft = self._random, tables.copy()
        kinds = ("add", "add", "add", "modify", "modify strictly", "delete strictly", "group", "meter")
        made: list[Change] = []
        for _ in range(random.randint(2, 8)):
            mod = self._mod(random.choice(kinds), draft)
            with contextlib.suppress(FlowError):
                draft.change(mod)
                made.append(mod)
        return tuple(made)

    def _replace(self, tables: Tables) -> tuple[Change, ...]:
        """Delete all rules of a table, and add others in their place: between, every packet would be a miss."""
        table = self._random.choice(TABLES)
        delete = FlowMod(Command.DELETE, Rule(Match(), table=table), cookie_mask=KEPT_COOKIE)
        return (delete, *(self._add(tables, table) for _ in range(self._random.randint(4, 14))))

    def _mod(self, kind: str, tables: Tables) -> Change:
        random = self._random
        rules = [entry.rule for entry in tables if not entry.rule.cookie & KEPT_COOKIE]
        match kind:
            case "modify":
                text = f"table={random.choice(TABLES)},{random.choice(MATCHES)}"
                actions = self._instructions(int(text[6]), text, tables)
                return parse_flow_mod(f"{text},cookie=0/{KEPT_COOKIE},actions={actions}", Command.MODIFY)
            case "modify strictly" if rules:
                rule = random.choice(rules)
                made = parse_rule(f"actions={self._instructions(rule.table, '', tables)}")
                changed = Rule(rule.match, made.instructions, rule.priority, rule.table)
                return FlowMod(Command.MODIFY_STRICT, changed, reset_counts=random.random() < 0.3)
            case "delete" if rules:
                return self._delete()
            case "delete strictly" if rules:
                return FlowMod(Command.DELETE_STRICT, random.choice(rules))
            case "group":
                return self._group_mod(tables)
            case "meter":
                number = random.choice(_METERS)
                command = MeterCommand.MODIFY if number in tables.meters else MeterCommand.ADD
                if command is MeterCommand.MODIFY and random.random() < 0.1:
                    command = MeterCommand.DELETE
                return MeterMod(command, parse_meter(self._meter(number)))
            case "observer":
                return self._observer(tables)
            case _:
                return self._add(tables)

    # ---- rules

    def _add(self, tables: Tables, table: int | None = None) -> FlowMod:
        random = self._random
        table = random.choice((0, 0, *TABLES)) if table is None else table
        match = "" if random.random() < 0.1 else random.choice(MATCHES)
        program = f",filter_prog={random.choice(PROGRAMS)}" if random.random() < 0.25 else ""
        priority = random.choice(_PRIORITIES[0 if not match else 2 if "=" in match else 1])
        head = f"table={table},priority={priority},{match}{program},cookie={random.randrange(4)},send_flow_rem"
        return parse_flow_mod(f"{head},actions={self._instructions(table, match, tables)}")

    def _change_of_hash(self, tables: Tables) -> FlowMod:
        """A rule of the mask of many comes, goes, or takes the place of one."""
        random, new = self._random, self._add_to_hash()
        masks = {_mask(parse_rule(rule).match) for rule in _HASHED}
        known = [entry.rule for entry in tables if not entry.rule.cookie and _mask(entry.rule.match) in masks]
        what = random.choice(("add", "replace", "modify", "delete"))
        if what == "add" or not known:
            return new
        rule = random.choice(known)
        if what == "delete":
            return FlowMod(Command.DELETE_STRICT, rule)
        changed = replace(rule, instructions=new.rule.instructions)
        return FlowMod(Command.ADD if what == "replace" else Command.MODIFY_STRICT, changed)

    def _add_to_hash(self) -> FlowMod:
        """A rule of the mask of many, with actions that differ from theirs in numbers only."""
        random = self._random
        host = random.randrange(9)
        match = random.choice(
            (
                f"dl_src=02:00:00:00:01:{random.randrange(1, FLOWS):02x}",
                f"udp,nw_src=10.0.0.{host},tp_dst={2000 + host % 2}",
            )
        )
        head = f"priority={random.randrange(1, 200)},{match},send_flow_rem"
        return parse_flow_mod(f"{head},actions=output:{random.choice((2, 3, 4))}")

    def _delete(self) -> FlowMod:
        """Of one table or all; by the match, by the cookie, by where the rules send to."""
        random = self._random
        match = parse_rule(f"{random.choice(MATCHES)},actions=drop").match
        cookie, mask = (
            random.choice(((0, 0), (random.randrange(4), 3))) if match.conditions else (random.randrange(4), 3)
        )
        port, group = random.choice(((None, None), (None, None), (random.randint(2, 4), None), (None, 1)))
        return FlowMod(
            Command.DELETE,
            Rule(match, table=random.choice(TABLES), cookie=cookie),
            cookie_mask=mask | KEPT_COOKIE,
            all_tables=not match.conditions or random.random() < 0.3,
            out_port=port,
            out_group=random.choice(_GROUPS) if group else None,
        )

    def _instructions(self, table: int, match: str, tables: Tables) -> str:
        """The end of a path, or a goto that mostly leaves the sending to those behind it."""
        random = self._random
        words = [f"meter:{random.choice(sorted(tables.meters))}"] if tables.meters and random.random() < 0.08 else []
        rewrites = [self._rewrite(match)] if random.random() < 0.4 else []
        if table == TABLES[-1] or random.random() < 0.45:
            return ",".join((*words, *rewrites, *self._end(tables))) or "drop"
        words += rewrites
        if random.random() < 0.1:
            words.append("clear_actions")
        if random.random() < 0.5:
            words.append(f"write_actions({random.choice((self._rewrite(match), *_OUTPUTS))})")
        if random.random() < 0.3:
            words.append(f"write_metadata:{random.randrange(4)}/{random.choice((1, 2, 3))}")
        later = [other for other in TABLES if other > table]
        return ",".join((*words, f"goto_table:{random.choice(later)}"))

    def _end(self, tables: Tables) -> list[str]:
        random = self._random
        if tables.groups and random.random() < 0.25:
            return [f"group:{random.choice(sorted(tables.groups))}"]
        several = random.sample(_OUTPUTS, random.randint(1, 3))
        return random.choices((several, ["flood"], ["all"], ["controller"], []), (80, 4, 4, 4, 8))[0]

    def _rewrite(self, match: str) -> str:
        random = self._random
        known = [
            f"set_field:02:00:00:00:02:{random.randrange(256):02x}->eth_dst",
            f"set_field:02:00:00:00:03:{random.randrange(256):02x}->eth_src",
            f"push_vlan:0x8100,set_field:{0x1000 | random.randrange(1, 4095)}->vlan_vid",
        ]
        words = match.split(",")
        if any(word.startswith("dl_vlan=") for word in words):
            known += ["pop_vlan"] * 2
        if "ip" in words or "udp" in words or "tcp" in words:
            known += ["dec_ttl", f"set_field:10.9.{random.randrange(4)}.1->ip_dst", "set_field:5->ip_dscp"]
        if "udp" in words or "tcp" in words:
            protocol = "udp" if "udp" in words else "tcp"
            known += [f"set_field:{random.randrange(1, 9)}->{protocol}_dst"] * 2
        return random.choice(known)

    # ---- groups, meters, observers

    def _group_mod(self, tables: Tables) -> GroupMod:
        random = self._random
        number = random.choice(_GROUPS)
        if number not in tables.groups:
            return GroupMod(GroupCommand.ADD, self._group(number))
        if random.random() < 0.15:
            return GroupMod(GroupCommand.DELETE, GroupSpec(number, GroupType.ALL))
        return GroupMod(GroupCommand.MODIFY, self._group(number))

    def _group(self, number: int) -> GroupSpec:
        random = self._random
        if number in _CHAINED and random.random() < 0.5:
            return parse_group(f"group_id={number},type=indirect,bucket=actions=group:{random.choice(_PLAIN)}")
        ports = random.sample((2, 3, 4), random.randint(1, 3))
        kind = random.choice(("all", "select", "select", "indirect", "ff"))
        match kind:
            case "all":
                buckets = [f"output:{port}" for port in ports]
            case "select":
                buckets = [f"weight:{random.randint(1, 5)},actions={self._rewrite('')},output:{port}" for port in ports]
            case "indirect":
                buckets = [f"actions={self._rewrite('')},output:{ports[0]}"]
            case _:
                watched = [port if self._watched is None else random.choice((port, self._watched)) for port in ports]
                buckets = [
                    f"watch_port:{watch},actions={self._rewrite('')},output:{port}"
                    for watch, port in zip(watched, ports, strict=True)
                ]
        return parse_group(f"group_id={number},type={kind}" + "".join(f",bucket={bucket}" for bucket in buckets))

    def _meter(self, number: int) -> str:
        """Meters 1 and 2 let everything pass or nothing, number 3 some."""
        random = self._random
        rate = random.randrange(1000, 20000) if number == _LIMITED else random.choice((0, NO_LIMIT, NO_LIMIT))
        return f"meter={number},pktps,bands=type=drop,rate={rate}"

    def _observer(self, tables: Tables) -> ObserverMod:
        random = self._random
        observers = [observer for observer in tables.observers if observer.match.program in PROGRAMS]
        if observers and random.random() < 0.5:
            return ObserverMod(random.choice(observers), add=False)
        match = parse_rule(f"{random.choice(MATCHES)},filter_prog={random.choice(PROGRAMS)},actions=drop").match
        return ObserverMod(Observer(random.choice(TABLES), match))
