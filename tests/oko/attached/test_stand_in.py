from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from oko.attached.filter_rules import FilterRules
from oko.attached.management import Management
from oko.attached.plain import PlainRule
from oko.attached.plain_mod import read_plain_mod
from oko.attached.stand_in import StandIn
from oko.flow.match import Match
from oko.flow.rule import Command
from oko.flow.text import parse_selection
from oko.wire.match import write_match
from tests.oko.attached.attached import AttachedLab, odd, with_attached
from tests.oko.attached.conftest import BRIDGE, Laboratory
from tests.ovs import needs_ovs

pytestmark = [needs_ovs, pytest.mark.needs_bpf]

FILTER = "priority=10,filter_prog=1 actions=output:3"
BASE = "priority=5,actions=output:2"
FILTERED = {2: [2], 3: [1, 3]}
"""What becomes of the frames 1, 2 and 3 by these two rules."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return odd(tmp_path_factory.mktemp("odd"))


def timed(lab: AttachedLab) -> list[PlainRule]:
    return [rule for rule in lab.upstream.rules if rule.timed]


@asynccontextmanager
async def unheeded(lab: AttachedLab) -> AsyncIterator[None]:
    """Meanwhile a rule's time is over in Open vSwitch, and the image does not follow."""
    async with lab.order._turn:
        await lab.until(lambda: not timed(lab))
        assert lab.passes()
        yield


async def followed(lab: AttachedLab) -> None:
    """Return when nothing stands in for any rule."""
    await lab.until(lambda: not lab.order.stand_ins and not lab.passes())
    assert lab.stand_ins() == []


RULES = {
    "that stands long": ("priority=20,in_port=1,hard_timeout=1", "drop", {}),
    "that is idle": ("priority=20,in_port=1,idle_timeout=1", "output:2", {2: [1, 2, 3]}),
    "of some packets": ("priority=20,dl_src=02:00:00:00:00:01,hard_timeout=1", "drop", {}),
    "just above": ("priority=11,in_port=1,hard_timeout=1", "drop", {}),
    "with a condition that is always met": ("priority=20,tun_id=0,reg15=0,in_port=1,hard_timeout=1", "drop", {}),
}


@pytest.mark.parametrize(("rule", "actions", "expected"), RULES.values(), ids=RULES)
def test_a_rule_that_open_vswitch_lets_go(
    ovs: Laboratory, program: bytes, rule: str, actions: str, expected: dict[int, list[int]]
) -> None:
    """Until the image follows it is as if the rule were there."""

    async def body(lab: AttachedLab) -> None:
        await lab.filter(FILTER)
        await lab.direct("add-flow", f"{rule},actions={actions}")
        await lab.until(lambda: bool(lab.passes()) and bool(lab.order.stand_ins))
        async with unheeded(lab):
            assert await lab.exchange(1, 2, 3) == expected
        await followed(lab)
        await lab.upstream.settle()
        assert await lab.exchange(1, 2, 3) == FILTERED

    # One as high as the filter rule comes behind that.
    ovs.add(BASE, "priority=10,actions=output:2")
    with_attached(ovs, program, body)


def test_a_rule_that_is_there_before_the_filter_rule(ovs: Laboratory, program: bytes) -> None:
    async def body(lab: AttachedLab) -> None:
        await lab.direct("add-flow", "priority=20,in_port=1,hard_timeout=2,actions=drop")
        await lab.until(lambda: bool(timed(lab)))
        assert lab.stand_ins() == []
        await lab.filter(FILTER)
        assert len(lab.stand_ins()) == 2
        async with unheeded(lab):
            assert await lab.exchange(1, 2, 3) == {}
        await followed(lab)

    ovs.add(BASE)
    with_attached(ovs, program, body)


def test_what_is_learned(ovs: Laboratory, program: bytes) -> None:
    learn = "learn(table=0,priority=20,hard_timeout=1,NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],output:NXM_OF_IN_PORT[])"

    async def body(lab: AttachedLab) -> None:
        await lab.filter(FILTER)
        assert await lab.exchange(2) == {2: [2]}
        await lab.until(lambda: bool(lab.passes()) and bool(lab.order.stand_ins))
        async with unheeded(lab):
            assert len(lab.stand_ins()) == 2
        await followed(lab)

    ovs.add(f"priority=5,actions={learn},output:2")
    with_attached(ovs, program, body)


def test_what_the_controller_is_told(ovs: Laboratory, program: bytes) -> None:
    """The rule, its counters and its end are those of Open vSwitch's own."""

    async def body(lab: AttachedLab) -> None:
        await lab.filter(FILTER)
        await lab.plain("priority=20,cookie=7,in_port=1,idle_timeout=1 actions=output:2")
        assert await lab.exchange(1, 2, 3) == {2: [1, 2, 3]}
        # Revalidators tell the tables what their flows have counted.
        await asyncio.to_thread(ovs.vswitch.appctl, "revalidator/purge")
        (line,) = ovs.vswitch.ofctl("dump-flows", BRIDGE, "cookie=7/-1").splitlines()[1:]
        assert ("n_packets=3" in line, "idle_timeout=1" in line) == (True, True)
        counts = ovs.vswitch.ofctl("dump-aggregate", BRIDGE, "cookie=0xc000000000000000/0xc000000000000000")
        assert "packet_count=0 byte_count=0 flow_count=2" in counts
        await followed(lab)

    ovs.add(BASE)
    with_attached(ovs, program, body)


def test_a_rule_that_changes(ovs: Laboratory, program: bytes) -> None:
    async def body(lab: AttachedLab) -> None:
        await lab.filter(FILTER)
        await lab.plain("priority=20,in_port=1,hard_timeout=2 actions=drop")
        await lab.plain("priority=20,in_port=1 actions=output:3", Command.MODIFY_STRICT)
        (beside, instead) = sorted(lab.stand_ins(), key=len)
        await lab.until(lambda: any("output:3" in line or '"p3"' in line for line in lab.stand_ins()))
        assert lab.passes() == [20]
        assert (beside, instead) != tuple(sorted(lab.stand_ins(), key=len))
        async with unheeded(lab):
            assert await lab.exchange(1, 2) == {3: [1, 2]}
        await followed(lab)

    ovs.add(BASE)
    with_attached(ovs, program, body)


ENDS = {
    "the rule is deleted": ("plain", "in_port=1", Command.DELETE),
    "the filter rule is deleted": ("filter", "filter_prog=1", Command.DELETE),
    "another without a timeout comes in its place": ("plain", "priority=20,in_port=1 actions=output:2", Command.ADD),
}


@pytest.mark.parametrize(("way", "change", "command"), ENDS.values(), ids=ENDS)
def test_nothing_stands_in_for_nothing(
    ovs: Laboratory, program: bytes, way: str, change: str, command: Command
) -> None:
    async def body(lab: AttachedLab) -> None:
        await lab.filter(FILTER)
        await lab.plain("priority=20,in_port=1,hard_timeout=1000 actions=drop")
        assert len(lab.stand_ins()) == 2
        await (lab.plain if way == "plain" else lab.filter)(change, command)
        if command is Command.DELETE and way == "plain":
            # What comes behind a barrier is decided by what there is.
            assert lab.stand_ins() == []
        await lab.until(lambda: not lab.order.stand_ins)
        assert lab.stand_ins() == []

    ovs.add(BASE)
    with_attached(ovs, program, body)


@pytest.mark.parametrize("deleted", ["", "in_port=1"], ids=["with the filter rule", "alone"])
def test_nothing_stands_in_for_what_somebody_deletes(ovs: Laboratory, program: bytes, deleted: str) -> None:
    """Not even for a moment: what is below is gone as well, or it is not."""

    async def body(lab: AttachedLab) -> None:
        await lab.filter(FILTER)
        await lab.plain("priority=20,in_port=1,hard_timeout=1000 actions=drop")
        message = await lab.mod(deleted, Command.DELETE)

        async def forward() -> None:
            assert (len(lab.flows()), lab.stand_ins()) == (2, [])

        await lab.order.plain([read_plain_mod(message)], forward)
        # As Open vSwitch has not deleted it.
        await lab.until(lambda: bool(deleted) == bool(lab.stand_ins()))

    ovs.add(BASE)
    with_attached(ovs, program, body)


def test_the_filter_rule_goes_and_the_rule_at_once(ovs: Laboratory, program: bytes) -> None:
    async def body(lab: AttachedLab) -> None:
        await lab.filter(FILTER)
        await lab.plain("priority=20,in_port=1,hard_timeout=1000 actions=drop")
        # Nobody has the turn between the two.
        deleted = [lab.filter("filter_prog=1", Command.DELETE), lab.plain("in_port=1", Command.DELETE)]
        await asyncio.gather(*deleted)
        assert (lab.flows(), lab.stand_ins()) == (["priority=5 actions=output:2"], [])
        await lab.until(lambda: lab.order.idle)

    ovs.add(BASE)
    with_attached(ovs, program, body)


def test_the_next_change_comes_after(ovs: Laboratory, program: bytes) -> None:
    """A change that somebody asks for when the rule is gone is not made as if it were there."""

    async def body(lab: AttachedLab) -> None:
        await lab.filter(FILTER)
        await lab.plain("priority=20,in_port=1,hard_timeout=1 actions=drop")
        async with unheeded(lab):
            change = asyncio.ensure_future(lab.plain("priority=15,in_port=1 actions=output:3"))
            await lab.until(lambda: bool(lab.order._turn._waiters))
        await change
        assert lab.passes() == [15]
        assert lab.stand_ins() == []
        assert await lab.exchange(1, 2) == {3: [1, 2]}

    ovs.add(BASE)
    with_attached(ovs, program, body)


def test_stand_ins_are_put_back(ovs: Laboratory, program: bytes) -> None:
    async def body(lab: AttachedLab) -> None:
        await lab.filter(FILTER)
        await lab.plain("priority=20,in_port=1,hard_timeout=1000 actions=drop")
        before = lab.stand_ins()
        own = lab.own_flows()
        await lab.direct("del-flows", "cookie=0xc000000000000000/0xc000000000000000")
        await lab.until(lambda: lab.stand_ins() == before)
        await lab.direct("mod-flows", "in_port=1,actions=output:3")
        await lab.until(lambda: bool(lab.order.stand_ins) and not lab.order.trouble and lab.own_flows() == own)
        await lab.until(lambda: lab.order.stand_ins.known)
        assert len(lab.stand_ins()) == 2

    ovs.add(BASE)
    with_attached(ovs, program, body)


def test_another_connection(ovs: Laboratory, program: bytes) -> None:
    """What was there before the connection, or before okod, stays until the image has followed, and goes then."""

    async def body(lab: AttachedLab) -> None:
        await lab.filter(FILTER)
        await lab.plain("priority=20,in_port=1,hard_timeout=1 actions=drop")
        await lab.plain("priority=21,in_port=2,hard_timeout=1000 actions=drop")
        async with lab.order._turn:
            assert lab.upstream._management is not None
            lab.upstream._management.abandon("as if it had ended")
            await lab.until(lambda: not lab.upstream.following)
            await lab.until(lambda: lab.upstream.following and len(timed(lab)) == 1)
            assert sorted(lab.passes()) == [20, 21]
            assert len(lab.stand_ins()) == 4
            assert await lab.exchange(1, 2) == {}
        await lab.until(lambda: not lab.order.trouble and lab.order.stand_ins.known)
        assert lab.passes() == [21]
        assert len(lab.stand_ins()) == 2
        assert await lab.exchange(1, 2) == {2: [2], 3: [1]}

    ovs.add(BASE)
    with_attached(ovs, program, body)


def test_open_vswitch_restarts(ovs: Laboratory, program: bytes) -> None:
    async def body(lab: AttachedLab) -> None:
        await lab.filter(FILTER)
        await lab.plain("priority=20,in_port=1,hard_timeout=1000 actions=drop")
        await asyncio.to_thread(lambda: ovs.vswitch.stop_switch(abruptly=True))
        await lab.until(lambda: bool(lab.order.trouble))
        await asyncio.to_thread(ovs.vswitch.start_switch)
        await lab.until(lambda: not lab.order.trouble and lab.order.stand_ins.known)
        await followed(lab)

    with_attached(ovs, program, body)


def test_open_vswitch_takes_none(ovs: Laboratory, program: bytes) -> None:
    """There is room for the rule, and not for two more."""

    async def body(lab: AttachedLab) -> None:
        await lab.filter(FILTER)
        room = len(ovs.vswitch.ofctl("--no-stats dump-flows", BRIDGE, "table=0").splitlines()) - 1
        full = ("--", "--id=@full", "create", "Flow_Table", f"flow_limit={room + 2}", "overflow_policy=refuse")
        ovs.vswitch.vsctl("set", "bridge", BRIDGE, "flow_tables:0=@full", *full)
        try:
            await lab.direct("add-flow", "priority=20,in_port=1,hard_timeout=1000,actions=drop")
            await lab.until(lambda: bool(lab.order.table.suspended()))
            (rule,) = lab.order.table.suspended()
            assert "stands in" in lab.order.suspension(rule)[1]
            assert await lab.exchange(1, 2) == {}
        finally:
            ovs.vswitch.vsctl("clear", "bridge", BRIDGE, "flow_tables")
        await lab.until(lambda: not lab.order.table.suspended())
        assert lab.passes() == [20]
        assert len(lab.stand_ins()) == 2

    ovs.add(BASE)
    with_attached(ovs, program, body)


def test_packets_for_the_controller_have_the_cookie_of_the_rule(ovs: Laboratory, program: bytes) -> None:
    async def body(lab: AttachedLab) -> None:
        await lab.filter(FILTER)
        await lab.plain("priority=20,cookie=7,in_port=1,hard_timeout=1 actions=drop")
        ((stand_in),) = lab.order.stand_ins
        rules = FilterRules(lab.bridge, lab.order)
        assert rules.cookie_of(stand_in.cookie) == 7
        await followed(lab)
        assert rules.cookie_of(stand_in.cookie) == (1 << 64) - 1

    with_attached(ovs, program, body)


MATCHES = {
    "": "",
    "in_port=1": "in_port=2",
    "ip": "arp",
    "dl_src=02:00:00:00:00:01": "dl_src=02:00:00:00:00:03",
    "ip,nw_dst=10.0.0.2": "ip,nw_dst=10.0.0.3",
}
"""Matches of one packet, and others with the same masks."""
PACKET = "in_port=1,ip,dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,nw_dst=10.0.0.2"


@pytest.mark.parametrize("first", [False, True], ids=["a newer one", "an older one"])
def test_the_one_in_its_stead_wins_over_others_as_high(ovs: Laboratory, first: bool) -> None:
    """Also if the other's mask has rules of high priority."""

    async def place(match: str) -> None:
        fields = write_match(parse_selection(match).rule.match)
        drop = PlainRule(0, 10, Match(), hard_timeout=1, fields=fields)
        management = await Management.connect(ovs.vswitch.management(BRIDGE), lambda _: None, lambda _: None)
        await management.change(list(StandIn(drop, 3 << 62).adds()))
        management.close()

    for one, other in itertools.permutations(MATCHES, 2):
        ovs.delete()
        others = (f"priority=9,{other},actions=output:3", f"priority=65533,{MATCHES[other]},actions=output:3")
        ovs.add(*(others[: 2 if other else 1] if first else ()))
        asyncio.run(place(one))
        ovs.add(*(() if first else others[: 2 if other else 1]))
        assert "Datapath actions: drop" in ovs.vswitch.appctl("ofproto/trace", BRIDGE, PACKET), (one, other)
