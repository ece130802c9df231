"""The run directory: how tools find a bridge by its name, and what outlives its okod.

For a bridge NAME it holds ``NAME.mgmt``, the socket; ``NAME.pid``, locked by the okod that runs; and ``NAME.json``,
what it takes to remove the bridge when that okod is gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from oko.errors import BridgeError

DEFAULT: Final = Path("/run/oko")
ATTACHED: Final = ".attached"
"""Behind the path of a bridge's state: the file that says what was changed of Open vSwitch."""
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,31}")
_VERSION: Final = 3


@dataclass(frozen=True, slots=True)
class PortRecord:
    """A port as written down: `offloads` is what its peer's offloads were, as `oko.kernel.offloads` saves them."""

    name: str
    number: int
    offloads: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class LocalRecord:
    """The veth pair of a LOCAL port: the name of the end that is the port, and the inode of its network namespace."""

    port: str
    namespace: int


@dataclass(frozen=True, slots=True)
class BridgeRecord:
    """What removing a bridge takes: where its pins and its state are, what to restore on its ports, what to delete."""

    pins: str
    state: str
    ports: tuple[PortRecord, ...]
    local: LocalRecord | None = None

    @property
    def is_attached(self) -> bool:
        """Whether it is a bridge of Open vSwitch's, which is to be detached from and not to be removed."""
        return Path(f"{self.state}{ATTACHED}").exists()


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """Paths of one run directory."""

    path: Path

    @staticmethod
    def of(path: str | None) -> RunDirectory:
        """The directory at `path`, else $OKO_RUNDIR, else /run/oko."""
        return RunDirectory(Path(path or os.environ.get("OKO_RUNDIR") or DEFAULT))

    def socket(self, bridge: str) -> Path:
        """Raises BridgeError for a name that no bridge can have."""
        return self._file(bridge, "mgmt")

    def bridges(self) -> list[str]:
        """The bridges that have a datapath, by name."""
        return sorted(path.stem for path in self.path.glob("*.json"))

    def pid(self, bridge: str) -> int | None:
        """The process id of the okod that runs the bridge, None when none does."""
        try:
            with self._file(bridge, "pid").open() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return int(file.read() or 0) or None
        except FileNotFoundError:
            pass
        return None

    @contextlib.contextmanager
    def claim(self, bridge: str) -> Iterator[None]:
        """Be the only okod of `bridge` while the context lasts. Raises BridgeError when another is."""
        path = self._file(bridge, "pid")
        with self._lock(bridge, path) as file:
            file.truncate(0)
            file.write(f"{os.getpid()}\n")
            file.flush()
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def _lock(self, bridge: str, path: Path) -> TextIO:
        """The file at `path`, locked. Raises BridgeError."""
        while True:
            try:
                self.path.mkdir(mode=0o755, parents=True, exist_ok=True)
                file = path.open("a+")
            except OSError as error:
                message = f"the run directory {self.path}: {error.strerror}: name another with --rundir"
                raise BridgeError(message) from None
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # The okod before may have removed the file in between: then others would lock another one.
                if _is_at(file, path):
                    return file
                file.close()
            except BlockingIOError:
                file.close()
                # Without a process id it is `pid` that holds it, for a moment, or an okod that will write its own.
                if pid := self.pid(bridge):
                    raise BridgeError(f"bridge {bridge}: an okod runs it already (process {pid})") from None

    def read(self, bridge: str) -> BridgeRecord:
        """What was written down of a bridge. Raises BridgeError when there is none, or it cannot be read."""
        path = self._file(bridge, "json")
        try:
            data = json.loads(path.read_bytes())
            if data["version"] != _VERSION:
                raise BridgeError(f"{path}: version {data['version']}, this Oko writes {_VERSION}")
            local = LocalRecord(**data["local"]) if data["local"] else None
            return BridgeRecord(data["pins"], data["state"], tuple(PortRecord(**port) for port in data["ports"]), local)
        except FileNotFoundError:
            raise BridgeError(f"bridge {bridge} does not exist (no {path}): see 'oko bridge list'") from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BridgeError(f"{path} cannot be read: {error}: remove it if the bridge is gone") from None

    def write(self, bridge: str, record: BridgeRecord) -> None:
        """Write down what removing the bridge takes, whole or not at all. Raises BridgeError."""
        path = self._file(bridge, "json")
        draft = path.with_suffix(".new")
        try:
            draft.write_text(json.dumps({"version": _VERSION, **asdict(record)}, indent=1))
            draft.rename(path)
        except OSError as error:
            raise BridgeError(f"{path} cannot be written: {error.strerror}") from None

    def forget(self, bridge: str) -> None:
        """Remove what was written down of a bridge."""
        for suffix in ("json", "mgmt"):
            self._file(bridge, suffix).unlink(missing_ok=True)

    def _file(self, bridge: str, suffix: str) -> Path:
        if not _NAME.fullmatch(bridge):
            raise BridgeError(f"{bridge!r} is no name for a bridge: letters, digits, _ and -, at most 32")
        return self.path / f"{bridge}.{suffix}"


def _is_at(file: TextIO, path: Path) -> bool:
    """Whether an open file still has this path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
