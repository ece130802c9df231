"""`Client`: the tools' side of an OpenFlow connection to a bridge. Synchronous: every call waits for its answer."""

from __future__ import annotations

import itertools
import select
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ofext.answers import remote_error
from ofext.constants import MULTIPART_MORE, VERSION
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
from oko.errors import BridgeError, ProtocolError, RemoteError
from oko.switch.rundir import RunDirectory

_PATIENCE: Final = 60
"""Seconds that a switch may be silent while an answer is due: the kernel's verifier takes some."""
_DEFAULT_PORT: Final = 6653
_READ_SIZE: Final = 1 << 18


class Client:
    """A connection to a switch. A context manager: leaving it closes the connection.

    Every method raises RemoteError for what the switch refuses, ProtocolError for what it should not have said, and
    BridgeError when the connection ends.
    """

    def __init__(self, connection: socket.socket, target: str) -> None:
        """Take over a connected socket and exchange hellos. `target` is what messages call the switch."""
        self._socket = connection
        self._target = target
        self._splitter = Splitter()
        self._arrived: list[bytes] = []
        self._xids = itertools.count(1)
        self._transmit(encode(Hello(), next(self._xids)))
        hello = next(self._messages())[0]
        if not isinstance(hello, Hello) or VERSION not in hello.versions:
            raise ProtocolError(f"{target} does not speak OpenFlow 1.3")

    @classmethod
    def connect(cls, target: str, rundir: RunDirectory) -> Self:
        """Connect to the bridge called `target`, or as ovs-ofctl does to ``tcp:HOST[:PORT]`` or ``unix:PATH``.

        Raises BridgeError when there is no such bridge, or nobody listens.
        """
        method, _, place = target.partition(":")
        match method:
            case "tcp":
                connection = _connect_tcp(target, place)
            case "unix":
                connection = _connect_unix(target, Path(place))
            case _:
                connection = _connect_bridge(target, rundir)
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

    def send_all(self, messages: Sequence[Message]) -> list[RemoteError | None]:
        """Send messages whose success is silent, all at once, and wait until they are done; for each what the switch
        refused it for, None if it did not."""
        xids = {next(self._xids): index for index in range(len(messages))}
        barrier = next(self._xids)
        requests = [encode(message, xid) for xid, message in zip(xids, messages, strict=True)]
        self._transmit(b"".join([*requests, encode(BarrierRequest(), barrier)]))
        refusals: list[RemoteError | None] = [None] * len(messages)
        for message, xid in self._messages():
            if xid in xids and isinstance(message, Error | ExperimenterError):
                refusals[xids[xid]] = remote_error(message)
            elif xid == barrier and isinstance(message, BarrierReply):
                break
        return refusals

    def follow(self, messages: Sequence[Message]) -> Iterator[Message]:
        """Send messages whose success is silent, and give what the switch says unasked, for as long as it likes."""
        xids = {next(self._xids) for _ in messages}
        self._transmit(b"".join(encode(message, xid) for message, xid in zip(messages, sorted(xids), strict=True)))
        for message, xid in self._messages(patience=None):
            if xid in xids and isinstance(message, Error | ExperimenterError):
                raise remote_error(message)
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
                raise remote_error(message)
            yield message

    def _messages(self, patience: int | None = _PATIENCE) -> Iterator[tuple[Message, int]]:
        """What the switch says, without end; its echo requests are answered."""
        while True:
            while not self._arrived:
                self._await(select.POLLIN, patience)
                self._take()
            message, xid = decode(self._arrived.pop(0))
            if isinstance(message, EchoRequest):
                self._transmit(encode(EchoReply(message.data), xid))
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
                    rest = rest[self._socket.send(rest, socket.MSG_DONTWAIT) :]
                except OSError as error:
                    raise self._ended(error.strerror) from None

    def _take(self) -> None:
        try:
            data = self._socket.recv(_READ_SIZE)
        except OSError as error:
            raise self._ended(error.strerror) from None
        if not data:
            raise self._ended()
        self._arrived.extend(self._splitter.feed(data))

    def _await(self, events: int, patience: int | None = _PATIENCE) -> int:
        """Wait until the connection is ready for one of `events`, for `patience` seconds; None is for ever."""
        poll = select.poll()
        poll.register(self._socket, events)
        ready = poll.poll(None if patience is None else patience * 1000)
        if not ready:
            raise BridgeError(f"{self._target} has not answered for {patience} s")
        return ready[0][1]

    def _ended(self, reason: str | None = None) -> BridgeError:
        return BridgeError(f"{self._target} closed the connection" + (f": {reason}" if reason else ""))


def _connect_tcp(target: str, place: str) -> socket.socket:
    host, colon, port = place.rpartition(":")
    if not colon:
        host, port = place, str(_DEFAULT_PORT)
    if not host or not port.isascii() or not port.isdigit() or int(port) > 0xFFFF:
        raise BridgeError(f"{target!r} is no switch: write tcp:HOST or tcp:HOST:PORT")
    try:
        connection = socket.create_connection((host, int(port)), _PATIENCE)
    except OSError as error:
        raise BridgeError(f"{target}: {error.strerror or error}") from None
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _connect_unix(target: str, path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(path))
    except OSError as error:
        connection.close()
        raise BridgeError(f"{target}: {error.strerror or error}") from error
    return connection


def _connect_bridge(bridge: str, rundir: RunDirectory) -> socket.socket:
    try:
        return _connect_unix(f"bridge {bridge}", rundir.socket(bridge))
    except BridgeError as error:
        if not isinstance(error.__cause__, FileNotFoundError | ConnectionRefusedError):
            raise
        rundir.read(bridge)
        raise BridgeError(
            f"bridge {bridge} forwards by its last rules, but its okod does not run: nobody can change it now; "
            f"'oko bridge del {bridge}' takes it away"
        ) from None
