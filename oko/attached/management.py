"""`Management`: one OpenFlow connection to the management socket of a bridge, ``BRIDGE.mgmt``."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Self

from ofext.answers import remote_error
from ofext.bundles import BundleAdd, BundleCommand, BundleControl, BundleFlag
from ofext.constants import MULTIPART_MORE, VERSION
from ofext.framing import Splitter
from ofext.messages import (
    BarrierRequest,
    EchoReply,
    EchoRequest,
    Error,
    ExperimenterError,
    Hello,
    Message,
    decode,
    encode,
)
from ofext.multipart import MultipartReply, ReplyBody, RequestBody, join
from ofext.multipart import MultipartRequest as Request
from oko.errors import AttachError, OkoError, ProtocolError, RemoteError

_XIDS: Final = 0xFFFFFFFF
_PATIENCE: Final = 5.0
"""Seconds that the other side may take to greet."""
_FLAGS: Final = BundleFlag.ATOMIC | BundleFlag.ORDERED


class Management(asyncio.Protocol):
    """A connection, of OpenFlow 1.3. Made by `connect`.

    Answers go to those who asked; `hear` is called with every other message, in the order in which all messages came:
    what came before an answer has been heard when the answer is there. `ended` is called once, with the reason, when
    the connection ends other than by `close`. Echo requests are answered.
    """

    def __init__(self, path: Path, hear: Callable[[Message], None], ended: Callable[[str], None]) -> None:
        self._path = path
        self._hear = hear
        self._ended: Callable[[str], None] | None = ended
        self._splitter = Splitter()
        self._xids = itertools.count()
        self._greeted: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._parts: dict[int, list[MultipartReply]] = {}
        self._failures: dict[int, RemoteError] = {}
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def connect(cls, path: Path, hear: Callable[[Message], None], ended: Callable[[str], None]) -> Self:
        """Connect and agree on the version. Raises AttachError."""
        loop = asyncio.get_running_loop()
        try:
            _, connection = await loop.create_unix_connection(lambda: cls(path, hear, ended), str(path))
        except OSError as error:
            raise AttachError(f"socket {path}: {error.strerror}: does ovs-vswitchd run, with this bridge?") from None
        try:
            async with asyncio.timeout(_PATIENCE):
                await connection._greeted
        except TimeoutError:
            connection.close()
            raise AttachError(f"socket {path}: nobody greets within {_PATIENCE:g} s") from None
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """End the connection. What is waited for fails."""
        self._ended = None
        if self._transport is not None:
            self._transport.abort()
        self._fail(AttachError(f"socket {self._path}: the connection was closed"))

    # ---- asking

    def send(self, message: Message) -> int:
        """Send a message and return its transaction id. If it fails, the next `barrier` says so."""
        xid = self._next()
        self._write(encode(message, xid))
        return xid

    async def ask(self, message: Message) -> Message:
        """The answer. Raises RemoteError if it is an error, AttachError if the connection ends before."""
        answer: Message = await self._answer(self.send(message))
        return answer

    async def report(self, body: RequestBody) -> ReplyBody:
        """The answer to a multipart request, its parts joined. Raises as `ask`."""
        answer: ReplyBody = await self._answer(self.send(Request(body)))
        return answer

    async def barrier(self) -> None:
        """Return when all that was sent has been done, and what it caused has been heard. Raises the first error since
        the last barrier; AttachError if the connection ends before."""
        await self.ask(BarrierRequest())
        failures, self._failures = self._failures, {}
        for failure in failures.values():
            raise failure

    async def change(self, messages: Sequence[Message]) -> None:
        """Send messages that take effect together. Raises RemoteError, and none has taken effect then; AttachError if
        the connection ends before the answer."""
        bundle = self._next()
        self.send(BundleControl(bundle, BundleCommand.OPEN_REQUEST, _FLAGS))
        sent = []
        for message in messages:
            # The message in the bundle has the same transaction id as the message that puts it there.
            xid = self._next()
            sent.append(xid)
            self._write(encode(BundleAdd(bundle, _FLAGS, encode(message, xid)), xid))
        # Open vSwitch would commit the rest of a bundle of which it has refused a message.
        await self.ask(BarrierRequest())
        refusals = [self._failures.pop(xid) for xid in sent if xid in self._failures]
        if refusals:
            await self.ask(BundleControl(bundle, BundleCommand.DISCARD_REQUEST, _FLAGS))
            raise refusals[0]
        try:
            await self.ask(BundleControl(bundle, BundleCommand.COMMIT_REQUEST, _FLAGS))
        except RemoteError as error:
            raise next((self._failures.pop(xid) for xid in sent if xid in self._failures), error) from None

    def _next(self) -> int:
        """A transaction id. 0 is that of what is unasked."""
        return next(self._xids) % _XIDS + 1

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    async def _answer(self, xid: int) -> Any:
        if self._ended is None:
            raise AttachError(f"socket {self._path}: the connection ended")
        self._asked[xid] = asked = asyncio.get_running_loop().create_future()
        try:
            return await asked
        finally:
            self._asked.pop(xid, None)
            self._parts.pop(xid, None)

    # ---- what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.write(encode(Hello()))

    def data_received(self, data: bytes) -> None:
        try:
            for each in self._splitter.feed(data):
                self._receive(*decode(each))
        except ProtocolError as error:
            self.abandon(f"what it sends cannot be read: {error}")

    def connection_lost(self, error: Exception | None) -> None:
        self.abandon(str(error) if error else "it was closed by ovs-vswitchd")

    def _receive(self, message: Message, xid: int) -> None:
        match message:
            case Hello():
                if VERSION not in message.versions:
                    raise ProtocolError("the bridge does not speak OpenFlow 1.3: add it to its protocols")
                if not self._greeted.done():
                    self._greeted.set_result(None)
            case EchoRequest(data):
                self._write(encode(EchoReply(data), xid))
            case Error() | ExperimenterError():
                self._receive_error(message, xid)
            case MultipartReply() if xid in self._asked:
                parts = self._parts.setdefault(xid, [])
                parts.append(message)
                if not message.flags & MULTIPART_MORE:
                    self._settle(xid, join(parts))
            case _ if xid in self._asked:
                self._settle(xid, message)
            case BundleControl():
                pass  # the bundle is open
            case _:
                self._hear(message)

    def _receive_error(self, message: Error | ExperimenterError, xid: int) -> None:
        error = remote_error(message)
        if not self._greeted.done():
            self._greeted.set_exception(AttachError(f"socket {self._path}: {error}"))
        elif (asked := self._asked.get(xid)) is None:
            self._failures[xid] = error
        elif not asked.done():
            asked.set_exception(error)

    def _settle(self, xid: int, answer: object) -> None:
        if not self._asked[xid].done():
            self._asked[xid].set_result(answer)

    def abandon(self, reason: str) -> None:
        """End the connection as if it had ended by itself, for this reason."""
        ended, self._ended = self._ended, None
        if self._transport is not None:
            self._transport.abort()
        self._fail(AttachError(f"socket {self._path}: the connection ended: {reason}"))
        if ended is not None:
            ended(reason)

    def _fail(self, error: OkoError) -> None:
        for asked in (self._greeted, *self._asked.values()):
            if not asked.done():
                asked.set_exception(error)
        if not self._greeted.cancelled():
            self._greeted.exception()  # which nobody may be waiting for any more
