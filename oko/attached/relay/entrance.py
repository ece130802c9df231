"""`Entrance`: how packets of controllers come in by the ports that carry the XDP program."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Sequence
from dataclasses import dataclass

from oko.errors import BadAction, OkoError
from oko.flow.action import Action, Output
from oko.flow.headers import MAX_TAGS, TPIDS, parse
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
            self._require_readable(packet)
            self._bridge.packet_out(packet.actions, packet.frame, packet.in_port)
        except OkoError as error:
            return error
        return None

    def _require_readable(self, packet: EnteringPacket) -> None:
        """Raises BadAction if a frame is to be changed whose headers Open vSwitch does not read as Oko does."""
        attachment = self._bridge.attachment
        limit = MAX_TAGS if attachment is None else attachment.vlan_limit
        headers = parse(packet.frame, packet.in_port, vlan_limit=limit) or {}
        changed = any(not isinstance(action, Output) for action in packet.actions)
        if changed and headers.get("eth_type") in TPIDS:
            raise BadAction(
                f"a frame has more VLAN tags than the bridge's vlan-limit, {limit}: send it to TABLE unchanged",
                reason="match-inconsistent",
            )
