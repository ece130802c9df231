"""`Session`: one OpenFlow connection. Takes messages as bytes and answers as bytes; knows no sockets.

OpenFlow leaves the order of messages between barriers to the switch; here they are done in order, and flow_mods that
arrive together are compiled together.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from typing import Final

import oko
from ofext.answers import extension_error, refusal
from ofext.constants import MULTIPART_MORE, VERSION, Capability, PortState, Role
from ofext.errors import BY_NAME
from ofext.extension import (
    DropEntry,
    DropListReply,
    DropListRequest,
    LoadFlag,
    MapDescription,
    MapDumpReply,
    MapDumpRequest,
    MapEntry,
    MapListReply,
    MapListRequest,
    MapUpdate,
    ProgramEntry,
    ProgramListReply,
    ProgramListRequest,
    ProgramLoad,
    ProgramLoaded,
    ProgramUnload,
    UnloadFlag,
)
from ofext.load import LoadAssembler
from ofext.messages import (
    BarrierReply,
    BarrierRequest,
    EchoReply,
    EchoRequest,
    Error,
    Experimenter,
    ExperimenterError,
    FeaturesReply,
    FeaturesRequest,
    FlowMod,
    GetConfigReply,
    GetConfigRequest,
    Hello,
    Message,
    RoleReply,
    RoleRequest,
    SetConfig,
    decode,
    encode,
    header,
)
from ofext.multipart import (
    Aggregate,
    AggregateRequest,
    Desc,
    DescRequest,
    FlowStats,
    FlowStatsReply,
    FlowStatsRequest,
    MultipartReply,
    MultipartRequest,
    Port,
    PortDescReply,
    PortDescRequest,
    ReplyBody,
    RequestBody,
    TableFeaturesReply,
    TableFeaturesRequest,
    TableStats,
    TableStatsReply,
    TableStatsRequest,
    split,
)
from oko.compiler.counters import Drop
from oko.errors import (
    BadAction,
    BadFlowMod,
    BadInstruction,
    BadMapAccess,
    BadMatch,
    FlowError,
    KernelError,
    KernelRejected,
    LimitExceeded,
    MapShapeChanged,
    NotReadable,
    OkoError,
    PortError,
    ProgramInUse,
    ProtocolError,
    Rejected,
    UnknownMap,
    UnknownProgram,
)
from oko.flow.match import PROGRAM_IDS
from oko.flow.rule import Command
from oko.flow.rule import FlowMod as Selection
from oko.switch.bridge import Bridge
from oko.switch.schema import schema
from oko.switch.wire import read_flow_mod, table_features, write_instructions, write_match

_NS: Final = 1_000_000_000
_LARGEST_VALUE: Final = 56 * 1024

_REASONS: Final[dict[type[FlowError], str]] = {
    BadMatch: "bad-match",
    BadAction: "bad-action",
    BadInstruction: "bad-instruction",
    BadFlowMod: "flow-mod-failed",
}
"""The error type that a class of errors has on the wire; its `reason` is the code's name."""

_EXTENSION: Final[dict[type[OkoError], str]] = {
    NotReadable: "program-not-readable",
    Rejected: "program-rejected",
    UnknownProgram: "unknown-program",
    ProgramInUse: "program-in-use",
    UnknownMap: "unknown-map",
    BadMapAccess: "bad-map-access",
    MapShapeChanged: "map-shape-changed",
    LimitExceeded: "limit-exceeded",
    PortError: "port",
    KernelError: "kernel",
}
"""The extension's error for what OpenFlow has no words for, most derived class first."""


def answer_to(error: OkoError, request: bytes) -> Error | ExperimenterError:
    """The error message that tells the peer about `error`."""
    if isinstance(error, ProtocolError):
        return refusal(error, request)
    for kind, prefix in _REASONS.items():
        if isinstance(error, kind):
            known = BY_NAME.get(f"{prefix}/{error.reason}", BY_NAME["flow-mod-failed/unknown"])
            return refusal(ProtocolError(str(error), error_type=known.type, error_code=known.code), request)
    if isinstance(error, KernelRejected):
        return extension_error(error.code, str(error), error.details)
    for other, name in _EXTENSION.items():
        if isinstance(error, other):
            message = f"{error.code}: {error}" if isinstance(error, Rejected) else str(error)
            return extension_error(name, message, error.details)
    return extension_error("kernel", str(error), error.details)


class Session:
    """The switch's side of one connection. Feed it complete messages; it yields what to send."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._loads = LoadAssembler()
        self._miss_send_len = 128
        self.failed = False
        """Set when the two sides speak no common version: send what was answered and close."""

    def greeting(self) -> bytes:
        """The hello that opens the connection."""
        return encode(Hello())

    def receive(self, requests: Iterable[bytes]) -> Iterator[bytes]:
        """The answers to messages that arrived together, in order."""
        waiting: list[tuple[bytes, FlowMod, int]] = []
        for request in requests:
            if self.failed:
                break
            try:
                message, xid = decode(request)
            except (ProtocolError, LimitExceeded) as error:
                yield from self._change(waiting)
                yield encode(answer_to(error, request), header(request).xid)
                continue
            if isinstance(message, FlowMod):
                waiting.append((request, message, xid))
                continue
            yield from self._change(waiting)
            try:
                yield from (encode(answer, xid) for answer in self._answer(message))
            except OkoError as error:
                yield encode(answer_to(error, request), xid)
        yield from self._change(waiting)

    def _change(self, waiting: list[tuple[bytes, FlowMod, int]]) -> Iterator[bytes]:
        """Carry out the flow_mods that wait, and forget them."""
        mods, senders = [], []
        for request, message, xid in waiting:
            try:
                mods.append(read_flow_mod(message))
                senders.append((request, xid))
            except OkoError as error:
                yield encode(answer_to(error, request), xid)
        waiting.clear()
        for (request, xid), failure in zip(senders, self._bridge.change(mods) if mods else (), strict=True):
            if failure is not None:
                yield encode(answer_to(failure, request), xid)

    def _answer(self, message: Message) -> Iterator[Message]:
        match message:
            case Hello():
                if VERSION not in message.versions:
                    self.failed = True
                    yield Error(0, 0, b"this switch speaks OpenFlow 1.3 only")
            case EchoRequest():
                yield EchoReply(message.data)
            case BarrierRequest():
                yield BarrierReply()
            case FeaturesRequest():
                yield FeaturesReply(self._datapath_id, capabilities=Capability.FLOW_STATS | Capability.TABLE_STATS)
            case GetConfigRequest():
                yield GetConfigReply(0, self._miss_send_len)
            case SetConfig():
                self._miss_send_len = message.miss_send_len
            case RoleRequest():
                yield self._role(message)
            case MultipartRequest():
                yield from self._multipart(message)
            case ProgramLoad():
                yield from self._load(message)
            case ProgramUnload():
                _require_known(message.flags, UnloadFlag)
                self._bridge.unload(message.program, force=bool(message.flags & UnloadFlag.FORCE))
            case MapUpdate():
                self._bridge.update(message.program, message.map, message.entries, message.flags)
            case EchoReply() | Error() | ExperimenterError():
                pass
            case Experimenter():
                raise _unsupported("bad-request/bad-experimenter", f"experimenter {message.experimenter:#x}")
            case _:
                raise _unsupported("bad-request/bad-type", f"a message {type(message).__name__}")

    @property
    def _datapath_id(self) -> int:
        """The hardware address of the first port, as OpenFlow 1.3.5 (section 7.3.1) suggests for the low 48 bits."""
        return int.from_bytes(self._bridge.ports[0].mac, "big") if self._bridge.ports else 0

    def _role(self, message: RoleRequest) -> RoleReply:
        if message.role not in (Role.NOCHANGE, Role.EQUAL):
            raise _unsupported("role-request-failed/unsup", "a role other than equal")
        return RoleReply(Role.EQUAL, message.generation_id)

    def _load(self, chunk: ProgramLoad) -> Iterator[Message]:
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

    def _multipart(self, request: MultipartRequest) -> Iterator[MultipartReply]:
        if request.flags & MULTIPART_MORE:
            raise _unsupported("bad-request/multipart-buffer-overflow", "a multipart request in several parts")
        yield from split(self._report(request.body))

    def _report(self, body: RequestBody) -> ReplyBody:
        match body:
            case DescRequest():
                return Desc("Oko", "XDP", oko.__version__, "", self._bridge.name)
            case FlowStatsRequest():
                return FlowStatsReply(tuple(self._flows(body)))
            case AggregateRequest():
                flows = list(self._flows(body))
                return Aggregate(
                    sum(flow.packet_count for flow in flows), sum(flow.byte_count for flow in flows), len(flows)
                )
            case TableStatsRequest():
                return TableStatsReply((self._table(),))
            case TableFeaturesRequest(entries=()):
                return TableFeaturesReply((table_features(),))
            case TableFeaturesRequest():
                raise _unsupported("table-features-failed/eperm", "changing what a table can do")
            case PortDescRequest():
                return PortDescReply(tuple(self._ports()))
            case DropListRequest():
                return DropListReply(tuple(self._drops()))
            case ProgramListRequest():
                return ProgramListReply(tuple(self._programs()))
            case MapListRequest():
                return MapListReply(tuple(self._maps(body.program)))
            case MapDumpRequest():
                return self._dump(body)
            case _:
                raise _unsupported("bad-request/bad-multipart", "this multipart request")

    def _flows(self, body: FlowStatsRequest | AggregateRequest) -> Iterator[FlowStats]:
        wanted = FlowMod(
            cookie=body.cookie,
            cookie_mask=body.cookie_mask,
            table_id=body.table_id,
            command=Command.DELETE.value,
            out_port=body.out_port,
            out_group=body.out_group,
            match=body.match,
        )
        selection: Selection = read_flow_mod(wanted)
        now = time.monotonic_ns()
        for entry, count in self._bridge.select(selection):
            seconds, nanoseconds = divmod(now - entry.installed, _NS)
            rule = entry.rule
            yield FlowStats(
                table_id=rule.table,
                duration_sec=seconds,
                duration_nsec=nanoseconds,
                priority=rule.priority,
                idle_timeout=0,
                hard_timeout=0,
                flags=0,
                cookie=rule.cookie,
                packet_count=count.packets,
                byte_count=count.bytes,
                match=write_match(rule.match),
                instructions=write_instructions(rule),
            )

    def _table(self) -> TableStats:
        matched = sum(flow.packet_count for flow in self._flows(FlowStatsRequest()))
        missed = self._bridge.drops()[Drop.MISS].packets
        return TableStats(0, self._bridge.rules, matched + missed, matched)

    def _ports(self) -> Iterator[Port]:
        for port in self._bridge.ports:
            state = PortState(0) if self._bridge.is_live(port) else PortState.LINK_DOWN
            yield Port(port.number, port.mac, port.name, state=state)

    def _drops(self) -> Iterator[DropEntry]:
        for reason, count in self._bridge.drops().items():
            yield DropEntry(count.packets, count.bytes, reason.name.lower().replace("_", "-"))
        yield DropEntry(self._bridge.fallthrough(), 0, "no-pipeline")

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


def _require_known(flags: int, known: type[LoadFlag] | type[UnloadFlag]) -> None:
    """Raises ProtocolError for flags that are reserved (docs/openflow-extension.md)."""
    reserved = flags & ~sum(known)
    if reserved:
        bad = BY_NAME["bad-request/bad-packet"]
        message = f"flags {reserved:#x} are reserved: leave them 0"
        raise ProtocolError(message, error_type=bad.type, error_code=bad.code)


def _unsupported(name: str, what: str) -> ProtocolError:
    known = BY_NAME[name]
    return ProtocolError(f"{what} is not supported", error_type=known.type, error_code=known.code)
