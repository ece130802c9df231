"""Fixtures that compile the C programs beside the tests."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent
Compile = Callable[..., bytes]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """``compiled("accepted/NAME", "-mcpu=v4", clang="clang-19")`` compiles a program and returns its object file.

    `make test` installs one clang; a test that asks for another is skipped where that is not installed.
    """
    directory = tmp_path_factory.mktemp("objects")

    @cache
    def build(name: str, *flags: str, clang: str = "clang") -> bytes:
        if shutil.which(clang) is None:
            pytest.skip(f"{clang} is not installed")
        target = directory / "object.o"
        include = f"/usr/include/{platform.machine()}-linux-gnu"
        options = ["-O2", "-g", "-target", "bpf", "-mcpu=v3", "-isystem", include, *flags]
        subprocess.run([clang, *options, "-c", HERE / f"{name}.c", "-o", target], check=True)
        return target.read_bytes()

    return build
