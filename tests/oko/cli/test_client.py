from __future__ import annotations

import pytest

from ofext.extension import ProgramUnload
from ofext.messages import EchoReply, EchoRequest, FeaturesReply, FeaturesRequest
from ofext.multipart import FlowStatsReply, FlowStatsRequest
from oko.cli.client import Client
from oko.errors import RemoteError
from oko.flow.rule import Command, FlowMod
from oko.flow.text import parse_rule
from oko.wire.change import write_flow_mod
from tests.stage import BRIDGE, Stage

pytestmark = pytest.mark.needs_bpf


def add(flow: str) -> object:
    return write_flow_mod(FlowMod(Command.ADD, parse_rule(flow)))


def test_requests(switch: Stage) -> None:
    with Client.connect(BRIDGE, switch.rundir) as client:
        assert client.request(EchoRequest(b"x")) == EchoReply(b"x")
        assert isinstance(client.request(FeaturesRequest()), FeaturesReply)
        with pytest.raises(RemoteError, match="program 9 is not loaded"):
            client.command(ProgramUnload(9))
        # A refusal is no end.
        assert client.request(EchoRequest(b"y")) == EchoReply(b"y")


def test_refusals_meet_their_messages(switch: Stage) -> None:
    flows = ["arp,actions=drop", "arp,actions=output:9", "ip,actions=drop", "filter_prog=9,actions=drop"]
    messages = [write_flow_mod(FlowMod(Command.ADD, parse_rule(flow))) for flow in flows]
    with Client.connect(BRIDGE, switch.rundir) as client:
        refusals = client.send_all(messages)
        assert client.send_all([]) == []
    assert [refusal is None for refusal in refusals] == [True, False, True, False]
    assert str(refusals[1]).endswith("bad-action/bad-out-port: output:9: the bridge has no port 9")
    assert "program 9" in str(refusals[3])


def test_reports_in_parts_are_joined(switch: Stage) -> None:
    flows = [f"dl_dst=02:00:00:00:{number >> 8:02x}:{number & 255:02x},actions=drop" for number in range(2000)]
    messages = [write_flow_mod(FlowMod(Command.ADD, parse_rule(flow))) for flow in flows]
    with Client.connect(f"unix:{switch.rundir.socket(BRIDGE)}", switch.rundir) as client:
        assert set(client.send_all(messages)) == {None}
        answer = client.report(FlowStatsRequest())
    assert isinstance(answer, FlowStatsReply)
    assert len(answer.entries) == 2000
