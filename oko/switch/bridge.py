"""`Bridge`: ports, tables, programs and the image made of them. Every change takes effect whole or not at all."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ofext.extension import NAME_LIMIT
from oko.compiler.compile import Runtime, compile_image, compile_trial
from oko.compiler.counters import Drop, program_slot
from oko.compiler.image import Filter, Image
from oko.compiler.pipeline import output_of
from oko.errors import (
    BadMapAccess,
    KernelError,
    LimitExceeded,
    MapShapeChanged,
    OkoError,
    ProgramInUse,
    UnknownMap,
    UnknownProgram,
)
from oko.flow.rule import Command, Entry, FlowMod
from oko.flow.tables import Tables
from oko.kernel.maps import Map
from oko.switch.datapath import Count, Datapath, make_program_maps
from oko.switch.port import Port
from verifier.check import check
from verifier.elf import load
from verifier.program import MapSpec, Program

log = logging.getLogger("oko")

_KEPT_ON_RELOAD = ("name", "type", "key_size", "value_size", "max_entries", "flags")


@dataclass(frozen=True, slots=True)
class LoadedFilter:
    """A loaded program: what the compiler needs of it, and the name its loader gave it, or else its function's."""

    filter: Filter
    name: str


class Bridge:
    """The state of one bridge. Not for several threads."""

    def __init__(self, name: str, datapath: Datapath, runtime: Runtime, ports: Sequence[Port]) -> None:
        """Take over a fresh datapath; packets are dropped as table misses from here on. Raises KernelError."""
        self.name = name
        self.ports = tuple(sorted(ports, key=lambda port: port.number))
        self._datapath = datapath
        self._runtime = runtime
        self._indices = {port.number: index for index, port in enumerate(self.ports)}
        self._tables = Tables()
        self._programs: dict[int, LoadedFilter] = {}
        datapath.apply(self._compile(self._tables, self._filters()))

    # ---- rules

    def change(self, mods: Sequence[FlowMod]) -> list[OkoError | None]:
        """Carry out flow_mods, in order; for each what was wrong with it, None if nothing.

        They are compiled together when that succeeds. When it does not, one half is carried out after the other, and so
        on, so that one that goes beyond a limit fails alone.
        """
        draft = self._tables.copy()
        outcomes: list[OkoError | None] = []
        for mod in mods:
            try:
                self._check(mod)
                draft.apply(mod, now=time.monotonic_ns())
                outcomes.append(None)
            except OkoError as error:
                outcomes.append(error)
        try:
            self._commit(draft)
        except OkoError as error:
            if len(mods) == 1:
                return [error]
            middle = len(mods) // 2
            return self.change(mods[:middle]) + self.change(mods[middle:])
        return outcomes

    def select(self, mod: FlowMod) -> list[tuple[Entry, Count]]:
        """The rules that a delete like `mod` would be about, in rank order, with what they have won."""
        entries = sorted(self._tables.select(mod), key=lambda entry: (entry.rule.table, *entry.rank))
        return [(entry, self._datapath.count(entry.slot)) for entry in entries]

    @property
    def rules(self) -> int:
        return len(self._tables)

    def drops(self) -> dict[Drop, Count]:
        """The packets that no rule dropped and that were dropped all the same."""
        return self._datapath.drops()

    def fallthrough(self) -> int:
        """The packets that found no pipeline."""
        return self._datapath.fallthrough()

    def is_live(self, port: Port) -> bool:
        """Whether the port's interface is still there. One that went away, or to another namespace, does not come
        back: what rules send to it is dropped."""
        return self._datapath.carries(port.name, port.ifindex)

    # ---- programs

    def load(
        self, program_id: int, name: str, elf: bytes, *, fresh_maps: bool = False, verify_only: bool = False
    ) -> LoadedFilter:
        """Load an object file as program `program_id`, in the place of one of that id.

        Maps of the same name and shape keep their contents unless `fresh_maps`; .rodata is always new. With
        `verify_only` nothing changes. Raises NotReadable, Rejected, KernelRejected, LimitExceeded, MapShapeChanged.
        """
        program = load(elf)
        check(program)
        replaced = self._programs.get(program_id)
        slot = (
            replaced.filter.slot if replaced else program_slot({item.filter.slot for item in self._programs.values()})
        )
        item = Filter(program_id, slot, program)
        loaded = LoadedFilter(item, name or program.name)
        for told in (loaded.name, *(spec.name for spec in program.maps)):
            if len(told.encode()) > NAME_LIMIT:
                raise LimitExceeded(f"bytes of the name {told}", len(told.encode()), NAME_LIMIT)
        made = make_program_maps(item, self._new_maps(item, replaced.filter.program if replaced else None, fresh_maps))
        try:
            self._datapath.try_program(compile_trial(item, self._interfaces(), self._runtime), made)
            named = bool(self._naming(program_id))
            image = self._compile(self._tables, {**self._filters(), program_id: item}) if named else None
            if verify_only:
                if image is not None:
                    self._datapath.try_program(image, made)
                _close(made.values())
                return loaded
            if image is not None:
                self._datapath.apply(image, made)
            else:
                self._datapath.adopt(made)
        except BaseException:
            _close(made.values())
            raise
        if replaced is None:
            self._datapath.reset_program(slot)
        else:
            kept = {spec.name for spec in program.maps}
            self._datapath.forget_maps(
                replaced.filter, [spec.name for spec in replaced.filter.program.maps if spec.name not in kept]
            )
        self._programs[program_id] = loaded
        return loaded

    def unload(self, program_id: int, *, force: bool = False) -> None:
        """Unload a program; with `force` the rules that name it go with it. Raises UnknownProgram, ProgramInUse."""
        loaded = self.program(program_id)
        naming = self._naming(program_id)
        if naming and not force:
            raise ProgramInUse(
                f"program {program_id} is named by {len(naming)} rules: delete them first, or unload with force"
            )
        if naming:
            draft = self._tables.copy()
            for entry in naming:
                draft.apply(FlowMod(Command.DELETE_STRICT, entry.rule))
            self._commit(draft)
        del self._programs[program_id]
        self._datapath.forget_maps(loaded.filter, [spec.name for spec in loaded.filter.program.maps])

    def program(self, program_id: int) -> LoadedFilter:
        """Raises UnknownProgram."""
        try:
            return self._programs[program_id]
        except KeyError:
            raise UnknownProgram(f"program {program_id} is not loaded: see 'oko program list {self.name}'") from None

    def programs(self) -> list[tuple[LoadedFilter, int, int]]:
        """The loaded programs by id, with how often each ran and how often it matched."""
        return [
            (self._programs[number], *self._datapath.program_counts(self._programs[number].filter.slot))
            for number in sorted(self._programs)
        ]

    # ---- maps of programs

    def map(self, program_id: int, name: str) -> tuple[MapSpec, Map]:
        """A map of a program. Raises UnknownProgram, UnknownMap."""
        item = self.program(program_id).filter
        for spec in item.program.maps:
            if spec.name == name:
                return spec, self._datapath.program_map(item, name)
        names = ", ".join(spec.name for spec in item.program.maps) or "none"
        raise UnknownMap(f"program {program_id} has no map {name!r}; it has: {names}")

    def update(self, program_id: int, name: str, entries: Iterable[tuple[bytes, bytes]], flags: int) -> None:
        """Write entries into a map, up to the first that fails. Raises UnknownMap, BadMapAccess, KernelError."""
        spec, target = self.map(program_id, name)
        if spec.frozen:
            raise BadMapAccess(f"map {name} of program {program_id} is read-only data of the program: load it anew")
        if flags not in (0, 1, 2):
            raise BadMapAccess(f"flags {flags}: 0 any, 1 new keys only, 2 present keys only")
        checked = list(entries)
        for key, value in checked:
            if len(key) != spec.key_size or len(value) != spec.value_size:
                raise BadMapAccess(
                    f"map {name} of program {program_id} has keys of {spec.key_size} and values of {spec.value_size} "
                    f"bytes, not {len(key)} and {len(value)}"
                )
        for key, value in checked:
            target.update(key, value, flags)

    # ---- the rest

    def _filters(self) -> dict[int, Filter]:
        return {number: loaded.filter for number, loaded in self._programs.items()}

    def _naming(self, program_id: int) -> list[Entry]:
        return [entry for entry in self._tables if entry.rule.match.program == program_id]

    def _check(self, mod: FlowMod) -> None:
        """What the tables alone cannot know: ports and programs."""
        if mod.command in (Command.DELETE, Command.DELETE_STRICT):
            return
        output_of(mod.rule, self._indices)
        if mod.command is Command.ADD and mod.rule.match.program is not None:
            self.program(mod.rule.match.program)

    def _compile(self, tables: Tables, filters: dict[int, Filter]) -> Image:
        return compile_image(tables.ranked(), filters, self._interfaces(), self._runtime, slots=tables.slots)

    def _interfaces(self) -> dict[int, int | None]:
        """The ifindex of each port, None of those that are gone."""
        return {port.number: port.ifindex if self.is_live(port) else None for port in self.ports}

    def _commit(self, draft: Tables) -> None:
        """Make `draft` the tables. Raises OkoError, and then nothing has changed."""
        self._datapath.apply(self._compile(draft, self._filters()))
        freed = {entry.slot for entry in self._tables} - {entry.slot for entry in draft}
        self._tables = draft
        if freed:
            try:
                self._datapath.release(freed)
                draft.release(freed)
            except KernelError as error:
                log.warning("bridge %s: %d counters stay unused: %s", self.name, len(freed), error)

    def _new_maps(self, item: Filter, replaced: Program | None, fresh_maps: bool) -> list[MapSpec]:
        """The maps of a program that have to be made: those that the program it replaces does not hand on."""
        before = {} if replaced is None else {spec.name: spec for spec in replaced.maps}
        wanted = []
        for spec in item.program.maps:
            old = before.get(spec.name)
            if old is None or fresh_maps or spec.frozen:
                wanted.append(spec)
                continue
            changed = [name for name in _KEPT_ON_RELOAD if getattr(old, name) != getattr(spec, name)]
            if changed:
                what = ", ".join(f"{name} {getattr(old, name)} → {getattr(spec, name)}" for name in changed)
                raise MapShapeChanged(
                    f"map {spec.name} of program {item.id} would change ({what}): "
                    "ask for fresh maps to give up its content"
                )
        return wanted


def _close(maps: Iterable[Map]) -> None:
    for held in maps:
        held.close()
