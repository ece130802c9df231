"""What a switch has to know of the bridge of Open vSwitch that it is attached to.

An attached switch decides some of the packets and leaves the others to Open vSwitch: as they came, or behind a shim
(`oko.flow.shim`). All that it does not decide is a packet of Open vSwitch's: also one that no rule matches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from oko.errors import AttachError
from oko.flow.headers import MAX_TAGS, TAG, TPIDS
from oko.flow.match import Match


class Shims(IntEnum):
    """What becomes of packets that are to be continued behind a shim."""

    USED = 0
    """They get it."""
    DROPPED = 1
    """Nobody would continue them: they are dropped."""
    PASSED = 2
    """Nobody would continue them: they are left to Open vSwitch as they came."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """`vlan_limit` is how many tags are read: the bridge's, 1 or 2. `reserved` are the frames that Open vSwitch takes
    before it looks into a table, which are passed to it; a match of nothing but in_port is that port's every frame.

    `longest` is, by number of the port, how long a frame could be for Open vSwitch to receive it there: bytes without
    FCS and without an outermost tag, which the kernel takes out of the frame before: 18 more than the MTU was before
    it was raised for the shim's sake (netdev_linux_rxq_recv in Open vSwitch's netdev-linux.c). A port that is not named
    has no such limit.
    """

    vlan_limit: int = 1
    reserved: tuple[Match, ...] = ()
    longest: Mapping[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises AttachError."""
        if not 1 <= self.vlan_limit <= MAX_TAGS:
            raise AttachError(f"a VLAN limit of {self.vlan_limit}: 1 to {MAX_TAGS} tags can be read")
        for match in self.reserved:
            if match.program is not None:
                raise AttachError(f"program {match.program}: no program is asked about a reserved frame")

    def is_too_long(self, frame: bytes, in_port: int) -> bool:
        """Whether Open vSwitch would not have received the frame there."""
        limit = self.longest.get(in_port)
        if limit is None:
            return False
        tagged = int.from_bytes(frame[12:14], "big") in TPIDS
        return len(frame) - (TAG if tagged else 0) > limit
