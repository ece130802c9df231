"""What the running kernel and the caller's rights allow, found out by trying."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass

from oko.errors import KernelError, NotSupported
from oko.kernel.program import LoadedProgram, load_program

_XDP_DROP = 1
_FRAME = bytes(14)


@dataclass(frozen=True, slots=True)
class Feature:
    """Something that not every kernel can do. `since` is the first version that can, as ``5.18``.

    `probe` tries it, and raises KernelError where it fails.
    """

    name: str
    since: str
    probe: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Support:
    """Whether the running kernel has the feature; if not, `reason` says so in one line."""

    feature: Feature
    reason: str | None

    def __bool__(self) -> bool:
        return self.reason is None


def _trivial_program() -> LoadedProgram:
    """The smallest XDP program: it drops everything."""
    move, leave = struct.pack("=BBhi", 0xB7, 0, 0, _XDP_DROP), struct.pack("=BBhi", 0x95, 0, 0, 0)
    return load_program("oko_probe", move + leave, "Apache-2.0", references={})


def _load_program() -> None:
    _trivial_program().close()


def _run_live_frames() -> None:
    with _trivial_program() as program:
        program.test_run_live(_FRAME, 1, batch=1)


XDP_PROGRAMS = Feature("XDP programs", "4.8", _load_program)
LIVE_FRAMES = Feature("test runs with live frames", "5.18", _run_live_frames)


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
    return f"{feature.name}: not supported by kernel {os.uname().release} (needs {feature.since} or later): {error}"
