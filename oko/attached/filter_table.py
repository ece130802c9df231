"""`FilterTable`: the rules of the image of an attached bridge, and what they would become: the filter rules, and in
between the plain rules that stand above one.

A filter rule in the image does itself what it is to do, if that is to drop or to send to ports with XDP; else it
*continues*, under an id, or, as long as nobody can tell whether a plain rule above it would not win, it is *suspended*:
it continues under an id that stands for that. What the rule says is in the action Continue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from ofext import messages
from ofext.extension import Observe, Unobserve
from ofext.instructions import ApplyActions, Group, Instruction, Output, WriteActions
from oko.attached.continuation import continuation, outputs, pack, unpack
from oko.attached.plain import PlainRule
from oko.attached.precedence import above, require_visible
from oko.attached.shim_id import SUSPENDED, ShimIds
from oko.attached.upstream import TABLE
from oko.errors import BadFlowMod, BundleFailed, OkoError
from oko.flow import action as flow
from oko.flow.change import Change
from oko.flow.match import Match
from oko.flow.rule import Command, Entry, FlowMod, Rule
from oko.flow.tables import Tables
from oko.wire.action import write_instructions
from oko.wire.change import read_flow_mod, read_observer_mod

ChangeMessage = messages.FlowMod | Observe | Unobserve
"""What changes filter rules, and what observes."""

Key = tuple[int, Match]
"""Priority and match: what no two rules of the table have in common."""

PASS: Final = (flow.ApplyActions((flow.Pass(),)),)


def key_of(rule: Rule | PlainRule) -> Key:
    return rule.priority, rule.match


def shim_id_of(rule: Rule) -> int | None:
    """The id that the rule continues under; None if it does everything itself."""
    match rule.instructions:
        case (flow.ApplyActions((flow.Continue(shim_id),)),):
            return shim_id
    return None


def given(rule: Rule) -> tuple[Instruction, ...]:
    """What a filter rule is to do, as it was told."""
    match rule.instructions:
        case (flow.ApplyActions((flow.Continue(instructions=packed),)),):
            return unpack(packed)
    return write_instructions(rule.instructions)


def _by_id(rules: Iterable[Rule]) -> dict[int, Rule]:
    return {shim_id: rule for rule in rules if (shim_id := shim_id_of(rule)) is not None}


def _continuing(shim_id: int, instructions: Sequence[Instruction]) -> tuple[flow.Instruction, ...]:
    return (flow.ApplyActions((flow.Continue(shim_id, pack(instructions)),)),)


@dataclass(slots=True)
class Plan:
    """Changes at both places. `image` are those of the image, in order, to take effect at one instant; `own` add the
    rules that continue under the ids `taken`. The ids `retired` are not used by the image any more."""

    rules: dict[Key, Rule]
    """The filter rules as they are to be."""
    above: dict[Key, frozenset[Key]]
    """The plain rules that are to stand above each of them in the image."""
    image: list[Change] = field(default_factory=list)
    own: list[messages.FlowMod] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)
    reasons: list[int] = field(default_factory=list)
    """For each change of the image, which of the changes that were asked for it is a part of."""
    continuing: int = 0
    """The first of the changes that were asked for that Open vSwitch has a part in."""
    retired: list[int] = field(default_factory=list)


class FilterTable:
    """Of one bridge, whose rules are `tables`. `ports` says which ports carry the XDP program."""

    def __init__(self, tables: Callable[[], Tables], ports: Callable[[], Collection[int]]) -> None:
        self._tables = tables
        self._ports = ports
        passes = self.passes()
        self._above = {
            key_of(entry.rule): frozenset(
                key for key in passes if key[0] > entry.rule.priority and key[1].overlaps(entry.rule.match)
            )
            for entry in self.entries()
        }
        self._continued = _by_id(entry.rule for entry in self.entries())
        self.ids = ShimIds(self.used_ids())
        """The ids that rules continue under."""
        self.objection = ""
        """Why all filter rules are to be suspended; empty if they are not."""
        self.unheld: frozenset[Key] = frozenset()
        """Plain rules that may be gone before the image follows, as nothing stands in for them."""

    # ---- what is there

    def entries(self) -> Iterator[Entry]:
        """The filter rules."""
        return (entry for entry in self._tables() if entry.rule.match.program is not None)

    def __bool__(self) -> bool:
        """Whether there is any filter rule."""
        return next(self.entries(), None) is not None

    def passes(self) -> dict[Key, Rule]:
        """The rules of the image that stand for plain rules."""
        return {key_of(entry.rule): entry.rule for entry in self._tables() if entry.rule.match.program is None}

    def used_ids(self) -> Iterator[int]:
        """Those that rules continue under."""
        for entry in self.entries():
            shim_id = shim_id_of(entry.rule)
            if shim_id is not None and shim_id != SUSPENDED:
                yield shim_id

    def continued(self, shim_id: int) -> Rule | None:
        """The filter rule that continues under an id."""
        return self._continued.get(shim_id)

    def own_rules(self) -> Iterator[messages.FlowMod]:
        """Add the rules that continue filter rules."""
        for shim_id in self.used_ids():
            yield from self.own_rules_of(shim_id)

    def own_rules_of(self, shim_id: int) -> tuple[messages.FlowMod, ...]:
        """Add the rules that continue under an id."""
        rule = self._continued.get(shim_id)
        return () if rule is None else continuation(shim_id, rule.match, given(rule))

    def suspended(self) -> list[Rule]:
        """The filter rules that are suspended."""
        return [entry.rule for entry in self.entries() if shim_id_of(entry.rule) == SUSPENDED]

    def below(self, plain: PlainRule) -> list[Rule]:
        """The filter rules that a plain rule stands above, or would."""
        return [entry.rule for entry in self.entries() if any(above(entry.rule, (plain,)))]

    # ---- what is to be

    def begin(self) -> Plan:
        """A plan that changes nothing."""
        return Plan({key_of(entry.rule): entry.rule for entry in self.entries()}, dict(self._above))

    def plan(self, changes: Iterable[ChangeMessage], plain: Collection[PlainRule]) -> Plan:
        """What changes mean, one after the other. Raises BundleFailed, and nothing has happened."""
        plan = self.begin()
        for index, message in enumerate(changes):
            continues = bool(plan.own)
            try:
                self._change(plan, message, plain)
            except OkoError as error:
                self.cancel(plan)
                raise BundleFailed(index, error) from error
            plan.reasons += [index] * (len(plan.image) - len(plan.reasons))
            if plan.own and not continues:
                plan.continuing = index
        self._follow(plan)
        return plan

    def leave(self, plain: Collection[PlainRule], kept: Collection[PlainRule] = ()) -> Plan:
        """What has to be done at once when these are the plain rules: those that are gone are looked up no more, and
        what cannot be told any more is suspended, as is what stands below a rule that is `unheld`. What is `kept` of
        rules that go is looked up in their place."""
        plan = self.begin()
        for key, rule in plan.rules.items():
            preceding = list(above(rule, plain))
            staying = plan.above.get(key, frozenset()) & frozenset(map(key_of, preceding))
            plan.above[key] = staying | frozenset(map(key_of, above(rule, kept)))
            doubtful = self._doubts(preceding) or any(key_of(other) in self.unheld for other in preceding)
            if doubtful and shim_id_of(rule) != SUSPENDED:
                self._put(plan, rule, _continuing(SUSPENDED, given(rule)))
        self._follow(plan)
        return plan

    def enter(self, plain: Collection[PlainRule]) -> Plan:
        """What is to be done when Open vSwitch has settled with these plain rules: all that stand above a filter rule
        are looked up, filter rules that no hidden one stands above are suspended no longer, and each does itself what
        it can with the ports as they are. Nothing is `unheld` then."""
        plan = self.begin()
        for key, rule in plan.rules.items():
            preceding = list(above(rule, plain))
            plan.above[key] = frozenset(key_of(other) for other in preceding if not other.unseen)
            if not self._doubts(preceding) and not self._is_right(rule):
                self._put(plan, rule, self._doing(plan, rule.match, given(rule)))
        self._follow(plan)
        return plan

    def _doubts(self, preceding: Iterable[PlainRule]) -> bool:
        """Whether nobody can tell if one of these plain rules would not win."""
        return bool(self.objection) or any(other.unseen for other in preceding)

    def _is_right(self, rule: Rule) -> bool:
        """Whether the rule does itself what it can, and leaves to Open vSwitch what it cannot."""
        shim_id = shim_id_of(rule)
        return shim_id != SUSPENDED and (shim_id is None) == (outputs(given(rule), self._ports()) is not None)

    def commit(self, plan: Plan) -> None:
        """The plan has been carried out."""
        self._above = plan.above
        self._continued = _by_id(plan.rules.values())
        for shim_id in plan.retired:
            self.ids.retire(shim_id)

    def cancel(self, plan: Plan) -> None:
        """The plan is not carried out."""
        for shim_id in plan.taken:
            self.ids.cancel(shim_id)

    def abandon(self, plan: Plan) -> None:
        """The plan is not carried out, but its rules may be in Open vSwitch."""
        for shim_id in plan.taken:
            self.ids.retire(shim_id)

    def forgotten(self) -> None:
        """Give up the ids of rules that are gone by themselves, their time being over."""
        for shim_id in self.ids.used - set(self.used_ids()):
            self.ids.retire(shim_id)
        self._continued = _by_id(entry.rule for entry in self.entries())
        there = {key_of(entry.rule) for entry in self.entries()}
        self._above = {key: preceding for key, preceding in self._above.items() if key in there}

    # ---- changes

    def _change(self, plan: Plan, message: ChangeMessage, plain: Collection[PlainRule]) -> None:
        if not isinstance(message, messages.FlowMod):
            mod = read_observer_mod(message)
            _require_table(mod.observer.table)
            plan.image.append(mod)
            return
        change = read_flow_mod(replace(message, instructions=()))
        match change.command:
            case Command.ADD:
                self._add(plan, change, message.instructions, plain)
            case Command.MODIFY | Command.MODIFY_STRICT:
                for rule in _selected(plan.rules, change):
                    self._put(plan, rule, self._doing(plan, rule.match, message.instructions), change)
            case Command.DELETE | Command.DELETE_STRICT:
                for rule in _selected(plan.rules, change):
                    self._delete(plan, rule)

    def _add(self, plan: Plan, mod: FlowMod, instructions: Sequence[Instruction], plain: Collection[PlainRule]) -> None:
        _require_table(mod.rule.table)
        if self.objection:
            raise BadFlowMod(f"filter rules are suspended: {self.objection}", reason="eperm")
        preceding = list(above(mod.rule, plain))
        for other in preceding:
            require_visible(other)
        key = key_of(mod.rule)
        if mod.check_overlap and key not in plan.rules:
            others = [*plan.rules, *(key_of(other) for other in plain if other.table == TABLE and not other.unseen)]
            if any(priority == mod.rule.priority and other.overlaps(mod.rule.match) for priority, other in others):
                raise BadFlowMod("the rule overlaps another of the same priority", reason="overlap")
        doing = self._doing(plan, mod.rule.match, instructions)
        if key in plan.rules:
            self._retire(plan, plan.rules[key])
        plan.rules[key] = rule = replace(mod.rule, instructions=doing)
        plan.above[key] = frozenset(map(key_of, preceding))
        plan.image.append(replace(mod, rule=rule, check_overlap=False))

    def _put(self, plan: Plan, rule: Rule, doing: tuple[flow.Instruction, ...], mod: FlowMod | None = None) -> None:
        """Let a filter rule do something else."""
        self._retire(plan, rule)
        plan.rules[key_of(rule)] = changed = replace(rule, instructions=doing)
        plan.image.append(FlowMod(Command.MODIFY_STRICT, changed, reset_counts=mod is not None and mod.reset_counts))

    def _delete(self, plan: Plan, rule: Rule) -> None:
        self._retire(plan, rule)
        del plan.rules[key_of(rule)]
        plan.above.pop(key_of(rule), None)
        plan.image.append(FlowMod(Command.DELETE_STRICT, rule))

    def _doing(self, plan: Plan, match: Match, instructions: Sequence[Instruction]) -> tuple[flow.Instruction, ...]:
        """What a filter rule does in the image that is told to do this."""
        sent = outputs(instructions, self._ports())
        if sent is not None:
            return (flow.ApplyActions(tuple(flow.Output(each.port, each.max_len) for each in sent)),) if sent else ()
        shim_id = self.ids.take()
        plan.taken.append(shim_id)
        plan.own += continuation(shim_id, match, instructions)
        return _continuing(shim_id, instructions)

    def _retire(self, plan: Plan, rule: Rule) -> None:
        shim_id = shim_id_of(rule)
        if shim_id is not None and shim_id != SUSPENDED:
            plan.retired.append(shim_id)

    def _follow(self, plan: Plan) -> None:
        """Let those plain rules be looked up that stand above a filter rule, and no others. They come before the
        filter rules, which are then found below them from the first packet on."""
        wanted = Counter(key for preceding in plan.above.values() for key in preceding)
        there = self.passes()
        arriving = [Rule(match, PASS, priority) for priority, match in wanted if (priority, match) not in there]
        leaving = [rule for key, rule in there.items() if key not in wanted]
        last = plan.reasons[-1] if plan.reasons else 0
        plan.reasons = [last] * len(arriving) + plan.reasons + [last] * (len(plan.image) + len(leaving))
        plan.image[:0] = [FlowMod(Command.ADD, rule) for rule in arriving]
        plan.image += [FlowMod(Command.DELETE_STRICT, rule) for rule in leaving]


def _selected(rules: Mapping[Key, Rule], mod: FlowMod) -> list[Rule]:
    """The filter rules that a modify or delete is about (OpenFlow 1.3.5, 6.4)."""
    if mod.command in (Command.MODIFY_STRICT, Command.DELETE_STRICT):
        exact = rules.get(key_of(mod.rule))
        found: Iterable[Rule] = () if exact is None else (exact,)
    else:
        found = rules.values()
    if not mod.all_tables and mod.rule.table != TABLE:
        return []
    return [rule for rule in found if selects(mod, rule)]


def selects(mod: FlowMod, rule: Rule) -> bool:
    """Whether a filter rule is among those that `mod` means by its match, cookie and, if it deletes, by where they send
    to."""
    if not mod.rule.match.covers(rule.match) or (rule.cookie ^ mod.rule.cookie) & mod.cookie_mask:
        return False
    if not mod.command.is_delete or (mod.out_port is None and mod.out_group is None):
        return True
    actions = [a for each in given(rule) if isinstance(each, ApplyActions | WriteActions) for a in each.actions]
    sends = mod.out_port is None or any(isinstance(a, Output) and a.port == mod.out_port for a in actions)
    groups = mod.out_group is None or any(isinstance(a, Group) and a.group_id == mod.out_group for a in actions)
    return sends and groups


def _require_table(table: int) -> None:
    if table != TABLE:
        raise BadFlowMod(
            f"table {table}: programs are asked in table {TABLE} only of a bridge of Open vSwitch's",
            reason="bad-table-id",
        )
