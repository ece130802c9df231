"""Packets of real hosts, through okod's datapath."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from tests.e2e.conftest import BOTH_WAYS, PORTS, Network
from tests.stage import BRIDGE, FIREWALL, ROOT

pytestmark = pytest.mark.needs_bpf

CLIENT, SERVER = "10.0.0.1", "10.0.0.2"


def flows(network: Network) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(network.output("oko", "flow", "list", BRIDGE, "--json"))
    return found


def test_hosts_talk_when_rules_let_them(network: Network) -> None:
    network.start(*PORTS)
    network.listen("server", SERVER)
    network.output("oko", "flow", "add", BRIDGE, *(f"arp,{flow}" for flow in BOTH_WAYS))
    assert not network.connects("client", SERVER)
    network.output("oko", "flow", "add", BRIDGE, *(f"ip,{flow}" for flow in BOTH_WAYS))
    assert network.connects("client", SERVER)
    assert all(flow["packets"] > 0 and flow["bytes"] >= 42 * flow["packets"] for flow in flows(network))
    network.output("oko", "flow", "del", BRIDGE, "ip,in_port=2")
    assert not network.connects("client", SERVER)


def test_the_firewall_refuses_what_the_server_opens(network: Network) -> None:
    network.start(*PORTS)
    network.output("oko-load", BRIDGE, "1", FIREWALL)
    network.output("oko", "flow", "add", BRIDGE, "--file", ROOT / "demo" / "firewall.flows")
    network.listen("server", SERVER)
    network.listen("client", CLIENT)
    assert network.connects("client", SERVER)
    assert not network.connects("server", CLIENT)
    (dropped,) = (flow["packets"] for flow in flows(network) if "actions=drop" in flow["flow"])
    (program,) = json.loads(network.output("oko", "program", "list", BRIDGE, "--json"))
    assert program["runs"] - program["matches"] == dropped > 0
    # What the program believes can be changed from outside: now port 2 may open connections, too.
    network.output("oko", "map", "update", BRIDGE, "1", ".data.config", "0", '{"config": {"openers": 6}}')
    assert network.connects("server", CLIENT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_packets_flow_on_without_okod(network: Network, number: signal.Signals) -> None:
    before = network.offloads("client")
    okod = network.start(*PORTS)
    network.output("oko", "flow", "add", BRIDGE, *BOTH_WAYS)
    network.listen("server", SERVER)
    assert okod.end(number) == (-number if number is signal.SIGKILL else 0)
    assert network.connects("client", SERVER)
    assert network.offloads("client") != before
    bridges = json.loads(network.output("oko", "bridge", "list", "--json"))
    assert [(bridge["name"], bridge["running"]) for bridge in bridges] == [(BRIDGE, False)]
    assert "its okod does not run" in network.error("oko", "flow", "list", BRIDGE)
    network.output("oko", "bridge", "del", BRIDGE)
    assert [network.xdp_mode(port) for port in ("p1", "p2")] == [None, None]
    assert network.offloads("client") == before
    assert network.left() == []
    assert not network.connects("client", SERVER)
