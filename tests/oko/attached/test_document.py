"""The tables of docs/ovs.md say what the code has."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from oko.attached.features import FEATURES
from oko.attached.near_end import GROWTH
from oko.attached.ovsdb.description import WITHOUT_XDP
from oko.flow.shim import SIZE
from oko.kernel.features import EGRESS_PROGRAMS

DOCUMENT = Path(__file__).parents[3] / "docs" / "ovs.md"


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def features() -> str:
    rows = [(each.name, str(each.uses).replace("|", " or "), each.treatment.value, each.outcome) for each in FEATURES]
    return table(("feature", "told by", "treatment", "why, or what follows"), rows)


def ports() -> str:
    types: dict[str, list[str]] = {}
    for kind, reason in WITHOUT_XDP.items():
        types.setdefault(reason, []).append(f"`{kind}`")
    return table(("type", "why"), [(", ".join(names), reason) for reason, names in types.items()])


@pytest.mark.parametrize("expected", [features(), ports()], ids=["features", "ports without XDP"])
def test_tables(expected: str) -> None:
    assert expected in DOCUMENT.read_text(), f"docs/ovs.md should have:\n\n{expected}"


@pytest.mark.parametrize(
    "words",
    [f"by {GROWTH} bytes", f"{SIZE} bytes longer", f"kernel {EGRESS_PROGRAMS.since}"],
    ids=["growth", "shim", "guard"],
)
def test_numbers(words: str) -> None:
    assert words in DOCUMENT.read_text()
