"""`Relay`: stands between one peer, a controller or ovs-ofctl, and its own connection to Open vSwitch.

What needs no change goes through as the bytes it is, in both directions. What does, is one of a few types of messages
(`oko.attached.relay.requests`, `oko.attached.relay.replies`). What Oko has to do before or after Open vSwitch makes
the messages of the peer behind it wait, so a barrier, which Open vSwitch answers, is answered when what came before it
is in effect at both places.

OpenFlow 1.0 and 1.3 are relayed: each side is told that the other speaks no other version. What later versions say in
other words (bundles, flow statistics, matches of packet-outs) is nothing that filter rules are known in.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final

from ofext import messages as of13
from ofext.codec import malformed
from ofext.messages import HEADER_SIZE, BarrierRequest, Error, Hello, VersionBitmap
from oko.attached.plain_mod import PlainMod
from oko.attached.relay.dialect import DIALECTS, FLOW_MOD, Dialect
from oko.attached.relay.end import RelayEnd
from oko.attached.relay.pending import Pending
from oko.attached.relay.plane import Plane
from oko.attached.relay.replies import RelayedReplies
from oko.attached.relay.requests import (
    FILTER_TRACE,
    FilterWork,
    OtherWork,
    PacketWork,
    PlainWork,
    Refused,
    RelayedRequests,
    Verdict,
    Work,
)
from oko.attached.relay.reserved import find_trace, may_name_register
from oko.errors import AttachError, OkoError
from oko.flow.rule import Command
from oko.openflow.connection import PORTION, UNREAD_LIMIT
from oko.openflow.terms import Terms

log = logging.getLogger("oko")

_HELLO, _ERROR = 0, 1
_PATIENCE: Final = 10.0
"""Seconds that Open vSwitch may take to answer a question of Oko's; others may wait for that."""
_SHOWN: Final = 10
"""Refusals of one connection that the log shows without being asked for more."""


class Relay:
    """Its two ends, `peer` and `switch`, are the protocols of connections that somebody else makes.

    `primary` is a connection that Open vSwitch itself makes to a controller, which is told of packets and ports without
    asking. `ended` is called when both connections have ended.
    """

    def __init__(self, plane: Plane, terms: Terms, ended: Callable[[], None], *, primary: bool) -> None:
        self.peer = RelayEnd(self._from_peer, lambda: self.switch, self._peer_ended)
        self.switch = RelayEnd(self._from_switch, lambda: self.peer, self._switch_ended)
        self.pending = Pending()
        self.closed = False
        self._plane = plane
        self._terms = terms
        self._ended = ended
        self._dialect: Dialect | None = None
        self._hellos: dict[bool, frozenset[int]] = {}
        self._requests: RelayedRequests | None = None
        self._replies: RelayedReplies | None = None
        self._primary = primary
        self._refusals = 0
        self._task: asyncio.Task[None] | None = None

    # ---- the end

    def _peer_ended(self, reason: str) -> None:
        self.close(reason and f"the connection ended: {reason}")
        self._tell_if_over()

    def _switch_ended(self, reason: str) -> None:
        self.close(f"Open vSwitch has ended the connection{reason and ': '}{reason}")
        self._tell_if_over()

    def close(self, reason: str = "") -> None:
        """End both connections. Closing twice is harmless. A change that is being made is finished."""
        if self.closed:
            return
        self.closed = True
        if reason:
            log.info("%s: %s", self._terms.peer, reason)
        if self._requests is not None:
            self._requests.close()
        self._plane.roles.pop(self, None)
        self.pending.fail(AttachError("the connection to Open vSwitch ended"))
        self.peer.part()
        self.switch.part()
        self._tell_if_over()

    def _tell_if_over(self) -> None:
        if self.closed and self.peer.transport is self.switch.transport is None:
            self._ended()

    # ---- agreeing on a version

    def _greet(self, block: bytes, *, of_peer: bool) -> int:
        """Take the hello that a side begins with, and pass on what it says of the versions that are relayed."""
        if len(block) < HEADER_SIZE:
            return 0
        length = int.from_bytes(block[2:4], "big")
        if length < HEADER_SIZE or block[1] not in (_HELLO, _ERROR):
            raise malformed("what it begins with is no hello")
        if len(block) < length:
            return 0
        if of_peer in self._hellos or block[1] == _ERROR:
            (self.switch if of_peer else self.peer).write(block[:length])
            return length
        hello, xid = of13.decode(block[:length])
        assert isinstance(hello, Hello)
        offered = hello.versions.intersection(DIALECTS)
        self._hellos[of_peer] = offered
        common = frozenset.intersection(*self._hellos.values())
        if not common:
            log.warning("%s: it speaks neither OpenFlow 1.0 nor 1.3 with Open vSwitch", self._terms.peer)
            self.peer.write(of13.encode(Error(0, 0, b"only OpenFlow 1.0 and 1.3 are relayed here"), xid))
            self.close()
            return length
        told = of13.encode(Hello((VersionBitmap(offered),), max(offered)), xid)
        (self.switch if of_peer else self.peer).write(told)
        if len(self._hellos) == 2:
            self._speak(max(common))
        else:
            (self.peer if of_peer else self.switch).hold("no version")
        return length

    def _speak(self, version: int) -> None:
        self._dialect = dialect = DIALECTS[version]()
        self._requests = RelayedRequests(
            dialect, self._plane, self._terms, self, self.peer.backlog, primary=self._primary
        )
        self._replies = RelayedReplies(dialect, self._plane, self.pending, self)
        self.peer.release("no version")
        self.switch.release("no version")

    # ---- from the peer

    def _from_peer(self, block: bytes) -> int:
        """Relay the whole messages in the block, up to one that takes work; how many bytes those are."""
        dialect, requests = self._dialect, self._requests
        if dialect is None or requests is None:
            return self._greet(block, of_peer=True)
        types, harmless, idle = requests.types, dialect.harmless, self._plane.order.idle
        # Where the next message is that has to be looked into whatever it begins with. Most blocks have none.
        suspect = _suspect(block, 0)
        out: list[bytes] = []
        work: list[Work] = []
        start = offset = 0
        size = len(block)
        while offset + HEADER_SIZE <= size:
            kind = block[offset + 1]
            stop = offset + (block[offset + 2] << 8 | block[offset + 3])
            if stop > size:
                break
            if stop < offset + HEADER_SIZE:
                self._relay_up(out, block[start:offset])
                raise malformed(f"a message header says {stop - offset} bytes, the header alone has {HEADER_SIZE}")
            alike = 1 if kind not in types else 0
            if kind == FLOW_MOD and stop <= suspect:
                length = stop - offset
                alike = min(harmless(block, offset, length, idle), (suspect - offset) // length)
            if alike:
                if work:
                    break
                offset += alike * (stop - offset)
                continue
            message = block[offset:stop]
            if work and not requests.may_take_work(message):
                break
            filters = registers = False
            if stop > suspect:
                filters, registers = FILTER_TRACE in message, may_name_register(message)
                suspect = _suspect(block, stop)
            verdict = requests.judge(message, filters=filters, registers=registers)
            if work and not _together(work, verdict):
                break
            if verdict is None:
                offset = stop
                continue
            if start < offset:
                out.append(block[start:offset])
            start = offset = stop
            if isinstance(verdict, bytes):
                out.append(verdict)
            elif isinstance(verdict, Refused):
                self.refuse(verdict.error, message)
            else:
                work.append(verdict)
                if isinstance(verdict, OtherWork):
                    break
        self._relay_up(out, block[start:offset])
        if work:
            self.peer.hold("a change is being made")
            self._task = asyncio.get_running_loop().create_task(self._carry_out(work))
        return offset

    def relay(self, message: bytes) -> None:
        """To Open vSwitch."""
        self.switch.write(message)

    def _relay_up(self, out: list[bytes], rest: bytes) -> None:
        if rest:
            out.append(rest)
        if out:
            self.switch.write(b"".join(out) if len(out) > 1 else out[0])

    # ---- what takes work

    async def _carry_out(self, work: Sequence[Work]) -> None:
        """Do it, and read on."""
        try:
            first = work[0]
            if isinstance(first, OtherWork):
                await first.do()
            elif isinstance(first, PlainWork):
                await self._change_plain([each for each in work if isinstance(each, PlainWork)])
            elif isinstance(first, PacketWork):
                await self._let_in([each for each in work if isinstance(each, PacketWork)])
            else:
                filters = [each for each in work if isinstance(each, FilterWork)]
                outcomes = await self._plane.rules.change([each.mod for each in filters])
                for asked, refusal in zip(filters, outcomes, strict=True):
                    if refusal is not None:
                        self.refuse(refusal, asked.request)
        except OkoError as error:
            for each in work:
                self.refuse(error, each.request)
        except Exception:  # a fault of ours: it costs this peer its connection, and nobody else anything
            log.exception("%s: the connection ended by a fault of okod", self._terms.peer)
            self.close()
        self._task = None
        self.peer.release("a change is being made")

    async def _change_plain(self, work: Sequence[PlainWork]) -> None:
        """All at once or, if that is refused, one after the other."""
        try:
            await self.put_in_order([mod for each in work for mod in each.mods], [each.relayed for each in work])
        except OkoError as error:
            if len(work) == 1 or self.closed:
                for each in work:
                    self.refuse(error, each.request)
                return
            for each in work:
                await self._change_plain([each])

    async def _let_in(self, work: Sequence[PacketWork]) -> None:
        """Let packets enter the tables, behind the changes that the peer has asked for before. Raises AttachError."""
        await self.ask(BarrierRequest())
        outcomes = await self._plane.entrance.enter([each.packet for each in work])
        for each, refusal in zip(work, outcomes, strict=True):
            if refusal is not None:
                self.refuse(refusal, each.request)
            elif each.rest:
                self.switch.write(each.rest)

    async def put_in_order(self, mods: Sequence[PlainMod], messages: Sequence[bytes]) -> None:
        """Let Open vSwitch have messages, which ask for changes of plain rules, when it is their turn. Raises OkoError
        if it has not got them."""
        forwarded = False

        async def forward() -> None:
            nonlocal forwarded
            forwarded = True
            await self.forward(messages)

        try:
            await self._plane.order.plain(mods, forward)
        except OkoError as error:
            if not forwarded:
                raise
            log.warning("%s: Open vSwitch has changed its rules, and XDP is late: %s", self._terms.peer, error)

    async def forward(self, messages: Sequence[bytes]) -> None:
        """Let Open vSwitch have messages, and return when it has done what they say. Raises AttachError."""
        self.switch.write(b"".join(messages))
        await self.ask(BarrierRequest())

    async def ask(self, message: Any) -> Any:
        """The body of Open vSwitch's answer to a barrier, or to a question of one part. Raises AttachError."""
        xid = self.pending.own_xid()
        self.pending.asked[xid] = asked = asyncio.get_running_loop().create_future()
        self.switch.urgent += 1
        self.switch.throttle()
        try:
            if self.closed:
                raise AttachError("the connection to Open vSwitch ended")
            self.switch.write(self._spoken.encode(message, xid))
            async with asyncio.timeout(_PATIENCE):
                return await asked
        except TimeoutError:
            self.close(f"Open vSwitch does not answer within {_PATIENCE:g} s")
            raise AttachError(f"Open vSwitch does not answer within {_PATIENCE:g} s") from None
        finally:
            self.switch.urgent -= 1
            self.switch.throttle()
            del self.pending.asked[xid]

    @property
    def _spoken(self) -> Dialect:
        assert self._dialect is not None
        return self._dialect

    def refuse(self, error: OkoError, request: bytes) -> None:
        self._refusals += 1
        # OpenFlow's errors are numbers: the log says what was wrong.
        log.log(logging.INFO if self._refusals <= _SHOWN else logging.DEBUG, "%s: refused: %s", self._terms.peer, error)
        reasons = self._requests is not None and self._requests.reasons
        self.send(self._spoken.refusal(error, request, reasons=reasons))

    def send(self, message: bytes) -> None:
        """To the peer, behind what is sent already."""
        waiting = self.peer.backlog()
        if waiting > UNREAD_LIMIT and not self.closed:
            self.close(f"{waiting} bytes are left unread")
        self.peer.write(message)

    # ---- from Open vSwitch

    def _from_switch(self, block: bytes) -> int:
        """Relay the whole messages in the block; how many bytes those are."""
        replies = self._replies
        if replies is None:
            return self._greet(block, of_peer=False)
        out: list[bytes] = []
        start = offset = 0
        size = len(block)
        while offset + HEADER_SIZE <= size:
            stop = offset + (block[offset + 2] << 8 | block[offset + 3])
            if stop > size:
                break
            if stop < offset + HEADER_SIZE:
                raise malformed(f"a message header of Open vSwitch's says {stop - offset} bytes")
            if not replies.passes(block, offset):
                changed = replies.told(block[offset:stop])
                if changed is not None:
                    out += (block[start:offset], *changed)
                    start = stop
            offset = stop
        self.send(b"".join((*out, block[start:offset])) if out else block[start:offset])
        return offset


def _suspect(block: bytes, start: int) -> int:
    """Where the first trace of a filter program or of register 15 begins, from `start` on; the length of the block if
    there is none."""
    found = block.find(FILTER_TRACE, start)
    registers = find_trace(block, start)
    return registers if found < 0 else min(found, registers)


def _together(work: Sequence[Work], verdict: Verdict) -> bool:
    """Whether a message can be carried out with others: changes of filter rules, plain rules that are added, packets.
    When a rule is deleted and another added, Open vSwitch has neither in between."""
    if len(work) >= PORTION or type(verdict) is not type(work[0]):
        return False
    plain = [each for each in (work[0], verdict) if isinstance(each, PlainWork)]
    return all(mod.command is Command.ADD for each in plain for mod in each.mods)
