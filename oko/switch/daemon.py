"""okod: a bridge and its listeners, from start to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from oko.errors import BridgeError
from oko.kernel.features import BROADCAST, LIVE_FRAMES, RING_BUFFERS, XDP_PROGRAMS, probe, require
from oko.switch.bridge import Bridge
from oko.switch.connection import converse
from oko.switch.datapath import Datapath, pins_of
from oko.switch.local import LocalSpec, delete_local
from oko.switch.objects import read_runtime, read_stub
from oko.switch.port import Port, PortSpec, require_distinct
from oko.switch.roles import Roles
from oko.switch.rundir import BridgeRecord, RunDirectory
from oko.switch.watch import Watch

log = logging.getLogger("oko")


@dataclass(frozen=True, slots=True)
class Listener:
    """A passive TCP listener, in OVS's notation ``ptcp:PORT[:HOST]``; without a host it is 127.0.0.1."""

    host: str
    port: int

    @staticmethod
    def parse(text: str) -> Listener:
        """Raises BridgeError."""
        method, _, rest = text.partition(":")
        port, _, host = rest.partition(":")
        if method != "ptcp" or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise BridgeError(f"{text!r} is no listener: write ptcp:PORT or ptcp:PORT:HOST")
        return Listener(host or "127.0.0.1", int(port))


@dataclass(frozen=True, slots=True)
class Settings:
    """What okod is told: the bridge, its ports, and where things are."""

    bridge: str
    ports: tuple[PortSpec, ...]
    rundir: RunDirectory
    bpffs: Path
    listeners: tuple[Listener, ...] = ()
    local: LocalSpec | None = None


def run(settings: Settings, ready: Callable[[str], None]) -> None:
    """Run the bridge until SIGTERM or SIGINT. `ready` gets one line when everything listens.

    Afterwards the datapath goes on by itself. When the start fails, nothing stays behind. Raises OkoError.
    """
    require_distinct(list(settings.ports))
    for feature in (XDP_PROGRAMS, RING_BUFFERS, BROADCAST):
        require(feature)
    if (reason := probe(LIVE_FRAMES).reason) is not None:
        log.warning("%s", reason)
    rundir, name = settings.rundir, settings.bridge
    with rundir.claim(name), contextlib.ExitStack() as restores:
        if name in rundir.bridges():
            raise BridgeError(
                f"bridge {name} still forwards for an earlier okod: 'oko bridge del {name}' takes it away"
            )
        stub, runtime = read_stub(), read_runtime()
        # Written down before it is done, so that whatever a kill leaves behind can be taken away.
        pins = str(pins_of(name, settings.bpffs))
        local = settings.local.record() if settings.local else None

        def record(ports: Iterable[Port]) -> None:
            rundir.write(name, BridgeRecord(pins, tuple(port.record for port in ports), local))

        record(())
        restores.callback(rundir.forget, name)
        specs = list(settings.ports)
        if settings.local is not None and local is not None:
            restores.callback(delete_local, local)
            settings.local.make()
            specs.append(settings.local.port)
        with Datapath(name, settings.bpffs, stub, runtime) as datapath, _undo(datapath.remove) as keep:
            ports: list[Port] = []
            for spec in specs:
                port = Port.prepare(spec)
                restores.callback(port.restore)
                ports.append(port)
                record(ports)
            bridge = Bridge(name, datapath, runtime, ports)
            for port in ports:
                port.attach(datapath)

            def adopt(gone: Port) -> None:
                port = gone.prepare_again()
                record(port if other.number == port.number else other for other in bridge.ports)
                port.attach(datapath)
                bridge.adopt_port(port)

            asyncio.run(_serve(settings, bridge, adopt, ready, keep, restores))


@contextlib.contextmanager
def _undo(remove: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Calls `remove` when the body fails, unless what is yielded was called before."""
    kept = False

    def keep() -> None:
        nonlocal kept
        kept = True

    try:
        yield keep
    except BaseException:
        if not kept:
            remove()
        raise


async def _serve(
    settings: Settings,
    bridge: Bridge,
    adopt: Callable[[Port], None],
    ready: Callable[[str], None],
    keep: Callable[[], None],
    restores: contextlib.ExitStack,
) -> None:
    path = settings.rundir.socket(settings.bridge)
    path.unlink(missing_ok=True)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    connections: set[asyncio.Task[None]] = set()
    roles = Roles()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(converse(bridge, roles, reader, writer, watch.rearm))
        connections.add(task)
        task.add_done_callback(connections.discard)

    with Watch(bridge, adopt) as watch:
        async with contextlib.AsyncExitStack() as servers:
            mask = os.umask(0o177)
            try:
                await servers.enter_async_context(await asyncio.start_unix_server(accept, path))
            except OSError as error:
                raise BridgeError(f"{path}: {error.strerror}") from None
            finally:
                os.umask(mask)
            for listener in settings.listeners:
                try:
                    server = await asyncio.start_server(accept, listener.host, listener.port)
                except OSError as error:
                    raise BridgeError(
                        f"cannot listen on {listener.host} port {listener.port}: {error.strerror}"
                    ) from None
                await servers.enter_async_context(server)
            keep()
            restores.pop_all()
            ready(f"ready: bridge {bridge.name}, {len(bridge.ports)} ports, {path}")
            await ended.wait()
            for task in list(connections):
                task.cancel()
            await asyncio.gather(*connections, return_exceptions=True)
    path.unlink(missing_ok=True)
