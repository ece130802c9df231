"""`Interface`: a network interface of the caller's network namespace, as rtnetlink tells it."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from oko.errors import KernelError, PortError

_UP = 1  # IFF_UP
_XDP_MODES = {1: "native", 2: "generic", 3: "offloaded", 4: "multiple"}  # XDP_ATTACHED_* of <linux/if_link.h>


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
    return _get(f"interface {name}", ifname=name)


def interface_at(index: int, *, namespace_id: int | None = None) -> Interface:
    """The interface with this index, here or in the namespace that this one knows as `namespace_id`.

    Raises PortError when there is none.
    """
    request: dict[str, Any] = {"index": index}
    if namespace_id is not None:
        request["target_netnsid"] = namespace_id
    return _get(f"interface number {index}", **request)


def set_up(index: int, up: bool = True) -> None:
    """Bring the interface up, or down. Raises KernelError."""
    try:
        with IPRoute() as netlink:
            netlink.link("set", index=index, state="up" if up else "down")
    except NetlinkError as error:
        message = f"setting interface number {index} {'up' if up else 'down'}: {os.strerror(error.code)}"
        raise KernelError(message, errno=error.code) from None


def _get(what: str, **request: Any) -> Interface:
    try:
        with IPRoute() as netlink:
            (answer,) = netlink.link("get", **request)
    except NetlinkError as error:
        if error.code == errno.ENODEV:
            raise PortError(f"{what} does not exist in this network namespace: see 'ip link'") from None
        raise KernelError(f"{what}: {os.strerror(error.code)}", errno=error.code) from None
    return _interface(answer)


def _interface(answer: Any) -> Interface:
    """The value that an RTM_NEWLINK message describes."""
    xdp = answer.get_attr("IFLA_XDP")
    mode = _XDP_MODES.get(xdp.get_attr("IFLA_XDP_ATTACHED") or 0) if xdp else None
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
