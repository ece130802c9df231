from __future__ import annotations

import errno
import os
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oko.errors import StateDamaged
from oko.switch.record_file import HEADER, MAGIC, RECORD, VERSION, RecordFile, boot_id, mend, read

BOOT = bytes(range(16))
RECORDS = (b"one", b"", b"three" * 100)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "journal"
    file = RecordFile(path, BOOT, 77)
    for record in RECORDS:
        file.append(record)
    file.sync()
    file.close()
    return path


def ends(records: tuple[bytes, ...] = RECORDS) -> list[int]:
    """Where the header ends, and each record."""
    found = [HEADER.size]
    for record in records:
        found.append(found[-1] + RECORD.size + len(record))
    return found


def test_boot() -> None:
    assert boot_id() == boot_id()
    assert len(boot_id()) == 16


def test_what_is_appended_is_read(path: Path) -> None:
    contents = read(path)
    assert (contents.boot, contents.before, contents.complete, contents.records) == (BOOT, 77, True, RECORDS)
    assert (contents.end, contents.torn) == (path.stat().st_size, False)


@pytest.mark.parametrize("size", range(ends()[-1]))
def test_cut_off_anywhere(path: Path, size: int) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:size])
    contents = read(path)
    whole = [end for end in ends() if end <= size]
    assert contents.records == RECORDS[: max(len(whole) - 1, 0)]
    assert (contents.end, contents.torn) == (whole[-1] if whole else 0, size not in (0, *whole))
    mend(path, contents)
    mended = read(path)
    assert (mended.records, mended.torn, path.stat().st_size) == (contents.records, False, contents.end)


@given(place=st.integers(0, ends()[-1] - 1), bits=st.integers(1, 255))
def test_no_damage_is_taken_for_records(tmp_path_factory: pytest.TempPathFactory, place: int, bits: int) -> None:
    path = tmp_path_factory.mktemp("damage") / "journal"
    file = RecordFile(path, BOOT, 77)
    for record in RECORDS:
        file.append(record)
    file.close()
    data = bytearray(path.read_bytes())
    data[place] ^= bits
    path.write_bytes(data)
    if place == HEADER.size - 1 and bits == 1:
        assert not read(path).complete
        return
    with pytest.raises(StateDamaged, match=str(path)):
        read(path)


@pytest.mark.parametrize("size", [1, RECORD.size, 4096])
def test_zeros_at_the_end_were_not_written(path: Path, size: int) -> None:
    end = path.stat().st_size
    with path.open("ab") as file:
        file.write(bytes(size))
    contents = read(path)
    assert (contents.records, contents.end, contents.torn) == (RECORDS, end, True)


def test_a_file_of_zeros_was_not_written(path: Path) -> None:
    path.write_bytes(bytes(4096))
    assert (read(path).records, read(path).end, read(path).torn) == ((), 0, True)


@pytest.mark.parametrize(
    ("magic", "version", "complaint"),
    [
        pytest.param(b"ELF     ", VERSION, "no file of Oko's", id="another file"),
        pytest.param(MAGIC, VERSION + 1, f"version {VERSION + 1}, this Oko reads {VERSION}", id="another version"),
    ],
)
def test_other_files(path: Path, magic: bytes, version: int, complaint: str) -> None:
    checked = HEADER.pack(magic, version, BOOT, 0, 0, 1)[:-5]
    path.write_bytes(checked + zlib.crc32(checked).to_bytes(4, "big") + b"\1")
    with pytest.raises(StateDamaged, match=complaint):
        read(path)


def test_a_first_record_is_there_from_the_beginning(path: Path) -> None:
    file = RecordFile(path, BOOT, 77, b"first")
    assert (read(path).records, read(path).end) == ((b"first",), file.size)
    file.append(b"second")
    file.close()
    assert read(path).records == (b"first", b"second")


def test_what_is_mended_reaches_the_disk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it, before another file says that it continues this one."""
    sizes = []
    monkeypatch.setattr(os, "fsync", lambda fd: sizes.append(os.fstat(fd).st_size))
    contents = read(path)
    with path.open("ab") as file:
        file.write(b"torn")
    mend(path, contents)
    assert sizes == [contents.end]


def test_what_did_not_reach_the_disk_is_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = RecordFile(path, BOOT)

    def refuse(_fd: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match="Input/output error"):
            file.sync()
    assert file.unsynced
    file.sync()
    assert not file.unsynced
    file.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        file.sync()


def test_an_abandoned_file(path: Path) -> None:
    file = RecordFile(path, BOOT)
    file.append(b"last")
    file.abandon()
    file.close()
    assert (read(path).complete, read(path).records) == (False, (b"last",))
    mend(path, read(path))
    assert read(path).complete
