from __future__ import annotations

import pytest

from oko.compiler.in_flight import Element, InFlight, Spot
from oko.compiler.layout import Lowered

LOW, HIGH, BOTH = 0x00FF, 0xFF00, 0xFFFF


def rule(
    group: int, mask: int, value: int, *, table: int = 0, to: bytes | None = b"v", replaces: bool = False
) -> Element:
    key = f"{group}:{value}".encode()
    return Element(f"rules{group % 2}", key, to, replaces, Spot(table, group, Lowered(value, mask)))


DATA = Element("arguments", b"0", b"data")


@pytest.mark.parametrize(
    ("elements", "steps"),
    [
        pytest.param([rule(0, LOW, 1), rule(0, LOW, 2)], [2], id="one group"),
        pytest.param([rule(0, LOW, 1), rule(1, HIGH, 0x100)], [1, 1], id="two groups, one packet may match both"),
        pytest.param([rule(0, BOTH, 0x101), rule(1, HIGH, 0x200)], [2], id="two groups, no packet matches both"),
        pytest.param([rule(0, BOTH, 0x101), rule(1, HIGH, 0x100)], [1, 1], id="one rule within the other"),
        pytest.param([rule(0, LOW, 1), rule(1, HIGH, 0x100), rule(0, LOW, 2)], [1, 1, 1], id="to and fro"),
        pytest.param([rule(0, BOTH, 1), rule(1, BOTH, 2, table=1)], [1, 1], id="then a later table"),
        pytest.param([rule(1, LOW, 1, table=1), rule(0, HIGH, 0x100)], [2], id="then an earlier table"),
        pytest.param([rule(0, LOW, 1), DATA, rule(0, LOW, 2)], [3], id="data are not looked up"),
        pytest.param([rule(0, LOW, 1, to=None), rule(0, LOW, 2, to=None)], [2], id="two deleted"),
        pytest.param([rule(0, LOW, 1, to=None), rule(0, LOW, 2)], [1, 1], id="into the memory of a deleted one"),
        pytest.param([rule(0, LOW, 1, to=None), rule(1, BOTH, 0x102)], [2], id="deleted from another map"),
        pytest.param([rule(0, LOW, 1, replaces=True), rule(0, LOW, 2, replaces=True)], [1, 1], id="two replaced"),
        pytest.param([rule(0, LOW, 1), rule(0, LOW, 1, replaces=True)], [2], id="added, then replaced"),
    ],
)
def test_when_packets_have_to_be_through(elements: list[Element], steps: list[int]) -> None:
    made = InFlight().steps(elements)
    assert [element for step in made for element in step] == elements
    assert [len(step) for step in made] == steps


def test_what_changed_earlier_counts_until_packets_are_through() -> None:
    in_flight = InFlight()
    in_flight.steps([rule(0, LOW, 1)])
    other = rule(1, HIGH, 0x100)
    assert in_flight.steps([other]) == [[], [other]]
    in_flight.clear()
    assert in_flight.steps([rule(0, LOW, 1)]) == [[rule(0, LOW, 1)]]
