"""What the running kernel and the caller's rights allow, found out by trying, and what Oko does where they do not."""

from __future__ import annotations

import errno
import mmap
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from oko.errors import KernelError, KernelRejected, NotSupported, PortError
from oko.kernel.capabilities import ALWAYS
from oko.kernel.libbpf import failure
from oko.kernel.link import attach_egress
from oko.kernel.maps import DEVMAP, Map
from oko.kernel.program import SCHED_CLS, LoadedProgram, load_program
from oko.kernel.ringbuf import RINGBUF

_FRAME = bytes(14)
_NAME = "oko_probe"
_XDP_ABORTED, _XDP_DROP = 0, 1
_REDIRECT_MAP = 51  # BPF_FUNC_redirect_map
_NO_INTERFACE = 0x7FFFFFFF  # the kernel gives out small numbers
_BROADCAST = 1 << 3  # BPF_F_BROADCAST


@dataclass(frozen=True, slots=True)
class Feature:
    """Something that not every kernel can do. `since` is the first version that can, as ``5.18``.

    `without` says what there is in its place, or what there is not then. `probe` tries the feature, and raises
    KernelError where that fails.
    """

    name: str
    since: str
    without: str
    probe: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Support:
    """Whether the running kernel has the feature; if not, `reason` says so in one line."""

    feature: Feature
    reason: str | None

    def __bool__(self) -> bool:
        return self.reason is None


def _op(code: int, register: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("=BBhi", code, register, 0, immediate)


def _set(register: int, value: int) -> bytes:
    return _op(0xB7, register, value)


_EXIT = _op(0x95)


def _trivial_program() -> LoadedProgram:
    """The smallest XDP program: it drops everything."""
    return load_program(_NAME, _set(0, _XDP_DROP) + _EXIT, "Apache-2.0", references={})


def _load_program() -> None:
    """Load the smallest program, and one that subtracts pointers, which the kernel lets only a thread with CAP_PERFMON
    do. What is not permitted is said of all that a bridge needs."""
    what = "loading XDP programs"
    subtract = _op(0xBF, 0 | 10 << 4) + _op(0x1F, 0 | 10 << 4) + _set(0, _XDP_DROP) + _EXIT
    try:
        _trivial_program().close()
    except KernelError as error:
        if error.errno == errno.EPERM:
            raise failure(what, errno.EPERM, needed=ALWAYS) from None
        raise
    try:
        load_program(_NAME, subtract, "Apache-2.0", references={}).close()
    except KernelRejected as error:
        raise failure(what, errno.EPERM, details=error.details, needed=ALWAYS) from None


def _make_ring_buffer() -> None:
    Map.create(_NAME, RINGBUF, 0, 0, mmap.PAGESIZE).close()


def _broadcast() -> None:
    """bpf_redirect_map answers XDP_ABORTED to a flag that it does not know."""
    redirect = _op(0x18, 1) + _op(0) + _set(2, 0) + _set(3, _BROADCAST) + _op(0x85, 0, _REDIRECT_MAP) + _EXIT
    with (
        Map.create(_NAME, DEVMAP, 4, 4, 1) as ports,
        load_program(_NAME, redirect, "Apache-2.0", references={0: (ports, None)}) as program,
    ):
        if program.test_run(_FRAME).retval == _XDP_ABORTED:
            raise KernelError("bpf_redirect_map does not know the flag", errno=errno.EINVAL)


def _run_live_frames() -> None:
    with _trivial_program() as program:
        program.test_run_live(_FRAME, 1, batch=1)


def _attach_to_egress() -> None:
    """A kernel says that there is no such interface only if it knows what would be attached to it."""
    accepting = _set(0, 0) + _EXIT
    made = load_program(_NAME, accepting, "Apache-2.0", references={}, program_type=SCHED_CLS)
    with made as program, suppress(PortError):
        attach_egress(program, _NO_INTERFACE).close()


XDP_PROGRAMS = Feature("XDP programs", "4.8", "no bridge; the reference switch replays captures", _load_program)
RING_BUFFERS = Feature("ring buffers", "5.8", "no bridge, whose packets may be for the controller", _make_ring_buffer)
BROADCAST = Feature("redirection to several ports", "5.14", "no bridge, whose packets may be for many", _broadcast)
LIVE_FRAMES = Feature(
    "test runs with live frames", "5.18", "no packet-out to TABLE, and no traffic for measurements", _run_live_frames
)

EGRESS_PROGRAMS = Feature(
    "links of programs on egress",
    "6.6",
    "no guard at the ports of an attached bridge that drops shims on their way out",
    _attach_to_egress,
)

FEATURES = (XDP_PROGRAMS, RING_BUFFERS, BROADCAST, LIVE_FRAMES)
"""What Oko asks of a kernel, by age. Linux 6.1 has all of it."""

OPTIONAL = (EGRESS_PROGRAMS,)
"""What Oko uses where a kernel has it."""


def probe(feature: Feature) -> Support:
    """Try the feature."""
    try:
        feature.probe()
    except KernelError as error:
        return Support(feature, _reason(feature, error))
    return Support(feature, None)


def require(feature: Feature) -> None:
    """Raises NotSupported unless the feature is there."""
    if (reason := probe(feature).reason) is not None:
        raise NotSupported(reason, errno=errno.EOPNOTSUPP)


def can_load_bpf() -> str | None:
    """None when this process may load XDP programs, otherwise why not, in one line."""
    return probe(XDP_PROGRAMS).reason


def _reason(feature: Feature, error: KernelError) -> str:
    if error.errno == errno.EPERM:
        return str(error)
    return (
        f"{feature.name}: not supported by kernel {os.uname().release} (needs {feature.since} or later), "
        f"hence {feature.without}: {error}"
    )
