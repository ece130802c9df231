"""What the README shows of tools that need no switch is what they print. Its demonstration is tested in tests/demo."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.stage import ROOT, TOOLS, Stage

COMMANDS = re.compile(r"^\$ (oko (?:.*\\\n)*.*)\n((?:(?!\$ |```).*\n)*)", re.MULTILINE)
"""A command of a tool, whose lines but the last end in a backslash, and what it prints."""

SHOWN = [match.groups() for match in COMMANDS.finditer((ROOT / "README.md").read_text().split("## Daily use")[1])]


def test_there_are_such_commands() -> None:
    assert [" ".join(command.split()[:2]) for command, _ in SHOWN] == [
        "oko replay", "oko trace", "oko program", "oko program",
    ]  # fmt: skip


@pytest.mark.needs_bpf
@pytest.mark.parametrize(("command", "printed"), SHOWN[:2], ids=["replay", "trace"])
def test_of_a_capture_and_a_packet(tmp_path: Path, command: str, printed: str) -> None:
    assert Stage(tmp_path).output("bash", "-c", f"PATH={TOOLS}:$PATH\n{command}") == printed


@pytest.mark.needs_bpf
def test_of_a_program_of_ones_own(tmp_path: Path) -> None:
    commands, printed = zip(*SHOWN[2:], strict=True)
    script = "\n".join([f"export PATH={TOOLS}:$PATH CLANG=clang-14", f"cd {tmp_path}", *commands])
    assert Stage(tmp_path).output("bash", "-c", script) == "".join(printed)
