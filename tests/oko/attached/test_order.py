from __future__ import annotations

import asyncio
import random
import subprocess
from dataclasses import replace

import pytest

from ofext.constants import FlowModFlag, FlowRemovedReason
from ofext.instructions import ApplyActions, Group
from ofext.messages import FlowRemoved
from ofext.multipart import FlowStatsRequest
from oko.attached.plain_mod import read_plain_mod
from oko.attached.silence import FULL, LITTLE
from oko.errors import AttachError, BadFlowMod, BundleFailed, OkoError, RemoteError, UnknownProgram
from oko.flow.attachment import Shims
from oko.flow.port import PortState
from oko.flow.reference import ReferenceSwitch
from oko.flow.rule import Command
from oko.flow.tables import Tables
from oko.wire.change import read_flow_mod
from tests.e2e import wire
from tests.oko.attached.attached import AttachedLab, odd, with_attached
from tests.oko.attached.conftest import BRIDGE, Laboratory
from tests.ovs import needs_ovs

pytestmark = [needs_ovs, pytest.mark.needs_bpf]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return odd(tmp_path_factory.mktemp("odd"))


FILTER_RULES = {
    "dropped": ("priority=10,filter_prog=1 actions=drop", {2: [2]}),
    "sent by XDP": ("priority=10,filter_prog=1 actions=output:3", {2: [2], 3: [1, 3]}),
    "sent to several": ("priority=10,in_port=1,filter_prog=1 actions=output:3,output:2", {2: [1, 2, 3], 3: [1, 3]}),
    "flooded": ("priority=10,filter_prog=1 actions=NORMAL", {2: [1, 2, 3], 3: [1, 3]}),
    "of another port": ("priority=10,in_port=2,filter_prog=1 actions=drop", {2: [1, 2, 3]}),
    "continued in another table": ("priority=10,filter_prog=1 actions=goto_table:4", {2: [2], 3: [1, 3]}),
    "below a plain rule": ("priority=3,filter_prog=1 actions=NORMAL", {2: [1, 2, 3]}),
    "as high as a plain rule": ("priority=5,filter_prog=1 actions=NORMAL", {2: [1, 2, 3], 3: [1, 3]}),
}
"""A filter rule over the plain rule ``priority=5,actions=output:2``, and which of the frames 1, 2 and 3 arrive
where."""


@pytest.mark.parametrize(("rule", "expected"), FILTER_RULES.values(), ids=FILTER_RULES)
def test_a_filter_rule(ovs: Laboratory, program: bytes, rule: str, expected: dict[int, list[int]]) -> None:
    async def body(lab: AttachedLab) -> None:
        before = await lab.exchange(1, 2, 3)
        assert before == {2: [1, 2, 3]}
        await lab.filter(rule)
        assert await lab.exchange(1, 2, 3) == expected
        await lab.filter("filter_prog=1", Command.DELETE)
        assert await lab.exchange(1, 2, 3) == before
        await lab.until(lambda: not lab.order.table.ids.quarantine)
        assert lab.flows() == ["priority=5 actions=output:2"]

    ovs.add("priority=5,actions=output:2", "table=4,actions=output:3")
    with_attached(ovs, program, body)


FLOOD_ODD = "priority=10,filter_prog=1 actions=NORMAL"


def test_what_xdp_decides_does_not_reach_open_vswitch(ovs: Laboratory, program: bytes) -> None:
    async def body(lab: AttachedLab) -> None:
        await lab.filter("priority=10,filter_prog=1 actions=output:3")
        assert lab.order.table.ids.used == frozenset()
        await lab.filter("priority=10,filter_prog=1,in_port=2 actions=NORMAL")
        assert lab.order.table.ids.used == {1}

    with_attached(ovs, program, body)


def test_a_filter_rule_that_does_something_else(ovs: Laboratory, program: bytes) -> None:
    async def body(lab: AttachedLab) -> None:
        await lab.filter(FLOOD_ODD)
        assert await lab.exchange(1) == {2: [1], 3: [1]}
        await lab.filter("filter_prog=1 actions=group:1", Command.MODIFY)
        assert await lab.exchange(1) == {3: [1]}
        await lab.filter("priority=10,filter_prog=1 actions=output:2", Command.MODIFY_STRICT)
        assert await lab.exchange(1) == {2: [1]}
        await lab.filter("priority=11,filter_prog=1 actions=drop", Command.MODIFY_STRICT)
        assert await lab.exchange(1) == {2: [1]}
        await lab.filter(FLOOD_ODD)
        assert await lab.exchange(1) == {2: [1], 3: [1]}
        (flow,) = lab.rules.flows(FlowStatsRequest())
        assert (flow.packet_count, flow.instructions) == (5, await lab.instructions("NORMAL"))

    ovs.vswitch.ofctl("--may-create mod-group", BRIDGE, "group_id=1,type=all,bucket=output:3")
    with_attached(ovs, program, body)


REFUSED = {
    "another table": ("table=1,filter_prog=1 actions=drop", BadFlowMod, "table 0 only"),
    "a program that is not loaded": ("filter_prog=2 actions=drop", UnknownProgram, "not loaded"),
    "an action of Open vSwitch's": ("filter_prog=1 actions=group:77", RemoteError, "bad-out-group"),
    "below a hidden rule": ("priority=3,filter_prog=1,in_port=1 actions=drop", BadFlowMod, "pkt_mark"),
    "over another": ("priority=8,filter_prog=1,in_port=3,tcp,check_overlap actions=drop", BadFlowMod, "overlaps"),
}


@pytest.mark.parametrize(("rule", "kind", "said"), REFUSED.values(), ids=REFUSED)
def test_refusals(ovs: Laboratory, program: bytes, rule: str, kind: type[OkoError], said: str) -> None:
    """Nothing has changed then, and the next change finds nothing in its way."""

    async def body(lab: AttachedLab) -> None:
        await lab.filter("priority=8,filter_prog=1,in_port=3 actions=NORMAL")
        own = lab.own_flows()
        message = await lab.mod(rule.replace(",check_overlap", "").replace("group:77", "drop"))
        if "check_overlap" in rule:
            message = replace(message, flags=FlowModFlag.CHECK_OVERLAP)
        if "table=1" in rule:
            message = replace(message, table_id=1)
        if "group:77" in rule:
            message = replace(message, instructions=(ApplyActions((Group(77),)),))
        (error,) = await lab.rules.change([message])
        assert isinstance(error, kind)
        assert said in str(error)
        assert (set(lab.order.table.ids.used), lab.own_flows()) == ({1}, own)
        assert [entry.rule.priority for entry in lab.order.table.entries()] == [8]
        with pytest.raises(BundleFailed) as failed:
            await lab.rules.change_together([await lab.mod("priority=12,filter_prog=1 actions=drop"), message])
        assert (failed.value.index, str(failed.value.cause)) == (1, str(error))
        assert [entry.rule.priority for entry in lab.order.table.entries()] == [8]

    ovs.add("priority=5,pkt_mark=1,actions=drop")
    with_attached(ovs, program, body)


def test_a_plain_rule_that_comes_and_goes_above_a_filter_rule(ovs: Laboratory, program: bytes) -> None:
    """Every frame after it has come is decided by it, and none after it has gone, though there is always another rule
    that Open vSwitch would take for it."""
    rounds = 15

    async def body(lab: AttachedLab) -> None:
        await lab.filter("priority=10,filter_prog=1 actions=NORMAL")
        for number in range(0, 4 * rounds, 4):
            await lab.plain("priority=20,in_port=1 actions=drop")
            assert await lab.exchange(number, number + 1) == {}
            await lab.plain("in_port=1", Command.DELETE)
            assert await lab.exchange(number + 3) == {2: [number + 3], 3: [number + 3]}
            # Open vSwitch alone, too, would go by the rule a little longer that is gone.
            await lab.upstream.settle()
            assert await lab.exchange(number + 2) == {2: [number + 2]}
        assert lab.passes() == []

    ovs.add("priority=5,actions=output:2")
    with_attached(ovs, program, body)


def test_plain_rules_that_do_not_concern_filter_rules(ovs: Laboratory, program: bytes) -> None:
    async def body(lab: AttachedLab) -> None:
        assert lab.order.idle
        await lab.filter("priority=10,filter_prog=1,in_port=1 actions=NORMAL")
        assert not lab.order.idle
        await lab.plain("priority=9 actions=output:3")
        await lab.plain("priority=20,in_port=2 actions=output:3")
        assert lab.passes() == []
        await lab.filter("priority=15,filter_prog=1,in_port=2 actions=drop")
        assert lab.passes() == [20]
        await lab.filter("priority=15,filter_prog=1,in_port=2", Command.DELETE_STRICT)
        assert lab.passes() == []

    with_attached(ovs, program, body)


def test_a_change_that_means_both_kinds(ovs: Laboratory, program: bytes) -> None:
    async def body(lab: AttachedLab) -> None:
        await lab.filter(FLOOD_ODD)
        await lab.plain("priority=20,in_port=1 actions=drop")
        await lab.plain("", Command.DELETE)
        assert lab.flows() == []
        assert list(lab.order.table.entries()) == []
        assert lab.passes() == []
        await lab.plain("priority=60000,dl_type=0x88b5,dl_dst=02:00:00:00:0f:0f actions=IN_PORT,ALL")
        assert await lab.exchange(1, 2) == {}

    ovs.add("priority=5,actions=output:2")
    with_attached(ovs, program, body)


def test_deletes_by_where_rules_send_to(ovs: Laboratory, program: bytes) -> None:
    async def body(lab: AttachedLab) -> None:
        await lab.filter("priority=10,filter_prog=1 actions=NORMAL")
        await lab.plain("priority=20,in_port=1 actions=output:2")
        await lab.plain("priority=21,in_port=1 actions=output:3")
        message = replace(await lab.mod("in_port=1", Command.DELETE), out_port=3)

        async def forward() -> None:
            lab.controller.send(message)
            await lab.controller.barrier()
            assert lab.passes() == [20]

        await lab.order.plain([read_plain_mod(message)], forward)
        assert await lab.exchange(1) == {2: [1]}

    with_attached(ovs, program, body)


DIRECT = {
    "all rules are deleted": ("del-flows",),
    "all rules do something else": ("mod-flows", "actions=output:3"),
    "an own rule goes": ("--strict del-flows", "priority=65534,reg15=0x40000000/0x40000000"),
}


@pytest.mark.parametrize("command", DIRECT.values(), ids=DIRECT)
def test_own_rules_are_put_back(ovs: Laboratory, program: bytes, command: tuple[str, ...]) -> None:
    async def body(lab: AttachedLab) -> None:
        await lab.filter(FLOOD_ODD)
        own = lab.ovs.vswitch.ofctl("--no-stats dump-flows", BRIDGE, "cookie=0x8000000000000000/0x8000000000000000")
        stopped: list[Shims] = []
        set_shims = lab.bridge.set_shims
        lab.bridge.set_shims = lambda shims: (stopped.append(shims), set_shims(shims))[1]  # type: ignore[method-assign, func-returns-value]
        await lab.direct(*command)
        await lab.until(lambda: bool(stopped) and not lab.order.trouble)
        assert stopped == [Shims.DROPPED, Shims.USED]
        after = lab.ovs.vswitch.ofctl("--no-stats dump-flows", BRIDGE, "cookie=0x8000000000000000/0x8000000000000000")
        assert sorted(after.splitlines()[1:]) == sorted(own.splitlines()[1:])
        await lab.fence()
        assert await lab.exchange(1, 3) == {2: [1, 3], 3: [1, 3]}

    with_attached(ovs, program, body)


def test_plain_rules_that_come_and_go_past_oko(ovs: Laboratory, program: bytes) -> None:
    async def body(lab: AttachedLab) -> None:
        await lab.filter(FLOOD_ODD)
        await lab.direct("add-flow", "priority=20,in_port=1,actions=drop")
        await lab.until(lambda: bool(lab.passes()))
        assert await lab.exchange(1, 2) == {}
        await lab.direct("del-flows", "in_port=1")
        # An own rule was among those, too.
        await lab.until(lambda: not lab.passes() and not lab.order.trouble)
        assert await lab.exchange(1, 2) == {2: [1], 3: [1]}

    with_attached(ovs, program, body)


SUSPENSIONS = {"secure": (Shims.DROPPED, {2: [2]}), "open": (Shims.PASSED, {2: [1, 2]})}


@pytest.mark.parametrize(("otherwise", "expected"), SUSPENSIONS.values(), ids=SUSPENSIONS)
@pytest.mark.parametrize("actions", ["NORMAL", "output:3"])
def test_a_hidden_rule_suspends_filter_rules_below(
    ovs: Laboratory, program: bytes, otherwise: Shims, expected: dict[int, list[int]], actions: str
) -> None:
    async def body(lab: AttachedLab) -> None:
        await lab.filter(f"priority=10,filter_prog=1 actions={actions}")
        await lab.filter("priority=30,in_port=2,filter_prog=1 actions=drop")
        before = await lab.exchange(1, 2)
        await lab.direct("add-flow", "priority=20,pkt_mark=1,actions=drop")
        await lab.until(lambda: bool(lab.order.table.suspended()))
        assert [rule.priority for rule in lab.order.table.suspended()] == [10]
        assert await lab.exchange(1, 2) == expected
        told = [flow.instructions for flow in lab.rules.flows(FlowStatsRequest())]
        assert told == [(), await lab.instructions(actions)]
        await lab.direct("del-flows", "pkt_mark=1")
        await lab.until(lambda: not lab.order.table.suspended())
        assert await lab.exchange(1, 2) == before

    ovs.add("priority=5,actions=output:2")
    with_attached(ovs, program, body, otherwise=otherwise)


def test_a_rule_whose_group_goes(ovs: Laboratory, program: bytes) -> None:
    async def body(lab: AttachedLab) -> None:
        removed: list[FlowRemoved] = []
        lab.rules.listen(removed.append)
        await lab.filter("priority=10,filter_prog=1,send_flow_rem actions=group:1")
        await lab.filter("priority=11,filter_prog=1,in_port=2 actions=NORMAL")
        await lab.filter("priority=12,filter_prog=1,send_flow_rem actions=NORMAL")
        await lab.filter("priority=12,filter_prog=1", Command.DELETE_STRICT)
        await lab.direct("del-groups")
        await lab.until(lambda: len(list(lab.order.table.entries())) == 1)
        told = [(message.priority, FlowRemovedReason(message.reason).name) for message in removed]
        assert told == [(12, "DELETE"), (10, "GROUP_DELETE")]
        assert lab.order.trouble == ""

    ovs.vswitch.ofctl("--may-create mod-group", BRIDGE, "group_id=1,type=all,bucket=output:3")
    with_attached(ovs, program, body)


def test_a_rule_whose_time_is_over(ovs: Laboratory, program: bytes) -> None:
    async def body(lab: AttachedLab) -> None:
        removed: list[FlowRemoved] = []
        lab.rules.listen(removed.append)
        own = lab.own_flows()
        await lab.filter("priority=10,filter_prog=1,hard_timeout=1,send_flow_rem actions=NORMAL")
        await lab.filter("priority=11,filter_prog=1,hard_timeout=1 actions=NORMAL")
        while list(lab.order.table.entries()):
            await asyncio.sleep(0.01)
            lab.bridge.expire()
        assert [message.priority for message in removed] == [10]
        await lab.until(lambda: not lab.order.table.ids.used and not lab.order.table.ids.quarantine)
        assert lab.own_flows() == own

    with_attached(ovs, program, body)


@pytest.mark.parametrize("otherwise", [Shims.DROPPED, Shims.PASSED])
def test_open_vswitch_restarts(ovs: Laboratory, program: bytes, otherwise: Shims) -> None:
    """Its rules are gone, Oko's are not."""

    async def body(lab: AttachedLab) -> None:
        await lab.filter(FLOOD_ODD)
        assert await lab.exchange(1) == {2: [1], 3: [1]}
        await asyncio.to_thread(lambda: ovs.vswitch.stop_switch(abruptly=True))
        await lab.until(lambda: bool(lab.order.trouble))
        await asyncio.to_thread(ovs.vswitch.start_switch)
        await lab.until(lambda: not lab.order.trouble)
        await lab.fence()
        assert await lab.exchange(1, 2) == {2: [1], 3: [1]}

    with_attached(ovs, program, body, otherwise=otherwise)


def test_open_vswitch_restarts_without_a_group(ovs: Laboratory, program: bytes) -> None:
    """Groups go with it: the filter rule that names one cannot be continued any more, and goes; the others stay."""

    async def body(lab: AttachedLab) -> None:
        removed: list[FlowRemoved] = []
        lab.rules.listen(removed.append)
        await lab.filter("priority=10,filter_prog=1,send_flow_rem actions=group:1")
        await lab.filter("priority=11,in_port=1,filter_prog=1 actions=NORMAL")
        await asyncio.to_thread(lambda: ovs.vswitch.stop_switch(abruptly=True))
        await asyncio.to_thread(ovs.vswitch.start_switch)
        await lab.until(lambda: not lab.order.trouble)
        assert [message.reason for message in removed] == [FlowRemovedReason.GROUP_DELETE]
        assert [entry.rule.priority for entry in lab.order.table.entries()] == [11]
        await lab.fence()
        assert await lab.exchange(1, 2) == {2: [1], 3: [1]}

    ovs.vswitch.ofctl("--may-create mod-group", BRIDGE, "group_id=1,type=all,bucket=output:3")
    with_attached(ovs, program, body)


def test_a_port_that_is_down_holds_nothing_up(ovs: Laboratory, program: bytes) -> None:
    async def body(lab: AttachedLab) -> None:
        await lab.filter(FLOOD_ODD)
        await lab.plain("priority=20,in_port=1 actions=drop")
        assert lab.passes() == [20]
        subprocess.run(["ip", "-n", ovs.namespace.name, "link", "set", "p3", "down"], check=True)
        try:
            await lab.plain("in_port=1", Command.DELETE)
            assert lab.passes() == []
            await lab.filter("filter_prog=1", Command.DELETE)
            await lab.until(lambda: not lab.order.table.ids.used and not lab.order.table.ids.quarantine)
        finally:
            subprocess.run(["ip", "-n", ovs.namespace.name, "link", "set", "p3", "up"], check=True)

    with_attached(ovs, program, body)


def test_a_port_that_gives_no_marker_back(ovs: Laboratory, program: bytes) -> None:
    """It is waited for once; what the others have received is known each time."""

    async def body(lab: AttachedLab) -> None:
        ports, drain, asked = lab.order._ports, lab.order._marker.drain, list[tuple[int, float]]()

        async def noted(ifindex: int, patience: float) -> None:
            asked.append((ifindex, patience))
            await drain(ifindex, patience)

        lab.order._marker.drain = noted  # type: ignore[method-assign, assignment]
        # The loopback interface is none of Open vSwitch's.
        lab.order._ports = lambda: {**ports(), 9: 1}
        await lab.filter("priority=10,filter_prog=1 actions=NORMAL")
        for _ in range(2):
            await lab.plain("priority=20,in_port=1 actions=drop")
            await lab.plain("in_port=1", Command.DELETE)
        assert [patience for ifindex, patience in asked if ifindex == 1] == [FULL, LITTLE]
        assert {patience for ifindex, patience in asked if ifindex != 1} == {FULL}

    with_attached(ovs, program, body)


def test_a_change_that_open_vswitch_does_not_make(ovs: Laboratory, program: bytes) -> None:
    """Its peer is gone, after XDP has done its part: XDP looks the rule up again."""

    async def body(lab: AttachedLab) -> None:
        await lab.filter(FLOOD_ODD)
        await lab.plain("priority=20,in_port=1 actions=drop")

        async def forward() -> None:
            assert lab.passes() == []
            raise AttachError("gone")

        message = await lab.mod("in_port=1", Command.DELETE)
        with pytest.raises(AttachError, match="gone"):
            await lab.order.plain([read_plain_mod(message)], forward)
        await lab.until(lambda: lab.passes() == [20])
        assert await lab.exchange(1, 2) == {}

    with_attached(ovs, program, body)


BUNDLES = {
    "the same": ("priority=20,in_port=1 actions=output:2", [20]),
    "one above it, of more packets": ("priority=25 actions=output:3", [20]),
    "one of fewer packets": ("priority=25,in_port=1,dl_src=02:00:00:00:00:01 actions=output:3", [20]),
    "one between two filter rules": ("priority=15 actions=output:3", [15]),
    "one below the filter rule": ("priority=5,in_port=1 actions=output:3", []),
    "one of other packets": ("priority=25,in_port=2 actions=output:3", []),
}
"""What is added in a bundle that deletes a plain rule of port 1, and the plain rules that are looked up meanwhile."""


@pytest.mark.parametrize(("added", "meanwhile"), BUNDLES.values(), ids=BUNDLES)
def test_a_rule_in_the_place_of_another(ovs: Laboratory, program: bytes, added: str, meanwhile: list[int]) -> None:
    """What both decide no filter rule does in between."""

    async def body(lab: AttachedLab) -> None:
        await lab.filter(FLOOD_ODD)
        await lab.filter("priority=17,dl_vlan=6,filter_prog=1 actions=drop")
        await lab.plain("priority=20,in_port=1 actions=drop")
        messages = [await lab.mod("in_port=1", Command.DELETE), await lab.mod(added)]

        async def forward() -> None:
            assert lab.passes() == meanwhile
            await lab.controller.change([replace(messages[0], cookie_mask=1 << 63), messages[1]])

        await lab.order.plain([read_plain_mod(message) for message in messages], forward)
        assert lab.passes() == ([messages[1].priority] if messages[1].priority > 10 else [])

    with_attached(ovs, program, body)


def test_a_rule_that_comes_and_goes_in_one_bundle(ovs: Laboratory, program: bytes) -> None:
    """It takes nobody's place."""

    async def body(lab: AttachedLab) -> None:
        await lab.filter(FLOOD_ODD)
        await lab.plain("priority=20,in_port=1 actions=drop")
        delete = await lab.mod("in_port=1", Command.DELETE)
        messages = [delete, await lab.mod("priority=25,in_port=1 actions=output:3"), delete]

        async def forward() -> None:
            assert lab.passes() == []
            await lab.controller.change([replace(delete, cookie_mask=1 << 63)])

        await lab.order.plain([read_plain_mod(message) for message in messages], forward)
        assert lab.passes() == []

    with_attached(ovs, program, body)


def test_nothing_is_changed_while_the_plain_rules_are_not_known(ovs: Laboratory, program: bytes) -> None:
    async def body(lab: AttachedLab) -> None:
        await lab.filter(FLOOD_ODD)
        message = await lab.mod("priority=1,filter_prog=1 actions=drop")
        await asyncio.to_thread(ovs.vswitch.stop_switch)
        await lab.until(lambda: bool(lab.order.trouble))
        (error,) = await lab.rules.change([message])
        assert isinstance(error, AttachError)
        await asyncio.to_thread(ovs.vswitch.start_switch)
        await lab.until(lambda: not lab.order.trouble)
        assert await lab.rules.change([message]) == [None]

    with_attached(ovs, program, body)


RANDOM_MATCHES = (
    "",
    "in_port=1",
    "in_port=2",
    "dl_src=02:00:00:00:00:01",
    "dl_src=02:00:00:00:00:02",
    "in_port=1,dl_src=02:00:00:00:00:02",
)
RANDOM_ACTIONS = (
    "drop",
    "output:2",
    "output:3",
    "output:2,output:3",
    "set_field:02:00:00:00:00:{:02x}->eth_dst,output:{}",
)


@pytest.mark.parametrize("seed", range(3))
def test_tables_of_both_kinds_against_the_reference(ovs: Laboratory, program: bytes, seed: int) -> None:
    """After each of many changes, every kind of frame goes where the reference switch sends it that has all rules in
    one table."""
    chance = random.Random(seed)
    tables = Tables()
    reference = ReferenceSwitch(
        tables, {1: lambda frame, port, now: frame[17] & 1}, dict.fromkeys((1, 2, 3), PortState())
    )

    def expected(numbers: dict[int, bytes], port: int) -> dict[int, list[bytes]]:
        found: dict[int, list[bytes]] = {}
        for sent in numbers.values():
            for out, frame in reference.decide(sent, port, 0).sent:
                found.setdefault(out, []).append(frame)
        return {out: sorted(frames) for out, frames in found.items()}

    async def body(lab: AttachedLab) -> None:
        for step in range(25):
            text = chance.choice(RANDOM_MATCHES)
            is_filter = chance.random() < 0.5
            head = ",".join(filter(None, (text, "filter_prog=1" if is_filter else "")))
            kind = chance.random()
            if kind < 0.7:
                actions = chance.choice(RANDOM_ACTIONS).format(step + 16, chance.choice((2, 3)))
                line, command = f"priority={chance.randrange(1, 8)},{head} actions={actions}", Command.ADD
            else:
                line, command = head, Command.DELETE
            change = lab.filter if is_filter else lab.plain
            message = await lab.mod(line, command)
            # Rules of equal priority that overlap have no order in Open vSwitch.
            mod = read_flow_mod(message)
            if command is Command.ADD and any(
                entry.rule.priority == mod.rule.priority
                and entry.rule.match != mod.rule.match
                and entry.rule.match.overlaps(mod.rule.match)
                for entry in tables
            ):
                continue
            await change(line, command)
            tables.apply(mod)
            await lab.fence()
            for port in (1, 2, 3):
                frames = {n: wire.frame(2 * step + n % 2, source=1 + n // 2) for n in range(4)}
                assert await lab.frames(list(frames.values()), port) == expected(frames, port), (step, line, port)

    with_attached(ovs, program, body)
