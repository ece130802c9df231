"""Following a bridge in OVSDB, and waiting for what is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

from oko.attached.ovsdb.description import OvsBridge, OvsInterface
from oko.attached.ovsdb.follower import Follower
from tests.oko.attached.conftest import BRIDGE, Laboratory
from tests.patience import patience

_PATIENCE = patience(20)


class Seen:
    """What a follower has told."""

    def __init__(self) -> None:
        self.bridges: asyncio.Queue[OvsBridge | None] = asyncio.Queue()
        self.reached: asyncio.Queue[bool] = asyncio.Queue()

    async def until(self, condition: Callable[[OvsBridge | None], bool]) -> OvsBridge | None:
        """The first description from now on that meets the condition."""
        async with asyncio.timeout(_PATIENCE):
            while not condition(found := await self.bridges.get()):
                pass
        return found

    async def interface(self, name: str, condition: Callable[[OvsInterface], bool]) -> OvsInterface:
        """The interface, from the first description in which it meets the condition."""

        def meets(bridge: OvsBridge | None) -> bool:
            return bridge is not None and any(each.name == name and condition(each) for each in bridge.interfaces)

        bridge = await self.until(meets)
        assert bridge is not None
        return interface(bridge, name)


def interface(bridge: OvsBridge, name: str) -> OvsInterface:
    return next(each for each in bridge.interfaces if each.name == name)


@asynccontextmanager
async def following(ovs: Laboratory, name: str = BRIDGE) -> AsyncIterator[tuple[Follower, Seen]]:
    seen = Seen()
    follower = Follower(ovs.vswitch.remote, name, seen.bridges.put_nowait, seen.reached.put_nowait)
    async with follower:
        yield follower, seen


async def vsctl(ovs: Laboratory, *words: str) -> None:
    await asyncio.to_thread(ovs.vswitch.vsctl, *words)


def run(main: Coroutine[object, object, None]) -> None:
    asyncio.run(asyncio.wait_for(main, 2 * _PATIENCE))
