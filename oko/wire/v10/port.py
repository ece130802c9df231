"""Ports and their numbers in OpenFlow 1.0."""

from __future__ import annotations

from typing import Final

from ofext import multipart
from ofext.constants import PortState
from ofext.v10 import stats
from ofext.v10.constants import MAX_PORT, PORT_NONE
from oko.errors import NotExpressible
from oko.flow.action import RESERVED_PORTS

_RESERVED: Final = {number: number & 0xFFFF for number in RESERVED_PORTS.values()}
"""Ports that stand for something else have the same low 16 bits in both versions."""
_RESERVED_READ: Final = {low: number for number, low in _RESERVED.items()}

_KEPT_FEATURES: Final = 0x7F
_MOVED_FEATURES: Final = 0xF800
_MOVED_BY: Final = 4
"""Features from COPPER on stand four bits higher in OpenFlow 1.3, which has more speeds."""


def read_port_number(number: int) -> int:
    """The number in OpenFlow 1.3 of a port of 16 bits. One that is no port stays what it is."""
    return _RESERVED_READ.get(number, number)


def write_port_number(number: int) -> int:
    """The number of 16 bits. Raises NotExpressible for a port that has none."""
    if number < MAX_PORT:
        return number
    low = _RESERVED.get(number)
    if low is None:
        raise NotExpressible(f"port {number}: OpenFlow 1.0 has ports below {MAX_PORT}")
    return low


def read_any_port(number: int) -> int | None:
    """The port that a request means, None for all."""
    return None if number == PORT_NONE else read_port_number(number)


def write_port(port: multipart.Port) -> stats.Port:
    """The description of a port. Raises NotExpressible."""
    return stats.Port(
        write_port_number(port.port_no),
        port.hw_addr,
        port.name,
        port.config,
        port.state & PortState.LINK_DOWN,
        *(_features(bits) for bits in (port.curr, port.advertised, port.supported, port.peer)),
    )


def _features(bits: int) -> int:
    return bits & _KEPT_FEATURES | (bits & _MOVED_FEATURES) >> _MOVED_BY
