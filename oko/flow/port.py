"""What the tables need to know of a port."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PortState:
    """`live`: for watching buckets, its link is up. `flood`: FLOOD means this port, too (not OFPPC_NO_FLOOD)."""

    live: bool = True
    flood: bool = True
