"""A controller from outside: one OpenFlow connection, with messages as `ofext` codes them."""

from __future__ import annotations

import itertools
import socket
import time
from pathlib import Path
from typing import TypeVar

from ofext.constants import NO_BUFFER
from ofext.framing import Splitter
from ofext.messages import BarrierReply, BarrierRequest, Error, Hello, Message, PacketOut, decode, encode
from ofext.multipart import MultipartReply, MultipartRequest, ReplyBody, RequestBody
from oko.flow.group import GroupCommand, GroupMod, GroupSpec, GroupType
from oko.flow.group_text import parse_group
from oko.flow.meter import MeterCommand, MeterMod
from oko.flow.meter_text import parse_meter
from oko.flow.text import parse_actions, parse_flow_mod, parse_selection
from oko.wire.action import write_actions
from oko.wire.change import write_flow_mod, write_group_mod, write_meter_mod

_PATIENCE = 10.0  # seconds

Kind = TypeVar("Kind", bound=Message)


class Controller:
    """Connected, with hellos exchanged. What is asked of the switch must be granted."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._splitter = Splitter()
        self._xids = itertools.count(1)
        self._unasked: list[Message] = []
        self._socket.sendall(encode(Hello(), next(self._xids)))
        self.hear(Hello)

    def close(self) -> None:
        self._socket.close()

    def add(self, *flows: str) -> None:
        self.tell(*(write_flow_mod(parse_flow_mod(flow)) for flow in flows))

    def delete(self, selection: str) -> None:
        self.tell(write_flow_mod(parse_selection(selection)))

    def add_group(self, group: str) -> None:
        self.tell(write_group_mod(GroupMod(GroupCommand.ADD, parse_group(group))))

    def delete_group(self, number: int) -> None:
        self.tell(write_group_mod(GroupMod(GroupCommand.DELETE, GroupSpec(number, GroupType.ALL))))

    def add_meter(self, meter: str) -> None:
        self.tell(write_meter_mod(MeterMod(MeterCommand.ADD, parse_meter(meter))))

    def packet_out(self, actions: str, frame: bytes, in_port: int) -> None:
        self.tell(PacketOut(NO_BUFFER, in_port, write_actions(parse_actions(actions)), frame))

    def tell(self, *messages: Message) -> None:
        """Send messages whose success is silent, and wait until they are done."""
        barrier = next(self._xids)
        self._socket.sendall(b"".join(encode(message, next(self._xids)) for message in messages))
        self._socket.sendall(encode(BarrierRequest(), barrier))
        self.hear(BarrierReply)

    def report(self, body: RequestBody) -> ReplyBody:
        """The answer to a multipart request, which must have one part."""
        self._socket.sendall(encode(MultipartRequest(body), next(self._xids)))
        answer = self.hear(MultipartReply)
        assert not answer.flags
        return answer.body

    def hear(self, kind: type[Kind], *, seconds: float = _PATIENCE) -> Kind:
        """The first message of this kind that has not been heard yet, among those that came or are to come."""
        deadline = time.monotonic() + seconds
        while True:
            for index, message in enumerate(self._unasked):
                assert not isinstance(message, Error), message.data
                if isinstance(message, kind):
                    del self._unasked[index]
                    return message
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            data = self._socket.recv(1 << 18)
            assert data, "the switch ended the connection"
            self._unasked += (decode(message)[0] for message in self._splitter.feed(data))

    def heard(self, kind: type[Kind]) -> list[Kind]:
        """Those of this kind that came until now; the switch has done what was asked before."""
        self.tell()
        return [message for message in self._unasked if isinstance(message, kind)]
