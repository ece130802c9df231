"""Making and deleting a pair of veth interfaces, such as a bridge's LOCAL port and the interface the host uses."""

from __future__ import annotations

import errno
import re

from pyroute2.netlink.rtnl import RTM_DELLINK, RTM_NEWLINK
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from oko.errors import KernelError, PortError
from oko.kernel.interface import Interface, interface, interface_at, set_up
from oko.kernel.link import VETH_MTU_LIMIT
from oko.kernel.netlink import create, tell
from oko.kernel.offloads import prepare

_SHORTEST_MTU = 68  # ETH_MIN_MTU of <linux/if_ether.h>, bytes
_LONGEST_NAME = 15  # IFNAMSIZ of <linux/if.h> without the final zero, bytes


def make_veth(port: str, peer: str, *, mtu: int = 1500) -> Interface:
    """A new pair in the calling thread's network namespace, both ends up; the answer is the end called `port`.

    `port` is the end for the switch: it can take an XDP program at once, because `peer`, the end for the host, has the
    offloads that such a port needs. `mtu` is bytes without the Ethernet header, of both ends.

    Raises PortError when a name is taken or no name for an interface, or the MTU is not one that XDP takes; KernelError
    otherwise. Nothing is left behind then.
    """
    for name in (port, peer):
        _require_name(name)
    if not _SHORTEST_MTU <= mtu <= VETH_MTU_LIMIT:
        raise PortError(f"interface {port}: MTU {mtu} is not within {_SHORTEST_MTU} to {VETH_MTU_LIMIT}, as XDP needs")
    message = ifinfmsg()
    ends = [[("IFLA_IFNAME", name), ("IFLA_MTU", mtu)] for name in (port, peer)]
    message["attrs"] = [
        *ends[0],
        (
            "IFLA_LINKINFO",
            {
                "attrs": [
                    ("IFLA_INFO_KIND", "veth"),
                    ("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", {"attrs": ends[1]})]}),
                ]
            },
        ),
    ]
    try:
        create(message, RTM_NEWLINK, f"making the veth pair {port} – {peer}")
    except KernelError as error:
        if error.errno != errno.EEXIST:
            raise
        raise PortError(
            f"making the veth pair {port} – {peer}: an interface of one of these names exists: see 'ip link'"
        ) from None
    made = interface(port)
    try:
        # First up, then the offloads: GRO that is turned on while its end is down does not make the veth driver tell
        # the other end, if that is up, that frames may be redirected to it (veth_set_features in drivers/net/veth.c).
        for name in (port, peer):
            set_up(interface(name).index)
        prepare(port)
        return interface(port)
    except BaseException:
        delete_veth(made.index)
        raise


def delete_veth(index: int) -> None:
    """Delete the pair that the interface with this index is an end of. Nothing happens when it is gone.

    Raises PortError when the interface is no veth, so that a number that was given out again harms nobody;
    KernelError otherwise.
    """
    try:
        found = interface_at(index)
    except PortError:
        return
    if found.kind != "veth":
        raise PortError(f"interface {found.name} is no veth: it is not deleted")
    message = ifinfmsg()
    message["index"] = index
    tell(message, RTM_DELLINK, f"deleting the veth {found.name}")


def _require_name(name: str) -> None:
    """Raises PortError for what the kernel does not take as a name (dev_valid_name in net/core/dev.c), or takes as the
    pattern of one (``%``)."""
    if not 0 < len(name.encode()) <= _LONGEST_NAME or name in {".", ".."} or re.search(r"[/:%\s]", name):
        raise PortError(
            f"{name!r} is no name for an interface: 1 to {_LONGEST_NAME} bytes without '/', ':', '%' and spaces are"
        )
