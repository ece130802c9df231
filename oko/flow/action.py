"""Actions and instructions of a rule. No action at all means drop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MAX_PORT: Final = 0xFFFFFF00
"""OFPP_MAX: the highest number of a physical port (OpenFlow 1.3.5, 7.2.1)."""

RESERVED_PORTS: Final = {
    "IN_PORT": 0xFFFFFFF8,
    "TABLE": 0xFFFFFFF9,
    "NORMAL": 0xFFFFFFFA,
    "FLOOD": 0xFFFFFFFB,
    "ALL": 0xFFFFFFFC,
    "CONTROLLER": 0xFFFFFFFD,
    "LOCAL": 0xFFFFFFFE,
    "ANY": 0xFFFFFFFF,
}
"""The ports that stand for something else, by OpenFlow's name (OpenFlow 1.3.5, 7.2.1: OFPP_*)."""


@dataclass(frozen=True, slots=True)
class Output:
    """Send the packet out of `port`. As OpenFlow has it, never back to the port it came from."""

    port: int


Action = Output


@dataclass(frozen=True, slots=True)
class ApplyActions:
    """OFPIT_APPLY_ACTIONS: do these at once, in order."""

    actions: tuple[Action, ...] = ()


Instruction = ApplyActions
