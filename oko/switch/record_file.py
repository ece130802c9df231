"""`RecordFile`: a file that records are appended to, and what is read of one after whatever befell it.

A file begins with HEADER; a record is RECORD and then its bytes. The check sums are CRC-32 (IEEE 802.3, as zlib has
it), and the head of a record has its own: so a record that a kill cut off is told from one that was damaged, and only
what was cut off is ever taken for the end.
"""

from __future__ import annotations

import errno
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from oko.errors import StateDamaged

VERSION: Final = 1
MAGIC: Final = b"OKOSTATE"

HEADER: Final = struct.Struct(">8sH16sQIB")
"""MAGIC, VERSION, the boot (`boot_id`), the bytes of the file that this one continues, the CRC-32 of all these; and 1,
or 0 once a record could not be written, so that something is missing behind the last one. This last byte is overwritten
in place: a full disk takes that."""

RECORD: Final = struct.Struct(">III")
"""Length in bytes of the record, its CRC-32, and the CRC-32 of these two."""

_CHECKED: Final = HEADER.size - 5
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> bytes:
    """The kernel's name for the time since it booted, 16 bytes: clocks and pins are good for so long."""
    return bytes.fromhex(_BOOT_ID.read_text().strip().replace("-", ""))


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds: of which boot it is (empty when not even that was written), the bytes of the file `before` it,
    whether nothing is missing behind its records, their bytes, and `end`, where the last one ends; the file is `torn`
    when it has more bytes than that."""

    boot: bytes
    before: int
    complete: bool
    records: tuple[bytes, ...]
    end: int
    torn: bool


def read(path: Path) -> Contents:
    """Raises StateDamaged for anything but records, of which the last may be cut off; OSError."""
    data = path.read_bytes()
    head = data[: HEADER.size]
    if len(head) < HEADER.size or not any(data):
        # Cut off while it was begun: nothing can have followed.
        return Contents(b"", 0, True, (), 0, bool(data))
    magic, version, boot, before, check, complete = HEADER.unpack(head)
    if magic != MAGIC:
        raise StateDamaged(f"{path}: no file of Oko's")
    if zlib.crc32(head[:_CHECKED]) != check or complete not in (0, 1):
        raise StateDamaged(f"{path}: its header is damaged")
    if version != VERSION:
        raise StateDamaged(f"{path}: version {version}, this Oko reads {VERSION}")
    records = []
    offset = HEADER.size
    for start, stop in _extents(path, data):
        records.append(data[start:stop])
        offset = stop
    return Contents(boot, before, bool(complete), tuple(records), offset, offset < len(data))


def _extents(path: Path, data: bytes) -> Iterator[tuple[int, int]]:
    """Where the records of the file are, up to one that is cut off."""
    offset = HEADER.size
    while offset + RECORD.size <= len(data):
        length, check, head_check = RECORD.unpack_from(data, offset)
        if zlib.crc32(data[offset : offset + 8]) != head_check:
            # A file system may have made the file longer and have had no time for what was written there.
            if not any(data[offset:]):
                return
            raise StateDamaged(f"{path}: the record at byte {offset} is damaged")
        start, stop = offset + RECORD.size, offset + RECORD.size + length
        if stop > len(data):
            return
        if zlib.crc32(data[start:stop]) != check:
            raise StateDamaged(f"{path}: the record at byte {offset} is damaged")
        yield start, stop
        offset = stop


def mend(path: Path, contents: Contents, *, complete: bool = True) -> None:
    """Let the file end where its records do, and say whether nothing is missing behind them; all of it has reached the
    disk then. Raises OSError."""
    with path.open("r+b") as file:
        file.truncate(contents.end)
        if contents.end:
            _mark(file, complete)
        file.flush()
        os.fsync(file.fileno())


def _mark(file: BinaryIO, complete: bool) -> None:
    file.seek(HEADER.size - 1)
    file.write(bytes([complete]))


def _framed(record: bytes) -> bytes:
    head = RECORD.pack(len(record), zlib.crc32(record), 0)[:8]
    return head + zlib.crc32(head).to_bytes(4, "big") + record


class RecordFile:
    """A file to append to, from its beginning. Owns a descriptor."""

    def __init__(self, path: Path, boot: bytes, before: int = 0, first: bytes | None = None) -> None:
        """Begin the file at `path`, which continues one of `before` bytes, in the place of one of that name. The record
        `first` is in it from its first moment on. Raises OSError; there is none then."""
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self.size = 0
        """Bytes."""
        self.unsynced = False
        """Whether something was appended since `sync`."""
        checked = HEADER.pack(MAGIC, VERSION, boot, before, 0, 1)[:_CHECKED]
        try:
            header = HEADER.pack(MAGIC, VERSION, boot, before, zlib.crc32(checked), 1)
            self._write(header if first is None else header + _framed(first))
        except OSError:
            self.close()
            path.unlink()
            raise

    def append(self, record: bytes) -> None:
        """Add a record, by one write(2). Raises OSError; the file is as it was then."""
        self._write(_framed(record))

    def abandon(self) -> None:
        """Say in the file that records are missing behind the last one. Raises OSError."""
        with self.path.open("r+b") as file:
            _mark(file, False)

    def sync(self) -> None:
        """Let everything that was appended reach the disk (fsync(2)), which may take long. Raises OSError, as it does
        for a file that another thread has closed."""
        descriptor = self._fd
        if descriptor < 0:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self.unsynced = False
        try:
            os.fsync(descriptor)
        except OSError:
            self.unsynced = True
            raise

    def close(self) -> None:
        """Closing twice is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _write(self, data: bytes) -> None:
        try:
            written = os.write(self._fd, data)
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError:
            os.ftruncate(self._fd, self.size)
            os.lseek(self._fd, self.size, os.SEEK_SET)
            raise
        self.size += len(data)
        self.unsynced = True
