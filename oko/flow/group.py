"""Groups (OpenFlow 1.3.5, 5.6)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from oko.flow.action import Action


class GroupType(Enum):
    """How a group uses its buckets, by the number on the wire."""

    ALL = 0
    """All of them, each on a copy of the packet."""
    SELECT = 1
    """One that is live, by weight and by `selection_hash`: packets of a flow take the same one."""
    INDIRECT = 2
    """The only one."""
    FAST_FAILOVER = 3
    """The first that is live."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """`actions` are executed in the order of an action set, on a copy of the packet: what they change is gone behind
    the group. A bucket is live when its `watch_port` or its `watch_group` is; None watches nothing. One that watches
    nothing is live in a select group, and never in a fast-failover group. `weight` is of select groups."""

    actions: tuple[Action, ...] = ()
    weight: int = 1
    watch_port: int | None = None
    watch_group: int | None = None


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """A group as somebody wrote it."""

    number: int
    type: GroupType
    buckets: tuple[Bucket, ...] = ()


@dataclass(frozen=True, slots=True)
class GroupEntry:
    """A group in the tables. `slot` is the index of its counters and `slots` of its buckets', in the same array as
    those of rules. `installed` is in ns of the monotonic clock."""

    spec: GroupSpec
    slot: int
    slots: tuple[int, ...]
    installed: int = 0


class GroupCommand(Enum):
    """What a group_mod does, by the number on the wire."""

    ADD = 0
    MODIFY = 1
    DELETE = 2


@dataclass(frozen=True, slots=True)
class GroupMod:
    """One change. A delete names a group in `spec.number`, or all of them with `all_groups`; the rules that use a
    deleted group go with it."""

    command: GroupCommand
    spec: GroupSpec
    all_groups: bool = False
