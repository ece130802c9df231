"""What a figure was measured on."""

from __future__ import annotations

import os
import re
from datetime import date
from pathlib import Path


def machine() -> str:
    """Processor, cores, kernel and date in one line."""
    model = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    processor = model[1] if model else os.uname().machine
    return f"{processor}, {os.cpu_count()} cores, Linux {os.uname().release}, {date.today().isoformat()}"
