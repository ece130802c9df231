"""`Entrance`: how packets of controllers come in by the ports that carry the XDP program."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Sequence
from dataclasses import dataclass

from oko.errors import OkoError
from oko.flow.action import Action
from oko.switch.bridge import Bridge


@dataclass(frozen=True, slots=True)
class EnteringPacket:
    """A frame of a packet-out, whose `actions` change it and send it to TABLE, as if it had come in by `in_port`."""

    actions: tuple[Action, ...]
    frame: bytes
    in_port: int


class Entrance:
    """Of a bridge. `ports` gives the numbers of those that carry the XDP program; `settle` returns when Open vSwitch
    goes by the rules that it has answered for."""

    def __init__(
        self, bridge: Bridge, ports: Callable[[], Container[int]], settle: Callable[[], Awaitable[None]]
    ) -> None:
        self._bridge = bridge
        self._ports = ports
        self._settle = settle

    def has(self, port: int) -> bool:
        """Whether packets that come in by a port are decided here first."""
        return port in self._ports()

    async def enter(self, packets: Sequence[EnteringPacket]) -> list[OkoError | None]:
        """Let the packets be decided by the rules as they are now; what was wrong with each. Raises AttachError."""
        # What the image passes is received by Open vSwitch as any packet, which does not wait for its newest rules.
        await self._settle()
        return [self._enter(packet) for packet in packets]

    def _enter(self, packet: EnteringPacket) -> OkoError | None:
        try:
            self._bridge.packet_out(packet.actions, packet.frame, packet.in_port)
        except OkoError as error:
            return error
        return None
