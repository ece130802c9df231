from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.oko.cli.conftest import load
from tests.stage import BRIDGE, ROOT, Stage

pytestmark = pytest.mark.needs_bpf

DATABASE = """
[tcp:request]
label = s:unix:Penguin:new
sig   = *:64:0:*:mss*20,7:mss,sok,ts,nop,ws:df,id+:0
label = s:win:Glass:
sig   = *:128:0:*:8192,0:mss,nop,nop,sok:df,id+:0
label = g:unix:Penguin:
sig   = *:64:0:*:*,*:mss,sok,ts,nop,ws:df,id+:0
"""
OTHER_DATABASE = """
[tcp:request]
label = s:unix:Daemon:
sig   = *:64:0:*:65535,6:mss,nop,ws,sok,ts:df,id+:0
"""


@pytest.fixture
def p0f(switch: Stage) -> Stage:
    """The bridge with p0f as program 1."""
    return load(switch, ROOT / "build" / "bpf" / "p0f.o")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "small.fp"
    path.write_text(DATABASE)
    return path


def listed(stage: Stage) -> list[tuple[str, bool]]:
    """Labels of the loaded signatures in the order in which they are considered, and whether they are chosen."""
    rows: list[dict[str, Any]] = json.loads(stage.output("oko", "p0f", "list", BRIDGE, "1", "--json"))
    assert [row["syns"] for row in rows] == [0] * len(rows)
    assert (rows[0]["label"], rows[0]["chosen"]) == ("", False)
    return [(row["label"], row["chosen"]) for row in rows[1:]]


def configuration(stage: Stage) -> dict[str, Any]:
    (entry,) = json.loads(stage.output("oko", "map", "dump", BRIDGE, "1", "config", "--json"))
    found: dict[str, Any] = entry["value"]["config"]
    return found


def test_nothing_is_loaded_at_first(p0f: Stage) -> None:
    assert p0f.output("oko", "p0f", "list", BRIDGE, "1").splitlines() == [
        "SYNS  CHOSEN  LABEL   SIGNATURE",
        "   0  no      (none)",
    ]


def test_load_and_list(p0f: Stage, database: Path) -> None:
    words = ("oko", "p0f", "load", BRIDGE, "1", "--database", database)
    assert p0f.output(*words, "--match", "Pen*") == "3 signatures loaded, 2 chosen\n"
    assert listed(p0f) == [("Penguin new", True), ("Penguin", True), ("Glass", False)]
    assert p0f.output("oko", "p0f", "list", BRIDGE, "1").splitlines()[2].split() == [
        *("0", "yes", "Penguin", "new", "*:64:0:*:mss*20,7:mss,sok,ts,nop,ws:df,id+:0")
    ]
    assert configuration(p0f) == {"bank": 1, "invert": False, "others": False}
    assert p0f.output(*words, "--match", "Glass", "--match", "* new", "--invert", "--others").endswith(" 2 chosen\n")
    assert listed(p0f) == [("Penguin new", True), ("Penguin", False), ("Glass", True)]
    assert configuration(p0f) == {"bank": 0, "invert": True, "others": True}
    assert p0f.output(*words) == "3 signatures loaded, 0 chosen\n"
    assert configuration(p0f) == {"bank": 1, "invert": False, "others": False}


def test_another_database_replaces_the_first(p0f: Stage, database: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.fp"
    other.write_text(OTHER_DATABASE)
    for path in (database, database, other, other):
        p0f.output("oko", "p0f", "load", BRIDGE, "1", "--database", path, "--match", "*")
    assert listed(p0f) == [("Daemon", True)]
    layouts = json.loads(p0f.output("oko", "map", "dump", BRIDGE, "1", "layouts", "--json"))
    assert sorted((entry["key"]["bank"], entry["value"]["count"]) for entry in layouts) == [
        *((0, 0), (0, 0), (0, 1), (1, 0), (1, 0), (1, 1))
    ]


def entries(stage: Stage, name: str) -> list[str]:
    return sorted(stage.output("oko", "map", "dump", BRIDGE, "1", name).splitlines())


def test_export_writes_what_load_loads(p0f: Stage, database: Path, tmp_path: Path) -> None:
    options = ("--database", str(database), "--match", "Pen*", "--others")
    for _ in range(2):  # the first load is into bank 1, the second into bank 0
        p0f.output("oko", "p0f", "load", BRIDGE, "1", *options)
    exported = tmp_path / "p0f"
    for _ in range(2):  # what is there is written anew
        assert p0f.output("oko", "p0f", "export", exported, *options) == "3 signatures written, 2 chosen\n"
    lines = {path.stem: len(path.read_text().splitlines()) - 1 for path in exported.iterdir()}
    assert lines == {"config": 1, "counts": 4, "layouts": 2, "names": 4, "signatures": 3}
    before = {name: entries(p0f, name) for name in lines}
    for name in lines:
        p0f.output("oko", "map", "update", BRIDGE, "1", name, "--from-csv", exported / f"{name}.csv")
    assert {name: entries(p0f, name) for name in lines} == before


@pytest.mark.parametrize(
    ("directory", "words", "complaint"),
    [
        pytest.param("p0f", ("--match", "Widows*"), "has a label like 'Widows*'", id="no such label"),
        pytest.param("none/p0f", (), "none/p0f: No such file or directory", id="no such directory"),
    ],
)
def test_exports_that_are_refused(
    tmp_path: Path, database: Path, directory: str, words: tuple[str, ...], complaint: str
) -> None:
    options = ("--database", str(database), *words)
    assert complaint in Stage(tmp_path).error("oko", "p0f", "export", tmp_path / directory, *options)
    assert list(tmp_path.iterdir()) == [database]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        pytest.param(("--match", "Widows*"), "has a label like 'Widows*'", id="no such label"),
        pytest.param(("--database", "/nowhere.fp"), "/nowhere.fp: No such file", id="no such file"),
        pytest.param(("--database", "/dev/null"), "/dev/null has no signatures", id="empty"),
    ],
)
def test_loads_that_are_refused(p0f: Stage, database: Path, words: tuple[str, ...], complaint: str) -> None:
    before = ("oko", "p0f", "load", BRIDGE, "1", "--database", database)
    p0f.output(*before, "--match", "Glass")
    assert complaint in p0f.error(*before, *words)
    assert listed(p0f) == [("Penguin new", False), ("Penguin", False), ("Glass", True)]


def test_another_program_is_refused(firewall: Stage, database: Path) -> None:
    for command in (("list", BRIDGE, "1"), ("load", BRIDGE, "1", "--database", str(database))):
        assert "program 1 has no map 'counts': it is not p0f" in firewall.error("oko", "p0f", *command)
    assert "program 2 is not loaded" in firewall.error("oko", "p0f", "list", BRIDGE, "2")
