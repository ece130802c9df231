"""`Limits`: what rules and filter programs may take of the machine, and what a program's maps take."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from pydantic import BaseModel, ConfigDict, PositiveInt

from oko.compiler.counters import PROGRAM_LIMIT
from oko.errors import LimitExceeded
from oko.kernel.cpus import possible_cpus
from verifier.program import MapSpec, MapType, Program

_PER_CPU = frozenset((MapType.PERCPU_ARRAY, MapType.PERCPU_HASH, MapType.LRU_PERCPU_HASH))


class Limits(BaseModel):
    """The section ``[limits]`` of okod.toml. The defaults are generous to one user and bound what a mistake costs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rules: PositiveInt = 2_000_000
    """Of a bridge, in all tables. A rule takes some kilobytes."""
    object_bytes: PositiveInt = 16 << 20
    """Of the object file of a program, while it arrives."""
    all_object_bytes: PositiveInt = 64 << 20
    """Of the object files of all programs that arrive at a time. One alone may be larger."""
    programs: PositiveInt = PROGRAM_LIMIT
    maps: PositiveInt = 32
    """Of one program, its data sections among them."""
    map_bytes: PositiveInt = 256 << 20
    """Of the maps of one program, as `map_bytes` counts."""
    all_map_bytes: PositiveInt = 1 << 30
    """Of the maps of all programs."""

    def require(self, program: Program, others: Collection[Program]) -> None:
        """Raises LimitExceeded when `program` takes more than it may, or more than `others` leave."""
        taken = map_bytes(program.maps)
        for what, used, limit, advice in (
            ("filter programs", len(others) + 1, self.programs, "unload one first"),
            (f"maps of {program.name}", len(program.maps), self.maps, "declare fewer"),
            (f"bytes of the maps of {program.name}", taken, self.map_bytes, "declare fewer entries"),
            (
                "bytes of the maps of all programs",
                taken + sum(map_bytes(other.maps) for other in others),
                self.all_map_bytes,
                "unload a program first",
            ),
        ):
            if used > limit:
                raise LimitExceeded(what, used, limit, advice=f"{advice}, or let okod's [limits] be higher")


DEFAULT_LIMITS: Final = Limits()


def map_bytes(specs: Iterable[MapSpec]) -> int:
    """Bytes that the keys and values of full maps take, each rounded up to 8, a value per possible CPU where the map
    has that; of a ring buffer those of the buffer. The kernel adds its own to every map and element."""
    return sum(spec.max_entries * _entry_bytes(spec) for spec in specs)


def _entry_bytes(spec: MapSpec) -> int:
    if spec.type is MapType.RINGBUF:
        return 1
    values = possible_cpus() if spec.type in _PER_CPU else 1
    return _rounded(spec.key_size) + values * _rounded(spec.value_size)


def _rounded(size: int) -> int:
    return -(-size // 8) * 8
