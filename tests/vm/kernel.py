"""`Kernel`: Debian's kernel for clouds, downloaded and unpacked, never installed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from oko.errors import NotSupported

SERIES = "6.1"
META_PACKAGE = "linux-image-cloud-amd64"
"""Depends on the newest kernel of the release; its own file is empty."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel in `directory`, laid out as in its package. `release` is what ``uname -r`` says on it."""

    release: str
    directory: Path

    @property
    def image(self) -> Path:
        return self.directory / "boot" / f"vmlinuz-{self.release}"

    @property
    def modules(self) -> Path:
        return self.directory / "lib" / "modules" / self.release

    def closure(self, *names: str) -> list[Path]:
        """The files of these modules and of what they depend on, in the order in which insmod wants them.

        Raises NotSupported for a module that this kernel does not have.
        """
        needs = dict(self._dependencies())
        files: dict[str, None] = {}
        for name in names:
            file = next((file for file in needs if Path(file).stem == name), None)
            if file is None:
                raise NotSupported(f"kernel {self.release} has no module {name}: the guest cannot be booted with it")
            # modules.dep names what must be loaded first last.
            files |= dict.fromkeys([*reversed(needs[file]), file])
        return [self.modules / file for file in files]

    def _dependencies(self) -> Iterator[tuple[str, list[str]]]:
        for line in (self.modules / "modules.dep").read_text().splitlines():
            file, _, others = line.partition(":")
            yield file, others.split()


def debian_kernel(directory: Path) -> Kernel:
    """The newest kernel of the series that apt knows, in `directory`; downloaded unless it is there already.

    Raises NotSupported where there is none, or where it cannot be downloaded.
    """
    package = _package()
    kernel = Kernel(package.removeprefix("linux-image-"), directory / package)
    if not kernel.directory.exists():
        unfinished = directory / f"{package}.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        _run("apt-get", "download", "-qq", "-o", "APT::Sandbox::User=root", package, cwd=unfinished)
        (archive,) = unfinished.glob("*.deb")
        _run("dpkg", "-x", archive, unfinished)
        archive.unlink()
        _run("depmod", "-b", unfinished, kernel.release)
        unfinished.rename(kernel.directory)
    return kernel


def _package() -> str:
    wanted = f"linux-image-{SERIES}."
    for line in _run("apt-cache", "depends", META_PACKAGE).splitlines():
        if (name := line.rpartition(" ")[2]).startswith(wanted):
            return name
    raise NotSupported(
        f"apt knows no package {wanted}*-cloud-amd64 by way of {META_PACKAGE}: "
        "run 'apt-get update' on Debian 12, whose kernel that is"
    )


def _run(*command: str | Path, cwd: Path | None = None) -> str:
    try:
        return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout
    except FileNotFoundError as error:
        raise NotSupported(f"{command[0]} is not there, which Debian has (depmod: in the package kmod)") from error
    except subprocess.CalledProcessError as error:
        raise NotSupported(f"'{' '.join(map(str, command))}' failed", details=error.stderr) from error
