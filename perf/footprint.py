"""`footprint`: memory that switches take: their maps in the kernel, their processes, and this one."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Final

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_PROCESSES: Final = Path("/proc")


def footprint() -> int:
    """Bytes: of all BPF maps of the machine, and resident in this process and all that descend from it."""
    done = subprocess.run(["bpftool", "-j", "map", "show"], capture_output=True, text=True, check=True)
    maps: list[dict[str, int]] = json.loads(done.stdout)
    return sum(found.get("bytes_memlock", 0) for found in maps) + _resident(os.getpid())


def _resident(process: int) -> int:
    place = _PROCESSES / str(process)
    try:
        pages = int((place / "statm").read_text().split()[1])
        children = [child for task in (place / "task").iterdir() for child in (task / "children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return 0  # It ended meanwhile.
    return pages * _PAGE + sum(_resident(int(child)) for child in children)
