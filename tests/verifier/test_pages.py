"""The pages on the codes: their programs are what the pages say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from oko.errors import Rejected
from tests.verifier.source import compile_source
from verifier.check import check
from verifier.codes import CODES
from verifier.elf import load
from verifier.program import Program

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "rejections"


def programs(code: str) -> list[str]:
    """The C programs on a page."""
    return re.findall(r"^```c\n(.*?)^```$", (PAGES / f"{code}.md").read_text(), re.DOTALL | re.MULTILINE)


def compiled(source: str, directory: Path) -> Program:
    return load(compile_source(source, directory / "program.o").read_bytes())


def test_every_code_has_a_page() -> None:
    assert {path.stem for path in PAGES.iterdir()} == CODES.keys()


@pytest.mark.parametrize("code", CODES)
def test_form(code: str) -> None:
    text = (PAGES / f"{code}.md").read_text()
    assert re.findall(r"^#+ .*", text, re.MULTILINE) == [f"# {code}", "## Why", "## Rejected", "## Accepted"]
    assert len(programs(code)) == 2


@pytest.mark.parametrize("code", CODES)
def test_the_first_program_is_rejected(code: str, tmp_path: Path) -> None:
    with pytest.raises(Rejected) as rejected:
        check(compiled(programs(code)[0], tmp_path))
    assert rejected.value.code == code, rejected.value.details


@pytest.mark.parametrize("code", CODES)
def test_the_second_program_is_accepted(code: str, tmp_path: Path) -> None:
    check(compiled(programs(code)[1], tmp_path))
