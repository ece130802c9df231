"""Waiting until the programs that are running now have ended."""

from __future__ import annotations

import sys

from oko.kernel.maps import ARRAY, ARRAY_OF_MAPS, Map

_KEY = bytes(4)


def wait_for_programs() -> None:
    """Returns when every run of an XDP program that was in flight at the call has ended.

    Whatever a program could reach through a map before the call (an entry since overwritten, a program since taken
    from its slot) nobody uses any more afterwards. User space has no call for that wait as such, but after an update of
    a map of maps the kernel makes it for the caller's sake: maybe_wait_bpf_programs in kernel/bpf/syscall.c calls
    synchronize_rcu (since 4.20), and a program runs inside an RCU read-side section. Takes some tens of ms.
    Raises KernelError.
    """
    with (
        Map.create("grace_inner", ARRAY, 4, 4, 1) as inner,
        Map.create("grace", ARRAY_OF_MAPS, 4, 4, 1, inner=inner) as outer,
    ):
        outer.update(_KEY, inner.fd.to_bytes(4, sys.byteorder))
