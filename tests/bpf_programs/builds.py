"""The sample programs as every clang makes them for every -mcpu."""

from __future__ import annotations

import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.bpf_programs.harness import SOURCES, compiled

CLANGS = ("clang-14", "clang-16", "clang-19")
CPUS = ("v1", "v2", "v3")
PROGRAMS = ("blocklist", "firewall", "p0f", "token_bucket")


class Build(NamedTuple):
    """One program, as one compiler makes it."""

    program: str
    clang: str
    cpu: str

    def __str__(self) -> str:
        return f"{self.program}-{self.clang}-{self.cpu}"

    def path(self, directory: Path) -> Path:
        """The object file: one that is there already, else compiled into `directory`."""
        there = compiled()
        return there / f"{self}.o" if there else self.compile(directory)

    def compile(self, directory: Path) -> Path:
        """The object file, in `directory`. Raises CalledProcessError."""
        target = directory / f"{self}.o"
        include = [f"-isystem/usr/include/{platform.machine()}-linux-gnu", f"-I{SOURCES / 'include'}"]
        options = ["-O2", "-g", "-target", "bpf", f"-mcpu={self.cpu}", "-Wall", "-Wextra", "-Werror", *include]
        source = SOURCES / f"{self.program}.c"
        subprocess.run([self.clang, *options, "-c", str(source), "-o", str(target)], check=True)
        return target


BUILDS = [Build(program, clang, cpu) for program in PROGRAMS for clang in CLANGS for cpu in CPUS]


def compile_all(directory: Path) -> None:
    """The objects of BUILDS, but for compilers that are not installed. Raises CalledProcessError."""
    wanted = [one for one in BUILDS if shutil.which(one.clang)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda one: one.compile(directory), wanted))
