"""`Endpoint`: where the controllers and tools of a bridge find it while Oko is attached.

With `Mode.PROXY` Oko stands in the bridge's place. The management socket ``BRIDGE.mgmt`` gets a second name, under
which Oko finds it, and a socket of Oko's takes the first one. A controller's target in OVSDB becomes a socket of Oko's:

    tcp:, ssl:, unix:       Open vSwitch connects to Oko, and Oko to the controller, as often as Open vSwitch does
    ptcp:, pssl:, punix:    Open vSwitch listens at a socket that Oko knows, and Oko where controllers come

With `Mode.LISTEN` nothing of this is touched, and Oko only listens beside.

What Open vSwitch's rules are for sockets of controllers (bridge_configure_remotes in bridge.c): they lie in its run
directory, those that it listens at are called ``BRIDGE.…``.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from oko.attached.ovsdb.description import OvsController
from oko.attached.ovsdb.jsonrpc import call
from oko.attached.ovsdb.replica import DATABASE
from oko.attached.ovsdb.transaction import Cell, change
from oko.attached.record import Record
from oko.attached.relay.relays import Connect, Protocols, Relays
from oko.errors import AttachError, SettingsError
from oko.openflow.endpoint import METHODS, Address
from oko.openflow.endpoint import Endpoint as Place
from oko.openflow.terms import Terms
from oko.openflow.tls import TlsFiles

log = logging.getLogger("oko")

_BESIDE: Final = ".ovs"
"""Behind the name of a management socket whose own name Oko has taken."""
_DRAFT: Final = ".new"
"""Behind it while a socket that is to have it, or the other name, is made."""
_LOOKED: Final = 0.1
"""Seconds between two looks at whose socket has the name."""
_EVERYWHERE: Final = "0.0.0.0"
"""Where Open vSwitch listens for controllers if no address is given."""
_UNIX, _PUNIX = "unix:", "punix:"
_PATIENCE: Final = 10.0
"""Seconds that a controller may take to accept a connection, with the handshake of TLS."""


class Mode(Enum):
    """Where controllers reach the bridge."""

    PROXY = "proxy"
    LISTEN = "listen"


@dataclass(frozen=True, slots=True)
class NameTaken:
    """The management socket `name` is Oko's; Open vSwitch's has the other name."""

    name: str

    @property
    def beside(self) -> Path:
        """Where Open vSwitch listens."""
        return Path(f"{self.name}{_BESIDE}")

    @property
    def draft(self) -> Path:
        """What is to take one of the two names."""
        return Path(f"{self.name}{_DRAFT}")

    def __str__(self) -> str:
        return f"the name of socket {self.name}"


@dataclass(frozen=True, slots=True)
class TargetTaken:
    """The target of the controller in row `uuid` of the database behind the socket `database` was `target`, and is
    `replacement`."""

    database: str
    uuid: str
    target: str
    replacement: str

    @property
    def cell(self) -> Cell:
        return Cell("Controller", "_uuid", ["uuid", self.uuid], "target")

    @property
    def path(self) -> Path:
        """The socket in its place."""
        return Path(self.replacement.partition(":")[2])

    def __str__(self) -> str:
        return f"controller {self.target}"


async def give_back_name(taken: NameTaken) -> None:
    """Let the management socket have its name again. Doing so twice is harmless."""
    name, beside = Path(taken.name), taken.beside
    taken.draft.unlink(missing_ok=True)
    if answers(beside) and not _is_one(name, beside):
        beside.rename(name)
        return
    # okod had begun to take the name, and rename(2) would leave both; or nobody listens there: Open vSwitch has ended,
    # or begun anew under its own name.
    beside.unlink(missing_ok=True)
    if not answers(name):
        name.unlink(missing_ok=True)


async def give_back_target(taken: TargetTaken) -> None:
    """Let the controller have its target again, unless somebody has given it another one, or it is gone. Raises
    AttachError without the database."""
    await change(Path(taken.database), taken.cell, taken.replacement, taken.target, wait=False)
    if not answers(taken.path):
        taken.path.unlink(missing_ok=True)


def answers(path: Path) -> bool:
    """Whether somebody listens at the socket."""
    with socket.socket(socket.AF_UNIX) as tried, suppress(OSError):
        tried.connect(str(path))
        return True
    return False


class Endpoint:
    """Of the bridge whose management socket is `management`, in the database behind the socket `database`.

    Controllers are served with these `rights`, over TLS with the files that Open vSwitch uses with them.

    An asynchronous context manager: what it takes is Oko's when it has been entered and, for controllers, when `follow`
    has been told of them. When the context ends nobody is served any more, and nothing is given back: that is what
    detaching does, by the record.
    """

    def __init__(
        self,
        mode: Mode,
        management: Path,
        database: Path,
        relays: Relays,
        record: Record,
        *,
        rights: Terms,
    ) -> None:
        self._mode = mode
        self._management = management
        self._database = database
        self._relays = relays
        self._record = record
        self._rights = rights
        self._taken = NameTaken(str(management))
        self._inode = (0, 0)
        self._servers: dict[str, asyncio.Server] = {}
        self._watch: asyncio.Task[None] | None = None

    @property
    def upstream(self) -> Path:
        """The socket at which Open vSwitch takes connections to the bridge."""
        return self._taken.beside if self._mode is Mode.PROXY else self._management

    async def __aenter__(self) -> Self:
        """Raises AttachError."""
        if self._mode is Mode.PROXY:
            self._record.add(self._taken)
            await self._take_name()
            self._watch = asyncio.get_running_loop().create_task(self._watch_name())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        for server in self._servers.values():
            server.close()
        self._servers.clear()

    async def listen(self, path: Path, terms: Terms) -> None:
        """Take peers at one more socket, for the user that okod runs as. Raises AttachError."""
        await self._serve(str(path), _bound(path), terms, self._to_switch)

    async def _to_switch(self, protocol: Protocols) -> Any:
        return await asyncio.get_running_loop().create_unix_connection(protocol, str(self.upstream))

    async def _serve(self, name: str, listener: socket.socket, terms: Terms, connect: Connect, **options: Any) -> None:
        try:
            self._servers[name] = await self._relays.listen(listener, terms, connect, **options)
        except BaseException:
            listener.close()
            raise

    # ---- the name of the management socket

    async def _take_name(self) -> None:
        """Whoever connects to the name reaches Oko from now on, and Open vSwitch under the other: there is no moment
        in which nobody has the name."""
        name, beside, draft = self._management, self._taken.beside, self._taken.draft
        try:
            draft.unlink(missing_ok=True)  # of an okod that was killed at it
            if not answers(name) and not answers(beside):
                raise AttachError(f"socket {name}: nobody listens: does ovs-vswitchd run, with this bridge?")
            if answers(name) and not _is_one(name, beside):
                # Open vSwitch's, which has begun anew if there is another beside it.
                os.link(name, draft)
                draft.rename(beside)
            listener = _bound(draft, like=beside)
            try:
                self._inode = _inode(draft)
                draft.rename(name)
            except OSError:
                listener.close()
                raise
        except OSError as error:
            raise AttachError(f"socket {name} cannot be taken: {error.strerror}: may okod write there?") from None
        finally:
            draft.unlink(missing_ok=True)
        if server := self._servers.pop(str(name), None):
            server.close()
        # Whoever may connect could do everything without Oko.
        terms = Terms(name.name, may_load=True, may_read=True)
        await self._serve(str(name), listener, terms, self._to_switch)

    async def _watch_name(self) -> None:
        """Take the name again when Open vSwitch has bound it anew, as it does when it starts."""
        while True:
            await asyncio.sleep(_LOOKED)
            with suppress(FileNotFoundError):  # Open vSwitch has ended, and takes the name with it.
                if _inode(self._management) == self._inode or not answers(self._management):
                    continue
                try:
                    await self._take_name()
                    log.info("socket %s: Open vSwitch has begun anew: its name is taken again", self._management)
                except AttachError as error:
                    log.warning("%s", error)

    # ---- the controllers

    async def follow(self, controllers: Iterable[OvsController]) -> None:
        """Take the controllers that the bridge has now, as far as they are not taken, and forget those that are gone.
        One that cannot be taken is left to Open vSwitch, which the log says. Raises AttachError."""
        if self._mode is not Mode.PROXY:
            return
        present = {controller.uuid: controller.target for controller in controllers}
        for taken in [each for each in self._record if isinstance(each, TargetTaken)]:
            if present.get(taken.uuid) not in (taken.target, taken.replacement):
                self._leave(taken)
        known = {each.uuid: each for each in self._record if isinstance(each, TargetTaken)}
        for uuid, target in present.items():
            taken = known.get(uuid) or TargetTaken(str(self._database), uuid, target, self._replacement(uuid, target))
            if taken.replacement in self._servers and target == taken.replacement:
                continue
            try:
                await self._take(taken, target)
            except SettingsError as error:
                log.warning(
                    "controller %s is left to Open vSwitch, and does not know of filter rules: %s", target, error
                )
                self._leave(taken)

    def _leave(self, taken: TargetTaken) -> None:
        if server := self._servers.pop(taken.replacement, None):
            server.close()
        self._record.remove(taken)
        if not answers(taken.path):
            taken.path.unlink(missing_ok=True)

    def _replacement(self, uuid: str, target: str) -> str:
        scheme = _PUNIX if _is_passive(target) else _UNIX
        return f"{scheme}{self._management.with_name(f'{self._management.stem}.oko-{uuid[:8]}')}"

    async def _take(self, taken: TargetTaken, target: str) -> None:
        """Raises SettingsError for a target that is not known here, or cannot be listened at; AttachError."""
        if _is_passive(taken.target):
            await self._take_passive(taken, target)
            return
        connect = await self._to_controller(taken.target)
        self._record.add(taken)
        if taken.replacement not in self._servers:
            listener = _bound(taken.path, like=self._management)
            await self._serve(taken.replacement, listener, self._terms(taken), connect, of_switch=True)
        await self._retarget(taken, target)

    async def _take_passive(self, taken: TargetTaken, target: str) -> None:
        place = self._place(taken.target)
        options: dict[str, Any] = {}
        if place.secure:
            files = await self._tls_files(taken.target)
            options = {"ssl": files.context(server=True), "ssl_handshake_timeout": _PATIENCE}
        self._record.add(taken)
        await self._retarget(taken, target)
        if taken.replacement in self._servers:
            return
        # Open vSwitch listens there no more.
        try:
            listener = _listening(place)
        except OSError as error:
            await change(self._database, taken.cell, taken.replacement, taken.target)
            raise SettingsError(f"{taken.target} cannot be listened at: {error.strerror}") from None

        async def connect(protocol: Protocols) -> Any:
            return await asyncio.get_running_loop().create_unix_connection(protocol, str(taken.path))

        await self._serve(taken.replacement, listener, self._terms(taken), connect, **options)

    async def _retarget(self, taken: TargetTaken, target: str) -> None:
        if target == taken.replacement:
            return
        if not await change(self._database, taken.cell, taken.target, taken.replacement):
            raise AttachError(f"controller {taken.target}: its row in OVSDB has changed meanwhile")

    def _terms(self, taken: TargetTaken) -> Terms:
        return replace(self._rights, peer=f"controller {taken.target}")

    def _place(self, target: str) -> Place:
        """Where a passive target is listened at. Raises SettingsError."""
        if target.startswith(_PUNIX):
            return Place("punix", self._in_run_directory(target.removeprefix(_PUNIX)))
        method, _, rest = target.partition(":")
        return Place.parse(target if ":" in rest else f"{method}:{rest}:{_EVERYWHERE}")

    async def _to_controller(self, target: str) -> Connect:
        """What connects to an active target. Raises SettingsError, AttachError."""
        if target.startswith(_UNIX):
            path = str(self._in_run_directory(target.removeprefix(_UNIX)))
            return lambda protocol: asyncio.get_running_loop().create_unix_connection(protocol, path)
        place = Place.parse(target)
        address = place.place
        assert isinstance(address, Address)
        context = (await self._tls_files(target)).context(server=False) if place.secure else None

        async def connect(protocol: Protocols) -> Any:
            async with asyncio.timeout(_PATIENCE):
                return await asyncio.get_running_loop().create_connection(
                    protocol, address.host, address.port, ssl=context
                )

        return connect

    def _in_run_directory(self, path: str) -> Path:
        """Open vSwitch takes paths of sockets from there."""
        return self._management.parent / path

    async def _tls_files(self, target: str) -> TlsFiles:
        """Those that the database names. Raises SettingsError when it names none, AttachError without it."""
        columns = ["private_key", "certificate", "ca_cert"]
        question = {"op": "select", "table": "SSL", "where": [], "columns": columns}
        (answer,) = await call(self._database, "transact", DATABASE, question)
        if not answer["rows"]:
            raise SettingsError(f"{target}: Open vSwitch has no files for TLS: see 'ovs-vsctl get-ssl'")
        return TlsFiles(*(Path(answer["rows"][0][name]) for name in columns))


def _is_passive(target: str) -> bool:
    """Whether Open vSwitch waits there for controllers."""
    scheme = target.partition(":")[0]
    return f"{scheme}:" == _PUNIX or (scheme in METHODS and METHODS[scheme].passive)


def _inode(path: Path) -> tuple[int, int]:
    """What tells a socket from every other. Raises FileNotFoundError."""
    found = path.lstat()
    return found.st_dev, found.st_ino


def _is_one(path: Path, other: Path) -> bool:
    """Whether both are names of one file."""
    try:
        return _inode(path) == _inode(other)
    except FileNotFoundError:
        return False


def _bound(path: Path, *, like: Path | None = None) -> socket.socket:
    """A socket that listens under this name, in the place of one that nobody listens at any more; for those who may use
    the socket `like` or, without one, for the user that okod runs as. Raises AttachError."""
    listener = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode) or answers(path):
                raise AttachError(f"{path} is there, and somebody else's: remove it")
            path.unlink()
        listener.bind(str(path))
        if like is not None:
            model = like.stat()
            os.chown(path, model.st_uid, model.st_gid)
            path.chmod(stat.S_IMODE(model.st_mode))
        listener.listen()  # before anybody can find it by another name
    except OSError as error:
        listener.close()
        raise AttachError(f"socket {path}: {error.strerror}") from None
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener


def _listening(place: Place) -> socket.socket:
    """A socket that is bound there. Raises OSError."""
    if isinstance(place.place, Path):
        try:
            return _bound(place.place)
        except AttachError as error:
            raise OSError(0, str(error)) from None
    return socket.create_server((place.place.host, place.place.port), family=_family(place.place.host))


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
