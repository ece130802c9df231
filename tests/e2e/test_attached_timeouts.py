"""Plain rules of an attached bridge that Open vSwitch lets go, okod or no okod."""

from __future__ import annotations

import signal

import pytest

from tests.e2e.test_attached import Attached, attached, found
from tests.oko.kernel.waiting import wait_until
from tests.ovs import needs_ovs
from tests.stage import BRIDGE

__all__ = ["attached"]
pytestmark = [needs_ovs, pytest.mark.needs_bpf]


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_while_no_okod_runs(attached: Attached, ending: int) -> None:
    """What the rule said is done on until okod is back, and no packet passes a filter rule by."""
    attached.vswitch.ofctl("add-flow", BRIDGE, "priority=5,actions=output:2")
    before = found(attached)
    okod = attached.attach("--mode=listen")
    attached.load_odd()
    attached.oko("flow", "add", BRIDGE, "priority=10,filter_prog=1,actions=output:3")
    attached.vswitch.ofctl("add-flow", BRIDGE, "priority=20,in_port=1,hard_timeout=3,actions=drop")
    wait_until(lambda: attached.exchange(1) == {})
    okod.end(ending)
    wait_until(lambda: "hard_timeout" not in attached.vswitch.ofctl("dump-flows", BRIDGE))
    assert attached.exchange(1, 2) == {}
    attached.attach("--mode=listen")
    wait_until(lambda: "cookie=0xc" not in attached.vswitch.ofctl("dump-flows", BRIDGE))
    assert attached.exchange(3, 4) == {2: [4], 3: [3]}
    attached.detach()
    assert found(attached) == before


def test_detached_before(attached: Attached) -> None:
    """The rule is as it was."""
    attached.vswitch.ofctl("add-flow", BRIDGE, "priority=20,in_port=1,idle_timeout=1000,hard_timeout=2000,actions=drop")
    before = found(attached)
    attached.attach()
    attached.load_odd()
    attached.oko("flow", "add", BRIDGE, "priority=10,filter_prog=1,actions=NORMAL")
    assert "idle_timeout=1000, hard_timeout=2000" in attached.vswitch.ofctl("--no-stats dump-flows", BRIDGE)
    attached.detach()
    assert found(attached) == before
