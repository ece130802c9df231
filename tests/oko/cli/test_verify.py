"""`oko-verify`: verdicts, exit statuses, and its ways to print."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.stage import BRIDGE, FIREWALL, ROOT, TOOLS, Stage
from tests.verifier.source import compile_source
from verifier.elf import load

SOURCE = """#include "oko.h"
SEC("filter") int example(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;

	if (data + 14 > data_end)
		return OKO_NO_MATCH;
	return ((__u8 *)data)[INDEX];
}

char LICENSE[] SEC("license") = "GPL";
"""
LOOP = """#include "oko.h"
SEC("filter") int example(struct xdp_md *ctx)
{
	__u32 sum = 0;

	for (__u32 i = 0; i < ctx->rx_queue_index; i++)
		sum += i * sum + 1;
	return sum;
}

char LICENSE[] SEC("license") = "GPL";
"""


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """No bridge: none is needed."""
    return Stage(tmp_path)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return compile_source(SOURCE, tmp_path / "good.o", "-DINDEX=13")


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    return compile_source(SOURCE, tmp_path / "bad.o", "-DINDEX=14")


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.o"
    path.write_bytes(b"no object file")
    return path


def size(path: Path) -> int:
    return len(load(path.read_bytes()).instructions)


def test_accepted(stage: Stage, good: Path) -> None:
    line = stage.output("oko-verify", good)
    assert line.startswith(f"{good}: accepted: example, {size(good)} of 4096 instructions, 32 of 256 bytes of stack, ")
    assert line.endswith(", no maps\n")


@pytest.mark.skipif(not FIREWALL.exists(), reason="make objects builds it")
def test_accepted_with_maps(stage: Stage) -> None:
    assert stage.output("oko-verify", FIREWALL).endswith(
        ", maps packets, connections, slots, rings, fragments, .data.config\n"
    )


def test_rejected(stage: Stage, bad: Path) -> None:
    done = stage.run("oko-verify", bad)
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"{bad}: rejected"
    assert lines[2].endswith(
        "bad.c:8: packet-bounds: byte 14 of the packet is read, but the check on line 6 proves 14 bytes only"
    )
    assert lines[-1] == "more about it: oko-verify --explain packet-bounds"
    assert "\x1b" not in done.stdout


def test_too_long_is_rejected(stage: Stage, tmp_path: Path) -> None:
    source = (ROOT / "tests" / "verifier" / "rejected" / "too_long.c").read_text()
    path = compile_source(source, tmp_path / "long.o")
    done = stage.run("oko-verify", path)
    assert done.returncode == 1
    assert "limit 4096" in done.stdout


@pytest.mark.parametrize("words", [(), ("--trace",), ("--cfg",)], ids=["plain", "trace", "cfg"])
def test_not_readable(stage: Stage, broken: Path, words: tuple[str, ...]) -> None:
    done = stage.run("oko-verify", *words, broken)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{broken}: not readable: not an ELF file: compile the program with clang -target bpf -c\n"


def test_no_file(stage: Stage, tmp_path: Path) -> None:
    done = stage.run("oko-verify", tmp_path / "nothing.o")
    assert done.returncode == 2
    assert done.stderr == f"{tmp_path}/nothing.o: not readable: No such file or directory\n"


def test_the_worst_of_several_files_counts(stage: Stage, good: Path, bad: Path, broken: Path) -> None:
    assert stage.run("oko-verify", good, good).returncode == 0
    assert stage.run("oko-verify", bad, good).returncode == 1
    assert stage.run("oko-verify", good, broken, bad).returncode == 2


def test_json(stage: Stage, good: Path, bad: Path, broken: Path) -> None:
    done = stage.run("oko-verify", "--json", good, bad, broken)
    assert (done.returncode, done.stderr) == (2, "")
    accepted, rejected, unreadable = json.loads(done.stdout)
    assert (accepted["file"], accepted["verdict"], accepted["maps"]) == (str(good), "accepted", [])
    assert accepted["instructions"] == size(good)
    assert rejected["verdict"] == "rejected"
    assert (rejected["rejection"]["code"], rejected["rejection"]["source"]["line"]) == ("packet-bounds", 8)
    assert unreadable["verdict"] == "not readable"


def test_trace(stage: Stage, bad: Path) -> None:
    done = stage.run("oko-verify", "--trace", bad)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "example:"
    assert "       | R1 context" in lines
    assert any("proved from packet 14 bytes" in line for line in lines)
    fault = next(number for number, line in enumerate(lines) if "^ packet-bounds" in line)
    assert "= *(u8 *)(r" in lines[fault - 1]
    assert lines[fault + 1].endswith("(not looked at)") or lines[fault + 1].startswith(";")


def test_trace_of_an_accepted_program(stage: Stage, good: Path) -> None:
    text = stage.output("oko-verify", "--trace", good)
    assert "return ((__u8 *)data)[INDEX];" in text
    assert "not looked at" not in text


def test_graph(stage: Stage, good: Path) -> None:
    assert stage.output("oko-verify", "--cfg", good).startswith("digraph program {")


def test_graph_of_a_cycle(stage: Stage, tmp_path: Path) -> None:
    """It is what one wants to see then."""
    path = compile_source(LOOP, tmp_path / "loop.o")
    done = stage.run("oko-verify", "--cfg", path)
    assert done.returncode == 1
    assert done.stdout.startswith("digraph program {")
    assert done.stderr.startswith(f"{path}: cycle: ")


def test_explain(stage: Stage) -> None:
    assert (
        stage.output("oko-verify", "--explain", "packet-bounds")
        == (ROOT / "docs" / "rejections" / "packet-bounds.md").read_text()
    )


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ((), "Missing argument 'FILE...'"),
        (("--explain", "nothing"), "'nothing' is not one of"),
        (("--json", "--cfg", "x.o"), "choose one of"),
    ],
    ids=["no file", "no code", "two outputs"],
)
def test_wrong_usage(stage: Stage, words: tuple[str, ...], complaint: str) -> None:
    done = stage.run("oko-verify", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr


def test_colours_when_a_terminal_watches(bad: Path) -> None:
    ours, theirs = pty.openpty()
    try:
        done = subprocess.run([TOOLS / "oko-verify", bad], stdout=theirs, check=False)
        shown = os.read(ours, 1 << 16).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 1
    assert "\x1b[31m\x1b[1mpacket-bounds\x1b[0m" in shown


@pytest.mark.needs_bpf
def test_load_says_the_same(switch: Stage, bad: Path) -> None:
    """The switch sends the explanation over OpenFlow: one line, and with --verbose all of it."""
    line = switch.error("oko-load", BRIDGE, "1", bad)
    assert "packet-bounds: " in line
    assert "byte 14 of the packet is read, but the check on line 6 proves 14 bytes only" in line
    done = switch.run("oko-load", "--verbose", BRIDGE, "1", bad)
    body = switch.run("oko-verify", bad).stdout.splitlines()[3:-1]
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == body
