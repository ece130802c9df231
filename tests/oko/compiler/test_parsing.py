"""What the emitted parser reads, and what it leaves to the one in C: rules find the packets that they are for."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oko.flow.action import ApplyActions, Output
from oko.flow.fields import BY_NAME
from oko.flow.headers import parse
from oko.flow.match import Condition, Match
from oko.flow.rule import Rule
from oko.flow.tables import Tables
from oko.replay.engine import SHORTEST
from tests.oko.compiler.strategies import make_tables
from tests.oko.compiler.test_pipeline import run_both
from tests.oko.flow.frames import frames

pytestmark = pytest.mark.needs_bpf

DEPTHS = {
    "Ethernet": ("in_port", "eth_dst", "eth_src", "eth_type", "vlan_vid"),
    "one Ethernet address": ("eth_src",),
    "IP": ("eth_type", "ip_proto", "ip_dscp", "ip_ecn", "ipv4_src", "ipv4_dst"),
    "fragments": ("eth_type", "ip_frag", "ipv4_dst"),
    "TCP": ("eth_type", "ip_proto", "tcp_src", "tcp_dst", "tcp_flags"),
    "ports only": ("eth_type", "ip_proto", "udp_dst"),
    "neighbour discovery": ("eth_type", "ip_proto", "ipv6_nd_target", "arp_op"),
}


def rules_for(fields: tuple[str, ...], frame: bytes) -> Tables:
    """Of one rule, for the packets that have these fields as `frame` has them."""
    found = parse(frame, 1)
    assert found is not None
    conditions = tuple(Condition(BY_NAME[name], found[name], BY_NAME[name].full) for name in fields)
    return make_tables([Rule(Match(conditions), (ApplyActions((Output(2),)),), 5)])


@pytest.mark.parametrize("fields", DEPTHS.values(), ids=DEPTHS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(drawn=st.lists(frames().filter(lambda frame: len(frame) >= SHORTEST), min_size=2, max_size=12))
def test_frames_of_every_kind(fields: tuple[str, ...], drawn: list[bytes]) -> None:
    decisions = run_both(rules_for(fields, drawn[0]), {}, [(frame, 1, 0) for frame in drawn])
    assert decisions[0].drop is None
