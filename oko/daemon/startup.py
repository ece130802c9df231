"""How a bridge comes to be: its datapath made or adopted, its tables restored, its ports prepared and attached; all of
it undone when that fails."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from oko.daemon.settings import Settings
from oko.errors import (
    BridgeError,
    FlowError,
    KernelRejected,
    LimitExceeded,
    OkoError,
    PortError,
    ProgramError,
    StateDamaged,
)
from oko.kernel.features import BROADCAST, LIVE_FRAMES, RING_BUFFERS, XDP_PROGRAMS, probe, require
from oko.kernel.interface import interface
from oko.kernel.namespace import inode
from oko.kernel.offloads import SavedOffloads, restore
from oko.switch import store as state_directory
from oko.switch.bridge import Bridge
from oko.switch.datapath import Datapath, pins_of
from oko.switch.local import delete_local
from oko.switch.objects import read_runtime, read_stub
from oko.switch.pinned import Adoption
from oko.switch.port import Port, PortSpec, require_distinct
from oko.switch.rundir import BridgeRecord, LocalRecord, PortRecord, RunDirectory
from oko.switch.state import State
from oko.switch.store import Store

log = logging.getLogger("oko")


@dataclass(frozen=True, slots=True)
class Started:
    """A bridge that forwards. `adopt` makes a port whose interface was gone a port again, and raises OkoError for an
    interface that cannot be one. Once `keep` was called, the datapath outlives okod, however that ends."""

    bridge: Bridge
    store: Store
    adopt: Callable[[Port], None]
    keep: Callable[[], None]


@contextlib.contextmanager
def started(settings: Settings, rundir: RunDirectory) -> Iterator[Started]:
    """The bridge of the settings, for as long as the context lasts; the caller has claimed its name.

    A datapath that an earlier okod left goes on, and decides packets as before until the pipeline of the restored
    tables takes its place. When the body fails before it called `keep`, nothing stays behind but what was there before.
    Raises OkoError.
    """
    require_distinct(list(settings.ports))
    for feature in (XDP_PROGRAMS, RING_BUFFERS, BROADCAST):
        require(feature)
    if (reason := probe(LIVE_FRAMES).reason) is not None:
        log.warning("%s", reason)
    with contextlib.ExitStack() as owned, contextlib.ExitStack() as restores:
        yield _Start(settings, rundir, owned, restores).run()


class _Start:
    """One start. `owned` is closed in the end in any case, `restores` takes back what was done."""

    def __init__(
        self,
        settings: Settings,
        rundir: RunDirectory,
        owned: contextlib.ExitStack,
        restores: contextlib.ExitStack,
    ) -> None:
        self._settings = settings
        self._name = settings.bridge
        self._rundir = rundir
        self._owned = owned
        self._restores = restores
        self._pins = str(pins_of(self._name, settings.bpffs))
        self._state = settings.statedir / self._name
        self._runtime = read_runtime()
        self._earlier = self._read_earlier()
        self._known = {port.name: port for port in self._earlier.ports} if self._earlier is not None else {}
        self._local = self._earlier.local if self._earlier is not None else None

    def run(self) -> Started:
        """The bridge, forwarding."""
        if not self._state.exists():
            self._restores.callback(state_directory.remove, self._state)
        store = Store(self._state)
        try:
            state = store.read()
        except StateDamaged as error:
            store, state = self._without(store, error), None
        if self._earlier is None:
            self._record(())
            self._restores.callback(self._rundir.forget, self._name)
        else:
            self._restores.callback(self._rundir.write, self._name, self._earlier)
        specs = [*self._settings.ports, *self._make_local()]
        try:
            bridge, datapath = self._bridge(specs, store, state)
        except (ProgramError, FlowError, LimitExceeded, KernelRejected) as error:
            if state is None:
                raise
            store = self._without(store, error)
            bridge, datapath = self._bridge(specs, store, None)
        if datapath.inherits:
            log.warning(
                "bridge %s: its tables are not known: packets are decided as before until they are changed", self._name
            )
        store.begin(inherits=datapath.inherits)
        store.count(datapath.take_carried())
        self._owned.callback(lambda: store.close(datapath.take_carried()))
        self._attach(bridge, datapath)

        def adopt(gone: Port) -> None:
            port = gone.prepare_again()
            self._record(port if port.number == other.number else other for other in bridge.ports)
            port.attach(datapath)
            bridge.adopt_port(port)

        return Started(bridge, store, adopt, self._keep)

    def _keep(self) -> None:
        self._restores.pop_all()

    def _read_earlier(self) -> BridgeRecord | None:
        """What is written down of a bridge that is there already. Raises BridgeError for one that has its pins
        elsewhere."""
        if self._name not in self._rundir.bridges():
            return None
        earlier = self._rundir.read(self._name)
        if earlier.is_attached:
            raise BridgeError(
                f"bridge {self._name} is Open vSwitch's, and Oko is attached to it: run 'okod --detach {self._name}' "
                "first, or choose another name"
            )
        if earlier.pins != self._pins:
            raise BridgeError(
                f"bridge {self._name} still forwards for an earlier okod, pinned at {earlier.pins}: start okod with "
                f"the same --bpffs, or take it away with 'oko bridge del {self._name}'"
            )
        return earlier

    def _record(self, ports: Iterable[Port], more: Iterable[PortRecord] = ()) -> None:
        """Write down what taking the bridge away takes, before it is done: a kill may come at any time."""
        records = (*(port.record for port in ports), *more)
        self._rundir.write(self._name, BridgeRecord(self._pins, str(self._state), records, self._local))

    def _without(self, store: Store, error: OkoError) -> Store:
        """A new store, as what is in this one cannot be used."""
        place = store.set_aside()
        log.error("bridge %s: its flows and programs are not restored: %s: all is kept at %s", self._name, error, place)
        return Store(self._state)

    def _make_local(self) -> list[PortSpec]:
        """The LOCAL port, which an earlier okod may have made."""
        wanted, earlier = self._settings.local, self._local
        if wanted is None:
            return []
        if earlier is not None and earlier == LocalRecord(wanted.port.name, inode()) and _is_there(earlier.port):
            return [wanted.port]
        self._local = wanted.record()
        self._record((), self._known.values())
        self._restores.callback(delete_local, self._local)
        wanted.make()
        return [wanted.port]

    def _bridge(self, specs: list[PortSpec], store: Store, state: State | None) -> tuple[Bridge, Datapath]:
        """The bridge with these ports, which it has or is to have. Everything is as before when this fails."""
        adoption = Adoption.NOTHING
        if self._earlier is not None:
            unknown = state is None or state.inherits
            adoption = Adoption.PIPELINE if unknown else Adoption.EVERYTHING
        with contextlib.ExitStack() as owned, contextlib.ExitStack() as restores:
            datapath = Datapath(self._name, self._settings.bpffs, read_stub(), self._runtime, adoption)
            owned.enter_context(datapath)
            if not datapath.adopts:
                restores.callback(datapath.remove)
            ports: list[Port] = []
            for spec in specs:
                port = self._port(spec, datapath)
                if port.ifindex != datapath.attached.get(port.name):
                    restores.callback(port.restore)
                ports.append(port)
                self._record(ports, self._others(ports))
            bridge = Bridge(self._name, datapath, self._runtime, ports, self._settings.limits, state=state, store=store)
            self._restores.push(restores.pop_all())
            self._owned.push(owned.pop_all())
            return bridge, datapath

    def _port(self, spec: PortSpec, datapath: Datapath) -> Port:
        """A port: as it is if it carries the stub, else prepared to be given it. One that an earlier okod had, and
        whose interface is not there, is gone until it is."""
        known = self._known.get(spec.name)
        offloads = SavedOffloads.from_json(known.offloads) if known is not None and known.offloads else None
        try:
            found = interface(spec.name)
        except PortError as error:
            if known is None:
                raise
            log.warning("bridge %s: port %d is gone: %s", self._name, spec.number, error)
            return Port(spec.name, spec.number, 0, bytes(6), offloads)
        if datapath.attached.get(spec.name) == found.index:
            return Port(spec.name, spec.number, found.index, found.mac, offloads)
        return Port.prepare(spec, offloads)

    def _others(self, ports: Iterable[Port]) -> list[PortRecord]:
        """What is written down of earlier ports that are none of these."""
        names = {port.name for port in ports}
        return [record for name, record in self._known.items() if name not in names]

    def _attach(self, bridge: Bridge, datapath: Datapath) -> None:
        """Let those ports carry the stub that are to, and no others."""
        attached = datapath.attached
        for port in bridge.ports:
            if port.ifindex and port.ifindex != attached.pop(port.name, None):
                port.attach(datapath)
                if datapath.adopts:
                    self._restores.callback(datapath.detach, port.name)
        for name in attached.keys() - {port.name for port in bridge.ports}:
            datapath.detach(name)
        for record in self._others(bridge.ports):
            if record.offloads is not None:
                restore(SavedOffloads.from_json(record.offloads))
        earlier = self._earlier.local if self._earlier is not None else None
        if self._settings.local is None:
            self._local = None
        if earlier is not None and earlier != self._local:
            delete_local(earlier)
        self._record(bridge.ports)


def _is_there(name: str) -> bool:
    try:
        interface(name)
    except PortError:
        return False
    return True
