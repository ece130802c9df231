"""`Dialect`: what a relay has to know of the messages of a version of OpenFlow, as the bytes that they are.

Those of the versions that are relayed are in `DIALECTS`. Offsets are bytes from the start of a message, or of an entry.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from ofext import instructions, multipart
from ofext import messages as of13
from ofext.constants import TABLE_ALL, VERSION, ReservedPort
from ofext.messages import HEADER_SIZE
from ofext.oxm import Oxm, read_oxm, write_oxm
from ofext.v10 import actions as actions10
from ofext.v10 import messages as of10
from ofext.v10 import stats
from ofext.v10.constants import NICIRA, WILDCARDS_ALL
from ofext.v10.constants import VERSION as VERSION10
from oko.attached.plain_mod import PlainMod, read_plain_mod, read_plain_mod10
from oko.attached.relay.entrance import EnteringPacket
from oko.attached.relay.reserved import LOWEST_PRIORITY
from oko.attached.shim import OWN_COOKIE
from oko.errors import BadFlowMod, BadMatch, NotExpressible, OkoError
from oko.flow.rule import Command
from oko.openflow import messages10, packets
from oko.wire import refusal
from oko.wire.v10.match import read_match, read_nxm, write_nxm

FLOW_MOD: Final = 14
NICIRA_FLOW_MOD: Final = 13
"""Its subtype, of an experimenter message."""
_NXM_COOKIE: Final = (0x0001, 30)
_OUTPUT: Final = 0
_EXPERIMENTER: Final = 0xFFFF
_NICIRA_ID: Final = NICIRA.to_bytes(4, "big")
_RESUBMIT: Final = 1  # NXAST_RESUBMIT
_RESUBMIT_TABLE: Final = (14, 44)  # NXAST_RESUBMIT_TABLE, NXAST_RESUBMIT_TABLE_CT
_TABLE10: Final = ReservedPort.TABLE & 0xFFFF
_SENDING: Final = (
    instructions.Output,
    instructions.Group,
    instructions.SetQueue,
    actions10.Output,
    actions10.Enqueue,
    actions10.Group,
)
"""Actions that send a packet, or say by which queue, and leave it as it is for the actions behind them."""
_U64: Final = (1 << 64) - 1


Column = tuple[int, bytes]
"""Where a byte stands, and the values that it may have."""
_FLOW_MOD: Final = bytes((FLOW_MOD,))
_ADD: Final = bytes((Command.ADD.value,))
_NOT_OWN: Final = bytes(range(OWN_COOKIE >> 56))
"""The first bytes of cookies that are not of Oko's own rules."""
_LOW_PRIORITY: Final = bytes(range(LOWEST_PRIORITY >> 8))
"""The first bytes of priorities that are not reserved, whatever the second is."""
_SOME_WILDCARD: Final = bytes(range(1, 256))
"""The last byte of the wildcards of OpenFlow 1.0: with one of these the match is not exact."""
_LATER_TABLE: Final = bytes(range(1, TABLE_ALL))


def _run(block: bytes, offset: int, length: int, columns: tuple[Column, ...]) -> int:
    """How many messages of `length` bytes, one behind the other from `offset` on, have these bytes. Of many that are
    alike, as controllers send them, a column is looked at at once."""
    lead = block[offset + 2 : offset + 4]
    count = (len(block) - offset) // length
    if block[offset + length + 2 : offset + length + 4] != lead:
        count = 1
    for at, allowed in ((2, lead[:1]), (3, lead[1:]), *columns):
        column = block[offset + at : offset + count * length : length]
        count = len(column) - len(column.lstrip(allowed))
        if not count:
            break
    return count


@dataclass(frozen=True, slots=True)
class FlowEntry:
    """Where the numbers of a flow stand in an entry of flow statistics."""

    cookie: int
    packets: int
    bytes: int


NICIRA_FLOW: Final = FlowEntry(24, 32, 40)
EXPERIMENTER_BODY: Final = 24
"""Where the body of statistics of an experimenter's begins: of Nicira's in all versions, of others in OpenFlow 1.3."""


@dataclass(frozen=True, slots=True)
class FlowModHead:
    """What a flow_mod says but for what it is about: `table` is TABLE_ALL if it names none. The match is `fields`, TLVs
    without a header; empty in the match of fixed size that OpenFlow 1.0 has."""

    command: int
    table: int
    priority: int
    cookie: int
    cookie_mask: int
    fields: bytes
    instructions: bytes = b""
    actions: bytes = b""

    @property
    def in_first_table(self) -> bool:
        """Whether it may be about rules in table 0."""
        return self.table in (0, TABLE_ALL)


class Dialect(Protocol):
    """One version. Messages are whole; what is malformed in them is left to Open vSwitch."""

    version: int
    barrier_request: int
    barrier_reply: int
    multipart_request: int
    multipart_reply: int
    body: int
    """Where the body of a multipart message begins."""
    flow: FlowEntry
    removed_cookie: int
    """Where the cookie stands in a flow_removed."""
    packet_in_cookie: int | None

    def harmless(self, block: bytes, offset: int, length: int, idle: bool) -> int:
        """How many flow_mods from `offset` on, of `length` bytes each, add rules that are nothing to Oko, unless they
        name register 15 or a filter program: rules of another table than 0 or, if Oko is `idle`, of any. Not all need
        be found, but the first."""

    def head(self, message: bytes) -> FlowModHead | None:
        """Of a flow_mod; None if it is cut off."""

    def spare(self, message: bytes, head: FlowModHead) -> bytes:
        """The flow_mod that means the same rules but for Oko's own. Raises OkoError."""

    def read(self, message: bytes) -> PlainMod:
        """Raises OkoError."""

    def refusal(self, error: OkoError, request: bytes, *, reasons: bool) -> bytes:
        """What tells what was wrong with a request, with `reasons` in words, too."""

    def packet_in_port(self, message: bytes) -> int:
        """The port that a packet-out's packet is to have come in by; 0 if it is cut off."""

    def packet_actions(self, message: bytes) -> bytes:
        """The actions of a packet-out."""

    def enters_table(self, message: bytes) -> bool:
        """Whether a packet-out sends its packet to TABLE."""

    def divided(self, message: bytes) -> tuple[EnteringPacket, bytes]:
        """A packet-out that sends its packet to TABLE, and elsewhere: that it sends there, and the packet-out that does
        the rest, if there is any. Raises BadAction, ProtocolError."""

    def decode(self, message: bytes) -> tuple[Any, int]:
        """The message and its transaction id. Raises ProtocolError."""

    def encode(self, message: Any, xid: int) -> bytes: ...

    def report(self, body: Any) -> Any:
        """The multipart reply with this body."""


class Of13:
    """OpenFlow 1.3."""

    version = VERSION
    barrier_request, barrier_reply = 20, 21
    multipart_request, multipart_reply = 18, 19
    body = 16
    flow = FlowEntry(24, 32, 40)
    removed_cookie = 8
    packet_in_cookie: int | None = 16
    _added: Final = ((1, _FLOW_MOD), (25, _ADD), (8, _NOT_OWN))
    _whichever: Final = (30, _LOW_PRIORITY)
    _elsewhere: Final = (24, _LATER_TABLE)
    _head: Final = struct.Struct(">8xQQBB4xH16xHH")  # up to the length of the match
    _match: Final = 48
    _actions: Final = struct.Struct(">16xH6x")

    def harmless(self, block: bytes, offset: int, length: int, idle: bool) -> int:
        if length < self._head.size:
            return 0
        return _run(block, offset, length, (*self._added, self._whichever if idle else self._elsewhere))

    def head(self, message: bytes) -> FlowModHead | None:
        if len(message) < self._match + 8:
            return None
        cookie, mask, table, command, priority, _, length = self._head.unpack_from(message)
        behind = self._match + length + -length % 8
        fields, instructions = message[self._match + 4 : self._match + length], message[behind:]
        return FlowModHead(command, table, priority, cookie, mask, fields, instructions)

    def spare(self, message: bytes, head: FlowModHead) -> bytes:
        mask = head.cookie_mask | OWN_COOKIE
        cookie = head.cookie & head.cookie_mask
        return message[:8] + cookie.to_bytes(8, "big") + mask.to_bytes(8, "big") + message[24:]

    def read(self, message: bytes) -> PlainMod:
        decoded, _ = of13.decode(message)
        assert isinstance(decoded, of13.FlowMod)
        return read_plain_mod(decoded)

    def refusal(self, error: OkoError, request: bytes, *, reasons: bool) -> bytes:
        answers = refusal.explained(error, request) if reasons else (refusal.answer_to(error, request),)
        return b"".join(of13.encode(answer, of13.header(request).xid) for answer in answers)

    def packet_actions(self, message: bytes) -> bytes:
        length = self._actions.unpack_from(message)[0] if len(message) >= self._actions.size else 0
        return message[24 : 24 + length]

    def packet_in_port(self, message: bytes) -> int:
        return int.from_bytes(message[12:16], "big")

    def enters_table(self, message: bytes) -> bool:
        return _outputs_to(self.packet_actions(message), ReservedPort.TABLE.to_bytes(4, "big"))

    def divided(self, message: bytes) -> tuple[EnteringPacket, bytes]:
        said, xid = of13.decode(message)
        assert isinstance(said, of13.PacketOut)
        inside, outside = _divide(said.actions, ReservedPort.TABLE)
        actions, frame = packets.read_packet_out(replace(said, actions=inside))
        rest = of13.encode(replace(said, actions=outside), xid) if _sends(outside) else b""
        return EnteringPacket(actions, frame, said.in_port), rest

    def decode(self, message: bytes) -> tuple[Any, int]:
        return of13.decode(message)

    def encode(self, message: Any, xid: int) -> bytes:
        return of13.encode(message, xid)

    def report(self, body: Any) -> multipart.MultipartReply:
        return multipart.MultipartReply(body)


_OWN_FIELDS: Final = frozenset(("in_port", "eth_type", "vlan_vid", "ip_proto", "icmpv6_type"))
"""The fields, of those that OpenFlow 1.0 has, that Oko's own rules have conditions on."""


class Of10:
    """OpenFlow 1.0, with Nicira's flow_mod. With `table_ids` commands have a table in their high byte. A modify that
    finds no rule adds one (OpenFlow 1.0.1, 4.6), unless its match has a cookie."""

    version = VERSION10
    barrier_request, barrier_reply = 18, 19
    multipart_request, multipart_reply = 16, 17
    body = 12
    flow = FlowEntry(64, 72, 80)
    removed_cookie = 48
    packet_in_cookie: int | None = None
    _added: Final = ((1, _FLOW_MOD), (57, _ADD), (48, _NOT_OWN), (11, _SOME_WILDCARD))
    _whichever: Final = (62, _LOW_PRIORITY)
    _elsewhere: Final = (56, _LATER_TABLE)
    _fixed: Final = struct.Struct(">48xQH4xH8x")
    _nicira: Final = struct.Struct(">16xQH4xH8xH6x")
    _actions: Final = struct.Struct(">14xH")

    def __init__(self) -> None:
        self.table_ids = False

    def harmless(self, block: bytes, offset: int, length: int, idle: bool) -> int:
        if length < self._fixed.size:
            return 0
        if idle:
            return _run(block, offset, length, (*self._added, self._whichever))
        return _run(block, offset, length, (*self._added, self._elsewhere)) if self.table_ids else 0

    def head(self, message: bytes) -> FlowModHead | None:
        layout = self._fixed if message[1] == FLOW_MOD else self._nicira
        if len(message) < layout.size:
            return None
        mask, fields = 0, b""
        if message[1] == FLOW_MOD:
            cookie, command, priority = layout.unpack_from(message)
            behind = layout.size
        else:
            cookie, command, priority, length = layout.unpack_from(message)
            fields, behind = message[layout.size : layout.size + length], layout.size + length + -length % 8
        table, number = divmod(command, 0x100) if self.table_ids else (TABLE_ALL, command)
        if number != Command.ADD.value:
            for oxm in _fields(fields):
                if (oxm.oxm_class, oxm.field) == _NXM_COOKIE:
                    mask = _U64 if oxm.mask is None else int.from_bytes(oxm.mask, "big")
        return FlowModHead(number, table, priority, cookie, mask, fields, actions=message[behind:])

    def spare(self, message: bytes, head: FlowModHead) -> bytes:
        cookie, mask = 0, OWN_COOKIE
        if message[1] == FLOW_MOD:
            fields, middle = self._fixed_fields(message), message[48:72]
        else:
            fields, middle = [], message[16:40]
            for oxm in _fields(head.fields):
                if (oxm.oxm_class, oxm.field) == _NXM_COOKIE:
                    cookie, mask = int.from_bytes(oxm.value, "big") & head.cookie_mask, mask | head.cookie_mask
                else:
                    fields.append(oxm)
        fields.append(Oxm(*_NXM_COOKIE, cookie.to_bytes(8, "big"), mask.to_bytes(8, "big")))
        return self._nxm(message, middle, fields, head.actions)

    @staticmethod
    def _fixed_fields(message: bytes) -> list[Oxm]:
        """The match of fixed size in the words of Nicira's. Raises BadFlowMod."""
        decoded, _ = of10.decode(message)
        assert isinstance(decoded, of10.FlowMod)
        try:
            return list(write_nxm(read_match(decoded.match)))
        except (BadMatch, NotExpressible) as error:
            raise BadFlowMod(f"Oko's own rules cannot be kept from it: {error}", reason="eperm") from error

    @staticmethod
    def _nxm(message: bytes, middle: bytes, fields: list[Oxm], actions: bytes) -> bytes:
        """Nicira's flow_mod with the numbers of `middle`, in the place of a message."""
        match = b"".join(map(write_oxm, fields))
        content = middle + len(match).to_bytes(2, "big") + bytes(6) + match + bytes(-len(match) % 8) + actions
        vendor = NICIRA.to_bytes(4, "big") + NICIRA_FLOW_MOD.to_bytes(4, "big")
        length = HEADER_SIZE + len(vendor) + len(content)
        return bytes((VERSION10, 4)) + length.to_bytes(2, "big") + message[4:8] + vendor + content

    def may_mean_own(self, message: bytes) -> bool:
        """Whether the match of a loose flow_mod may cover Oko's own rules."""
        decoded, _ = of10.decode(message)
        assert isinstance(decoded, of10.FlowMod | of10.NxmFlowMod)
        try:
            said = read_nxm(decoded.match).match if isinstance(decoded, of10.NxmFlowMod) else read_match(decoded.match)
        except BadMatch:
            return True
        return all(condition.field.name in _OWN_FIELDS for condition in said.conditions)

    def counting(self, spared: bytes, head: FlowModHead) -> stats.NxmAggregateRequest:
        """The question how many rules there are that a flow_mod, as `spare` gave it, means."""
        decoded, _ = of10.decode(spared)
        assert isinstance(decoded, of10.NxmFlowMod)
        return stats.NxmAggregateRequest(table_id=head.table, match=decoded.match)

    def as_add(self, message: bytes) -> bytes:
        """The modify as the add that it is when it finds no rule."""
        at = 57 if message[1] == FLOW_MOD else 25
        return message[:at] + bytes((Command.ADD.value,)) + message[at + 1 :]

    def read(self, message: bytes) -> PlainMod:
        decoded, _ = of10.decode(message)
        assert isinstance(decoded, of10.FlowMod | of10.NxmFlowMod)
        return read_plain_mod10(decoded, table_ids=self.table_ids)

    def refusal(self, error: OkoError, request: bytes, *, reasons: bool) -> bytes:
        return of10.encode(messages10.answer_to(error, request), of13.header(request).xid)

    def packet_actions(self, message: bytes) -> bytes:
        length = self._actions.unpack_from(message)[0] if len(message) >= self._actions.size else 0
        return message[16 : 16 + length]

    def packet_in_port(self, message: bytes) -> int:
        return int.from_bytes(message[12:14], "big")

    def enters_table(self, message: bytes) -> bool:
        return _outputs_to(self.packet_actions(message), _TABLE10.to_bytes(2, "big"))

    def divided(self, message: bytes) -> tuple[EnteringPacket, bytes]:
        said, xid = of10.decode(message)
        assert isinstance(said, of10.PacketOut)
        inside, outside = _divide(said.actions, _TABLE10)
        packet = EnteringPacket(*messages10.read_packet_out(replace(said, actions=inside)))
        return packet, of10.encode(replace(said, actions=outside), xid) if _sends(outside) else b""

    def is_exact(self, message: bytes) -> bool:
        """Whether a flow_mod has the match of fixed size, and no wildcard in it: Open vSwitch gives its rule the
        highest priority, whatever it says (OpenFlow 1.0.1, section 3.4)."""
        return message[1] == FLOW_MOD and not int.from_bytes(message[8:12], "big") & WILDCARDS_ALL

    def lowered(self, message: bytes, head: FlowModHead) -> bytes:
        """The flow_mod of an exact rule as Nicira's, with the highest priority that is not Oko's. Raises BadFlowMod."""
        fields = self._fixed_fields(message)
        priority = (LOWEST_PRIORITY - 1).to_bytes(2, "big")
        return self._nxm(message, message[48:62] + priority + message[64:72], fields, head.actions)

    def decode(self, message: bytes) -> tuple[Any, int]:
        return of10.decode(message)

    def encode(self, message: Any, xid: int) -> bytes:
        return of10.encode(message, xid)

    def report(self, body: Any) -> stats.StatsReply:
        return stats.StatsReply(body)


DIALECTS: Final[dict[int, type[Dialect]]] = {VERSION10: Of10, VERSION: Of13}
"""Those that a relay speaks, by version."""


def may_be_reserved(head: FlowModHead) -> bool:
    """Whether a rule of this priority would be beside Oko's own."""
    return head.in_first_table and head.priority >= LOWEST_PRIORITY


def xid_of(message: bytes) -> int:
    """The transaction id of a message."""
    return int.from_bytes(message[4:8], "big")


def experimenter_of(message: bytes) -> tuple[int, int]:
    """Who defines an experimenter message, and its type there."""
    return int.from_bytes(message[8:12], "big"), int.from_bytes(message[12:16], "big")


def with_length(message: bytes) -> bytes:
    """The message, whose header says how long it is."""
    return message[:2] + len(message).to_bytes(2, "big") + message[4:]


def _fields(data: bytes) -> Iterator[Oxm]:
    offset = 0
    while offset < len(data):
        oxm, offset = read_oxm(data, offset, len(data))
        yield oxm


def resubmits(actions: bytes) -> bool:
    """Whether there is a resubmission to the first table."""
    for kind, body in _bodies(actions):
        if kind == _EXPERIMENTER and body[:4] == _NICIRA_ID:
            subtype = int.from_bytes(body[4:6], "big")
            if subtype == _RESUBMIT or (subtype in _RESUBMIT_TABLE and body[8:9] in (b"\0", b"\xff")):
                return True
    return False


def _outputs_to(actions: bytes, port: bytes) -> bool:
    """Whether there is an output to a port."""
    return any(kind == _OUTPUT and body.startswith(port) for kind, body in _bodies(actions))


def _bodies(actions: bytes) -> Iterator[tuple[int, bytes]]:
    """The types of actions, and what stands behind their lengths."""
    offset = 0
    while offset + 8 <= len(actions):
        kind = int.from_bytes(actions[offset : offset + 2], "big")
        length = int.from_bytes(actions[offset + 2 : offset + 4], "big")
        yield kind, actions[offset + 4 : offset + length]
        if length < 8:
            return
        offset += length


def _divide(actions: Sequence[Any], table: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Those of a packet-out's actions that decide what is sent to the port `table`, and those that decide all else."""

    def enters(action: Any) -> bool:
        return isinstance(action, instructions.Output | actions10.Output) and action.port == table

    inside = tuple(each for each in actions if enters(each) or not isinstance(each, _SENDING))
    return inside, tuple(each for each in actions if not enters(each))


def _sends(actions: Sequence[Any]) -> bool:
    return any(isinstance(each, _SENDING) for each in actions)
