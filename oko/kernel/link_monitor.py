"""`LinkMonitor`: what happens to the interfaces of a network namespace, as rtnetlink(7) tells it."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from pyroute2.netlink.rtnl import RTM_DELLINK, RTM_GETLINK, RTM_NEWLINK
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from oko.errors import KernelError
from oko.kernel.libbpf import failure
from oko.kernel.netlink import ask

_GROUP_LINK = 1  # RTMGRP_LINK of <linux/rtnetlink.h>
_UP, _RUNNING = 1 << 0, 1 << 6  # IFF_UP, IFF_RUNNING of <linux/if.h>
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_ALIGNMENT = 4  # NLMSG_ALIGNTO, bytes
_RECEIVE = 1 << 16  # bytes: more than a notification takes
_ROUND = 256  # datagrams that one `read` takes from the socket


@dataclass(frozen=True, slots=True)
class LinkState:
    """An interface that exists, as it is now: new, renamed, up, down, with another MTU, or simply as it was.

    `mtu` is bytes without the Ethernet header, `mac` six bytes (none for a tunnel). `up` is what an administrator asked
    for, `running` whether the link carries packets (the carrier: for a veth, whether both ends are up).
    """

    index: int
    name: str
    mtu: int
    mac: bytes
    up: bool
    running: bool

    @property
    def live(self) -> bool:
        """Whether packets can leave by it."""
        return self.up and self.running


@dataclass(frozen=True, slots=True)
class LinkGone:
    """An interface that is no longer in this network namespace: deleted, or moved to another."""

    index: int


@dataclass(frozen=True, slots=True)
class ResyncNeeded:
    """Notifications were lost: ask `link_state` about every interface that matters."""


LinkEvent = LinkState | LinkGone | ResyncNeeded


class LinkMonitor:
    """Listens from now on, in the network namespace that the calling thread is in. Raises KernelError.

    The kernel tells of every change, at times more than once, and of changes that no LinkState shows: compare with what
    is known. Ask `link_state` after the monitor is made, not before, and nothing is missed in between. A veth's
    carrier is told at once, other devices' within a second (net/core/link_watch.c keeps those events apart).
    """

    def __init__(self) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        try:
            self._socket = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
        except OSError as error:
            raise failure("listening to rtnetlink", error.errno or errno.EIO) from None
        try:
            self._socket.bind((0, _GROUP_LINK))
        except OSError as error:
            self._socket.close()
            raise failure("listening to rtnetlink", error.errno or errno.EIO) from None

    def fileno(self) -> int:
        """A descriptor for epoll or an event loop's add_reader, readable while `read` has something to tell."""
        return self._socket.fileno()

    def read(self) -> list[LinkEvent]:
        """What has happened, in order; empty when nothing has. Never waits.

        When the socket had no room for a notification (ENOBUFS), those that are left in it are older than what was
        lost, so they are thrown away and the answer is a single ResyncNeeded. Raises KernelError.
        """
        events: list[LinkEvent] = []
        try:
            for _ in range(_ROUND):
                events.extend(_events(self._socket.recv(_RECEIVE)))
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise failure("listening to rtnetlink", error.errno or errno.EIO) from None
            self._drain()
            return [ResyncNeeded()]
        return events

    def close(self) -> None:
        """Stop listening. Closing twice is harmless."""
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _drain(self) -> None:
        """Empty the socket: only then does the kernel put notifications into it again (NETLINK_S_CONGESTED)."""
        while True:
            try:
                self._socket.recv(_RECEIVE)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise failure("listening to rtnetlink", error.errno or errno.EIO) from None


def link_state(index: int) -> LinkState | LinkGone:
    """The interface with this index in the calling thread's network namespace now. Raises KernelError."""
    message = ifinfmsg()
    message["index"] = index
    try:
        return _state(ask(message, RTM_GETLINK, f"interface number {index}"))
    except KernelError as error:
        if error.errno != errno.ENODEV:
            raise
        return LinkGone(index)


def _events(datagram: bytes) -> Iterator[LinkEvent]:
    """The events of one or more messages, one behind the other."""
    start = 0
    while start + _HEADER.size <= len(datagram):
        length, kind, *_ = _HEADER.unpack_from(datagram, start)
        if kind in {RTM_NEWLINK, RTM_DELLINK}:
            message = ifinfmsg(datagram[start : start + length])
            message.decode()
            # A bridge tells here, in its own family, which interfaces become its ports and cease to be: all remain.
            if message["family"] == socket.AF_UNSPEC:
                yield _state(message) if kind == RTM_NEWLINK else LinkGone(message["index"])
        start += -(-length // _ALIGNMENT) * _ALIGNMENT


def _state(message: Any) -> LinkState:
    """What an RTM_NEWLINK message says."""
    mac = message.get_attr("IFLA_ADDRESS") or ""
    return LinkState(
        index=message["index"],
        name=message.get_attr("IFLA_IFNAME"),
        mtu=message.get_attr("IFLA_MTU"),
        mac=bytes.fromhex(mac.replace(":", "")),
        up=bool(message["flags"] & _UP),
        running=bool(message["flags"] & _RUNNING),
    )
