"""What a wheel has beside the Python code: the BPF objects, compiled now, and the pages of `oko-verify --explain`.

An editable installation has neither; the tools find both in the source tree.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class BuildWithObjects(build_py):
    """Fails where the objects cannot be compiled: without them no switch starts."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        subprocess.run(["make", "--silent", "-C", str(ROOT / "bpf_programs")], check=True)
        self._copy(ROOT / "build" / "bpf", "oko/objects", "*.o")
        self._copy(ROOT / "docs" / "rejections", "verifier/rejections", "*.md")

    def _copy(self, source: Path, package: str, pattern: str) -> None:
        target = Path(self.build_lib) / package
        shutil.rmtree(target, ignore_errors=True)
        for path in source.rglob(pattern):
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


setup(cmdclass={"build_py": BuildWithObjects})
