"""`oko program new`, `build` and `test`, as an author uses them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stage import ROOT, TOOLS, Stage

WITHOUT_RIGHTS = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
END = "the end of a command"
DOCUMENT = ROOT / "docs" / "writing-programs.md"


@pytest.fixture
def author(tmp_path: Path) -> Stage:
    """A directory with the skeleton of the program shop."""
    stage = Stage(tmp_path)
    written = stage.output("oko", "program", "new", "shop", tmp_path).splitlines()
    assert written == [f"{tmp_path}/shop.c", f"{tmp_path}/shop.toml"]
    return stage


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_new_overwrites_nothing(author: Stage) -> None:
    complaint = author.error("oko", "program", "new", "shop", author.directory)
    assert complaint == f"{author.directory}/shop.c is there already: choose another name or directory"
    assert "cannot be the name of a program" in author.error("oko", "program", "new", "my-shop", author.directory)


def test_build(author: Stage) -> None:
    source, target = author.directory / "shop.c", author.directory / "shop.o"
    said = author.output("oko", "program", "build", source)
    assert said.startswith(f"{target}: accepted: shop, ")
    assert "bytes of stack" in said
    assert said == author.output("oko-verify", target)
    other = author.directory / "other.o"
    author.output("oko", "program", "build", source, "-o", other)
    assert other.read_bytes() == target.read_bytes()


def test_build_of_what_the_compiler_does_not_take(author: Stage) -> None:
    source = author.directory / "shop.c"
    change(source, "OKO_MATCH;", "OKO_MATCHES;")
    done = author.run("oko", "program", "build", source)
    assert (done.returncode, done.stdout) == (1, "")
    *said, last = done.stderr.splitlines()
    assert last == f"oko: {source}: clang does not take it"
    assert any("shop.c:" in line and "OKO_MATCHES" in line for line in said)


def test_build_of_what_the_switch_does_not_take(author: Stage) -> None:
    source = author.directory / "shop.c"
    change(source, "\tcount(&addr);\n", "\tcount(&addr);\n\t*(__u8 *)(long)ctx->data = 0;\n")
    done = author.run("oko", "program", "build", source)
    assert done.returncode == 1
    assert f"{author.directory}/shop.o: rejected" in done.stdout
    assert "*(__u8 *)(long)ctx->data = 0;" in done.stdout
    tested = author.run("oko", "program", "test", source)
    assert (tested.returncode, tested.stdout) == (1, done.stdout)


def test_no_compiler(author: Stage) -> None:
    source = author.directory / "shop.c"
    assert "clang-0: No such file or directory: install clang" in author.error(
        "oko", "program", "build", source, "--clang", "clang-0"
    )
    assert "its name ends in .c" in author.error("oko", "program", "build", source.with_suffix(".o"))


@pytest.mark.parametrize(
    ("prefix", "options", "where"),
    [
        pytest.param((), (), "in the kernel", marks=pytest.mark.needs_bpf, id="kernel"),
        pytest.param((), ("--engine", "reference"), "in Python", id="Python"),
        pytest.param(WITHOUT_RIGHTS, (), "in Python", id="without rights"),
    ],
)
def test_passed(author: Stage, prefix: tuple[str, ...], options: tuple[str, ...], where: str) -> None:
    stage = Stage(author.directory, prefix)
    said = stage.output("oko", "program", "test", author.directory / "shop.c", *options).splitlines()
    assert "accepted" in said[0]
    assert said[1] == "passed  a SYN to port 80: match"
    assert said[-1] == f"7 of 7 packets as expected, {where}"


def test_failed(author: Stage) -> None:
    source = author.directory / "shop.c"
    author.output("oko", "program", "build", source)
    table = author.directory / "other.toml"
    table.write_text((author.directory / "shop.toml").read_text())
    change(table, "tcp_dst=81", "tcp_dst=80")
    words = ("--packets", table, "--engine", "reference")
    done = author.run("oko", "program", "test", source.with_suffix(".o"), *words)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[2:6] == [
        "FAILED  another port: match",
        "        verdict: match, expected no match",
        '        map sources, key 10.0.0.1: {"packets": 3, "last_seen": 1500000000}, expected {"packets": 2}',
        "passed  UDP to port 80: no match",
    ]
    assert done.stdout.endswith("6 of 7 packets as expected, in Python\n")


def test_what_cannot_be_tested(author: Stage) -> None:
    source = author.directory / "shop.c"
    missing = author.directory / "missing.toml"
    assert (
        author.error("oko", "program", "test", source, "--packets", missing) == f"{missing}: No such file or directory"
    )
    assert "no such file: 'oko program new' writes one" in author.error(
        "oko", "program", "test", author.directory / "none.c", "--packets", author.directory / "shop.toml"
    )
    change(author.directory / "shop.toml", 'verdict = "match"', 'verdict = "perhaps"')
    assert "shop.toml, packet 1 (a SYN to port 80): verdict cannot be" in author.error("oko", "program", "test", source)


def test_the_group_lists_all_commands(tmp_path: Path) -> None:
    said = Stage(tmp_path).output("oko", "program", "--help")
    assert [line.split()[0] for line in said.split("Commands:\n")[1].splitlines()] == [
        "build", "list", "new", "test", "unload",
    ]  # fmt: skip


def documented(text: str) -> Iterator[tuple[str, str]]:
    """Every command of a document's blocks, with the output that stands behind it."""
    for block in re.findall(r"^```\n(\$ .*?)^```$", text, re.MULTILINE | re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            yield command, output


@pytest.mark.needs_bpf
def test_the_document_says_what_happens(tmp_path: Path) -> None:
    """Up to where it needs a switch. Its commands are those of one shell."""
    commands = list(documented(DOCUMENT.read_text().split("## Into a switch")[0]))
    assert len(commands) == 10
    script = "".join(f"{command}\necho {END}\n" for command, _ in commands)
    done = Stage(tmp_path).run("bash", "-c", f"export PATH={TOOLS}:$PATH CLANG=clang-14\ncd {tmp_path}\n{script}")
    assert done.stderr == ""
    assert done.stdout.split(f"{END}\n")[:-1] == [
        output.replace("/root/filters", f"{tmp_path}/filters") for _, output in commands
    ]
