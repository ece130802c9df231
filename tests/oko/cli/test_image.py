from __future__ import annotations

import pytest

from ofext.extension import ImageRequest
from oko.cli.client import Client
from oko.errors import RemoteError
from tests.stage import BRIDGE, Stage

pytestmark = pytest.mark.needs_bpf

RULES = ("priority=5,tcp,filter_prog=1 actions=dec_ttl,goto_table:3", "table=3, actions=group:1")


@pytest.fixture
def tables(firewall: Stage) -> Stage:
    firewall.output("oko", "group", "add", BRIDGE, "group_id=1,type=all,bucket=IN_PORT")
    firewall.output("oko", "flow", "add", BRIDGE, *RULES)
    return firewall


def test_text(tables: Stage) -> None:
    lines = tables.output("oko", "image", "show", BRIDGE).splitlines()
    assert lines[0] == "pipeline:"
    for rule in RULES:
        assert lines.count(f";   {rule}") == 2, "where it is looked up, and where it is carried out"
    assert lines[lines.index("firewall:") + 1] == "; program 1"
    assert any(line.endswith("call oko_dec_ttl") for line in lines)


def test_graph(tables: Stage) -> None:
    lines = [line.strip() for line in tables.output("oko", "image", "show", BRIDGE, "--dot").splitlines()]
    assert lines[0] == "digraph pipeline {"
    assert {'t0s0 -> t3 [label="goto"]', "t3s0 -> group1", 't0s0 -> program1 [label="asks" style=dashed]'} <= set(lines)


def test_many_rules(switch: Stage) -> None:
    """The text spans several parts of an answer."""
    flows = [f"priority={number},metadata={number:#x}/{number:#x} actions=drop" for number in range(1, 400)]
    switch.output("oko", "flow", "add", BRIDGE, "-", stdin="\n".join(flows))
    text = switch.output("oko", "image", "show", BRIDGE)
    assert len(text) > 1 << 16
    assert all(f";   {flow}\n" in text for flow in flows)


def test_a_format_that_is_none(switch: Stage) -> None:
    with Client.connect(BRIDGE, switch.rundir) as client, pytest.raises(RemoteError, match="bad-request/bad-packet"):
        client.report(ImageRequest(2))
