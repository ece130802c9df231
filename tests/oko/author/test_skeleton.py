"""What `oko program new` writes is a program that compiles, is accepted and passes its own test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from oko.author.clang import compile_filter
from oko.author.packets import parse_packets
from oko.author.skeleton import write_skeleton
from oko.author.trial import PROGRAM, Trial
from oko.errors import OkoError, ProgramError
from oko.switch.objects import read_runtime
from verifier import elf
from verifier.check import check

CLANGS = ("clang-14", "clang-16", "clang-19")


@pytest.mark.parametrize(
    "in_kernel", [pytest.param(True, marks=pytest.mark.needs_bpf), False], ids=["kernel", "Python"]
)
@pytest.mark.parametrize("clang", CLANGS)
def test_every_compiler_takes_it_and_it_passes(tmp_path: Path, clang: str, in_kernel: bool) -> None:
    if shutil.which(clang) is None:
        pytest.skip(f"{clang} is not installed")
    source, table = write_skeleton("shop", tmp_path)
    compile_filter(source, tmp_path / "shop.o", clang)
    program = elf.load((tmp_path / "shop.o").read_bytes())
    check(program)
    tests = parse_packets(table.read_text(), table.name)
    with Trial(program, tests, read_runtime(), in_kernel=in_kernel) as trial:
        outcomes = list(trial.run())
    assert [outcome.differences for outcome in outcomes] == [()] * len(tests)
    assert {outcome.matched for outcome in outcomes} == {True, False}
    assert (program.name, PROGRAM) == ("shop", 1)


def test_files(tmp_path: Path) -> None:
    place = tmp_path / "new" / "place"
    paths = write_skeleton("a1_b", place)
    assert [path.name for path in paths] == ["a1_b.c", "a1_b.toml"]
    for path in paths:
        text = path.read_text()
        assert "a1_b" in text
        assert "NAME.c" not in text


@pytest.mark.parametrize("present", ["shop.c", "shop.toml"])
def test_nothing_is_overwritten(tmp_path: Path, present: str) -> None:
    (tmp_path / present).write_text("mine")
    with pytest.raises(OkoError, match=f"{present} is there already"):
        write_skeleton("shop", tmp_path)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(present, "mine")]


@pytest.mark.parametrize(
    "name", ["", "Shop", "1st", "my-filter", "../shop", "a b", "for", "config", "oko_now", "bpf_x", "x" * 32]
)
def test_names_that_cannot_be(tmp_path: Path, name: str) -> None:
    with pytest.raises(ProgramError, match="cannot be the name of a program"):
        write_skeleton(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_directory_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OkoError, match="file: File exists"):
        write_skeleton("shop", tmp_path / "file")
