"""`NearEnd`: what attaching needs of the ends of a bridge's ports on this side, and how they get back what they had.

Open vSwitch's datapath in user space reads a port through a packet socket, with room for a frame of the interface's
MTU: 18 bytes more, without the outermost VLAN tag of a frame, which the kernel hands over beside it. A packet behind a
shim is 22 bytes longer, and its tag is not the outermost thing any more. Where its frame does not fit, Open vSwitch
drops it and counts it nowhere (netdev_linux_rxq_recv in netdev-linux.c of Open vSwitch 3.1). So the MTU of a port is
raised by 26 bytes: all that Open vSwitch took before then fits behind a shim. What GRO has put together does not.

Open vSwitch gives its internal interfaces the least MTU of the other ports, and would give them the raised one: the
host would send frames that no port could have sent before. So those interfaces are held at theirs.

The kernel's datapath takes what the interface received, and has no such limits.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self

from oko.attached.ovsdb.description import OvsInterface
from oko.attached.ovsdb.transaction import NOTHING, Cell, change, read
from oko.errors import AttachError, KernelError, PortError
from oko.flow.headers import TAG
from oko.flow.shim import SIZE
from oko.kernel import offloads as far_end
from oko.kernel.ethtool import offloads, set_offloads
from oko.kernel.interface import Interface, interface_at, set_mtu
from oko.kernel.offloads import SavedOffloads

USER_SPACE: Final = "netdev"
"""The type of datapath that is in user space."""
MERGING: Final = ("rx-gro", "rx-gro-hw", "rx-lro")
"""The offloads that make one frame of several, by the kernel's names."""
_INTERNAL: Final = "internal"
GROWTH: Final = SIZE + TAG
"""Bytes by which the MTU of a port is raised."""
_HEADERS: Final = 14 + TAG
"""Bytes of an Ethernet header with a VLAN tag: so much more than its MTU Open vSwitch has room for."""


@dataclass(frozen=True, slots=True)
class NearEnd:
    """An interface of a port as it was when nothing had been prepared yet.

    `mtu` is the kernel's, bytes without the Ethernet header, and `growth` by how much it is to be raised; `mtu_request`
    is Open vSwitch's column. An `internal` one is to be held at its MTU. `merging` are the offloads that are to be
    turned off and what somebody wanted them to be, `peer` the far end of a veth.
    """

    name: str
    ifindex: int
    mtu: int
    mtu_request: int | None = None
    internal: bool = False
    growth: int = 0
    merging: dict[str, bool] = field(default_factory=dict)
    peer: SavedOffloads | None = None

    @property
    def longest(self) -> int | None:
        """Bytes of the longest frame that Open vSwitch took from this interface, without its outermost VLAN tag; None
        where it has no limit of its own."""
        return self.mtu + _HEADERS if self.growth else None

    @property
    def requested(self) -> int | None:
        """What `mtu_request` is to be."""
        if self.internal:
            return self.mtu
        return None if self.mtu_request is None else self.mtu_request + self.growth

    def to_json(self) -> dict[str, Any]:
        """The value as json.dumps takes it."""
        return asdict(self)

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Self:
        """The value that `to_json` gave."""
        peer = saved["peer"]
        return cls(**{**saved, "peer": None if peer is None else SavedOffloads.from_json(peer)})


@dataclass(frozen=True, slots=True)
class NearEndChange:
    """That an end has been prepared, or is about to be, for a record on disk: `end` is a NearEnd's `to_json`, and
    `database` the path of OVSDB's socket."""

    end: dict[str, Any]
    database: str

    def __str__(self) -> str:
        return f"interface {self.end['name']}"


def undo(change: NearEndChange) -> None:
    """`restore` the end, without waiting for ovs-vswitchd: it need not run. Doing so again, or when nothing had been
    changed yet, does no harm. To be called in the network namespace of the interface, outside of an event loop. Raises
    AttachError when something cannot be given back now."""
    try:
        asyncio.run(restore(NearEnd.from_json(change.end), Path(change.database), wait=False))
    except (PortError, KernelError) as error:
        raise AttachError(str(error), details=error.details) from None


def survey(interface: OvsInterface, datapath_type: str, prepared: Iterable[NearEnd] = ()) -> NearEnd | None:
    """What `prepare` would change, as it is now: nothing is changed. None where there is nothing to change, and of an
    interface that is not there yet. `prepared` are the ends of the bridge that have grown already, and the internal
    interface with them if nobody held it.

    To be called in the network namespace of the interface. Raises PortError when it cannot be prepared.
    """
    user_space = datapath_type == USER_SPACE
    if interface.type == _INTERNAL:
        if not user_space or interface.ifindex is None or interface.mtu_request is not None:
            return None
        now = _as_opened(interface.name, interface.ifindex)
        least = min([now.mtu, *(end.mtu for end in prepared if end.growth)])
        return NearEnd(interface.name, now.index, least, internal=True)
    if interface.ifindex is None or interface.without_xdp:
        return None
    now = _as_opened(interface.name, interface.ifindex)
    return NearEnd(
        interface.name,
        now.index,
        now.mtu,
        interface.mtu_request,
        growth=GROWTH if user_space else 0,
        merging={name: state.wanted for name, state in _merging(now).items()} if user_space else {},
        peer=far_end.inspect(interface.name),
    )


def _as_opened(name: str, ifindex: int) -> Interface:
    """The interface that Open vSwitch has opened."""
    found = interface_at(ifindex)
    if found.name != name:
        raise PortError(
            f"port {name}: interface number {ifindex} is called {found.name} here: okod has to run in the network "
            "namespace of ovs-vswitchd"
        )
    return found


async def followed(end: NearEnd, interface: OvsInterface, database: Path, least: int | None) -> NearEnd:
    """The end as it is to be from now on. It is another one if somebody has changed the interface's MTU, or what Open
    vSwitch is asked to keep it at, since it was prepared: that is the MTU of the network now. An internal one is to be
    held at `least`, unless that is None or somebody asks for another.

    `interface` is what OVSDB said last. To be called in the network namespace of the interface. Raises PortError for
    one that is gone, AttachError for the database.
    """
    held = end.mtu + end.growth
    if least is None and (interface.mtu, interface.mtu_request) == (held, end.requested):
        return end
    found = await read(database, _cell(end))
    requested = found if isinstance(found, int) else None
    if end.internal:
        if requested is not None and requested != end.requested:
            return replace(end, mtu=requested, mtu_request=requested)
        if requested is None or end.mtu_request is None:
            return replace(end, mtu=least or end.mtu, mtu_request=None)
        return end
    now = interface_at(end.ifindex).mtu
    if requested is not None:
        # Open vSwitch puts back what somebody sets past it.
        return end if requested == end.requested else replace(end, mtu=requested, mtu_request=requested)
    return replace(end, mtu=end.mtu if now == held else now, mtu_request=None)


def in_order(ends: Iterable[NearEnd]) -> list[NearEnd]:
    """The order to prepare them in, and, reversed, to restore them in: what is held is held before anything grows."""
    return sorted(ends, key=lambda end: not end.internal)


async def prepare(end: NearEnd, database: Path) -> None:
    """Make the end as it needs to be; doing so again does no harm. `database` is OVSDB's socket.

    To be called in the network namespace of the interface. Raises PortError when the end cannot be made so, and says
    what would; AttachError for the database. What has been changed by then is given back.
    """
    try:
        await _prepare(end, database)
    except BaseException:
        await restore(end, database)
        raise


async def _prepare(end: NearEnd, database: Path) -> None:
    if end.requested is not None and end.requested != end.mtu_request:
        await _request(end, database)
    now = interface_at(end.ifindex)
    wanted = end.mtu + end.growth
    if end.requested is None and now.mtu == end.mtu != wanted:
        _raise_mtu(end, wanted)
    elif now.mtu != wanted:
        raise PortError(
            f"port {end.name}: its MTU is {now.mtu} and should be {wanted} for Open vSwitch to take what XDP passes to "
            "it: somebody else changes it, or its driver cannot have as much: see 'ip -d link show' and the log of "
            "ovs-vswitchd"
        )
    if end.growth:
        _stop_merging(end, now)
    if end.peer is not None:
        far_end.prepare(end.name)


async def restore(end: NearEnd, database: Path, *, wait: bool = True) -> None:
    """Give back what `prepare` changed, as far as nobody has changed it since; nothing happens to an interface that is
    gone. With `wait`, until ovs-vswitchd has done its part.

    To be called in the network namespace of the interface. Raises AttachError for the database, and PortError or
    KernelError when the kernel does not take something back; what can be given back has been.
    """
    try:
        _restore_here(end)
    finally:
        if end.requested is not None and end.requested != end.mtu_request:
            await change(database, _cell(end), end.requested, _optional(end.mtu_request), wait=wait)


def _restore_here(end: NearEnd) -> None:
    if end.peer is not None:
        far_end.restore(end.peer)
    try:
        now = interface_at(end.ifindex)
    except PortError:
        return
    if now.name != end.name:
        return
    if end.growth and end.requested is None and now.mtu == end.mtu + end.growth:
        set_mtu(end.ifindex, end.mtu)
    if end.merging:
        set_offloads(end.name, end.merging)


async def _request(end: NearEnd, database: Path) -> None:
    """Let Open vSwitch set the MTU: it would put back any other."""
    cell = _cell(end)
    found = await read(database, cell)
    if found == end.requested:
        return
    if not await change(database, cell, _optional(end.mtu_request), end.requested):
        raise PortError(f"port {end.name}: its mtu_request is {found} now: somebody else changes it: try again")


def _raise_mtu(end: NearEnd, wanted: int) -> None:
    try:
        set_mtu(end.ifindex, wanted)
    except KernelError as error:
        if error.errno not in (errno.EINVAL, errno.ERANGE, errno.EOPNOTSUPP, errno.ENOTSUP):
            raise
        raise PortError(
            f"port {end.name}: its MTU of {end.mtu} cannot be raised to {wanted}, as a shim needs: lower that of its "
            f"network and run 'ip link set dev {end.name} mtu {end.mtu - end.growth}', or take it out of the bridge"
        ) from None


def _stop_merging(end: NearEnd, now: Interface) -> None:
    active = dict.fromkeys(_merging(now), False)
    if not active:
        return
    set_offloads(end.name, active)
    if stubborn := [name for name, state in _merging(now).items() if state.active]:
        command = " ".join(f"{name} off" for name in stubborn)
        raise PortError(
            f"port {end.name}: it keeps {', '.join(stubborn)} on, and Open vSwitch would lose the frames that are put "
            f"together: run 'ethtool -K {end.name} {command}', or use the kernel's datapath (datapath_type=system)"
        )


def _merging(now: Interface) -> dict[str, Any]:
    """The offloads of MERGING that are on, or are wanted to be."""
    found = offloads(now.name)
    return {name: found[name] for name in MERGING if name in found and (found[name].wanted or found[name].active)}


def _cell(end: NearEnd) -> Cell:
    return Cell("Interface", "name", end.name, "mtu_request")


def _optional(value: int | None) -> Any:
    return NOTHING if value is None else value
