"""An upstream connection to the laboratory's bridge, and waiting for what it tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

from ofext.monitor import UpdateEvent
from oko.attached.plain import Change, PlainRule
from oko.attached.unixctl import Unixctl
from oko.attached.upstream import Changed, Event, Followed, Upstream
from oko.flow.match_text import write_match
from tests.oko.attached.conftest import BRIDGE, Laboratory

_PATIENCE = 20
AnyEvent = TypeVar("AnyEvent")


class Heard:
    """What an upstream connection tells."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Event] = asyncio.Queue()

    async def next(self, kind: type[AnyEvent]) -> AnyEvent:
        """The next event of a kind; others before it are passed over."""
        async with asyncio.timeout(_PATIENCE):
            while not isinstance(found := await self.queue.get(), kind):
                pass
        return found

    async def change(self, condition: Callable[[Change], bool] = lambda _: True) -> Change:
        """The next change that meets the condition."""
        while True:
            for change in (await self.next(Changed)).changes:
                if condition(change):
                    return change

    def waiting(self) -> list[Event]:
        """The events that have been told and not been looked at."""
        found = []
        with suppress(asyncio.QueueEmpty):
            while True:
                found.append(self.queue.get_nowait())
        return found


@asynccontextmanager
async def connected(ovs: Laboratory, bridge: str = BRIDGE) -> AsyncIterator[tuple[Upstream, Heard]]:
    """Following the rules of the bridge."""
    heard = Heard()
    upstream = Upstream(ovs.vswitch.management(bridge), Unixctl(ovs.vswitch.control), heard.queue.put_nowait)
    running = asyncio.create_task(upstream.run())
    try:
        await heard.next(Followed)
        yield upstream, heard
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def told(change: Change) -> str:
    """A change in few words."""
    reason = "" if change.reason is None else f" {change.reason.name}"
    return f"{UpdateEvent(change.event).name}{reason} {described(change.rule)}"


def described(rule: PlainRule) -> str:
    words = [f"priority={rule.priority}", *write_match(rule.match)]
    return ",".join(words) + "".join(f" ?{name}" for name in rule.unseen) + (" later" if rule.later else "")
