"""A relay to the laboratory's bridge, with filter rules that are kept in a list and decide no packets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ofext.extension import Command, DropListReply, ListReply, ListRequest, ProgramLoad, ProgramLoaded
from ofext.messages import FlowMod, FlowRemoved
from ofext.multipart import Aggregate, AggregateRequest, FlowStats, FlowStatsRequest
from ofext.oxm import Oxm
from oko.attached.management import Management
from oko.attached.plain_mod import PlainMod
from oko.attached.relay.entrance import EnteringPacket
from oko.attached.relay.plane import FilterMod, Plane
from oko.attached.relay.relays import Relays
from oko.attached.shim import OWN_COOKIE
from oko.errors import BadFlowMod, BundleFailed, OkoError, PortError
from oko.flow.rule import Command as FlowCommand
from oko.openflow.terms import TRUSTED, Terms
from tests.oko.attached.conftest import BRIDGE, Laboratory

FILTER = Oxm(0xFFFF, 1, (7).to_bytes(4, "big"), None, 0xFF4F4B4F)
REFUSED_COOKIE = 0xBAD
"""A filter rule with it is refused."""
PACKETS = 5
"""What every filter rule has counted, of 60 bytes each."""


@dataclass
class ListedRules:
    """Filter rules by match and priority, changed without any delay."""

    rules: dict[tuple[int, tuple[Oxm, ...]], FlowMod] = field(default_factory=dict)
    others: list[FilterMod] = field(default_factory=list)
    hear: list[Callable[[FlowRemoved], None]] = field(default_factory=list)

    async def change(self, messages: Sequence[FilterMod]) -> list[OkoError | None]:
        return [self._change(message) for message in messages]

    async def change_together(self, messages: Sequence[FilterMod]) -> None:
        before = dict(self.rules)
        for index, message in enumerate(messages):
            error = self._change(message)
            if error is not None:
                self.rules = before
                raise BundleFailed(index, error)

    def _change(self, message: FilterMod) -> OkoError | None:
        if not isinstance(message, FlowMod):
            self.others.append(message)
        elif message.cookie == REFUSED_COOKIE:
            return BadFlowMod("this cookie is refused", reason="table-full")
        elif message.command == FlowCommand.ADD.value:
            self.rules[message.priority, message.match] = message
        elif message.command == FlowCommand.DELETE.value:
            for key, rule in list(self.rules.items()):
                if set(message.match) <= set(rule.match):
                    del self.rules[key]
        return None

    def flows(self, request: FlowStatsRequest) -> Iterator[FlowStats]:
        for rule in self.rules.values():
            if set(request.match) <= set(rule.match):
                yield FlowStats(
                    0, 1, 0, rule.priority, 0, 0, 0, rule.cookie, PACKETS, 60 * PACKETS, rule.match, rule.instructions
                )

    def totals(self) -> Aggregate:
        return Aggregate(PACKETS * len(self.rules), 60 * PACKETS * len(self.rules), len(self.rules))

    def cookie_of(self, own: int) -> int:
        return own & ~OWN_COOKIE | 0x77000000

    def listen(self, hear: Callable[[FlowRemoved], None]) -> Callable[[], None]:
        self.hear.append(hear)
        return lambda: self.hear.remove(hear)


@dataclass
class NotedOrder:
    """Writes down what it is asked to put in order, and leaves shares to the filter rules."""

    rules: ListedRules
    noted: list[list[PlainMod]] = field(default_factory=list)
    busy: bool = False

    @property
    def idle(self) -> bool:
        return not self.busy and not self.rules.rules

    def require(self, mod: PlainMod) -> None:
        if mod.rule.idle_timeout:
            raise BadFlowMod("an idle timeout above filter rules", reason="eperm")

    async def plain(self, mods: Sequence[PlainMod], forward: Callable[[], Awaitable[None]]) -> None:
        self.noted.append(list(mods))
        await forward()
        shares = [mod.share for mod in mods if mod.share is not None]
        await self.rules.change(shares)


@dataclass
class NotedEntrance:
    """Writes down what enters by port 1, the only one with XDP, and refuses frames that begin with a zero."""

    noted: list[EnteringPacket] = field(default_factory=list)

    def has(self, port: int) -> bool:
        return port == 1

    async def enter(self, packets: Sequence[EnteringPacket]) -> list[OkoError | None]:
        taken = [packet for packet in packets if packet.frame[0]]
        self.noted += taken
        return [None if packet in taken else PortError("this frame is refused") for packet in packets]


@dataclass
class EchoingExtension:
    """Answers every load."""

    def command(self, message: Command) -> Iterator[Command]:
        if isinstance(message, ProgramLoad):
            yield ProgramLoaded(message.program, message.flags, 1, 0, message.name)

    def report(self, body: ListRequest) -> ListReply:
        return DropListReply()

    def close(self) -> None:
        pass


class Relayed:
    """The relay: peers connect at `path`."""

    def __init__(
        self, path: Path, rules: ListedRules, order: NotedOrder, entrance: NotedEntrance, relays: Relays
    ) -> None:
        self.path = path
        self.rules = rules
        self.order = order
        self.entrance = entrance
        self.relays = relays


@asynccontextmanager
async def relaying(
    ovs: Laboratory, *, terms: Terms = TRUSTED, limit: int = 16, bridge: str = BRIDGE
) -> AsyncIterator[Relayed]:
    upstream = ovs.vswitch.management(bridge)
    rules = ListedRules()
    order = NotedOrder(rules)

    async def own_totals() -> Aggregate:
        management = await Management.connect(upstream, lambda _: None, lambda _: None)
        try:
            totals = await management.report(AggregateRequest(0, cookie=OWN_COOKIE, cookie_mask=OWN_COOKIE))
        finally:
            management.close()
        assert isinstance(totals, Aggregate)
        return totals

    entrance = NotedEntrance()
    plane = Plane(rules, order, entrance, lambda send, backlog: EchoingExtension(), own_totals)
    path = ovs.vswitch.directory / "relay"
    loop = asyncio.get_running_loop()
    async with Relays(plane, limit) as relays:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            server = await relays.listen(
                listener, terms, lambda protocol: loop.create_unix_connection(protocol, str(upstream))
            )
            try:
                yield Relayed(path, rules, order, entrance, relays)
            finally:
                server.close()
                path.unlink()
