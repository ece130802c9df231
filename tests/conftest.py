"""What all tests share: Hypothesis without deadlines, the right to load BPF, a private bpffs, network namespaces."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

from oko.kernel.features import can_load_bpf
from oko.kernel.namespace import run_in

# An example that takes long says nothing on a machine that does other things too.
settings.register_profile("oko", deadline=None)
settings.load_profile("oko")

reason_without_bpf = cache(can_load_bpf)
WITHOUT_IPV6 = Path("/proc/sys/net/ipv6/conf/default/disable_ipv6")


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
    """``namespace("client")`` makes a network namespace and returns its path, which ends in its unique name.

    IPv6 is off in it until somebody turns it on, so that nobody sends frames of his own accord.
    """
    made: list[str] = []
    numbers = itertools.count(1)

    def make(label: str) -> Path:
        name = f"oko-{os.getpid()}-{next(numbers)}-{label}"
        subprocess.run(["ip", "netns", "add", name], check=True)
        made.append(name)
        path = Path("/run/netns") / name
        run_in(path, lambda: WITHOUT_IPV6.write_text("1"))
        return path

    try:
        yield make
    finally:
        for name in made:
            subprocess.run(["ip", "netns", "delete", name], check=True)
