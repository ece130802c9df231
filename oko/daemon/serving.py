"""okod, from start to end: make the bridge, serve it, and leave its datapath to itself."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from pathlib import Path

from oko.daemon.agent import Agent
from oko.daemon.metrics import Metrics, serve_metrics
from oko.daemon.settings import Settings
from oko.daemon.startup import Started, started
from oko.daemon.upkeep import Upkeep
from oko.switch.rundir import RunDirectory
from oko.switch.watch import Watch


def run(settings: Settings, rundir: RunDirectory, ready: Callable[[str], None]) -> None:
    """Run the bridge until SIGTERM or SIGINT. `ready` gets one line when everything listens.

    Afterwards the datapath goes on by itself. When the start fails, nothing stays behind but what was there before.
    Raises OkoError.
    """
    with rundir.claim(settings.bridge), started(settings, rundir) as bridge:
        asyncio.run(_serve(settings, rundir.socket(settings.bridge), bridge, ready))


async def _serve(settings: Settings, management: Path, started: Started, ready: Callable[[str], None]) -> None:
    bridge, store = started.bridge, started.store
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    async with contextlib.AsyncExitStack() as stack:
        watch = stack.enter_context(Watch(bridge, started.adopt))
        await stack.enter_async_context(Upkeep(store, lambda: store.snapshot(bridge.tables, bridge.carried)))
        agent = await stack.enter_async_context(Agent(bridge, settings, management, watch.rearm))
        if settings.metrics is not None:
            await stack.enter_async_context(await serve_metrics(settings.metrics, Metrics(bridge, agent)))
        started.keep()
        ready(f"ready: bridge {bridge.name}, {len(bridge.ports)} ports, {management}")
        await ended.wait()
