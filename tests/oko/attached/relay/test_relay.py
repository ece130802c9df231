from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from ofext.bundles import BundleAdd, BundleCommand, BundleControl
from ofext.constants import FlowRemovedReason, PacketInReason, Role
from ofext.extension import EXPERIMENTER, FilterRulesShow, ProgramLoad, ProgramLoaded
from ofext.framing import Splitter
from ofext.instructions import Action, ApplyActions, ExperimenterAction, Output, PopVlan, PushPbb, PushVlan
from ofext.messages import (
    BarrierReply,
    BarrierRequest,
    Error,
    Experimenter,
    ExperimenterError,
    FlowMod,
    FlowRemoved,
    GetConfigRequest,
    Hello,
    Message,
    PacketIn,
    PacketOut,
    RoleRequest,
    SetConfig,
    VersionBitmap,
    decode,
    encode,
)
from ofext.monitor import FlowMonitor, FlowMonitorRequest, FlowUpdate, FlowUpdates, MonitorFlag
from ofext.multipart import (
    Aggregate,
    AggregateRequest,
    FlowStatsReply,
    FlowStatsRequest,
    GroupDescReply,
    GroupDescRequest,
    MeterStatsRequest,
    MultipartReply,
    MultipartRequest,
    PortDescReply,
    PortDescRequest,
    RequestBody,
    TableStatsReply,
    TableStatsRequest,
)
from ofext.oxm import Oxm
from ofext.v10 import match as of10_match
from ofext.v10 import messages as of10
from ofext.v10.constants import NICIRA
from oko.attached.continuation import FIXED
from oko.attached.management import Management
from oko.attached.shim import DROP, OWN_COOKIE
from oko.errors import RemoteError
from oko.flow.rule import Command
from oko.openflow.terms import Terms
from tests.e2e.wire import frame
from tests.oko.attached.conftest import BRIDGE, Laboratory
from tests.oko.attached.following import run
from tests.oko.attached.ofctl import flows, ofctl
from tests.oko.attached.relaying import FILTER, PACKETS, REFUSED_COOKIE, Relayed, relaying
from tests.ovs import needs_ovs
from tests.patience import patience

pytestmark = needs_ovs

IPV4 = Oxm(0x8000, 5, b"\x08\x00")
NETWORK = Oxm(0x8000, 12, b"\n\0\0\1")
IN_PORT_1 = Oxm(0x8000, 0, b"\0\0\0\1")
OUT = (ApplyActions((Output(2),)),)
FILTER_RULE = FlowMod(priority=9, cookie=5, match=(IPV4, FILTER), instructions=OUT)
PLAIN_RULE = FlowMod(priority=8, cookie=6, match=(IPV4,), instructions=OUT)
DELETE = FlowMod(command=Command.DELETE.value, table_id=0xFF)
OWN = sorted(f"{each.cookie:#x}" for each in FIXED)


class Peer(Management):
    """A controller at a relay that keeps what it is told."""

    heard: list[Message]
    _came: asyncio.Event

    @classmethod
    async def at(cls, path: Path) -> Peer:
        heard: list[Message] = []
        came = asyncio.Event()

        def hear(message: Message) -> None:
            heard.append(message)
            came.set()

        peer = await cls.connect(path, hear, lambda _: None)
        peer.heard, peer._came = heard, came
        return peer

    async def told(self, kind: type[Message]) -> Message:
        """The first message of a kind, when it comes."""
        async with asyncio.timeout(patience(20)):
            while not (found := [message for message in self.heard if isinstance(message, kind)]):
                self._came.clear()
                await self._came.wait()
        self.heard.remove(found[0])
        return found[0]

    async def rules(self) -> list[tuple[int, int]]:
        """Priority and cookie of those that it is told of."""
        report = await self.report(FlowStatsRequest())
        assert isinstance(report, FlowStatsReply)
        return [(entry.priority, entry.cookie) for entry in report.entries]


@asynccontextmanager
async def peered(ovs: Laboratory, terms: Terms | None = None) -> AsyncIterator[tuple[Relayed, Peer, Management]]:
    """A relay, a peer of it, and a direct connection to the bridge, which has Oko's own rules."""
    async with relaying(ovs, terms=terms or Terms("a peer", may_load=True)) as relayed:
        direct = await Management.connect(ovs.vswitch.management(BRIDGE), lambda _: None, lambda _: None)
        await direct.change(FIXED)
        peer = await Peer.at(relayed.path)
        try:
            yield relayed, peer, direct
        finally:
            peer.close()
            direct.close()


async def own_rules(direct: Management) -> list[str]:
    report = await direct.report(FlowStatsRequest(cookie=OWN_COOKIE, cookie_mask=OWN_COOKIE))
    assert isinstance(report, FlowStatsReply)
    assert all(not entry.instructions for entry in report.entries), "their actions have changed"
    return sorted(f"{entry.cookie:#x}" for entry in report.entries)


# ---- versions


@pytest.mark.parametrize(
    ("greeting", "answered"),
    [
        (Hello((VersionBitmap(frozenset({1})),), 1), 1),
        (Hello((VersionBitmap(frozenset({1, 4, 5, 6})),), 6), 4),
        (Hello((), 4), 4),
        (Hello((), 6), 4),
        (Hello((), 3), 1),
    ],
    ids=["1.0", "all of Open vSwitch's", "1.3 without a bitmap", "1.5 without a bitmap", "1.2 without a bitmap"],
)
def test_both_sides_agree_on_a_version_that_is_relayed(ovs: Laboratory, greeting: Hello, answered: int) -> None:
    async def main() -> None:
        async with relaying(ovs) as relayed:
            reader, writer = await asyncio.open_unix_connection(relayed.path)
            hello, _ = decode(await reader.readexactly(16))
            assert isinstance(hello, Hello)
            assert hello.versions == {1, 4}
            # A request may follow the hello at once: here it asks for features.
            writer.write(encode(greeting) + bytes((answered, 5, 0, 8, 0, 0, 0, 3)))
            reply = await reader.readexactly(8)
            assert (reply[0], reply[1]) == (answered, 6)
            writer.close()
            await writer.wait_closed()

    run(main())


def test_a_version_that_is_not_relayed(ovs: Laboratory) -> None:
    async def main() -> None:
        async with relaying(ovs) as relayed:
            reader, writer = await asyncio.open_unix_connection(relayed.path)
            writer.write(encode(Hello((VersionBitmap(frozenset({5, 6})),), 6)))
            *_, last = [decode(each)[0] for each in Splitter().feed(await reader.read())]
            writer.close()
            await writer.wait_closed()
            assert isinstance(last, Error)
            assert (last.type, last.code) == (0, 0)
            assert relayed.relays.connections == 0

    run(main())


# ---- tools, and what is Oko's own


@pytest.mark.parametrize("version", ["OpenFlow10", "OpenFlow13"])
def test_tools_work_and_neither_see_nor_touch_what_is_okos(ovs: Laboratory, version: str) -> None:
    async def main() -> None:
        async with peered(ovs) as (relayed, _, direct):
            path = relayed.path

            async def of(command: str, *words: str) -> list[str]:
                return await ofctl(path, command, *words, version=version)

            await of("add-flow", "priority=7,ip,actions=output:1")
            await of("add-flow", "priority=6,arp,actions=output:1")
            await of("mod-flows", "actions=output:2")
            await of("mod-flows", "ip,actions=output:3")
            assert await flows(path, version=version) == [
                "priority=6,arp actions=output:2",
                "priority=7,ip actions=output:3",
            ]
            assert "flow_count=2" in " ".join(await of("dump-aggregate"))
            assert "active=2" in " ".join(await of("dump-tables"))
            await of("--strict del-flows", "priority=6,arp")
            await of("--strict mod-flows", "priority=7,ip,actions=output:1")
            assert await flows(path, version=version) == ["priority=7,ip actions=output:1"]
            await of("del-flows")
            assert await flows(path, version=version) == []
            await of("del-flows", "dl_type=0x894f")
            assert await own_rules(direct) == OWN

    run(main())


def test_a_modify_of_1_0_that_finds_no_rule_adds_one(ovs: Laboratory) -> None:
    async def main() -> None:
        async with peered(ovs) as (relayed, _, direct):
            for words in ("actions=output:2", "actions=output:3"):
                await ofctl(relayed.path, "mod-flows", words, version="OpenFlow10")
                assert await flows(relayed.path, version="OpenFlow10") == [words]
            await ofctl(relayed.path, "--strict del-flows", "actions=drop", version="OpenFlow10", fails=True)
            assert await own_rules(direct) == OWN

    run(main())


RESERVED = {
    "priority 65535 in table 0": "priority=65535,actions=drop",
    "priority 65534 in table 0": "priority=65534,ip,actions=drop",
    "bit 63 of a cookie": "cookie=0x8000000000000001,table=3,actions=drop",
    "a match on bit 31 of reg15": "reg15=0x80000000/0x80000000,actions=drop",
    "a match on bit 30 by xreg7": "xreg7=0x40000000,actions=drop",
    "a match on bit 30 by xxreg3": "xxreg3=0x40000000,actions=drop",
    "a load into bit 31": "actions=load:1->NXM_NX_REG15[31],output:1",
    "a load into xreg7": "actions=load:0x80000000->OXM_OF_PKT_REG7[],output:1",
    "a set-field of it": "actions=set_field:0x40000000/0x40000000->reg15,output:1",
    "a move to it": "actions=move:NXM_NX_REG0[]->NXM_NX_REG15[],output:1",
    "learning it": "actions=learn(table=1,load:0x80000000->NXM_NX_REG15[])",
}
FREE = {
    "priority 65535 in table 1": "table=1,priority=65535,actions=drop",
    "bit 62 of a cookie": "cookie=0x4000000000000001,actions=drop",
    "the other bits of reg15": "reg15=0x3/0x3fffffff,actions=load:0x3ffff->NXM_NX_REG15[0..29],output:1",
    "no bits in reg15": "reg15=0,actions=set_field:0x1->reg15,output:1",
    "a move within it": "actions=move:NXM_NX_REG0[0..7]->NXM_NX_REG15[0..7],output:1",
    "a move from it": "actions=move:NXM_NX_REG15[]->NXM_NX_REG0[],output:1",
    "the half of xreg7 that is reg14": "actions=load:1->OXM_OF_PKT_REG7[63],output:1",
}


@pytest.mark.parametrize("version", ["OpenFlow10", "OpenFlow13"])
def test_what_is_reserved_is_refused(ovs: Laboratory, version: str) -> None:
    async def main() -> None:
        async with peered(ovs) as (relayed, _, direct):
            for name, flow in RESERVED.items():
                printed = await ofctl(relayed.path, "add-flow", flow, version=version, fails=True)
                assert "OFPFMFC_EPERM" in printed[0], name
            assert await flows(relayed.path, version=version) == []
            for flow in FREE.values():
                await ofctl(relayed.path, "add-flow", flow, version=version)
            assert await own_rules(direct) == OWN

    run(main())


def test_an_exact_rule_of_1_0_stays_below_okos(ovs: Laboratory) -> None:
    """Open vSwitch would give it priority 65535."""
    exact = of10.FlowMod(of10_match.Match(wildcards=0, in_port=1, dl_type=0x0800, nw_proto=17), 0, 0, priority=100)

    async def main() -> None:
        async with peered(ovs) as (relayed, _, direct):
            for command, expected in ((Command.ADD, [65533]), (Command.MODIFY, [65533]), (Command.DELETE_STRICT, [])):
                reader, writer = await asyncio.open_unix_connection(relayed.path)
                writer.write(encode(Hello((), 1)) + of10.encode(replace(exact, command=command.value), 3))
                writer.write(of10.encode(BarrierRequest(), 4))
                splitter = Splitter()
                answers: list[bytes] = []
                while not answers or answers[-1][1] != 19:
                    answers += splitter.feed(await reader.read(1 << 16))
                writer.close()
                await writer.wait_closed()
                assert len(answers) == 2
                report = await direct.report(FlowStatsRequest(cookie_mask=OWN_COOKIE))
                assert isinstance(report, FlowStatsReply)
                assert [entry.priority for entry in report.entries] == expected

    run(main())


def test_an_own_rule_cannot_be_named(ovs: Laboratory) -> None:
    async def main() -> None:
        async with peered(ovs) as (relayed, peer, direct):
            for command in (Command.DELETE, Command.DELETE_STRICT, Command.MODIFY, Command.MODIFY_STRICT):
                by_cookie = FlowMod(OWN_COOKIE, OWN_COOKIE, command=command.value, priority=1)
                peer.send(by_cookie)
                with pytest.raises(RemoteError, match="eperm"):
                    await peer.barrier()
            for command in (Command.DELETE_STRICT, Command.MODIFY_STRICT):
                peer.send(replace(DROP, cookie=0, command=command.value))
                with pytest.raises(RemoteError, match="eperm"):
                    await peer.barrier()
            assert await peer.report(FlowStatsRequest(cookie=OWN_COOKIE, cookie_mask=OWN_COOKIE)) == FlowStatsReply()
            assert await own_rules(direct) == OWN
            assert relayed.relays.connections == 1

    run(main())


def test_a_flow_monitor_does_not_tell_of_them(ovs: Laboratory) -> None:
    flags = MonitorFlag.INITIAL | MonitorFlag.ADD | MonitorFlag.DELETE | MonitorFlag.MODIFY

    async def main() -> None:
        async with peered(ovs) as (_, peer, direct):
            initial = await peer.report(FlowMonitorRequest((FlowMonitor(1, flags),)))
            assert initial == FlowUpdates()
            await direct.change([DROP, PLAIN_RULE])
            await direct.change([replace(DROP, command=Command.DELETE_STRICT.value)])
            await peer.barrier()
            bodies = [message.body for message in peer.heard if isinstance(message, MultipartReply)]
            updates = [each for body in bodies if isinstance(body, FlowUpdates) for each in body.entries]
            told = [(each.priority, each.cookie) for each in updates if isinstance(each, FlowUpdate)]
            assert (len(updates), told) == (1, [(8, 6)])

    run(main())


# ---- filter rules


def test_filter_rules_go_to_oko_and_plain_ones_to_open_vswitch(ovs: Laboratory) -> None:
    async def main() -> None:
        async with peered(ovs) as (relayed, peer, _):
            for message in (FILTER_RULE, replace(FILTER_RULE, priority=10), PLAIN_RULE):
                peer.send(message)
            await peer.barrier()
            assert sorted(priority for priority, _ in relayed.rules.rules) == [9, 10]
            assert await peer.rules() == [(8, 6)]
            (noted,) = relayed.order.noted
            assert [(mod.command, mod.rule.priority, mod.share) for mod in noted] == [(Command.ADD, 8, None)]
            peer.send(DELETE)
            await peer.barrier()
            assert relayed.rules.rules == {}
            assert await peer.rules() == []

    run(main())


def test_without_filter_rules_nobody_is_asked_for_order(ovs: Laboratory) -> None:
    async def main() -> None:
        async with peered(ovs) as (relayed, peer, direct):
            peer.send(PLAIN_RULE)
            peer.send(DELETE)
            await peer.barrier()
            assert relayed.order.noted == []
            assert await own_rules(direct) == OWN

    run(main())


def test_a_barrier_is_answered_when_both_places_are_done(ovs: Laboratory) -> None:
    async def main() -> None:
        async with peered(ovs) as (relayed, peer, _):
            begun, go_on = asyncio.Event(), asyncio.Event()
            change = relayed.rules.change

            async def slow(messages: object) -> object:
                begun.set()
                await go_on.wait()
                return await change(messages)  # type: ignore[arg-type]

            relayed.rules.change = slow  # type: ignore[method-assign, assignment]
            first = asyncio.create_task(peer.barrier())
            await first
            peer.send(FILTER_RULE)
            second, third = asyncio.create_task(peer.barrier()), asyncio.create_task(peer.barrier())
            await begun.wait()
            other = await Peer.at(relayed.path)
            await other.barrier()
            assert not second.done()
            assert not third.done()
            go_on.set()
            await second
            await third
            other.close()

    run(main())


def test_what_is_wrong_with_a_filter_rule_is_told(ovs: Laboratory) -> None:
    async def main() -> None:
        async with peered(ovs) as (relayed, peer, _):
            peer.send(FILTER_RULE)
            peer.send(replace(FILTER_RULE, priority=10, cookie=REFUSED_COOKIE))
            with pytest.raises(RemoteError, match="table-full"):
                await peer.barrier()
            assert len(relayed.rules.rules) == 1
            peer.send(replace(PLAIN_RULE, idle_timeout=3))
            with pytest.raises(RemoteError, match="eperm"):
                await peer.barrier()
            assert await peer.rules() == []

    run(main())


def test_many_at_once(ovs: Laboratory) -> None:
    """Changes of plain rules that come together are put in order together."""
    count = 1500

    async def main() -> None:
        async with peered(ovs) as (relayed, peer, _):
            peer.send(FILTER_RULE)
            for number in range(count):
                peer.send(replace(PLAIN_RULE, priority=number, table_id=number % 2))
                peer.send(replace(PLAIN_RULE, priority=number, cookie=7))
            await peer.barrier()
            assert sum(map(len, relayed.order.noted)) == count + count // 2
            report = await peer.report(FlowStatsRequest())
            assert isinstance(report, FlowStatsReply)
            assert len(report.entries) == count + count // 2

    run(main())


# ---- what is told of filter rules


def test_filter_rules_are_shown_to_those_who_ask_for_it(ovs: Laboratory) -> None:
    async def main() -> None:
        async with peered(ovs) as (relayed, peer, _):
            peer.send(FILTER_RULE)
            peer.send(PLAIN_RULE)
            await peer.barrier()

            async def told() -> tuple[list[tuple[int, int]], object, list[tuple[int, int]]]:
                sums = await peer.report(AggregateRequest())
                tables = await peer.report(TableStatsRequest())
                assert isinstance(tables, TableStatsReply)
                return await peer.rules(), sums, [(t.active_count, t.matched_count) for t in tables.entries[:2]]

            assert await told() == ([(8, 6)], Aggregate(0, 0, 1), [(1, PACKETS), (0, 0)])
            peer.send(FilterRulesShow())
            await peer.barrier()
            shown = ([(8, 6), (9, 5)], Aggregate(PACKETS, 60 * PACKETS, 2), [(2, PACKETS), (0, 0)])
            assert await told() == shown
            stock = await flows(relayed.path)
            assert stock == ["cookie=0x6, priority=8,ip actions=output:2"]

    run(main())


def test_a_question_that_names_a_program_is_about_filter_rules_alone(ovs: Laboratory) -> None:
    """Whether they are shown or not: Open vSwitch does not know the field."""
    other = Oxm(0xFFFF, 1, (8).to_bytes(4, "big"), None, EXPERIMENTER)

    async def main() -> None:
        async with peered(ovs) as (_, peer, _):
            for message in (FILTER_RULE, replace(FILTER_RULE, priority=3), PLAIN_RULE):
                peer.send(message)
            await peer.barrier()
            for _ in range(2):
                flows = await peer.report(FlowStatsRequest(match=(FILTER,)))
                assert isinstance(flows, FlowStatsReply)
                assert sorted((entry.priority, entry.match) for entry in flows.entries) == [
                    (3, FILTER_RULE.match),
                    (9, FILTER_RULE.match),
                ]
                assert await peer.report(AggregateRequest(match=(FILTER,))) == Aggregate(2 * PACKETS, 120 * PACKETS, 2)
                assert await peer.report(FlowStatsRequest(match=(other,))) == FlowStatsReply()
                assert await peer.report(AggregateRequest(match=(other,))) == Aggregate(0, 0, 0)
                peer.send(FilterRulesShow())

    run(main())


QUESTIONS: dict[str, tuple[RequestBody, type[object]]] = {
    "ports": (PortDescRequest(), PortDescReply),
    "sums": (AggregateRequest(), Aggregate),
    "flows": (FlowStatsRequest(), FlowStatsReply),
    "tables": (TableStatsRequest(), TableStatsReply),
    "groups": (GroupDescRequest(), GroupDescReply),
    "a meter that is not there": (MeterStatsRequest(999), Error),
    "flows that cannot be": (FlowStatsRequest(match=(NETWORK,)), Error),
    "own rules": (FlowStatsRequest(cookie=OWN_COOKIE, cookie_mask=OWN_COOKIE), FlowStatsReply),
}


@pytest.mark.parametrize("backwards", [False, True], ids=["forwards", "backwards"])
def test_several_questions_under_one_transaction_id(ovs: Laboratory, backwards: bool) -> None:
    """Each answer is of the kind of its question."""
    asked = list(QUESTIONS.values())
    if backwards:
        asked.reverse()

    async def main() -> None:
        async with peered(ovs) as (relayed, peer, _):
            peer.send(PLAIN_RULE)
            await peer.barrier()
            answers = await talk(relayed.path, [(MultipartRequest(body), 5) for body, _ in asked])
            bodies = [each.body if isinstance(each, MultipartReply) else each for each, _ in answers]
            assert [type(body) for body in bodies] == [kind for _, kind in asked]
            assert [body.flow_count for body in bodies if isinstance(body, Aggregate)] == [1]
            flows = [[entry.cookie for entry in body.entries] for body in bodies if isinstance(body, FlowStatsReply)]
            assert sorted(flows) == [[], [PLAIN_RULE.cookie]]
            assert [body.entries[0].active_count for body in bodies if isinstance(body, TableStatsReply)] == [1]

    run(main())


def test_removed_filter_rules_are_told_to_those_who_know_them(ovs: Laboratory) -> None:
    removed = FlowRemoved(5, 9, FlowRemovedReason.DELETE, 0, 1, 0, 0, 0, PACKETS, 300, FILTER_RULE.match)

    async def main() -> None:
        async with peered(ovs) as (relayed, peer, _):
            stock = await Peer.at(relayed.path)
            for each in (peer, stock):
                each.send(SetConfig(miss_send_len=128))
            peer.send(FILTER_RULE)
            await peer.barrier()
            await stock.barrier()
            for hear in relayed.rules.hear:
                hear(removed)
            assert await peer.told(FlowRemoved) == removed
            peer.send(SetConfig(miss_send_len=0))
            await peer.barrier()
            for hear in relayed.rules.hear:
                hear(removed)
            await peer.barrier()
            await stock.barrier()
            assert peer.heard == stock.heard == []
            stock.close()

    run(main())


def test_the_cookie_of_a_packet_in_is_the_rules(ovs: Laboratory) -> None:
    """An own rule has sent it, in the name of a filter rule."""
    to_controller = (ApplyActions((Output(0xFFFFFFFD),)),)

    async def main() -> None:
        async with peered(ovs) as (_, peer, direct):
            peer.send(SetConfig(miss_send_len=128))
            await peer.barrier()
            own = FlowMod(cookie=OWN_COOKIE | 3, match=(IN_PORT_1,), instructions=to_controller)
            await direct.change([own, FlowMod(cookie=3, priority=1, instructions=to_controller)])
            for port, expected in ((1, 0x77000003), (2, 3)):
                ovs.wires[port].send(frame())
                told = await peer.told(PacketIn)
                assert isinstance(told, PacketIn)
                assert (told.cookie, told.reason, told.data) == (expected, PacketInReason.ACTION, frame())

    run(main())


TABLE = Output(0xFFFFFFF9)
PACKET_OUTS: dict[str, tuple[int, tuple[Action, ...], int, dict[int, int]]] = {
    "to TABLE": (1, (TABLE,), 1, {}),
    "to TABLE, changed before and after": (1, (PushVlan(0x8100), TABLE, PopVlan(), TABLE), 4, {}),
    "to TABLE and a port": (1, (TABLE, Output(2)), 1, {2: 1}),
    "to a port, FLOOD and TABLE": (1, (Output(2), Output(0xFFFFFFFB), TABLE), 1, {2: 2, 3: 1}),
    "to TABLE by a port without XDP": (3, (TABLE,), 0, {2: 1}),
    "to TABLE from the controller": (0xFFFFFFFD, (TABLE,), 0, {2: 1}),
    "to a port": (1, (Output(2),), 0, {2: 1}),
}
"""The port and the actions of a packet-out, how many of the actions let the packet enter by way of XDP, and how many
frames arrive at which host. The bridge sends packets that enter past XDP to host 2."""


@pytest.mark.parametrize(("port", "actions", "entering", "arriving"), PACKET_OUTS.values(), ids=PACKET_OUTS)
@pytest.mark.parametrize("idle", [False, True], ids=["filter rules", "none"])
def test_packet_outs(
    ovs: Laboratory, idle: bool, port: int, actions: tuple[Action, ...], entering: int, arriving: dict[int, int]
) -> None:
    async def main() -> None:
        async with peered(ovs) as (relayed, peer, _):
            if not idle:
                peer.send(FILTER_RULE)
            peer.send(FlowMod(instructions=OUT))
            peer.send(PacketOut(0xFFFFFFFF, port, actions, frame(1)))
            await peer.barrier()
            counts = dict(arriving)
            if idle and entering:
                counts[2] = counts.get(2, 0) + actions.count(TABLE)
                assert relayed.entrance.noted == []
            else:
                assert [(len(packet.actions), packet.frame) for packet in relayed.entrance.noted] == (
                    [(entering, frame(1))] if entering else []
                )
            for host, count in counts.items():
                for _ in range(count):
                    await asyncio.to_thread(ovs.wires[host].receive)
            assert [wire.waiting() for wire in ovs.wires.values()] == [[]] * len(ovs.wires)

    run(main())


def test_packet_outs_of_1_0(ovs: Laboratory) -> None:
    async def main() -> None:
        async with peered(ovs) as (relayed, peer, _):
            peer.send(FILTER_RULE)
            await peer.barrier()
            hexadecimal = frame(1).hex()
            for said in ("in_port=1 actions=TABLE,output:2", "in_port=3 actions=TABLE,output:2"):
                words = said.replace(" ", f" packet={hexadecimal} ")
                await ofctl(relayed.path, "packet-out", words, version="OpenFlow10")
            assert [(packet.frame, packet.in_port) for packet in relayed.entrance.noted] == [(frame(1), 1)]
            for _ in range(2):
                assert await asyncio.to_thread(ovs.wires[2].receive) == frame(1)

    run(main())


REFUSED_PACKETS = {
    "resubmitted": (1, (ExperimenterAction(0x2320, bytes.fromhex("0001fff800000000")),), frame(), "bad-argument"),
    "an action that okod does not do": (1, (PushPbb(0x88E7), TABLE), frame(), "bad-type"),
    "no Ethernet frame": (1, (TABLE,), bytes(13), "bad-len"),
    "refused by the bridge": (1, (TABLE,), bytes(60), "frame is refused"),
}


@pytest.mark.parametrize(("port", "actions", "data", "reason"), REFUSED_PACKETS.values(), ids=REFUSED_PACKETS)
def test_packet_outs_that_are_refused(
    ovs: Laboratory, port: int, actions: tuple[Action, ...], data: bytes, reason: str
) -> None:
    async def main() -> None:
        async with peered(ovs) as (relayed, peer, _):
            peer.send(FILTER_RULE)
            peer.send(PacketOut(0xFFFFFFFF, port, actions, data))
            with pytest.raises(RemoteError, match=reason):
                await peer.barrier()
            peer.send(PacketOut(0xFFFFFFFF, 1, (TABLE,), frame(1)))
            await peer.barrier()
            assert len(relayed.entrance.noted) == 1

    run(main())


def test_a_slave_may_not_send_packets(ovs: Laboratory) -> None:
    async def main() -> None:
        async with peered(ovs) as (relayed, peer, _):
            peer.send(FILTER_RULE)
            peer.send(RoleRequest(Role.SLAVE, 1))
            await peer.barrier()
            peer.send(PacketOut(0xFFFFFFFF, 1, (TABLE,), frame(1)))
            with pytest.raises(RemoteError, match="is-slave"):
                await peer.barrier()
            assert relayed.entrance.noted == []

    run(main())


def test_fragments_stay_as_xdp_reads_them(ovs: Laboratory) -> None:
    async def main() -> None:
        async with peered(ovs) as (_, peer, _):
            before = await peer.ask(GetConfigRequest())
            for flags in (1, 2, 3):
                peer.send(SetConfig(flags, 128))
                with pytest.raises(RemoteError, match="bad-flags"):
                    await peer.barrier()
            assert await peer.ask(GetConfigRequest()) == before

    run(main())


def test_a_flow_mod_of_niciras_is_of_1_0(ovs: Laboratory) -> None:
    """In 1.3 nobody would look into it as it has to be."""
    nicira = of10.encode(of10.NxmFlowMod(OWN_COOKIE, Command.DELETE.value))

    async def main() -> None:
        async with peered(ovs) as (relayed, peer, direct):
            inner = Experimenter(0x2320, 13, nicira[16:])
            wrapped: tuple[Message, ...] = (inner, BundleAdd(1, 3, encode(inner, 5)))
            for number, message in enumerate(wrapped, 4):
                sent = encode(message, number)
                reader, writer = await asyncio.open_unix_connection(relayed.path)
                writer.write(encode(Hello()) + sent + encode(BarrierRequest(), 9))
                splitter = Splitter()
                answers: list[Message] = []
                while BarrierReply() not in answers:
                    answers += [decode(each)[0] for each in splitter.feed(await reader.read(1 << 16))]
                assert [type(each) for each in answers] == [Hello, Error, BarrierReply]
                writer.close()
                await writer.wait_closed()
            assert await own_rules(direct) == OWN
            await peer.barrier()

    run(main())


# ---- bundles


def bundle(*messages: FlowMod, number: int = 1) -> list[tuple[Message, int]]:
    """Messages and transaction ids: a bundle up to before its commit."""
    adds = [(BundleAdd(number, 3, encode(each, 50 + n)), 50 + n) for n, each in enumerate(messages)]
    return [(BundleControl(number, BundleCommand.OPEN_REQUEST, 3), 40), *adds]


COMMIT = BundleControl(1, BundleCommand.COMMIT_REQUEST, 3)


async def talk(path: Path, messages: list[tuple[Message, int]]) -> list[tuple[Message, int]]:
    """What is answered up to the reply of a barrier behind the messages."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(encode(Hello()) + b"".join(encode(*each) for each in messages) + encode(BarrierRequest(), 99))
    splitter = Splitter()
    answers: list[tuple[Message, int]] = []
    while not answers or not isinstance(answers[-1][0], BarrierReply):
        answers += [decode(each) for each in splitter.feed(await reader.read(1 << 16))]
    writer.close()
    await writer.wait_closed()
    return answers[1:-1]


def said(answers: list[tuple[Message, int]]) -> list[tuple[str, int]]:
    """In few words."""
    return [
        (
            BundleCommand(message.type).name
            if isinstance(message, BundleControl)
            else f"{type(message).__name__} {message.exp_type}"
            if isinstance(message, ExperimenterError)
            else type(message).__name__,
            xid,
        )
        for message, xid in answers
    ]


OPENED = ("OPEN_REPLY", 40)
COMMITTED = ("COMMIT_REPLY", 60)
CONFLICT, FAILED = 2311, 2313
BUNDLES: dict[str, tuple[list[FlowMod], list[tuple[str, int]], tuple[int, int]]] = {
    "plain rules": ([PLAIN_RULE, replace(PLAIN_RULE, priority=7)], [OPENED, COMMITTED], (0, 2)),
    "filter rules": ([FILTER_RULE, replace(FILTER_RULE, priority=7)], [OPENED, COMMITTED], (2, 0)),
    "both": (
        [PLAIN_RULE, FILTER_RULE],
        [OPENED, (f"ExperimenterError {CONFLICT}", 51), (f"ExperimenterError {FAILED}", 60)],
        (0, 0),
    ),
    "both, the other way": (
        [FILTER_RULE, PLAIN_RULE],
        [OPENED, (f"ExperimenterError {CONFLICT}", 51), (f"ExperimenterError {FAILED}", 60)],
        (0, 0),
    ),
    "what is reserved": (
        [PLAIN_RULE, replace(PLAIN_RULE, priority=65535)],
        [OPENED, ("Error", 51), (f"ExperimenterError {FAILED}", 60)],
        (0, 0),
    ),
    "a filter rule that is refused": (
        [FILTER_RULE, replace(FILTER_RULE, priority=7, cookie=REFUSED_COOKIE)],
        [OPENED, ("Error", 51), (f"ExperimenterError {FAILED}", 60)],
        (0, 0),
    ),
    "a delete of all": ([DELETE, PLAIN_RULE], [OPENED, COMMITTED], (0, 1)),
}


@pytest.mark.parametrize(("messages", "expected", "rules"), BUNDLES.values(), ids=BUNDLES.keys())
def test_bundles(
    ovs: Laboratory, messages: list[FlowMod], expected: list[tuple[str, int]], rules: tuple[int, int]
) -> None:
    async def main() -> None:
        async with peered(ovs) as (relayed, peer, direct):
            answers = await talk(relayed.path, [*bundle(*messages), (COMMIT, 60)])
            assert sorted(said(answers)) == sorted(expected)
            assert (len(relayed.rules.rules), len(await peer.rules())) == rules
            assert await own_rules(direct) == OWN

    run(main())


def test_a_plain_bundle_is_put_in_order_and_may_not_mean_filter_rules(ovs: Laboratory) -> None:
    async def main() -> None:
        async with peered(ovs) as (relayed, peer, _):
            peer.send(FILTER_RULE)
            await peer.barrier()
            answers = await talk(relayed.path, [*bundle(PLAIN_RULE, replace(PLAIN_RULE, table_id=2)), (COMMIT, 60)])
            assert said(answers) == [OPENED, COMMITTED]
            assert [[mod.rule.priority for mod in noted] for noted in relayed.order.noted] == [[8]]
            answers = await talk(relayed.path, [*bundle(DELETE), (COMMIT, 60)])
            assert sorted(said(answers)) == [(f"ExperimenterError {CONFLICT}", 60), OPENED]
            assert len(await peer.rules()) == 2
            assert len(relayed.rules.rules) == 1

    run(main())


def test_replace_flows(ovs: Laboratory, tmp_path: Path) -> None:
    (tmp_path / "flows").write_text("priority=3,arp,actions=output:1\n")

    async def main() -> None:
        async with peered(ovs) as (relayed, peer, direct):
            peer.send(PLAIN_RULE)
            await peer.barrier()
            await ofctl(relayed.path, "--bundle replace-flows", str(tmp_path / "flows"))
            assert await flows(relayed.path) == ["priority=3,arp actions=output:1"]
            assert await own_rules(direct) == OWN

    run(main())


# ---- rights, the extension


def test_the_extension_is_okos(ovs: Laboratory) -> None:
    load = ProgramLoad(3, 0, 1, 0, bytes(32), "x", b"x")

    async def main() -> None:
        async with peered(ovs) as (_, peer, _):
            assert await peer.ask(load) == ProgramLoaded(3, 0, 1, 0, "x")
        async with peered(ovs, Terms("nobody")) as (_, peer, _):
            with pytest.raises(RemoteError, match="eperm"):
                await peer.ask(load)

    run(main())


def test_what_a_slave_is_refused_changes_nothing(ovs: Laboratory) -> None:
    async def main() -> None:
        async with peered(ovs) as (relayed, peer, _):
            peer.send(FILTER_RULE)
            peer.send(PLAIN_RULE)
            await peer.ask(RoleRequest(Role.SLAVE, 1))
            for message in (DELETE, replace(PLAIN_RULE, priority=7)):
                peer.send(message)
                with pytest.raises(RemoteError, match="is-slave"):
                    await peer.barrier()
            assert (len(relayed.rules.rules), await peer.rules()) == (1, [(8, 6)])

    run(main())


def nicira_role(role: int) -> Message:
    """The request for a role in Nicira's words, which have other numbers."""
    numbers: dict[int, int] = {Role.EQUAL: 0, Role.MASTER: 1, Role.SLAVE: 2}
    return Experimenter(NICIRA, 10, numbers[role].to_bytes(4, "big"))


ROLE_REQUESTS = {
    "OpenFlow": lambda role: RoleRequest(role, 1),
    "Nicira": nicira_role,
}


@pytest.mark.parametrize("request_for", ROLE_REQUESTS.values(), ids=ROLE_REQUESTS)
def test_a_role_is_in_effect_for_what_follows_at_once(ovs: Laboratory, request_for: Callable[[int], Message]) -> None:
    """Whether a peer may change rules is asked of Open vSwitch before its next message is judged."""

    async def main() -> None:
        async with peered(ovs) as (relayed, peer, direct):
            for message in (FILTER_RULE, PLAIN_RULE):
                peer.send(message)
            await peer.barrier()
            for role in (Role.EQUAL, Role.MASTER):
                # First as one who may not, then as one who may: all in one go.
                answers = await talk(
                    relayed.path,
                    [
                        (request_for(Role.SLAVE), 1),
                        (DELETE, 2),
                        (replace(FILTER_RULE, priority=1), 3),
                        (request_for(role), 4),
                        (replace(PLAIN_RULE, priority=2), 5),
                    ],
                )
                refusals = [(each.type, each.code, xid) for each, xid in answers if isinstance(each, Error)]
                assert sorted(refusals) == [(1, 10, 2), (1, 10, 3)]
                assert len(relayed.rules.rules) == 1
                assert sorted(await peer.rules()) == [(2, 6), (8, 6)]
            assert [mod.rule.priority for noted in relayed.order.noted for mod in noted] == [8, 2, 2]
            # A slave that ceases to be one deletes neither more nor less than others do.
            await talk(relayed.path, [(request_for(Role.SLAVE), 1), (request_for(Role.EQUAL), 2), (DELETE, 3)])
            assert (await peer.rules(), relayed.rules.rules) == ([], {})
            assert await own_rules(direct) == OWN

    run(main())


def test_a_bundle_of_one_who_has_become_a_slave(ovs: Laboratory) -> None:
    """It is Open vSwitch's to refuse, and no filter rule comes of it."""
    become_slave = (nicira_role(Role.SLAVE), 55)

    async def main() -> None:
        async with peered(ovs) as (relayed, peer, _):
            for rule in (FILTER_RULE, PLAIN_RULE):
                answers = await talk(relayed.path, [*bundle(rule), become_slave, (COMMIT, 60)])
                refusals = [(each.type, each.code, xid) for each, xid in answers if isinstance(each, Error)]
                assert refusals == [(1, 10, 60)]
                assert (relayed.rules.rules, await peer.rules()) == ({}, [])

    run(main())


def test_a_slave_may_not_change_filter_rules(ovs: Laboratory) -> None:
    async def main() -> None:
        async with peered(ovs) as (relayed, peer, _):
            other = await Peer.at(relayed.path)
            await peer.ask(RoleRequest(Role.MASTER, 1))
            await other.ask(RoleRequest(Role.MASTER, 2))
            peer.send(FILTER_RULE)
            with pytest.raises(RemoteError, match="is-slave"):
                await peer.barrier()
            other.send(FILTER_RULE)
            await other.barrier()
            assert len(relayed.rules.rules) == 1
            other.close()

    run(main())


# ---- the end


def test_one_side_ends_the_other(ovs: Laboratory) -> None:
    async def main() -> None:
        async with relaying(ovs) as relayed:
            ended: asyncio.Queue[str] = asyncio.Queue()
            peer = await Management.connect(relayed.path, lambda _: None, ended.put_nowait)
            assert relayed.relays.connections == 1
            peer.close()
            other = await Management.connect(relayed.path, lambda _: None, ended.put_nowait)
            await other.barrier()
            assert relayed.relays.connections == 1
            await asyncio.to_thread(ovs.vswitch.vsctl, "set", "bridge", BRIDGE, "protocols=OpenFlow10,OpenFlow13")
            await asyncio.wait_for(ended.get(), 20)
            assert relayed.relays.connections == 0
            other.close()

    try:
        run(main())
    finally:
        ovs.vswitch.vsctl("clear", "bridge", BRIDGE, "protocols")


def test_what_is_no_openflow(ovs: Laboratory) -> None:
    async def main() -> None:
        async with relaying(ovs) as relayed:
            for data in (b"GET / HTTP/1.1\r\n\r\n", encode(Hello()) + b"\4\2\0\3\0\0\0\1"):
                reader, writer = await asyncio.open_unix_connection(relayed.path)
                writer.write(data)
                await reader.read()
                writer.close()
                await writer.wait_closed()
            assert relayed.relays.connections == 0
            peer = await Peer.at(relayed.path)
            await peer.barrier()
            peer.close()

    run(main())


def test_a_limit(ovs: Laboratory) -> None:
    async def main() -> None:
        async with relaying(ovs, limit=1) as relayed:
            peer = await Peer.at(relayed.path)
            reader, writer = await asyncio.open_unix_connection(relayed.path)
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
            await peer.barrier()
            peer.close()

    run(main())


def test_a_peer_that_does_not_read_is_waited_for(ovs: Laboratory) -> None:
    """What Open vSwitch answers it does not pile up: nobody reads on for it."""

    async def main() -> None:
        async with peered(ovs) as (relayed, peer, _):
            for number in range(500):
                peer.send(replace(PLAIN_RULE, priority=number))
            await peer.barrier()
            reader, writer = await asyncio.open_unix_connection(relayed.path, limit=1 << 14)
            questions = 300
            writer.write(encode(Hello()))
            for number in range(questions):
                writer.write(encode(MultipartRequest(FlowStatsRequest()), number))
            # Others are served meanwhile.
            for _ in range(50):
                await peer.barrier()
            splitter, last = Splitter(), 0
            while last < questions:
                for each in splitter.feed(await reader.read(1 << 16)):
                    message, _ = decode(each)
                    last += isinstance(message, MultipartReply) and not message.flags
            writer.close()
            await writer.wait_closed()

    run(main())
