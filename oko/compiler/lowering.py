"""From instructions, actions and groups to steps, and the check that one frame can do it.

XDP has one frame: it is copied to several ports only as it is in the end, and nothing that was changed is brought back.
What needs more is refused: to change a packet that an earlier action sent, or to go on with the unchanged packet behind
a group that changes it.

An attached switch has table 0 only, and does little but leave packets to Open vSwitch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from oko.compiler.portset import NOWHERE, PortSets
from oko.compiler.step import (
    ARGUMENT,
    Call,
    Charge,
    Clear,
    Continue,
    Count,
    Either,
    Failure,
    Kind,
    Note,
    Parse,
    Pass,
    Procedure,
    Select,
    Send,
    Step,
    Tell,
    Write,
    WriteField,
    walk,
)
from oko.errors import BadAction, LimitExceeded
from oko.flow import action as act
from oko.flow.action import Action, ApplyActions, ClearActions, Instruction, Meter, WriteActions, WriteMetadata
from oko.flow.action_text import write_actions
from oko.flow.group import Bucket, GroupEntry, GroupType
from oko.flow.meter import MeterEntry
from oko.flow.packet_in import PacketInReason
from oko.flow.port import PortState
from oko.flow.rule import Rule

WAY_LIMIT: Final = 1 << 14
"""Of the ways in which packets come to one table: what they have to leave by, times what their action sets end with."""


@dataclass(frozen=True, slots=True)
class Way:
    """One of the ways in which a packet may come to a table: `outputs` is the port set that it has to leave by already,
    `output` and `group` are the port set and the group that its action set ends with, 0 for none."""

    outputs: int = NOWHERE
    output: int = NOWHERE
    group: int = 0


@dataclass(frozen=True, slots=True)
class Pending:
    """What may be true of a packet when it enters a table. `written`: the action set may hold something, and with
    `rewriting` something that changes the packet."""

    ways: frozenset[Way] = frozenset({Way()})
    written: bool = False
    rewriting: bool = False

    @property
    def sent(self) -> bool:
        """Whether the packet may have to leave by some port already."""
        return any(way.outputs for way in self.ways)

    def __or__(self, other: Pending) -> Pending:
        return Pending(self.ways | other.ways, self.written or other.written, self.rewriting or other.rewriting)


@dataclass(frozen=True, slots=True)
class _Change:
    """How an action that changes the packet is done: by the runtime function `function`, whose failure means `failure`;
    in an action set it is of `kind`. `operand` is the attribute that has its number, empty if it has none."""

    function: str
    failure: Failure
    kind: Kind
    operand: str = ""


_CHANGES: Final[Mapping[type[Action], _Change]] = {
    act.CopyTtlIn: _Change("oko_copy_ttl_in", Failure.NEVER, Kind.COPY_TTL_IN),
    act.PopVlan: _Change("oko_pop_vlan", Failure.NO_ROOM, Kind.POP_VLAN),
    act.PopMpls: _Change("oko_pop_mpls", Failure.NO_ROOM, Kind.POP_MPLS, "eth_type"),
    act.PushMpls: _Change("oko_push_mpls", Failure.NO_ROOM, Kind.PUSH_MPLS, "eth_type"),
    act.PushVlan: _Change("oko_push_vlan", Failure.NO_ROOM, Kind.PUSH_VLAN, "tpid"),
    act.CopyTtlOut: _Change("oko_copy_ttl_out", Failure.NEVER, Kind.COPY_TTL_OUT),
    act.DecTtl: _Change("oko_dec_ttl", Failure.INVALID_TTL, Kind.DEC_TTL),
    act.DecMplsTtl: _Change("oko_dec_mpls_ttl", Failure.INVALID_TTL, Kind.DEC_MPLS_TTL),
    act.SetTtl: _Change("oko_set_ttl", Failure.NEVER, Kind.SET_TTL, "ttl"),
    act.SetMplsTtl: _Change("oko_set_mpls_ttl", Failure.NEVER, Kind.SET_MPLS_TTL, "ttl"),
}

CALLS: Final[Mapping[Kind, tuple[str, Failure, str]]] = {
    change.kind: (change.function, change.failure, f"set.{change.kind.name.lower()}" if change.operand else "")
    for change in _CHANGES.values()
}
"""How an action set is executed: by kind the function, what its failure means, and the member of `struct oko_packet`
that holds the operand, if it has one."""


@dataclass
class Lowering:
    """Lowers the rules of one bridge. `ports` are the states by number; their order gives the indices. `attached`: to
    Open vSwitch."""

    ports: Mapping[int, PortState]
    groups: Mapping[int, GroupEntry]
    meters: Mapping[int, MeterEntry]
    attached: bool = False
    sets: PortSets = field(init=False)

    def __post_init__(self) -> None:
        self._indices = {number: index for index, number in enumerate(sorted(self.ports))}
        self.sets = PortSets(len(self.ports))
        self._live: dict[int, bool] = {}

    def procedure(self, rule: Rule, pending: Pending) -> Procedure:
        """What happens for a rule that packets reach with `pending`. Raises BadAction, LimitExceeded."""
        self.require_place(rule)
        path = _Path(self, rule, sent=pending.sent)
        written, rewriting = pending.written, pending.rewriting
        writes: tuple[Action, ...] = ()
        for instruction in rule.instructions:
            match instruction:
                case Meter(number):
                    path.add(Charge(self.meters[number].slot))
                case ApplyActions(actions):
                    path.actions(actions)
                case ClearActions():
                    if written:
                        path.add(Clear())
                    written = rewriting = False
                case WriteActions(actions):
                    writes = act.in_set_order(actions)
                case WriteMetadata(value, mask):
                    path.add(Note(value & mask, mask))
        goto = rule.goto
        if goto is None and not written:
            # Nothing is in the set but what this rule puts there: no need to put it there first.
            path.actions(writes)
            writes = ()
        for action in writes:
            path.add(self._write(action))
        written = written or bool(writes)
        rewriting = rewriting or any(self._rewrites(action) for action in writes)
        if goto is None and written:
            path.finish(rewriting=rewriting)
        elif goto is not None:
            path.go_on()
        finish = goto is None and written
        parse_again = path.rewritten and goto is not None
        return Procedure(tuple(path.steps), goto, parse_again, finish, finish and rule.is_table_miss)

    def require_place(self, rule: Rule) -> None:
        """Raises BadAction for a rule that belongs to a switch of the other kind."""
        if self.attached:
            if rule.table or not all(map(_is_decided, rule.instructions)):
                raise BadAction(
                    "for a bridge of Open vSwitch's, Oko drops packets and sends them to ports, in table 0: all else "
                    "is to be continued",
                    reason="bad-type",
                )
            return
        if any(isinstance(action, act.Pass | act.Continue) for action in rule.actions):
            raise BadAction(
                f"{write_actions(rule.actions)}: only a bridge that is attached to Open vSwitch leaves packets to it",
                reason="bad-type",
            )

    def behind(self, rule: Rule, procedure: Procedure, pending: Pending) -> Pending:
        """What is pending when a packet leaves a rule, for the next table or for the end. Raises BadAction,
        LimitExceeded."""
        written, rewriting, ways = pending.written, pending.rewriting, pending.ways
        for instruction in rule.instructions:
            if isinstance(instruction, ClearActions):
                written = rewriting = False
                ways = frozenset(Way(way.outputs) for way in ways)
        for step in procedure.steps:
            if isinstance(step, Write | WriteField):
                written = True
                rewriting = rewriting or self._step_rewrites(step)
            if isinstance(step, Write) and step.kind is Kind.OUTPUT:
                ways = frozenset(replace(way, output=step.value) for way in ways)
            if isinstance(step, Write) and step.kind is Kind.GROUP:
                ways = frozenset(replace(way, group=step.value) for way in ways)
        ways = frozenset(
            replace(way, outputs=outputs)
            for way in ways
            for outputs in self.outcomes(procedure.steps, frozenset({way.outputs}))
        )
        if len(ways) > WAY_LIMIT:
            raise LimitExceeded(
                "ways in which packets come to a table", len(ways), WAY_LIMIT, advice="write fewer groups and outputs"
            )
        return Pending(ways, written, rewriting)

    def end(self, pending: Pending) -> None:
        """Tell `sets` of every union that the end of the pipeline makes. Raises BadAction, LimitExceeded."""
        for way in pending.ways:
            if way.group:
                self.outcomes(self.group(way.group), frozenset({way.outputs}))
            elif way.output != CONTROLLER:
                self.sets.union(way.outputs, way.output)

    def outcomes(self, steps: Sequence[Step], outputs: frozenset[int]) -> frozenset[int]:
        """The port sets that may be pending after some steps. Tells `sets` of every union on the way."""
        for step in steps:
            if isinstance(step, Send):
                outputs = frozenset(self.sets.union(before, step.number) for before in outputs)
            elif isinstance(step, Select):
                ends = [self.outcomes(alternative, outputs) for alternative in (*step.alternatives, *step.dead)]
                outputs = frozenset().union(*ends)
            elif isinstance(step, Either):
                ends = [self.outcomes(alternative, outputs) for alternative in (step.chosen, *step.dead)]
                outputs = frozenset().union(*ends)
        return outputs

    def group(self, number: int) -> tuple[Step, ...]:
        """What a group that an action set names does. Other actions of the set may have changed the packet. Raises
        BadAction, LimitExceeded."""
        path = _Path(self, None, sent=False, stale=True)
        path.actions((act.Group(number),))
        return tuple(path.steps)

    def output(self, port: int) -> int:
        """The port set of an output to `port`. Raises BadAction."""
        if port == act.IN_PORT:
            return self.sets.number(ingress=True)
        if port == act.ALL:
            return self.sets.number(self._indices.values())
        if port == act.FLOOD:
            return self.sets.number(self._indices[number] for number, state in self.ports.items() if state.flood)
        if port not in self._indices:
            raise BadAction(f"output:{port}: the bridge has no port {port}", reason="bad-out-port")
        return self.sets.number((self._indices[port],))

    def is_live(self, bucket: Bucket, group: GroupType) -> bool:
        """Whether a bucket of a group of this type is live (`Bucket` says when)."""
        if bucket.watch_port is None and bucket.watch_group is None:
            return group is not GroupType.FAST_FAILOVER
        if bucket.watch_port is not None and bucket.watch_port in self.ports and self.ports[bucket.watch_port].live:
            return True
        return bucket.watch_group is not None and self._group_is_live(bucket.watch_group)

    def _group_is_live(self, number: int) -> bool:
        """Whether a group has a live bucket. Found out once: groups that watch each other are long to walk."""
        if number not in self._live:
            watched = self.groups.get(number)
            self._live[number] = watched is not None and any(
                self.is_live(bucket, watched.spec.type) for bucket in watched.spec.buckets
            )
        return self._live[number]

    def _write(self, action: Action) -> Step:
        match action:
            case act.SetField():
                return WriteField(action.field.oxm_field, _argument(action))
            case act.Output(port):
                return Write(Kind.OUTPUT, CONTROLLER if port == act.CONTROLLER else self.output(port))
            case act.Group(number):
                return Write(Kind.GROUP, number)
        return Write(_CHANGES[type(action)].kind, _operand(action) or 0)

    def _rewrites(self, action: Action) -> bool:
        """Whether the action changes the packet."""
        if isinstance(action, act.Group):
            buckets = self.groups[action.number].spec.buckets
            return any(self._rewrites(inner) for bucket in buckets for inner in bucket.actions)
        return not isinstance(action, act.Output)

    def _step_rewrites(self, step: Write | WriteField) -> bool:
        if isinstance(step, Write) and step.kind is Kind.GROUP:
            return self._rewrites(act.Group(step.value))
        return isinstance(step, WriteField) or step.kind is not Kind.OUTPUT


CONTROLLER: Final = 0xFFFFFFFF
"""What stands in the action set for an output to the controller: no port set has this number."""


class _Path:
    """Steps one after the other, with what is true of the packet so far."""

    def __init__(self, lowering: Lowering, rule: Rule | None, *, sent: bool, stale: bool = False) -> None:
        self.steps: list[Step] = []
        self.sent = sent
        self.rewritten = False
        self.stale = stale  # the headers that were parsed are not those of the packet any more
        self._lowering = lowering
        self._rule = rule
        self._spoiled = 0

    def add(self, step: Step) -> None:
        self._expect_unspoiled()
        self.steps.append(step)

    def actions(self, actions: Iterable[Action]) -> None:
        for action in actions:
            match action:
                case act.Output(act.CONTROLLER):
                    self.add(Tell(self._reason()))
                case act.Output(port):
                    self.add(Send(self._lowering.output(port)))
                    self.sent = True
                case act.Group(number):
                    self._group(self._lowering.groups[number])
                case act.SetField():
                    self._rewrite(Call("oko_set_field", Failure.NEVER, action.field.oxm_field, _argument(action)))
                case act.Pass():
                    self.add(Pass())
                case act.Continue(shim_id):
                    self.add(Continue(shim_id))
                case _:
                    change = _CHANGES[type(action)]
                    self._rewrite(Call(change.function, change.failure, _operand(action)))

    def finish(self, *, rewriting: bool) -> None:
        """The action set is executed here."""
        self._expect_unspoiled()
        if rewriting and self.sent:
            raise BadAction(
                "an action set that changes the packet would be executed after the packet was sent: all ports get the "
                "same bytes",
                reason="bad-type",
            )

    def go_on(self) -> None:
        """The packet goes to the next table."""
        self._expect_unspoiled()

    def _reason(self) -> PacketInReason:
        is_miss = self._rule is not None and self._rule.is_table_miss
        return PacketInReason.NO_MATCH if is_miss else PacketInReason.ACTION

    def _rewrite(self, call: Call) -> None:
        if self.sent:
            raise BadAction(
                f"{call.function.removeprefix('oko_')} comes after the packet was sent: all ports get the same bytes; "
                "change it first",
                reason="bad-type",
            )
        self.rewritten = self.stale = True
        self.add(call)

    def _expect_unspoiled(self) -> None:
        if self._spoiled:
            raise BadAction(
                f"group {self._spoiled} changes the packet, and something comes after it: let the group be last",
                reason="bad-type",
            )

    def _group(self, entry: GroupEntry) -> None:
        self._expect_unspoiled()
        spec = entry.spec
        self.add(Count(entry.slot))
        paths = [self._bucket(bucket, slot) for bucket, slot in zip(spec.buckets, entry.slots, strict=True)]
        everything = [tuple(path.steps) for path in paths]
        live = [index for index, bucket in enumerate(spec.buckets) if self._lowering.is_live(bucket, spec.type)]
        match spec.type:
            case GroupType.SELECT:
                live = [index for index in live if spec.buckets[index].weight]
                if len(live) > 1:
                    if self.stale:
                        self.steps.append(Parse())
                    weights = tuple(spec.buckets[index].weight for index in live)
                    self.steps.append(Select(weights, *_divided(everything, live)))
                else:
                    self._choose(everything, live)
            case GroupType.FAST_FAILOVER:
                self._choose(everything, live[:1])
            case _:
                self._all(spec.number, paths)
        # Of buckets that are dead now, too: what was accepted must stay possible whatever the ports do.
        self.sent = self.sent or any(path.sent for path in paths)
        if any(path.rewritten for path in paths):
            self._spoiled = spec.number

    def _choose(self, everything: Sequence[tuple[Step, ...]], live: Sequence[int]) -> None:
        """The only live bucket of several, or none."""
        chosen, dead = _divided(everything, live)
        self.steps.append(Either(chosen[0] if chosen else (), dead))

    def _bucket(self, bucket: Bucket, slot: int) -> _Path:
        path = _Path(self._lowering, self._rule, sent=self.sent, stale=self.stale)
        path.steps.append(Count(slot))
        path.actions(act.in_set_order(bucket.actions))
        while path.steps and isinstance(path.steps[-1], Call) and not _may_end(path.steps[-1]):
            path.steps.pop()  # Nobody ever sees what is changed last.
        path.rewritten = any(isinstance(step, Call) for step in walk(path.steps)) or bool(path._spoiled)
        return path

    def _all(self, number: int, paths: Sequence[_Path]) -> None:
        """Every bucket: one that changes the packet must be alone, or all must change it alike, before anything else
        but that they count it."""
        if len(paths) <= 1 or not any(path.rewritten for path in paths):
            self.steps += [step for path in paths for step in path.steps]
            return
        changes = [[step for step in path.steps if isinstance(step, Call)] for path in paths]
        alike = all(change == changes[0] and not any(map(_may_end, change)) for change in changes)
        simple = all(isinstance(step, Call | Send | Tell) for path in paths for step in path.steps[1:])
        if not (alike and simple):
            raise BadAction(
                f"group {number} sends different bytes to different ports: all ports get the same bytes",
                reason="bad-type",
            )
        self.steps += [path.steps[0] for path in paths]
        self.steps += changes[0]
        self.steps += [step for path in paths for step in path.steps[1:] if not isinstance(step, Call)]


def _divided(
    everything: Sequence[tuple[Step, ...]], live: Sequence[int]
) -> tuple[tuple[tuple[Step, ...], ...], tuple[tuple[Step, ...], ...]]:
    """What buckets do: those that are live, and the others."""
    dead = [index for index in range(len(everything)) if index not in set(live)]
    return tuple(everything[index] for index in live), tuple(everything[index] for index in dead)


def _is_decided(instruction: Instruction) -> bool:
    """Whether an attached switch carries the instruction out itself, or leaves the packet by it."""
    return isinstance(instruction, ApplyActions) and all(
        isinstance(action, act.Pass | act.Continue)
        or (isinstance(action, act.Output) and action.port not in (act.FLOOD, act.ALL, act.CONTROLLER))
        for action in instruction.actions
    )


def _may_end(step: Step) -> bool:
    return isinstance(step, Call) and step.failure is Failure.INVALID_TTL


def _operand(action: Action) -> int | None:
    """The number of an action that has one."""
    name = _CHANGES[type(action)].operand
    return int(getattr(action, name)) if name else None


def _argument(action: act.SetField) -> bytes:
    """The value of a set-field as `struct oko_argument` has it."""
    return action.value.to_bytes(action.field.size, "big").ljust(ARGUMENT, b"\0")
