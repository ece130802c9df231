"""A packet on its way to the controllers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from oko.flow.rule import Entry


class PacketInReason(Enum):
    """Why, by the number on the wire (OpenFlow 1.3.5, 7.4.1)."""

    NO_MATCH = 0
    """The table-miss entry says so."""
    ACTION = 1
    """Another rule, or a packet-out, says so."""
    INVALID_TTL = 2
    """Its TTL cannot be decremented."""


@dataclass(frozen=True, slots=True)
class PacketIn:
    """The whole `frame`, as it was then. `entry` is the rule in hand, in `table`; None and 0 for what a packet-out
    does. Of what an action set does, it is the last rule that the packet met."""

    reason: PacketInReason
    entry: Entry | None
    table: int
    in_port: int
    metadata: int
    frame: bytes
