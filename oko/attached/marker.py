"""`Marker`: frames put in at a port that say when those before them have been taken out of its queue.

XDP passes packets into the packet socket that Open vSwitch reads a port by, and they may wait there. A marker goes the
same way, behind them, and comes back as a packet for okod.
"""

from __future__ import annotations

import asyncio
import itertools
from typing import Final

from ofext.instructions import ExperimenterAction
from ofext.messages import PacketIn
from ofext.v10.constants import NICIRA
from oko.attached import shim
from oko.attached.continuation import id_rule
from oko.attached.shim_id import MARKER
from oko.attached.silence import FULL
from oko.attached.upstream import CONTROLLER_ID, TABLE, Upstream
from oko.errors import AttachError
from oko.kernel.inject import run_through

_CONTROLLER: Final = 20  # NXAST_CONTROLLER of nicira-ext.h
_ACTION: Final = 1  # OFPR_ACTION
_FRAMES: Final = 2
"""Markers in a row: Open vSwitch takes frames in batches, and what came before the first may be sent just after it."""
_AGAIN: Final = 0.02
"""Seconds until a marker is sent again; 10 ms are much. It is lost when the queue is full, as any frame."""
_PADDING: Final = 60 - shim.SIZE - 8
"""Bytes that make the frame one of the shortest that Ethernet has."""


_TO_OKOD: Final = _CONTROLLER.to_bytes(2, "big") + b"\xff\xff" + CONTROLLER_ID.to_bytes(2, "big") + bytes((_ACTION, 0))

RULE: Final = id_rule(MARKER, (ExperimenterAction(NICIRA, _TO_OKOD),))
"""Adds the rule for markers, which come in as any shim does: by a port that has a `port_rule`."""


PASSING: Final = bytes.fromhex("b700000002000000 9500000000000000")
"""The XDP program of markers, which passes every frame: r0 = XDP_PASS; exit."""


class Marker:
    """Markers of one bridge. `program_fd` is an XDP program that passes every frame."""

    def __init__(self, upstream: Upstream, program_fd: int) -> None:
        self._upstream = upstream
        self._program = program_fd
        self._numbers = itertools.count()

    async def drain(self, ifindex: int, patience: float = FULL) -> None:
        """Return when Open vSwitch has decided every frame that the interface has received so far. There must be the
        RULE, and one for the port. To be called in the namespace of the interface. Raises AttachError when no marker
        comes back within `patience`, in seconds; PortError when there is no such interface; KernelError."""
        for _ in range(_FRAMES):
            frame = shim.frame(MARKER, next(self._numbers).to_bytes(8, "big") + bytes(_PADDING))
            await self._send(frame, ifindex, patience)

    async def _send(self, frame: bytes, ifindex: int, patience: float) -> None:
        back: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def hear(packet: PacketIn) -> None:
            if packet.table_id == TABLE and packet.data == frame and not back.done():
                back.set_result(None)

        forget = self._upstream.listen(hear)
        try:
            async with asyncio.timeout(patience):
                while not back.done():
                    run_through(self._program, frame, ifindex)
                    await asyncio.wait({back}, timeout=_AGAIN)
        except TimeoutError:
            raise AttachError(
                f"interface number {ifindex}: a marker did not come back within {patience:g} s: is it a port?"
            ) from None
        finally:
            forget()
