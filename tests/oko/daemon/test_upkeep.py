from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from oko.daemon import upkeep
from oko.daemon.upkeep import Upkeep
from oko.openflow import backoff
from oko.switch.store import Steps, Store
from tests.oko.switch.history import History, version


def test_a_snapshot_is_written_and_changes_reach_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "_INTERVAL", 0.01)
    history = History(tmp_path / "br0", 1)
    history.store.close({})
    history.store = Store(tmp_path / "br0")
    history.store.read()
    history.store.begin()
    synced = []
    monkeypatch.setattr(history.store, "sync", lambda: synced.append(len(history.versions)))

    async def run() -> None:
        store = history.store
        async with asyncio.timeout(20), Upkeep(store, lambda: store.snapshot(history.tables, history.counts)):
            while history.store.wants_snapshot:
                await asyncio.sleep(0)
            history.go_on(3)
            while len(history.versions) not in synced:
                await asyncio.sleep(0)

    asyncio.run(run())
    state = Store(tmp_path / "br0").read()
    assert state is not None
    assert version(state) == history.now
    assert [path.name for path in (tmp_path / "br0").glob("snapshot*")] == ["snapshot-3"]


def test_a_fault_does_not_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(upkeep, "_INTERVAL", 0.01)
    monkeypatch.setattr(backoff, "FIRST", 0.01)
    History(tmp_path / "br0", 1)
    store = Store(tmp_path / "br0")
    state = store.read()
    assert state is not None
    store.begin()
    attempts = 0

    def snapshot() -> Steps:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise RuntimeError("a fault")
        return store.snapshot(state.tables(), state.counts)

    async def run() -> None:
        async with asyncio.timeout(20), Upkeep(store, snapshot):
            while store.wants_snapshot:
                await asyncio.sleep(0)

    asyncio.run(run())
    assert attempts == 2
    assert caplog.messages == [f"{tmp_path}/br0: the upkeep failed by a fault of okod: it goes on"]
