"""`RelayEnd`: one of the two connections that a relay stands between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from oko.errors import ProtocolError
from oko.openflow.connection import FAREWELL


class RelayEnd(asyncio.Protocol):
    """One of the two connections. `consume` is given what came and says how many bytes of it are done with. It is not
    called while there is a reason to hold the end."""

    def __init__(
        self, consume: Callable[[bytes], int], other: Callable[[], RelayEnd], ended: Callable[[str], None]
    ) -> None:
        self._consume = consume
        self._other = other
        self._ended = ended
        self._rest = b""
        self._held = {"not connected"}
        self._pumping = False
        self._over = False
        self._unread = False
        self.urgent = 0
        """How many answers are waited for here. For their sake what the other side does not read is kept."""
        self.transport: asyncio.Transport | None = None

    def write(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def backlog(self) -> int:
        """Bytes that the other side has not read."""
        return 0 if self.transport is None else self.transport.get_write_buffer_size()

    def hold(self, reason: str) -> None:
        """Read on only when `release` has been called with this reason."""
        if not self._held and self.transport is not None:
            self.transport.pause_reading()
        self._held.add(reason)

    def release(self, reason: str) -> None:
        self._held.discard(reason)
        if not self._held and self.transport is not None:
            self._pump()
            if not self._held and not self.transport.is_closing():
                self.transport.resume_reading()

    def _pump(self) -> None:
        if self._pumping:
            return  # what is being consumed may hold an end, and release it
        self._pumping = True
        try:
            while self._rest and not self._held and (used := self._consume(self._rest)):
                self._rest = self._rest[used:]
        except ProtocolError as error:
            self._ended(str(error))
        finally:
            self._pumping = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self._over:
            transport.abort()
            return
        transport.pause_reading()
        if self._other().transport is not None:
            self.release("not connected")
            self._other().release("not connected")

    def data_received(self, data: bytes) -> None:
        self._rest += data
        self._pump()

    def pause_writing(self) -> None:
        self._unread = True
        self._other().throttle()

    def resume_writing(self) -> None:
        self._unread = False
        self._other().throttle()

    def throttle(self) -> None:
        """Read no faster than the other side does, unless an answer is waited for."""
        if self._other()._unread and not self.urgent:
            self.hold("the other side does not read")
        else:
            self.release("the other side does not read")

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self._ended(str(error) if error else "")

    def part(self) -> None:
        """End the connection; what is sent already may still be read for a while."""
        self._over = True
        if self.transport is not None:
            self.transport.close()
            asyncio.get_running_loop().call_later(FAREWELL, self.transport.abort)
