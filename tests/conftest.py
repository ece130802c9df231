"""Fixtures of every test that touches Linux: the right to load BPF, a private bpffs, network namespaces."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

from oko.kernel.features import can_load_bpf

reason_without_bpf = cache(can_load_bpf)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked needs_bpf where programs cannot be loaded; in CI that is a failure."""
    if item.get_closest_marker("needs_bpf") is None or (reason := reason_without_bpf()) is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"needs BPF, and CI must have it: {reason}", pytrace=False)
    pytest.skip(f"needs BPF: {reason}")


@pytest.fixture
def bpffs(tmp_path: Path) -> Iterator[Path]:
    """A directory with an empty BPF file system of its own."""
    place = tmp_path / "bpf"
    place.mkdir()
    subprocess.run(["mount", "-t", "bpf", "bpf", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


@pytest.fixture
def namespace() -> Iterator[Callable[[str], Path]]:
    """``namespace("client")`` makes a network namespace and returns its path, which ends in its unique name."""
    made: list[str] = []
    numbers = itertools.count(1)

    def make(label: str) -> Path:
        name = f"oko-{os.getpid()}-{next(numbers)}-{label}"
        subprocess.run(["ip", "netns", "add", name], check=True)
        made.append(name)
        return Path("/run/netns") / name

    try:
        yield make
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "delete", name], check=True)
