"""`Programs`: the filter programs that a bridge has loaded, and their maps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ofext.extension import NAME_LIMIT
from oko.compiler.counters import program_slot
from oko.compiler.image import Filter
from oko.errors import BadMapAccess, LimitExceeded, MapShapeChanged, UnknownMap, UnknownProgram
from oko.kernel.maps import Map
from oko.switch.datapath import Datapath
from oko.switch.limits import Limits
from verifier.program import MapSpec, Program

_KEPT_ON_RELOAD: Final = ("name", "type", "key_size", "value_size", "max_entries", "flags")


@dataclass(frozen=True, slots=True)
class LoadedFilter:
    """A loaded program: what the compiler needs of it, and the name its loader gave it, or else its function's."""

    filter: Filter
    name: str


class Programs:
    """Of the bridge `bridge`; `datapath` holds the maps."""

    def __init__(self, bridge: str, datapath: Datapath) -> None:
        self._bridge = bridge
        self._datapath = datapath
        self._loaded: dict[int, LoadedFilter] = {}

    def get(self, program_id: int) -> LoadedFilter:
        """Raises UnknownProgram."""
        try:
            return self._loaded[program_id]
        except KeyError:
            raise UnknownProgram(f"program {program_id} is not loaded: see 'oko program list {self._bridge}'") from None

    def filters(self) -> dict[int, Filter]:
        """What the compiler needs of each, by id."""
        return {number: loaded.filter for number, loaded in self._loaded.items()}

    def counted(self) -> list[tuple[LoadedFilter, int, int]]:
        """All of them by id, with how often each ran and how often it matched."""
        return [
            (self._loaded[number], *self._datapath.program_counts(self._loaded[number].filter.slot))
            for number in sorted(self._loaded)
        ]

    def put(self, loaded: LoadedFilter) -> LoadedFilter | None:
        """Have a program from now on; the one whose place it takes."""
        before = self._loaded.get(loaded.filter.id)
        self._loaded[loaded.filter.id] = loaded
        return before

    def remove(self, program_id: int) -> None:
        """A program that is there goes, with its maps."""
        item = self._loaded.pop(program_id).filter
        self._datapath.forget_maps(item, [spec.name for spec in item.program.maps])

    def proposed(self, program_id: int, name: str, program: Program, limits: Limits) -> LoadedFilter:
        """A program as it would be loaded under this id, in the place of one that has it. Raises LimitExceeded."""
        before = self._loaded.get(program_id)
        taken = {loaded.filter.slot for loaded in self._loaded.values()}
        slot = program_slot(taken) if before is None else before.filter.slot
        loaded = LoadedFilter(Filter(program_id, slot, program), name or program.name)
        for told in (loaded.name, *(spec.name for spec in program.maps)):
            if len(told.encode()) > NAME_LIMIT:
                raise LimitExceeded(f"bytes of the name {told}", len(told.encode()), NAME_LIMIT)
        limits.require(program, [other.filter.program for other in self._loaded.values() if other is not before])
        return loaded

    def new_maps(self, item: Filter, *, fresh: bool) -> list[MapSpec]:
        """The maps of a program that have to be made: those that the program whose place it takes does not hand on.
        Raises MapShapeChanged."""
        replaced = self._loaded.get(item.id)
        before: Mapping[str, MapSpec] = {}
        if replaced is not None:
            before = {spec.name: spec for spec in replaced.filter.program.maps}
        wanted = []
        for spec in item.program.maps:
            old = before.get(spec.name)
            if old is None or fresh or spec.frozen:
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

    def map(self, program_id: int, name: str) -> tuple[MapSpec, Map]:
        """A map of a program. Raises UnknownProgram, UnknownMap."""
        item = self.get(program_id).filter
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
