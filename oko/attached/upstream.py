"""`Upstream`: okod's own connection to a bridge, made again when it ends: plain rules, Oko's own rules, settling."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from ofext.instructions import ApplyActions
from ofext.messages import Experimenter, FlowMod, Message, PacketIn, PortStatus, SetConfig
from ofext.monitor import (
    DeletedReason,
    FlowMonitor,
    FlowMonitorPaused,
    FlowMonitorRequest,
    FlowMonitorResumed,
    FlowUpdates,
    MonitorFlag,
)
from ofext.multipart import MultipartReply, MultipartRequest, ReplyBody, RequestBody
from oko.attached import shim
from oko.attached.management import Management
from oko.attached.plain import Change, PlainRules
from oko.attached.port_settings import PortSettings, require_usual_fragments
from oko.attached.unixctl import Unixctl
from oko.errors import AttachError, OkoError

log = logging.getLogger("oko")

TABLE: Final = 0
"""The table whose rules are followed: filter rules are in no other."""
CONTROLLER_ID: Final = 0xCF0B
"""Of okod's own connection: packets for this id come here, and to no controller; those for controllers do not."""

_NICIRA: Final = 0x00002320
_SET_CONTROLLER_ID: Final = 20  # NXT_SET_CONTROLLER_ID of nicira-ext.h
_MISS_SEND_LEN: Final = 0xFFFF
_AGAIN: Final = 0.1
"""Seconds until the next attempt to connect. The socket is on this machine: an attempt costs nothing, and until one
succeeds no packet is continued."""
_NUDGE: Final = 0.007
"""Seconds between changes that make the revalidators dump once more."""
_ROUNDS: Final = 2
"""Dumps to wait for: the first may have begun before."""
_MONITORED: Final = (
    MonitorFlag.INITIAL | MonitorFlag.ADD | MonitorFlag.DELETE | MonitorFlag.MODIFY | MonitorFlag.INSTRUCTIONS
)
"""Instructions are told, too: a rule whose action is conjunction() is none of its own."""


@dataclass(frozen=True, slots=True)
class Followed:
    """The rules are known, and Oko's own are in place."""


@dataclass(frozen=True, slots=True)
class Changed:
    """Rules have changed: somebody else's, or Oko's own, by somebody else."""

    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Paused:
    """Rules that are added or modified from now on are not known."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """All rules are known again."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection has ended, for this reason. No rule is known."""

    reason: str


@dataclass(frozen=True, slots=True)
class PortsSet:
    """`Upstream.ports` withholds others than before."""


Event = Followed | Changed | Paused | Resumed | Lost | PortsSet


class Upstream:
    """To the management socket at `path`, of the ovs-vswitchd whose control socket is `control`.

    `tell` is called with every event, in the event loop, in the order in which Open vSwitch made the changes. `own`
    gives the flow_mods that put Oko's own rules in place, which are sent, in one bundle, whenever the connection has
    been made. `rules` are those that are known, and `ports` their settings.
    """

    def __init__(self, path: Path, control: Unixctl, tell: Callable[[Event], None]) -> None:
        self.own: Callable[[], Sequence[FlowMod]] = lambda: (shim.DROP,)
        self.rules = PlainRules()
        self.ports = PortSettings()
        self._begun = False
        self._paused = False
        self._path = path
        self._control = control
        self._tell = tell
        self._management: Management | None = None
        self._complaint = ""
        self._packet_ins: list[Callable[[PacketIn], None]] = []
        # Drop as before, said in two ways.
        self._nudges = itertools.cycle((replace(shim.DROP, instructions=(ApplyActions(),)), shim.DROP))

    @property
    def complaint(self) -> str:
        """What keeps the connection from coming about; empty if nothing does."""
        return self._complaint

    @property
    def following(self) -> bool:
        """Whether `rules` are all that there are."""
        return self._begun and not self._paused

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        while True:
            ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            try:
                await self._begin(ended.set_result)
                reason = await ended
                log.warning("bridge at %s: the connection ended: %s: connecting again", self._path, reason)
            except OkoError as error:
                self._complain(str(error))
            finally:
                self._lose(ended.result() if ended.done() and not ended.cancelled() else "okod has ended it")
            await asyncio.sleep(_AGAIN)

    async def _begin(self, ended: Callable[[str], None]) -> None:
        """Connect, put Oko's own rules in place, and learn all others. Raises OkoError."""
        self._management = management = await Management.connect(self._path, self._hear, ended)
        await require_usual_fragments(management)
        management.send(Experimenter(_NICIRA, _SET_CONTROLLER_ID, bytes(6) + CONTROLLER_ID.to_bytes(2, "big")))
        # Without it Open vSwitch sends nothing unasked by this socket.
        management.send(SetConfig(miss_send_len=_MISS_SEND_LEN))
        await self.ports.begin(management)
        await management.change(self.own())
        monitor = FlowMonitor(1, _MONITORED, table_id=TABLE)
        management.send(MultipartRequest(FlowMonitorRequest((monitor,))))
        await management.barrier()
        self._complaint = ""
        self._begun = True
        self._tell(Followed())
        if self._paused:
            self._tell(Paused())

    def _lose(self, reason: str) -> None:
        management, self._management = self._management, None
        if management is not None:
            management.close()
        self.rules = PlainRules()
        self._paused = False
        if self._begun:
            self._begun = False
            self._tell(Lost(reason))

    def _complain(self, reason: str) -> None:
        """Say once what keeps the connection from coming about."""
        if reason != self._complaint:
            log.warning("bridge at %s: not connected: %s: trying again", self._path, reason)
            self._complaint = reason

    def _hear(self, message: Message) -> None:
        match message:
            case MultipartReply(FlowUpdates(updates)):
                changes = self.rules.apply(updates)
                # What is there at the beginning is no change, nor is what is told before all of it is.
                if changes and self._begun:
                    self._tell(Changed(tuple(changes)))
                if self._management and any(change.reason is DeletedReason.EVICTION for change in changes):
                    # Open vSwitch 3.1 does not tell of the flow that needed the room.
                    self._management.abandon("a flow was evicted for another, which is not told")
            case FlowMonitorPaused():
                self._paused = True
                if self._begun:
                    self._tell(Paused())
            case FlowMonitorResumed():
                self._paused = False
                if self._begun:
                    self._tell(Resumed())
            case PortStatus():
                if self.ports.hear(message) and self._begun:
                    self._tell(PortsSet())
            case PacketIn():
                for hear in self._packet_ins:
                    hear(message)

    # ---- what is asked of the bridge

    def _connected(self) -> Management:
        if self._management is None:
            raise AttachError(f"bridge at {self._path} is not connected: does ovs-vswitchd run?")
        return self._management

    async def barrier(self) -> None:
        """Return when every change that Open vSwitch has answered for, on whatever connection, has been told. Raises
        AttachError."""
        await self._connected().barrier()

    async def change(self, messages: Sequence[Message]) -> None:
        """Change Oko's own rules, all at once or, with RemoteError, not at all. Raises AttachError."""
        await self._connected().change(messages)

    async def report(self, body: RequestBody) -> ReplyBody:
        """The answer to a multipart request. Raises RemoteError, AttachError."""
        return await self._connected().report(body)

    async def settle(self) -> None:
        """Return when no packet that comes in from now on is decided by what the rules were before: a barrier does not
        wait for the datapath's flows. Takes 10 ms or so. Raises AttachError."""
        management = self._connected()
        for _ in range(_ROUNDS):
            waiting = asyncio.ensure_future(self._control.wait_for_dump())
            try:
                while not waiting.done():
                    management.send(next(self._nudges))
                    await asyncio.wait({waiting}, timeout=_NUDGE)
            finally:
                waiting.cancel()
            await waiting

    def listen(self, hear: Callable[[PacketIn], None]) -> Callable[[], None]:
        """Let `hear` be called with packets for CONTROLLER_ID, until the function that is returned is called."""
        self._packet_ins.append(hear)
        return lambda: self._packet_ins.remove(hear)
