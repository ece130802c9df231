from __future__ import annotations

import asyncio
import itertools
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from ofext.instructions import ApplyActions, ExperimenterAction, GotoTable, Instruction, Output, SetNwTtl, WriteActions
from ofext.messages import Message, PacketIn, SetConfig
from ofext.multipart import FlowStatsReply, FlowStatsRequest
from oko.attached import shim
from oko.attached.continuation import DELETE_ALL, FIXED, continuation, id_of, outputs, port_rule, prerequisites, removal
from oko.attached.management import Management
from oko.attached.shim_id import RULE_IDS
from oko.author.frame import build_frame
from oko.flow import headers
from oko.flow.action import FLOOD
from oko.flow.match import Match
from oko.flow.text import parse_selection
from oko.wire.match import write_match
from tests.e2e import wire
from tests.oko.attached.conftest import BRIDGE, Laboratory
from tests.oko.attached.following import run
from tests.oko.attached.tap import Tap
from tests.ovs import needs_ovs

ID = 7
TAG_7 = struct.pack(">HH", 0x8100, 7)
TAGS = {"untagged": b"", "tagged": TAG_7, "double-tagged": struct.pack(">HH", 0x88A8, 9) + TAG_7}
ORDERS = {
    "from no tag to two": ("untagged", "tagged", "double-tagged"),
    "from two tags to none": ("double-tagged", "tagged", "untagged"),
}
FENCE = "priority=60000,in_port=1,dl_type=0x88b5,actions=IN_PORT,output:2,output:3"


def match(text: str) -> Match:
    return parse_selection(text).rule.match


# ---- as values

WITH_PREREQUISITES = {
    "output": ("tcp,tcp_dst=80", [Output(2)], ""),
    "TTL": ("tcp,tcp_dst=80", [SetNwTtl(3)], "tcp"),
    "TTL of IPv4": ("ip,nw_src=10.0.0.1", [SetNwTtl(3)], "ip"),
    "foreign": ("icmp6,icmp_type=135,nd_target=::1", [ExperimenterAction(0x2320, bytes(8))], "icmp6,icmp_type=135"),
    "a tag": ("dl_vlan=7,in_port=1,ip", [SetNwTtl(3)], "vlan_vid=0x1000/0x1000,ip"),
    "no tag": ("vlan_vid=0,ip", [SetNwTtl(3)], "ip"),
    "nothing": ("in_port=1", [SetNwTtl(3)], ""),
}
"""A rule's match, its actions, and what of the match goes along."""


@pytest.mark.parametrize(("text", "actions", "expected"), WITH_PREREQUISITES.values(), ids=WITH_PREREQUISITES)
@pytest.mark.parametrize("kind", [ApplyActions, WriteActions])
def test_prerequisites(text: str, actions: list[object], expected: str, kind: type[ApplyActions]) -> None:
    found = prerequisites(match(text), (kind(tuple(actions)),))  # type: ignore[arg-type]
    assert found == write_match(match(expected))


def test_the_program_is_no_prerequisite() -> None:
    found = prerequisites(match("ip,filter_prog=3"), (ApplyActions((SetNwTtl(3),)),))
    assert found == write_match(match("ip"))


OUTPUTS = {
    "nothing": ([], ()),
    "an empty list": ([ApplyActions(())], ()),
    "a port": ([ApplyActions((Output(1, 8),))], (Output(1, 8),)),
    "ports": ([ApplyActions((Output(2), Output(1)))], (Output(2), Output(1))),
    "a port twice": ([ApplyActions((Output(2), Output(2)))], None),
    "a port without XDP": ([ApplyActions((Output(2), Output(3)))], None),
    "a reserved port": ([ApplyActions((Output(0xFFFFFFFA),))], None),
    "another action": ([ApplyActions((SetNwTtl(3), Output(2)))], None),
    "another instruction": ([WriteActions((Output(2),))], None),
    "two instructions": ([ApplyActions((Output(2),)), GotoTable(1)], None),
}


@pytest.mark.parametrize(("instructions", "expected"), OUTPUTS.values(), ids=OUTPUTS)
def test_what_xdp_can_do(instructions: list[Instruction], expected: tuple[Output, ...] | None) -> None:
    assert outputs(instructions, {1, 2, 0xFFFFFFFA}) == expected


def test_cookies_tell_the_id() -> None:
    for rule in continuation(ID, Match(), ()):
        assert id_of(rule.cookie) == ID
    assert id_of(removal(ID).cookie) == ID
    for rule in (*FIXED, port_rule(1)):
        assert id_of(rule.cookie) is None
    assert id_of(ID) is None
    assert id_of(shim.OWN_COOKIE | RULE_IDS[-1] + 1) is None


# ---- in a real Open vSwitch

GROUP = "group_id=1,type=all,bucket=output:2,bucket=set_field:02:00:00:00:00:99->eth_dst,output:3"
METER = "meter=1,pktps,bands=type=drop,rate=100000"
LATER_TABLES = (
    "table=5,priority=10,dl_vlan=7,in_port=1,actions=output:3",
    "table=5,priority=10,in_port=1,udp,tp_src=51000,actions=output:2",
    "table=5,priority=0,actions=IN_PORT",
    "table=6,priority=1,ip,ct_state=+trk+new,actions=output:2",
    "table=6,priority=0,actions=drop",
    "table=8,priority=0,actions=write_actions(output:3)",
)
ACTIONS = {
    "NORMAL": ("", "NORMAL"),
    "output": ("", "output:2"),
    "output of UDP": ("udp,tp_dst=53", "output:2"),
    "goto_table": ("", "goto_table:5"),
    "IN_PORT": ("", "IN_PORT"),
    "FLOOD": ("", "FLOOD"),
    "set_field": ("ip", "set_field:44->ip_dscp,output:2"),
    "set_field of UDP": ("udp", "set_field:4->udp_dst,output:2"),
    "dec_ttl": ("ip", "dec_ttl,output:2"),
    "push_vlan": ("", "push_vlan:0x8100,set_field:4196->vlan_vid,output:2"),
    "pop_vlan": ("vlan_vid=0x1000/0x1000", "pop_vlan,output:2"),
    "set_field of a tag": ("dl_vlan=7", "set_field:4099->vlan_vid,output:2"),
    "group": ("", "group:1"),
    "meter": ("", "meter:1,output:2"),
    "ct": ("ip", "ct(commit,zone=3,table=6)"),
    "write_actions": ("", "write_actions(output:3),goto_table:5"),
    "clear_actions": ("", "clear_actions,write_actions(output:2),goto_table:8"),
    "write_metadata": ("", "write_metadata:0x5,goto_table:8"),
    "learn": ("", "learn(table=9,in_port,NXM_OF_VLAN_TCI[0..11],load:NXM_OF_IN_PORT[]->NXM_NX_REG0[0..15]),output:2"),
    "controller": ("", "controller,output:2"),
    "register and resubmit": ("", "load:5->NXM_NX_REG1[],resubmit(,5)"),
}
"""What the rule matches, and its actions."""


class Continuing:
    """Frames that the bridge gets from host 1, and what it makes of them."""

    def __init__(self, ovs: Laboratory, taps: dict[int, Tap]) -> None:
        self.ovs = ovs
        self.taps = taps
        self._numbers = itertools.count()

    def begin(self) -> None:
        """No memory of what was before."""
        self.ovs.delete(f"cookie=0/{shim.OWN_COOKIE:#x}")
        self.ovs.vswitch.appctl("fdb/flush", BRIDGE)
        self.ovs.vswitch.appctl("dpctl/flush-conntrack")
        self.ovs.add(FENCE, *LATER_TABLES)

    def settle(self) -> None:
        """Open vSwitch forgets what it has decided of frames, so that the rules as they are decide."""
        self.ovs.vswitch.appctl("revalidator/purge")

    def sent(self, frame: bytes) -> dict[int, list[bytes]]:
        """What leaves, by port, when this frame comes in by port 1."""
        self.taps[1].send(frame)
        fence = wire.frame(next(self._numbers))
        self.taps[1].send(fence)
        found = {port: tap.until(fence) for port, tap in self.taps.items()}
        return {port: frames for port, frames in found.items() if frames}


@pytest.fixture(scope="module")
def continuing(laboratory: Laboratory) -> Iterator[Continuing]:
    vswitch = laboratory.vswitch
    vswitch.ofctl("add-group", BRIDGE, GROUP)
    vswitch.ofctl("add-meter", BRIDGE, METER)
    taps = {number: Tap(path) for number, path in laboratory.hosts.items()}
    yield Continuing(laboratory, taps)
    for tap in taps.values():
        tap.close()


def tagged(frame: bytes, tags: str) -> bytes:
    return frame[:12] + TAGS[tags] + frame[12:]


def frames(order: tuple[str, ...]) -> list[bytes]:
    """Each kind twice: the second meets what Open vSwitch remembers of the first."""
    udp = build_frame(match("udp,tp_dst=53"), bytes(40))
    arp = build_frame(match("arp"), bytes(40))
    return [tagged(frame, tags) for tags in order for frame in (udp, udp, arp)]


@asynccontextmanager
async def connected(ovs: Laboratory) -> AsyncIterator[tuple[Management, list[Message]]]:
    """A connection, with none of Oko's rules in place, and what comes by it unasked: packets for controllers."""
    heard: list[Message] = []
    management = await Management.connect(ovs.vswitch.management(BRIDGE), heard.append, lambda _: None)
    try:
        management.send(SetConfig(miss_send_len=0xFFFF))
        await management.change([DELETE_ALL])
        yield management, heard
    finally:
        management.close()


async def instructions(management: Management) -> tuple[Instruction, ...]:
    """Those of the only rule of priority 100 in table 0."""
    reply = await management.report(FlowStatsRequest(table_id=0))
    assert isinstance(reply, FlowStatsReply)
    (found,) = (each.instructions for each in reply.entries if each.priority == 100)
    return found


def is_met(chosen: Match, frame: bytes) -> bool:
    """Whether a frame from port 1 matches, for who reads one tag, as Open vSwitch does unless told otherwise."""
    parsed = headers.parse(frame, 1, vlan_limit=1)
    assert parsed is not None
    return all(parsed[each.field.name] & each.mask == each.value for each in chosen.conditions)


@needs_ovs
@pytest.mark.parametrize(("text", "actions"), ACTIONS.values(), ids=ACTIONS)
def test_a_continued_rule_does_what_it_would_do_by_itself(continuing: Continuing, text: str, actions: str) -> None:
    """The same frames, once decided by a plain rule and once wrapped, leave by the same ports with the same bytes; the
    controllers hear the same; and the same is learned."""
    ovs, chosen = continuing.ovs, match(text)

    def outcome(wrap: Callable[[bytes], bytes]) -> list[object]:
        continuing.settle()
        sent = [continuing.sent(wrap(frame)) for order in ORDERS.values() for frame in frames(order)]
        assert any(sent)
        learned = ovs.vswitch.ofctl("--no-stats dump-flows", BRIDGE, "table=9").splitlines()[1:]
        addresses = [line.split()[:3] for line in ovs.vswitch.appctl("fdb/show", BRIDGE).splitlines()]
        return [sent, learned, addresses]

    async def main() -> None:
        async with connected(ovs) as (management, heard):
            continuing.begin()
            ovs.add(f"priority=100,in_port=1,{text}{',' if text else ''}actions={actions}")
            done = await instructions(management)
            expected = await asyncio.to_thread(outcome, lambda frame: frame)
            await management.barrier()
            told, heard[:] = [_without_cookie(message) for message in heard], []

            continuing.begin()
            await management.change([*FIXED, port_rule(1), *continuation(ID, chosen, done)])
            wrap = lambda frame: shim.frame(ID, frame) if is_met(chosen, frame) else frame  # noqa: E731
            assert await asyncio.to_thread(outcome, wrap) == expected
            await management.barrier()
            assert [_without_cookie(message) for message in heard] == told

    run(main())


def _without_cookie(message: Message) -> Message:
    return replace(message, cookie=0) if isinstance(message, PacketIn) else message


WRAPPED = {
    "by a port without XDP": (2, ID, b""),
    "with an id that no rule has": (1, ID + 1, b""),
    "with an id that was taken back": (1, ID + 2, b""),
    "behind a tag": (1, ID, TAG_7),
}
"""Shims that are none of Oko's: the port they come in by, the id, and what stands between addresses and shim."""


@needs_ovs
@pytest.mark.parametrize(("port", "shim_id", "tag"), WRAPPED.values(), ids=WRAPPED)
def test_other_shims_are_dropped(continuing: Continuing, port: int, shim_id: int, tag: bytes) -> None:
    ovs = continuing.ovs
    everywhere = (ApplyActions((Output(FLOOD),)),)

    async def main() -> None:
        async with connected(ovs) as (management, _):
            continuing.begin()
            await management.change([*FIXED, port_rule(1), *continuation(ID, Match(), everywhere)])
            await management.change([*continuation(ID + 2, Match(), everywhere), removal(ID + 2)])
            inner = frames(("untagged",))[0]
            continuing.settle()
            assert await asyncio.to_thread(continuing.sent, shim.frame(ID, inner)) == {2: [inner], 3: [inner]}
            wrapped = shim.frame(shim_id, inner)
            continuing.taps[port].send(wrapped[:12] + tag + wrapped[12:])
            found = await asyncio.to_thread(continuing.sent, shim.frame(ID, inner))
            assert found == {2: [inner], 3: [inner]}

    run(main())


@needs_ovs
def test_nsh_of_others_is_left_to_their_rules(continuing: Continuing) -> None:
    """It has metadata of type 1."""
    foreign = bytes.fromhex("020000000002 020000000001 894f 0fc60103 0000050a") + bytes(16 + 60)

    async def main() -> None:
        async with connected(continuing.ovs) as (management, _):
            continuing.begin()
            continuing.ovs.add("priority=1,actions=output:2")
            await management.change([*FIXED, port_rule(1)])
            continuing.settle()
            assert await asyncio.to_thread(continuing.sent, foreign) == {2: [foreign]}

    run(main())


@needs_ovs
def test_removal_takes_away_the_rules_of_the_id(continuing: Continuing) -> None:
    async def main() -> None:
        async with connected(continuing.ovs) as (management, _):
            continuing.ovs.delete()
            await management.change([*FIXED, *continuation(ID, Match(), ()), *continuation(ID + 1, Match(), ())])
            await management.change([removal(ID)])
            reply = await management.report(FlowStatsRequest())
            assert isinstance(reply, FlowStatsReply)
            assert sorted(id_of(each.cookie) or 0 for each in reply.entries) == [0, 0, 0, ID + 1, ID + 1]
            await management.change([DELETE_ALL])
            assert await management.report(FlowStatsRequest()) == FlowStatsReply()

    run(main())
