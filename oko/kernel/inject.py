"""Frames that user space makes: out of an interface, or through an XDP program as if an interface had received them.

Both know interfaces of the calling thread's network namespace only.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from ctypes import byref
from types import TracebackType
from typing import Self

from oko.errors import KernelError, PortError
from oko.kernel.libbpf import TestRunOptions, attempt, failure, options
from oko.kernel.program import LONGEST_TEST_FRAME

SHORTEST_FRAME = 14
"""Bytes of an Ethernet header: the kernel neither sends nor runs a frame without a whole one."""

LONGEST_LIVE_FRAME = LONGEST_TEST_FRAME - 2 * 56 - 40
"""Bytes of the longest frame that `run_through` takes: a live frame shares its page with the kernel's struct
xdp_page_head (net/bpf/test_run.c), which is two struct xdp_buff and, at first, a struct xdp_frame. 6.18 would take 40
bytes more; the limit is the same everywhere, so that a frame does not depend on the kernel."""

_TEST_LIVE_FRAMES = 1 << 1  # BPF_F_TEST_XDP_LIVE_FRAMES


class Injector:
    """Sends frames out of interfaces. One AF_PACKET socket per interface is kept open; none of them receives."""

    def __init__(self) -> None:
        self._sockets: dict[int, socket.socket] = {}

    def send(self, ifindex: int, frame: bytes) -> None:
        """Transmit the frame, from its Ethernet header on, as it is: nothing is padded, no checksum is filled in.

        XDP programs of the interface do not see it, as they do not see anything that leaves; the far end of a veth
        receives it as from the host's stack. The frame may be as long as the MTU, the Ethernet header (14 bytes) and,
        if its type is 0x8100, one VLAN tag (4 bytes). Never waits.

        Raises PortError when the interface is gone or down, the frame is too short or too long for it, or its queue is
        full; KernelError otherwise.
        """
        try:
            self._socket(ifindex).send(frame)
        except OSError as error:
            if error.errno in {errno.ENXIO, errno.ENODEV}:  # the socket stays dead if the number is given out again
                self.forget(ifindex)
            raise _refusal(ifindex, frame, error.errno or errno.EIO) from None

    def forget(self, ifindex: int) -> None:
        """Close the socket of an interface that is a port no longer. Harmless when there is none."""
        if (handle := self._sockets.pop(ifindex, None)) is not None:
            handle.close()

    def close(self) -> None:
        """Close every socket. Closing twice is harmless."""
        for ifindex in tuple(self._sockets):
            self.forget(ifindex)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _socket(self, ifindex: int) -> socket.socket:
        if (known := self._sockets.get(ifindex)) is not None:
            return known
        # Protocol 0: the socket is given nothing to receive.
        handle = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
        try:
            handle.bind((socket.if_indextoname(ifindex), 0))
        except OSError:
            handle.close()
            raise
        self._sockets[ifindex] = handle
        return handle


def run_through(program_fd: int, frame: bytes, ifindex: int) -> None:
    """Let an XDP program see the frame as if the interface `ifindex` had received it, and do what it says.

    Kernel 5.18. It is BPF_PROG_TEST_RUN with BPF_F_TEST_XDP_LIVE_FRAMES, once; it returns when the program has run and
    its redirect has been handed to the other interface, after 20 µs or so. What the kernel makes of it:

    - *Ingress.* The program reads `ifindex` as ``ingress_ifindex`` and 0 as ``rx_queue_index``. Any interface of the
      namespace will do, the loopback device (1) included, whatever its driver and also while it is down. It need not
      carry the program, and its own counters do not move.
    - *XDP_REDIRECT* is real, through devmaps (broadcast, too, where "exclude ingress" means `ifindex`) and by index,
      with the same demands on the target as always. *XDP_TX* is carried out as a redirect to `ifindex`.
    - *XDP_DROP* and XDP_ABORTED end the frame.
    - *XDP_PASS* hands the frame to the host's stack as received by `ifindex`. Nothing here can keep it from that, so
      the program must never return it, unless that is a port of Open vSwitch, which receives it then. Of Oko's
      pipelines only attached ones pass anything, and those take no frames from other interfaces.
    - *Which of these it was* is not told: the call succeeds whatever the program returned.
    - *Room.* The frame has XDP's whole headroom of 256 bytes and no metadata, as on a veth; it is one linear piece of
      SHORTEST_FRAME to LONGEST_LIVE_FRAME bytes, so frames beyond a page are refused, even those that XDP with frags
      would receive.

    Raises PortError when there is no such interface or the frame is too short or too long; KernelError otherwise.
    """
    if not SHORTEST_FRAME <= len(frame) <= LONGEST_LIVE_FRAME:
        raise PortError(
            f"a frame of {len(frame)} bytes cannot be run through a program: "
            f"{SHORTEST_FRAME} to {LONGEST_LIVE_FRAME} bytes can"
        )
    context = struct.pack("=6I", 0, len(frame), 0, ifindex, 0, 0)  # struct xdp_md: data_end, ingress_ifindex
    run = options(
        TestRunOptions,
        data_in=frame,
        data_size_in=len(frame),
        ctx_in=context,
        ctx_size_in=len(context),
        repeat=1,
        batch_size=1,
        flags=_TEST_LIVE_FRAMES,
    )
    result = attempt("bpf_prog_test_run_opts", program_fd, byref(run))
    if result == -errno.ENODEV:
        raise _gone(ifindex)
    if result < 0:
        raise failure("running a frame through a program", -result)


def _refusal(ifindex: int, frame: bytes, error: int) -> PortError | KernelError:
    """What the errno of a send means."""
    sending = f"sending {len(frame)} bytes out of interface number {ifindex}"
    if error in {errno.ENXIO, errno.ENODEV}:
        return _gone(ifindex)
    if error == errno.ENETDOWN:
        return PortError(f"{sending}: it is down: run 'ip link set up' on it")
    if error == errno.EMSGSIZE:
        return PortError(f"{sending}: the frame is longer than its MTU lets through")
    if error == errno.EINVAL and len(frame) < SHORTEST_FRAME:
        return PortError(f"{sending}: an Ethernet frame has at least {SHORTEST_FRAME}")
    if error in {errno.EAGAIN, errno.ENOBUFS}:
        return PortError(f"{sending}: its queue is full: send fewer frames at a time")
    return KernelError(f"{sending}: {os.strerror(error)}", errno=error)


def _gone(ifindex: int) -> PortError:
    return PortError(f"interface number {ifindex} does not exist in this network namespace: see 'ip link'")
