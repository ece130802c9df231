"""The BPF file system: where it must be mounted, what its names may be, and how a tree of pins is removed."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from pathlib import Path
from urllib.parse import unquote

from oko.errors import KernelError
from oko.kernel.libbpf import failure

_MAGIC = 0xCAFE4A11  # BPF_FS_MAGIC of <linux/magic.h>
_STATFS_SIZE = 256  # bytes: more than struct statfs takes on any architecture


def is_bpffs(path: str | Path) -> bool:
    """Whether `path` lies on a bpffs. Raises KernelError when it does not exist."""
    libc = ctypes.CDLL(None, use_errno=True)
    status = ctypes.create_string_buffer(_STATFS_SIZE)
    if libc.statfs(os.fsencode(path), status) != 0:
        raise failure(f"{path}", ctypes.get_errno())
    return ctypes.c_ulong.from_buffer(status).value & 0xFFFFFFFF == _MAGIC


def require_bpffs(path: str | Path) -> None:
    """Raises KernelError unless `path`, or where it is still to be made its nearest existing parent, is on a bpffs."""
    place = Path(path).absolute()
    while not place.exists():
        place = place.parent
    if not is_bpffs(place):
        raise KernelError(f"bpffs is not mounted at {path}: run 'mount -t bpf bpf {path}'", errno=errno.ENOTSUP)


def pin_name(name: str) -> str:
    """`name` as a file name on a bpffs, which reserves dots (and slashes): both, and the percent sign, as %XX."""
    return "".join(f"%{ord(letter):02X}" if letter in "%./" else letter for letter in name)


def named_by(pin: str) -> str:
    """The name that `pin_name` made `pin` of."""
    return unquote(pin)


def make_directory(path: str | Path) -> None:
    """Make a directory on a bpffs, with its parents, for the owner only; one that exists stays as it is.

    Raises KernelError.
    """
    require_bpffs(path)
    try:
        Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise failure(f"making the directory {path}", error.errno or errno.EIO) from None


def remove_pin(path: str | Path) -> None:
    """Remove one pin; none there is fine. Raises KernelError."""
    try:
        Path(path).unlink(missing_ok=True)
    except OSError as error:
        raise failure(f"removing {path}", error.errno or errno.EIO) from None


def remove_tree(path: str | Path) -> None:
    """Remove a directory of pins with everything in it; none there is fine.

    The kernel lets go of the objects a moment later (bpffs frees its inodes after an RCU grace period): a link whose
    end must be certain wants `Link.detach` first. Raises KernelError, also when `path` is not on a bpffs.
    """
    if not Path(path).exists():
        return
    require_bpffs(path)
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise failure(f"removing {error.filename or path}", error.errno or errno.EIO) from None
