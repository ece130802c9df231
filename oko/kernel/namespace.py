"""Network namespaces: running a function inside one, and finding one among those that exist."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from pyroute2.netlink.rtnl import RTM_GETNSID
from pyroute2.netlink.rtnl.nsidmsg import nsidmsg

from oko.errors import KernelError
from oko.kernel.capabilities import Capability
from oko.kernel.libbpf import failure
from oko.kernel.netlink import ask

HERE = Path("/proc/thread-self/ns/net")
"""The network namespace of the calling thread."""

_CLONE_NEWNET = 0x40000000
_Result = TypeVar("_Result")


def run_in(path: str | Path, function: Callable[[], _Result]) -> _Result:
    """What `function` returns or raises in the network namespace at `path`, e.g. /run/netns/NAME.

    It runs in a thread made for it, because setns(2) moves one thread only: the caller stays where it is. In the
    caller's own namespace it just runs: to enter that again would take CAP_SYS_ADMIN, too.
    Raises KernelError when the namespace cannot be entered.
    """
    if inode(path) == inode():
        return function()
    results: list[_Result] = []
    errors: list[BaseException] = []

    def inside() -> None:
        try:
            _enter(path)
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=inside, name=f"in {path}")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _enter(path: str | Path) -> None:
    """Move the calling thread. Python 3.11 has no os.setns."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise failure(f"network namespace {path}", error.errno or 0) from None
    try:
        if libc.setns(fd, _CLONE_NEWNET) != 0:
            what = f"entering the network namespace {path}"
            raise failure(what, ctypes.get_errno(), needed=(Capability.SYS_ADMIN,))
    finally:
        os.close(fd)


def inode(path: str | Path = HERE) -> int:
    """The number that tells network namespaces apart while they exist. Raises KernelError."""
    try:
        return os.stat(path).st_ino
    except OSError as error:
        raise failure(f"network namespace {path}", error.errno or 0) from None


def namespaces() -> Iterator[tuple[Path, int]]:
    """Every network namespace that can be reached, once, as a path to it and its inode.

    Reachable are those with a name (`ip netns`, or mounted elsewhere in this mount namespace) and those with a process.
    """
    seen: set[int] = set()
    for path in (*_mounted(), *sorted(Path("/proc").glob("[0-9]*/ns/net"))):
        try:
            number = inode(path)
        except KernelError:  # a process that ended meanwhile
            continue
        if number not in seen:
            seen.add(number)
            yield path, number


def _mounted() -> Iterator[Path]:
    """Mount points of network namespaces: /proc/self/mountinfo, proc(5)."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        _, _, _, root, point, *_ = line.split(" ")
        if root.startswith("net:["):
            yield Path(re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), point))


def with_inode(number: int) -> Path | None:
    """A path to the reachable network namespace with this inode, None when there is none."""
    return next((path for path, found in namespaces() if found == number), None)


def with_id(number: int) -> Path | None:
    """A path to the reachable network namespace that the caller's own knows by this id, None when there is none.

    Ids are rtnetlink's (RTM_GETNSID), local to each namespace; IFLA_LINK_NETNSID is one.
    """
    for path, _ in namespaces():
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # a process that ended meanwhile
            continue
        try:
            message = nsidmsg()
            message["attrs"] = [("NETNSA_FD", fd)]
            answer = ask(message, RTM_GETNSID, f"network namespace {path}")
        except KernelError as error:
            if error.errno != errno.EINVAL:
                raise
            continue  # unmounted meanwhile: the path is of a file that is no namespace
        finally:
            os.close(fd)
        if answer.get_attr("NETNSA_NSID") == number:
            return path
    return None
