"""Why a switch drops packets that no rule told it to drop."""

from __future__ import annotations

from enum import IntEnum


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
