"""`Controller`: a controller that okod connects to, and connects to again when the connection ends."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable

from oko.openflow.backoff import Backoff
from oko.openflow.endpoint import Address

log = logging.getLogger("oko")

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Controller:
    """At `address`, over TLS with a `context`; one that looks at names wants its certificate to be for `peer_name`.
    `name` is what the log calls it; `serve` is given every connection, and lasts as long as it."""

    def __init__(
        self,
        name: str,
        address: Address,
        context: ssl.SSLContext | None,
        backoff: Backoff,
        serve: Serve,
        *,
        peer_name: str | None = None,
    ) -> None:
        self._name = name
        self._address = address
        self._context = context
        self._peer_name = peer_name
        self._backoff = backoff
        self._serve = serve
        self._complaint = ""

    async def run(self) -> None:
        """Until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            lasted = 0.0
            try:
                async with asyncio.timeout(self._backoff.patience):
                    streams = await asyncio.open_connection(
                        self._address.host, self._address.port, ssl=self._context, server_hostname=self._peer_name
                    )
            except TimeoutError:
                self._complain("it does not answer")
            except OSError as error:
                self._complain(error.strerror or str(error))
            except ValueError as error:  # A name that cannot be one of a host: UnicodeError, for one.
                self._complain(str(error))
            else:
                self._complaint = ""
                log.info("%s: connected", self._name)
                begun = loop.time()
                await self._serve(*streams)
                lasted = loop.time() - begun
            await asyncio.sleep(self._backoff.after(lasted))

    def _complain(self, reason: str) -> None:
        """Say once what keeps the connection from coming about."""
        if reason != self._complaint:
            log.warning("%s: not connected: %s: trying again", self._name, reason)
            self._complaint = reason
