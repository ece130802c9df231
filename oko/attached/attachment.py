"""okod attached to a bridge of Open vSwitch, from start to end.

What is changed of Open vSwitch and of the ports is written down before (`oko.attached.record`). When okod ends, XDP and
Oko's own rules go on without it, and the next okod takes over: `detach` is what takes them away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from pathlib import Path
from typing import Final

from ofext.extension import AttachmentFlag, AttachmentReply, Concern, ConcernEntry
from ofext.load import LoadBudget
from ofext.messages import FlowMod
from ofext.multipart import Aggregate, AggregateRequest
from oko.attached.continuation import port_rule
from oko.attached.detach import Guarded, OwnRules, Pinned, give_back, open_record
from oko.attached.endpoint import Endpoint, Mode, NameTaken
from oko.attached.features import require_attachable, reserved
from oko.attached.filter_rules import FilterRules
from oko.attached.guard import Guard
from oko.attached.marker import PASSING, Marker
from oko.attached.near_end import NearEnd, NearEndChange, followed, in_order, prepare, restore, survey
from oko.attached.order import Order
from oko.attached.ovsdb.description import OvsBridge, OvsController, OvsInterface
from oko.attached.ovsdb.follower import Follower
from oko.attached.port_settings import PortSettings
from oko.attached.record import Record
from oko.attached.relay.entrance import Entrance
from oko.attached.relay.plane import Plane
from oko.attached.relay.relays import Protocols, Relays
from oko.attached.shim import OWN_COOKIE
from oko.attached.unixctl import Unixctl
from oko.attached.upstream import TABLE, Event, Followed, PortsSet, Upstream
from oko.daemon.metrics import Metrics, serve_metrics
from oko.daemon.settings import AttachSettings, Settings
from oko.daemon.upkeep import Upkeep
from oko.errors import AttachError, NotSupported, OkoError, PortError, SettingsError, StateDamaged
from oko.flow.attachment import Attachment, Shims
from oko.flow.headers import MAX_TAGS
from oko.flow.rule import Command
from oko.kernel.features import RING_BUFFERS, XDP_PROGRAMS, require
from oko.kernel.interface import interface_at
from oko.kernel.program import load_program
from oko.openflow import endpoint as places
from oko.openflow.extension import ExtensionServer
from oko.openflow.terms import TRUSTED, Terms
from oko.switch.bridge import Bridge
from oko.switch.datapath import Datapath, pins_of
from oko.switch.objects import read_runtime, read_stub
from oko.switch.pinned import Adoption
from oko.switch.port import Port
from oko.switch.rundir import BridgeRecord, RunDirectory
from oko.switch.state import State
from oko.switch.store import Store
from oko.switch.watch import Watch

log = logging.getLogger("oko")

_SCHEME: Final = "unix:"
_PATIENCE: Final = 5.0
"""Seconds that Open vSwitch may take to tell its rules before okod goes on without them."""


def run(settings: Settings, attach: AttachSettings, rundir: RunDirectory, ready: Callable[[str], None]) -> None:
    """Be attached to the bridge of the settings until SIGTERM or SIGINT. `ready` gets one line when everything works.

    Afterwards XDP goes on by itself. When the start fails, nothing stays behind but what was there before. Raises
    OkoError.
    """
    with rundir.claim(settings.bridge):
        asyncio.run(_serve(settings, attach, rundir, ready))


async def _serve(
    settings: Settings, attach: AttachSettings, rundir: RunDirectory, ready: Callable[[str], None]
) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with attached(settings, attach, rundir) as bridge:
        ready(f"ready: bridge {settings.bridge}, {len(bridge.ports)} ports, {rundir.socket(settings.bridge)}")
        waiting = [asyncio.ensure_future(event.wait()) for event in (ended, bridge.failed)]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for each in waiting:
            each.cancel()
        if bridge.failed.is_set():
            raise AttachError(
                f"bridge {settings.bridge}: okod ends by a fault of its own, which the log has: start it again"
            )


@contextlib.asynccontextmanager
async def attached(settings: Settings, attach: AttachSettings, rundir: RunDirectory) -> AsyncIterator[AttachedBridge]:
    """Attached to the bridge while the context lasts. To be entered in the network namespace of its ports, by whom has
    claimed its name. Raises OkoError."""
    for feature in (XDP_PROGRAMS, RING_BUFFERS):
        require(feature)
    record = open_record(settings.statedir, settings.bridge)
    is_new = not len(record)
    if is_new and settings.bridge in rundir.bridges():
        raise AttachError(
            f"bridge {settings.bridge} is one of Oko's own already: 'oko bridge del {settings.bridge}' takes it away"
        )
    async with contextlib.AsyncExitStack() as stack:
        bridge = AttachedBridge(settings, attach, rundir, record)
        try:
            await bridge.start(stack)
        except BaseException:
            await stack.aclose()
            if is_new:
                rundir.forget(settings.bridge)
                await give_back(record)
            raise
        yield bridge


class AttachedBridge:
    """A bridge of Open vSwitch with Oko attached."""

    def __init__(self, settings: Settings, attach: AttachSettings, rundir: RunDirectory, record: Record) -> None:
        if not attach.ovsdb.startswith(_SCHEME):
            raise AttachError(f"database {attach.ovsdb}: only those of this machine can be followed: write unix:PATH")
        self.name = settings.bridge
        self.without_xdp: dict[str, str] = {}
        """Why an interface of the bridge does not carry the XDP program, by name."""
        self._settings = settings
        self._attach = attach
        self._rundir = rundir
        self._record = record
        self._database = Path(attach.ovsdb.removeprefix(_SCHEME))
        self._otherwise = Shims.PASSED if attach.fail == "open" else Shims.DROPPED
        self.failed = asyncio.Event()
        """Set when what keeps it attached has ended by a fault of okod."""
        self._ports: dict[str, Port] = {}  # as they are to be, by the name of the interface
        self._inside: dict[str, Port] = {}  # those that carry the XDP program
        self._ends: dict[str, NearEnd] = {}
        self._port_settings = PortSettings()
        self._controllers: tuple[OvsController, ...] = ()
        self._guard: Guard | None = None
        self._is_new = not len(record)
        self._changed = asyncio.Event()
        self._followed = asyncio.Event()
        self._ending = False

    @property
    def ports(self) -> Mapping[str, Port]:
        """Those that carry the XDP program, by the name of the interface."""
        return self._inside

    async def start(self, stack: contextlib.AsyncExitStack) -> None:
        """Attach; what has to be ended with okod goes onto the stack. Raises OkoError."""
        self._follower = Follower(self._attach.ovsdb, self.name, lambda _: self._changed.set(), self._reached)
        await stack.enter_async_context(self._follower)
        description = self._description()
        require_attachable(description)
        store, datapath = self._open(stack)
        for end in in_order(self._survey(description)):
            await self._prepare(end)
        self._ports = self._usable(description)
        attached = datapath.attached
        self._inside = {name: port for name, port in self._ports.items() if attached.get(name) == port.ifindex}
        self._bridge = self._restore(store, datapath, description)
        upstream, relays, endpoint = await self._connect(stack)
        self._upstream, self._endpoint = upstream, endpoint
        watch = stack.enter_context(Watch(self._bridge, lambda _: self._changed.set()))
        self._order.changed = watch.rearm
        await stack.enter_async_context(
            Upkeep(store, lambda: store.snapshot(self._bridge.tables, self._bridge.carried))
        )
        self._begin(stack, upstream.run())
        self._begin(stack, self._order.run())
        await self._listen(stack, relays, endpoint)
        if self._settings.metrics is not None:
            await stack.enter_async_context(await serve_metrics(self._settings.metrics, Metrics(self._bridge, relays)))
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._followed.wait(), _PATIENCE)
        if self._is_new and not self._followed.is_set():
            raise AttachError(f"bridge {self.name}: its rules cannot be followed: {upstream.complaint or 'no answer'}")
        # Without Open vSwitch it goes on as an earlier okod left it.
        # Open vSwitch may have said by now that XDP is to leave a port alone.
        await self._follow_once(self._description())
        self._begin(stack, self._follow())
        stack.callback(self._end)

    def _begin(self, stack: contextlib.AsyncExitStack, work: Coroutine[None, None, None]) -> None:
        """Do this until okod ends."""
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._look_after)
        stack.push_async_callback(_cancel, task)

    def _look_after(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("bridge %s: a fault of okod", self.name, exc_info=error)
            self.failed.set()

    def _end(self) -> None:
        """From now on okod ends, and what it has set up goes on as it is."""
        self._ending = True

    # ---- the beginning

    def _open(self, stack: contextlib.AsyncExitStack) -> tuple[Store, Datapath]:
        """What an earlier okod has left, on disk and pinned, or a new beginning."""
        pins, state = pins_of(self.name, self._settings.bpffs), self._settings.statedir / self.name
        guard = pins.with_name(f"{self.name}%guard")
        self._record.add(Pinned(str(pins)))
        self._record.add(Guarded(str(guard)))
        self._rundir.write(self.name, BridgeRecord(str(pins), str(state), ()))
        store = Store(state)
        try:
            self._state: State | None = store.read()
        except StateDamaged as error:
            log.error(
                "bridge %s: its filter rules are not restored: %s: kept at %s", self.name, error, store.set_aside()
            )
            store, self._state = Store(state), None
        adoption = Adoption.NOTHING
        if pins.exists():
            unknown = self._state is None or self._state.inherits
            adoption = Adoption.PIPELINE if unknown else Adoption.EVERYTHING
        self._runtime = read_runtime()
        stub = read_stub(fail_open=self._otherwise is Shims.PASSED)
        datapath = Datapath(self.name, self._settings.bpffs, stub, self._runtime, adoption, attached=True)
        self._datapath = stack.enter_context(datapath)
        try:
            self._guard = stack.enter_context(Guard(guard))
        except NotSupported as error:
            log.warning("bridge %s: shims that somebody else's rules send out are not held back: %s", self.name, error)
        return store, datapath

    def _restore(self, store: Store, datapath: Datapath, description: OvsBridge) -> Bridge:
        bridge = Bridge(
            self.name,
            datapath,
            self._runtime,
            list(self._ports.values()),
            self._settings.limits,
            state=self._state,
            store=store,
            attachment=self._attachment(description),
        )
        if not datapath.adopts:
            bridge.set_shims(self._otherwise)
        store.begin(inherits=datapath.inherits)
        store.count(datapath.take_carried())
        return bridge

    async def _connect(self, stack: contextlib.AsyncExitStack) -> tuple[Upstream, Relays, Endpoint]:
        directory = self._database.parent
        management = directory / f"{self.name}.mgmt"
        mode = Mode(self._attach.mode)
        path = NameTaken(str(management)).beside if mode is Mode.PROXY else management
        upstream = Upstream(path, Unixctl(directory), self._hear)
        upstream.ports = self._port_settings
        passing = stack.enter_context(load_program("oko_marker", PASSING, "GPL", references={}))
        self._order = Order(self._bridge, upstream, Marker(upstream, passing.fd), self._indices, self._otherwise)
        self._record.add(OwnRules(str(management)))
        loads = LoadBudget(self._settings.limits.all_object_bytes)
        plane = Plane(
            FilterRules(self._bridge, self._order),
            self._order,
            Entrance(self._bridge, self._indices, upstream.settle),
            lambda send, backlog: ExtensionServer(self._bridge, send, backlog, loads, self._report),
            self._own_totals,
            self._extended,
        )
        relays = await stack.enter_async_context(Relays(plane, self._settings.max_connections))
        rights = Terms("a controller")
        endpoint = Endpoint(mode, management, self._database, relays, self._record, rights=rights)
        return upstream, relays, endpoint

    async def _listen(self, stack: contextlib.AsyncExitStack, relays: Relays, endpoint: Endpoint) -> None:
        """Let controllers and tools in."""
        await stack.enter_async_context(endpoint)
        await endpoint.listen(self._rundir.socket(self.name), TRUSTED)

        async def connect(protocol: Protocols) -> object:
            return await asyncio.get_running_loop().create_unix_connection(protocol, str(endpoint.upstream))

        for item in self._settings.connections:
            terms = Terms(str(item.endpoint), item.may_load, item.reads)
            match item.endpoint:
                case places.Endpoint(place=Path() as path):
                    await endpoint.listen(path, terms)
                case places.Endpoint(passive=True, secure=False, place=places.Address(host, port)):
                    family = socket.AF_INET6 if ":" in host else socket.AF_INET
                    listener = socket.create_server((host, port), family=family)
                    server = await relays.listen(listener, terms, connect)
                    stack.callback(server.close)
                case _:
                    raise SettingsError(
                        f"{item.endpoint}: an attached okod listens at punix and ptcp only: the controllers of the "
                        "bridge are set with ovs-vsctl"
                    )

    # ---- what is asked

    def _description(self) -> OvsBridge:
        if self._follower.bridge is None:
            raise AttachError(f"database {self._attach.ovsdb} has no bridge {self.name} any more")
        return self._follower.bridge

    def _indices(self) -> dict[int, int]:
        return {port.number: port.ifindex for port in self._inside.values()}

    def _attachment(self, description: OvsBridge) -> Attachment:
        longest = {
            self._ports[name].number: end.longest
            for name, end in self._ends.items()
            if name in self._ports and end.longest is not None
        }
        return Attachment(min(description.vlan_limit or MAX_TAGS, MAX_TAGS), reserved(description), longest)

    async def _own_totals(self) -> Aggregate:
        request = AggregateRequest(table_id=TABLE, cookie=OWN_COOKIE, cookie_mask=OWN_COOKIE)
        reply = await self._upstream.report(request)
        assert isinstance(reply, Aggregate)
        return reply

    def _extended(self) -> None:
        """The extension may have changed rules."""
        self._order.changed()

    def _report(self) -> AttachmentReply:
        """What keeps filter rules from being all in effect."""
        found = [ConcernEntry(Concern.PORT, name, reason) for name, reason in sorted(self.without_xdp.items())]
        if self._order.trouble:
            reason = self._upstream.complaint or self._order.trouble
            found.append(ConcernEntry(Concern.BRIDGE, self.name, reason))
        for rule in self._order.table.suspended():
            found.append(ConcernEntry(Concern.FLOW, *self._order.suspension(rule)))
        return AttachmentReply(AttachmentFlag.ATTACHED, tuple(found))

    # ---- ports

    def _survey(self, description: OvsBridge) -> list[NearEnd]:
        """What the interfaces of the bridge need, as far as it is not known yet."""
        known = [NearEnd.from_json(change.end) for change in self._record if isinstance(change, NearEndChange)]
        self._ends |= {end.name: end for end in known if _is_there(end)}
        found = []
        for interface in description.interfaces:
            end = self._ends.get(interface.name)
            if end is not None and end.ifindex == interface.ifindex:
                found.append(end)
                continue
            try:
                end = survey(interface, description.datapath_type, self._ends.values())
            except PortError as error:
                self._complain(interface.name, str(error))
                continue
            if end is not None:
                found.append(end)
        return found

    async def _prepare(self, end: NearEnd) -> None:
        if self._datapath.attached.get(end.name) == end.ifindex and end.name in self._ends:
            return
        self._record.add(NearEndChange(end.to_json(), str(self._database)))
        self._ends[end.name] = end
        try:
            await prepare(end, self._database)
        except PortError as error:
            self._complain(end.name, str(error))
            self._forget(end)

    async def _follow_ends(self, description: OvsBridge) -> None:
        """Prepare those interfaces anew whose MTU somebody has changed."""
        least = None
        interfaces = {interface.name: interface for interface in description.interfaces}
        for end in reversed(in_order(self._ends.values())):
            interface = interfaces.get(end.name)
            if interface is None or interface.ifindex != end.ifindex or not _is_there(end):
                continue
            changed = await followed(end, interface, self._database, least if end.internal else None)
            if changed == end:
                continue
            log.info("bridge %s: port %s: its MTU is %d now", self.name, end.name, changed.mtu)
            self._record.add(NearEndChange(changed.to_json(), str(self._database)))
            if end.internal:
                await restore(end, self._database)
            self._forget(end)
            await self._prepare(changed)
            least = min((each.mtu for each in self._ends.values() if each.growth), default=None)

    def _forget(self, end: NearEnd) -> None:
        self._ends.pop(end.name, None)
        self._record.remove(NearEndChange(end.to_json(), str(self._database)))

    def _usable(self, description: OvsBridge) -> dict[str, Port]:
        """The interfaces that can carry the XDP program and are prepared for it."""
        ports = {}
        for interface in description.interfaces:
            if reason := interface.without_xdp or self._withheld(interface):
                self._complain(interface.name, reason)
            elif interface.name in self._ends:
                try:
                    ports[interface.name] = _port(interface)
                except PortError as error:
                    self._complain(interface.name, str(error))
        there = {interface.name for interface in description.interfaces}
        self.without_xdp = {name: why for name, why in self.without_xdp.items() if name in there}
        return ports

    def _withheld(self, interface: OvsInterface) -> str:
        """Why OpenFlow's settings of a port leave it to Open vSwitch; empty if they do not."""
        return "" if interface.ofport is None else self._port_settings.withheld(interface.ofport)

    def _complain(self, name: str, reason: str) -> None:
        if self.without_xdp.get(name) != reason:
            self.without_xdp[name] = reason
            log.warning(
                "bridge %s: port %s has no XDP, and filter rules do not see its packets: %s", self.name, name, reason
            )

    def _let_in(self, port: Port) -> None:
        """Let the image decide the packets of a port."""
        if self._guard is not None:
            self._guard.attach(port.name, port.ifindex)
        if self._inside.get(port.name) != port:
            port.attach(self._datapath)
            self._inside[port.name] = port
            self.without_xdp.pop(port.name, None)
            log.info("bridge %s: port %d (%s) has XDP", self.name, port.number, port.name)

    async def _let_out(self, name: str) -> None:
        """Leave the packets of an interface to Open vSwitch."""
        port = self._inside.pop(name, None)
        if port is not None:
            with contextlib.suppress(AttachError):  # the next connection begins without it
                await self._upstream.change([_without(port_rule(port.number))])
        self._datapath.detach(name)
        if self._guard is not None and name in self._guard.ports:
            self._guard.detach(name)

    def _reached(self, there: bool) -> None:
        log.warning("bridge %s: OVSDB %s", self.name, "is there again" if there else "is lost: nothing of it changes")

    def _hear(self, event: Event) -> None:
        if self._ending:
            return
        self._order.hear(event)
        if isinstance(event, Followed):
            self._followed.set()
        if isinstance(event, Followed | PortsSet):
            self._changed.set()

    async def _follow(self) -> None:
        """Follow what becomes of the bridge, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._follow_once(self._description())
            except OkoError as error:
                log.error("bridge %s: its change is not followed: %s", self.name, error)

    async def _follow_once(self, description: OvsBridge) -> None:
        self._order.object(_objection(description))
        await self._follow_ends(description)
        for end in in_order(self._survey(description)):
            await self._prepare(end)
        before = dict(self._inside)
        self._ports = self._usable(description)
        for name, ifindex in self._datapath.attached.items():
            port = self._ports.get(name)
            if port is None or port.ifindex != ifindex or self._inside.get(name, port) != port:
                await self._let_out(name)
        attachment = self._attachment(description)
        ports = sorted(self._ports.values(), key=lambda port: port.number)
        if attachment != self._bridge.attachment or ports != list(self._bridge.ports):
            self._bridge.reattach(ports, attachment)
        for port in ports:
            try:
                self._let_in(port)
            except OkoError as error:
                self._complain(port.name, str(error))
        if self._inside != before:
            self._order.renew()
        await self._give_back({interface.name for interface in description.interfaces})
        self._order.wake()
        if description.controllers != self._controllers:
            # What it changes of them in OVSDB is told later.
            self._controllers = description.controllers
            await self._endpoint.follow(description.controllers)

    async def _give_back(self, there: set[str]) -> None:
        """Give those interfaces back what they had that are in the bridge no more."""
        for end in [end for name, end in self._ends.items() if name not in there]:
            try:
                await restore(end, self._database)
                self._forget(end)
            except OkoError as error:
                log.warning("bridge %s: %s", self.name, error)


def _objection(description: OvsBridge) -> str:
    try:
        require_attachable(description)
    except AttachError as error:
        return str(error)
    return ""


def _without(rule: FlowMod) -> FlowMod:
    """Deletes the rule that this one adds."""
    return FlowMod(command=Command.DELETE_STRICT.value, priority=rule.priority, match=rule.match)


def _port(interface: OvsInterface) -> Port:
    """Raises PortError if the interface has gone in the meantime."""
    assert interface.ifindex is not None
    assert interface.ofport is not None
    found = interface_at(interface.ifindex)
    return Port(interface.name, interface.ofport, found.index, found.mac, None)


def _is_there(end: NearEnd) -> bool:
    try:
        return interface_at(end.ifindex).name == end.name
    except PortError:
        return False


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
