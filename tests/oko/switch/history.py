"""A bridge's past without a bridge: random changes of tables, written to a store, and what there was after each."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from oko.errors import FlowError
from oko.flow.tables import Tables
from oko.switch.datapath import Count
from oko.switch.state import State
from oko.switch.store import Store
from perf.changes import Changes, Update


def facts(tables: Tables) -> Any:
    """Everything that a restart must bring back of tables, to be compared."""
    return (
        {entry.age: entry for entry in tables},
        dict(tables.groups),
        dict(tables.meters),
        tables.observers,
        tables.used_slots(),
        tables.used_meter_slots(),
    )


class History:
    """`versions` are the facts, the programs' digests and the counts after each change, the last ones now."""

    def __init__(self, path: Path, seed: int) -> None:
        self.store = Store(path)
        self.store.read()
        self.store.begin()
        self.tables = Tables()
        self.counts: dict[int, Count] = {}
        self.random = Random(seed)
        self.changes = Changes(self.random)
        self.programs: dict[int, str] = {}
        self.versions = [self.now]
        for update in self.changes.initial():
            self._make(update)

    @property
    def now(self) -> Any:
        return facts(self.tables), dict(self.programs), dict(self.counts)

    def go_on(self, count: int) -> None:
        for _ in range(count):
            self._make(self.changes.update(self.tables))

    def snapshot(self, changes: int) -> None:
        """Write one, with a change after each of so many steps."""
        for step, work in enumerate(self.store.snapshot(self.tables, self.counts)):
            if work is not None:
                work()
            if step < changes:
                self.go_on(1)

    def _make(self, update: Update) -> None:
        tables = self.tables
        if update.load is not None:
            number, name = update.load
            self.programs[number] = name
            self.store.load(number, number, name, name.encode())
        else:
            tables.begin()
            for mod in update.mods:
                with suppress(FlowError):
                    tables.change(mod, now=self.random.randrange(1 << 62))
            delta, freed = tables.delta(), set(tables.unused_slots)
            tables.commit()
            news = {slot: Count(self.random.randrange(99), 7) for slot in tables.used_slots() if slot % 31 == 0}
            news = {} if self.random.random() < 0.8 else news
            self.counts = {slot: count for slot, count in (self.counts | news).items() if slot not in freed}
            self.store.change(delta, tables, news)
            tables.release(freed)
            tables.release_meters(tables.unused_meter_slots)
        self.versions.append(self.now)


def version(state: State) -> Any:
    """What was restored, as `History.now`."""
    programs = {number: saved.name for number, saved in state.programs.items()}
    assert {saved.digest for saved in state.programs.values()} == set(state.objects)
    return facts(state.tables()), programs, state.counts
