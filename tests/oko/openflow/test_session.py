from __future__ import annotations

import logging
import subprocess
from dataclasses import replace

import pytest

from ofext import instructions as wire
from ofext.bundles import ONF, BundleAdd, BundleCommand, BundleControl
from ofext.constants import MULTIPART_MORE, NO_BUFFER, PORT_ANY, PacketInReason, PortConfig, PortReason, PortState, Role
from ofext.extension import (
    EXPERIMENTER,
    EventListRequest,
    EventSubscribe,
    MapDelete,
    MapDumpRequest,
    MapKey,
    MapListRequest,
    MapLookupRequest,
    MapUpdate,
    Observe,
    ObserverListRequest,
    ProgramListRequest,
    ProgramUnload,
    Unobserve,
)
from ofext.instructions import ApplyActions, GotoTable, Meter, Output, SetQueue, UnknownAction
from ofext.load import chunks
from ofext.messages import (
    BarrierReply,
    BarrierRequest,
    EchoReply,
    EchoRequest,
    Error,
    Experimenter,
    FeaturesReply,
    FeaturesRequest,
    FlowMod,
    FlowRemoved,
    GetAsyncReply,
    GetAsyncRequest,
    GetConfigReply,
    GetConfigRequest,
    GroupMod,
    Hello,
    Message,
    MeterMod,
    PacketIn,
    PacketOut,
    PortMod,
    PortStatus,
    QueueGetConfigReply,
    QueueGetConfigRequest,
    RoleReply,
    RoleRequest,
    SetAsync,
    SetConfig,
    TableMod,
    Unknown,
    VersionBitmap,
    decode,
    encode,
    header,
)
from ofext.multipart import (
    DescRequest,
    ExperimenterBody,
    FlowStatsRequest,
    MultipartReply,
    MultipartRequest,
    PortStatsRequest,
    QueueStatsRequest,
    TableFeatures,
    TableFeaturesRequest,
    UnknownBody,
)
from ofext.oxm import Oxm
from oko.flow import action as flow
from oko.flow.action import CONTROLLER
from oko.flow.rule import Command
from oko.flow.rule import FlowMod as Change
from oko.flow.text import parse_rule, parse_selection
from oko.openflow.encodings import Encodings
from oko.openflow.roles import UNKNOWN_GENERATION, Roles
from oko.openflow.session import BACKLOG_LIMIT, PROMPT_LIMIT, Session
from oko.openflow.terms import Terms
from oko.switch.limits import Limits
from oko.wire.change import write_flow_mod
from oko.wire.match import write_match
from tests.oko.conftest import Compile, Rig
from tests.oko.kernel.waiting import wait_until
from tests.oko.openflow.peer import Peer, add, add_group, add_meter, delete, error_name

pytestmark = pytest.mark.needs_bpf

SIMPLE = "in_port=1,actions=output:2"
FRAME = bytes.fromhex("02000000000202000000000188b5").ljust(60, b"\0")


@pytest.fixture
def peer(rig: Rig) -> Peer:
    return Peer(rig)


def state(rig: Rig, peer: Peer) -> tuple[object, ...]:
    """All that a refused message must leave as it was."""
    flows = [replace(flow, duration_sec=0, duration_nsec=0) for flow in peer.flows()]
    tables = rig.bridge.tables
    return flows, dict(tables.groups), dict(tables.meters), rig.pipeline()


def rule(*instructions: wire.Instruction) -> FlowMod:
    return FlowMod(instructions=instructions)


def applied(*actions: wire.Action) -> FlowMod:
    return rule(ApplyActions(actions))


def packet_out(*actions: wire.Action, in_port: int = CONTROLLER, data: bytes = FRAME) -> PacketOut:
    return PacketOut(NO_BUFFER, in_port, actions, data)


def port_mod(number: int = 1, *, mac: bytes = bytes(6), mask: int = 1) -> PortMod:
    return PortMod(number, mac, 0, mask)


SHORT = encode(add(SIMPLE), 1)[:40]
REFUSED: dict[str, tuple[Message | bytes, str]] = {
    "wrong length": (SHORT[:2] + len(SHORT).to_bytes(2, "big") + SHORT[4:], "bad-request/bad-len"),
    "wrong version": (b"\5" + encode(BarrierRequest(), 1)[1:], "bad-request/bad-version"),
    "unknown type": (Unknown(99, b"payload!"), "bad-request/bad-type"),
    "answer for the switch": (BarrierReply(), "bad-request/bad-type"),
    "unknown experimenter": (Experimenter(0x2320, 1), "bad-request/bad-experimenter"),
    "unknown type of the ONF": (Experimenter(ONF, 1), "bad-request/bad-exp-type"),
    "unknown type of the extension": (
        encode(Unknown(4, EXPERIMENTER.to_bytes(4, "big") + (99).to_bytes(4, "big"))),
        "bad-request/bad-exp-type",
    ),
    "unknown multipart": (MultipartRequest(UnknownBody(77)), "bad-request/bad-multipart"),
    "multipart of an experimenter": (MultipartRequest(ExperimenterBody(ONF, 1)), "bad-request/bad-experimenter"),
    "multipart request in parts": (
        MultipartRequest(DescRequest(), MULTIPART_MORE),
        "bad-request/multipart-buffer-overflow",
    ),
    "flows of no table": (MultipartRequest(FlowStatsRequest(254)), "bad-request/bad-table-id"),
    "counters of no port": (MultipartRequest(PortStatsRequest(9)), "bad-request/bad-port"),
    "queues of no port": (MultipartRequest(QueueStatsRequest(9)), "queue-op-failed/bad-port"),
    "no such queue": (MultipartRequest(QueueStatsRequest(1, 0)), "queue-op-failed/bad-queue"),
    "queue configuration of no port": (QueueGetConfigRequest(9), "queue-op-failed/bad-port"),
    "changed table features": (
        MultipartRequest(TableFeaturesRequest((TableFeatures(0, "t", 0, 0, 0, 1),))),
        "table-features-failed/eperm",
    ),
    "no role": (RoleRequest(9, 0), "role-request-failed/bad-role"),
    "fragments": (SetConfig(1), "switch-config-failed/bad-flags"),
    "table_mod of no table": (TableMod(254), "table-mod-failed/bad-table"),
    "table_mod of more than nothing": (TableMod(0, 4), "table-mod-failed/bad-config"),
    "port_mod of no port": (port_mod(9), "port-mod-failed/bad-port"),
    "port_mod of another address": (port_mod(), "port-mod-failed/bad-hw-addr"),
    "buffer": (FlowMod(buffer_id=1), "bad-request/buffer-unknown"),
    "reserved port": (applied(Output(0xFFFFFFFA)), "bad-action/bad-out-port"),
    "unknown field": (FlowMod(match=(Oxm(0x8000, 3, bytes(6)), Oxm(0x8000, 38, bytes(8)))), "bad-match/bad-field"),
    "field without prerequisite": (FlowMod(match=(Oxm(0x8000, 14, bytes(2)),)), "bad-match/bad-prereq"),
    "value beyond its mask": (
        FlowMod(match=(Oxm(0x8000, 3, b"\1\1\1\1\1\1", b"\1\1\1\1\1\0"),)),
        "bad-match/bad-wildcards",
    ),
    "unknown action": (applied(UnknownAction(77, bytes(4))), "bad-action/bad-type"),
    "queue": (applied(SetQueue(1)), "bad-action/bad-queue"),
    "set-field that does not fit": (
        applied(wire.SetField(Oxm(0x8000, 14, b"\0\1")), Output(1)),
        "bad-action/match-inconsistent",
    ),
    "field that cannot be set": (applied(wire.SetField(Oxm(0x8000, 0, bytes(4)))), "bad-action/bad-set-type"),
    "unknown group": (applied(wire.Group(7)), "bad-action/bad-out-group"),
    "unknown meter": (rule(Meter(7)), "meter-mod-failed/unknown-meter"),
    "goto_table backwards": (replace(rule(GotoTable(1)), table_id=1), "bad-instruction/bad-table-id"),
    "unknown instruction": (rule(wire.UnknownInstruction(9, bytes(4))), "bad-instruction/unknown-inst"),
    "table 254": (FlowMod(table_id=254), "flow-mod-failed/bad-table-id"),
    "all tables": (FlowMod(table_id=255), "flow-mod-failed/bad-table-id"),
    "command": (FlowMod(command=5), "flow-mod-failed/bad-command"),
    "flags": (FlowMod(flags=32), "flow-mod-failed/bad-flags"),
    "overlap": (replace(add("arp,actions=drop"), flags=2), "flow-mod-failed/overlap"),
    "group that is there": (add_group("group_id=1,type=all"), "group-mod-failed/group-exists"),
    "group that is not there": (GroupMod(1, 0, 2), "group-mod-failed/unknown-group"),
    "group of two": (GroupMod(0, 2, 2), "group-mod-failed/invalid-group"),
    "group to nowhere": (add_group("group_id=2,type=all,bucket=actions=group:3"), "bad-action/bad-out-group"),
    "meter that is there": (add_meter("meter=1,kbps,bands=type=drop,rate=1"), "meter-mod-failed/meter-exists"),
    "meter that is not there": (MeterMod(1, 1, 2), "meter-mod-failed/unknown-meter"),
    "meter of the slow path": (MeterMod(0, 1, 0xFFFFFFFD), "meter-mod-failed/invalid-meter"),
    "packet-out in a buffer": (PacketOut(1, 1), "bad-request/buffer-unknown"),
    "packet-out of no port": (packet_out(Output(2), in_port=9), "bad-request/bad-port"),
    "packet-out of any port": (packet_out(Output(2), in_port=PORT_ANY), "bad-request/bad-port"),
    "packet-out to a group": (packet_out(wire.Group(7)), "bad-action/bad-out-group"),
    "packet-out of nothing": (packet_out(Output(2), data=b""), "bad-request/bad-len"),
}


@pytest.fixture
def used(peer: Peer) -> Peer:
    """With a rule, a group and a meter."""
    messages = add_group("group_id=1,type=all"), add_meter("meter=1,kbps,bands=type=drop,rate=1")
    assert peer.ask(*messages, add("in_port=1,actions=output:2,group:1")) == []
    return peer


def test_what_is_refused_changes_nothing(rig: Rig, used: Peer) -> None:
    before = state(rig, used)
    names = {}
    for name, (message, _) in REFUSED.items():
        request = message if isinstance(message, bytes) else encode(message, 1)
        refusal, barrier = used.raw([request, encode(BarrierRequest(), 2)])
        answer, xid = decode(refusal)
        names[name] = error_name(answer)
        assert isinstance(answer, Error)
        assert (answer.data, xid) == (request, header(request).xid), name
        assert decode(barrier) == (BarrierReply(), 2)
    assert names == {name: expected for name, (_, expected) in REFUSED.items()}
    assert state(rig, used) == before


def test_what_is_refused_leaves_what_arrived_with_it(rig: Rig, peer: Peer) -> None:
    messages = [
        add_meter("meter=3,pktps,bands=type=drop,rate=5"),
        add("in_port=1,actions=meter:3,group:4"),
        add_group("group_id=4,type=all,bucket=actions=output:2"),
        FlowMod(command=9),
        add("in_port=1,actions=meter:3,group:4"),
    ]
    answers = peer.raw([encode(message, xid) for xid, message in enumerate(messages)])
    assert [(header(answer).xid, error_name(decode(answer)[0])) for answer in answers] == [
        (1, "bad-action/bad-out-group"),
        (3, "flow-mod-failed/bad-command"),
    ]
    assert len(rig.bridge.tables) == len(rig.bridge.tables.groups) == len(rig.bridge.tables.meters) == 1


def test_what_arrives_together_is_compiled_together(rig: Rig, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = []
    change = rig.bridge.change

    def counted(mods: list[Change]) -> object:
        rounds.append(len(mods))
        return change(mods)

    monkeypatch.setattr(rig.bridge, "change", counted)
    meter = add_meter("meter=3,pktps,bands=type=drop,rate=5")
    assert peer.refusals(add(SIMPLE), meter, FlowMod(flags=32), delete("")) == ["flow-mod-failed/bad-flags"]
    assert peer.ask(add(SIMPLE), BarrierRequest(), add(SIMPLE), delete("")) == [BarrierReply()]
    assert rounds == [3, 1, 2]


def test_greeting_and_small_questions(rig: Rig, peer: Peer) -> None:
    assert peer.session.greeting() == encode(Hello((VersionBitmap(frozenset({1, 4})),)))
    answers = peer.ask(
        Hello(),
        EchoRequest(b"are you there"),
        EchoReply(),
        Error(1, 1),
        FeaturesRequest(),
        SetConfig(0, 64),
        GetConfigRequest(),
        TableMod(255, 3),
        port_mod(mac=rig.bridge.ports[0].mac, mask=0),
        QueueGetConfigRequest(PORT_ANY),
        BarrierRequest(),
    )
    datapath_id = int.from_bytes(rig.bridge.ports[0].mac, "big")
    assert answers == [
        EchoReply(b"are you there"),
        FeaturesReply(datapath_id, n_tables=254, capabilities=15),
        GetConfigReply(0, 64),
        QueueGetConfigReply(PORT_ANY),
        BarrierReply(),
    ]


@pytest.mark.parametrize(
    ("config", "mask", "advertise", "refusals"),
    [
        pytest.param(0, 0x65, 0, [], id="nothing to do"),
        pytest.param(0x24, 0x24, 0, ["port-mod-failed/bad-config"], id="NO_RECV and NO_FWD"),
        pytest.param(0x44, 0x44, 0, ["port-mod-failed/bad-config"], id="NO_RECV beside NO_PACKET_IN"),
        pytest.param(1, 1, 1, ["port-mod-failed/bad-advertise"], id="advertise"),
    ],
)
def test_what_of_a_port_is_not_configured(
    rig: Rig, peer: Peer, config: int, mask: int, advertise: int, refusals: list[str]
) -> None:
    port = rig.bridge.ports[0]
    assert peer.refusals(PortMod(1, port.mac, config, mask, advertise)) == refusals
    assert rig.inside(lambda: rig.bridge.is_enabled(port))
    assert peer.heard == []


def test_a_port_goes_down_and_up(rig: Rig, peer: Peer) -> None:
    port = rig.bridge.ports[0]

    def is_up() -> bool:
        rig.inside(rig.bridge.refresh_ports)
        return rig.bridge.is_up(port)

    def is_down() -> bool:
        return not is_up()

    for config, state in ((PortConfig.PORT_DOWN, PortState.LINK_DOWN), (PortConfig(0), PortState.LIVE)):
        message = PortMod(1, port.mac, config, PortConfig.PORT_DOWN)
        assert peer.ask(message) == []
        wait_until(is_down if config else is_up)
        told = peer.heard[-1]
        assert isinstance(told, PortStatus)
        assert (told.desc.port_no, told.desc.config, told.desc.state) == (1, config, state)
        peer.heard.clear()
        assert peer.ask(message) == []
        assert peer.heard == [], "it was so already"


def test_a_port_does_not_tell_of_its_misses(rig: Rig, peer: Peer) -> None:
    rig.attach()
    rules = "cookie=7,priority=0,actions=CONTROLLER", "cookie=8,dl_dst=02:00:00:00:00:02,actions=CONTROLLER"
    assert peer.ask(*map(add, rules)) == []
    mac, silent = rig.bridge.ports[0].mac, PortConfig.NO_PACKET_IN
    assert peer.ask(PortMod(1, mac, silent, silent)) == []
    (told,) = peer.heard
    assert isinstance(told, PortStatus)
    assert (told.desc.port_no, told.desc.config, told.desc.state) == (1, silent, PortState.LIVE)
    assert peer.ask(PortMod(1, mac, silent, silent)) == []
    assert peer.heard == [told], "it was so already"
    for host, destination in (("h1", "02:00:00:00:00:03"), ("h1", "02:00:00:00:00:02"), ("h2", "02:00:00:00:00:03")):
        rig.send(host, destination)
    wait_until(lambda: rig.bridge.deliver(10) or len(packet_ins(peer)) == 2)
    assert [message.cookie for message in packet_ins(peer)] == [8, 7]
    peer.heard.clear()
    assert peer.ask(PortMod(1, mac, 0, silent)) == []
    rig.send("h1", "02:00:00:00:00:03")
    wait_until(lambda: rig.bridge.deliver(10) or len(packet_ins(peer)) == 1)


def test_a_port_without_a_link_is_taken_down(rig: Rig, peer: Peer) -> None:
    port = rig.bridge.ports[0]
    subprocess.run(["ip", "-n", rig.namespace.name, "link", "set", "h1", "down"], check=True)
    rig.inside(rig.bridge.refresh_ports)
    peer.heard.clear()
    assert peer.ask(PortMod(1, port.mac, PortConfig.PORT_DOWN, PortConfig.PORT_DOWN)) == []
    (told,) = peer.heard
    assert isinstance(told, PortStatus)
    assert told.desc.config == PortConfig.PORT_DOWN


def test_a_port_that_is_gone_is_not_configured(rig: Rig, peer: Peer) -> None:
    rig.attach()
    port = rig.bridge.ports[0]
    subprocess.run(["ip", "-n", rig.namespace.name, "link", "del", "p1"], check=True)
    assert peer.refusals(PortMod(1, port.mac, 1, 1)) == ["port-mod-failed/eperm"]


def test_limits_of_programs(rig: Rig, peer: Peer, counting: Compile) -> None:
    elf = counting()
    rig.bridge.limits = Limits(programs=1)
    assert len(peer.ask(*chunks(1, "", elf))) == 1
    assert peer.refusals(*chunks(2, "", elf)) == ["limit-exceeded"]
    assert len(peer.ask(*chunks(1, "", elf))) == 1, "in the place of the first"
    rig.bridge.limits = Limits(object_bytes=len(elf) - 1)
    assert Peer(rig).refusals(*chunks(1, "", elf)) == ["limit-exceeded"]


def test_a_limit_of_rules(rig: Rig, peer: Peer) -> None:
    rig.bridge.limits = Limits(rules=3)
    flows = ("in_port=1,actions=drop", "table=1,in_port=1,actions=drop", "in_port=2,actions=drop")
    one_more = add("priority=9,arp,actions=drop")
    assert peer.ask(*map(add, flows)) == []
    assert peer.refusals(one_more, add("table=9,actions=drop")) == ["flow-mod-failed/table-full"] * 2
    # In the place of a rule, when there is room again, and changes of what is there.
    assert peer.ask(add("in_port=1,actions=output:2"), delete("in_port=2"), one_more) == []
    assert peer.ask(write_flow_mod(Change(Command.MODIFY, parse_rule("actions=output:1")))) == []
    assert len(peer.flows()) == 3
    rig.bridge.limits = Limits(rules=2)
    assert peer.refusals(add("tcp,actions=drop")) == ["flow-mod-failed/table-full"], "which there were before"
    assert len(peer.flows()) == 3


def test_the_right_to_load(rig: Rig, counting: Compile) -> None:
    stranger = Peer(rig, terms=Terms("a stranger"))
    observer = write_match(parse_rule("filter_prog=1,actions=drop").match)
    requests = (
        *chunks(1, "", counting()),
        ProgramUnload(1),
        MapUpdate(1, 0, "hits"),
        MapDelete(1, 0, "hits"),
        Observe(0, observer),
        Unobserve(0, observer),
        BundleAdd(1, 0, encode(Observe(0, observer), 7)),
    )
    assert stranger.refusals(*requests) == ["bad-request/eperm"] * len(requests)


def test_the_right_to_read(rig: Rig, counting: Compile) -> None:
    rig.load(counting())
    stranger, reader = Peer(rig, terms=Terms("a stranger")), Peer(rig, terms=Terms("a reader", may_read=True))
    requests = (
        MultipartRequest(MapDumpRequest(1, 0, "seen")),
        MultipartRequest(MapLookupRequest(1, "seen", (MapKey(bytes(4)),))),
        EventSubscribe(1, "seen"),
    )
    assert stranger.refusals(*requests) == ["bad-request/eperm"] * len(requests)
    dumped, found, refused = reader.ask(*requests)
    assert isinstance(dumped, MultipartReply)
    assert isinstance(found, MultipartReply)
    assert error_name(refused) == "bad-map-access", "it is no ring buffer"
    for told in (ProgramListRequest(), MapListRequest(), ObserverListRequest(), EventListRequest()):
        assert stranger.report(told) == reader.report(told)
    assert reader.refusals(ProgramUnload(1)) == ["bad-request/eperm"]


@pytest.mark.parametrize("datapath_id", [0, 1, (1 << 64) - 1])
def test_a_datapath_id_that_was_given(rig: Rig, datapath_id: int) -> None:
    session = Session(rig.bridge, Roles(), lambda _: None, datapath_id=datapath_id)
    (answer,) = rig.inside(lambda: list(session.receive([encode(FeaturesRequest(), 1)])))
    features = decode(answer)[0]
    assert isinstance(features, FeaturesReply)
    assert (features.datapath_id, features.auxiliary_id) == (datapath_id, 0)


def test_other_versions_are_turned_away(rig: Rig, peer: Peer) -> None:
    assert peer.refusals(Hello((VersionBitmap(frozenset({2, 6})),), 6)) == ["hello-failed/incompatible"]
    assert peer.session.failed


def test_nothing_is_done_behind_a_hello_that_failed(rig: Rig, peer: Peer) -> None:
    assert peer.refusals(Hello((), 0), EchoRequest(b"still there"), FlowMod()) == ["hello-failed/incompatible"]
    assert len(rig.bridge.tables) == 0


def test_deletes_and_modifies(peer: Peer) -> None:
    flows = ("arp,in_port=1,actions=output:2", "ip,in_port=1,actions=output:2", "ip,actions=drop")
    assert peer.ask(*map(add, flows)) == []
    assert peer.ask(write_flow_mod(Change(Command.MODIFY, parse_rule("in_port=1,actions=drop")))) == []
    assert [flow.instructions for flow in peer.flows()] == [(), (), ()]
    assert peer.ask(delete("in_port=1")) == []
    assert len(peer.flows()) == 1
    assert peer.ask(delete("")) == []
    assert peer.flows() == ()


# ---- roles


def test_a_slave_only_reads(rig: Rig) -> None:
    roles = Roles()
    slave, master = Peer(rig, roles), Peer(rig, roles)
    assert slave.ask(RoleRequest(Role.NOCHANGE, 3)) == [RoleReply(Role.EQUAL, UNKNOWN_GENERATION)]
    assert slave.ask(RoleRequest(Role.MASTER, 3)) == [RoleReply(Role.MASTER, 3)]
    assert master.ask(RoleRequest(Role.MASTER, 4)) == [RoleReply(Role.MASTER, 4)]
    changing = (
        add(SIMPLE),
        GroupMod(2, 0, 1),
        MeterMod(2, 0, 1),
        packet_out(),
        port_mod(),
        TableMod(0),
        BundleControl(1, BundleCommand.OPEN_REQUEST),
        ProgramUnload(1),
        MultipartRequest(TableFeaturesRequest((TableFeatures(0, "t", 0, 0, 0, 1),))),
    )
    assert slave.refusals(*changing) == ["bad-request/is-slave"] * len(changing)
    assert slave.refusals(RoleRequest(Role.MASTER, 3)) == ["role-request-failed/stale"]
    assert slave.ask(BarrierRequest(), SetConfig(0, 5)) == [BarrierReply()]
    assert master.ask(add(SIMPLE)) == []
    assert len(slave.flows()) == 1


def test_a_slave_that_becomes_equal_may_write_at_once(peer: Peer) -> None:
    answers = peer.ask(RoleRequest(Role.SLAVE, 1), add(SIMPLE), RoleRequest(Role.EQUAL, 1), add(SIMPLE))
    assert [type(answer) for answer in answers] == [RoleReply, Error, RoleReply]
    assert len(peer.flows()) == 1


# ---- what nobody asked for


def packet_ins(peer: Peer) -> list[PacketIn]:
    return [message for message in peer.heard if isinstance(message, PacketIn)]


def removed(peer: Peer) -> list[FlowRemoved]:
    return [message for message in peer.heard if isinstance(message, FlowRemoved)]


def test_packets_come_with_the_cookie_of_their_rule(rig: Rig, peer: Peer) -> None:
    rig.attach()
    rules = "cookie=7,priority=0,actions=CONTROLLER", "cookie=8,dl_dst=02:00:00:00:00:02,actions=CONTROLLER"
    assert peer.ask(*map(add, rules)) == []
    rig.send("h1", "02:00:00:00:00:02")
    rig.send("h2", "02:00:00:00:00:03")
    wait_until(lambda: rig.bridge.deliver(10) or len(peer.heard) == 2)
    told = [(message.reason, message.cookie, message.match, message.data) for message in packet_ins(peer)]
    assert told == [
        (PacketInReason.ACTION, 8, (Oxm(0x8000, 0, b"\0\0\0\1"),), FRAME),
        (PacketInReason.NO_MATCH, 7, (Oxm(0x8000, 0, b"\0\0\0\2"),), FRAME[:5] + b"\3" + FRAME[6:]),
    ]


def test_a_packet_out_comes_back(rig: Rig, peer: Peer) -> None:
    assert peer.ask(packet_out(wire.DecNwTtl(), Output(CONTROLLER), in_port=2), BarrierRequest()) == [BarrierReply()]
    (message,) = packet_ins(peer)
    assert (message.cookie, message.match) == ((1 << 64) - 1, (Oxm(0x8000, 0, b"\0\0\0\2"),))
    assert (message.reason, message.data) == (PacketInReason.ACTION, FRAME)


def test_a_packet_out_that_does_nothing_may_be_of_anything(peer: Peer) -> None:
    assert peer.ask(packet_out(in_port=0, data=b"")) == []


def test_a_packet_out_leaves_by_a_port(rig: Rig, peer: Peer) -> None:
    rig.attach()
    with rig.listening("h2") as received:
        assert peer.ask(packet_out(Output(2))) == []
        wait_until(lambda: received() == [FRAME])


def test_a_slow_reader_loses_packets_and_nothing_else(rig: Rig, peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    assert peer.ask(add(f"send_flow_rem,{SIMPLE}")) == []
    peer.backlog = BACKLOG_LIMIT + 1
    assert peer.ask(packet_out(Output(CONTROLLER)), packet_out(Output(CONTROLLER)), delete("")) == []
    assert peer.heard == []
    peer.session.catch_up(1)
    assert [type(message) for message in peer.heard] == [FlowRemoved]
    peer.backlog = BACKLOG_LIMIT
    assert peer.ask(packet_out(Output(CONTROLLER))) == []
    assert len(packet_ins(peer)) == 1
    assert peer.session.lost_packet_ins == 2
    with caplog.at_level(logging.WARNING):
        peer.session.close()
    assert "2 packet-ins were dropped" in caplog.text


def test_rules_that_go_are_told_of_later_to_a_slow_reader(rig: Rig, peer: Peer) -> None:
    assert (
        peer.ask(*(add(f"send_flow_rem,cookie={number},priority={number},arp,actions=drop") for number in range(1, 6)))
        == []
    )
    peer.backlog = PROMPT_LIMIT
    assert peer.ask(delete("cookie=1/-1")) == []
    assert ([told.cookie for told in removed(peer)], peer.session.is_late, peer.fallen_behind) == ([1], False, 0)
    peer.backlog = PROMPT_LIMIT + 1
    assert peer.ask(*(delete(f"cookie={number}/-1") for number in (3, 2, 5))) == []
    peer.backlog = 0
    # What can be done without stays behind, and a rule that goes now waits behind the others.
    assert peer.ask(packet_out(Output(CONTROLLER)), delete("cookie=4/-1")) == []
    assert (len(peer.heard), peer.session.is_late, peer.session.lost_packet_ins, peer.fallen_behind) == (1, True, 1, 4)
    peer.session.catch_up(3)
    assert ([told.cookie for told in removed(peer)], peer.session.is_late) == ([1, 3, 2, 5], True)
    peer.session.catch_up(3)
    assert ([told.cookie for told in removed(peer)], peer.session.is_late) == ([1, 3, 2, 5, 4], False)
    assert peer.ask(packet_out(Output(CONTROLLER))) == []
    assert len(packet_ins(peer)) == 1


def test_a_peer_that_is_behind_by_more_rules_than_there_may_be(rig: Rig, peer: Peer) -> None:
    assert peer.ask(*(add(f"send_flow_rem,priority={number},arp,actions=drop") for number in range(4))) == []
    rig.bridge.limits = Limits(rules=3)
    peer.backlog = PROMPT_LIMIT + 1
    for number in range(4):
        assert not peer.session.is_lost
        assert peer.ask(write_flow_mod(parse_selection(f"priority={number},arp", strict=True))) == []
    assert peer.session.is_lost


def test_peers_share_what_they_are_told(rig: Rig) -> None:
    encodings, heard = Encodings(), list[bytes]()
    sessions = [Session(rig.bridge, Roles(), heard.append, encodings=encodings) for _ in range(4)]
    for session, hello in zip(sessions, (Hello(), Hello(), Hello((), 1), Hello((), 1)), strict=True):
        assert list(session.receive([encode(hello, 1)])) == []
    rig.bridge.packet_out((flow.Output(CONTROLLER),), FRAME, 1)
    newer, same, older, alike = heard
    assert newer is same
    assert older is alike
    assert (newer[0], older[0]) == (4, 1)
    for session in sessions:
        session.close()


def test_rules_that_go_are_told_of_before_the_barrier(rig: Rig) -> None:
    peer, other = Peer(rig), Peer(rig)
    rules = f"send_flow_rem,cookie=5,table=3,priority=9,{SIMPLE}", SIMPLE
    assert peer.ask(*map(add, rules)) == []
    assert peer.ask(delete(""), BarrierRequest()) == [BarrierReply()]
    (removed,) = peer.heard
    assert isinstance(removed, FlowRemoved)
    assert (removed.cookie, removed.priority, removed.reason, removed.table_id) == (5, 9, 2, 3)
    assert other.heard == peer.heard


def test_a_choice_of_messages(rig: Rig) -> None:
    roles = Roles()
    peer, slave = Peer(rig, roles), Peer(rig, roles)
    slave.ask(RoleRequest(Role.SLAVE, 1))
    assert peer.ask(GetAsyncRequest()) == [GetAsyncReply((7, 0), (7, 7), (31, 0))]
    assert peer.ask(packet_out(Output(CONTROLLER))) == []
    assert (len(peer.heard), len(slave.heard)) == (1, 0)
    assert peer.ask(SetAsync((0, 0), (0, 0), (0, 0))) == []
    assert slave.ask(SetAsync((0, 2), (0, 0), (0, 0)), GetAsyncRequest()) == [GetAsyncReply((0, 2), (0, 0), (0, 0))]
    assert peer.ask(packet_out(Output(CONTROLLER))) == []
    assert (len(peer.heard), len(slave.heard)) == (1, 1)


def test_ports_that_change(rig: Rig, peer: Peer) -> None:
    rig.inside(lambda: subprocess.run(["ip", "link", "set", "h2", "down"], check=True))
    wait_until(lambda: rig.inside(rig.bridge.refresh_ports) or bool(peer.heard))
    (status,) = peer.heard
    assert isinstance(status, PortStatus)
    assert (status.reason, status.desc.port_no, status.desc.state) == (PortReason.MODIFY, 2, PortState.LINK_DOWN)


def test_nothing_is_heard_of_a_session_that_is_closed(rig: Rig) -> None:
    peer, other = Peer(rig), Peer(rig)
    peer.session.close()
    peer.session.close()
    assert other.ask(packet_out(Output(CONTROLLER))) == []
    assert (len(peer.heard), len(other.heard)) == (0, 1)
