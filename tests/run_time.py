"""The one setting of the whole kernel that tests change: whether it measures the run time of BPF programs."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_STATS_ENABLED: Final = Path("/proc/sys/kernel/bpf_stats_enabled")


@contextmanager
def run_time(measured: bool) -> Iterator[None]:
    """Have the kernel measure it, or not; tests in other processes that want it otherwise wait until then."""
    with _STATS_ENABLED.open() as setting:
        fcntl.flock(setting, fcntl.LOCK_EX)
        before = _STATS_ENABLED.read_text()
        _STATS_ENABLED.write_text(str(int(measured)))
        try:
            yield
        finally:
            _STATS_ENABLED.write_text(before)
