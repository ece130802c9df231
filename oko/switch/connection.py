"""One OpenFlow connection over a stream, from start to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from ofext.framing import Splitter
from oko.errors import OkoError, ProtocolError
from oko.switch.session import Session
from oko.switch.terms import Terms

log = logging.getLogger("oko")

_READ_SIZE: Final = 1 << 18
UNREAD_LIMIT: Final = 1 << 24
"""Bytes that may wait for a peer that does not read. Nobody reads on for it while its answers wait, so that only
what it did not ask for can come to so many."""

Open = Callable[[Callable[[bytes], None], Callable[[], int]], Session]
"""Makes the session of a connection from its `send` and `backlog`."""


async def converse(
    open_session: Open,
    terms: Terms,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    changed: Callable[[], None],
) -> None:
    """Serve one peer until it ends the connection, falls silent, sends what is no OpenFlow, or does not read. Whatever
    it sends ends at most the connection. `changed` is called when it may have changed the bridge."""
    transport = writer.transport

    def send(message: bytes) -> None:
        waiting = transport.get_write_buffer_size()
        if waiting > UNREAD_LIMIT and not transport.is_closing():
            log.warning("%s: closing the connection: %d bytes are left unread", terms.peer, waiting)
            transport.abort()
        if not transport.is_closing():
            writer.write(message)

    async def read() -> bytes:
        """What came; nothing when the peer has ended the connection, or has not said a word for too long."""
        # The last is for what came while okod itself was busy.
        for seconds in (terms.probe, terms.probe, 0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    return await reader.read(_READ_SIZE)
            send(session.probe())
        log.warning("%s: closing the connection: no answer to an echo request", terms.peer)
        transport.abort()
        return b""

    async def drain() -> None:
        """Wait until the peer has taken what is sent. Raises TimeoutError when it takes nothing for too long."""
        async with asyncio.timeout(None if terms.probe is None else 2 * terms.probe):
            await writer.drain()

    session, splitter = open_session(send, transport.get_write_buffer_size), Splitter()
    try:
        writer.write(session.greeting())
        while not session.failed and (data := await read()):
            complete: list[bytes] = []
            try:
                complete.extend(splitter.feed(data))
            finally:
                for answer in session.receive(complete):
                    changed()
                    writer.write(answer)
                    await drain()
                changed()
    except ProtocolError as error:
        log.warning("%s: closing the connection: %s", terms.peer, error)
    except TimeoutError:
        log.warning("%s: closing the connection: answers are left unread", terms.peer)
        transport.abort()
    except (OSError, OkoError) as error:
        log.warning("%s: the connection ended: %s", terms.peer, error)
    except Exception:  # a fault of ours: it costs this peer its connection, and nobody else anything
        log.exception("%s: the connection ended by a fault of okod", terms.peer)
    except asyncio.CancelledError:
        # okod ends, and does not wait for a peer that does not read.
        transport.abort()
        raise
    finally:
        session.close()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
