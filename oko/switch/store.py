"""`Store`: the directory of one bridge below the state directory, with what survives a kill and a reboot.

``programs/SHA256.o`` are the object files of the programs. ``snapshot-N`` is a bridge as it was when ``journal-N`` was
begun, and a journal has a record for each change that took effect, written before anybody is answered. There are
journals from the snapshot's number on without a gap: a new one is begun where a snapshot begins to be written, and once
that is whole and in its place, what came before it is removed. Without a snapshot the journals begin at 1.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from oko.errors import BridgeError, FlowError, ProtocolError, StateDamaged
from oko.flow.tables import Delta, Tables
from oko.switch.datapath import Count
from oko.switch.record_file import Contents, RecordFile, boot_id, mend, read
from oko.switch.saved import (
    Element,
    SavedEnd,
    SavedInherited,
    SavedProgram,
    SavedUnload,
    read_record,
    save_counts,
    save_groups,
    save_meters,
    save_observers,
    save_rules,
    write_record,
)
from oko.switch.state import State

log = logging.getLogger("oko")

DEFAULT: Final = Path("/var/lib/oko")
"""The state directory, where nothing else is asked for."""

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NUMBERED: Final = re.compile(r"(snapshot|journal)-([0-9]+)")
_AT_A_TIME: Final = 512
"""Rules of one record of a snapshot, which is one step: some ms."""
_LEAST: Final = 4 << 20
_MULTIPLE: Final = 2
"""Journals may have so many bytes, and be so many times as large as their snapshot."""

Steps = Generator[Callable[[], None] | None, None, None]
"""The steps of a snapshot; each gives what it has left to do that may be done in another thread."""


def remove(path: Path) -> None:
    """Remove what is on disk of a bridge; nothing there is fine. Raises BridgeError."""
    try:
        shutil.rmtree(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise BridgeError(f"{error.filename or path} cannot be removed: {error.strerror}") from None


class Store:
    """Reads what is there, then writes on from there: `read`, `begin`, and then changes. Not for several threads, and
    of one okod, which has claimed the bridge.

    After `begin` nothing that goes wrong with the disk fails a change: it is logged, what is on disk ends there, and
    `wants_snapshot` asks for a new beginning.
    """

    def __init__(self, path: Path) -> None:
        """`path` need not exist."""
        self.path = path
        self._boot = boot_id()
        self._programs: dict[int, SavedProgram] = {}
        self._objects: dict[bytes, bytes] = {}  # what could not be written of them, by digest
        self._last: tuple[Path, Contents] | None = None  # the journal that was read last
        self._number = 0  # of the newest journal
        self._journal: RecordFile | None = None
        self._before = 0  # bytes of the journals before the newest, as far as they are needed
        self._snapshot = 0  # bytes
        self._gap = False  # changes are missing between the journals, or between them and now
        self._aged = False  # what is on disk was written by another okod
        self._inherits = False  # as in `State`

    # ---- reading

    def read(self) -> State | None:
        """The bridge as the last okod left it; None when there is nothing. What is missing at the end is logged.

        Raises StateDamaged when not even that is certain, BridgeError when it cannot be read.
        """
        try:
            return self._read()
        except OSError as error:
            raise BridgeError(f"{error.filename or self.path} cannot be read: {error.strerror}") from None

    def _read(self) -> State | None:
        snapshots, journals = self._numbers("snapshot"), self._numbers("journal")
        if not snapshots and not journals:
            return None
        state, self._aged = State(), True
        first = snapshots[-1] if snapshots else 1
        if snapshots:
            path = self._file("snapshot", first)
            contents = read(path)
            last = self._replay(path, contents, state)
            if contents.torn or not isinstance(last, SavedEnd):
                raise StateDamaged(f"{path}: it ends too early")
            self._snapshot = contents.end
        needed = [number for number in journals if number >= first]
        self._number = first - 1
        for number in needed:
            path = self._file("journal", number)
            if number != self._number + 1:
                raise StateDamaged(f"{self._file('journal', self._number + 1)} is missing")
            contents = read(path)
            if self._last is not None and contents.boot and contents.before != self._last[1].end:
                raise StateDamaged(f"{self._last[0]}: it ends too early")
            self._replay(path, contents, state)
            self._last, self._number = (path, contents), number
            self._before += contents.end
            if contents.torn:
                log.warning("%s: the last change was not written whole: it is gone", path)
            if not contents.complete:
                log.warning("%s: later changes were not written down: they are gone", path)
                break
        try:
            state.require_whole()
        except StateDamaged as error:
            raise StateDamaged(f"{self.path}: {error}") from None
        state.objects = {saved.digest: self._read_object(saved.digest) for saved in state.programs.values()}
        self._programs = dict(state.programs)
        return state

    def _replay(self, path: Path, contents: Contents, state: State) -> Element | None:
        """Follow a file. Returns its last element."""
        element = None
        for record in contents.records:
            try:
                for element in read_record(record):
                    state.apply(element)
            except (StateDamaged, FlowError, ProtocolError) as error:
                raise StateDamaged(f"{path}: {error}") from None
        if contents.boot not in (b"", self._boot):
            state.begin_anew(time.monotonic_ns())
        return element

    def _read_object(self, digest: bytes) -> bytes:
        path = self._object(digest)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StateDamaged(f"{path}: {error.strerror}") from None
        if hashlib.sha256(data).digest() != digest:
            raise StateDamaged(f"{path}: its SHA-256 is not its name")
        return data

    def set_aside(self) -> Path:
        """Move everything to where only a human looks for it, and return the place. This store is good for nothing
        then. Raises BridgeError."""
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        place = self.path.with_name(f"{self.path.name}.bad-{stamp}")
        try:
            self.path.rename(place)
        except OSError as error:
            raise BridgeError(f"{self.path} cannot be moved: {error.strerror}") from None
        return place

    # ---- writing

    def begin(self, *, inherits: bool = False) -> None:
        """Write from now on, behind what was read; `inherits` is of the state as it is now. Raises BridgeError when
        this is no place to write; a full disk is only logged."""
        self._inherits = inherits
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.path / "programs").mkdir(mode=0o700, exist_ok=True)
            if self._last is not None:
                mend(*self._last)
            for number in self._numbers("journal"):
                if number > self._number:
                    self._file("journal", number).unlink()
            self._begin_journal()
            _sync_names(self.path)
        except OSError as error:
            if error.errno not in _FULL:
                where = error.filename or self.path
                raise BridgeError(
                    f"the state directory: {where}: {error.strerror}: name another with --statedir"
                ) from None
            self._fail(error)

    def change(self, delta: Delta, tables: Tables, counts: Mapping[int, Count]) -> None:
        """`delta` has taken effect and made the tables what they are. `counts` are those that are kept outside of the
        kernel's map, as far as they have changed."""
        elements: list[Element] = [save_counts(counts)] if counts else []
        if delta.added or delta.removed:
            elements.append(save_rules(delta.removed, delta.added))
        if self._inherits or not delta.rules_only:
            self._inherits = False
            elements += _rest(tables)
        self._append(elements)

    def count(self, counts: Mapping[int, Count]) -> None:
        """These counts, kept outside of the kernel's map, have changed."""
        if counts:
            self._append([save_counts(counts)])

    def load(self, program_id: int, slot: int, name: str, elf: bytes) -> None:
        """A program is loaded."""
        saved = SavedProgram(program_id, slot, hashlib.sha256(elf).digest(), name)
        self._programs[program_id] = saved
        self._objects[saved.digest] = elf
        if self._journal is not None:
            try:
                self._write_objects()
            except OSError as error:
                self._fail(error)
        self._append([saved])

    def unload(self, program_id: int) -> None:
        """A program is not loaded any more."""
        del self._programs[program_id]
        self._append([SavedUnload(program_id)])

    def _append(self, elements: Iterable[Element]) -> None:
        if self._journal is None:
            return
        record = write_record(elements)
        if not record:
            return
        try:
            self._journal.append(record)
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        """Nothing is written any more: say so in the last file."""
        log.error(
            "%s: %s: changes are not written down until there is a whole snapshot: they would be lost with okod",
            error.filename or self.path,
            error.strerror,
        )
        self._gap = True
        journal, self._journal = self._journal, None
        try:
            if journal is not None:
                journal.abandon()
            elif self._last is not None:
                mend(*self._last, complete=False)
        except OSError as again:
            log.error("%s: %s: nor can that be written down", self.path, again.strerror)
        if journal is not None:
            journal.close()

    def sync(self) -> None:
        """Let what was written reach the disk. May be called in another thread while changes are written."""
        journal = self._journal
        if journal is not None and journal.unsynced:
            try:
                journal.sync()
            except OSError as error:
                log.error("%s: %s", journal.path, error.strerror)

    def close(self, counts: Mapping[int, Count]) -> None:
        """Write these counts, as `count` does, and then no more."""
        self.count(counts)
        if self._journal is not None:
            self.sync()
            self._journal.close()
            self._journal = None

    # ---- snapshots

    @property
    def wants_snapshot(self) -> bool:
        """Whether it is time for one."""
        journals = self._before + (self._journal.size if self._journal is not None else 0)
        return self._gap or self._aged or journals > max(_LEAST, _MULTIPLE * self._snapshot)

    def snapshot(self, tables: Tables, counts: Mapping[int, Count]) -> Steps:
        """Write down everything as it is at the first step, in steps; changes may come in between. When it ends early
        because of an error, that is logged, and `wants_snapshot` still."""
        gap = self._gap
        draft = self.path / "snapshot.new"
        try:
            try:
                self._begin_journal()
                yield from self._write_snapshot(draft, tables, counts)
            finally:
                draft.unlink(missing_ok=True)
        except OSError as error:
            if not gap:
                log.error("%s: %s: the journal grows on", error.filename or self.path, error.strerror)
            if self._gap and self._journal is not None:
                # Behind a gap, a journal without a snapshot is good for nothing.
                self._journal.close()
                self._journal.path.unlink(missing_ok=True)
                self._journal, self._number = None, self._number - 1

    def _write_snapshot(self, draft: Path, tables: Tables, counts: Mapping[int, Count]) -> Steps:
        entries, number = list(tables), self._number
        rest: list[Element] = [*_rest(tables), *self._programs.values(), save_counts(counts)]
        rest += [*([SavedInherited()] if self._inherits else []), SavedEnd(len(entries))]
        self._write_objects()
        file = RecordFile(draft, self._boot)
        try:
            for start in range(0, len(entries), _AT_A_TIME):
                file.append(write_record([save_rules((), entries[start : start + _AT_A_TIME])]))
                yield None
            file.append(write_record(rest))
            yield from _elsewhere(file.sync)
        finally:
            file.close()
        draft.rename(self._file("snapshot", number))
        gap, self._gap = self._gap, self._journal is None
        # A program that was unloaded in between is in the snapshot. It needs its object file until the disk has it in
        # the journal that the program is unloaded: so one that goes from now on stays for this time.
        needed = self._needed
        yield from _elsewhere(self._sync_snapshot)
        needed |= self._needed
        self._aged, self._snapshot, self._before = False, file.size, 0
        for kind in ("snapshot", "journal"):
            for other in self._numbers(kind):
                if other < number:
                    self._file(kind, other).unlink()
        for path in (self.path / "programs").iterdir():
            if path not in needed:
                path.unlink()
        if gap and not self._gap:
            log.info("%s: everything is written down again", self.path)

    def _begin_journal(self) -> None:
        """Raises OSError; the journal before goes on then."""
        if self._journal is not None and self._journal.unsynced:
            # After a loss of power there must be no journal whose predecessor ends too early. `Upkeep` has synced a
            # moment ago, so there is little left.
            self._journal.sync()
        first = write_record([SavedInherited()]) if self._inherits else None
        journal = RecordFile(self._file("journal", self._number + 1), self._boot, self._end, first)
        self._number += 1
        if self._journal is not None:
            self._before += self._journal.size
            self._journal.close()
        self._journal = journal

    @property
    def _end(self) -> int:
        """Bytes of the newest journal."""
        if self._journal is not None:
            return self._journal.size
        return self._last[1].end if self._last is not None else 0

    def _write_objects(self) -> None:
        """Raises OSError."""
        for digest, elf in list(self._objects.items()):
            path = self._object(digest)
            draft = path.with_suffix(".new")
            try:
                with draft.open("wb") as file:
                    file.write(elf)
                    file.flush()
                    os.fsync(file.fileno())
                draft.rename(path)
                _sync_names(path.parent)
            finally:
                draft.unlink(missing_ok=True)
            del self._objects[digest]

    def _sync_snapshot(self) -> None:
        """Let the name of the snapshot reach the disk, and the journal that follows it. Raises OSError."""
        journal = self._journal
        if journal is not None and journal.unsynced:
            journal.sync()
        _sync_names(self.path)

    # ---- names

    @property
    def _needed(self) -> set[Path]:
        """The object files of the programs that are loaded."""
        return {self._object(saved.digest) for saved in self._programs.values()}

    def _numbers(self, kind: str) -> list[int]:
        """The numbers of the files of a kind, ascending."""
        found = [_NUMBERED.fullmatch(path.name) for path in self.path.iterdir()] if self.path.is_dir() else []
        return sorted(int(match[2]) for match in found if match is not None and match[1] == kind)

    def _file(self, kind: str, number: int) -> Path:
        return self.path / f"{kind}-{number}"

    def _object(self, digest: bytes) -> Path:
        return self.path / "programs" / f"{digest.hex()}.o"


def _sync_names(path: Path) -> None:
    """Let the names in a directory reach the disk. Raises OSError."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _elsewhere(work: Callable[[], None]) -> Steps:
    """A step that is done in another thread. Raises here the OSError that it raised there."""
    refused: list[OSError] = []

    def attempt() -> None:
        try:
            work()
        except OSError as error:
            refused.append(error)

    yield attempt
    if refused:
        raise refused[0]


def _rest(tables: Tables) -> list[Element]:
    return [save_groups(tables.groups), save_meters(tables.meters), save_observers(tables.observers)]
