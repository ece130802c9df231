"""One request to rtnetlink and its answer, blocking, in the calling thread's network namespace.

pyroute2 codes the messages, but its sockets run an event loop of their own, which a caller that is inside one
already cannot have; a request and its answer need no loop.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Any, TypeVar

from oko.errors import KernelError

_ERROR = 2  # NLMSG_ERROR of <linux/netlink.h>
_REQUEST, _ACKNOWLEDGE = 1, 4  # NLM_F_REQUEST, NLM_F_ACK
_EXCLUSIVE, _CREATE = 0x200, 0x400  # NLM_F_EXCL, NLM_F_CREATE
_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_RECEIVE = 1 << 16  # bytes: more than one answer about one object takes
_Message = TypeVar("_Message", bound=Any)


def ask(message: _Message, kind: int, what: str) -> _Message:
    """Send the pyroute2 `message` as RTM_ `kind` and give back the answer, of the same class.

    Raises KernelError, beginning with `what`, with the errno that the kernel answers.
    """
    answer = _exchange(message, kind, _REQUEST, what)
    decoded: _Message = type(message)(answer)
    decoded.decode()
    return decoded


def tell(message: Any, kind: int, what: str) -> None:
    """Send the pyroute2 `message` as RTM_ `kind`, and wait until it is done. Raises KernelError as `ask`."""
    _exchange(message, kind, _REQUEST | _ACKNOWLEDGE, what)


def create(message: Any, kind: int, what: str) -> None:
    """As `tell`, for an object that must not be there yet. Raises KernelError as `ask`, with EEXIST when it is."""
    _exchange(message, kind, _REQUEST | _ACKNOWLEDGE | _EXCLUSIVE | _CREATE, what)


def _exchange(message: Any, kind: int, flags: int, what: str) -> bytes:
    message["header"] |= {"type": kind, "flags": flags, "sequence_number": 1, "pid": 0}
    message.encode()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as handle:
        handle.send(message.data)
        answer = handle.recv(_RECEIVE)
    _, answered, *_ = _HEADER.unpack_from(answer)
    if answered == _ERROR:
        (error,) = struct.unpack_from("=i", answer, _HEADER.size)  # 0 is the acknowledgement
        if error:
            raise KernelError(f"{what}: {os.strerror(-error)}", errno=-error)
    return answer
