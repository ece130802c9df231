"""The far end of an OpenFlow session with the bridge of a rig."""

from __future__ import annotations

from collections.abc import Sequence

from ofext.errors import BUNDLE_BY_NAME, BY_NAME, EXTENSION_BY_NAME
from ofext.messages import Error, ExperimenterError, Hello, Message, decode, encode
from ofext.multipart import (
    FlowStats,
    FlowStatsReply,
    FlowStatsRequest,
    MultipartReply,
    MultipartRequest,
    ReplyBody,
    RequestBody,
    join,
)
from oko.flow.group import GroupCommand, GroupMod
from oko.flow.group_text import parse_group
from oko.flow.meter import MeterCommand, MeterMod
from oko.flow.meter_text import parse_meter
from oko.flow.rule import Command, FlowMod
from oko.flow.text import parse_rule, parse_selection
from oko.openflow.roles import Roles
from oko.openflow.session import Session
from oko.openflow.terms import TRUSTED, Terms
from oko.wire.change import write_flow_mod, write_group_mod, write_meter_mod
from tests.oko.conftest import Rig


def add(flow: str) -> Message:
    """The flow_mod that adds a rule."""
    return write_flow_mod(FlowMod(Command.ADD, parse_rule(flow)))


def delete(selection: str) -> Message:
    """The flow_mod that deletes rules."""
    return write_flow_mod(parse_selection(selection))


def add_group(group: str) -> Message:
    """The group_mod that adds a group."""
    return write_group_mod(GroupMod(GroupCommand.ADD, parse_group(group)))


def add_meter(meter: str) -> Message:
    """The meter_mod that adds a meter."""
    return write_meter_mod(MeterMod(MeterCommand.ADD, parse_meter(meter)))


def error_name(answer: Message) -> str:
    """What OpenFlow, the extension or the ONF's bundles call the error that an answer is."""
    if isinstance(answer, ExperimenterError):
        kinds = {**EXTENSION_BY_NAME, **BUNDLE_BY_NAME}
        return next(name for name, kind in kinds.items() if kind.exp_type == answer.exp_type)
    assert isinstance(answer, Error), answer
    return next(name for name, kind in BY_NAME.items() if (kind.type, kind.code) == (answer.type, answer.code))


class Peer:
    """A session with a rig's bridge. `heard` is what it said unasked, `fallen_behind` how many messages it has left for
    later."""

    def __init__(self, rig: Rig, roles: Roles | None = None, terms: Terms = TRUSTED) -> None:
        self._rig = rig
        self.heard: list[Message] = []
        self.backlog = 0
        self.fallen_behind = 0
        self.session = Session(
            rig.bridge, roles or Roles(), self._hear, lambda: self.backlog, self._fall_behind, terms=terms
        )
        assert self.ask(Hello()) == []

    def _hear(self, data: bytes) -> None:
        message, xid = decode(data)
        assert xid == 0
        self.heard.append(message)

    def _fall_behind(self) -> None:
        self.fallen_behind += 1

    def raw(self, requests: Sequence[bytes]) -> list[bytes]:
        """What the session answers to messages that arrive together."""
        return self._rig.inside(lambda: list(self.session.receive(requests)))

    def ask(self, *messages: Message) -> list[Message]:
        """The same, with transaction ids from 1 on."""
        answers = self.raw([encode(message, xid) for xid, message in enumerate(messages, 1)])
        return [decode(answer)[0] for answer in answers]

    def refusals(self, *messages: Message) -> list[str]:
        """The names of the errors that the messages are answered with, and nothing else."""
        return [error_name(answer) for answer in self.ask(*messages)]

    def report(self, body: RequestBody) -> ReplyBody:
        """The answer to a multipart request, its parts joined."""
        parts = [answer for answer in self.ask(MultipartRequest(body)) if isinstance(answer, MultipartReply)]
        return join(parts)

    def flows(self) -> tuple[FlowStats, ...]:
        """All rules."""
        body = self.report(FlowStatsRequest())
        assert isinstance(body, FlowStatsReply)
        return body.entries
