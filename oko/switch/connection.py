"""One OpenFlow connection over a stream, from start to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from ofext.framing import Splitter
from oko.errors import OkoError, ProtocolError
from oko.switch.bridge import Bridge
from oko.switch.roles import Roles
from oko.switch.session import Session

log = logging.getLogger("oko")

_READ_SIZE: Final = 1 << 18
UNREAD_LIMIT: Final = 1 << 24
"""Bytes that may wait for a peer that does not read. Nobody reads on for it while its answers wait, so that only
what it did not ask for can come to so many."""


async def converse(
    bridge: Bridge,
    roles: Roles,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    changed: Callable[[], None],
) -> None:
    """Serve one peer until it ends the connection, sends what is no OpenFlow, or does not read. Whatever it sends ends
    at most the connection. `changed` is called when it may have changed the bridge."""
    transport = writer.transport

    def send(message: bytes) -> None:
        waiting = transport.get_write_buffer_size()
        if waiting > UNREAD_LIMIT and not transport.is_closing():
            log.warning("closing a connection: its peer leaves %d bytes unread", waiting)
            transport.abort()
        if not transport.is_closing():
            writer.write(message)

    session, splitter = Session(bridge, roles, send, transport.get_write_buffer_size), Splitter()
    try:
        writer.write(session.greeting())
        while not session.failed and (data := await reader.read(_READ_SIZE)):
            complete: list[bytes] = []
            try:
                complete.extend(splitter.feed(data))
            finally:
                for answer in session.receive(complete):
                    changed()
                    writer.write(answer)
                    await writer.drain()
                changed()
    except ProtocolError as error:
        log.warning("closing a connection: %s", error)
    except (ConnectionError, OkoError) as error:
        log.warning("a connection ended: %s", error)
    except Exception:  # a fault of ours: it costs this peer its connection, and nobody else anything
        log.exception("a connection ended by a fault of okod")
    except asyncio.CancelledError:
        # okod ends, and does not wait for a peer that does not read.
        transport.abort()
        raise
    finally:
        session.close()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
