"""The functions that the switch provides to filter programs, one line each.

A filter program calls them as undefined external functions; the compiler links the body.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Kind(Enum):
    """What an argument is, or a result."""

    CONTEXT = "struct xdp_md *"
    NUMBER = "number"


@dataclass(frozen=True, slots=True)
class RuntimeFunction:
    """A function of the runtime: `arguments` in R1 … R5, the result in R0."""

    name: str
    arguments: tuple[Kind, ...]
    returns: Kind


RUNTIME_FUNCTIONS: Final[dict[str, RuntimeFunction]] = {
    function.name: function
    for function in (
        # The OpenFlow number of the port that the packet came in on, an u32 in host order.
        RuntimeFunction("oko_in_port", (Kind.CONTEXT,), Kind.NUMBER),
    )
}
