"""The captures that show sample programs: they are what their module makes, and a replay prints what the page shows."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from oko.replay.capture import Capture
from tests.bpf_programs.captures import CAPTURES, DIRECTORY, pcapng
from tests.bpf_programs.harness import build
from tests.bpf_programs.p0f_oracle import DATABASE, ask_p0f

ROOT = Path(__file__).resolve().parents[2]
OKO = str(Path(sys.executable).with_name("oko"))
PAGES = {"firewall": "firewall.md", "token_bucket": "token-bucket.md"}
MAPS = {
    "blocklist": ("1.prefixes=tests/captures/blocklist.csv",),
    "p0f": ("1.layouts={}/p0f/layouts.csv", "1.signatures={}/p0f/signatures.csv"),
}
needs_database = pytest.mark.skipif(not DATABASE.exists(), reason="the database of p0f is not installed")
needs_p0f = pytest.mark.skipif(
    shutil.which("p0f") is None or not DATABASE.exists(), reason="p0f or its database is not installed"
)


def page(name: str) -> str:
    return (ROOT / "docs" / "programs" / PAGES.get(name, f"{name}.md")).read_text()


def oko(*words: str | Path) -> str:
    """What an `oko` command prints that must succeed."""
    done = subprocess.run([OKO, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", CAPTURES)
def test_the_capture_is_what_is_made(name: str) -> None:
    assert (DIRECTORY / f"{name}.pcapng.gz").read_bytes() == pcapng(CAPTURES[name]())


@needs_p0f
def test_what_p0f_says_of_its_capture(tmp_path: Path) -> None:
    with Capture(DIRECTORY / "p0f.pcapng.gz") as capture:
        labels = ask_p0f([packet.data for packet in capture], tmp_path)
    expected = {"Windows 7 or 8": 5, "Linux 3.11 and newer": 4, "NMap SYN scan": 6, "???": 2, None: 5}
    assert {label: labels.count(label) for label in labels} == expected


@pytest.mark.needs_bpf
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=needs_database if name == "p0f" else ()) for name in CAPTURES]
)
def test_the_page_shows_what_a_replay_prints(name: str, tmp_path: Path) -> None:
    build(tmp_path, f"SOURCES={name}.c")
    if name == "p0f":
        written = oko("p0f", "export", tmp_path / "p0f", "--match", "Windows*")
        assert f"oko p0f export build/p0f --match 'Windows*'\n{written}" in page(name)
    options = [f"--map={entries.format(tmp_path)}" for entries in MAPS.get(name, ())]
    options += ["--program", f"1={tmp_path / name}.o", "--flows", f"tests/captures/{name}.flows"]
    assert oko("replay", *options, f"tests/captures/{name}.pcapng.gz") in page(name)


def test_the_list_of_the_page_is_the_one_that_is_replayed() -> None:
    assert (DIRECTORY / "blocklist.csv").read_text() in page("blocklist")
