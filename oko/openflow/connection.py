"""One OpenFlow connection over a stream, from start to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from ofext.framing import Splitter
from oko.errors import OkoError, ProtocolError
from oko.openflow.session import Session
from oko.openflow.terms import Terms

log = logging.getLogger("oko")

_READ_SIZE: Final = 1 << 18
PORTION: Final = 512
"""Messages that a session gets at once, and so the most changes that are made together."""
TURN: Final = 0.02
"""Seconds that a connection's messages may take before others have their turn. Changes that are made together, and
what one message asks for, are not interrupted."""
UNREAD_LIMIT: Final = 1 << 24
"""Bytes that may wait for a peer that does not read. Nobody reads on for it while its answers wait, so that only
what it did not ask for can come to so many."""
FAREWELL: Final = 5.0
"""Seconds that a peer has to take what it has not read yet when the connection ends."""

Open = Callable[[Callable[[bytes], None], Callable[[], int], Callable[[], None]], Session]
"""Makes the session of a connection from its `send`, `backlog` and `fall_behind`."""


async def converse(
    open_session: Open,
    terms: Terms,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    changed: Callable[[], None],
    introduced: Callable[[], None] = lambda: None,
) -> None:
    """Serve one peer until it ends the connection, falls silent, sends what is no OpenFlow, or does not read. Whatever
    it sends ends at most the connection. `changed` is called when it may have changed the bridge, `introduced` when
    whole messages have come, before they are looked at: an OkoError that it raises ends the connection."""
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
        while True:
            left = transport.get_write_buffer_size()
            try:
                async with asyncio.timeout(None if terms.probe is None else 2 * terms.probe):
                    return await writer.drain()
            except TimeoutError:
                # When okod itself was busy for so long, nothing could be sent: that has its turn now.
                await asyncio.sleep(0)
                if transport.get_write_buffer_size() >= left:
                    raise

    behind = asyncio.Event()

    def fall_behind() -> None:
        if session.is_lost and not transport.is_closing():
            log.warning("%s: closing the connection: too many rules that went are left unread", terms.peer)
            transport.abort()
        behind.set()

    async def catch_up() -> None:
        """Tell the peer of rules that went, as it takes what is sent. Raises TimeoutError when it takes nothing for too
        long."""
        while session.is_late and not transport.is_closing():
            await drain()
            session.catch_up(PORTION)
            await asyncio.sleep(0)

    async def stay_close() -> None:
        """Let the peer catch up whenever it is behind; until cancelled, or the connection ends."""
        try:
            while not transport.is_closing():
                await behind.wait()
                behind.clear()
                await catch_up()
        except TimeoutError:
            log.warning("%s: closing the connection: rules that went are left unread", terms.peer)
            transport.abort()
        except OSError:
            pass  # Whoever reads hears of it, too.
        except Exception:  # a fault of ours, as below
            log.exception("%s: the connection ended by a fault of okod", terms.peer)
            transport.abort()

    turn_ends = 0.0

    async def give_way() -> None:
        """Let others have their turn when this one has lasted long enough."""
        nonlocal turn_ends
        if time.monotonic() >= turn_ends:
            await asyncio.sleep(0)
            turn_ends = time.monotonic() + TURN

    def portion(messages: deque[bytes]) -> Iterator[bytes]:
        """The first of the messages, which are taken away: those of one turn, but for changes that are collected."""
        for _ in range(PORTION):
            yield messages.popleft()
            if not messages or (time.monotonic() >= turn_ends and not session.collects):
                return

    session, splitter = open_session(send, transport.get_write_buffer_size, fall_behind), Splitter()
    follower = asyncio.create_task(stay_close())
    try:
        writer.write(session.greeting())
        while not session.failed and (data := await read()):
            complete = deque[bytes]()
            try:
                complete.extend(splitter.feed(data))
            finally:
                if complete:
                    introduced()
                while complete and not session.failed:
                    await give_way()
                    for answer in session.receive(portion(complete)):
                        changed()
                        await catch_up()
                        writer.write(answer)
                        await drain()
                        await give_way()
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
        follower.cancel()
        session.close()
        await part(writer)


async def part(writer: asyncio.StreamWriter) -> None:
    """End a connection. A peer that does not read what is left for it in `FAREWELL` seconds does without."""
    writer.close()
    try:
        with contextlib.suppress(OSError):  # TimeoutError is one.
            async with asyncio.timeout(FAREWELL):
                await writer.wait_closed()
    finally:
        writer.transport.abort()
