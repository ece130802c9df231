"""`RelayedReplies`: what becomes of the messages of Open vSwitch on their way to a peer."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from ofext.bundles import ONF, BundleCommand
from ofext.constants import Role
from ofext.v10.constants import NICIRA
from oko.attached.relay.dialect import Dialect, Of13, experimenter_of, xid_of
from oko.attached.relay.pending import Pending
from oko.attached.relay.plane import Plane
from oko.attached.relay.statistics import AGGREGATES, MONITORS, about, is_last, monitored
from oko.attached.shim import OWN_COOKIE
from oko.errors import AttachError
from oko.openflow.packets import NO_COOKIE

_ERROR, _EXPERIMENTER, _PACKET_IN, _FLOW_REMOVED, _ROLE_REPLY = 1, 4, 10, 11, 25
_NICIRA_ROLE_REPLY, _NICIRA_FLOW_REMOVED, _NICIRA_PACKET_IN, _NICIRA_PACKET_IN2 = 11, 14, 17, 30
_NICIRA_ROLES: Final = {0: Role.EQUAL, 1: Role.MASTER, 2: Role.SLAVE}
_NICIRA_COOKIE: Final = 24
"""Where the cookie stands in NXT_PACKET_IN."""
_PACKET_IN2_COOKIE: Final = 4
"""The type of the property of NXT_PACKET_IN2 that is the cookie."""
_ERROR_DATA: Final = 12
"""Where the message begins that an error is about."""
_BUNDLE_TYPE: Final = 21
"""Where the low byte of the command of a message about a bundle stands."""
_OWN_BYTE: Final = OWN_COOKIE >> 56


class RelayedReplies:
    """Of one connection, by which the bridge's other relays know it."""

    def __init__(self, dialect: Dialect, plane: Plane, pending: Pending, connection: object) -> None:
        self._dialect = dialect
        self._plane = plane
        self._pending = pending
        self._connection = connection
        self._types = frozenset(
            {_ERROR, _EXPERIMENTER, _FLOW_REMOVED, dialect.barrier_reply, dialect.multipart_reply}
            | ({_PACKET_IN, _ROLE_REPLY} if isinstance(dialect, Of13) else set())
        )

    def passes(self, block: bytes, offset: int) -> bool:
        """Whether the message at `offset`, by its first bytes, goes through as it is."""
        kind, cookie = block[offset + 1], self._dialect.packet_in_cookie
        return kind not in self._types or (
            kind == _PACKET_IN and cookie is not None and not block[offset + cookie] & _OWN_BYTE
        )

    def told(self, message: bytes) -> list[bytes] | None:
        """What the peer is sent in place of a message; None for the message as it is."""
        dialect, kind, xid = self._dialect, message[1], xid_of(message)
        if kind == dialect.barrier_reply:
            if (asked := self._pending.asked.get(xid)) is not None:
                return _settle(asked, None)
            self._pending.barrier_done(xid)
        elif kind == dialect.multipart_reply:
            return self._told_of_flows(message, xid)
        elif kind == _ERROR:
            return self._told_error(message, xid)
        elif kind == _FLOW_REMOVED:
            return [] if message[dialect.removed_cookie] & _OWN_BYTE else None
        elif kind == _PACKET_IN:
            return self._with_cookie(message, dialect.packet_in_cookie)
        elif kind == _ROLE_REPLY:
            self._take_role(int.from_bytes(message[8:12], "big"))
        elif kind == _EXPERIMENTER:
            return self._told_by_experimenter(message, xid)
        return None

    def _told_of_flows(self, message: bytes, xid: int) -> list[bytes] | None:
        dialect = self._dialect
        if len(message) < dialect.body:
            return None
        kind = about(message, dialect)
        if kind in AGGREGATES and (asked := self._pending.asked.get(xid)) is not None:
            return _settle(asked, dialect.decode(message)[0].body)
        if kind in MONITORS:
            rest = monitored(message)
            return None if rest is message else [rest]
        answer = self._pending.answer(xid, kind)
        if answer is None:
            return None
        parts = list(answer.take(message))
        if is_last(message):
            self._pending.answered(xid, kind)
        return None if parts == [message] else parts

    def _told_error(self, message: bytes, xid: int) -> list[bytes] | None:
        """An error carries the message that it is about, whose type says what is over."""
        if xid in self._pending.swallowed and self._pending.swallowed[xid] in message:
            del self._pending.swallowed[xid]
            return []
        kind = message[_ERROR_DATA + 1] if len(message) > _ERROR_DATA + 1 else _ERROR
        if kind in (self._dialect.barrier_request, self._dialect.multipart_request):
            if (asked := self._pending.asked.get(xid)) is not None:
                if not asked.done():
                    asked.set_exception(AttachError("Open vSwitch refuses a question of Oko's"))
                return []
            if kind == self._dialect.barrier_request:
                self._pending.barrier_done(xid)
            else:
                self._pending.answered(xid, about(message[_ERROR_DATA:], self._dialect))
        return None

    def _told_by_experimenter(self, message: bytes, xid: int) -> list[bytes] | None:
        experimenter, subtype = experimenter_of(message)
        if (
            experimenter == ONF
            and xid in self._pending.swallowed
            and message[_BUNDLE_TYPE] == BundleCommand.DISCARD_REPLY
        ):
            del self._pending.swallowed[xid]
            return []
        if experimenter != NICIRA:
            return None
        if subtype == _NICIRA_ROLE_REPLY:
            role = _NICIRA_ROLES.get(int.from_bytes(message[16:20], "big"))
            if role is not None:
                self._plane.take_role(self._connection, role)
        elif subtype == _NICIRA_FLOW_REMOVED:
            return [] if message[16] & _OWN_BYTE else None
        elif subtype == _NICIRA_PACKET_IN:
            return self._with_cookie(message, _NICIRA_COOKIE)
        elif subtype == _NICIRA_PACKET_IN2:
            return self._with_cookie(message, _cookie_of_packet_in2(message))
        return None

    def _with_cookie(self, message: bytes, at: int | None) -> list[bytes] | None:
        """A packet-in whose cookie is that of the filter rule, where an own rule of Oko's has sent it."""
        if at is None:
            return None
        cookie = int.from_bytes(message[at : at + 8], "big")
        if cookie == NO_COOKIE or not cookie & OWN_COOKIE:
            return None
        return [message[:at] + self._plane.rules.cookie_of(cookie).to_bytes(8, "big") + message[at + 8 :]]

    def _take_role(self, number: int) -> None:
        if number in list(Role):
            self._plane.take_role(self._connection, Role(number))


def _settle(asked: asyncio.Future[Any], answer: object) -> list[bytes]:
    if not asked.done():
        asked.set_result(answer)
    return []


def _cookie_of_packet_in2(message: bytes) -> int | None:
    """Where the cookie stands among the properties of NXT_PACKET_IN2."""
    offset = 16
    while offset + 4 <= len(message):
        kind, length = (
            int.from_bytes(message[offset : offset + 2], "big"),
            int.from_bytes(message[offset + 2 : offset + 4], "big"),
        )
        if kind == _PACKET_IN2_COOKIE and length == 16:
            return offset + 8
        if length < 4:
            return None
        offset += length + -length % 8
    return None
