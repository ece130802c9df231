"""Frames through a bridge, and what becomes of them by the time that a fence has come through behind them."""

from __future__ import annotations

import itertools
import select
import time
from collections.abc import Callable, Mapping, Sequence

from tests.e2e.wire import Wire, frame

FENCED = bytes.fromhex("020000000f0f")
"""The address that fences are sent to."""
FENCE = "priority=60000,dl_type=0x88b5,dl_dst=02:00:00:00:0f:0f,actions=IN_PORT,ALL"
"""The flow that they take: to all hosts."""
_LONG = 1.0  # seconds, for a frame
_NUMBERS = itertools.count()


def exchange(
    wires: Mapping[int, Wire], sent: Sequence[bytes], port: int, settle: Callable[[], None]
) -> dict[int, list[bytes]]:
    """The hosts are on `wires`, by port. Frames are sent by the one at `port`; those that arrive, by host, in ascending
    order. `settle` is Vswitch's."""
    for each in sent:
        wires[port].send(each)
    found: dict[int, list[bytes]] = {}
    # Open vSwitch takes frames in batches, and those of a batch in an order of its own. What was in one with the first
    # fence has left before the second. And it loses frames when it has just begun.
    arrived = 0
    while arrived < 2:
        fence = FENCED + frame(next(_NUMBERS), source=9)[6:]
        wires[port].send(fence)
        arrived += _arrives(fence, wires, found)
        settle()
    return {other: sorted(frames) for other, frames in found.items()}


def exchange_numbers(
    wires: Mapping[int, Wire], numbers: Sequence[int], port: int, settle: Callable[[], None]
) -> dict[int, list[int]]:
    """The same with frames that have these numbers, from the address of the host."""
    found = exchange(wires, [frame(number, source=port) for number in numbers], port, settle)
    return {other: [int.from_bytes(each[14:18], "big") for each in frames] for other, frames in found.items()}


def _arrives(fence: bytes, wires: Mapping[int, Wire], found: dict[int, list[bytes]]) -> bool:
    """Whether the fence arrives everywhere; what arrives before it is found."""
    ports = {wire: port for port, wire in wires.items()}
    missing, deadline = set(ports), time.monotonic() + _LONG
    while missing and (left := deadline - time.monotonic()) > 0:
        for wire in select.select(list(missing), [], [], left)[0]:
            for each in wire.waiting():
                if each == fence:
                    missing.discard(wire)
                elif not each.startswith(FENCED):
                    found.setdefault(ports[wire], []).append(each)
    return not missing
