"""Files that are no filter programs, through oko-load: a clear line, and nothing has changed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stage import BRIDGE, FIREWALL, Stage, mounted

pytestmark = pytest.mark.needs_bpf

REJECTED = Path(__file__).parents[1] / "verifier" / "rejected"


@pytest.fixture(scope="module")
def switch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A bridge without ports, with the firewall as program 1."""
    with mounted(Stage(tmp_path_factory.mktemp("switch"))) as stage:
        stage.start()
        stage.output("oko-load", BRIDGE, "1", FIREWALL)
        stage.output("oko", "flow", "add", BRIDGE, "filter_prog=1,actions=drop")
        yield stage


def compiled(target: str, source: Path) -> bytes:
    command = ["clang", f"--target={target}", "-O2", "-g", "-c", str(source), "-o", "-"]
    return subprocess.run(command, check=True, capture_output=True).stdout


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """C that needs no header and is no filter program."""
    source = tmp_path_factory.mktemp("source") / "plain.c"
    source.write_text('int filter(void) { return 1; }\nchar LICENSE[] __attribute__((section("license"))) = "GPL";\n')
    return source


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        pytest.param("text", "not an ELF", id="not an ELF"),
        pytest.param("empty", "not an ELF", id="empty file"),
        pytest.param("32-bit", "a 32-bit ELF file", id="32-bit ELF"),
        pytest.param("truncated", "truncated: the section headers end beyond the 1000 bytes", id="truncated ELF"),
        pytest.param("x86", "an object for machine x86-64, not BPF", id="x86 object"),
        pytest.param("no program", 'no filter program: an author writes SEC("filter")', id="no program"),
        pytest.param("unknown section", "section xdp is unknown", id="unknown section"),
    ],
)
def test_bad_object(switch: Stage, plain: Path, tmp_path: Path, kind: str, complaint: str) -> None:
    path = tmp_path / "bad.o"
    path.write_bytes(bad_object(kind, plain))
    before = switch.output("oko", "program", "list", BRIDGE)
    for program in ("1", "2"):
        assert switch.error("oko-load", BRIDGE, program, path).startswith(f"{path}: {complaint}")
    assert switch.output("oko", "program", "list", BRIDGE) == before


def bad_object(kind: str, plain: Path) -> bytes:
    match kind:
        case "text":
            return b"#!/bin/sh\necho filter\n"
        case "32-bit":
            return compiled("i386-linux-gnu", plain)
        case "truncated":
            return FIREWALL.read_bytes()[:1000]
        case "x86":
            return compiled("x86_64-linux-gnu", plain)
        case "no program":
            return compiled("bpf", REJECTED / "no_program.c")
        case "unknown section":
            return compiled("bpf", REJECTED / "unknown_section.c")
    return b""
