"""What is on disk of a bridge, after whatever befell it: restored, or refused whole."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oko.errors import BridgeError, StateDamaged
from oko.flow.tables import Tables
from oko.switch import record_file
from oko.switch.datapath import Count
from oko.switch.record_file import RecordFile
from oko.switch.store import Store, remove
from tests.oko.switch.history import History, version


def kept(path: Path) -> list[str]:
    return sorted(str(found.relative_to(path)) for found in path.rglob("*") if found.is_file())


def test_nothing_there(tmp_path: Path) -> None:
    store = Store(tmp_path / "br0")
    assert store.read() is None
    assert not store.wants_snapshot
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", range(3))
def test_every_change_is_there_at_once(tmp_path: Path, seed: int) -> None:
    """No `close`, no `sync`: as after SIGKILL."""
    history = History(tmp_path / "br0", seed)
    for _ in range(40):
        history.go_on(1)
        state = Store(tmp_path / "br0").read()
        assert state is not None
        assert version(state) == history.now
    assert state is not None
    assert state.objects == {
        hashlib.sha256(name.encode()).digest(): name.encode() for name in history.programs.values()
    }


def test_a_new_bridge_has_empty_tables(tmp_path: Path) -> None:
    Store(tmp_path / "br0").begin()
    state = Store(tmp_path / "br0").read()
    assert state is not None
    assert list(state.tables()) == []


def test_generations(tmp_path: Path) -> None:
    """Okods one after the other, with snapshots begun, ended, and left."""
    path = tmp_path / "br0"
    history = History(path, 1)
    history.go_on(20)
    for kills in range(6):
        store = Store(path)
        state = store.read()
        assert state is not None
        assert version(state) == history.now
        store.begin()
        assert store.wants_snapshot
        history.store = store
        history.go_on(5)
        steps = store.snapshot(history.tables, history.counts)
        for work, _ in zip(steps, range(kills), strict=False):
            if work is not None:
                work()
            history.go_on(2)
    history.snapshot(changes=2)
    assert not history.store.wants_snapshot
    state = Store(path).read()
    assert state is not None
    assert version(state) == history.now
    number = next(name for name in kept(path) if name.startswith("snapshot")).removeprefix("snapshot-")
    programs = {f"programs/{hashlib.sha256(name.encode()).hexdigest()}.o" for name in history.programs.values()}
    assert set(kept(path)) == {f"snapshot-{number}", f"journal-{number}"} | programs


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, History]]:
    """A directory with a snapshot and two journals, as a kill in the middle of a snapshot leaves it."""
    path = tmp_path_factory.mktemp("past") / "br0"
    history = History(path, 5)
    history.go_on(12)
    history.snapshot(changes=1)
    history.go_on(12)
    steps = history.store.snapshot(history.tables, history.counts)
    next(steps)
    history.go_on(12)
    history.store.close({})
    names = [name for name in kept(path) if not name.startswith("programs")]
    assert names == ["journal-2", "journal-3", "snapshot-2", "snapshot.new"]
    yield path, history
    steps.close()


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_damage_is_found_or_is_of_the_end(
    past: tuple[Path, History], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Wherever a file is cut off, and whatever byte is another: what is restored was there, or nothing is."""
    path, history = past
    names = [name for name in kept(path) if name != "snapshot.new"]
    name = data.draw(st.sampled_from(names))
    copy = tmp_path_factory.mktemp("damage") / "br0"
    shutil.copytree(path, copy)
    content = bytearray((copy / name).read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        del content[place:]
    else:
        content[place] ^= data.draw(st.integers(1, 255))
    (copy / name).write_bytes(content)
    store = Store(copy)
    try:
        state = store.read()
    except StateDamaged:
        place_kept = store.set_aside()
        assert (place_kept / name).read_bytes() == content
        assert not copy.exists()
        return
    assert state is not None
    assert version(state) in history.versions
    # It goes on from there.
    store.begin()
    for work in store.snapshot(state.tables(), state.counts):
        if work is not None:
            work()
    again = Store(copy).read()
    assert again is not None
    assert version(again) == version(state)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        pytest.param("journal-2", "journal-2 is missing", id="a journal between"),
        pytest.param("snapshot-2", "journal-1 is missing", id="the snapshot"),
    ],
)
def test_a_file_is_missing(past: tuple[Path, History], tmp_path: Path, name: str, complaint: str) -> None:
    path, _ = past
    shutil.copytree(path, tmp_path / "br0")
    (tmp_path / "br0" / name).unlink()
    with pytest.raises(StateDamaged, match=complaint):
        Store(tmp_path / "br0").read()


@pytest.mark.parametrize("damage", ["other", "missing"])
def test_an_object_file_that_is_another(tmp_path: Path, damage: str) -> None:
    History(tmp_path / "br0", 1)
    path = next((tmp_path / "br0" / "programs").iterdir())
    path.unlink() if damage == "missing" else path.write_bytes(b"another")
    with pytest.raises(StateDamaged, match=path.name):
        Store(tmp_path / "br0").read()


def test_after_a_reboot_durations_begin_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(tmp_path / "br0", 3)
    history.go_on(30)
    assert history.counts
    monkeypatch.setattr("oko.switch.store.boot_id", lambda: bytes(16))
    monkeypatch.setattr("time.monotonic_ns", lambda: 123)
    state = Store(tmp_path / "br0").read()
    assert state is not None
    assert {entry.rule for entry in state.tables()} == {entry.rule for entry in history.tables}
    added = {entry.installed for entry in (*state.tables(), *state.groups.values(), *state.meters.values())}
    assert (added, state.counts) == ({123}, {})


def test_a_place_that_takes_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        BridgeError, match=r"the state directory: .*file/br0: Not a directory: name another with --state"
    ):
        Store(tmp_path / "file" / "br0").begin()


def test_set_aside_twice(tmp_path: Path) -> None:
    places = set()
    for _ in range(2):
        Store(tmp_path / "br0").begin()
        places.add(Store(tmp_path / "br0").set_aside())
    assert {place.name[:8] for place in tmp_path.iterdir()} == {"br0.bad-"}
    assert set(tmp_path.iterdir()) == places


def test_remove(tmp_path: Path) -> None:
    History(tmp_path / "br0", 1)
    remove(tmp_path / "br0")
    remove(tmp_path / "br0")
    assert list(tmp_path.iterdir()) == []


def test_counts_are_written_at_the_end(tmp_path: Path) -> None:
    history = History(tmp_path / "br0", 1)
    history.store.close({5: Count(2, 120)})
    state = Store(tmp_path / "br0").read()
    assert state is not None
    assert state.counts == history.counts | {5: Count(2, 120)}


# ---- tables that nobody knows


def read_on(path: Path) -> tuple[Store, bool]:
    """The next okod's store, begun, and whether the tables were unknown."""
    store = Store(path)
    state = store.read()
    assert state is not None
    store.begin(inherits=state.inherits)
    return store, state.inherits


def finish(store: Store, tables: Tables) -> None:
    for work in store.snapshot(tables, {}):
        if work is not None:
            work()


def test_tables_stay_unknown_however_many_okods_follow(tmp_path: Path) -> None:
    Store(tmp_path / "br0").begin(inherits=True)
    store, inherits = read_on(tmp_path / "br0")
    assert inherits
    store.load(1, 0, "one", b"one")
    finish(store, Tables())
    assert [name for name in kept(tmp_path / "br0") if "-" in name] == ["journal-3", "snapshot-3"]
    for _ in range(2):
        store, inherits = read_on(tmp_path / "br0")
        assert inherits


@pytest.mark.parametrize("snapshot", [False, True], ids=["a journal", "a snapshot"])
def test_any_change_makes_tables_known(tmp_path: Path, snapshot: bool) -> None:
    """One that changes nothing, too: the pipeline is that of empty tables then."""
    store = Store(tmp_path / "br0")
    store.begin(inherits=True)
    tables = Tables()
    tables.begin()
    delta = tables.delta()
    tables.commit()
    store.change(delta, tables, {})
    if snapshot:
        finish(store, tables)
    _, inherits = read_on(tmp_path / "br0")
    assert not inherits


# ---- a loss of power


class Disk:
    """What a loss of power leaves of files that are only appended to: what was synced, or as much as there is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._synced: dict[int, bytes] = {}  # by inode
        self._fsync = os.fsync
        monkeypatch.setattr(os, "fsync", self._sync)

    def _sync(self, fd: int) -> None:
        self._fsync(fd)
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode):
            self._synced[status.st_ino] = Path(f"/proc/self/fd/{fd}").read_bytes()

    def lose_power(self, path: Path, copy: Path, random: Random) -> None:
        """Make of `path` what the next boot may find."""
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(path, copy)
        for name in kept(path):
            synced, content = self._synced.get((path / name).stat().st_ino, b""), (path / name).read_bytes()
            if random.random() < 0.5:
                (copy / name).write_bytes(synced if content.startswith(synced) else b"")


@pytest.mark.parametrize("seed", range(4))
def test_a_loss_of_power_costs_no_more_than_the_last_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Whatever the disk had of each file, whenever it happens: a state that was there."""
    disk, random = Disk(monkeypatch), Random(seed)
    path, copy = tmp_path / "br0", tmp_path / "copy"
    history = History(path, seed)

    def require_whole() -> None:
        for _ in range(4):
            disk.lose_power(path, copy, random)
            state = Store(copy).read()
            assert state is None or version(state) in history.versions

    for _ in range(3):
        history.go_on(5)
        for work in history.store.snapshot(history.tables, history.counts):
            require_whole()
            history.go_on(3)
            if work is not None:
                work()
                history.go_on(1)
        require_whole()
        history.go_on(5)
        history.store = Store(path)  # After a kill.
        history.store.read()
        history.store.begin()
        require_whole()


def test_a_program_is_kept_until_the_disk_knows_that_it_is_unloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(monkeypatch)
    path = tmp_path / "br0"
    store = Store(path)
    store.begin()
    store.load(1, 0, "one", b"one")
    for step, work in enumerate(store.snapshot(Tables(), {})):
        if step == 0:
            store.unload(1)
        if work is not None:
            work()
    for seed in range(8):
        disk.lose_power(path, tmp_path / "copy", Random(seed))
        assert Store(tmp_path / "copy").read() is not None


def test_names_reach_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a journal and of an object file, which not every file system writes with what is in the files."""
    synced: dict[str, set[str]] = {}

    def fsync(fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if path.is_dir():
            synced[path.name] = {each.name for each in path.iterdir()}

    monkeypatch.setattr(os, "fsync", fsync)
    store = Store(tmp_path / "br0")
    store.begin()
    store.load(1, 0, "one", b"one")
    assert synced == {"br0": {"journal-1", "programs"}, "programs": {f"{hashlib.sha256(b'one').hexdigest()}.o"}}


def refuse(error: int) -> OSError:
    return OSError(error, os.strerror(error))


def test_a_journal_that_ends_while_it_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As happens when another thread syncs, and the loop finds the disk full."""
    history = History(tmp_path / "br0", 1)

    def append(_file: RecordFile, _record: bytes) -> None:
        raise refuse(errno.ENOSPC)

    def fsync(_fd: int) -> None:
        monkeypatch.setattr(RecordFile, "append", append)
        history.store.count({0: Count(1, 60)})
        raise refuse(errno.EIO)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        history.store.sync()
    assert caplog.messages[-1] == f"{tmp_path}/br0/journal-1: Input/output error"
    assert history.store.wants_snapshot


@pytest.mark.parametrize("good", range(3))
def test_a_snapshot_that_does_not_reach_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, good: int
) -> None:
    """It ends at whichever sync fails; what was there is there still, and the next one is whole."""
    path = tmp_path / "br0"
    history = History(path, 1)
    _, history.store = history.store, Store(path)
    history.store.read()
    history.store.begin()
    history.go_on(3)
    left = good

    def fsync(_fd: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise refuse(errno.EIO)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        history.snapshot(changes=2)
    assert caplog.messages[-1].endswith("Input/output error: the journal grows on")
    assert history.store.wants_snapshot
    history.go_on(2)
    state = Store(path).read()
    assert state is not None
    assert version(state) == history.now
    history.snapshot(changes=1)
    assert not history.store.wants_snapshot


# ---- a disk that is full


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(place: Path) -> Path:
    path = place / "ballast"

    def write_on() -> None:
        with path.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(512))

    with pytest.raises(OSError, match="No space left"):
        write_on()
    return path


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_full_disk(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    path = small / "br0"
    history = History(path, 4)
    history.go_on(10)
    ballast = fill(small)
    written = len(history.versions)
    history.go_on(200)
    assert [record.message for record in caplog.records] == [
        f"{path}: No space left on device: changes are not written down until there is a whole snapshot: "
        "they would be lost with okod"
    ]
    assert history.store.wants_snapshot
    # Nor is there room for a snapshot.
    history.snapshot(changes=1)
    assert history.store.wants_snapshot
    state = Store(path).read()
    assert state is not None
    assert version(state) in history.versions[written - 1 :]
    assert version(state) != history.now
    assert caplog.messages[-1] == f"{path / 'journal-1'}: later changes were not written down: they are gone"
    # Now there is.
    ballast.unlink()
    history.snapshot(changes=1)
    assert not history.store.wants_snapshot
    assert caplog.messages[-1] == f"{path}: everything is written down again"
    history.go_on(5)
    state = Store(path).read()
    assert state is not None
    assert version(state) == history.now


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_start_with_a_full_disk(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = small / "br0"
    history = History(path, 4)
    history.go_on(10)
    history.store.close({})
    ballast = fill(small)
    store = Store(path)
    assert store.read() is not None
    store.begin()
    before, history.store = history.now, store
    history.go_on(5)
    state = Store(path).read()
    assert state is not None
    assert version(state) == before
    assert "later changes were not written down" in caplog.messages[-1]
    ballast.unlink()
    history.snapshot(changes=0)
    state = Store(path).read()
    assert state is not None
    assert version(state) == history.now


def test_journals_grow_until_a_snapshot_is_worth_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oko.switch.store._LEAST", 1 << 14)
    history = History(tmp_path / "br0", 6)
    history.snapshot(changes=0)
    rounds = 0
    while not history.store.wants_snapshot:
        history.go_on(5)
        rounds += 1
    assert rounds > 1
    size = (tmp_path / "br0" / "snapshot-2").stat().st_size
    assert (tmp_path / "br0" / "journal-2").stat().st_size > max(1 << 14, 2 * size)
    assert record_file.read(tmp_path / "br0" / "journal-2").complete
