from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.stage import BRIDGE, Stage

pytestmark = pytest.mark.needs_bpf

PACKETS = "meter=1,pktps,burst,bands=type=drop,rate=100,burst_size=10"
KILOBITS = "meter=5,kbps,bands=type=drop,rate=1000,type=drop,rate=2000"


def listed(switch: Stage) -> list[str]:
    return [meter["meter"] for meter in json.loads(switch.output("oko", "meter", "list", BRIDGE, "--json"))]


def test_meters_are_listed_with_their_counters(switch: Stage) -> None:
    switch.output("oko", "meter", "add", BRIDGE, KILOBITS, PACKETS)
    switch.output("oko", "flow", "add", BRIDGE, "actions=meter:5,IN_PORT")
    first, second = switch.output("oko", "meter", "list", BRIDGE).splitlines()
    assert first == f"{PACKETS}  # flows=0, n_packets=0, n_bytes=0, dropped 0/0"
    assert second == f"{KILOBITS}  # flows=1, n_packets=0, n_bytes=0, dropped 0/0 0/0"


def test_json(switch: Stage) -> None:
    switch.output("oko", "meter", "add", BRIDGE, PACKETS)
    (meter,) = json.loads(switch.output("oko", "meter", "list", BRIDGE, "--json"))
    assert 0 < meter.pop("duration") < 60
    zero = {"packets": 0, "bytes": 0}
    assert meter == {"meter": PACKETS, "id": 1, "flows": 0, **zero, "bands": [zero]}


def test_what_is_listed_can_be_added(switch: Stage, tmp_path: Path) -> None:
    switch.output("oko", "meter", "add", BRIDGE, KILOBITS, PACKETS)
    path = tmp_path / "meters"
    path.write_text(switch.output("oko", "meter", "list", BRIDGE))
    switch.output("oko", "meter", "del", BRIDGE)
    assert listed(switch) == []
    switch.output("oko", "meter", "add", BRIDGE, "--file", path)
    assert listed(switch) == [PACKETS, KILOBITS]


def test_meters_are_changed(switch: Stage) -> None:
    switch.output("oko", "meter", "add", BRIDGE, "meter=1,kbps,bands=type=drop,rate=1")
    switch.output("oko", "meter", "mod", BRIDGE, PACKETS)
    assert listed(switch) == [PACKETS]


def test_deleting_takes_the_flows_that_use_it(switch: Stage) -> None:
    switch.output("oko", "meter", "add", BRIDGE, PACKETS, KILOBITS)
    switch.output("oko", "flow", "add", BRIDGE, "actions=meter:1,IN_PORT")
    switch.output("oko", "meter", "del", BRIDGE, "meter=1")
    assert listed(switch) == [KILOBITS]
    assert switch.output("oko", "flow", "list", BRIDGE) == ""


@pytest.mark.parametrize(
    ("command", "meter", "complaint"),
    [
        pytest.param("add", PACKETS, "meter-mod-failed/meter-exists", id="there already"),
        pytest.param("mod", KILOBITS, "meter-mod-failed/unknown-meter", id="not there"),
        pytest.param("add", "meter=2,kbps", "needs bands", id="no bands"),
    ],
)
def test_meters_that_are_refused(switch: Stage, command: str, meter: str, complaint: str) -> None:
    switch.output("oko", "meter", "add", BRIDGE, PACKETS)
    assert complaint in switch.error("oko", "meter", command, BRIDGE, meter)
    assert listed(switch) == [PACKETS]
