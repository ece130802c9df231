"""How a bridge comes to be: its datapath made, its ports prepared and attached, all of it undone when that fails."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from oko.errors import BridgeError
from oko.kernel.features import BROADCAST, LIVE_FRAMES, RING_BUFFERS, XDP_PROGRAMS, probe, require
from oko.switch.bridge import Bridge
from oko.switch.datapath import Datapath, pins_of
from oko.switch.local import delete_local
from oko.switch.objects import read_runtime, read_stub
from oko.switch.port import Port, require_distinct
from oko.switch.rundir import BridgeRecord, RunDirectory
from oko.switch.settings import Settings

log = logging.getLogger("oko")


@dataclass(frozen=True, slots=True)
class Started:
    """A bridge that forwards. `adopt` makes a port whose interface was gone a port again, and raises OkoError for an
    interface that cannot be one. Once `keep` was called, the datapath outlives okod, however that ends."""

    bridge: Bridge
    adopt: Callable[[Port], None]
    keep: Callable[[], None]


@contextlib.contextmanager
def started(settings: Settings, rundir: RunDirectory) -> Iterator[Started]:
    """The bridge of the settings, for as long as the context lasts; the caller has claimed its name.

    When the body fails before it called `keep`, nothing stays behind. Raises OkoError.
    """
    require_distinct(list(settings.ports))
    for feature in (XDP_PROGRAMS, RING_BUFFERS, BROADCAST):
        require(feature)
    if (reason := probe(LIVE_FRAMES).reason) is not None:
        log.warning("%s", reason)
    name = settings.bridge
    with contextlib.ExitStack() as restores:
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
            bridge = Bridge(name, datapath, runtime, ports, settings.limits)
            for port in ports:
                port.attach(datapath)

            def adopt(gone: Port) -> None:
                port = gone.prepare_again()
                record(port if other.number == port.number else other for other in bridge.ports)
                port.attach(datapath)
                bridge.adopt_port(port)

            def keep_all() -> None:
                keep()
                restores.pop_all()

            yield Started(bridge, adopt, keep_all)


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
