"""The capabilities of capabilities(7) that Oko has a use for, and which of them the calling thread has."""

from __future__ import annotations

import re
from collections.abc import Collection
from enum import IntEnum
from pathlib import Path
from typing import Final

_STATUS: Final = Path("/proc/thread-self/status")


class Capability(IntEnum):
    """The numbers are those of <linux/capability.h>."""

    NET_ADMIN = 12
    """XDP on interfaces, their offloads and links, programs for the network."""
    NET_RAW = 13
    """Packet sockets, by which packet-outs are sent."""
    SYS_ADMIN = 21
    """Entering a network namespace."""
    PERFMON = 38
    """Arithmetic on pointers in programs (kernel 5.8)."""
    BPF = 39
    """Programs and maps (kernel 5.8)."""

    def __str__(self) -> str:
        return f"CAP_{self.name}"


ALWAYS: Final = (Capability.BPF, Capability.NET_ADMIN, Capability.PERFMON)
"""What a bridge cannot do without."""


def held() -> frozenset[Capability]:
    """Those that are effective. In a user namespace they may be worth less than they say."""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", _STATUS.read_text(), re.MULTILINE)
    bits = int(found[1], 16) if found else 0
    return frozenset(capability for capability in Capability if bits >> capability & 1)


def advice(needed: Collection[Capability]) -> str:
    """What an operation needed that was not permitted, which of that is missing, and what to do."""
    needs = f"it needs {_listed(needed)}"
    missing = [capability for capability in needed if capability not in held()]
    if not missing:
        return f"{needs}, which this process has: a user namespace or a security module may make them worth less"
    if len(missing) < len(needed):
        needs += f"; {_listed(missing)} {'is' if len(missing) == 1 else 'are'} missing"
    return f"{needs}: run it as root, or give it these capabilities"


def _listed(capabilities: Collection[Capability]) -> str:
    *most, last = map(str, capabilities)
    return f"{', '.join(most)} and {last}" if most else last
