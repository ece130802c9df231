"""An installed package is whole: its tools work far from the source tree."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import oko
from tests.stage import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of Python packages with Oko in it, as pip installs it, but without its dependencies."""
    site = tmp_path_factory.mktemp("site")
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--no-build-isolation", "--no-index"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(site), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return site


def run(site: Path, directory: Path, *command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(site)}
    environment.pop("OKO_OBJECTS", None)
    tool = [sys.executable, str(site / "bin" / command[0]), *command[1:]]
    done = subprocess.run(tool, capture_output=True, text=True, check=False, cwd=directory, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("package", ["oko", "ofext", "verifier"])
def test_python_code_is_that_of_the_source_tree(site: Path, package: str) -> None:
    installed = {path.relative_to(site) for path in (site / package).rglob("*.py")}
    assert installed == {path.relative_to(ROOT) for path in (ROOT / package).rglob("*.py")}


def test_wireshark_finds_the_dissector(site: Path) -> None:
    names = {path.name for path in (site / "ofext" / "wireshark").glob("*.lua")}
    assert names == {path.name for path in (ROOT / "ofext" / "wireshark").glob("*.lua")}
    assert names


@pytest.mark.needs_bpf
def test_a_program_is_written_built_and_tested(site: Path, tmp_path: Path) -> None:
    run(site, tmp_path, "oko", "program", "new", "web")
    run(site, tmp_path, "oko", "program", "build", "web.c")
    assert "packets as expected, in the kernel" in run(site, tmp_path, "oko", "program", "test", "web.o")


@pytest.mark.needs_bpf
def test_a_capture_goes_through_a_sample_program(site: Path, tmp_path: Path) -> None:
    program = site / "oko" / "objects" / "firewall.o"
    captures = ROOT / "tests" / "captures"
    flows = ["--flows", str(captures / "firewall.flows"), str(captures / "firewall.pcapng.gz")]
    assert "packets decided in the kernel" in run(site, tmp_path, "oko", "replay", "--program", f"1={program}", *flows)


def test_okod_starts(site: Path, tmp_path: Path) -> None:
    assert run(site, tmp_path, "okod", "--version") == f"okod, version {oko.__version__}\n"


def test_a_rejection_is_explained(site: Path, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "rejections" / "packet-bounds.md").read_text()
    assert run(site, tmp_path, "oko-verify", "--explain", "packet-bounds") == page
