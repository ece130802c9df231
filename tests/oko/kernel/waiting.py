"""Waiting for what the kernel does in its own time."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.patience import patience


def wait_until(condition: Callable[[], bool], *, seconds: float = 10) -> None:
    """Returns as soon as the condition holds; fails when it never does."""
    seconds = patience(seconds)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"did not happen within {seconds} s"
        time.sleep(0.001)  # the processor is for what is waited for
