"""`Disturbers`: a process of peers that change nothing of what a bridge does, and get in its way as they can."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import select
import signal
import socket
import struct
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event as Flag
from random import Random
from types import TracebackType
from typing import Final, Self, cast

from ofext.constants import GROUP_ALL, METER_ALL, NO_BUFFER, PORT_ANY, VERSION, Role
from ofext.extension import (
    DropListRequest,
    Event,
    EventSubscribe,
    ImageFormat,
    ImageRequest,
    LoadFlag,
    MapDelete,
    MapDumpReply,
    MapDumpRequest,
    MapEntry,
    MapKey,
    MapListRequest,
    MapLookupRequest,
    MapUpdate,
    ObserverListRequest,
    ProgramListRequest,
    ProgramLoaded,
    ProgramUnload,
    RunTimeRequest,
)
from ofext.framing import Splitter
from ofext.load import chunks
from ofext.messages import (
    FeaturesReply,
    FeaturesRequest,
    Hello,
    PacketOut,
    RoleRequest,
    decode,
    encode,
)
from ofext.multipart import (
    AggregateRequest,
    DescRequest,
    FlowStatsRequest,
    GroupDescRequest,
    GroupStatsRequest,
    MeterConfigRequest,
    MeterStatsRequest,
    MultipartRequest,
    PortDescRequest,
    PortStatsRequest,
    RequestBody,
    TableFeaturesRequest,
    TableStatsRequest,
)
from oko.cli.client import Client
from oko.errors import OkoError
from oko.flow.text import parse_actions, parse_flow_mod
from oko.wire.action import write_actions
from oko.wire.change import write_flow_mod
from perf.okod_process import OkodProcess
from perf.refusals import CHATTER, GENERATION, REFUSALS, SPARE, name_of
from perf.site import CONTROLLER, CROWD, FLAPPING, METRICS, Site
from perf.xdp import OBJECTS

_PATIENCE: Final = 20
"""Seconds until okod must have ended a connection that it is to end."""
_AT_A_TIME: Final = 5
"""Requests that are refused, one after the other."""
_POOL: Final = 6
"""Peers at most that stay for a while."""
_STAYS: Final = (2.0, 12.0)
"""Seconds that they stay."""
_PAUSE: Final = 0.1
"""Seconds at most between two disturbances."""
_REPORTS: Final[tuple[RequestBody, ...]] = (
    DescRequest(),
    FlowStatsRequest(),
    AggregateRequest(),
    TableStatsRequest(),
    TableFeaturesRequest(),
    PortDescRequest(),
    PortStatsRequest(PORT_ANY),
    GroupStatsRequest(GROUP_ALL),
    GroupDescRequest(),
    MeterStatsRequest(METER_ALL),
    MeterConfigRequest(METER_ALL),
    ProgramListRequest(),
    MapListRequest(0),
    DropListRequest(),
    ObserverListRequest(),
    RunTimeRequest(),
    ImageRequest(ImageFormat.TEXT),
    ImageRequest(ImageFormat.DOT),
)
_LONG: Final = (FlowStatsRequest(), ImageRequest(ImageFormat.TEXT), MapListRequest(0), TableFeaturesRequest())
"""Requests whose answers are long."""
_NO_LINGER: Final = struct.pack("=ii", 1, 0)  # struct linger: close with a reset

SAID: Final = {
    "garbage": "closing the connection: ",
    "crowd": "max_connections has been reached",
    "stranger": "refused: TLS",
    "silence": "no answer to an echo request",
}
"""What okod's log must say of some disturbances."""


@dataclass(slots=True)
class Report:
    """What the disturbers have done: `done` by kind, `refused` by what was tried; `excused` ended because okod was
    killed. `faults` are descriptions of what must not be."""

    done: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    excused: int = 0
    events: int = 0
    faults: list[str] = field(default_factory=list)


class Disturbers:
    """They disturb from `begin` until the context ends; `report` is theirs then."""

    def __init__(self, site: Site, seed: int) -> None:
        self.report = Report()
        self._site = site
        self._seed = seed
        context = multiprocessing.get_context("fork")
        self._ended = context.Event()
        self._life = context.Value("Q", 1)  # even while okod runs: they stay away while it does not
        self._mine, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=_run, args=(site, seed, self._ended, self._life, theirs))
        self._theirs = theirs

    def __enter__(self) -> Self:
        self._process.start()
        self._theirs.close()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._ended.set()
        try:
            self.report = self._mine.recv()
        except EOFError:
            self.report.faults.append("the disturbers ended with an error: see its message above")
        self._process.join()

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        """okod does not run while the context lasts, or does not have everything that they count on."""
        self._life.value += 1
        yield
        self._life.value += 1

    def begin(self) -> None:
        """okod runs."""
        self._life.value = 2


def _run(site: Site, seed: int, ended: Flag, life: Synchronized[int], result: Connection) -> None:
    """What the process does; it also ends when its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    with contextlib.ExitStack() as own:
        disturber = own.enter_context(_Disturber(site, Random(seed)))
        while not ended.is_set() and os.getppid() == parent:
            if life.value % 2:
                ended.wait(_PAUSE)
                continue
            disturber.disturb(_unchanged(life))
            ended.wait(disturber.random.random() * _PAUSE)
    result.send(disturber.report)


def _unchanged(life: Synchronized[int]) -> Callable[[], bool]:
    lived = life.value
    return lambda: life.value == lived


@dataclass(slots=True)
class _Stay:
    """A peer that stays until `until` (s, monotonic). `ended` says whether okod must have ended it by then, and
    `same_life` whether okod is still the one that it came to."""

    connection: socket.socket
    until: float
    ended: bool
    same_life: Callable[[], bool]


class _Disturber:
    """Does one thing after the other."""

    def __init__(self, site: Site, random: Random) -> None:
        self.random = random
        self.report = Report()
        self._site = site
        self._stays: list[_Stay] = []
        self._refusals: list[str] = []  # that are to be tried before any is tried again
        self._listener = socket.create_server(CONTROLLER)
        self._other = OkodProcess("soak2", site.directory, ["--port=p6=1", "--port=p7=2"])
        self._kinds: dict[str, tuple[int, Callable[[], None]]] = {
            "refusal": (30, self._refusal),
            "statistics": (12, self._statistics),
            "map": (10, self._map),
            "load": (6, self._load),
            "role": (5, self._role),
            "garbage": (5, self._garbage),
            "half a message": (5, self._half),
            "partial load": (4, self._partial_load),
            "slow reader": (3, self._slow_reader),
            "slow reader over TCP": (2, self._slow_reader_over_tcp),
            "subscriber": (4, self._subscriber),
            "visitor": (6, self._visitor),
            "crowd": (1, self._crowd),
            "TLS": (3, self._tls),
            "stranger": (2, self._stranger),
            "silence": (1, self._silence),
            "controller": (3, self._controller),
            "metrics": (3, self._metrics),
            "packet_out": (5, self._packet_out),
            "other bridge": (1, self._other_bridge),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for stay in self._stays:
            stay.connection.close()
        self._listener.close()
        self._other.kill()
        self._other.remove()

    def disturb(self, same_life: Callable[[], bool]) -> None:
        """Do something. `same_life` says whether okod has run all the while."""
        weights = [weight for weight, _ in self._kinds.values()]
        kind = self.random.choices(tuple(self._kinds), weights)[0]
        before = len(self._stays)
        try:
            self._kinds[kind][1]()
            self.report.done[kind] += 1
        except (OkoError, OSError) as error:
            if same_life():
                self.report.faults.append(f"{kind}: {type(error).__name__}: {error}")
            else:
                self.report.excused += 1
        for stay in self._stays[before:]:
            stay.same_life = same_life
        self._send_away()

    # ---- peers that stay

    def _stay(self, connection: socket.socket, *, ended: bool = False) -> None:
        seconds = _PATIENCE if ended else self.random.uniform(*_STAYS)
        self._stays.append(_Stay(connection, time.monotonic() + seconds, ended, lambda: True))

    def _send_away(self) -> None:
        """Those whose time is over, and the oldest when there are too many."""
        now = time.monotonic()
        for stay in list(self._stays):
            is_over = stay.ended and _has_ended(stay.connection)
            if is_over or now > stay.until or len(self._stays) > _POOL:
                if stay.ended and not is_over and now > stay.until and stay.same_life():
                    self.report.faults.append(f"a peer that reads nothing was kept for {_PATIENCE} s")
                self._stays.remove(stay)
                stay.connection.close()

    def _slow_reader(self) -> None:
        """Hears of everything and asks for much, and never reads. It may stay: it is of this host."""
        connection = self._site.unix()
        self._stay(connection)
        connection.sendall(encode(Hello(), 1))
        _flood(connection, self.random.choice((0, 50, 4000)))

    def _slow_reader_over_tcp(self) -> None:
        connection = self._site.plain()
        self._stay(connection, ended=True)
        connection.sendall(encode(Hello(), 1))
        _flood(connection, 20_000)

    def _partial_load(self) -> None:
        """Begins a load, and leaves or stays."""
        connection = self._site.unix()
        self._stay(connection)
        pieces = [encode(chunk, 2) for chunk in chunks(SPARE, "", _object("any"), size=1000)]
        connection.sendall(b"".join((encode(Hello(), 1), *pieces[: self.random.randrange(1, len(pieces))])))

    def _half(self) -> None:
        """Sends a part of a message, and leaves or stays."""
        connection = self.random.choice((self._site.plain, self._site.unix))()
        self._stay(connection)
        whole = encode(Hello(), 1) + encode(MultipartRequest(FlowStatsRequest()), 2)
        connection.sendall(whole[: self.random.randrange(1, len(whole))])

    # ---- peers that are served

    def _refusal(self) -> None:
        for _ in range(_AT_A_TIME):
            if not self._refusals:
                self._refusals = self.random.sample(tuple(REFUSALS), len(REFUSALS))
            self._refused(self._refusals.pop())

    def _refused(self, what: str) -> None:
        refusal = REFUSALS[what]
        connect = self._site.trusted if refusal.trusted else self._site.untrusted
        with connect() as client:
            # Only the last is to be refused: of those before it some are granted, and silently.
            answer = client.send_all(list(refusal.messages(self.random)))[-1]
        name = "nothing" if answer is None else name_of(answer)
        if name != refusal.error:
            raise OkoError(f"{what}: the switch answered {name}, not {refusal.error}: {answer}")
        self.report.refused[what] += 1

    def _statistics(self) -> None:
        with self.random.choice((self._site.trusted, self._site.untrusted))() as client:
            for _ in range(self.random.randint(1, 6)):
                client.report(self.random.choice(_REPORTS))

    def _map(self) -> None:
        random = self.random
        with self._site.trusted() as client:
            for _ in range(random.randint(1, 5)):
                name, keys = random.choice((("sources", 4096), ("notes", 64)))
                chosen = [_u32(random.randrange(keys)) for _ in range(random.randint(1, 30))]
                match random.randrange(4):
                    case 0:
                        entries = tuple(MapEntry(key, random.randbytes(8)) for key in dict.fromkeys(chosen))
                        client.command(MapUpdate(CHATTER, 0, name, entries))
                    case 1:
                        client.report(MapLookupRequest(CHATTER, name, tuple(MapKey(key) for key in chosen)))
                    case 2:
                        client.command(MapDelete(CHATTER, 0, "sources", tuple(MapKey(key) for key in chosen)))
                    case _:
                        cursor, limit = b"", random.randint(1, 200)
                        for _page in range(5):
                            request = MapDumpRequest(CHATTER, limit, name, cursor)
                            cursor = cast(MapDumpReply, client.report(request)).cursor
                            if not cursor:
                                break

    def _load(self) -> None:
        """Of the program that nothing depends on, or of one that comes and goes."""
        random = self.random
        with self._site.trusted() as client:
            flags = LoadFlag(0)
            if random.random() < 0.3:
                flags |= LoadFlag.FRESH_MAPS
            if random.random() < 0.2:
                flags |= LoadFlag.VERIFY_ONLY
            if random.random() < 0.5:
                _loaded(client, CHATTER, "chatter", flags, random)
            else:
                _loaded(client, SPARE, random.choice(("any", "chatter", "odd_source")), LoadFlag(0), random)
                client.command(ProgramUnload(SPARE))

    def _role(self) -> None:
        with self._site.untrusted() as client:
            for _ in range(self.random.randint(1, 4)):
                role = self.random.choice((Role.MASTER, Role.SLAVE, Role.EQUAL, Role.NOCHANGE))
                client.request(RoleRequest(role, GENERATION))
                client.report(DescRequest())

    def _subscriber(self) -> None:
        """Hears events for a moment. Between two rounds there are none."""
        splitter, until = Splitter(), time.monotonic() + 2
        with self._site.unix() as connection, contextlib.suppress(TimeoutError):
            connection.sendall(encode(Hello(), 1) + encode(EventSubscribe(CHATTER, "events"), 2))
            while (left := until - time.monotonic()) > 0:
                connection.settimeout(left)
                data = connection.recv(1 << 16)
                if not data:
                    raise OkoError("okod ended the connection of a subscriber")
                heard = [decode(message)[0] for message in splitter.feed(data)]
                self.report.events += sum(isinstance(message, Event) for message in heard)

    def _visitor(self) -> None:
        """Comes and goes without a word, or with one."""
        connection = self.random.choice((self._site.plain, self._site.unix))()
        with connection:
            if connection.family == socket.AF_INET and self.random.random() < 0.5:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
            if self.random.random() < 0.5:
                connection.sendall(encode(Hello(), 1) + encode(MultipartRequest(FlowStatsRequest()), 2))

    def _packet_out(self) -> None:
        """Through the port that comes and goes: while it is gone it is refused."""
        with self._site.untrusted() as client:
            message = PacketOut(NO_BUFFER, 2, write_actions(parse_actions(f"output:{FLAPPING}")), bytes(60))
            self.report.refused["packet_out to a port that is gone"] += sum(
                answer is not None for answer in client.send_all([message] * self.random.randint(1, 20))
            )

    def _tls(self) -> None:
        with self._site.secure() as connection:
            connection.sendall(encode(Hello(), 1) + encode(FeaturesRequest(), 2))
            splitter = Splitter()
            while data := connection.recv(1 << 16):
                if any(isinstance(decode(message)[0], FeaturesReply) for message in splitter.feed(data)):
                    return
        raise OkoError("okod ended a connection over TLS")

    def _controller(self) -> None:
        """Be the controller that okod looks for. Connections that waited for long are over already."""
        until = time.monotonic() + _PATIENCE
        while time.monotonic() < until:
            self._listener.settimeout(_PATIENCE)
            connection, _ = self._listener.accept()
            connection.settimeout(_PATIENCE)
            with contextlib.suppress(OkoError), Client(connection, "the switch") as client:
                client.report(DescRequest())
                return
            connection.close()
        raise OkoError(f"okod did not connect to its controller in {_PATIENCE} s")

    def _metrics(self) -> None:
        with urllib.request.urlopen(METRICS, timeout=_PATIENCE) as answer:
            if b"oko_" not in answer.read():
                raise OkoError("the metrics say nothing")

    # ---- peers that are sent away

    def _garbage(self) -> None:
        """What is no OpenFlow: the connection ends."""
        with self.random.choice((self._site.plain, self._site.unix))() as connection:
            greeting = encode(Hello(), 1) if self.random.random() < 0.5 else b""
            garbage = self.random.choice(
                (
                    bytes([VERSION, 0, 0, 4, 0, 0, 0, 1]),
                    bytes([VERSION, 2, 0, 7]) + self.random.randbytes(4),
                    # As a header, its length would be that of other bytes: shorter than a header.
                    bytes([VERSION, 10, 0, self.random.randrange(8)]) + self.random.randbytes(200),
                )
            )
            with contextlib.suppress(ConnectionError):
                connection.sendall(greeting + garbage)
            _await_end(connection)

    def _silence(self) -> None:
        """Does not answer an echo request."""
        with self._site.plain() as connection:
            connection.sendall(encode(Hello(), 1))
            _await_end(connection)

    def _stranger(self) -> None:
        """Has a certificate that nobody believes, or no TLS at all."""
        with contextlib.suppress(OSError), self._site.secure(name="stranger") as connection:
            connection.sendall(encode(Hello(), 1) + encode(FeaturesRequest(), 2))
            if connection.recv(1 << 16):
                raise OkoError("okod speaks to a stranger")

    def _crowd(self) -> None:
        """More peers than okod takes."""
        with contextlib.ExitStack() as own:
            crowd = [own.enter_context(self._site.plain()) for _ in range(CROWD + 8)]
            until = time.monotonic() + _PATIENCE
            while sum(map(_has_ended, crowd)) < 8:
                if time.monotonic() > until:
                    raise OkoError(f"okod takes more than {CROWD} connections")
                time.sleep(_PAUSE)

    # ---- another bridge

    def _other_bridge(self) -> None:
        """One that comes and goes, in good order or not."""
        other = self._other
        try:
            other.start()
            with Client.connect(other.name, other.rundir) as client:
                for text in ("in_port=1,actions=output:2", "in_port=2,actions=output:1", "udp,actions=flood"):
                    client.command(write_flow_mod(parse_flow_mod(text)))
                _loaded(client, 1, "any", LoadFlag(0), self.random)
        finally:
            if self.random.random() < 0.5:
                other.kill()
            else:
                other.stop()
            other.remove()
        for line in other.errors():
            self.report.faults.append(f"the okod of the other bridge said: {line}")


def _loaded(client: Client, program: int, name: str, flags: LoadFlag, random: Random) -> None:
    pieces = list(chunks(program, "", _object(name), flags, size=random.choice((500, 5000, 60_000))))
    answer = client.request(*pieces)
    if not isinstance(answer, ProgramLoaded):
        raise OkoError(f"okod answered a load with {type(answer).__name__}")


def _object(name: str) -> bytes:
    return (OBJECTS / f"{name}.o").read_bytes()


def _flood(connection: socket.socket, requests: int) -> None:
    """Send requests whose answers are long until the other side takes no more."""
    connection.setblocking(False)
    with contextlib.suppress(BlockingIOError, ConnectionError):
        for number in range(requests):
            connection.sendall(encode(MultipartRequest(_LONG[number % len(_LONG)]), 2 + number))


def _has_ended(connection: socket.socket) -> bool:
    """Whether the other side has ended the connection; nothing is read."""
    poll = select.poll()
    poll.register(connection, select.POLLRDHUP)
    return bool(poll.poll(0))


def _await_end(connection: socket.socket) -> None:
    """Read until the other side ends the connection. Raises TimeoutError when it does not."""
    connection.settimeout(_PATIENCE)
    with contextlib.suppress(ConnectionError):
        while connection.recv(1 << 16):
            pass


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")
