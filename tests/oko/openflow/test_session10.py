from __future__ import annotations

import subprocess
from collections.abc import Sequence

import pytest

from ofext.constants import NO_BUFFER, PacketInReason, PortReason
from ofext.messages import (
    BarrierReply,
    BarrierRequest,
    EchoReply,
    EchoRequest,
    Error,
    Experimenter,
    FeaturesRequest,
    GetConfigReply,
    GetConfigRequest,
    Hello,
    SetConfig,
    Unknown,
)
from ofext.messages import encode as encode13
from ofext.multipart import Aggregate, DescRequest, ExperimenterBody, PortDescRequest, TableStatsRequest, UnknownBody
from ofext.v10.actions import Output, ResubmitTable
from ofext.v10.constants import PORT_NONE, WILDCARDS_ALL, Wildcard
from ofext.v10.errors import ERRORS, ErrorKind
from ofext.v10.match import Match
from ofext.v10.messages import (
    FeaturesReply,
    FlowMod,
    FlowModTableId,
    FlowRemoved,
    Message,
    NxmFlowMod,
    NxmFlowRemoved,
    PacketIn,
    PacketOut,
    PortMod,
    PortStatus,
    QueueGetConfigReply,
    QueueGetConfigRequest,
    SetFlowFormat,
    VendorError,
    decode,
    encode,
)
from ofext.v10.stats import (
    AggregateRequest,
    FlowStatsReply,
    FlowStatsRequest,
    NxmAggregate,
    NxmAggregateRequest,
    NxmFlowStats,
    NxmFlowStatsReply,
    NxmFlowStatsRequest,
    PortDescReply,
    PortStatsReply,
    PortStatsRequest,
    QueueStatsReply,
    QueueStatsRequest,
    ReplyBody,
    RequestBody,
    StatsReply,
    StatsRequest,
    TableStatsReply,
)
from oko.errors import OkoError
from oko.flow.change import Change as AnyChange
from oko.flow.rule import Command
from oko.flow.rule import FlowMod as Change
from oko.flow.text import parse_rule
from oko.openflow.roles import Roles
from oko.openflow.session import Session
from oko.switch.limits import Limits
from oko.wire.v10.match import write_nxm
from tests.oko.conftest import Rig
from tests.oko.flow.written import match
from tests.oko.kernel.waiting import wait_until

pytestmark = pytest.mark.needs_bpf

PORT_1 = Match(WILDCARDS_ALL & ~Wildcard.IN_PORT, 1)
FRAME = bytes.fromhex("02000000000202000000000188b5").ljust(60, b"\0")


class Peer10:
    """A session with a rig's bridge whose peer speaks OpenFlow 1.0. `heard` is what it said unasked."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.heard: list[Message] = []
        self.session = Session(rig.bridge, Roles(), lambda data: self.heard.append(decode(data)[0]))
        assert self.ask(Hello((), 1)) == []

    def raw(self, requests: Sequence[bytes]) -> list[bytes]:
        return self.rig.inside(lambda: list(self.session.receive(requests)))

    def ask(self, *messages: Message) -> list[Message]:
        """The answers to messages that arrive together."""
        answers = self.raw([encode(message, xid) for xid, message in enumerate(messages, 1)])
        return [decode(answer)[0] for answer in answers]

    def refusal(self, message: Message) -> ErrorKind:
        """The one error that a message is answered with, which carries the message."""
        (answer,) = self.ask(message)
        assert isinstance(answer, Error | VendorError)
        assert answer.data == encode(message, 1)
        return ErrorKind(answer.type, answer.code, isinstance(answer, VendorError))

    def report(self, body: RequestBody) -> ReplyBody:
        (answer,) = self.ask(StatsRequest(body))
        assert isinstance(answer, StatsReply)
        return answer.body

    def flows(self) -> list[tuple[int, int, int]]:
        """Table, priority and cookie of the rules that it is told of."""
        body = self.report(NxmFlowStatsRequest())
        assert isinstance(body, NxmFlowStatsReply)
        return [(flow.table_id, flow.priority, flow.cookie) for flow in body.entries]


@pytest.fixture
def peer(rig: Rig) -> Peer10:
    return Peer10(rig)


def add(peer: Peer10, *flows: str) -> None:
    """Rules that the peer did not add."""
    mods = [Change(Command.ADD, parse_rule(flow)) for flow in flows]
    assert peer.rig.inside(lambda: peer.rig.bridge.change(mods)) == [None] * len(mods)


def test_small_questions(peer: Peer10) -> None:
    mac = peer.rig.bridge.ports[0].mac
    answers = peer.ask(
        Hello((), 1),
        EchoRequest(b"x"),
        EchoReply(),
        Error(1, 1),
        BarrierRequest(),
        SetConfig(0, 64),
        GetConfigRequest(),
        PortMod(1, mac),
        QueueGetConfigRequest(1),
        PacketOut(NO_BUFFER, PORT_NONE, (), FRAME),
    )
    assert answers == [EchoReply(b"x"), BarrierReply(), GetConfigReply(0, 64), QueueGetConfigReply(1)]
    assert decode(peer.session.probe())[0] == EchoRequest()
    (features,) = peer.ask(FeaturesRequest())
    assert isinstance(features, FeaturesReply)
    assert (features.datapath_id, features.n_tables) == (int.from_bytes(mac, "big"), 254)
    assert [port.port_no for port in features.ports] == [port.number for port in peer.rig.bridge.ports]


def test_versions(rig: Rig) -> None:
    def greeted(hello: Hello) -> tuple[int, bool]:
        session = Session(rig.bridge, Roles(), lambda _: None)
        list(session.receive([encode13(hello)]))
        return session.probe()[0], session.failed

    assert greeted(Hello((), 1)) == (1, False)
    assert greeted(Hello((), 3)) == (1, False)
    assert greeted(Hello((), 4)) == (4, False)
    assert greeted(Hello((), 6)) == (4, False)
    assert greeted(Hello((), 0))[1]


def test_adds_modifies_deletes(peer: Peer10) -> None:
    assert peer.ask(FlowMod(PORT_1, 5, 0, priority=7, actions=(Output(2),))) == []
    assert peer.flows() == [(0, 7, 5)]
    assert peer.ask(FlowModTableId(1), FlowMod(PORT_1, 6, 0x0300, priority=8)) == []
    assert peer.flows() == [(0, 7, 5), (3, 8, 6)]
    assert peer.ask(FlowModTableId(0), FlowMod(PORT_1, 9, 1, actions=(Output(1),))) == []
    assert peer.flows() == [(0, 7, 9), (3, 8, 9)]
    keep = (1 << 64) - 1
    assert peer.ask(NxmFlowMod(keep, 1, match=write_nxm(match("in_port=1")))) == []
    assert peer.ask(NxmFlowMod(keep, 1, match=write_nxm(match("in_port=2")))) == []
    assert peer.flows() == [(0, 7, 9), (3, 8, 9)]
    assert peer.ask(FlowMod(Match(), 0, 3)) == []
    assert peer.flows() == []


def test_a_limit_of_rules(peer: Peer10) -> None:
    peer.rig.bridge.limits = Limits(rules=1)
    assert peer.ask(NxmFlowMod(5, 1, match=write_nxm(match("in_port=1")))) == [], "a modify that adds"
    one_more = NxmFlowMod(5, 1, match=write_nxm(match("in_port=2")))
    assert peer.refusal(one_more) == ERRORS["flow-mod-failed/table-full"]
    assert peer.ask(NxmFlowMod(6, 1, match=write_nxm(match("in_port=1")))) == []
    assert [cookie for _, _, cookie in peer.flows()] == [6]
    body = peer.report(TableStatsRequest())
    assert isinstance(body, TableStatsReply)
    assert {table.max_entries for table in body.entries} == {1}


def test_what_is_told_of_flows(peer: Peer10) -> None:
    add(peer, "priority=7,in_port=1,idle_timeout=60,actions=output:2", "table=2,metadata=5,actions=drop")
    body = peer.report(NxmFlowStatsRequest(table_id=0))
    assert isinstance(body, NxmFlowStatsReply)
    (flow,) = body.entries
    assert isinstance(flow, NxmFlowStats)
    assert (flow.match, flow.actions) == (write_nxm(match("in_port=1")), (Output(2),))
    assert (flow.priority, flow.idle_timeout, flow.idle_age) == (7, 60, 0)
    assert peer.report(NxmAggregateRequest()) == NxmAggregate(0, 0, 2)
    assert peer.report(NxmAggregateRequest(2)) == NxmAggregate(0, 0, 1)
    # Without Nicira's match there is no metadata.
    fixed = peer.report(FlowStatsRequest(Match()))
    assert isinstance(fixed, FlowStatsReply)
    assert [(flow.match, flow.actions) for flow in fixed.entries] == [(PORT_1, (Output(2),))]
    assert peer.report(AggregateRequest(Match())) == Aggregate(0, 0, 1)


def test_what_has_no_words_is_left_out(peer: Peer10) -> None:
    add(
        peer,
        "priority=1,actions=write_actions(output:1)",
        "priority=2,actions=output:1",
        "priority=3,actions=clear_actions",
    )
    assert peer.flows() == [(0, 2, 0)]
    assert peer.report(NxmAggregateRequest()) == NxmAggregate(0, 0, 1)
    body = peer.report(TableStatsRequest())
    assert isinstance(body, TableStatsReply)
    assert body.entries[0].active_count == 3
    assert peer.ask(FlowMod(Match(), 0, 3)) == []
    assert len(peer.rig.bridge.tables) == 0


def test_ports(peer: Peer10) -> None:
    body = peer.report(PortStatsRequest())
    assert isinstance(body, PortStatsReply)
    assert [port.port_no for port in body.entries] == [port.number for port in peer.rig.bridge.ports]
    assert peer.report(QueueStatsRequest()) == QueueStatsReply()
    assert peer.report(QueueStatsRequest(1)) == QueueStatsReply()


REFUSED: dict[str, tuple[Message, str]] = {
    "command": (FlowMod(PORT_1, 0, 9), "flow-mod-failed/bad-command"),
    "flags": (FlowMod(PORT_1, 0, 0, flags=8), "flow-mod-failed/bad-flags"),
    "emergency": (FlowMod(PORT_1, 0, 0, flags=4), "limit-exceeded"),
    "emergency with a timeout": (FlowMod(PORT_1, 0, 0, 1, flags=4), "flow-mod-failed/bad-timeout"),
    "buffer": (FlowMod(PORT_1, 0, 0, buffer_id=5), "bad-request/buffer-unknown"),
    "port": (FlowMod(PORT_1, 0, 0, actions=(Output(77),)), "bad-action/bad-out-port"),
    "own table": (FlowMod(PORT_1, 0, 0, actions=(ResubmitTable(0xFFF8, 0),)), "bad-instruction/bad-table-id"),
    "packet-out port": (PacketOut(NO_BUFFER, 77, (Output(2),), FRAME), "bad-request/bad-port"),
    "packet-out of a runt": (PacketOut(NO_BUFFER, 1, (), b"x"), "bad-request/bad-len"),
    "packet-out of a buffer": (PacketOut(5, 1), "bad-request/buffer-unknown"),
    "port_mod": (PortMod(77, bytes(6)), "port-mod-failed/bad-port"),
    "flow format": (SetFlowFormat(1), "port-mod-failed/eperm"),
    "fragments": (SetConfig(1), "port-mod-failed/eperm"),
    "vendor": (Experimenter(5, 6), "bad-request/bad-experimenter"),
    "unknown": (Unknown(99), "bad-request/bad-type"),
    "a switch's message": (BarrierReply(), "bad-request/bad-type"),
    "statistics": (StatsRequest(UnknownBody(99)), "bad-request/bad-multipart"),
    "parts": (StatsRequest(DescRequest(), 1), "bad-request/bad-multipart"),
    "vendor's": (StatsRequest(ExperimenterBody(5, 6, bytes(4))), "bad-request/bad-experimenter"),
    "table": (StatsRequest(FlowStatsRequest(Match(), 254)), "bad-request/bad-table-id"),
    "port statistics": (StatsRequest(PortStatsRequest(77)), "bad-request/bad-port"),
    "queue": (StatsRequest(QueueStatsRequest(1, 5)), "queue-op-failed/bad-queue"),
    "queues": (QueueGetConfigRequest(77), "queue-op-failed/bad-port"),
}
"""Messages, and the errors of OpenFlow 1.3 whose words they are answered with."""


def test_what_is_refused(peer: Peer10) -> None:
    answers = {case: peer.refusal(message) for case, (message, _) in REFUSED.items()}
    assert answers == {case: ERRORS[name] for case, (_, name) in REFUSED.items()}
    assert peer.flows() == []


def test_messages_that_cannot_be_read(peer: Peer10) -> None:
    (answer,) = peer.raw([bytes.fromhex("010e0008 00000007")])
    assert decode(answer) == (Error(1, 6, bytes.fromhex("010e0008 00000007")), 7)
    (answer,) = peer.raw([encode13(BarrierRequest(), 8)])
    assert decode(answer) == (Error(1, 0, encode13(BarrierRequest(), 8)), 8)


def test_packets_and_flows_that_go(peer: Peer10) -> None:
    peer.ask(PacketOut(NO_BUFFER, 1, (Output(0xFFFD, 99),), FRAME))
    assert peer.heard == [PacketIn(NO_BUFFER, len(FRAME), 1, PacketInReason.ACTION, FRAME)]
    peer.heard.clear()
    for mod in (
        FlowMod(PORT_1, 5, 0, flags=1, actions=(Output(2),)),
        SetFlowFormat(0),
        FlowMod(PORT_1, 0, 3),
        SetFlowFormat(2),
        FlowMod(PORT_1, 6, 0, flags=1),
        FlowMod(PORT_1, 0, 3),
    ):
        assert peer.ask(mod) == []
    fixed, nxm = peer.heard
    assert isinstance(fixed, FlowRemoved)
    assert (fixed.match, fixed.cookie, fixed.reason) == (PORT_1, 5, 2)
    assert isinstance(nxm, NxmFlowRemoved)
    assert (nxm.match, nxm.cookie, nxm.table) == (write_nxm(match("in_port=1")), 6, 1)
    peer.heard.clear()
    add(peer, "send_flow_rem,actions=write_actions(output:1)")
    peer.ask(FlowMod(Match(), 0, 3))
    assert peer.heard == []


def test_ports_that_change(peer: Peer10) -> None:
    peer.rig.inside(lambda: subprocess.run(["ip", "link", "set", "h2", "down"], check=True))

    def noticed() -> bool:
        peer.rig.inside(peer.rig.bridge.refresh_ports)
        return bool(peer.heard)

    wait_until(noticed)
    (status,) = peer.heard
    assert isinstance(status, PortStatus)
    assert (status.reason, status.desc.port_no, status.desc.state) == (PortReason.MODIFY, 2, 1)
    body = peer.report(PortDescRequest())
    assert isinstance(body, PortDescReply)
    assert [port.state for port in body.entries] == [0, 1]


def test_what_arrives_together_is_compiled_together(peer: Peer10, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = []
    change = peer.rig.bridge.change

    def counted(mods: Sequence[AnyChange]) -> list[OkoError | None]:
        rounds.append(len(mods))
        return change(mods)

    monkeypatch.setattr(peer.rig.bridge, "change", counted)
    mods = [FlowMod(PORT_1, 0, Command.ADD.value, priority=number, actions=(Output(2),)) for number in range(4)]
    bad = FlowMod(PORT_1, 0, 77)
    answers = peer.ask(mods[0], bad, mods[1], BarrierRequest(), mods[2], NxmFlowMod(0, Command.ADD.value), mods[3])
    assert [type(answer) for answer in answers] == [Error, BarrierReply]
    assert rounds == [2, 3]
