"""Namespaces for one process, so that a benchmark meets nobody and leaves nothing, however it ends."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

from oko.kernel.libbpf import failure

BPFFS = Path("/sys/fs/bpf")

_NEW_MOUNTS = 0x00020000  # CLONE_NEWNS of <linux/sched.h>
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET


def isolate() -> None:
    """Move this process, which must not have other threads, into network and mount namespaces of its own.

    The network has no interface but lo, and IPv6 is off for those to come, so that nobody sends frames of his own
    accord; at BPFFS an empty bpffs is mounted. All of it goes with the process. Raises KernelError.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_MOUNTS | _NEW_NETWORK) != 0:
        raise failure("making namespaces for the benchmark", ctypes.get_errno())
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "bpf", "bpf", BPFFS], check=True)
    for setting in Path("/proc/sys/net/ipv6/conf").glob("*/disable_ipv6"):
        setting.write_text("1")
