"""What a bridge does when the world around it changes, and when changes come in bulk."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from oko.errors import BadAction, LimitExceeded, OkoError
from oko.flow.rule import Command, FlowMod
from oko.flow.text import parse_rule
from tests.oko.switch.conftest import Rig

pytestmark = pytest.mark.needs_bpf


def gone(rig: Rig) -> list[int]:
    """The ports whose interface is not there."""
    return rig.inside(lambda: [port.number for port in rig.bridge.ports if not rig.bridge.is_live(port)])


def drops(rig: Rig) -> dict[str, int]:
    return {reason.name: count.packets for reason, count in rig.bridge.drops().items() if count.packets}


def delete_link(rig: Rig) -> None:
    rig.inside(lambda: subprocess.run(["ip", "link", "del", "p2"], check=True))


def move_link(rig: Rig, elsewhere: str) -> None:
    rig.inside(lambda: subprocess.run(["ip", "link", "set", "p2", "netns", elsewhere], check=True))


@pytest.mark.parametrize("how", ["deleted", "moved"])
def test_a_port_that_is_gone_takes_nothing_else_along(rig: Rig, namespace: Callable[[str], object], how: str) -> None:
    rig.attach()
    assert rig.add("in_port=1,actions=output:2") == []
    assert gone(rig) == []
    if how == "deleted":
        delete_link(rig)
    else:
        move_link(rig, str(namespace("elsewhere")))
    assert gone(rig) == [2]
    # Changes that mean it, and changes that do not, go on; what is sent there is dropped and counted.
    assert (
        rig.add("priority=1,in_port=1,tcp,actions=output:2", "in_port=2,actions=output:1", "priority=1,actions=drop")
        == []
    )
    rig.send("h1", "02:00:00:00:00:02", 5)
    assert drops(rig) == {"NO_PORT": 5}
    assert len(rig.bridge.tables) == 4


def test_drops_are_listed_by_reason(rig: Rig) -> None:
    rig.attach()
    rig.send("h1", "02:00:00:00:00:02", 3)
    assert rig.add("in_port=1,actions=output:1") == []
    rig.send("h1", "02:00:00:00:00:02", 2)
    assert drops(rig) == {"MISS": 3, "TO_INGRESS": 2}


def test_what_goes_beyond_a_limit_fails_alone(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a batch that cannot be compiled together, everything is carried out but what breaks the limit."""
    commit = rig.bridge._commit
    attempts = []

    def at_most_30(draft: Any) -> None:
        attempts.append(len(draft.tables))
        if len(draft.tables) > 30:
            raise LimitExceeded("rules", len(draft.tables), 30)
        commit(draft)

    monkeypatch.setattr(rig.bridge, "_commit", at_most_30)
    mods = [FlowMod(Command.ADD, parse_rule(f"priority={number},in_port=1,actions=output:2")) for number in range(32)]
    mods.insert(3, FlowMod(Command.ADD, parse_rule("actions=output:9")))
    outcomes: list[OkoError | None] = rig.inside(lambda: rig.bridge.change(mods))
    refused = {index: type(error) for index, error in enumerate(outcomes) if error is not None}
    assert refused == {3: BadAction, 31: LimitExceeded, 32: LimitExceeded}
    assert len(rig.bridge.tables) == 30
    assert len(attempts) < len(mods)
