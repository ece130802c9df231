"""Networks that rules are for."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv4Network

import pytest

from perf.networks import Network, benchmarked, hosts, prefixes


def test_prefixes_are_networks_of_all_lengths_and_always_the_same() -> None:
    found = prefixes(17_000)
    assert len({IPv4Network(str(network)) for network in found}) == 17_000
    assert set(Counter(network.length for network in found).values()) == {1_000}
    assert prefixes(17_000) == found


def test_some_prefixes_lie_in_others() -> None:
    short = {network.first >> 16 for network in prefixes(17_000) if network.length == 16}
    assert any(network.first >> 16 in short for network in prefixes(17_000) if network.length > 16)


@pytest.mark.parametrize(
    ("made", "within"),
    [
        pytest.param(hosts(1_000_000), "16.0.0.0/8", id="hosts"),
        pytest.param(benchmarked(1 << 17), "198.18.0.0/15", id="benchmarked"),
    ],
)
def test_addresses_follow_each_other(made: list[Network], within: str) -> None:
    around = IPv4Network(within)
    assert [network.first for network in made] == list(range(made[0].first, made[0].first + len(made)))
    assert made[0].first == int(around.network_address)
    assert made[-1].first <= int(around.broadcast_address)
    assert {network.length for network in made} == {32}
