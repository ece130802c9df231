"""What the reference switch tells, to whoever asks, of one packet on its way: an `Event` at each decision, in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from oko.flow.action import Action, Instruction
from oko.flow.drop import Drop
from oko.flow.group import GroupEntry
from oko.flow.meter import MeterEntry
from oko.flow.packet_in import PacketIn
from oko.flow.rule import Entry


@dataclass(frozen=True, slots=True)
class Entered:
    """The packet enters a table with these headers, by name of the field, as `oko.flow.headers.parse` gives them."""

    table: int
    headers: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Asked:
    """A program was needed, by an observer or a rule. `ran`: it ran now; else its verdict was known."""

    program: int
    verdict: bool
    ran: bool


@dataclass(frozen=True, slots=True)
class Won:
    """The rule that won."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Carried:
    """An instruction of the rule is carried out."""

    instruction: Instruction


@dataclass(frozen=True, slots=True)
class Charged:
    """A meter was charged; it drops the packet if bands are `exceeded` (by index)."""

    meter: MeterEntry
    exceeded: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    """The tables have ended, and the action set, which holds these, is executed."""

    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Acted:
    """An action that is neither output nor group: the frame before and after it, None if its TTL ended it."""

    action: Action
    before: bytes
    after: bytes | None


@dataclass(frozen=True, slots=True)
class Grouped:
    """A group is executed: the buckets that are live, and those chosen of all, by index."""

    group: GroupEntry
    live: tuple[int, ...]
    chosen: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Filled:
    """The bucket with this index gets a copy of the packet. What is told up to `Emptied` happens to that."""

    group: GroupEntry
    index: int


@dataclass(frozen=True, slots=True)
class Emptied:
    """The copy of a bucket is done with."""


@dataclass(frozen=True, slots=True)
class Sending:
    """An output to this port, which may stand for others: each frame that is sent or not is told next."""

    port: int


@dataclass(frozen=True, slots=True)
class Sent:
    """A frame leaves by a port."""

    port: int
    frame: bytes


@dataclass(frozen=True, slots=True)
class Told:
    """A frame goes to the controllers."""

    packet_in: PacketIn


@dataclass(frozen=True, slots=True)
class Left:
    """The frame is left to Open vSwitch."""

    frame: bytes


@dataclass(frozen=True, slots=True)
class Lost:
    """Something that would be a reason for a drop, if nothing is sent."""

    drop: Drop


Event = (
    Entered
    | Asked
    | Won
    | Carried
    | Charged
    | Ended
    | Acted
    | Grouped
    | Filled
    | Emptied
    | Sending
    | Sent
    | Told
    | Left
    | Lost
)
