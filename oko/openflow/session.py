"""`Session`: one OpenFlow connection. Takes messages as bytes and answers as bytes; knows no sockets.

OpenFlow leaves the order of messages between barriers to the switch; here they are done in order, and changes of the
tables that arrive together are compiled together.
"""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Final, NamedTuple

from ofext.bundles import ONF, BundleAdd, BundleControl
from ofext.constants import (
    MULTIPART_MORE,
    PORT_ANY,
    TABLE_ALL,
    VERSION,
    Capability,
    PortConfig,
    PortReason,
    ReservedPort,
    Role,
)
from ofext.extension import (
    Command,
    ListRequest,
    MapDelete,
    MapUpdate,
    ProgramLoad,
    ProgramUnload,
    ReasonsShow,
)
from ofext.load import LoadBudget
from ofext.messages import (
    BarrierReply,
    BarrierRequest,
    EchoReply,
    EchoRequest,
    Error,
    Experimenter,
    ExperimenterError,
    FeaturesReply,
    FeaturesRequest,
    FlowRemoved,
    GetAsyncReply,
    GetAsyncRequest,
    GetConfigReply,
    GetConfigRequest,
    Hello,
    Message,
    PacketIn,
    PacketOut,
    PortMod,
    PortStatus,
    QueueGetConfigReply,
    QueueGetConfigRequest,
    RoleReply,
    RoleRequest,
    SetAsync,
    SetConfig,
    TableMod,
    VersionBitmap,
    decode,
    encode,
    header,
)
from ofext.multipart import ExperimenterBody, MultipartReply, MultipartRequest, TableFeaturesRequest, split
from ofext.v10.constants import VERSION as VERSION10
from ofext.v10.messages import encode as encode10
from oko.compiler.packet_in import PacketInRecord
from oko.errors import OkoError, ProtocolError
from oko.flow.action import LAST_TABLE, Action
from oko.flow.change import Change
from oko.openflow.asynchronous import DEFAULT, Unasked, wants
from oko.openflow.audit import Audit
from oko.openflow.bundles import Bundles
from oko.openflow.encodings import Encodings
from oko.openflow.extension import ExtensionServer
from oko.openflow.packets import NO_COOKIE, read_packet_out, write_packet_in, write_removed
from oko.openflow.ports import write_port
from oko.openflow.rights import LOADING, require_right
from oko.openflow.roles import Roles
from oko.openflow.session10 import Session10
from oko.openflow.statistics import TABLES, Statistics
from oko.openflow.terms import TRUSTED, Terms
from oko.switch.bridge import Bridge, Event, PortChanged, Removed
from oko.switch.port import Port
from oko.wire.change import ChangeMessage, read_change
from oko.wire.refusal import answer_to, explained, refused

log = logging.getLogger("oko")

BACKLOG_LIMIT: Final = 1 << 20
"""Bytes that wait for a slow reader before packet-ins are dropped."""
PROMPT_LIMIT: Final = 1 << 16
"""Bytes that wait before the peer is told later of rules that go: encoded, those of a large table would be more than
may wait."""

_VERSIONS: Final = frozenset({VERSION10, VERSION})
"""The versions that are spoken; the highest that the peer speaks, too, is taken."""
_CAPABILITIES: Final = Capability.FLOW_STATS | Capability.TABLE_STATS | Capability.PORT_STATS | Capability.GROUP_STATS
_TABLE_CONFIG: Final = 3
"""OFPTC_DEPRECATED_MASK: bits that mean nothing any more (OpenFlow 1.3.5, 7.3.3)."""

_Changing = (
    ChangeMessage
    | PacketOut
    | PortMod
    | TableMod
    | BundleControl
    | BundleAdd
    | ProgramLoad
    | ProgramUnload
    | MapUpdate
    | MapDelete
)
"""What changes the switch, which a slave may not (OpenFlow 1.3.5, 6.3.4); a change of table features does so, too."""


class _Waiting(NamedTuple):
    """A request to be carried out together with others: the change it asks for, or what is wrong with it."""

    change: Change | OkoError
    request: bytes


class Session:
    """The switch's side of one connection. Feed it complete messages; it yields what to send."""

    def __init__(
        self,
        bridge: Bridge,
        roles: Roles,
        send: Callable[[bytes], None],
        backlog: Callable[[], int] = lambda: 0,
        fall_behind: Callable[[], None] = lambda: None,
        *,
        terms: Terms = TRUSTED,
        datapath_id: int | None = None,
        loads: LoadBudget | None = None,
        encodings: Encodings | None = None,
    ) -> None:
        """`send` puts bytes behind those that are to be sent already: messages that nobody asked for, once hellos have
        been exchanged. `backlog` says how many bytes wait to be sent. `fall_behind` is called whenever one more message
        is left for `catch_up` to send. Without a `datapath_id` it is the hardware address of the first port, as
        OpenFlow 1.3.5 (section 7.3.1) suggests for the low 48 bits. `loads` and `encodings` are what all connections
        share."""
        self._bridge = bridge
        self._roles = roles
        self._send = send
        self._backlog = backlog
        self._fall_behind = fall_behind
        self._terms = terms
        self._encodings = encodings or Encodings()
        self._late: deque[Removed] = deque()
        self._given_id = datapath_id
        self._statistics = Statistics(bridge)
        self._extension = ExtensionServer(bridge, send, self._waiting_bytes, loads)
        self._audit = Audit(terms.peer)
        self._bundles = Bundles(bridge, self._require_right, self._refusal)
        self._asynchronous = DEFAULT
        self._unlisten: Callable[[], None] | None = None
        self._older: Session10 | None = None
        self._waiting: list[_Waiting] = []
        self._reasons = False
        self._miss_send_len = 128
        self.failed = False
        """Set when the two sides speak no common version: send what was answered and close."""
        self.lost_packet_ins = 0
        """Packet-ins that were dropped because the peer reads too slowly."""

    def greeting(self) -> bytes:
        """The hello that opens the connection."""
        return encode(Hello((VersionBitmap(_VERSIONS),)))

    def probe(self) -> bytes:
        """A message that the peer has to answer."""
        return encode(EchoRequest()) if self._older is None else encode10(EchoRequest())

    def close(self) -> None:
        """The connection has ended: nothing is sent any more. Closing twice is harmless."""
        self._roles.leave(self)
        self._extension.close()
        self._audit.close()
        if self._unlisten is not None:
            self._unlisten()
            self._unlisten = None
        self._late.clear()
        if self.lost_packet_ins:
            log.warning("%s: %d packet-ins were dropped: it read too slowly", self._terms.peer, self.lost_packet_ins)
            self.lost_packet_ins = 0

    @property
    def is_late(self) -> bool:
        """Whether the peer has still to be told of rules that went. An answer has to wait until it has been."""
        return bool(self._late)

    @property
    def is_lost(self) -> bool:
        """Whether it has to be told of more rules than a bridge may have: it will not keep pace any more."""
        return len(self._late) > self._bridge.limits.rules

    def catch_up(self, most: int) -> None:
        """Tell the peer of rules that went and that it has not been told of yet, `most` of them at most."""
        for _ in range(min(most, len(self._late))):
            self._tell(self._late.popleft())

    @property
    def collects(self) -> bool:
        """Whether changes wait for those behind them, to be made together."""
        return bool(self._waiting)

    def receive(self, requests: Iterable[bytes]) -> Iterator[bytes]:
        """The answers to messages that arrived together, in order. The next of them is taken when the one before is
        answered, or waits to be carried out with it."""
        for request in requests:
            if self.failed:
                break
            try:
                asked = self._understand(request) if self._older is None else self._older.understand(request)
            except OkoError as error:
                self._waiting.append(_Waiting(error, request))
                continue
            if not isinstance(asked, Iterator):
                self._waiting.append(_Waiting(asked, request))
                continue
            yield from self._carry_out()
            try:
                yield from asked
            except OkoError as error:
                yield self._refusal(error, request)
        yield from self._carry_out()

    def _understand(self, request: bytes) -> Change | Iterator[bytes]:
        """What a message asks for: a change, or else the answers to it, which come with what it does. Raises
        OkoError."""
        message, xid = decode(request)
        self._require_role(message)
        self._require_right(message)
        if not isinstance(message, ChangeMessage):
            return self._answer(message, xid)
        try:
            return read_change(message)
        except OkoError as error:
            self._audit.refused(message, error)
            raise

    def _refusal(self, error: OkoError, request: bytes) -> bytes:
        """What tells the peer what was wrong with its request."""
        if self._older is not None:
            return self._older.refusal(error, request)
        answers = explained(error, request) if self._reasons else (answer_to(error, request),)
        return b"".join(encode(answer, header(request).xid) for answer in answers)

    def _carry_out(self) -> Iterator[bytes]:
        """Make the changes that wait; what was wrong with them."""
        waiting, self._waiting = self._waiting, []
        changes = [item.change for item in waiting if not isinstance(item.change, OkoError)]
        outcomes = iter(self._bridge.change(changes) if changes else ())
        for item in waiting:
            if isinstance(item.change, OkoError):
                yield self._refusal(item.change, item.request)
            elif (error := next(outcomes)) is not None:
                self._audit.refused(item.change, error)
                yield self._refusal(error, item.request)

    def _require_role(self, message: Message) -> None:
        """Raises ProtocolError for what a slave may not ask for."""
        if self._roles.of(self) is not Role.SLAVE:
            return
        changing = isinstance(message, _Changing) or (
            isinstance(message, MultipartRequest)
            and isinstance(message.body, TableFeaturesRequest)
            and bool(message.body.entries)
        )
        if changing:
            refusal = refused("bad-request/is-slave", f"a slave may not send {type(message).__name__}")
            if type(message) in LOADING:
                self._audit.refused(message, refusal)
            raise refusal

    def _require_right(self, message: Message) -> None:
        """Raises ProtocolError for what the peer's terms do not allow."""
        asked = message.body if isinstance(message, MultipartRequest) else message
        try:
            require_right(asked, self._terms)
        except ProtocolError as refusal:
            self._audit.refused(asked, refusal)
            raise

    def _answer(self, message: Message, xid: int) -> Iterator[bytes]:
        if isinstance(message, BundleControl):
            try:
                yield from self._bundles.control(message, xid)
            except OkoError as error:
                self._audit.refused(message, error)
                raise
        elif isinstance(message, BundleAdd):
            self._bundles.add(message, xid)
        else:
            for answer in self._messages(message):
                yield encode(answer, xid)

    def _messages(self, message: Message) -> Iterator[Message]:
        match message:
            case Hello():
                yield from self._greet(message)
            case EchoRequest():
                yield EchoReply(message.data)
            case BarrierRequest():
                yield BarrierReply()
            case FeaturesRequest():
                yield FeaturesReply(self._datapath_id, n_tables=TABLES, capabilities=_CAPABILITIES)
            case GetConfigRequest():
                yield GetConfigReply(0, self._miss_send_len)
            case SetConfig():
                if message.flags:
                    raise refused("switch-config-failed/bad-flags", "fragments are neither dropped nor reassembled")
                self._miss_send_len = message.miss_send_len
            case RoleRequest():
                role = self._roles.request(self, message.role, message.generation_id)
                yield RoleReply(role, self._roles.generation)
            case GetAsyncRequest():
                yield self._asynchronous
            case SetAsync():
                self._asynchronous = GetAsyncReply(
                    message.packet_in_mask, message.port_status_mask, message.flow_removed_mask
                )
            case PacketOut():
                self._packet_out(*read_packet_out(message), message.in_port)
            case PortMod():
                self._configure_port(message)
            case TableMod():
                _configure_table(message)
            case QueueGetConfigRequest(port):
                if port != PORT_ANY:
                    self._port(port, "queue-op-failed/bad-port")
                yield QueueGetConfigReply(port)
            case MultipartRequest():
                yield from self._report(message)
            case ReasonsShow():
                self._reasons = True
            case _ if isinstance(message, Command):
                yield from self._audit.audited(message, self._extension.command(message))
            case EchoReply() | Error() | ExperimenterError():
                pass
            case Experimenter(experimenter, exp_type):
                name = "bad-request/bad-exp-type" if experimenter == ONF else "bad-request/bad-experimenter"
                raise refused(name, f"message {exp_type} of experimenter {experimenter:#x} is not supported")
            case _:
                raise refused("bad-request/bad-type", f"a message {type(message).__name__} is not supported")

    def _greet(self, hello: Hello) -> Iterator[Error]:
        common = _VERSIONS & hello.versions
        if not common:
            self.failed = True
            yield Error(0, 0, b"this switch speaks OpenFlow 1.0 and 1.3")
        elif self._unlisten is None:
            if max(common) != VERSION:
                self._older = Session10(self._bridge, self._messages, self._packet_out)
            self._unlisten = self._bridge.listen(self._hear)

    @property
    def _datapath_id(self) -> int:
        if self._given_id is not None:
            return self._given_id
        return int.from_bytes(self._bridge.ports[0].mac, "big") if self._bridge.ports else 0

    def _port(self, number: int, refusal: str) -> Port:
        """Raises ProtocolError with the OpenFlow error called `refusal`."""
        for port in self._bridge.ports:
            if port.number == number:
                return port
        raise refused(refusal, f"there is no port {number}")

    def _packet_out(self, actions: Sequence[Action], frame: bytes, in_port: int) -> None:
        """Raises OkoError."""
        if actions and in_port != ReservedPort.CONTROLLER:
            self._port(in_port, "bad-request/bad-port")
        self._bridge.packet_out(actions, frame, in_port)

    def _configure_port(self, message: PortMod) -> None:
        port = self._port(message.port_no, "port-mod-failed/bad-port")
        if message.hw_addr != port.mac:
            raise refused("port-mod-failed/bad-hw-addr", f"port {port.number} has the address {port.mac.hex(':')}")
        where = f"port {port.number} ({port.name})"
        if unknown := message.mask & message.config & ~(PortConfig.PORT_DOWN | PortConfig.NO_PACKET_IN):
            raise refused(
                "port-mod-failed/bad-config",
                f"{where}: configuration {unknown:#x}: ports go up or down, and their misses are told or not",
            )
        if message.advertise:
            raise refused("port-mod-failed/bad-advertise", f"{where}: what it advertises is left to its driver")
        if message.mask & PortConfig.PORT_DOWN:
            if not self._bridge.is_live(port):
                raise refused("port-mod-failed/eperm", f"{where}: its interface is gone")
            self._bridge.enable_port(port, not message.config & PortConfig.PORT_DOWN)
        if message.mask & PortConfig.NO_PACKET_IN:
            self._bridge.tell_misses(port, not message.config & PortConfig.NO_PACKET_IN)

    def _report(self, request: MultipartRequest) -> Iterator[MultipartReply]:
        if request.flags & MULTIPART_MORE:
            raise refused("bad-request/multipart-buffer-overflow", "multipart requests have one part here")
        body = request.body
        if isinstance(body, ExperimenterBody):
            raise refused(
                "bad-request/bad-experimenter", f"requests of experimenter {body.experimenter:#x} are not known"
            )
        if isinstance(body, ListRequest):
            yield from split(self._extension.report(body))
        else:
            yield from self._statistics.answer(body)

    # ---- what nobody asked for

    def _hear(self, event: Event) -> None:
        """Tell the peer, if it wants to know."""
        match event:
            case PacketInRecord():
                if not self._wants(PacketIn, event.reason.value):
                    return
                if self._waiting_bytes() > BACKLOG_LIMIT:
                    self.lost_packet_ins += 1
                    return
                self._tell(event)
            case Removed():
                if not self._wants(FlowRemoved, event.reason.value):
                    return
                if self._waiting_bytes() > PROMPT_LIMIT:
                    self._late.append(event)
                    self._fall_behind()
                else:
                    self._tell(event)
            case PortChanged():
                if self._wants(PortStatus, PortReason.MODIFY):
                    self._tell(event)

    def _waiting_bytes(self) -> int:
        """Bytes that wait to be sent. As long as rules that went wait, too, nothing that the peer can do without gets
        in before them: then it is more than any limit."""
        return sys.maxsize if self._late else self._backlog()

    def _tell(self, event: Event) -> None:
        form = VERSION if self._older is None else self._older.form
        told = self._encodings.encoded(event, form, partial(self._encode, event))
        if told is not None:
            self._send(told)

    def _encode(self, event: Event) -> bytes | None:
        """The message that tells the peer of an event, if its version has one."""
        if self._older is not None:
            return self._older.tell(event)
        match event:
            case PacketInRecord():
                return encode(write_packet_in(event, self._cookie(event)))
            case Removed():
                return encode(write_removed(event))
            case PortChanged(port):
                return encode(PortStatus(PortReason.MODIFY, write_port(self._bridge, port)))

    def _wants(self, kind: type[Unasked], reason: int) -> bool:
        return wants(self._asynchronous, kind, reason, self._roles.of(self))

    def _cookie(self, record: PacketInRecord) -> int:
        """That of the rule that sends a packet, as long as it is there."""
        entry = None if record.slot is None else self._bridge.rule_at(record.slot)
        return NO_COOKIE if entry is None else entry.rule.cookie


def _configure_table(message: TableMod) -> None:
    """There is nothing to configure; what is asked for has to be right all the same. Raises ProtocolError."""
    if message.table_id > LAST_TABLE and message.table_id != TABLE_ALL:
        raise refused("table-mod-failed/bad-table", f"table {message.table_id}: this switch has 0–{LAST_TABLE}")
    if message.config & ~_TABLE_CONFIG:
        raise refused("table-mod-failed/bad-config", f"table configuration {message.config:#x} means nothing")
