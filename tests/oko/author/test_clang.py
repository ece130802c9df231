"""The compiler, with the flags and headers of the programs that come with Oko."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from oko.author.clang import SDK, compile_filter
from oko.errors import NotCompiled
from tests.bpf_programs.harness import build
from verifier.elf import load

MINIMAL = '#include <oko.h>\nSEC("filter")\nint yes(struct xdp_md *ctx)\n{\n\t(void)ctx;\n\treturn OKO_MATCH;\n}\n'
LICENSE = 'char LICENSE[] SEC("license") = "GPL";\n'


def test_the_same_code_as_the_makefile(tmp_path: Path) -> None:
    build(tmp_path, "SOURCES=blocklist.c")
    mine = tmp_path / "mine.o"
    compile_filter(SDK / "blocklist.c", mine)
    theirs = load((tmp_path / "blocklist.o").read_bytes())
    found = load(mine.read_bytes())
    assert (found.instructions, found.maps) == (theirs.instructions, theirs.maps)


def test_what_the_compiler_says(tmp_path: Path) -> None:
    source, target = tmp_path / "bad.c", tmp_path / "bad.o"
    target.write_bytes(b"old")
    source.write_text(MINIMAL.replace("OKO_MATCH", "OKO_MTCH") + LICENSE)
    with pytest.raises(NotCompiled, match=r"bad\.c: clang does not take it") as caught:
        compile_filter(source, target)
    assert "OKO_MTCH" in caught.value.details
    assert not target.exists()


def test_warnings_are_errors_as_in_the_makefile(tmp_path: Path) -> None:
    source = tmp_path / "sloppy.c"
    source.write_text(MINIMAL.replace("\t(void)ctx;\n", "") + LICENSE)
    with pytest.raises(NotCompiled) as caught:
        compile_filter(source, tmp_path / "sloppy.o")
    assert "unused parameter" in caught.value.details


def test_no_source(tmp_path: Path) -> None:
    with pytest.raises(NotCompiled, match=r"none\.c: no such file: 'oko program new' writes one"):
        compile_filter(tmp_path / "none.c", tmp_path / "none.o")


def test_no_compiler(tmp_path: Path) -> None:
    source = tmp_path / "yes.c"
    source.write_text(MINIMAL + LICENSE)
    with pytest.raises(NotCompiled, match="clang-0: No such file or directory: install clang 14 or later"):
        compile_filter(source, tmp_path / "yes.o", "clang-0")


def test_another_place(tmp_path: Path) -> None:
    """Only the source and the SDK are needed, wherever they are."""
    place = tmp_path / "with blanks"
    place.mkdir()
    source = place / "yes.c"
    source.write_text(MINIMAL + LICENSE)
    compile_filter(source, place / "out.o", shutil.which("clang") or "clang")
    assert load((place / "out.o").read_bytes()).name == "yes"
