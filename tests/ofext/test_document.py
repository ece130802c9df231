"""docs/openflow-extension.md says what the declarations say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from ofext.codec import Layout
from ofext.errors import EXTENSION_ERRORS
from ofext.extension import (
    COMMANDS,
    EXPERIMENTER,
    LIST_REPLIES,
    LIST_REQUESTS,
    ConcernEntry,
    EventEntry,
    ImageLine,
    MapDescription,
    MapEntry,
    MapKey,
    ObserverEntry,
    ProgramEntry,
)
from oko.openflow.rights import LOADING, READING

DOCUMENT = (Path(__file__).parents[2] / "docs" / "openflow-extension.md").read_text()
COMMAND_OFFSET = 16
LIST_OFFSET = 24

STRUCTURES: dict[str, tuple[Any, int]] = {
    **{part.cls.__name__: (part, COMMAND_OFFSET) for part in COMMANDS.parts.values()},  # type: ignore[attr-defined]
    **{
        part.cls.__name__: (part, LIST_OFFSET)  # type: ignore[attr-defined]
        for family in (LIST_REQUESTS, LIST_REPLIES)
        for part in family.parts.values()
    },
    **{
        cls.__name__: (Layout(cls), 0)
        for cls in (ProgramEntry, MapDescription, MapEntry, MapKey, ObserverEntry, EventEntry, ImageLine, ConcernEntry)
    },
}


def rows(text: str) -> list[tuple[str, ...]]:
    """The cells of the first table in `text`, without its head."""
    lines = text.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("|"))
    cells = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        cells.append(tuple(cell.strip() for cell in line.strip("|").split("|")))
    return cells


def section(title: str) -> str:
    """What stands under the heading that ends in `title`, up to the next heading."""
    return re.split(rf"^#+ [\d.]+ {title}$", DOCUMENT, flags=re.MULTILINE)[1].split("\n#")[0]


@pytest.mark.parametrize("name", STRUCTURES)
def test_offsets(name: str) -> None:
    part, start = STRUCTURES[name]
    assert [row[:3] for row in rows(section(name))] == [(row.offset, row.size, row.name) for row in part.rows(start)]


def test_types_of_commands() -> None:
    numbers = {int(row[0]): row[1] for row in rows(section("Commands"))}
    assert numbers == {number: cls.__name__ for cls, number in COMMANDS.numbers.items()}


@pytest.mark.parametrize(("right", "kinds"), [("load", LOADING), ("read", READING)])
def test_what_needs_a_right(right: str, kinds: frozenset[type]) -> None:
    listed = (*rows(section("Commands")), *rows(section("Lists and dumps")))
    assert {row[1] for row in listed if row[-1] == right} == {cls.__name__ for cls in kinds}


def test_types_of_lists() -> None:
    numbers = {int(row[0]): row[1:3] for row in rows(section("Lists and dumps"))}
    replies = {number: cls.__name__ for cls, number in LIST_REPLIES.numbers.items()}
    assert numbers == {number: (cls.__name__, replies[number]) for cls, number in LIST_REQUESTS.numbers.items()}


def test_errors() -> None:
    listed = rows(section("Errors").split("\n\n", 3)[3])
    assert listed == [(str(kind.exp_type), f"`{kind.name}`", kind.sentence) for kind in EXTENSION_ERRORS]


def test_experimenter() -> None:
    assert set(re.findall(r"0xff4f[0-9a-f]{4}", DOCUMENT)) == {f"{EXPERIMENTER:#x}"}
