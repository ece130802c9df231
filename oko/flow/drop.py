"""Why a switch drops packets that no rule told it to drop."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Drop(IntEnum):
    """What a switch counts, of packets that were sent nowhere. A rule without actions is no such reason; its own
    counter tells."""

    RUNT = 0
    """Shorter than an Ethernet header."""
    MISS = 1
    """No rule matched, in the first table or a later one."""
    TO_INGRESS = 2
    """The rules send only to the port that the packet came from."""
    NO_PORT = 3
    """The rules send only to ports that are not there."""
    STRANGER = 4
    """It came from an interface that is no port of the bridge."""
    INVALID_TTL = 5
    """Its TTL was 0 or 1 and was to be decremented: the controller got it."""
    METER = 6
    """A meter's band was exceeded."""
    NO_ROOM = 7
    """A tag or label could not be pushed: the driver left no room before the frame. The reference switch knows no such
    thing."""
    FORGED = 8
    """It came with a shim, which only Oko puts before a packet."""
    TOO_LONG = 9
    """Open vSwitch would not have received it: it is longer than the port's MTU was before it was raised."""
    SUSPENDED = 10
    """It was to be continued while nobody would do that (`oko.flow.attachment.Shims`)."""


OF_ATTACHED: Final = frozenset((Drop.FORGED, Drop.TOO_LONG, Drop.SUSPENDED))
"""The reasons that only a switch which is attached to Open vSwitch has."""
