"""Ports on the wire: what they are, and what they have counted."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import astuple
from typing import Final

from ofext.constants import PortConfig, PortState
from ofext.multipart import Port as WirePort
from ofext.multipart import PortStats
from oko.errors import PortError
from oko.kernel.link_stats import link_stats
from oko.switch.bridge import Bridge
from oko.switch.port import Port

_NO_COUNTER: Final = (1 << 64) - 1
_NO_TIME: Final = (1 << 32) - 1
_COUNTERS: Final = 12
"""Counters of a port, in `LinkStats` and in PortStats."""


def write_port(bridge: Bridge, port: Port) -> WirePort:
    """The description of a port. One whose interface is gone is down, and blocked as no link is that is only down."""
    config = PortConfig(0) if bridge.tells_misses(port) else PortConfig.NO_PACKET_IN
    if not bridge.is_live(port):
        state = PortState.LINK_DOWN | PortState.BLOCKED
    else:
        state = PortState.LIVE if bridge.is_up(port) else PortState.LINK_DOWN
        if not bridge.is_enabled(port):
            config |= PortConfig.PORT_DOWN
    return WirePort(port.number, port.mac, port.name, config, state)


def write_port_stats(bridge: Bridge, port: Port) -> PortStats:
    """What the kernel has counted, since the interface was made; nothing is known of one that is gone. Raises
    KernelError."""
    counted = (_NO_COUNTER,) * _COUNTERS
    if bridge.is_live(port):
        with suppress(PortError):  # Gone since.
            counted = astuple(link_stats(port.ifindex))
    return PortStats(port.number, *counted, duration_sec=_NO_TIME, duration_nsec=_NO_TIME)
