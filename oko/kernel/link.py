"""`Link`: a program attached to a network interface; it stays attached as long as the link exists."""

from __future__ import annotations

import ctypes
import errno
import resource
from ctypes import byref, c_uint32, c_uint64
from typing import NamedTuple

from oko.errors import PortError
from oko.kernel.descriptor import Descriptor
from oko.kernel.interface import Interface, interface_at
from oko.kernel.libbpf import LinkCreateOptions, attempt, call, failure, information, options
from oko.kernel.program import LoadedProgram

_ATTACH_XDP = 37  # BPF_XDP of enum bpf_attach_type
_ATTACH_EGRESS = 47  # BPF_TCX_EGRESS, since 6.6
_DRIVER_MODE = 1 << 2  # XDP_FLAGS_DRV_MODE of <linux/if_link.h>

VETH_MTU_LIMIT = resource.getpagesize() - 256 - 14 - 320
"""Bytes of MTU that a veth's peer may have: a page without XDP's headroom, the Ethernet header and the
skb_shared_info at the end (veth_xdp_set in drivers/net/veth.c, for programs without XDP frags)."""


class LinkInfo(NamedTuple):
    """`id` of the link, id of its program, and the interface: 0 when that is gone or the link is detached."""

    id: int
    program_id: int
    ifindex: int


class _LinkInfo(ctypes.Structure):
    """struct bpf_link_info with the union's members `xdp` and `tcx`, which begin alike, and room for the others."""

    _fields_ = [
        ("type", c_uint32),
        ("id", c_uint32),
        ("prog_id", c_uint32),
        ("alignment", c_uint32),
        ("ifindex", c_uint32),
        ("rest", c_uint64 * 6),
    ]


class Link(Descriptor):
    """A program on an interface. The kernel ends it with its last descriptor, at once, or its last pin, a moment
    later (see bpffs.remove_tree), or with the interface."""

    kind = "link"
    inode = "bpf-link"

    def info(self) -> LinkInfo:
        """What the link joins now."""
        info = _LinkInfo()
        information(self.fd, info, "reading a link's properties")
        return LinkInfo(info.id, info.prog_id, info.ifindex)

    def update(self, program: LoadedProgram) -> None:
        """Put another program in the place of the link's: each packet meets the one or the other (kernel 5.9). Raises
        KernelError."""
        call("bpf_link_update", self.fd, program.fd, None, what="updating a link")

    def detach(self) -> None:
        """Take the program off the interface now, whoever else holds the link. Raises KernelError."""
        call("bpf_link_detach", self.fd, what="detaching a link")


def attach_xdp(program: LoadedProgram, ifindex: int) -> Link:
    """Attach the program in native mode to an interface of the caller's network namespace (kernel 5.9).

    Raises PortError when the interface has an XDP program already, its driver has no native XDP, an MTU is
    too large or a queue is missing; KernelError otherwise.
    """
    described = options(LinkCreateOptions, flags=_DRIVER_MODE)
    fd = attempt("bpf_link_create", program.fd, ifindex, _ATTACH_XDP, byref(described))
    if fd >= 0:
        return Link(fd)
    interface = interface_at(ifindex)
    if reason := _reason(interface, -fd):
        raise PortError(f"port {interface.name}: {reason}")
    raise failure(f"attaching XDP to {interface.name}", -fd)


def attach_egress(program: LoadedProgram, ifindex: int) -> Link:
    """Attach a program of traffic control to what an interface of the caller's network namespace sends, before its
    queueing discipline (kernel 6.6), behind those that are there already. Frames that XDP redirects to the interface
    do not come by. Raises PortError when there is no such interface, KernelError otherwise."""
    described = options(LinkCreateOptions)
    fd = attempt("bpf_link_create", program.fd, ifindex, _ATTACH_EGRESS, byref(described))
    if fd < 0:
        if -fd == errno.ENODEV:
            interface_at(ifindex)
        raise failure(f"attaching to what interface number {ifindex} sends", -fd)
    return Link(fd)


def _reason(interface: Interface, error: int) -> str | None:
    """Why the interface does not take an XDP program. The kernel's own words for it reach only a tracepoint."""
    if error in {errno.EBUSY, errno.EEXIST} and interface.xdp_program_id is not None:
        return f"it already has an XDP program (id {interface.xdp_program_id}): detach that first"
    if error == errno.EOPNOTSUPP:
        return f"its driver ({interface.kind or 'unknown'}) has no native XDP"
    if interface.kind == "veth" and error == errno.ERANGE:
        return (
            f"the MTU of its peer is above {VETH_MTU_LIMIT}, the limit of native XDP on veth: "
            f"run 'ip link set dev PEER mtu {VETH_MTU_LIMIT}' in the peer's namespace"
        )
    if interface.kind == "veth" and error == errno.ENOSPC:
        return "it has fewer receive queues than its peer has transmit queues: make the pair with equal numbers"
    if error in {errno.EINVAL, errno.ERANGE, errno.E2BIG}:
        return f"its driver refuses native XDP, as a rule because of the MTU, which is {interface.mtu}: lower it"
    return None
