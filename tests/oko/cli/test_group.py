from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.stage import BRIDGE, Stage

pytestmark = pytest.mark.needs_bpf

SELECT = "group_id=1,type=select,bucket=weight:10,watch_port:7,actions=IN_PORT,bucket=actions=push_vlan:0x8100,IN_PORT"
ALL = "group_id=2,type=all,bucket=actions=group:1"


def listed(switch: Stage) -> list[str]:
    return [group["group"] for group in json.loads(switch.output("oko", "group", "list", BRIDGE, "--json"))]


def test_groups_are_listed_with_their_counters(switch: Stage) -> None:
    switch.output("oko", "group", "add", BRIDGE, SELECT, ALL)
    switch.output("oko", "flow", "add", BRIDGE, "in_port=1,actions=group:1", "in_port=2,actions=group:1")
    first, second = switch.output("oko", "group", "list", BRIDGE).splitlines()
    assert first == f"{SELECT}  # ref_count=3, n_packets=0, n_bytes=0, buckets 0/0 0/0"
    assert second == f"{ALL}  # ref_count=0, n_packets=0, n_bytes=0, buckets 0/0"


def test_json(switch: Stage) -> None:
    switch.output("oko", "group", "add", BRIDGE, SELECT)
    (group,) = json.loads(switch.output("oko", "group", "list", BRIDGE, "--json"))
    assert 0 < group.pop("duration") < 60
    zero = {"packets": 0, "bytes": 0}
    assert group == {"group": SELECT, "id": 1, "type": "select", "ref_count": 0, **zero, "buckets": [zero, zero]}


def test_what_is_listed_can_be_added(switch: Stage, tmp_path: Path) -> None:
    switch.output("oko", "group", "add", BRIDGE, SELECT, ALL)
    path = tmp_path / "groups"
    path.write_text(switch.output("oko", "group", "list", BRIDGE))
    switch.output("oko", "group", "del", BRIDGE)
    assert listed(switch) == []
    switch.output("oko", "group", "add", BRIDGE, "--file", path)
    assert listed(switch) == [SELECT, ALL]


def test_groups_are_changed(switch: Stage) -> None:
    switch.output("oko", "group", "add", BRIDGE, "group_id=1,type=all")
    switch.output("oko", "group", "mod", BRIDGE, SELECT)
    assert listed(switch) == [SELECT]


@pytest.mark.parametrize("number", ["1", "group_id=1"])
def test_deleting_takes_the_flows_that_use_it(switch: Stage, number: str) -> None:
    switch.output("oko", "group", "add", BRIDGE, SELECT)
    switch.output("oko", "flow", "add", BRIDGE, "actions=group:1")
    switch.output("oko", "group", "del", BRIDGE, number)
    assert listed(switch) == []
    assert switch.output("oko", "flow", "list", BRIDGE) == ""


@pytest.mark.parametrize(
    ("command", "group", "complaint"),
    [
        pytest.param("add", SELECT, f"{SELECT}: the switch answered group-mod-failed/group-exists", id="there already"),
        pytest.param("mod", ALL, "group-mod-failed/unknown-group", id="not there"),
        pytest.param("add", "group_id=3,type=all,bucket=group:9", "bad-action/bad-out-group", id="no such group"),
        pytest.param("mod", "group_id=1,type=all,bucket=group:1", "group-mod-failed/loop", id="loop"),
        pytest.param("add", "group_id=3,type=some", "type=some is no type of group", id="type"),
        pytest.param("del", "9x", "Invalid value", id="no number"),
    ],
)
def test_groups_that_are_refused(switch: Stage, command: str, group: str, complaint: str) -> None:
    switch.output("oko", "group", "add", BRIDGE, SELECT)
    done = switch.run("oko", "group", command, BRIDGE, group)
    assert complaint in done.stderr
    assert done.returncode == (2 if command == "del" else 1)
    assert listed(switch) == [SELECT]
