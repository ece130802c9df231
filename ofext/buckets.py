"""The buckets of a group (OpenFlow 1.3.5, section 7.3.4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from .codec import U16, U32, Layout, Pad, Repeat, Sized
from .constants import GROUP_ANY, PORT_ANY
from .instructions import Actions


@dataclass(frozen=True, slots=True)
class Bucket:
    """An action set. `weight` is of select groups; `watch_port` and `watch_group` say what must be live, in
    fast-failover groups."""

    weight: U16 = 0
    watch_port: U32 = PORT_ANY
    watch_group: Annotated[U32, Pad(4)] = GROUP_ANY
    actions: Actions = ()


Buckets = Annotated[tuple[Bucket, ...], Repeat(Sized(Layout(Bucket)))]
