"""The flow, group and meter tables of one bridge, and its observers, changed by flow_mods and the like, in transactions
if so wished."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from oko.errors import BadAction, BadFlowMod, BadGroup, BadMatch, BadMeter
from oko.flow.action import Action, Group, references
from oko.flow.change import Change
from oko.flow.consistency import check_instructions
from oko.flow.group import GroupCommand, GroupEntry, GroupMod, GroupSpec
from oko.flow.match import Match
from oko.flow.meter import MeterCommand, MeterEntry, MeterMod
from oko.flow.observer import Observer, ObserverMod
from oko.flow.rule import Command, Entry, FlowMod, Rule
from oko.flow.validity import check_action_list, check_group, check_meter, check_rule, check_table

GROUP_DEPTH: Final = 16
"""Groups that a packet may come through one inside the other."""
BUCKETS_REACHED: Final = 8192
"""Buckets that a group may come to, each as often as it is come to."""

_Key = tuple[int, Match]
"""What names a rule in its table: its priority and its match."""


@dataclass(frozen=True, slots=True)
class Delta:
    """How the rules differ from those at the beginning of a transaction: those that are there now, by age, and those
    that were. A modified rule is in both. `rules_only`: groups, meters and observers are as they were."""

    added: tuple[Entry, ...]
    removed: tuple[Entry, ...]
    rules_only: bool


@dataclass(slots=True)
class _Journal:
    """What a transaction has to bring back."""

    groups: dict[int, GroupEntry]
    meters: dict[int, MeterEntry]
    observers: tuple[Observer, ...]
    next_age: int
    retired: set[int]
    retired_meters: set[int]
    entries: dict[tuple[int, _Key], Entry | None] = field(default_factory=dict)
    """What stood at each place that was touched."""


class Tables:
    """Rules by table, groups and meters by number, and observers.

    Rules, groups and buckets have slots of one kind, which index their counters; meters have slots of their own. A slot
    that is no longer used is used again only when it has been released. Everything that changes the tables takes
    effect whole, or raises a FlowError and changes nothing. What happens between `begin` and `commit` can be taken back
    with `rollback`.
    """

    def __init__(self) -> None:
        self._rules: dict[int, dict[_Key, Entry]] = {}
        self._ranked: dict[int, tuple[Entry, ...]] = {}
        self._groups: dict[int, GroupEntry] = {}
        self._meters: dict[int, MeterEntry] = {}
        self._observers: tuple[Observer, ...] = ()
        self._next_age = 0
        self._slots = _Slots()
        self._meter_slots = _Slots()
        self._retired: set[int] = set()  # slots that are used no longer, and have not been released
        self._retired_meters: set[int] = set()
        self._journal: _Journal | None = None

    @classmethod
    def restored(
        cls,
        entries: Iterable[Entry],
        groups: Mapping[int, GroupEntry],
        meters: Mapping[int, MeterEntry],
        observers: Iterable[Observer],
    ) -> Tables:
        """Tables with what other tables had, each in the slot that it had there. All other slots are free. The caller
        vouches for them: no slot, and no match and priority of a table, twice."""
        tables = cls()
        for entry in sorted(entries, key=lambda entry: entry.age):
            tables._rules.setdefault(entry.rule.table, {})[_key(entry.rule)] = entry
            tables._next_age = entry.age + 1
        tables._groups, tables._meters = dict(groups), dict(meters)
        tables._observers = tuple(sorted(observers, key=_observer_rank))
        tables._slots = _Slots.without(tables.used_slots())
        tables._meter_slots = _Slots.without(tables.used_meter_slots())
        return tables

    def copy(self) -> Tables:
        """An independent copy; the entries are shared, as they never change."""
        other = Tables()
        other._rules = {table: dict(rules) for table, rules in self._rules.items()}
        other._ranked = dict(self._ranked)
        other._groups = dict(self._groups)
        other._meters = dict(self._meters)
        other._observers = self._observers
        other._next_age = self._next_age
        other._slots = self._slots.copy()
        other._meter_slots = self._meter_slots.copy()
        other._retired = set(self._retired)
        other._retired_meters = set(self._retired_meters)
        return other

    # ---- transactions

    def begin(self) -> None:
        """Begin a transaction. There is one at a time, and no slots are released in it."""
        self._journal = _Journal(
            dict(self._groups),
            dict(self._meters),
            self._observers,
            self._next_age,
            set(self._retired),
            set(self._retired_meters),
        )
        self._slots.begin()
        self._meter_slots.begin()

    @property
    def in_transaction(self) -> bool:
        """Whether one has begun and not ended."""
        return self._journal is not None

    def delta(self) -> Delta:
        """What the transaction has changed so far."""
        journal = self._require_journal()
        added, removed = [], []
        for (table, key), before in journal.entries.items():
            now = self._rules[table].get(key)
            if now == before:
                continue
            if before is not None:
                removed.append(before)
            if now is not None:
                added.append(now)
        added.sort(key=lambda entry: entry.age)
        same = journal.groups == self._groups and journal.meters == self._meters
        return Delta(tuple(added), tuple(removed), same and journal.observers == self._observers)

    def commit(self) -> None:
        """End the transaction: what it changed stays."""
        self._slots.commit()
        self._meter_slots.commit()
        self._journal = None

    def rollback(self) -> None:
        """End the transaction: everything is as it was when it began."""
        journal = self._require_journal()
        restored = set()
        for (table, key), before in journal.entries.items():
            self._ranked.pop(table, None)
            if before is None:
                self._rules[table].pop(key, None)
            else:
                self._rules[table][key] = before
                restored.add(table)
        for table in restored:
            self._rules[table] = dict(sorted(self._rules[table].items(), key=lambda item: item[1].age))
        self._groups, self._meters, self._observers = journal.groups, journal.meters, journal.observers
        self._next_age = journal.next_age
        self._retired, self._retired_meters = journal.retired, journal.retired_meters
        self._slots.rollback()
        self._meter_slots.rollback()
        self._journal = None

    def _require_journal(self) -> _Journal:
        if self._journal is None:
            raise RuntimeError("no transaction has begun")
        return self._journal

    # ---- what is there

    def __iter__(self) -> Iterator[Entry]:
        """The rules; those of a table by age."""
        for rules in self._rules.values():
            yield from rules.values()

    def __len__(self) -> int:
        return sum(map(len, self._rules.values()))

    def ranked(self, table: int = 0) -> tuple[Entry, ...]:
        """The rules of a table in the order in which a lookup tries them."""
        if table not in self._ranked:
            self._ranked[table] = tuple(sorted(self._rules.get(table, {}).values(), key=lambda entry: entry.rank))
        return self._ranked[table]

    @property
    def groups(self) -> Mapping[int, GroupEntry]:
        return MappingProxyType(self._groups)

    @property
    def meters(self) -> Mapping[int, MeterEntry]:
        return MappingProxyType(self._meters)

    @property
    def observers(self) -> tuple[Observer, ...]:
        """In the order in which they are asked: by table, then by program."""
        return self._observers

    @property
    def slots(self) -> int:
        """Every slot in use, of rules, groups and buckets, is below this."""
        return self._slots.bound

    @property
    def meter_slots(self) -> int:
        """Every slot of a meter in use is below this."""
        return self._meter_slots.bound

    def used_slots(self) -> set[int]:
        """Those of rules, groups and buckets."""
        groups = {slot for group in self._groups.values() for slot in (group.slot, *group.slots)}
        return groups | {entry.slot for entry in self}

    def used_meter_slots(self) -> set[int]:
        return {meter.slot for meter in self._meters.values()}

    @property
    def unused_slots(self) -> frozenset[int]:
        """The slots that were taken, are used no longer, and have not been released."""
        return frozenset(self._retired)

    @property
    def unused_meter_slots(self) -> frozenset[int]:
        """The same of meters."""
        return frozenset(self._retired_meters)

    def release(self, slots: Collection[int]) -> None:
        """Give slots back, once no packet in flight can count in them any more and they are zero again."""
        self._retired.difference_update(slots)
        self._slots.release(slots)

    def release_meters(self, slots: Collection[int]) -> None:
        """The same for slots of meters."""
        self._retired_meters.difference_update(slots)
        self._meter_slots.release(slots)

    # ---- changes

    def change(self, mod: Change, *, now: int = 0) -> list[Entry]:
        """Carry out one change at time `now` (ns, monotonic). Returns the rules that a delete took away. Raises
        FlowError."""
        match mod:
            case FlowMod():
                return self.apply(mod, now=now)
            case GroupMod():
                return self.apply_group(mod, now=now)
            case MeterMod():
                return self.apply_meter(mod, now=now)
            case ObserverMod(observer, add=True):
                self.observe(observer)
            case ObserverMod(observer):
                self.unobserve(observer)
        return []

    # ---- rules

    def apply(self, mod: FlowMod, *, now: int = 0) -> list[Entry]:
        """Carry out one flow_mod at time `now` (ns, monotonic). Returns the rules that it deleted. Raises BadFlowMod,
        BadInstruction, BadAction, and BadMeter for a meter that is not there."""
        match mod.command:
            case Command.ADD:
                self._check(mod)
                self._add(mod, now)
            case Command.MODIFY | Command.MODIFY_STRICT:
                self._check(mod)
                found = list(self.select(mod))
                if not found and mod.new_cookie is not None and not mod.cookie_mask:
                    self._add(replace(mod, rule=replace(mod.rule, cookie=mod.new_cookie)), now)
                for before, entry in [(entry, self._modified(entry, mod)) for entry in found]:
                    self._put(_key(entry.rule), before, entry)
            case Command.DELETE | Command.DELETE_STRICT:
                if not mod.all_tables:
                    check_table(mod.rule.table)
                return self._remove(list(self.select(mod)))
        return []

    def select(self, mod: FlowMod) -> Iterator[Entry]:
        """The rules that a modify or delete is about (OpenFlow 1.3.5, 6.4)."""
        strict = mod.command in (Command.MODIFY_STRICT, Command.DELETE_STRICT)
        deletes = mod.command.is_delete
        for table in self._rules if mod.all_tables else (mod.rule.table,):
            rules = self._rules.get(table, {})
            candidates: Iterable[Entry] = rules.values()
            if strict:
                exact = rules.get(_key(mod.rule))
                candidates = () if exact is None else (exact,)
            for entry in candidates:
                rule = entry.rule
                if not mod.rule.match.covers(rule.match) or (rule.cookie ^ mod.rule.cookie) & mod.cookie_mask:
                    continue
                named = references(rule.instructions)
                if deletes and mod.out_port is not None and mod.out_port not in named.outputs:
                    continue
                if deletes and mod.out_group is not None and mod.out_group not in named.groups:
                    continue
                yield entry

    def check_packet_out(self, actions: Collection[Action]) -> None:
        """Raises BadAction for actions that a packet-out cannot have."""
        check_action_list(actions, packet_out=True)
        self._check_groups(_groups_of(actions))

    def _check(self, mod: FlowMod) -> None:
        if mod.all_tables and mod.command is Command.ADD:
            raise BadFlowMod("a rule cannot be added to all tables: name one", reason="bad-table-id")
        check_rule(mod.rule)
        check_instructions(mod.rule.match, mod.rule.instructions)
        named = references(mod.rule.instructions)
        self._check_groups(named.groups)
        for number in named.meters:
            if number not in self._meters:
                raise BadMeter(f"meter {number} is not there: add it first", reason="unknown-meter")

    def _check_groups(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if number not in self._groups:
                raise BadAction(f"group {number} is not there: add it first", reason="bad-out-group")

    def _add(self, mod: FlowMod, now: int) -> None:
        rule = mod.rule
        rules = self._rules.setdefault(rule.table, {})
        key = _key(rule)
        replaced = rules.get(key)
        if mod.check_overlap and replaced is None:
            for other in rules.values():
                if other.rule.priority == rule.priority and other.rule.match.overlaps(rule.match):
                    raise BadFlowMod("the rule overlaps another of the same priority", reason="overlap")
        slot = self._slots.take() if replaced is None or mod.reset_counts else replaced.slot
        self._put(key, replaced, Entry(rule, self._next_age, slot, now))
        self._next_age += 1

    def _modified(self, entry: Entry, mod: FlowMod) -> Entry:
        """Only the instructions change, in OpenFlow 1.0 the cookie, and with reset_counts the counters: in a slot of
        their own, as packets in flight still count in the old one. Raises BadInstruction for what the entry's table
        cannot do."""
        cookie = entry.rule.cookie if mod.new_cookie is None else mod.new_cookie
        rule = replace(entry.rule, instructions=mod.rule.instructions, cookie=cookie)
        if mod.all_tables:
            check_rule(rule)
        slot = self._slots.take() if mod.reset_counts else entry.slot
        return replace(entry, rule=rule, slot=slot)

    def _put(self, key: _Key, before: Entry | None, entry: Entry) -> None:
        """Let `entry` stand at `key`, where `before` stood."""
        table = entry.rule.table
        self._note(table, key, before)
        rules = self._rules[table]
        if before is not None and before.slot != entry.slot:
            self._retired.add(before.slot)
        if before is not None and before.age != entry.age:
            del rules[key]  # so that the youngest rule comes last
        rules[key] = entry
        self._ranked.pop(table, None)

    def _remove(self, entries: list[Entry]) -> list[Entry]:
        """Take rules away. Returns them."""
        for entry in entries:
            table, key = entry.rule.table, _key(entry.rule)
            self._note(table, key, entry)
            del self._rules[table][key]
            self._retired.add(entry.slot)
            self._ranked.pop(table, None)
        return entries

    def _note(self, table: int, key: _Key, before: Entry | None) -> None:
        """Remember what stands in the place of a rule that is about to change."""
        if self._journal is not None:
            self._journal.entries.setdefault((table, key), before)

    # ---- groups

    def apply_group(self, mod: GroupMod, *, now: int = 0) -> list[Entry]:
        """Carry out one group_mod (OpenFlow 1.3.5, 6.5) at time `now` (ns, monotonic). Returns the rules that went with
        a deleted group.

        A modified group keeps its slot and its age; its buckets get new slots. Raises BadGroup, and BadAction for the
        actions of a bucket.
        """
        spec = mod.spec
        known = self._groups.get(spec.number)
        match mod.command:
            case GroupCommand.ADD:
                if known is not None:
                    raise BadGroup(f"group {spec.number} is there already: modify it", reason="group-exists")
                self._check_group(spec)
                self._groups[spec.number] = GroupEntry(spec, self._slots.take(), self._bucket_slots(spec), now)
            case GroupCommand.MODIFY:
                if known is None:
                    raise BadGroup(f"group {spec.number} is not there: add it", reason="unknown-group")
                self._check_group(spec)
                self._retired.update(known.slots)
                self._groups[spec.number] = replace(known, spec=spec, slots=self._bucket_slots(spec))
            case GroupCommand.DELETE if mod.all_groups:
                return self._delete_groups(set(self._groups))
            case GroupCommand.DELETE if known is not None:
                for other in self._groups.values():
                    if spec.number in _needs(other.spec):
                        raise BadGroup(
                            f"group {spec.number} is needed by group {other.spec.number}: delete that first",
                            reason="chained-group",
                        )
                return self._delete_groups({spec.number})
        return []

    def _check_group(self, spec: GroupSpec) -> None:
        check_group(spec)
        ahead, seen = _needs(spec), set[int]()
        while ahead:
            number = ahead.pop()
            if number == spec.number:
                raise BadGroup(f"group {spec.number} leads back to itself", reason="loop")
            if number in self._groups and number not in seen:
                ahead |= _needs(self._groups[number].spec)
            seen.add(number)
        for bucket in spec.buckets:
            self._check_groups(_groups_of(bucket.actions))
            if bucket.watch_group is not None and bucket.watch_group not in self._groups:
                raise BadGroup(f"group {bucket.watch_group}, to be watched, is not there", reason="bad-watch")
        if _needs(spec) or spec.number in self._groups:  # else no group is larger than it was, but for this one
            self._check_sizes({number: entry.spec for number, entry in self._groups.items()} | {spec.number: spec})
        else:
            self._check_sizes({spec.number: spec})

    def _check_sizes(self, specs: Mapping[int, GroupSpec]) -> None:
        """Raises BadGroup when groups lead to groups too many times over, or reach too many buckets."""
        sizes: dict[int, tuple[int, int]] = {}  # how deep, how many buckets are reached

        def measure(number: int) -> tuple[int, int]:
            if number not in sizes:
                deepest, reached = 0, 0
                for bucket in specs[number].buckets:
                    forwards = [action.number for action in bucket.actions if isinstance(action, Group)]
                    watched = [] if bucket.watch_group is None else [bucket.watch_group]
                    deepest = max([deepest, *(measure(other)[0] for other in forwards + watched)])
                    reached += 1 + sum(measure(other)[1] for other in forwards)
                sizes[number] = deepest + 1, reached
            return sizes[number]

        for number in specs:
            deep, reached = measure(number)
            if deep > GROUP_DEPTH:
                raise BadGroup(
                    f"group {number} leads to groups {deep} deep: {GROUP_DEPTH} is the limit",
                    reason="chaining-unsupported",
                )
            if reached > BUCKETS_REACHED:
                raise BadGroup(
                    f"group {number} reaches {reached} buckets, by way of others too: {BUCKETS_REACHED} is the limit",
                    reason="out-of-buckets",
                )

    def _bucket_slots(self, spec: GroupSpec) -> tuple[int, ...]:
        return tuple(self._slots.take() for _ in spec.buckets)

    def _delete_groups(self, numbers: set[int]) -> list[Entry]:
        for number in numbers:
            entry = self._groups.pop(number)
            self._retired.update((entry.slot, *entry.slots))
        return self._remove(
            [entry for entry in self if not numbers.isdisjoint(references(entry.rule.instructions).groups)]
        )

    # ---- meters

    def apply_meter(self, mod: MeterMod, *, now: int = 0) -> list[Entry]:
        """Carry out one meter_mod (OpenFlow 1.3.5, 7.3.4.4) at time `now` (ns, monotonic). Returns the rules that went
        with a deleted meter.

        A modified meter keeps its age and gets a new slot, where its buckets are full. Raises BadMeter.
        """
        spec = mod.spec
        known = self._meters.get(spec.number)
        match mod.command:
            case MeterCommand.ADD:
                if known is not None:
                    raise BadMeter(f"meter {spec.number} is there already: modify it", reason="meter-exists")
                check_meter(spec)
                self._meters[spec.number] = MeterEntry(spec, self._meter_slots.take(), now)
            case MeterCommand.MODIFY:
                if known is None:
                    raise BadMeter(f"meter {spec.number} is not there: add it", reason="unknown-meter")
                check_meter(spec)
                self._retired_meters.add(known.slot)
                self._meters[spec.number] = replace(known, spec=spec, slot=self._meter_slots.take())
            case MeterCommand.DELETE:
                return self._delete_meters(set(self._meters) if mod.all_meters else {spec.number} & self._meters.keys())
        return []

    def _delete_meters(self, numbers: set[int]) -> list[Entry]:
        if not numbers:
            return []
        self._retired_meters.update(self._meters.pop(number).slot for number in numbers)
        return self._remove(
            [entry for entry in self if not numbers.isdisjoint(references(entry.rule.instructions).meters)]
        )

    # ---- observers

    def observe(self, observer: Observer) -> None:
        """Add an observer; one that is there already stays. Raises BadFlowMod, and BadMatch if it names no program."""
        check_table(observer.table)
        if observer.match.program is None:
            raise BadMatch("an observer is a program: name it with filter_prog", reason="bad-value")
        if observer not in self._observers:
            self._observers = tuple(sorted((*self._observers, observer), key=_observer_rank))

    def unobserve(self, observer: Observer) -> None:
        """Take an observer away. Raises BadFlowMod if there is none like it."""
        if observer not in self._observers:
            raise BadFlowMod(f"table {observer.table} has no such observer", reason="unknown")
        self._observers = tuple(other for other in self._observers if other != observer)


class _Slots:
    """Numbers to give away, the lowest of those released first."""

    def __init__(self, bound: int = 0, free: Iterable[int] = ()) -> None:
        self.bound = bound
        self._free = list(free)
        self._first = bound
        self._taken: list[int] | None = None

    @classmethod
    def without(cls, taken: Collection[int]) -> _Slots:
        """All numbers but these."""
        bound = max(taken, default=-1) + 1
        return cls(bound, sorted(set(range(bound)).difference(taken)))

    def copy(self) -> _Slots:
        return _Slots(self.bound, self._free)

    def begin(self) -> None:
        """Remember from now on what is taken."""
        self._first, self._taken = self.bound, []

    def rollback(self) -> None:
        """Give back what was taken since `begin`."""
        self.bound = self._first
        self.release([slot for slot in self._taken or () if slot < self._first])
        self._taken = None

    def commit(self) -> None:
        """What was taken stays so."""
        self._taken = None

    def take(self) -> int:
        if self._free:
            slot = heapq.heappop(self._free)
        else:
            slot, self.bound = self.bound, self.bound + 1
        if self._taken is not None:
            self._taken.append(slot)
        return slot

    def release(self, slots: Iterable[int]) -> None:
        for slot in slots:
            heapq.heappush(self._free, slot)


def _key(rule: Rule) -> _Key:
    return (rule.priority, rule.match)


def _groups_of(actions: Iterable[Action]) -> list[int]:
    return [action.number for action in actions if isinstance(action, Group)]


def _needs(spec: GroupSpec) -> set[int]:
    """The groups that a group forwards to or watches."""
    forwards = {number for bucket in spec.buckets for number in _groups_of(bucket.actions)}
    return forwards | {bucket.watch_group for bucket in spec.buckets if bucket.watch_group is not None}


def _observer_rank(observer: Observer) -> tuple[int, int]:
    return (observer.table, observer.match.program or 0)
