"""`ExtensionServer`: what a bridge answers to the requests of docs/openflow-extension.md."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from ofext.extension import (
    DropEntry,
    DropListReply,
    DropListRequest,
    ImageRequest,
    ListReply,
    ListRequest,
    LoadFlag,
    MapDescription,
    MapDumpReply,
    MapDumpRequest,
    MapEntry,
    MapListReply,
    MapListRequest,
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
    UnloadFlag,
)
from ofext.load import LoadAssembler
from oko.errors import BadMapAccess, LimitExceeded
from oko.flow.match import PROGRAM_IDS
from oko.switch.bridge import Bridge
from oko.switch.picture import picture
from oko.switch.refusal import refused
from oko.switch.schema import schema
from oko.switch.wire_match import write_match

_LARGEST_VALUE: Final = 56 * 1024


class ExtensionServer:
    """Answers the extension's requests of one connection, and keeps the load that is in progress on it."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._loads = LoadAssembler()

    def load(self, chunk: ProgramLoad) -> Iterator[ProgramLoaded]:
        """Take a chunk of a program, and with the last one load it. Raises OkoError."""
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
        program = loaded.filter.program
        yield ProgramLoaded(whole.program, whole.flags, len(program.instructions), len(program.maps), loaded.name)

    def unload(self, request: ProgramUnload) -> None:
        """Raises OkoError."""
        _require_known(request.flags, UnloadFlag)
        self._bridge.unload(request.program, force=bool(request.flags & UnloadFlag.FORCE))

    def update(self, request: MapUpdate) -> None:
        """Raises OkoError."""
        self._bridge.update(request.program, request.map, request.entries, request.flags)

    def report(self, body: ListRequest) -> ListReply:
        """The answer to a list or dump. Raises OkoError."""
        match body:
            case ProgramListRequest():
                return ProgramListReply(tuple(self._programs()))
            case MapListRequest():
                return MapListReply(tuple(self._maps(body.program)))
            case MapDumpRequest():
                return self._dump(body)
            case DropListRequest():
                return DropListReply(tuple(self._drops()))
            case ObserverListRequest():
                observers = self._bridge.tables.observers
                return ObserverListReply(tuple(ObserverEntry(o.table, write_match(o.match)) for o in observers))
            case ImageRequest():
                return picture(self._bridge, body)

    def _programs(self) -> Iterator[ProgramEntry]:
        for loaded, runs, matches in self._bridge.programs():
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
        chosen = (
            [self._bridge.program(program_id)] if program_id else [loaded for loaded, _, _ in self._bridge.programs()]
        )
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

    def _dump(self, body: MapDumpRequest) -> MapDumpReply:
        spec, source = self._bridge.map(body.program, body.map)
        if spec.value_size > _LARGEST_VALUE:
            raise BadMapAccess(f"map {spec.name}: its values of {spec.value_size} bytes do not fit into a message")
        if body.limit or body.cursor:
            raise BadMapAccess(f"map {spec.name}: dumps come whole for now: leave limit and cursor empty")
        if source.per_cpu:
            entries = tuple(MapEntry(key, b"".join(values)) for key, values in source.items_percpu())
        else:
            entries = tuple(MapEntry(key, value) for key, value in source.items())
        return MapDumpReply(body.program, body.map, b"", entries)

    def _drops(self) -> Iterator[DropEntry]:
        for reason, count in self._bridge.drops().items():
            yield DropEntry(count.packets, count.bytes, reason.name.lower().replace("_", "-"))
        yield DropEntry(self._bridge.fallthrough(), 0, "no-pipeline")
        yield DropEntry(self._bridge.lost_packet_ins(), 0, "packet-in")


def _require_known(flags: int, known: type[LoadFlag] | type[UnloadFlag]) -> None:
    """Raises ProtocolError for flags that are reserved."""
    reserved = flags & ~sum(known)
    if reserved:
        raise refused("bad-request/bad-packet", f"flags {reserved:#x} are reserved: leave them 0")
