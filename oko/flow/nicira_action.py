"""Open vSwitch's own actions (ovs-actions(7)), which a bridge of Open vSwitch's does and Oko's own switch does not: a
filter rule with one is continued there."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from oko.flow.nicira_field import NiciraField, Part

CURRENT_TABLE: Final = 255
"""The table of a `Resubmit` that stays in its own."""
IN_PORT: Final = 0xFFF8
"""OFPP_IN_PORT in 16 bits: the port of a `Resubmit` that the packet came in by."""
LEARN_PRIORITY: Final = 0x8000


@dataclass(frozen=True, slots=True)
class Resubmit:
    """Look the packet up in `table` as if it had come in by `port` (16 bits), and go on behind that."""

    port: int = IN_PORT
    table: int = CURRENT_TABLE


@dataclass(frozen=True, slots=True)
class Set:
    """Write `value` into all of `field`, one of SET_FIELDS: a set_field of what only Open vSwitch has."""

    field: NiciraField
    value: int


@dataclass(frozen=True, slots=True)
class Load:
    """Write `value` into `target`, which has 64 bits at most."""

    value: int
    target: Part


@dataclass(frozen=True, slots=True)
class Move:
    """Copy `source` to `target`, which has as many bits."""

    source: Part
    target: Part


@dataclass(frozen=True, slots=True)
class Push:
    """Push `source` on the stack."""

    source: Part


@dataclass(frozen=True, slots=True)
class Pop:
    """Pop what is on top of the stack into `target`."""

    target: Part


@dataclass(frozen=True, slots=True)
class OutputTo:
    """Send the packet by the port whose number is in `source`."""

    source: Part
    max_len: int = 0xFFFF


@dataclass(frozen=True, slots=True)
class Note:
    """Do nothing but be there: 6 bytes, 14, 22, …"""

    data: bytes


@dataclass(frozen=True, slots=True)
class Exit:
    """Do nothing more with the packet."""


@dataclass(frozen=True, slots=True)
class CtClear:
    """Forget what is known of the packet's connection."""


Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class Nat:
    """Within `Ct`: translate the connection as it was committed, or, with `kind` ``src`` or ``dst``, this end of it
    to one of the `addresses` (the first and the last) and `ports`."""

    kind: str = ""
    addresses: tuple[Address, ...] = ()
    ports: tuple[int, ...] = ()
    flags: tuple[str, ...] = ()
    """Of NAT_FLAGS, in their order."""


NAT_FLAGS: Final = {"persistent": 4, "hash": 8, "random": 16}
"""With their bits on the wire."""
NAT_KINDS: Final = {"": 0, "src": 1, "dst": 2}

ALGS: Final = {"ftp": 21, "tftp": 69}
"""Protocols that open related connections, by their port."""


@dataclass(frozen=True, slots=True)
class Ct:
    """Track the packet's connection in `zone`; go on in `table`, in a copy, if there is one. `actions` are Nat and
    what writes ct_mark and ct_label."""

    commit: bool = False
    force: bool = False
    table: int | None = None
    zone: int | Part = 0
    alg: int = 0
    actions: tuple[Nat | Set | Load | Move, ...] = ()


@dataclass(frozen=True, slots=True)
class Matched:
    """What a learned rule matches: `target` is as `source`, a part of this packet or a number, says."""

    target: Part
    source: Part | int


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a learned rule writes into `target`: what `source` is now."""

    target: Part
    source: Part | int


@dataclass(frozen=True, slots=True)
class Sent:
    """A learned rule sends to the port whose number `source` is now."""

    source: Part


@dataclass(frozen=True, slots=True)
class Learn:
    """Add a rule to `table`, or give the rule that is there these actions."""

    specs: tuple[Matched | Loaded | Sent, ...] = ()
    table: int = 1
    idle_timeout: int = 0
    hard_timeout: int = 0
    fin_idle_timeout: int = 0
    fin_hard_timeout: int = 0
    priority: int = LEARN_PRIORITY
    cookie: int = 0
    flags: tuple[str, ...] = ()
    """Of LEARN_FLAGS, in their order."""


LEARN_FLAGS: Final = {"send_flow_rem": 1, "delete_learned": 2}
"""With their bits on the wire."""

NiciraAction = Resubmit | Set | Load | Move | Push | Pop | OutputTo | Note | Exit | CtClear | Nat | Ct | Learn
