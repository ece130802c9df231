"""`LinkStats`: what an interface has counted, in the terms of an OpenFlow port statistics reply.

The numbers are those of rtnetlink's IFLA_STATS64. On a veth with XDP they hold every packet in both directions, also
those that a program received, dropped or redirected, so nothing has to be added from the driver's own statistics
(`ethtool -S`): each end adds up what its own NAPI received and what its peer's did. They differ from hardware in this:

- *Packets* sent to a veth are counted when the far end polls them, a moment after the redirect.
- *Bytes* are those of whole frames, with one exception: a veth end with an XDP program counts what the other end's
  stack sent (skb) without the Ethernet header, 14 bytes less per frame. So the `rx_bytes` of a port whose far end is
  a host are short by 14 times `rx_packets`. This is not mended here, because frames that the far end redirects by XDP
  are counted whole, and a port's own numbers do not tell how many of them there were.
- *Drops*: a frame is in the `tx_dropped` of the port it was redirected to when the far end's ring is full or the far
  end is down, but in the `rx_dropped` of the port it came in by when the port it was redirected to is down, or the
  far end does not poll. XDP_DROP is not a drop here: the packet was received.
- *Frames run through a program* by `oko.kernel.inject.run_through` were not received, and are not counted as such.
- *XDP_TX* towards a far end without an XDP program of its own is neither counted nor received until another frame is
  redirected there (veth_xdp_flush in drivers/net/veth.c). A redirect to the ingress port has no such trouble.

Other drivers count XDP as they please; their XDP_REDIRECT out of the interface may be missing from `tx_packets`.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass, fields

from pyroute2.netlink.rtnl import RTM_GETLINK
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from oko.errors import KernelError, PortError
from oko.kernel.netlink import ask


@dataclass(frozen=True, slots=True)
class LinkStats:
    """Counters since the interface was made, 64 bits each (struct rtnl_link_stats64 of <linux/if_link.h>).

    In the order of OpenFlow 1.3.5, section 7.3.5.6 (struct ofp_port_stats), which calls three of the errors
    ``rx_frame_err``, ``rx_over_err`` and ``rx_crc_err``. How long the port has been there the kernel does not tell.
    """

    rx_packets: int
    tx_packets: int
    rx_bytes: int
    tx_bytes: int
    rx_dropped: int
    tx_dropped: int
    rx_errors: int
    tx_errors: int
    rx_frame_errors: int
    rx_over_errors: int
    rx_crc_errors: int
    collisions: int


def link_stats(index: int) -> LinkStats:
    """The counters of the interface with this index in the calling thread's network namespace.

    Raises PortError when there is none, KernelError otherwise.
    """
    message = ifinfmsg()
    message["index"] = index
    try:
        answer = ask(message, RTM_GETLINK, f"interface number {index}")
    except KernelError as error:
        if error.errno != errno.ENODEV:
            raise
        raise PortError(f"interface number {index} does not exist in this network namespace: see 'ip link'") from None
    counted = answer.get_attr("IFLA_STATS64")
    return LinkStats(**{field.name: counted[field.name] for field in fields(LinkStats)})
