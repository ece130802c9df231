"""`Writer`: a connection of the one controller that decides what a bridge does. It hears what it did not ask for."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence

from ofext.answers import remote_error
from ofext.bundles import BundleAdd, BundleCommand, BundleControl, BundleFlag
from ofext.messages import Error, ExperimenterError, FlowRemoved, Message, PacketIn, SetAsync, encode
from oko.cli.client import Client
from oko.errors import OkoError, RemoteError
from oko.flow.packet_in import PacketInReason
from oko.openflow.asynchronous import DEFAULT
from oko.wire.match import read_match
from perf.judge import Told

_BUNDLE = 1
_FLAGS = BundleFlag.ATOMIC | BundleFlag.ORDERED


class Writer(Client):
    """`told` are the packet-ins that came and were not taken yet, `removed` the packets that rules had won which are
    gone."""

    def __init__(self, connection: socket.socket, target: str) -> None:
        self.told: list[Told] = []
        self.removed = 0
        super().__init__(connection, target)

    def deafen(self) -> None:
        """Hear of no packet-ins from now on."""
        self.send_all([SetAsync((0, 0), DEFAULT.port_status_mask, DEFAULT.flow_removed_mask)])

    def barrier(self) -> None:
        """Wait until everything is done, and hear what came before that."""
        self.send_all([])

    def post(self, messages: Sequence[Message], *, together: bool) -> None:
        """Send, and wait for nothing."""
        if together:
            self._send_bundle(messages)
        else:
            self._transmit(b"".join(encode(message, next(self._xids)) for message in messages))

    def send_together(self, messages: Sequence[Message]) -> RemoteError | None:
        """Let messages take effect at one instant; what they were refused for, if they were. Raises OkoError when they
        took effect in part."""
        xids = self._send_bundle(messages)
        refusal: RemoteError | None = None
        for message, xid in self._messages():
            if isinstance(message, Error | ExperimenterError) and xid in xids:
                refusal = refusal or remote_error(message)
            if xid == xids[-1]:
                if refusal is not None and isinstance(message, BundleControl):
                    raise OkoError(f"a bundle was committed without a message that was refused: {refusal}")
                break
        return refusal

    def _send_bundle(self, messages: Sequence[Message]) -> list[int]:
        """The transaction ids: that of the commit is the last."""
        xids = [next(self._xids) for _ in range(len(messages) + 1)]
        adds = [
            encode(BundleAdd(_BUNDLE, _FLAGS, encode(message, xid)), xid)
            for message, xid in zip(messages, xids, strict=False)
        ]
        control = BundleControl(_BUNDLE, BundleCommand.COMMIT_REQUEST, _FLAGS)
        self._transmit(b"".join((*adds, encode(control, xids[-1]))))
        return xids

    def _messages(self, patience: int | None = 60) -> Iterator[tuple[Message, int]]:
        for message, xid in super()._messages(patience):
            match message:
                case PacketIn():
                    self.told.append(_told(message))
                case FlowRemoved():
                    self.removed += message.packet_count
            yield message, xid


def _told(message: PacketIn) -> Told:
    values = {condition.field.name: condition.value for condition in read_match(message.match).conditions}
    return Told(PacketInReason(message.reason), message.table_id, values.get("metadata", 0), message.data)
