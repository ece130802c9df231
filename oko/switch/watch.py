"""`Watch`: what a bridge has to be told by an event loop: packets for the controllers, events of programs, timeouts,
links."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from oko.errors import OkoError
from oko.kernel.link_monitor import LinkGone, LinkMonitor, LinkState, ResyncNeeded
from oko.switch.bridge import Bridge
from oko.switch.port import Port

log = logging.getLogger("oko")

_AT_A_TIME: Final = 64
"""Packets for the controllers between two looks at what else has happened."""
_SECOND: Final = 10**9


class Watch:
    """Tells `bridge` what happens while the context lasts. To be made inside the loop, in the namespace of the ports.

    `adopt` is called with a port whose interface was gone, when there is one of its name again; it raises OkoError for
    one that cannot be the port.
    """

    def __init__(self, bridge: Bridge, adopt: Callable[[Port], None]) -> None:
        self._bridge = bridge
        self._adopt = adopt
        self._loop = asyncio.get_running_loop()
        self._monitor = LinkMonitor()
        self._timer: asyncio.TimerHandle | None = None
        self._due: int | None = None
        self._complaints: dict[int, str] = {}  # by port

    def __enter__(self) -> Self:
        self._loop.add_reader(self._monitor.fileno(), self._look_at_links)
        self._loop.add_reader(self._bridge.packet_ins().fileno(), self._bridge.deliver, _AT_A_TIME)
        self._loop.add_reader(self._bridge.events.fileno(), self._bridge.events.deliver)
        self._bridge.refresh_ports()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._loop.remove_reader(self._bridge.events.fileno())
        self._loop.remove_reader(self._bridge.packet_ins().fileno())
        self._loop.remove_reader(self._monitor.fileno())
        self._monitor.close()
        if self._timer is not None:
            self._timer.cancel()

    def rearm(self) -> None:
        """The bridge may have changed: set the clock to its next timeout."""
        due = self._bridge.next_expiry
        if due == self._due:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._due = due
        # The loop's clock is the monotonic one, too, in seconds.
        self._timer = None if due is None else self._loop.call_at(due / _SECOND, self._expire)

    def _expire(self) -> None:
        self._due = None
        self._bridge.expire()
        self.rearm()

    def _look_at_links(self) -> None:
        bridge = self._bridge
        try:
            events = self._monitor.read()
        except OkoError as error:
            log.warning("bridge %s: %s", bridge.name, error)
            return
        indices = {port.ifindex for port in bridge.ports}
        lost = any(isinstance(event, ResyncNeeded) for event in events)
        left = any(isinstance(event, LinkGone) and event.index in indices for event in events)
        named = {event.name for event in events if isinstance(event, LinkState)}
        if lost or left or any(isinstance(event, LinkState) and event.index in indices for event in events):
            bridge.refresh_ports(again=lost or left)
        for port in bridge.ports:
            if (lost or port.name in named) and not bridge.is_live(port):
                self._try(port)

    def _try(self, port: Port) -> None:
        """Let the interface that has this port's name now be the port, if it can."""
        try:
            self._adopt(port)
            self._complaints.pop(port.number, None)
        except OkoError as error:
            # The kernel tells of an interface again and again: say once what is wrong with it.
            if self._complaints.get(port.number) != str(error):
                self._complaints[port.number] = str(error)
                log.warning("bridge %s: port %d stays gone: %s", self._bridge.name, port.number, error)
