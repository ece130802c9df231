"""`RelayedRequests`: what becomes of the messages of a peer on their way to Open vSwitch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Protocol

from ofext import messages as of13
from ofext.bundles import ONF, BundleAdd, BundleCommand, BundleControl, BundleError
from ofext.constants import Role
from ofext.extension import EXPERIMENTER, Command, FilterRulesShow, ListRequest, Observe, ReasonsShow, Unobserve
from ofext.messages import FlowMod, FlowRemoved
from ofext.multipart import FlowStatsReply, FlowStatsRequest, MultipartReply, MultipartRequest, split
from ofext.v10.constants import NICIRA
from ofext.v10.stats import NxmAggregate, StatsRequest
from oko.attached.plain_mod import PlainMod
from oko.attached.relay.bundles import INNER, RelayedBundles, mixed
from oko.attached.relay.dialect import (
    FLOW_MOD,
    NICIRA_FLOW_MOD,
    Dialect,
    FlowModHead,
    Of10,
    Of13,
    experimenter_of,
    may_be_reserved,
    resubmits,
    xid_of,
)
from oko.attached.relay.entrance import EnteringPacket
from oko.attached.relay.pending import Pending
from oko.attached.relay.plane import FilterMod, Plane
from oko.attached.relay.reserved import refuse_cookie, refuse_priority, require_free, require_free_buckets
from oko.attached.relay.statistics import (
    AGGREGATES,
    FLOWS,
    TABLES,
    About,
    Answer,
    Flows,
    Sums,
    Tables,
    about,
    selection,
    summed,
)
from oko.attached.shim import OWN_COOKIE
from oko.errors import BundleFailed, OkoError, ProtocolError
from oko.flow import rule as flow
from oko.openflow.asynchronous import DEFAULT
from oko.openflow.audit import Audit
from oko.openflow.rights import require_right
from oko.openflow.terms import Terms
from oko.wire.refusal import refused

FILTER_TRACE: Final = EXPERIMENTER.to_bytes(4, "big")
"""Without these bytes a message does not name a filter program."""

_EXPERIMENTER, _SET_CONFIG, _PACKET_OUT, _GROUP_MOD, _ROLE_REQUEST, _SET_ASYNC = 4, 9, 13, 15, 24, 28
_BUCKETS: Final = 16
"""Where the buckets of a group_mod begin."""
_NICIRA_ROLE_REQUEST, _NICIRA_TABLE_ID, _NICIRA_SET_ASYNC = 10, 15, 19
_FRAGMENTS: Final = 3
"""The flags of a configuration that say what becomes of fragments."""
_ALL_BITS: Final = (1 << 64) - 1
_CHANGING: Final = (FlowMod, Observe, Unobserve)
_LOOSE: Final = (flow.Command.MODIFY.value, flow.Command.DELETE.value)
_MODIFIES: Final = (flow.Command.MODIFY.value, flow.Command.MODIFY_STRICT.value)
_NAMING_PRIORITY: Final = (flow.Command.ADD.value, flow.Command.MODIFY_STRICT.value, flow.Command.DELETE_STRICT.value)
"""The commands that are about rules of one priority."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A message that goes no further."""

    error: OkoError


@dataclass(frozen=True, slots=True)
class FilterWork:
    """A change of filter rules."""

    mod: FilterMod
    request: bytes


@dataclass(frozen=True, slots=True)
class PlainWork:
    """A change of plain rules that has to be put in order with what XDP knows: what it may be. `relayed` is what Open
    vSwitch gets."""

    mods: tuple[PlainMod, ...]
    request: bytes
    relayed: bytes


@dataclass(frozen=True, slots=True)
class PacketWork:
    """A packet that enters the tables by a port that carries the XDP program. `rest` is what Open vSwitch does with it
    besides, a packet-out; empty for nothing."""

    packet: EnteringPacket
    request: bytes
    rest: bytes


@dataclass(frozen=True, slots=True)
class OtherWork:
    """Something that takes its time."""

    do: Callable[[], Awaitable[None]]
    request: bytes


Work = FilterWork | PlainWork | PacketWork | OtherWork
Verdict = None | bytes | Refused | Work
"""What becomes of a message: it goes through; other bytes, or none, go in its place; it is refused; it takes work."""


class Line(Protocol):
    """The relay that the requests go through. It is what other relays of the bridge know the connection by."""

    pending: Pending

    def send(self, message: bytes) -> None:
        """To the peer."""

    def refuse(self, error: OkoError, request: bytes) -> None:
        """Tell the peer what is wrong with a request."""

    def relay(self, message: bytes) -> None:
        """To Open vSwitch."""

    async def forward(self, messages: Sequence[bytes]) -> None:
        """Let Open vSwitch have messages, and return when it has done what they say. Raises AttachError."""

    async def put_in_order(self, mods: Sequence[PlainMod], messages: Sequence[bytes]) -> None:
        """Let Open vSwitch have messages, which ask for changes of plain rules, when it is their turn. Raises OkoError
        if it has not got them."""

    async def ask(self, message: Any) -> Any:
        """The body of Open vSwitch's answer to a question of one part. Raises AttachError."""


class RelayedRequests:
    """Of one connection. `backlog` is how many bytes its peer has not read."""

    def __init__(
        self, dialect: Dialect, plane: Plane, terms: Terms, line: Line, backlog: Callable[[], int], *, primary: bool
    ) -> None:
        self._dialect = dialect
        self._plane = plane
        self._terms = terms
        self._line = line
        self._bundles = RelayedBundles()
        self.reasons = False
        """Whether the peer has asked to be told in words what it is refused for."""
        self._extension = plane.extend(line.send, backlog)
        self._audit = Audit(terms.peer)
        self.types = frozenset(
            {_EXPERIMENTER, _SET_CONFIG, _PACKET_OUT, FLOW_MOD, dialect.barrier_request, dialect.multipart_request}
            | ({_SET_ASYNC, _GROUP_MOD, _ROLE_REQUEST} if isinstance(dialect, Of13) else set())
        )
        """Those of the messages that are to be judged. All others go through."""
        # What the peer is told unasked.
        self._shown = False
        self._knows = False
        self._primary = self._told = primary
        self._removed_masks = DEFAULT.flow_removed_mask
        self._unlisten = plane.rules.listen(self.hear_removed)

    def close(self) -> None:
        """The connection has ended."""
        self._unlisten()
        self._extension.close()
        self._audit.close()

    def may_take_work(self, message: bytes) -> bool:
        """Whether it can be judged before what came before it has been carried out, because nothing follows from that
        if it is judged again."""
        return message[1] == _PACKET_OUT or self.is_flow_mod(message)

    def is_flow_mod(self, message: bytes) -> bool:
        return message[1] == FLOW_MOD or (
            message[1] == _EXPERIMENTER and experimenter_of(message) == (NICIRA, NICIRA_FLOW_MOD)
        )

    def judge(self, message: bytes, *, filters: bool, registers: bool) -> Verdict:
        """What becomes of a message of a type that is looked into."""
        dialect, kind = self._dialect, message[1]
        try:
            if self.is_flow_mod(message):
                return self._judge_flow_mod(message, filters=filters, registers=registers)
            if kind == _EXPERIMENTER:
                return self._judge_experimenter(message, filters=filters, registers=registers)
            if kind == dialect.multipart_request:
                return self._judge_multipart(message, filters=filters)
            if kind == dialect.barrier_request:
                self._line.pending.expect_barrier(xid_of(message))
            elif kind == _SET_CONFIG:
                if len(message) > 9 and message[9] & _FRAGMENTS:
                    # Then ports of later fragments would be matched otherwise than XDP does.
                    raise refused("switch-config-failed/bad-flags", "fragments are neither dropped nor reassembled")
                self._told = self._primary or any(message[10:12])
            elif kind == _ROLE_REQUEST:
                return self._judge_role(message)
            elif kind == _SET_ASYNC and len(message) == 32:
                self._removed_masks = (int.from_bytes(message[24:28], "big"), int.from_bytes(message[28:32], "big"))
            elif kind == _GROUP_MOD:
                if registers:
                    require_free_buckets(message[_BUCKETS:])
            elif kind == _PACKET_OUT:
                return self._judge_packet_out(message, registers=registers)
        except OkoError as error:
            return Refused(error)
        return None

    def _judge_role(self, message: bytes) -> Verdict:
        """What comes behind it is judged by the role that Open vSwitch gives."""
        return OtherWork(lambda: self._line.forward([message]), message)

    def _judge_packet_out(self, message: bytes, *, registers: bool) -> Verdict:
        """Raises OkoError for one that is refused."""
        dialect, plane = self._dialect, self._plane
        actions = dialect.packet_actions(message)
        if registers:
            require_free(b"", actions=actions)
        if plane.order.idle or plane.role_of(self._line) is Role.SLAVE:
            return None
        if resubmits(actions):
            raise refused(
                "bad-action/bad-argument",
                "a packet-out with a resubmission to table 0 would pass filter rules by: send it to TABLE",
            )
        # Filter rules are not asked about packets that come in by a port without XDP.
        if not dialect.enters_table(message) or not plane.entrance.has(dialect.packet_in_port(message)):
            return None
        packet, rest = dialect.divided(message)
        return PacketWork(packet, message, rest)

    def _judge_flow_mod(self, message: bytes, *, filters: bool, registers: bool) -> Verdict:
        """Raises OkoError for one that is refused."""
        dialect, order = self._dialect, self._plane.order
        if isinstance(dialect, Of13) and message[1] == _EXPERIMENTER:
            raise refused("bad-request/bad-exp-type", "NXT_FLOW_MOD is of OpenFlow 1.0: send an OFPT_FLOW_MOD")
        try:
            head = dialect.head(message)
        except ProtocolError:
            head = None
        if head is None:
            return None  # cut off: Open vSwitch says so
        if registers:
            require_free(head.fields, head.instructions, head.actions)
        if filters and isinstance(dialect, Of13) and FILTER_TRACE in head.fields:
            decoded, _ = of13.decode(message)
            if isinstance(decoded, FlowMod) and any(oxm.experimenter == EXPERIMENTER for oxm in decoded.match):
                self._require_equal(decoded)
                self._knows = True
                return FilterWork(decoded, message)
        is_slave = self._plane.role_of(self._line) is Role.SLAVE
        relayed = message
        if isinstance(dialect, Of10) and dialect.is_exact(message):
            relayed = dialect.lowered(message, head)
            head = dialect.head(relayed) or head
        command = head.command
        if command == flow.Command.ADD.value or (isinstance(dialect, Of10) and command in _MODIFIES):
            if head.cookie & OWN_COOKIE and head.cookie != _ALL_BITS:
                raise refuse_cookie(head.cookie)
        elif head.cookie & head.cookie_mask & OWN_COOKIE:
            raise refuse_cookie(head.cookie)
        if may_be_reserved(head) and command in _NAMING_PRIORITY:
            raise refuse_priority(head.priority)
        may_add = isinstance(dialect, Of10) and command in _MODIFIES and not head.cookie_mask
        if head.in_first_table and command in _LOOSE:
            if isinstance(dialect, Of10) and may_add and not is_slave:
                if dialect.may_mean_own(relayed):
                    return OtherWork(partial(self._modify_or_add, dialect, relayed, head), message)
            else:
                relayed = dialect.spare(relayed, head)
        if is_slave or order.idle or not head.in_first_table:  # Open vSwitch refuses what a slave asks for
            return None if relayed is message else relayed
        mods = [dialect.read(relayed)]
        if may_add:
            mods.append(replace(mods[0], command=flow.Command.ADD, share=None))
        for mod in mods:
            order.require(mod)
        return PlainWork(tuple(mods), message, relayed)

    async def _modify_or_add(self, dialect: Of10, message: bytes, head: FlowModHead) -> None:
        """A modify of OpenFlow 1.0 that may mean Oko's own rules: kept from those, it would not add any more."""
        spared = dialect.spare(message, head)
        found = await self._line.ask(StatsRequest(dialect.counting(spared, head)))
        assert isinstance(found, NxmAggregate)
        relayed = spared if found.flow_count else dialect.as_add(message)
        if not found.flow_count and may_be_reserved(head):
            raise refuse_priority(head.priority)
        if self._plane.order.idle:
            self._line.relay(relayed)
            return
        mod = dialect.read(relayed if not found.flow_count else message)
        self._plane.order.require(mod)
        await self._line.put_in_order([mod], [relayed])

    def _judge_experimenter(self, message: bytes, *, filters: bool, registers: bool) -> Verdict:
        """Raises OkoError for one that is refused."""
        dialect = self._dialect
        experimenter, subtype = experimenter_of(message)
        if experimenter == NICIRA:
            if subtype == _NICIRA_TABLE_ID and isinstance(dialect, Of10) and len(message) > 16:
                dialect.table_ids = bool(message[16])
            elif subtype == _NICIRA_ROLE_REQUEST:
                return self._judge_role(message)
            elif subtype == _NICIRA_SET_ASYNC and len(message) == 40:
                self._removed_masks = (int.from_bytes(message[32:36], "big"), int.from_bytes(message[36:40], "big"))
        elif isinstance(dialect, Of13):
            if experimenter == EXPERIMENTER:
                return self._judge_command(message)
            if experimenter == ONF:
                decoded, _ = of13.decode(message)
                if isinstance(decoded, BundleControl):
                    return self._judge_bundle(decoded, message)
                if isinstance(decoded, BundleAdd):
                    return self._judge_bundle_add(decoded, message, filters=filters, registers=registers)
        return None

    # ---- the extension

    def _judge_command(self, message: bytes) -> Verdict:
        command, xid = of13.decode(message)
        self._knows = True
        if isinstance(command, FilterRulesShow):
            self._shown = True
            return b""
        if isinstance(command, ReasonsShow):
            self.reasons = True
            return b""
        self._require_equal(command)
        try:
            require_right(command, self._terms)
        except OkoError as error:
            self._audit.refused(command, error)
            raise
        if isinstance(command, Observe | Unobserve):
            return FilterWork(command, message)
        assert isinstance(command, Command)
        for answer in self._audit.audited(command, self._extension.command(command)):
            self._line.send(of13.encode(answer, xid))
        self._plane.changed()
        return b""

    def _require_equal(self, message: of13.Message) -> None:
        """Raises ProtocolError for what a slave may not ask for."""
        if self._plane.role_of(self._line) is Role.SLAVE and isinstance(message, _CHANGING):
            raise refused("bad-request/is-slave", f"a slave may not send {type(message).__name__}")

    # ---- bundles

    def _judge_bundle(self, message: BundleControl, request: bytes) -> Verdict:
        if message.type == BundleCommand.OPEN_REQUEST:
            self._bundles.begin(message)
        elif message.type == BundleCommand.DISCARD_REQUEST:
            self._bundles.end(message)
        elif message.type == BundleCommand.COMMIT_REQUEST:
            bundle = self._bundles.end(message)
            if bundle.failed is not None:
                self._discard(message)
                raise BundleError("bundle-failed/msg-failed", f"bundle {message.bundle_id}: {bundle.failed}")
            if self._plane.role_of(self._line) is Role.SLAVE:
                return None  # Open vSwitch refuses it
            if bundle.filters:
                return OtherWork(lambda: self._commit_filters(message, request, bundle.filters), request)
            if bundle.plain and not self._plane.order.idle:
                return OtherWork(lambda: self._commit_plain(message, request, bundle.plain), request)
        return None

    def _judge_bundle_add(self, message: BundleAdd, request: bytes, *, filters: bool, registers: bool) -> Verdict:
        inner = message.message
        verdict: Verdict = None
        try:
            head = None
            if self.is_flow_mod(inner):
                head = self._dialect.head(inner)
                verdict = self._judge_flow_mod(inner, filters=filters, registers=registers)
            elif inner[1] == _GROUP_MOD and registers:
                require_free_buckets(inner[_BUCKETS:])
            elif inner[1] == _EXPERIMENTER and experimenter_of(inner)[0] == EXPERIMENTER:
                if not isinstance(of13.decode(inner)[0], Observe | Unobserve):
                    raise BundleError("bundle-failed/msg-unsup", "of the extension, only observers can be in a bundle")
                verdict = self._judge_command(inner)
            if isinstance(verdict, FilterWork):
                if xid_of(inner) != xid_of(request):
                    raise BundleError("bundle-failed/msg-bad-xid", f"bundle {message.bundle_id}: two transactions")
                self._bundles.keep_filter(message, verdict.mod)
                return b""
            self._bundles.keep_plain(message, first_table=head is not None and head.in_first_table)
        except OkoError as error:
            self._bundles.fail(message, error)
            raise
        relayed = verdict.relayed if isinstance(verdict, PlainWork) else verdict
        return request[:INNER] + relayed + request[INNER + len(inner) :] if isinstance(relayed, bytes) else None

    async def _commit_filters(
        self, message: BundleControl, request: bytes, filters: Sequence[tuple[FilterMod, bytes]]
    ) -> None:
        # Open vSwitch has the bundle, too, and nothing in it.
        self._discard(message)
        try:
            await self._plane.rules.change_together([mod for mod, _ in filters])
        except BundleFailed as error:
            self._line.refuse(error.cause, filters[error.index][1])
            raise BundleError("bundle-failed/msg-failed", f"bundle {message.bundle_id}: {error}") from error
        self._line.send(
            of13.encode(BundleControl(message.bundle_id, BundleCommand.COMMIT_REPLY, message.flags), xid_of(request))
        )

    async def _commit_plain(self, message: BundleControl, request: bytes, plain: Sequence[bytes]) -> None:
        mods = [self._dialect.read(each) for each in plain]
        try:
            for mod in mods:
                if mod.share is not None and any(True for _ in self._plane.rules.flows(_meant(mod.share))):
                    raise mixed(message.bundle_id)
                self._plane.order.require(mod)
            # None of them is about filter rules.
            await self._line.put_in_order([replace(mod, share=None) for mod in mods], [request])
        except OkoError:
            self._discard(message)
            raise

    def _discard(self, message: BundleControl) -> None:
        """Let Open vSwitch forget a bundle, of which the peer is told nothing."""
        xid = self._line.pending.own_xid()
        request = of13.encode(BundleControl(message.bundle_id, BundleCommand.DISCARD_REQUEST, message.flags), xid)
        self._line.pending.swallowed[xid] = request
        self._line.relay(request)

    # ---- questions about flows

    def _judge_multipart(self, message: bytes, *, filters: bool) -> Verdict:
        """Raises OkoError for one that is refused."""
        dialect = self._dialect
        if len(message) < dialect.body:
            return None
        kind = about(message, dialect)
        if kind.experimenter == EXPERIMENTER:
            return self._judge_list(message) if isinstance(dialect, Of13) else None
        if filters and isinstance(dialect, Of13) and kind in (FLOWS[0], AGGREGATES[0]):
            wanted = selection(message, dialect)
            if any(oxm.experimenter == EXPERIMENTER for oxm in wanted.match):
                return self._tell_filters(wanted, kind, xid_of(message))
        relayed, answered_as = None, kind
        answer: Answer
        if kind in FLOWS:
            answer = Flows(kind, dialect, self._showing(message, kind))
        elif kind in AGGREGATES:
            answer = Sums(kind, dialect, self._showing(message, kind))
            relayed, answered_as = Sums.asked(message, kind, dialect), FLOWS[AGGREGATES.index(kind)]
        elif kind == TABLES:
            return OtherWork(lambda: self._ask_tables(message), message)
        else:
            return None
        self._line.pending.expect(xid_of(message), answered_as, answer)
        return relayed

    def _tell_filters(self, wanted: FlowStatsRequest, kind: About, xid: int) -> Verdict:
        """Answer a question that names a filter program: it is about filter rules alone. Raises OkoError."""
        self._knows = True
        found = list(self._plane.rules.flows(wanted))
        parts = split(FlowStatsReply(), entries=found) if kind in FLOWS else (MultipartReply(summed(found)),)
        self._line.send(b"".join(of13.encode(part, xid) for part in parts))
        return b""

    def _showing(self, request: bytes, kind: About) -> Callable[[], Iterable[Any]] | None:
        """The filter rules that a request means, if the peer is shown any."""
        if not self._shown or kind.experimenter:
            return None
        try:
            wanted = selection(request, self._dialect)
        except ProtocolError:
            return None  # Open vSwitch refuses it
        return lambda: self._plane.rules.flows(wanted)

    async def _ask_tables(self, message: bytes) -> None:
        own = await self._plane.own_totals()
        answer = Tables(self._dialect, own, self._plane.rules.totals(), shown=self._shown)
        self._line.pending.expect(xid_of(message), TABLES, answer)
        self._line.relay(message)

    def _judge_list(self, message: bytes) -> Verdict:
        decoded, xid = of13.decode(message)
        assert isinstance(decoded, MultipartRequest)
        body = decoded.body
        assert isinstance(body, ListRequest)
        self._knows = True
        require_right(body, self._terms)
        for part in split(self._extension.report(body)):
            self._line.send(of13.encode(part, xid))
        return b""

    # ---- what nobody asked for

    def hear_removed(self, removed: FlowRemoved) -> None:
        """Tell the peer that a filter rule is gone, if it wants to know and knows the field."""
        if not isinstance(self._dialect, Of13) or not self._knows or not self._told:
            return
        if self._removed_masks[self._plane.role_of(self._line) is Role.SLAVE] >> removed.reason & 1:
            self._line.send(of13.encode(removed))


def _meant(share: FlowMod) -> FlowStatsRequest:
    """The question for the rules that a loose change means."""
    return FlowStatsRequest(
        share.table_id, share.out_port, share.out_group, share.cookie, share.cookie_mask, share.match
    )
