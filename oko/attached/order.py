"""`Order`: changes at the two places, image and Open vSwitch, in an order in which every packet is decided by the rules
as they were before or as they are after. The only place that orders the two.

    a filter rule comes, or does something else    its own rules, then the image
    a filter rule goes                             the image; its own rules when no packet needs them any more
    a plain rule comes above a filter rule         Open vSwitch; when it has settled, the image
    a plain rule above a filter rule goes          the image; when what was passed before has been decided, Open vSwitch
    Open vSwitch lets one go, its time being over  the image; when what was passed before has been decided, its stand-in

A barrier of Open vSwitch's does not wait until its datapath goes by the new rules; `Upstream.settle` does. And what XDP
has passed may wait in the queue of a port; a `Marker` tells when it does no longer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from ofext.constants import GROUP_ANY, PORT_ANY
from ofext.errors import BY_NAME
from ofext.messages import FlowMod
from ofext.monitor import DeletedReason, UpdateEvent
from ofext.multipart import Aggregate, AggregateRequest, FlowStatsReply, FlowStatsRequest
from oko.attached import marker
from oko.attached.continuation import (
    DELETE_CONTINUING,
    FIXED,
    RESERVED_PRIORITIES,
    id_of,
    port_rule,
    removal,
    suspended_rule,
)
from oko.attached.filter_table import ChangeMessage, FilterTable, Key, Plan, key_of, shim_id_of
from oko.attached.marker import Marker
from oko.attached.plain import Change, PlainRule
from oko.attached.plain_mod import PlainMod
from oko.attached.precedence import above, describe, describe_hidden, intersection, precedes, require_visible
from oko.attached.silence import FULL, Silences
from oko.attached.stand_in import DELETE_STAND_INS, StandIn, StandIns, is_stand_in
from oko.attached.upstream import TABLE, Changed, Event, Followed, Lost, Paused, Resumed, Upstream
from oko.errors import AttachError, BundleFailed, OkoError, PortError, RemoteError
from oko.flow import match_text
from oko.flow.attachment import Shims
from oko.flow.rule import Command, Rule
from oko.flow.rule import FlowMod as ImageMod
from oko.kernel.grace import wait_for_programs
from oko.kernel.link_monitor import LinkState, link_state
from oko.switch.bridge import Bridge, Removed
from oko.switch.bridge import Event as BridgeEvent
from oko.switch.timeouts import RemovalReason
from oko.wire.match import read_match, write_match

log = logging.getLogger("oko")

_PATIENCE: Final = 5.0
"""Seconds that a change waits for the plain rules to be known."""
_NO_GROUP: Final = BY_NAME["bad-action/bad-out-group"]
"""What Open vSwitch says of a rule that names a group that it does not have."""
_AGAIN: Final = 0.5
"""Seconds until what could not be done is tried again, unless something happens before."""


class Order:
    """Of an attached `bridge`. `ports` gives the ifindex of each port that carries the XDP program, by number; what is
    done here is done in their namespace. While nobody continues packets, those that are to be continued become what
    `otherwise` says.
    """

    def __init__(
        self,
        bridge: Bridge,
        upstream: Upstream,
        mark: Marker,
        ports: Callable[[], Mapping[int, int]],
        otherwise: Shims,
    ) -> None:
        self.table = FilterTable(lambda: bridge.tables, lambda: ports().keys())
        self.stand_ins = StandIns()
        """Of the plain rules with timeouts that are looked up in the image."""
        self.trouble = "the bridge is not connected yet"
        """Why packets are not continued; empty if they are."""
        self.changed: Callable[[], None] = lambda: None
        """Called when the image's rules have changed."""
        self._bridge = bridge
        self._upstream = upstream
        self._marker = mark
        self._ports = ports
        self._otherwise = otherwise
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()
        self._stopped = False
        self._known = asyncio.Event()  # all plain rules are known
        self._unknown_since = time.monotonic()
        self._moves = 0  # how often plain rules have changed,
        self._settled = 0  # and for how many of these times Open vSwitch has settled
        self._behind = False  # something could not be done that is to be tried again
        self._wanted = 1  # how often Oko's own rules were to be put in place, all of them,
        self._placed = 0  # and which of these times has been done
        self._expired = False  # a rule has gone that something may stand in for
        self._gone: dict[int, RemovalReason] = {}  # ids whose rules Open vSwitch has deleted with a group or meter
        self._with_group: set[Key] = set()  # the filter rules that are being deleted, as their groups are gone
        self._silences = Silences()
        upstream.own = self._first_rules
        bridge.listen(self._hear_of_bridge)

    def wake(self) -> None:
        """Look whether something is to be done: ports or rules have changed by themselves."""
        self._wake.set()

    def renew(self) -> None:
        """Put Oko's own rules in place anew: other ports carry the XDP program."""
        self._wanted += 1
        self.wake()

    def object(self, reason: str) -> None:
        """Suspend all filter rules for this reason, or none if it is empty."""
        if reason != self.table.objection:
            self.table.objection = reason
            if reason:
                log.error("bridge %s: filter rules are suspended: %s", self._bridge.name, reason)
            self.wake()

    def _first_rules(self) -> list[FlowMod]:
        """Add those of Oko's own rules that are no filter rule's."""
        return [
            *FIXED,
            marker.RULE,
            suspended_rule(passes=self._otherwise is Shims.PASSED),
            *map(port_rule, self._ports()),
        ]

    async def _place_own_rules(self) -> None:
        """Put all of Oko's own rules in place, and no others, at one instant."""
        wanted = self._wanted
        try:
            await self._upstream.change([DELETE_CONTINUING, *self._first_rules(), *self.table.own_rules()])
        except RemoteError:
            # A group or meter is gone that a filter rule names: so goes the rule, as OpenFlow has it.
            for shim_id in self.table.ids.used:
                await self._try(shim_id)
            await self._delete_continued()
            await self._upstream.change([DELETE_CONTINUING, *self._first_rules(), *self.table.own_rules()])
        self._placed = wanted

    async def _try(self, shim_id: int) -> None:
        """The rule of an id goes if Open vSwitch does not take it."""
        try:
            await self._upstream.change(self.table.own_rules_of(shim_id))
        except RemoteError as error:
            log.error("bridge %s: a filter rule is deleted, as Open vSwitch refuses it: %s", self._bridge.name, error)
            no_group = (error.error_type, error.error_code) == (_NO_GROUP.type, _NO_GROUP.code)
            self._gone[shim_id] = RemovalReason.GROUP_DELETE if no_group else RemovalReason.DELETE

    def suspension(self, rule: Rule) -> tuple[str, str]:
        """A suspended filter rule as text, without what it does, and why it is suspended."""
        words = ",".join((f"priority={rule.priority}", *match_text.write_match(rule.match)))
        preceding = above(rule, self._upstream.rules)
        hidden = (other for other in preceding if other.unseen or key_of(other) in self.table.unheld)
        return words, self.table.objection or "; ".join(map(describe_hidden, hidden))

    # ---- changes of filter rules

    async def filters(self, changes: Sequence[ChangeMessage]) -> None:
        """Carry out changes of filter rules and observers at one instant. Raises BundleFailed, and none is carried out
        then; AttachError without a connection."""
        await self._wait_for_rules()
        async with self._turn:
            # What Open vSwitch has answered for is known then.
            await self._upstream.barrier()
            await self._catch_up()
            plan = self.table.plan(changes, self._plain())
            try:
                await self._hold(plan)
            except BaseException:
                self.table.cancel(plan)
                raise
            await self._carry_out(plan)

    async def _carry_out(self, plan: Plan) -> None:
        await self._install(plan)
        await self._settle_before(plan)
        self._swap(plan)

    async def _install(self, plan: Plan) -> None:
        """The part of a plan that is Open vSwitch's."""
        if not plan.own:
            return
        try:
            await self._upstream.change(plan.own)
        except RemoteError as error:
            self.table.cancel(plan)
            raise BundleFailed(plan.continuing, error) from error
        except BaseException:
            self._abandon(plan)  # Open vSwitch may have done it.
            raise

    def _swap(self, plan: Plan) -> None:
        """The image's part, which has been prepared in Open vSwitch."""
        try:
            if plan.image:
                self._bridge.change_together(plan.image)
        except BundleFailed as error:
            self._abandon(plan)
            raise BundleFailed(plan.reasons[error.index], error.cause) from error
        except BaseException:
            self._abandon(plan)
            raise
        self.table.commit(plan)
        self.changed()
        if plan.retired:
            self.wake()

    def _abandon(self, plan: Plan) -> None:
        """Its rules in Open vSwitch go as those of a filter rule that is gone."""
        self.table.abandon(plan)
        self.wake()

    # ---- changes of plain rules

    @property
    def idle(self) -> bool:
        """Whether plain rules may change without anything being done here: no filter rule is there, or is coming, or
        has just gone."""
        return not self._turn.locked() and not self.table and not self.stand_ins

    def require(self, mod: PlainMod) -> None:
        """Raises BadFlowMod for a rule that cannot be added above filter rules."""
        if mod.command is Command.ADD and self.table.below(mod.rule):
            require_visible(mod.rule)

    async def plain(self, mods: Sequence[PlainMod], forward: Callable[[], Awaitable[None]]) -> None:
        """Carry out one change of plain rules, several adds, or a bundle, at both places, with the shares that filter
        rules have in them. `forward` lets Open vSwitch make them, and returns when it has. Raises OkoError if they are
        not made, and `forward` has not been called then, or what `forward` raises."""
        if not await self._wait_for_rules() and not any(mod.share for mod in mods):
            # As if somebody did it past okod, which sees to it when it knows of the rules again.
            await forward()
            return
        async with self._turn:
            try:
                await self._change_plain(mods, forward)
            finally:
                # Should Open vSwitch have done something else, or okod not all, it is seen to.
                self.wake()

    async def _change_plain(self, mods: Sequence[PlainMod], forward: Callable[[], Awaitable[None]]) -> None:
        for mod in mods:
            self.require(mod)
        await self._catch_up()
        shares = [mod.share for mod in mods if mod.share is not None]
        going = await self._going(mods)
        staying = [rule for rule in self._plain() if key_of(rule) not in going]
        try:
            plan = self.table.plan(shares, self._plain())
            await self._install(plan)
        except BundleFailed as error:
            raise error.cause from error
        if any(precedes(rule, below) for rule in going.values() for below in plan.rules.values()):
            self._swap(plan)
            self._swap(self.table.leave(staying, list(self._kept(mods, going))))
            await self._drain()
            await self._withdraw(going)
            await forward()
        else:
            try:
                await self._withdraw(going)
                await forward()
            except BaseException:
                self._abandon(plan)
                raise
            self._moves += 1
            await self._settle_before(plan)
            self._swap(plan)
        if any(mod.command is Command.ADD and self.table.below(mod.rule) for mod in mods):
            try:
                await self._upstream.barrier()
                await self._enter()
            except OkoError as error:
                # Open vSwitch has made the change: it cannot be refused any more.
                log.warning("bridge %s: XDP does not know of a plain rule yet: %s", self._bridge.name, error)

    async def _wait_for_rules(self) -> bool:
        """Return when the plain rules are known, as they are soon after Open vSwitch has begun; False if they are not
        even then."""
        left = self._unknown_since + _PATIENCE - time.monotonic()
        if not self._known.is_set() and left > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._known.wait(), left)
        return self._known.is_set()

    async def _settle(self) -> None:
        """Return when Open vSwitch goes by its rules as they are now."""
        moves = self._moves
        await self._upstream.settle()
        self._settled = moves

    async def _settle_before(self, plan: Plan) -> None:
        """What a filter rule leaves to Open vSwitch that has decided it so far must not meet what the rules below it
        were before that."""
        leaves = any(isinstance(mod, ImageMod) and _leaves(mod) for mod in plan.image)
        if leaves and self._settled != self._moves:
            try:
                await self._settle()
            except BaseException:
                self._abandon(plan)
                raise

    async def _going(self, mods: Sequence[PlainMod]) -> dict[Key, PlainRule]:
        """The plain rules among those that are looked up in the image that Open vSwitch would delete."""
        passes = self.table.passes()
        there = {key_of(rule): rule for rule in self._plain() if key_of(rule) in passes}
        going: dict[Key, PlainRule] = {}
        for mod in mods:
            if mod.command.is_delete and (mod.all_tables or mod.rule.table == TABLE) and not mod.rule.unseen:
                found = [key for key, rule in there.items() if _is_meant(mod, rule)]
                if found and (mod.out_port is not None or mod.out_group is not None):
                    sending = await self._sending(mod)
                    found = [key for key in found if key in sending]
                going.update((key, there[key]) for key in found)
        return going

    def _kept(self, mods: Sequence[PlainMod], going: Mapping[Key, PlainRule]) -> Iterator[PlainRule]:
        """Of plain rules that go, what another that comes with them has in common with them, at the lower priority of
        the two: before the change and after it such packets are not those of a filter rule below both."""
        for rule in going.values():
            for place, mod in enumerate(mods):
                new = mod.rule
                if mod.command is not Command.ADD or new.unseen or new.later or not new.match.overlaps(rule.match):
                    continue
                if not any(later.command.is_delete and _is_meant(later, new) for later in mods[place + 1 :]):
                    priority = min(rule.priority, new.priority)
                    yield replace(rule, priority=priority, match=intersection(rule.match, new.match))

    async def _sending(self, mod: PlainMod) -> set[Key]:
        """The rules that a delete means by where they send to, too: only Open vSwitch knows that."""
        request = FlowStatsRequest(
            TABLE,
            PORT_ANY if mod.out_port is None else mod.out_port,
            GROUP_ANY if mod.out_group is None else mod.out_group,
            match=write_match(mod.rule.match),
        )
        reply = await self._upstream.report(request)
        assert isinstance(reply, FlowStatsReply)
        found = set()
        for entry in reply.entries:
            with suppress(OkoError):  # one that is not looked up in the image
                found.add((entry.priority, read_match(entry.match)))
        return found

    async def _drain(self, *, awaited: bool = True) -> None:
        """Return when Open vSwitch has decided all that was passed to it before. If that is `awaited` by nobody, every
        port has the full time."""
        await asyncio.to_thread(wait_for_programs)
        await asyncio.gather(*(self._drain_port(ifindex, awaited) for ifindex in self._ports().values()))

    async def _drain_port(self, ifindex: int, awaited: bool) -> None:
        state = link_state(ifindex)
        if not isinstance(state, LinkState) or not state.up:
            return  # It receives nothing, and its queue went with it.
        patience = self._silences.patience(ifindex, time.monotonic()) if awaited else FULL
        try:
            await self._marker.drain(ifindex, patience)
            self._silences.heard(ifindex)
        except PortError:
            self._silences.heard(ifindex)  # It is gone, and its queue with it.
        except AttachError as error:
            if not self._upstream.following:
                raise
            if self._silences.silent(ifindex, patience, time.monotonic()):
                log.warning("bridge %s: what waits in the queue of a port is not known: %s", self._bridge.name, error)

    def _plain(self) -> list[PlainRule]:
        """Raises AttachError while they are not all known."""
        if not self._upstream.following:
            raise AttachError("the rules of the bridge are not known at the moment: try again")
        return list(self._upstream.rules)

    # ---- what Open vSwitch tells

    def hear(self, event: Event) -> None:
        """Of the upstream connection. What has to be done at once is done."""
        match event:
            case Changed(changes):
                for change in changes:
                    self._hear(change)
            case Lost(reason):
                self.stand_ins.forget()
                if self._known.is_set():
                    self._unknown_since = time.monotonic()
                self._known.clear()
                self._stop(f"the connection to the bridge has ended: {reason}")
            case Paused():
                self._unknown_since = time.monotonic()
                self._known.clear()
                self._stop("rules change faster than they can be told")
            case Followed():
                # Those of filter rules are not in place, or not as they are now.
                self._wanted += 1
                self._known.set()
                self.wake()
            case Resumed():
                self._known.set()
                self.wake()

    def _hear(self, change: Change) -> None:
        rule = change.rule
        shim_id = id_of(rule.cookie)
        if not rule.own:
            self._moves += 1
            self._expired |= rule.timed and change.event == UpdateEvent.DELETED
            # A filter rule below it may be on its way into the image.
            if rule.priority in RESERVED_PRIORITIES or self._turn.locked() or self.table.below(rule):
                self.wake()
        elif is_stand_in(rule.cookie):
            self.stand_ins.forget()
            self.wake()
        elif shim_id is not None and change.reason in (DeletedReason.GROUP_DELETE, DeletedReason.METER_DELETE):
            is_group = change.reason is DeletedReason.GROUP_DELETE
            self._gone[shim_id] = RemovalReason.GROUP_DELETE if is_group else RemovalReason.DELETE
            self.wake()
        elif not (change.event == UpdateEvent.DELETED and shim_id in self.table.ids.quarantine):
            self._wanted += 1
            self._stop(f"{describe(rule)}, which is Oko's own, was {UpdateEvent(change.event).name.lower()}")
            self.wake()

    def _hear_of_bridge(self, event: BridgeEvent) -> None:
        if isinstance(event, Removed):
            self.wake()

    def _stop(self, trouble: str) -> None:
        """Continue nothing from now on."""
        if not self.trouble:
            log.warning("bridge %s: no packet is continued by Open vSwitch: %s", self._bridge.name, trouble)
        self.trouble = trouble
        if not self._stopped:
            self._stopped = True
            self._bridge.set_shims(self._otherwise)

    async def run(self) -> None:
        """See to all that does not happen because somebody asked for it, until cancelled."""
        complaint = ""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _AGAIN if self._unfinished() else None)
            self._wake.clear()
            try:
                async with self._turn:
                    if not self._upstream.following:
                        continue  # It begins anew, and tells so.
                    await self._see_to_all()
                await self._release()
                complaint, self._behind = "", False
            except OkoError as error:
                self._behind = True
                if str(error) != complaint:
                    complaint = str(error)
                    log.warning("bridge %s: not up to date: %s: trying again", self._bridge.name, error)

    def _unfinished(self) -> bool:
        """Whether something is left to be done that failed before."""
        return self._upstream.following and bool(self._behind or self.trouble or self.table.ids.quarantine)

    async def _see_to_all(self) -> None:
        self.table.forgotten()
        if self._gone:
            await self._delete_continued()
        if self._placed != self._wanted:
            await self._place_own_rules()
        self._swap(self.table.leave(self._plain()))
        await self._enter()
        taken = next((rule for rule in self._plain() if rule.table == TABLE and _is_reserved(rule)), None)
        if taken is not None:
            self._stop(f"{describe(taken)} has a priority that is Oko's own: delete it")
        elif self.trouble:
            await self._settle()
            if self._upstream.following and self._placed == self._wanted:
                log.info("bridge %s: packets are continued by Open vSwitch", self._bridge.name)
                self.trouble = ""
                self._stopped = False
                self._bridge.set_shims(Shims.USED)
        await self._dismiss()

    async def _delete_continued(self) -> None:
        """The filter rules go whose group or meter is gone."""
        gone = dict(self._gone)
        rules = {
            shim_id: entry.rule
            for entry in self.table.entries()
            if (shim_id := shim_id_of(entry.rule)) is not None and shim_id in gone
        }
        deletes = [
            FlowMod(command=Command.DELETE_STRICT.value, priority=rule.priority, match=write_match(rule.match))
            for rule in rules.values()
        ]
        if deletes:
            self._with_group = {
                key_of(rule) for shim_id, rule in rules.items() if gone[shim_id] is RemovalReason.GROUP_DELETE
            }
            try:
                await self._carry_out(self.table.plan(deletes, self._plain()))
            finally:
                self._with_group = set()
        for shim_id in gone:
            self._gone.pop(shim_id, None)

    def removal_reason(self, removed: Removed) -> RemovalReason:
        """Why a filter rule goes that is just being removed: the bridge does not know of groups."""
        return RemovalReason.GROUP_DELETE if key_of(removed.entry.rule) in self._with_group else removed.reason

    async def _enter(self) -> None:
        """Look up all plain rules that stand above a filter rule. Those that are new are in effect in Open vSwitch
        before."""
        plan = self.table.enter(self._plain())
        try:
            await self._hold(plan)
        except RemoteError:
            self.table.cancel(plan)
            self._swap(self.table.leave(self._plain()))
            raise
        except BaseException:
            self.table.cancel(plan)
            raise
        if not plan.image:
            self.table.commit(plan)
            return
        await self._install(plan)
        try:
            await self._settle()
        except BaseException:
            self._abandon(plan)
            raise
        self._swap(plan)

    # ---- plain rules that go by themselves

    async def _hold(self, plan: Plan) -> None:
        """Let there be stand-ins for the rules with timeouts that a plan looks up in the image. Raises RemoteError, and
        those that need one are `unheld`; AttachError."""
        looked_up = {key for preceding in plan.above.values() for key in preceding}
        rules = (rule for rule in self._upstream.rules if rule.timed and rule.table == TABLE)
        held = [rule for rule in rules if not rule.unseen and not rule.later and key_of(rule) in looked_up]
        missing = self.stand_ins.missing(held)
        if missing:
            try:
                await self._upstream.change([add for each in missing for add in each.adds()])
            except RemoteError:
                self.table.unheld = frozenset(key_of(each.rule) for each in missing)
                raise
            self.stand_ins.place(missing)
        self.table.unheld = frozenset()

    def _over(self) -> list[StandIn]:
        return self.stand_ins.over(self.table.passes(), self._upstream.rules)

    async def _catch_up(self) -> None:
        """Before something else changes, the rules go that Open vSwitch has let go, and stand-ins that are over."""
        if self._expired or not self.stand_ins.known or self._over():
            self._swap(self.table.leave(self._plain()))
            if not self.stand_ins.known:
                await self._enter()
            await self._dismiss()

    async def _dismiss(self) -> None:
        """Delete the stand-ins that nobody needs any more, and all that an earlier okod has left, when what was passed
        for them has been decided."""
        self._expired = False
        if not self.stand_ins.known:
            await self._count_stand_ins()
        over = self._over()
        if self.stand_ins.known:
            if over:
                await self._drain()
                await self._remove(over)
            return
        await self._drain()
        staying = [each for each in self.stand_ins if each not in over]
        await self._upstream.change([DELETE_STAND_INS, *(add for each in staying for add in each.adds())])
        self.stand_ins.remove(over)
        self.stand_ins.known = True

    async def _withdraw(self, going: Container[Key]) -> None:
        """Nobody is to stand in for plain rules that somebody deletes now."""
        await self._remove([each for each in self.stand_ins if key_of(each.rule) in going])

    async def _remove(self, stand_ins: Sequence[StandIn]) -> None:
        if stand_ins:
            await self._upstream.change([each.removal() for each in stand_ins])
            self.stand_ins.remove(stand_ins)

    async def _count_stand_ins(self) -> None:
        """They are known if there are as many as there have to be."""
        request = AggregateRequest(TABLE, cookie=DELETE_STAND_INS.cookie, cookie_mask=DELETE_STAND_INS.cookie_mask)
        reply = await self._upstream.report(request)
        assert isinstance(reply, Aggregate)
        self.stand_ins.known = reply.flow_count == len(self.stand_ins) * StandIns.RULES

    async def _release(self) -> None:
        """Delete the own rules of filter rules that are gone, and make their ids free."""
        ids = self.table.ids.quarantine
        if ids:
            await self._drain(awaited=False)
            await self._upstream.change([removal(shim_id) for shim_id in ids])
            await self._upstream.settle()
            self.table.ids.release(ids)


def _leaves(mod: ImageMod) -> bool:
    """Whether packets that a filter rule has decided may be Open vSwitch's after the change."""
    return mod.rule.match.program is not None and mod.command.is_delete


def _is_meant(mod: PlainMod, rule: PlainRule) -> bool:
    """Whether a delete means the rule, wherever that sends to."""
    if (rule.cookie ^ mod.rule.cookie) & mod.cookie_mask:
        return False
    if mod.command is Command.DELETE_STRICT:
        return key_of(mod.rule) == key_of(rule)
    return mod.rule.match.covers(rule.match)


def _is_reserved(rule: PlainRule) -> bool:
    return rule.priority in RESERVED_PRIORITIES
