"""What the relays of one bridge share: the filter rules, the order of changes at the two places, the extension."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ofext.constants import Role
from ofext.extension import Command, ListReply, ListRequest, Observe, Unobserve
from ofext.messages import FlowMod, FlowRemoved
from ofext.multipart import Aggregate, FlowStats, FlowStatsRequest
from oko.attached.plain_mod import PlainMod
from oko.attached.relay.entrance import EnteringPacket
from oko.errors import OkoError

FilterMod = FlowMod | Observe | Unobserve
"""A change of filter rules, or of observers."""


class FilterRules(Protocol):
    """The rules with `filter_prog`, as controllers gave them."""

    async def change(self, messages: Sequence[FilterMod]) -> list[OkoError | None]:
        """Carry the changes out, in order; what was wrong with each. They are in effect when it returns."""

    async def change_together(self, messages: Sequence[FilterMod]) -> None:
        """Carry the changes out at one instant, or raise BundleFailed and carry out none."""

    def flows(self, request: FlowStatsRequest) -> Iterable[FlowStats]:
        """The rules that a request means."""

    def totals(self) -> Aggregate:
        """What they have counted together."""

    def cookie_of(self, own: int) -> int:
        """The cookie of the rule that is continued by an own rule with the cookie `own`."""

    def listen(self, hear: Callable[[FlowRemoved], None]) -> Callable[[], None]:
        """Let `hear` be called for every rule that is gone and asked to be told of, until the function that is
        returned is called."""


class Order(Protocol):
    """What has to be done in XDP before and after a change in Open vSwitch."""

    @property
    def idle(self) -> bool:
        """Whether there is nothing to be done: there are no filter rules."""

    def require(self, mod: PlainMod) -> None:
        """Raises OkoError for a change that cannot be made as long as there are filter rules."""

    async def plain(self, mods: Sequence[PlainMod], forward: Callable[[], Awaitable[None]]) -> None:
        """Carry out changes of plain rules at both places, and the shares that filter rules have in them. `forward`
        lets Open vSwitch make them, and returns when it has. Raises OkoError if they are not made, and `forward` has
        not been called then."""


class Entrance(Protocol):
    """How packets of controllers come in by the ports that carry the XDP program: `oko.attached.relay.entrance`."""

    def has(self, port: int) -> bool: ...

    async def enter(self, packets: Sequence[EnteringPacket]) -> list[OkoError | None]: ...


class Extension(Protocol):
    """What answers the extension's messages of one connection: `oko.openflow.extension.ExtensionServer`."""

    def command(self, message: Command) -> Iterator[Command]: ...

    def report(self, body: ListRequest) -> ListReply: ...

    def close(self) -> None: ...


@dataclass(slots=True)
class Plane:
    """`extend` makes the Extension of a connection from its `send` and its `backlog`, in bytes. `own_totals` asks for
    what Oko's own rules have counted. `changed` is called when a message of the extension may have changed something.
    `roles` are those of connections that are not equal."""

    rules: FilterRules
    order: Order
    entrance: Entrance
    extend: Callable[[Callable[[bytes], None], Callable[[], int]], Extension]
    own_totals: Callable[[], Awaitable[Aggregate]]
    changed: Callable[[], None] = lambda: None
    roles: dict[object, Role] = field(default_factory=dict)

    def take_role(self, connection: object, role: Role) -> None:
        """Open vSwitch has given a connection this role. A new master makes the old one a slave."""
        if role is Role.MASTER:
            for other, held in self.roles.items():
                if held is Role.MASTER:
                    self.roles[other] = Role.SLAVE
        self.roles[connection] = role

    def role_of(self, connection: object) -> Role:
        """Equal, master or slave."""
        return self.roles.get(connection, Role.EQUAL)
