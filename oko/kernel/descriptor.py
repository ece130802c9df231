"""`Descriptor`: a kernel object held by a file descriptor, the base of maps, programs, links and BTF."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from oko.errors import KernelError
from oko.kernel.libbpf import call


class Descriptor:
    """Owns `fd` until `close` or the end of its `with` block.

    The object itself lives on in the kernel as long as a pin, a link or another object refers to it.
    """

    kind: ClassVar[str]
    """What the object is called in messages."""
    inode: ClassVar[str]
    """What /proc/self/fd says of a descriptor of this kind, after ``anon_inode:``."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @property
    def fd(self) -> int:
        """The file descriptor. Raises KernelError once the object is closed."""
        if self._fd < 0:
            raise KernelError(f"this {self.kind} is closed", errno=errno.EBADF)
        return self._fd

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """The object pinned at `path`. Raises KernelError when there is none, or one of another kind."""
        fd = call("bpf_obj_get", os.fsencode(path), what=f"pinned {cls.kind} {path}")
        found = os.readlink(f"/proc/self/fd/{fd}").removeprefix("anon_inode:")
        if found != cls.inode:
            os.close(fd)
            raise KernelError(f"{path} is pinned as {found}, not as a {cls.kind}", errno=errno.EINVAL)
        try:
            return cls(fd)
        except BaseException:
            os.close(fd)
            raise

    def pin(self, path: str | Path) -> None:
        """Give the object a name on a bpffs, which keeps it alive. Raises KernelError when the name is taken."""
        call("bpf_obj_pin", self.fd, os.fsencode(path), what=f"pinning the {self.kind} at {path}")

    def close(self) -> None:
        """Let go of the object. Closing twice is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
