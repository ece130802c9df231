"""The imports of the code obey the table of docs/architecture.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "architecture.md"


def allowed() -> dict[str, set[str]]:
    """Room → the rooms it may import, as the table has it."""
    table = {}
    for line in DOCUMENT.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 3 and cells[0].startswith("`"):
            table[cells[0].strip("`/")] = {name.strip("` ") for name in cells[2].split(",") if "`" in name}
    return table


ROOMS = allowed()


def room_of(path: str) -> str | None:
    """The room that a module's path (without suffix) lies in; None for what is not ours."""
    for room in sorted(ROOMS, key=len, reverse=True):
        if path == room.removesuffix(".py") or path.startswith(f"{room}/"):
            return room
    return "oko" if path == "oko" else None


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, as paths."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.replace(".", "/") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            here = path.relative_to(ROOT).with_suffix("").parts
            base = list(here[: len(here) - node.level]) if node.level else []
            module = base + (node.module.split(".") if node.module else [])
            for alias in node.names:
                named = Path(*module, alias.name)
                is_module = (ROOT / named).with_suffix(".py").exists() or (ROOT / named).is_dir()
                yield str(named if is_module else Path(*module))


def sources(room: str) -> list[Path]:
    where = ROOT / room
    return [where] if where.suffix == ".py" else sorted(where.rglob("*.py"))


def test_the_table_names_rooms_that_exist() -> None:
    assert len(ROOMS) == 16
    for room, others in ROOMS.items():
        assert (ROOT / room).exists(), room
        assert others <= set(ROOMS) | {"oko"}, room


def test_every_module_is_in_a_room() -> None:
    packages = ("oko", "verifier", "ofext", "demo", "perf")
    modules = [str(path.relative_to(ROOT).with_suffix("")) for name in packages for path in (ROOT / name).rglob("*.py")]
    assert [module for module in modules if room_of(module) is None] == ["oko/__init__"]


@pytest.mark.parametrize("room", ROOMS)
def test_imports(room: str) -> None:
    files = sources(room)
    assert files, f"{room} is empty"
    broken = [
        f"{path.relative_to(ROOT)} imports {target}"
        for path in files
        for target in imports(path)
        if (other := room_of(target)) is not None and other != room and other not in ROOMS[room]
    ]
    assert not broken


def test_arrows_go_one_way() -> None:
    """No room can reach itself through the rooms that it may import."""
    for room in ROOMS:
        seen: set[str] = set()
        ahead = set(ROOMS[room])
        while ahead:
            at = ahead.pop()
            assert at != room, f"{room} reaches itself"
            if at not in seen:
                seen.add(at)
                ahead |= ROOMS.get(at, set())


THIRD_PARTY = {
    "verifier": {"elftools"},
    "ofext": {"os_ken"},
    "oko/flow": set(),
    "oko/compiler": set(),
    "oko/kernel": {"pyroute2"},
    "oko/attached": {"ovs"},
}


@pytest.mark.parametrize("room", THIRD_PARTY)
def test_libraries_stay_in_their_rooms(room: str) -> None:
    known = {"elftools", "pyroute2", "scapy", "click", "rich", "os_ken", "pydantic", "ovs"}
    used = {target.split("/")[0] for path in sources(room) for target in imports(path)} & known
    assert used <= THIRD_PARTY[room]
