"""`Bridge`: ports, tables, programs and the image made of them. Every change takes effect whole or not at all."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from oko.compiler.amendment import amend, grown
from oko.compiler.compile import Compilation, compile_tables, compile_trial
from oko.compiler.image import Filter, Image
from oko.compiler.ingress import LOOPBACK
from oko.compiler.layout import KeyLayout
from oko.compiler.meter import METER_LIMIT, MeterCounts
from oko.compiler.packet_in import PacketInRecord, unpack
from oko.compiler.runtime import Runtime
from oko.errors import (
    BadAction,
    BadFlowMod,
    BundleFailed,
    FlowError,
    KernelError,
    LimitExceeded,
    OkoError,
    PortError,
    ProgramInUse,
)
from oko.flow.action import ALL, CONTROLLER, FLOOD, IN_PORT, NORMAL, TABLE, Action, Output, references
from oko.flow.attachment import Attachment, Shims
from oko.flow.change import Change
from oko.flow.drop import OF_ATTACHED, Drop
from oko.flow.group import GroupCommand, GroupMod
from oko.flow.meter import MeterCommand, MeterEntry, MeterMod
from oko.flow.observer import Observer, ObserverMod
from oko.flow.packet_in import PacketInReason
from oko.flow.port import PortState
from oko.flow.reference import Decision, ReferenceSwitch
from oko.flow.rule import Command, Entry, FlowMod
from oko.flow.tables import Delta, Tables
from oko.kernel.interface import set_up
from oko.kernel.link_monitor import LinkState, link_state
from oko.kernel.maps import Map
from oko.kernel.ringbuf import RingBuffer
from oko.switch.datapath import Count, Datapath, make_program_maps
from oko.switch.draft import Checks, Draft
from oko.switch.events import Events
from oko.switch.limits import DEFAULT_LIMITS, Limits
from oko.switch.port import Port
from oko.switch.programs import LoadedFilter, Programs
from oko.switch.state import State
from oko.switch.store import Store
from oko.switch.timeouts import RemovalReason, Timeouts
from verifier.check import check
from verifier.elf import load

log = logging.getLogger("oko")

_REFUSALS = 32
"""Attempts to carry out the changes of one batch that may fail: one that is wrong among 512 takes 10."""
_PENDING = 1 << 13
"""Records of the smallest kind that the ring buffer of packet-ins has room for."""
_MEANT = frozenset((IN_PORT, TABLE, FLOOD, ALL, CONTROLLER))
"""Ports that mean others, and are there always."""


_Way = tuple[int, int | None]
"""A table, and the table where its rule lets the lookup go on."""


@dataclass(frozen=True, slots=True)
class Removed:
    """A rule that went away, with what it had won."""

    entry: Entry
    reason: RemovalReason
    count: Count
    duration: int
    """How long it was there, ns."""


@dataclass(frozen=True, slots=True)
class PortChanged:
    """A port whose link went up or down, or whose interface went away."""

    port: Port


Event = Removed | PacketInRecord | PortChanged
"""What a bridge tells whoever listens."""


class Bridge:
    """The state of one bridge. Not for several threads."""

    def __init__(
        self,
        name: str,
        datapath: Datapath,
        runtime: Runtime,
        ports: Sequence[Port],
        limits: Limits = DEFAULT_LIMITS,
        *,
        state: State | None = None,
        store: Store | None = None,
        attachment: Attachment | None = None,
    ) -> None:
        """Take over a datapath: from here on packets are decided by the tables of `state`, without one by empty ones,
        which drop everything as a table miss; but what an earlier okod's unknown tables decide goes on until the first
        change. What changes is written to `store`. With an `attachment` the bridge is Open vSwitch's, and so is what
        misses the table.

        Raises KernelError, and for a state that cannot be restored ProgramError, FlowError or LimitExceeded.
        """
        self.name = name
        self.limits = limits
        self.changes = 0
        """Changes of rules, groups, meters and observers that took effect: the accepted flow_mods and their like."""
        self.ports = tuple(sorted(ports, key=lambda port: port.number))
        self._datapath = datapath
        self._runtime = runtime
        self._tables = Tables()
        self._entries: dict[int, Entry] = {}  # by slot
        self._past: Counter[_Way] = Counter()  # what rules have won that are no more
        self.programs = Programs(name, datapath)
        self._timeouts = Timeouts()
        self._checks: Checks | None = None
        self._listeners: list[Callable[[Event], None]] = []
        self._silent: set[int] = set()  # ports of whose table misses nobody is told
        self._store = store
        self.attachment = attachment
        """That to Open vSwitch, None for a bridge of Oko's own. It changes with `reattach`."""
        self._absent: frozenset[int] = frozenset()  # ports that rules name and that the bridge does not have any more
        self._charged: set[int] = set()  # the slots of the meters that the image knows
        if state is not None:
            self._restore(state)
        self._states = self._port_states()
        self.events = Events(self.programs.map)
        self._compilation: Compilation | None = None
        if not datapath.inherits:
            self._charge()
            self._charged = self._tables.used_meter_slots()
            self._compilation = self._compile(self.programs.filters())
            datapath.apply(self._compilation.image)
        if state is not None and datapath.adopts and not datapath.inherits:
            datapath.settle()
            datapath.clear_others(self._tables.used_slots())
            datapath.tidy()

    def listen(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Tell `listener` of every event from now on, until what is returned is called."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # ---- rules, groups, meters, observers

    def change(self, mods: Sequence[Change]) -> list[OkoError | None]:
        """Carry out changes, in order; for each what was wrong with it, None if nothing.

        They take effect together when that succeeds. When it does not, one half is carried out after the other, and so
        on, so that one that goes beyond a limit fails alone. But after `_REFUSALS` attempts that failed, what is left
        is refused as the last was, except for what only takes away.
        """
        # Each attempt may compile all tables. Where many changes each go beyond a limit, looking for them one by one
        # would take twice as many attempts as there are changes; so their number is bounded, whatever the order in
        # which good and bad ones come. Deletes are what makes room again: they are never refused for want of it.
        outcomes: list[OkoError | None] = []
        parts, refusals = [mods], 0
        while parts:
            part = parts.pop()
            found, refusal = self._change_at_once(part)
            if refusal is None:
                outcomes += found
                continue
            if len(part) == 1:
                outcomes.append(refusal)
            else:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
            refusals += 1
            if refusals == _REFUSALS:
                return outcomes + self._take_away([mod for left in reversed(parts) for mod in left], refusal)
        return outcomes

    def _change_at_once(self, mods: Sequence[Change]) -> tuple[list[OkoError | None], OkoError | None]:
        """Let the right ones of these changes take effect together. For each what is wrong with it; and why, if so,
        they do not take effect."""
        outcomes: list[OkoError | None] = []
        with self._draft() as draft:
            for mod in mods:
                try:
                    self._apply(draft, mod)
                    outcomes.append(None)
                except OkoError as error:
                    outcomes.append(error)
            if None in outcomes:
                try:
                    self._commit(draft)
                except OkoError as error:
                    return outcomes, error
                self.changes += outcomes.count(None)
        return outcomes, None

    def _take_away(self, mods: Sequence[Change], refusal: OkoError) -> list[OkoError | None]:
        """Carry out the deletes among these changes together, and refuse the others."""
        outcomes: list[OkoError | None] = [refusal] * len(mods)
        deletes = {index: mod for index, mod in enumerate(mods) if _only_takes_away(mod)}
        found, failure = self._change_at_once(list(deletes.values()))
        for index, outcome in zip(deletes, found, strict=True):
            outcomes[index] = failure or outcome
        return outcomes

    def change_together(self, mods: Sequence[Change]) -> None:
        """Carry out all changes at one instant for every packet, or none. Raises OkoError; `BundleFailed` says at which
        of them, if it was one."""
        with self._draft() as draft:
            self._apply_all(draft, mods)
            try:
                self._commit(draft, together=True)
                self.changes += len(mods)
                return
            except (FlowError, LimitExceeded) as error:
                refusal = error
        raise self._first_to_fail(mods, refusal) from refusal

    @contextlib.contextmanager
    def _draft(self) -> Iterator[Draft]:
        """The tables in a transaction, which is taken back unless `_commit` ends it."""
        self._tables.begin()
        draft = Draft(self._tables, self._checks)
        self._checks = None
        try:
            yield draft
            if not self._tables.in_transaction:
                self._checks = draft.checks
        finally:
            if self._tables.in_transaction:
                self._tables.rollback()

    def _apply_all(self, draft: Draft, mods: Sequence[Change]) -> None:
        """Raises BundleFailed."""
        for index, mod in enumerate(mods):
            try:
                self._apply(draft, mod)
            except OkoError as error:
                raise BundleFailed(index, error) from error

    def _first_to_fail(self, mods: Sequence[Change], error: OkoError) -> BundleFailed:
        """Which of these changes it is that cannot be compiled; `error` is what is wrong with all of them."""
        good, bad = 0, len(mods)
        while bad - good > 1:
            middle = (good + bad) // 2
            with self._draft() as draft:
                self._apply_all(draft, mods[:middle])
                try:
                    self._compile(self.programs.filters())
                    good = middle
                except OkoError as found:
                    bad, error = middle, found
        return BundleFailed(bad - 1, error)

    def select(self, mod: FlowMod) -> list[tuple[Entry, Count]]:
        """The rules that a delete like `mod` would be about, in rank order, with what they have won."""
        entries = sorted(self._tables.select(mod), key=lambda entry: (entry.rule.table, *entry.rank))
        return [(entry, self._datapath.count(entry.slot)) for entry in entries]

    @property
    def tables(self) -> Tables:
        """The tables as they are. Change them with `change`."""
        return self._tables

    @property
    def reloads(self) -> int:
        """How often an image took the place of another."""
        return self._datapath.swaps

    @property
    def image(self) -> Image | None:
        """The image that decides packets now."""
        return self._datapath.image

    @property
    def layout(self) -> KeyLayout:
        """Where the pipeline has the fields that it looks at."""
        return self._runtime.layout.key

    def count(self, slot: int) -> Count:
        """What the rule, group or bucket in this slot has counted."""
        return self._datapath.count(slot)

    @property
    def carried(self) -> dict[int, Count]:
        """What slots have counted that is not in the kernel's map, and goes with okod unless it is written down."""
        return self._datapath.carried

    def wins(self) -> Counter[_Way]:
        """The packets that rules have won since the bridge began, those of rules that are no more among them: by the
        rule's table and the table where it let the lookup go on."""
        wins = self._past.copy()
        for slot, entry in self._entries.items():
            wins[_way(entry)] += self._datapath.count(slot).packets
        return wins

    def rule_at(self, slot: int) -> Entry | None:
        """The rule with this slot, which a PacketInRecord names, if it is still there."""
        return self._entries.get(slot)

    def meter_counts(self, entry: MeterEntry) -> MeterCounts:
        """What a meter has counted."""
        return self._datapath.meter_counts(entry.slot)

    def drops(self) -> dict[Drop, Count]:
        """The packets that no rule dropped and that were dropped all the same, by every reason that there can be."""
        without = OF_ATTACHED if self.attachment is None else frozenset()
        return {reason: count for reason, count in self._datapath.drops().items() if reason not in without}

    def fallthrough(self) -> int:
        """The packets that found no pipeline."""
        return self._datapath.fallthrough()

    def run_time(self) -> tuple[int, int]:
        """What the kernel has measured while it was told to: packets, and the ns that they took together."""
        return self._datapath.run_time()

    def expire(self) -> None:
        """Take the rules away whose time is over."""
        now = time.monotonic_ns()
        over = list(self._timeouts.expired(now, lambda slot: self._datapath.count(slot).packets))
        if not over:
            return
        with self._draft() as draft:
            for entry, reason in over:
                draft.delete(entry, reason)
            try:
                self._commit(draft)
            except OkoError as error:
                log.warning("bridge %s: %d rules could not be taken away in time: %s", self.name, len(over), error)

    @property
    def next_expiry(self) -> int | None:
        """When `expire` has to be called next: ns of the monotonic clock, None if no rule has a timeout."""
        return self._timeouts.next

    # ---- ports and packets

    def is_live(self, port: Port) -> bool:
        """Whether the port's interface is still there. What rules send to one that went away, or to another namespace,
        is dropped."""
        return self._datapath.carries(port.name, port.ifindex)

    def is_up(self, port: Port) -> bool:
        """Whether the port's link is up, as it was when `refresh_ports` last looked."""
        return self._states[port.number].live

    def is_enabled(self, port: Port) -> bool:
        """Whether the port's interface is up as an administrator wants it, whatever becomes of its link; a port that is
        gone is not. Raises KernelError."""
        state = link_state(port.ifindex) if self.is_live(port) else None
        return isinstance(state, LinkState) and state.up

    def enable_port(self, port: Port, enabled: bool) -> None:
        """Bring the interface of a port that is there up or down, as ``ip link set`` does, and tell of it. Raises
        KernelError."""
        if self.is_enabled(port) == enabled:
            return
        set_up(port.ifindex, enabled)
        before = self._states[port.number]
        self.refresh_ports()
        if self._states[port.number] == before:
            self._tell(PortChanged(port))

    def tells_misses(self, port: Port) -> bool:
        """Whether controllers hear of packets from this port that meet a table-miss entry (not OFPPC_NO_PACKET_IN)."""
        return port.number not in self._silent

    def tell_misses(self, port: Port, wanted: bool) -> None:
        """From now on, tell controllers of such packets or do not; and tell them that this changed."""
        if self.tells_misses(port) != wanted:
            self._silent ^= {port.number}
            self._tell(PortChanged(port))

    def refresh_ports(self, *, again: bool = False) -> None:
        """Look at the links again; groups that watch a port that changed choose anew. With `again` the image is made
        anew in any case: the kernel forgets where packets leave by when an interface goes away, though it may come
        back under the same number."""
        before, self._states = self._states, self._port_states()
        self._checks = None
        changed = [port for port in self.ports if before[port.number] != self._states[port.number]]
        if not changed and not again:
            return
        with self._draft() as draft:
            try:
                if not self._datapath.inherits:
                    self._commit(draft, anew=True)
            except OkoError as error:
                log.warning("bridge %s: the tables do not follow the ports: %s", self.name, error)
        for port in changed:
            how = "up" if self.is_up(port) else "down" if self.is_live(port) else "gone"
            log.info("bridge %s: port %d (%s) is %s", self.name, port.number, port.name, how)
            self._tell(PortChanged(port))

    def adopt_port(self, port: Port) -> None:
        """Let `port`, which carries the datapath's stub already, be the port of its number from now on."""
        self.ports = tuple(port if other.number == port.number else other for other in self.ports)
        self.refresh_ports(again=True)

    def reattach(self, ports: Sequence[Port], attachment: Attachment) -> None:
        """Have these ports from now on, the stubs of which are the caller's matter, and be attached so; in a new image,
        unless an earlier okod's decides. What rules send to a port that is none any more is dropped. Raises OkoError,
        and then nothing has changed."""
        before = self.ports, self._absent, self._states, self.attachment
        self.ports = tuple(sorted(ports, key=lambda port: port.number))
        self.attachment = attachment
        self._absent = self._absent_ports()
        self._states = self._port_states()
        self._checks = None
        try:
            if not self._datapath.inherits:
                with self._draft() as draft:
                    self._commit(draft, anew=True)
        except BaseException:
            self.ports, self._absent, self._states, self.attachment = before
            self._checks = None
            raise

    def set_shims(self, shims: Shims) -> None:
        """What becomes from now on of packets that an attached bridge is to continue. Raises KernelError."""
        self._datapath.set_shims(shims)

    def packet_ins(self) -> RingBuffer:
        """What `deliver` reads; its descriptor is readable when there is something."""
        return self._datapath.packet_ins

    def deliver(self, limit: int) -> None:
        """Tell the listeners of packets for the controller, at most `limit` of them."""
        for record in self._datapath.packet_ins.read(limit):
            told = unpack(record)
            if told.reason is not PacketInReason.NO_MATCH or told.in_port not in self._silent:
                self._tell(told)

    def lost_packet_ins(self) -> int:
        """Packets for the controller that found no room."""
        return self._datapath.lost_packet_ins()

    def packet_out(self, actions: Sequence[Action], frame: bytes, in_port: int) -> None:
        """Carry out the actions on a frame of the controller's, as if it had come in by `in_port`.

        What goes to a port that is down is dropped, as it is of packets. Raises BadAction before anything is done,
        PortError and KernelError for what could not be sent when the rest has been.
        """
        self._require_ports(_outputs(actions))
        refused: list[OkoError] = []

        def enter(inner: bytes) -> Decision:
            try:
                self._datapath.enter(inner, self._ingress(in_port))
            except OkoError as error:
                refused.append(error)
            return Decision()

        switch = ReferenceSwitch(self._tables, {}, self._states)
        decision = switch.execute(actions, frame, in_port, time.monotonic_ns(), enter)
        for slot, packets in switch.counters.packets.items():
            self._datapath.add_count(slot, Count(packets, switch.counters.bytes[slot]))
        interfaces = self._interfaces()
        for number, sent in decision.sent:
            ifindex = interfaces[number]
            if ifindex is None or not self._states[number].live:
                continue
            try:
                self._datapath.send(ifindex, sent)
            except (PortError, KernelError) as error:
                refused.append(error)
        for told in decision.packet_ins:
            self._tell(PacketInRecord(None, told.reason, told.table, in_port, told.metadata, told.frame))
        if refused:
            raise refused[0]

    # ---- programs

    def load(
        self, program_id: int, name: str, elf: bytes, *, fresh_maps: bool = False, verify_only: bool = False
    ) -> LoadedFilter:
        """Load an object file as program `program_id`, in the place of one of that id.

        Maps of the same name and shape keep their contents unless `fresh_maps`; .rodata is always new. With
        `verify_only` nothing changes. Raises NotReadable, Rejected, KernelRejected, LimitExceeded, MapShapeChanged.
        """
        program = load(elf)
        check(program)
        loaded = self.programs.proposed(program_id, name, program, self.limits)
        item = loaded.filter
        made = make_program_maps(item, self.programs.new_maps(item, fresh=fresh_maps))
        try:
            self._datapath.try_program(compile_trial(item, self._interfaces(), self._runtime), made)
            named = bool(self._naming(program_id) or self._observing(program_id))
            compilation = self._compile({**self.programs.filters(), program_id: item}) if named else None
            if verify_only:
                if compilation is not None:
                    self._datapath.try_program(compilation.image, made)
                _close(made.values())
                return loaded
            if compilation is not None:
                self._datapath.apply(compilation.image, made)
            else:
                self._datapath.adopt(made)
            # None if no rule names the program: what was compiled may still call the one that it replaces.
            self._compilation = compilation
        except BaseException:
            _close(made.values())
            raise
        replaced = self.programs.put(loaded)
        if self._store is not None:
            self._store.count(self._datapath.take_carried())
            self._store.load(program_id, item.slot, loaded.name, elf)
        if replaced is None:
            self._datapath.reset_program(item.slot)
        else:
            kept = {spec.name for spec in program.maps}
            self._datapath.forget_maps(
                replaced.filter, [spec.name for spec in replaced.filter.program.maps if spec.name not in kept]
            )
        return loaded

    def unload(self, program_id: int, *, force: bool = False) -> None:
        """Unload a program; with `force` the rules and observers that name it go with it. Raises UnknownProgram,
        ProgramInUse."""
        self.programs.get(program_id)
        naming, observing = self._naming(program_id), self._observing(program_id)
        if (naming or observing) and not force:
            raise ProgramInUse(
                f"program {program_id} is named by {len(naming)} rules and {len(observing)} observers: "
                "delete them first, or unload with force"
            )
        if naming or observing:
            with self._draft() as draft:
                for entry in naming:
                    draft.delete(entry, RemovalReason.DELETE)
                for observer in observing:
                    draft.tables.unobserve(observer)
                self._commit(draft, together=True)
        self._compilation = None  # It may still call the program.
        if self._store is not None:
            self._store.unload(program_id)
        self.programs.remove(program_id)

    # ---- the rest

    def _restore(self, state: State) -> None:
        """Have the tables and programs of an earlier okod. Programs are verified as if they were loaded now."""
        self._tables = state.tables()
        for number, saved in state.programs.items():
            program = load(state.objects[saved.digest])
            check(program)
            item = Filter(number, saved.slot, program)
            self._datapath.adopt_program(item)
            self.programs.put(LoadedFilter(item, saved.name))
        self._datapath.restore_counts(state.counts)
        if "meters" in self._datapath.adopted:
            self._charged = self._tables.used_meter_slots()
        self._absent = self._absent_ports()
        now = time.monotonic_ns()
        for entry in self._tables:
            self._entries[entry.slot] = entry
            self._timeouts.watch(entry, now)

    def _absent_ports(self) -> frozenset[int]:
        """The ports that rules and groups name and that the bridge does not have."""
        named = {action.port for actions in self._all_actions() for action in actions if isinstance(action, Output)}
        return frozenset(named - _MEANT - {port.number for port in self.ports})

    def _all_actions(self) -> Iterator[tuple[Action, ...]]:
        """Those of the rules and of the buckets."""
        for entry in self._tables:
            yield entry.rule.actions
        for group in self._tables.groups.values():
            yield from (bucket.actions for bucket in group.spec.buckets)

    def _naming(self, program_id: int) -> list[Entry]:
        return [entry for entry in self._tables if entry.rule.match.program == program_id]

    def _observing(self, program_id: int) -> list[Observer]:
        return [observer for observer in self._tables.observers if observer.match.program == program_id]

    def _apply(self, draft: Draft, mod: Change) -> None:
        """Carry out one change, having looked at what the tables alone cannot know: programs and ports. The compiler
        would refuse an unknown port, too, but only after it has looked at everything."""
        match mod:
            case FlowMod():
                if not mod.command.is_delete:
                    self._require_ports(references(mod.rule.instructions).outputs)
                    draft.check(mod.rule, self._states, attached=self.attachment is not None)
                if mod.command is Command.ADD and mod.rule.match.program is not None:
                    self.programs.get(mod.rule.match.program)
                self._require_room(mod)
            case GroupMod():
                for bucket in mod.spec.buckets:
                    self._require_ports(_outputs(bucket.actions))
                draft.checks = None
            case MeterMod():
                draft.checks = None
            case ObserverMod(observer, add=True) if observer.match.program is not None:
                self.programs.get(observer.match.program)
        draft.change(mod, RemovalReason.GROUP_DELETE if isinstance(mod, GroupMod) else RemovalReason.DELETE)

    def _require_room(self, mod: FlowMod) -> None:
        """Raises BadFlowMod for one rule more than there may be: an add that replaces none, or a modify that adds."""
        used, limit = len(self._tables), self.limits.rules
        if used < limit:
            return
        if mod.command is Command.ADD:
            mod = replace(mod, command=Command.MODIFY_STRICT, cookie_mask=0)
        elif mod.new_cookie is None or mod.cookie_mask:
            return
        if not any(self._tables.select(mod)):
            raise BadFlowMod(
                f"rules: {used} used, limit {limit}; delete some first, or let rules in okod's [limits] be higher",
                reason="table-full",
            )

    def _require_ports(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            if number == NORMAL and number not in self._states:
                raise BadAction("output to NORMAL is for bridges of Open vSwitch's", reason="bad-out-port")
            if number not in self._states and number not in _MEANT:
                raise BadAction(f"output:{number}: the bridge has no port {number}", reason="bad-out-port")

    def _compile(self, filters: dict[int, Filter]) -> Compilation:
        return compile_tables(
            self._tables,
            filters,
            self._interfaces(),
            self._runtime,
            states=self._states,
            attachment=self.attachment,
        )

    def _interfaces(self) -> dict[int, int | None]:
        """The ifindex of each port, None of those that are gone."""
        there = {port.number: port.ifindex if self.is_live(port) else None for port in self.ports}
        return there | dict.fromkeys(self._absent)

    def _port_states(self) -> dict[int, PortState]:
        """What the tables need to know of the ports."""
        there = {port.number: PortState(live=self.is_live(port) and _is_up(port.ifindex)) for port in self.ports}
        return there | dict.fromkeys(self._absent, PortState(live=False))

    def _ingress(self, number: int) -> int:
        """The interface that a packet of the controller's seems to come from."""
        for port in self.ports:
            if port.number == number:
                return port.ifindex
        return LOOPBACK

    def _tell(self, event: Event) -> None:
        for listener in list(self._listeners):
            listener(event)

    def _commit(self, draft: Draft, *, together: bool = False, anew: bool = False) -> None:
        """End the transaction: packets are decided by the tables as they are now. With `together` all of it happens at
        one instant, with `anew` in a new image in any case. Raises OkoError, and then nothing has changed."""
        tables, delta = self._tables, self._tables.delta()
        if not delta.rules_only:
            self._charge()
        self._follow(delta, together=together or draft.at_once, anew=anew)
        # From here on packets are decided by the draft: nothing below may fail the change.
        tables.commit()
        if self._store is not None:
            self._store.change(delta, tables, self._datapath.take_carried())
        now = time.monotonic_ns()
        self._charged = tables.used_meter_slots()
        still = {entry.age for entry in delta.added}
        for entry in delta.removed:
            if entry.age not in still:
                self._timeouts.forget(entry)
        for entry in delta.added:
            self._enter(entry)
            self._timeouts.watch(entry, now)
        counts = self._settle()
        for entry, reason in draft.removed:
            # Whoever attaches the bridge has something to clear up behind every rule.
            if entry.rule.send_removed or self.attachment is not None:
                self._tell(Removed(entry, reason, counts.get(entry.slot, Count()), now - entry.installed))

    def _charge(self) -> None:
        """Let new meters begin. Raises LimitExceeded, KernelError."""
        if self._tables.meter_slots > METER_LIMIT:
            raise LimitExceeded(
                "meters, with one more for each that is modified",
                self._tables.meter_slots,
                METER_LIMIT,
                advice="delete one first",
            )
        for meter in self._tables.meters.values():
            if meter.slot not in self._charged:
                self._datapath.set_meter(meter.slot, meter.spec)

    def _follow(self, delta: Delta, *, together: bool, anew: bool) -> None:
        """Let the datapath do what the tables say now: by a change of the current image's maps if that will do. Raises
        OkoError."""
        compilation, self._compilation = self._compilation, None
        if compilation is not None and delta.rules_only and not anew:
            amendment = amend(compilation, delta.added, delta.removed, self._tables.slots)
            if amendment is not None and amendment.outgrown:
                image = grown(compilation.image, amendment, self._tables.slots)
                self._datapath.apply(image)
                self._compilation = replace(compilation, image=image)
                return
            if amendment is not None and self._datapath.amend(amendment, at_once=together):
                self._compilation = compilation
                return
        compilation = self._compile(self.programs.filters())
        self._datapath.apply(compilation.image)
        self._compilation = compilation

    def _enter(self, entry: Entry) -> None:
        """Know a rule by its slot. What a modified one has won stays with the table that it sent packets to."""
        before = self._entries.get(entry.slot)
        self._entries[entry.slot] = entry
        if before is not None and before.rule.goto != entry.rule.goto:
            packets = self._datapath.count(entry.slot).packets
            self._past[_way(before)] += packets
            self._past[_way(entry)] -= packets

    def _settle(self) -> dict[int, Count]:
        """Give back the slots that are used no longer, once no packet is charged or counts in them, and none that
        names them is on its way to the controllers. Returns what they had counted."""
        slots, meters = self._tables.unused_slots, self._tables.unused_meter_slots
        if not slots and not meters:
            return {}
        try:
            self._datapath.settle()
            self.deliver(_PENDING)
            counts = self._datapath.clear(slots)
        except KernelError as error:
            log.warning("bridge %s: %d counters stay unused: %s", self.name, len(slots), error)
            return {slot: self._datapath.count(slot) for slot in slots}
        self._tables.release(slots)
        self._tables.release_meters(meters)
        for slot in slots:
            entry = self._entries.pop(slot, None)
            if entry is not None:
                self._past[_way(entry)] += counts[slot].packets
        return counts


def _outputs(actions: Iterable[Action]) -> list[int]:
    """Where actions send to."""
    return [action.port for action in actions if isinstance(action, Output)]


def _only_takes_away(mod: Change) -> bool:
    match mod:
        case FlowMod(command):
            return command.is_delete
        case GroupMod(command):
            return command is GroupCommand.DELETE
        case MeterMod(command):
            return command is MeterCommand.DELETE
        case ObserverMod():
            return not mod.add


def _way(entry: Entry) -> _Way:
    return entry.rule.table, entry.rule.goto


def _is_up(ifindex: int) -> bool:
    state = link_state(ifindex)
    return isinstance(state, LinkState) and state.live


def _close(maps: Iterable[Map]) -> None:
    for held in maps:
        held.close()
