"""`Account`: where the frames of a run went."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

GEN_DROPS: Final = "no room behind gen"
P1_RECEIVED: Final = "p1 received"

DRIVER_DROPS: Final = {
    GEN_DROPS: ("gen", "tx_queue_0_xdp_xmit_errors"),
    "redirect failed at p1": ("p1", "rx_queue_0_drops"),
    "no room behind p2": ("p2", "tx_queue_0_xdp_xmit_errors"),
    "driver at sink": ("sink", "rx_queue_0_drops"),
}
"""Where the veth driver loses frames that no program dropped: (interface, statistic of ``ethtool -S``)."""

HOPS: Final = {
    "gen transmitted": ("gen", "tx_queue_0_xdp_xmit"),
    P1_RECEIVED: ("p1", "rx_queue_0_xdp_packets"),
    "p1 redirected": ("p1", "rx_queue_0_xdp_redirect"),
    "p1 dropped": ("p1", "rx_queue_0_xdp_drops"),
    "p2 transmitted": ("p2", "tx_queue_0_xdp_xmit"),
    "sink received": ("sink", "rx_queue_0_xdp_packets"),
}
"""What the driver saw on the way: the same frames again, hop by hop. They say where a lost frame was seen last."""

_STATISTIC = re.compile(r"^\s+(\w+): (\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Account:
    """Frames: those that the generator handed over, those that arrived, those dropped by place or reason.

    `hops` repeats frames of the others and does not enter the sum.
    """

    sent: int
    delivered: int
    drops: Mapping[str, int]
    hops: Mapping[str, int]

    @property
    def dropped(self) -> int:
        return sum(self.drops.values())

    @property
    def lost(self) -> int:
        """Frames that nobody can account for; while a run goes on, also those that are on their way."""
        return self.sent - self.delivered - self.dropped

    @property
    def lost_behind_p1(self) -> int:
        """Of the frames that p1 received, those that nobody can account for.

        Every counter in this sum has one writer at a time, NAPI. Those of gen have as many as there are generators,
        and veth does not lock them: with two, `lost` says more than was lost.
        """
        return self.hops[P1_RECEIVED] - self.delivered - self.dropped + self.drops[GEN_DROPS]

    def since(self, before: Account) -> Account:
        """What came to this account after `before`."""
        return Account(
            self.sent - before.sent,
            self.delivered - before.delivered,
            {name: count - before.drops.get(name, 0) for name, count in self.drops.items()},
            {name: count - before.hops.get(name, 0) for name, count in self.hops.items()},
        )

    def to_json(self) -> dict[str, Any]:
        """The account as json.dumps takes it."""
        return asdict(self) | {"lost": self.lost, "lost_behind_p1": self.lost_behind_p1}

    def __str__(self) -> str:
        parts = [f"sent {self.sent:,}", f"delivered {self.delivered:,}"]
        parts += [f"{name} {count:,}" for name, count in self.drops.items() if count]
        return ", ".join((*parts, f"lost {self.lost:,}", f"of these behind p1 {self.lost_behind_p1:,}"))


def driver_statistics() -> dict[str, dict[str, int]]:
    """``ethtool -S`` of every interface that DRIVER_DROPS and HOPS name."""
    names = {interface for interface, _ in (*DRIVER_DROPS.values(), *HOPS.values())}
    return {name: statistics(name) for name in names}


def statistics(interface: str) -> dict[str, int]:
    """``ethtool -S`` of one interface."""
    done = subprocess.run(["ethtool", "-S", interface], capture_output=True, text=True, check=True)
    return {name: int(value) for name, value in _STATISTIC.findall(done.stdout)}
