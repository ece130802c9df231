"""`ExtensionServer`: what a bridge answers to the requests of docs/openflow-extension.md."""

from __future__ import annotations

import contextlib
import errno
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from ofext.extension import (
    AttachmentReply,
    AttachmentRequest,
    Command,
    DropEntry,
    DropListReply,
    DropListRequest,
    Event,
    EventEntry,
    EventFlag,
    EventListReply,
    EventListRequest,
    EventSubscribe,
    EventUnsubscribe,
    FilterRulesShow,
    ImageRequest,
    ListReply,
    ListRequest,
    LoadFlag,
    MapDelete,
    MapDescription,
    MapDumpReply,
    MapDumpRequest,
    MapEntry,
    MapListReply,
    MapListRequest,
    MapLookupReply,
    MapLookupRequest,
    MapUpdate,
    ObserverEntry,
    ObserverListReply,
    ObserverListRequest,
    ProgramEntry,
    ProgramListReply,
    ProgramListRequest,
    ProgramLoad,
    ProgramLoaded,
    ProgramUnload,
    RunTimeFlag,
    RunTimeReply,
    RunTimeRequest,
    UnloadFlag,
    UpdateFlag,
)
from ofext.load import LoadAssembler, LoadBudget
from ofext.messages import encode
from ofext.multipart import PART_LIMIT
from oko.errors import BadMapAccess, KernelError, LimitExceeded
from oko.flow.match import PROGRAM_IDS
from oko.kernel.maps import Map
from oko.kernel.program import measures_run_time
from oko.openflow.map_page import map_page, read_element
from oko.openflow.picture import picture
from oko.switch.bridge import Bridge
from oko.switch.schema import schema
from oko.wire.match import write_match
from oko.wire.refusal import refused
from verifier.program import MapSpec, MapType

_ARRAYS: Final = frozenset({MapType.ARRAY, MapType.PERCPU_ARRAY})
EVENT_BACKLOG: Final = 1 << 20
"""Bytes that wait for a slow reader before its events are lost."""

LOOKUP_LIMIT: Final = 1 << 20
"""Bytes of entries that a lookup is answered with: a request may name one key many times."""
DUMP_LIMIT: Final = 16 << 20
"""Bytes of entries of a map that is dumped whole."""

_NO_ELEMENTS: Final = "is a ring buffer, which has no elements: subscribe to its events"
_REFUSED: Final = frozenset({errno.EEXIST, errno.ENOENT, errno.E2BIG, errno.ENOSPC, errno.EINVAL})
"""What the kernel says of elements that a map does not take, or does not give away."""


class ExtensionServer:
    """Answers the extension's requests of one connection, and keeps what belongs to it: the load that is in progress,
    and the subscriptions."""

    def __init__(
        self,
        bridge: Bridge,
        send: Callable[[bytes], None],
        backlog: Callable[[], int],
        loads: LoadBudget | None,
        attachment: Callable[[], AttachmentReply] = lambda: AttachmentReply(0),
    ) -> None:
        """`send` puts bytes behind those that are to be sent already, `backlog` says how many those are. `loads` is
        what the loads of all connections share. `attachment` says what is to be said of that to Open vSwitch."""
        self._attachment = attachment
        self._bridge = bridge
        self._send = send
        self._backlog = backlog
        self._loads = LoadAssembler(bridge.limits.object_bytes, loads)
        self._subscriptions: dict[tuple[int, str], _Subscription] = {}

    def close(self) -> None:
        """The connection has ended: its load and its subscriptions end, too. Closing twice is harmless."""
        self._loads.give_up()
        for subscription in self._subscriptions.values():
            subscription.leave()
        self._subscriptions.clear()

    def command(self, message: Command) -> Iterator[Command]:
        """Do what a command asks for; the answer, if it has one. Raises OkoError."""
        match message:
            case ProgramLoad():
                yield from self._load(message)
            case ProgramUnload():
                _require_known(message.flags, UnloadFlag)
                self._bridge.unload(message.program, force=bool(message.flags & UnloadFlag.FORCE))
                self._bridge.events.refresh(message.program)
            case MapUpdate():
                self._update(message)
            case MapDelete():
                self._delete(message)
            case EventSubscribe():
                self._subscribe(message.program, message.map)
            case EventUnsubscribe():
                self._unsubscribe(message.program, message.map)
            case FilterRulesShow():
                pass  # they are shown to everybody: no flow of the bridge is anybody else's
            case _:
                raise refused("bad-request/bad-exp-type", f"{type(message).__name__} is not for a switch to do")

    def report(self, body: ListRequest) -> ListReply:
        """The answer to a list or dump. Raises OkoError."""
        match body:
            case ProgramListRequest():
                return ProgramListReply(tuple(self._programs()))
            case MapListRequest():
                return MapListReply(tuple(self._maps(body.program)))
            case MapDumpRequest():
                return self._dump(body)
            case MapLookupRequest():
                return self._lookup(body)
            case EventListRequest():
                return EventListReply(tuple(self._subscribed()))
            case RunTimeRequest():
                return self._run_time()
            case DropListRequest():
                return DropListReply(tuple(self._drops()))
            case ObserverListRequest():
                observers = self._bridge.tables.observers
                return ObserverListReply(tuple(ObserverEntry(o.table, write_match(o.match)) for o in observers))
            case AttachmentRequest():
                return self._attachment()
            case ImageRequest():
                return picture(self._bridge, body)

    def _programs(self) -> Iterator[ProgramEntry]:
        for loaded, runs, matches in self._bridge.programs.counted():
            program = loaded.filter.program
            yield ProgramEntry(
                loaded.filter.id,
                len(program.instructions),
                len(program.maps),
                runs,
                matches,
                bytes.fromhex(program.digest),
                loaded.name,
            )

    def _maps(self, program_id: int) -> Iterator[MapDescription]:
        programs = self._bridge.programs
        chosen = [programs.get(program_id)] if program_id else [loaded for loaded, _, _ in programs.counted()]
        for loaded in chosen:
            program = loaded.filter.program
            for spec in program.maps:
                yield MapDescription(
                    loaded.filter.id,
                    spec.type,
                    spec.key_size,
                    spec.value_size,
                    spec.max_entries,
                    spec.name,
                    json.dumps(schema(program.btf, spec.key_type)) if program.btf and spec.key_type else "",
                    json.dumps(schema(program.btf, spec.value_type)) if program.btf and spec.value_type else "",
                )

    def _load(self, chunk: ProgramLoad) -> Iterator[ProgramLoaded]:
        """Take a chunk of a program, and with the last one load it."""
        if chunk.program not in PROGRAM_IDS:
            raise LimitExceeded("the highest program id", chunk.program, PROGRAM_IDS[-1], advice="ids begin at 1")
        _require_known(chunk.flags, LoadFlag)
        whole = self._loads.feed(chunk)
        if whole is None:
            return
        loaded = self._bridge.load(
            whole.program,
            whole.name,
            whole.elf,
            fresh_maps=bool(whole.flags & LoadFlag.FRESH_MAPS),
            verify_only=bool(whole.flags & LoadFlag.VERIFY_ONLY),
        )
        self._bridge.events.refresh(whole.program)
        program = loaded.filter.program
        yield ProgramLoaded(whole.program, whole.flags, len(program.instructions), len(program.maps), loaded.name)

    def _update(self, message: MapUpdate) -> None:
        self._elements(message.program, message.map)
        with _in_the_words_of_the_extension():
            self._bridge.programs.update(message.program, message.map, message.entries, message.flags)

    def _delete(self, message: MapDelete) -> None:
        spec, target = self._elements(message.program, message.map)
        where = f"map {spec.name} of program {message.program}"
        if message.flags not in (UpdateFlag.ANY, UpdateFlag.PRESENT):
            raise BadMapAccess(f"flags {message.flags} of a delete: 0 any keys, 2 only keys that are there")
        if spec.frozen or spec.type in _ARRAYS:
            raise BadMapAccess(f"{where} is an array, whose elements stay: write them anew")
        for (key,) in message.keys:
            _require_key(spec, key)
        for (key,) in message.keys:
            with _in_the_words_of_the_extension():
                found = target.delete(key)
            if not found and message.flags == UpdateFlag.PRESENT:
                raise BadMapAccess(f"{where} has no key {key.hex()}")

    def _dump(self, body: MapDumpRequest) -> MapDumpReply:
        _, source = self._elements(body.program, body.map)
        if body.limit or body.cursor:
            entries, cursor = map_page(source, body.limit, body.cursor)
            return MapDumpReply(body.program, body.map, cursor, entries)
        items = ((key, b"".join(values)) for key, values in source.items_percpu()) if source.per_cpu else source.items()
        what = f"bytes of map {body.map} of program {body.program}, dumped whole"
        entries = _at_most(DUMP_LIMIT, items, what, advice="ask for pages, with a limit and a cursor")
        return MapDumpReply(body.program, body.map, b"", entries)

    def _lookup(self, body: MapLookupRequest) -> MapLookupReply:
        spec, source = self._elements(body.program, body.map)
        for (key,) in body.keys:
            _require_key(spec, key)
        found = ((key, value) for (key,) in body.keys if (value := read_element(source, key)) is not None)
        what = f"bytes of the answer to a lookup in map {body.map} of program {body.program}"
        with _in_the_words_of_the_extension():
            entries = _at_most(LOOKUP_LIMIT, found, what, advice="ask for fewer keys at a time")
        return MapLookupReply(body.program, body.map, entries)

    def _elements(self, program: int, name: str) -> tuple[MapSpec, Map]:
        """A map that has elements. Raises UnknownProgram, UnknownMap, BadMapAccess."""
        spec, found = self._bridge.programs.map(program, name)
        if spec.type is MapType.RINGBUF:
            raise BadMapAccess(f"map {name} of program {program} {_NO_ELEMENTS}")
        return spec, found

    def _subscribe(self, program: int, name: str) -> None:
        key = program, name
        if key in self._subscriptions:
            return
        subscription = _Subscription(program, name)

        def hear(record: bytes | None) -> None:
            if record is None:
                del self._subscriptions[key]
                self._send(encode(subscription.ended()))
            elif self._backlog() > EVENT_BACKLOG:
                subscription.lost += 1
            else:
                self._send(encode(subscription.event(record)))

        subscription.leave = self._bridge.events.listen(program, name, hear)
        self._subscriptions[key] = subscription

    def _unsubscribe(self, program: int, name: str) -> None:
        subscription = self._subscriptions.pop((program, name), None)
        if subscription is None:
            raise BadMapAccess(f"map {name} of program {program}: this connection has not subscribed to it")
        subscription.leave()

    def _subscribed(self) -> Iterator[EventEntry]:
        for (program, name), subscription in sorted(self._subscriptions.items()):
            yield EventEntry(program, subscription.sent, subscription.lost, name)

    def _run_time(self) -> RunTimeReply:
        packets, run_time = self._bridge.run_time()
        return RunTimeReply(RunTimeFlag.MEASURING if measures_run_time() else RunTimeFlag(0), packets, run_time)

    def _drops(self) -> Iterator[DropEntry]:
        for reason, count in self._bridge.drops().items():
            yield DropEntry(count.packets, count.bytes, reason.name.lower().replace("_", "-"))
        yield DropEntry(self._bridge.fallthrough(), 0, "no-pipeline")
        yield DropEntry(self._bridge.lost_packet_ins(), 0, "packet-in")


@dataclass(slots=True)
class _Subscription:
    """What a connection has heard of one ring buffer. `leave` ends it."""

    program: int
    map: str
    sent: int = 0
    lost: int = 0
    leave: Callable[[], None] = lambda: None

    def event(self, record: bytes) -> Event:
        self.sent += 1
        return Event(self.program, 0, time.time_ns(), self.lost, len(record), self.map, record[:PART_LIMIT])

    def ended(self) -> Event:
        return Event(self.program, EventFlag.ENDED, time.time_ns(), self.lost, 0, self.map, b"")


@contextlib.contextmanager
def _in_the_words_of_the_extension() -> Iterator[None]:
    """What the kernel says of an element becomes BadMapAccess."""
    try:
        yield
    except KernelError as error:
        if error.errno not in _REFUSED:
            raise
        raise BadMapAccess(str(error)) from None


def _at_most(limit: int, items: Iterable[tuple[bytes, bytes]], what: str, *, advice: str) -> tuple[MapEntry, ...]:
    """The entries of a reply. Raises LimitExceeded once keys and values take more than `limit` bytes."""
    entries: list[MapEntry] = []
    used = 0
    for key, value in items:
        used += len(key) + len(value)
        if used > limit:
            raise LimitExceeded(what, used, limit, advice=advice)
        entries.append(MapEntry(key, value))
    return tuple(entries)


def _require_key(spec: MapSpec, key: bytes) -> None:
    """Raises BadMapAccess for a key of another size."""
    if len(key) != spec.key_size:
        raise BadMapAccess(f"map {spec.name} has keys of {spec.key_size} bytes, not {len(key)}")


def _require_known(flags: int, known: type[LoadFlag] | type[UnloadFlag]) -> None:
    """Raises ProtocolError for flags that are reserved."""
    reserved = flags & ~sum(known)
    if reserved:
        raise refused("bad-request/bad-packet", f"flags {reserved:#x} are reserved: leave them 0")
