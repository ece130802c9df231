"""How long tests wait for what must happen, before they fail."""

from __future__ import annotations

import os
from typing import Final

PATIENCE: Final = "OKO_PATIENCE"
"""The environment variable with a factor for all that waits by `patience`: 1 unless it is set. A virtual machine
without KVM takes many times as long for everything."""


def patience(seconds: float) -> float:
    """So many seconds here, where that is enough on a machine that is busy with other things too."""
    return seconds * float(os.environ.get(PATIENCE, "1"))
