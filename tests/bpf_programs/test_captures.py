"""The captures that show sample programs: they are what their module makes, and a replay prints what the page shows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.bpf_programs.captures import CAPTURES, DIRECTORY, pcapng
from tests.bpf_programs.harness import build

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"firewall": "firewall.md", "token_bucket": "token-bucket.md"}


@pytest.mark.parametrize("name", CAPTURES)
def test_the_capture_is_what_is_made(name: str) -> None:
    assert (DIRECTORY / f"{name}.pcapng.gz").read_bytes() == pcapng(CAPTURES[name]())


@pytest.mark.needs_bpf
@pytest.mark.parametrize("name", CAPTURES)
def test_the_page_shows_what_a_replay_prints(name: str, tmp_path: Path) -> None:
    build(tmp_path, f"SOURCES={name}.c")
    capture = f"tests/captures/{name}.pcapng.gz"
    options = ["--program", f"1={tmp_path / name}.o", "--flows", f"tests/captures/{name}.flows", capture]
    command = [str(Path(sys.executable).with_name("oko")), "replay", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout in (ROOT / "docs" / "programs" / PAGES[name]).read_text()
