"""`Client`: the tools' side of an OpenFlow connection to a bridge. Synchronous: every call waits for its answer."""

from __future__ import annotations

import itertools
import select
import socket
import ssl
from collections.abc import Iterable, Iterator, Sequence
from types import TracebackType
from typing import Final, Self

from ofext.answers import remote_error
from ofext.constants import MULTIPART_MORE, VERSION
from ofext.extension import Reason, ReasonsShow
from ofext.framing import Splitter
from ofext.messages import (
    BarrierReply,
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
from ofext.multipart import MultipartReply, MultipartRequest, ReplyBody, RequestBody, join
from oko.cli.target import PATIENCE, connect
from oko.errors import BridgeError, ProtocolError, RemoteError
from oko.openflow.tls import TlsFiles
from oko.switch.rundir import RunDirectory

_READ_SIZE: Final = 1 << 18
_PORTION: Final = 1024
"""Messages that are sent at a time."""
_NOT_NOW: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""What a connection that does not block raises when it would."""


class Client:
    """A connection to a switch. A context manager: leaving it closes the connection.

    Every method raises RemoteError for what the switch refuses, ProtocolError for what it should not have said, and
    BridgeError when the connection ends.
    """

    def __init__(self, connection: socket.socket, target: str) -> None:
        """Take over a connected socket and exchange hellos. `target` is what messages call the switch."""
        connection.setblocking(False)
        self._socket = connection
        self._target = target
        self._splitter = Splitter()
        self._arrived: list[bytes] = []
        self._xids = itertools.count(1)
        self._reasons: dict[int, str] = {}
        self._transmit(encode(Hello(), next(self._xids)))
        hello = next(self._messages())[0]
        if not isinstance(hello, Hello) or VERSION not in hello.versions:
            raise ProtocolError(f"{target} does not speak OpenFlow 1.3")
        # Nobody waits for the error of a switch that does not know it.
        self._transmit(encode(ReasonsShow(), next(self._xids)))

    @classmethod
    def connect(cls, target: str, rundir: RunDirectory, tls: TlsFiles | None = None) -> Self:
        """Connect to a switch, and raise, as `oko.cli.target.connect`."""
        connection = connect(target, rundir, tls)
        try:
            return cls(connection, target)
        except BaseException:
            connection.close()
            raise

    def request(self, *messages: Message) -> Message:
        """Send messages under one transaction id, and return what the switch answers to it."""
        xid = next(self._xids)
        self._transmit(b"".join(encode(message, xid) for message in messages))
        return next(self._answers(xid))

    def report(self, body: RequestBody) -> ReplyBody:
        """What the switch answers to a multipart request, its parts joined."""
        xid = next(self._xids)
        self._transmit(encode(MultipartRequest(body), xid))
        parts: list[MultipartReply] = []
        for answer in self._answers(xid):
            if not isinstance(answer, MultipartReply):
                raise ProtocolError(f"{self._target} answered a multipart request with {type(answer).__name__}")
            parts.append(answer)
            if not answer.flags & MULTIPART_MORE:
                break
        return join(parts)

    def command(self, message: Message) -> None:
        """Send a message whose success is silent, and wait until it is done."""
        for refusal in self.send_all([message]):
            if refusal is not None:
                raise refusal

    def send_all(self, messages: Iterable[Message]) -> list[RemoteError | None]:
        """Send messages whose success is silent, and wait until they are done; for each what the switch refused it for,
        None if it did not. They are taken as they are sent, so that the switch has something to do meanwhile."""
        first = following = next(self._xids)
        remaining = iter(messages)
        while some := list(itertools.islice(remaining, _PORTION)):
            requests = []
            for message in some:
                requests.append(encode(message, following))
                following = next(self._xids)
            self._transmit(b"".join(requests))
        self._transmit(encode(BarrierRequest(), following))
        refusals: list[RemoteError | None] = [None] * (following - first)
        for message, xid in self._messages():
            if first <= xid < following and isinstance(message, Error | ExperimenterError):
                refusals[xid - first] = self._refusal(message, xid)
            elif xid == following and isinstance(message, BarrierReply):
                break
        return refusals

    def follow(self, messages: Sequence[Message]) -> Iterator[Message]:
        """Send messages whose success is silent, and give what the switch says unasked, for as long as it likes."""
        xids = {next(self._xids) for _ in messages}
        self._transmit(b"".join(encode(message, xid) for message, xid in zip(messages, sorted(xids), strict=True)))
        for message, xid in self._messages(patience=None):
            if xid in xids and isinstance(message, Error | ExperimenterError):
                raise self._refusal(message, xid)
            if not xid:
                yield message

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _answers(self, xid: int) -> Iterator[Message]:
        """The answers to transaction `xid`. An error is raised."""
        for message, answered in self._messages():
            if answered != xid:
                continue
            if isinstance(message, Error | ExperimenterError):
                raise self._refusal(message, xid)
            yield message

    def _refusal(self, error: Error | ExperimenterError, xid: int) -> RemoteError:
        return remote_error(error, self._reasons.pop(xid, ""))

    def _messages(self, patience: int | None = PATIENCE) -> Iterator[tuple[Message, int]]:
        """What the switch says, without end; its echo requests are answered."""
        while True:
            while not self._arrived:
                self._await(select.POLLIN, patience)
                self._take()
            message, xid = decode(self._arrived.pop(0))
            if isinstance(message, EchoRequest):
                self._transmit(encode(EchoReply(message.data), xid))
            elif isinstance(message, Reason):
                self._reasons[xid] = message.text
            else:
                yield message, xid

    def _transmit(self, data: bytes) -> None:
        """Send, and take in what arrives meanwhile: a switch that cannot get rid of its answers stops reading."""
        rest = memoryview(data)
        while rest:
            events = self._await(select.POLLIN | select.POLLOUT)
            if events & ~select.POLLOUT:
                self._take()
            if events & select.POLLOUT:
                try:
                    rest = rest[self._socket.send(rest) :]
                except _NOT_NOW:
                    continue
                except OSError as error:
                    raise self._ended(error.strerror) from None

    def _take(self) -> None:
        """Take in what has arrived: over TLS that may be part of a record, and nothing yet."""
        try:
            data = self._socket.recv(_READ_SIZE)
        except _NOT_NOW:
            return
        except OSError as error:
            raise self._ended(error.strerror) from None
        if not data:
            raise self._ended()
        self._arrived.extend(self._splitter.feed(data))

    def _await(self, events: int, patience: int | None = PATIENCE) -> int:
        """Wait until the connection is ready for one of `events`, for `patience` seconds; None is for ever."""
        poll = select.poll()
        poll.register(self._socket, events)
        ready = poll.poll(None if patience is None else patience * 1000)
        if not ready:
            raise BridgeError(f"{self._target} has not answered for {patience} s")
        return ready[0][1]

    def _ended(self, reason: str | None = None) -> BridgeError:
        return BridgeError(f"{self._target} closed the connection" + (f": {reason}" if reason else ""))
