"""`Interface`: a network interface of the caller's network namespace, as rtnetlink tells it."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass
from typing import Any

from pyroute2.netlink.rtnl import RTM_GETLINK, RTM_SETLINK
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from oko.errors import KernelError, PortError
from oko.kernel.netlink import ask, tell

_UP = 1  # IFF_UP
# What pyroute2 calls XDP_ATTACHED_* of <linux/if_link.h>, in plain words.
_XDP_MODES = {"xdp": "native", "xdpgeneric": "generic", "xdpoffload": "offloaded", "xdpmulti": "multiple"}


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface at the moment of asking.

    `mtu` is bytes without the Ethernet header, `mac` six bytes. `kind` is rtnetlink's word, e.g. ``veth``, empty for
    hardware. `xdp_mode` is ``native``, ``generic``, ``offloaded`` or ``multiple``, None without a program.
    `peer_index` is the interface below this one or, for a veth, the far end; `peer_namespace_id` is the number that
    this namespace knows the peer's namespace by, None when it is this namespace.
    """

    name: str
    index: int
    mtu: int
    mac: bytes
    up: bool
    kind: str
    xdp_mode: str | None = None
    xdp_program_id: int | None = None
    peer_index: int | None = None
    peer_namespace_id: int | None = None


def interface(name: str) -> Interface:
    """The interface called `name`. Raises PortError when there is none."""
    message = ifinfmsg()
    message["attrs"] = [("IFLA_IFNAME", name)]
    return _get(message, f"interface {name}")


def interface_at(index: int, *, namespace_id: int | None = None) -> Interface:
    """The interface with this index, here or in the namespace that this one knows as `namespace_id`.

    Raises PortError when there is none.
    """
    message = ifinfmsg()
    message["index"] = index
    if namespace_id is not None:
        message["attrs"] = [("IFLA_IF_NETNSID", namespace_id)]
    return _get(message, f"interface number {index}")


def exists(index: int) -> bool:
    """Whether the caller's network namespace has an interface with this index."""
    try:
        socket.if_indextoname(index)
    except OSError:
        return False
    return True


def set_up(index: int, up: bool = True) -> None:
    """Bring the interface up, or down. Raises KernelError."""
    message = ifinfmsg()
    message["index"] = index
    message["flags"] = _UP if up else 0
    message["change"] = _UP
    tell(message, RTM_SETLINK, f"setting interface number {index} {'up' if up else 'down'}")


def set_mtu(index: int, mtu: int) -> None:
    """Set the MTU of the interface, bytes without the Ethernet header. Raises KernelError, with EINVAL when it cannot
    have as much or as little."""
    message = ifinfmsg()
    message["index"] = index
    message["attrs"] = [("IFLA_MTU", mtu)]
    tell(message, RTM_SETLINK, f"setting the MTU of interface number {index} to {mtu}")


def _get(message: Any, what: str) -> Interface:
    try:
        return _interface(ask(message, RTM_GETLINK, what))
    except KernelError as error:
        if error.errno != errno.ENODEV:
            raise
        raise PortError(f"{what} does not exist in this network namespace: see 'ip link'") from None


def _interface(answer: Any) -> Interface:
    """The value that an RTM_NEWLINK message describes."""
    xdp = answer.get_attr("IFLA_XDP")
    mode = _XDP_MODES.get(xdp.get_attr("IFLA_XDP_ATTACHED")) if xdp else None
    information = answer.get_attr("IFLA_LINKINFO")
    mac = answer.get_attr("IFLA_ADDRESS") or ""
    return Interface(
        name=answer.get_attr("IFLA_IFNAME"),
        index=answer["index"],
        mtu=answer.get_attr("IFLA_MTU"),
        mac=bytes.fromhex(mac.replace(":", "")),
        up=bool(answer["flags"] & _UP),
        kind=(information.get_attr("IFLA_INFO_KIND") or "") if information else "",
        xdp_mode=mode,
        xdp_program_id=xdp.get_attr("IFLA_XDP_PROG_ID") if mode else None,
        peer_index=answer.get_attr("IFLA_LINK"),
        peer_namespace_id=answer.get_attr("IFLA_LINK_NETNSID"),
    )
