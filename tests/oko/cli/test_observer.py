from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.stage import BRIDGE, Stage

pytestmark = pytest.mark.needs_bpf

TCP = "table=0,tcp,tp_dst=80,filter_prog=1"
LATER = "table=3,filter_prog=1"


def test_both_ways(firewall: Stage, tmp_path: Path) -> None:
    firewall.output("oko", "observer", "add", BRIDGE, LATER, "tcp,tp_dst=80,filter_prog=1")
    printed = firewall.output("oko", "observer", "list", BRIDGE)
    assert printed.splitlines() == [TCP, LATER]
    firewall.output("oko", "observer", "del", BRIDGE, TCP)
    assert firewall.output("oko", "observer", "list", BRIDGE).splitlines() == [LATER]
    path = tmp_path / "observers"
    path.write_text(printed)
    firewall.output("oko", "observer", "add", BRIDGE, "--file", path)
    assert firewall.output("oko", "observer", "list", BRIDGE) == printed


def test_json(firewall: Stage) -> None:
    firewall.output("oko", "observer", "add", BRIDGE, LATER)
    (observer,) = json.loads(firewall.output("oko", "observer", "list", BRIDGE, "--json"))
    assert observer == {"observer": LATER, "table": 3, "program": 1}


@pytest.mark.parametrize(
    ("command", "observer", "complaint"),
    [
        pytest.param("add", "filter_prog=2", "program 2 is not loaded", id="no such program"),
        pytest.param("add", "ip", "name it with filter_prog", id="no program"),
        pytest.param("del", LATER, "flow-mod-failed/unknown", id="not there"),
    ],
)
def test_observers_that_are_refused(firewall: Stage, command: str, observer: str, complaint: str) -> None:
    assert complaint in firewall.error("oko", "observer", command, BRIDGE, observer)
    assert firewall.output("oko", "observer", "list", BRIDGE) == ""
