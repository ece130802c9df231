"""Rules of a real Open vSwitch as Oko reads them."""

from __future__ import annotations

import pytest

from ofext.monitor import DeletedReason, FlowUpdate, OwnUpdate, UpdateEvent
from ofext.oxm import Oxm
from oko.attached.plain import HIDDEN, PlainRules, read_rule
from oko.attached.shim import OWN_COOKIE
from oko.flow.fields import BY_OXM
from tests.oko.attached.conftest import Laboratory
from tests.oko.attached.connected import connected, described
from tests.oko.attached.following import run
from tests.ovs import needs_ovs

READ = {
    "nothing": ("priority=5", "priority=5"),
    "masks": ("priority=5,tcp,tp_src=0x10/0xf0,nw_src=10.0.0.0/8", "priority=5,tcp,nw_src=10.0.0.0/8,tp_src=0x10/0xf0"),
    "tags": ("priority=5,dl_vlan=7,dl_vlan_pcp=3", "priority=5,dl_vlan=7,dl_vlan_pcp=3"),
    "no tag": ("priority=5,vlan_tci=0/0x1fff", "priority=5,vlan_vid=0x0000"),
    "flags": ("priority=5,tcp,tcp_flags=+syn-ack", "priority=5,tcp,tcp_flags=+syn-ack"),
    "fragments": ("priority=5,ip,ip_frag=first", "priority=5,ip,nw_frag=first"),
    "IPv6": ("priority=5,icmp6,icmp_type=135,nd_target=::1", "priority=5,icmp6,icmp_type=135,nd_target=::1"),
    "registers": ("priority=5,reg3=5,udp", "priority=5,udp ?reg3 later"),
    "a register that is still zero": ("priority=5,reg3=0,udp", "priority=5,udp"),
    "a register in part": ("priority=5,reg3=0/0xf,udp", "priority=5,udp"),
    "wide registers": ("priority=5,xreg1=5", "priority=5 ?reg3 later"),
    "a tunnel": ("priority=5,tun_id=9,tun_src=10.0.0.1", "priority=5 ?tun_id ?tun_src later"),
    "a connection that is tracked": ("priority=5,ip,ct_state=+trk,ct_zone=3", "priority=5,ip ?ct_state ?ct_zone later"),
    "a connection that is not tracked yet": ("priority=5,ip,ct_state=-trk", "priority=5,ip"),
    "a mark": ("priority=5,pkt_mark=5", "priority=5 ?pkt_mark"),
    "TTL": ("priority=5,ip,nw_ttl=1", "priority=5,ip ?nw_ttl"),
    "TTL of MPLS": ("priority=5,mpls,mpls_ttl=1", "priority=5,mpls ?mpls_ttl"),
    "the action set": ("priority=5,actset_output=1", "priority=5 ?actset_output"),
    "NSH": ("priority=5,dl_type=0x894f,nsh_spi=5", "priority=5,dl_type=0x894f ?nsh_spi"),
    "a conjunction": ("priority=5,ip,conj_id=4", "priority=5,ip ?conj_id"),
    "a mask that Oko does not take": (
        "priority=5,icmp6,icmp_type=136,nd_target=::1,nd_tll=02:00:00:00:00:00/fe:00:00:00:00:00",
        "priority=5,icmp6,icmp_type=136,nd_target=::1,nd_tll=02:00:00:00:00:00/fe:00:00:00:00:00",
    ),
}
"""A flow, and what is understood of it."""


@needs_ovs
@pytest.mark.parametrize(("flow", "expected"), READ.values(), ids=READ.keys())
def test_reading(ovs: Laboratory, flow: str, expected: str) -> None:
    async def main() -> None:
        async with connected(ovs) as (upstream, _):
            (rule,) = upstream.rules
        assert described(rule) == expected

    ovs.add(f"{flow},actions=drop")
    run(main())


@needs_ovs
def test_a_part_of_a_conjunction_decides_nothing(ovs: Laboratory) -> None:
    async def main() -> None:
        async with connected(ovs) as (upstream, _):
            (rule,) = upstream.rules
        assert described(rule) == "priority=5,ip,nw_src=10.0.0.1 ?conjunction()"

    ovs.add("priority=5,ip,nw_src=10.0.0.1,actions=conjunction(4,1/2)")
    run(main())


def test_hidden_fields_are_not_those_that_oko_knows() -> None:
    assert not HIDDEN.keys() & BY_OXM.keys()


UDP = (Oxm(0x8000, 5, b"\x08\x00"), Oxm(0x8000, 10, b"\x11"))


def update(event: UpdateEvent, reason: int = 0, cookie: int = 0, match: tuple[Oxm, ...] = UDP) -> FlowUpdate:
    return FlowUpdate(event, reason, 5, 0, 0, 0, cookie, match)


def test_a_field_that_nobody_knows() -> None:
    rule = read_rule(update(UpdateEvent.ADDED, match=(Oxm(0x7FFF, 3, b"\1"),)))
    assert rule.unseen == ("field 0x7fff:3",)
    assert not rule.later


def test_a_value_that_oko_refuses() -> None:
    """Nothing is known of such a rule then."""
    rule = read_rule(update(UpdateEvent.ADDED, match=(Oxm(0x8000, 8, b"\x40"),)))
    assert rule.match.conditions == ()
    assert len(rule.unseen) == 1
    assert "ip_dscp" in rule.unseen[0]


def test_what_is_told_is_known() -> None:
    rules = PlainRules()
    (added,) = rules.apply([update(UpdateEvent.ADDED, cookie=1), OwnUpdate(5)])
    assert [rule.cookie for rule in rules] == [1]
    (modified,) = rules.apply([update(UpdateEvent.MODIFIED, cookie=2)])
    assert [rule.cookie for rule in rules] == [2]
    (deleted,) = rules.apply([update(UpdateEvent.DELETED, DeletedReason.HARD_TIMEOUT, cookie=2)])
    assert len(rules) == 0
    assert [change.event.name for change in (added, modified, deleted)] == ["ADDED", "MODIFIED", "DELETED"]
    assert deleted.rule == modified.rule
    assert deleted.reason is DeletedReason.HARD_TIMEOUT


def test_the_end_of_a_rule_that_was_not_known() -> None:
    """One of Oko's own, which its own connection has made."""
    (deleted,) = PlainRules().apply([update(UpdateEvent.DELETED, DeletedReason.DELETE, cookie=OWN_COOKIE | 3)])
    assert deleted.rule.own


def test_a_reason_that_nobody_knows() -> None:
    (deleted,) = PlainRules().apply([update(UpdateEvent.DELETED, 77)])
    assert deleted.reason is DeletedReason.DELETE
