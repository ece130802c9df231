"""`ProgramMap`: a map of a program that an engine made, in the kernel or simulated, and what its bytes mean."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

from oko.errors import BadMapAccess, KernelError
from oko.kernel.maps import Map as KernelMap
from oko.replay.engine import Engine
from oko.switch.map_names import short_name
from oko.switch.schema import Schema, schema, untyped
from verifier.btf import Btf
from verifier.maps import Map as SimulatedMap
from verifier.program import MapSpec, MapType, Program

_ARRAYS: Final = frozenset({MapType.ARRAY, MapType.PERCPU_ARRAY})


class ProgramMap:
    """`name` is what messages call it, `present` is the engine's map, `key` and `value` are the schemas."""

    def __init__(self, name: str, spec: MapSpec, btf: Btf | None, present: KernelMap | SimulatedMap) -> None:
        self.name = name
        self.present = present
        self.is_array = spec.type in _ARRAYS
        self._is_ring = spec.type is MapType.RINGBUF
        self.key = _schema(btf, spec.key_type) or untyped(spec.key_size, is_index=self.is_array)
        self.value = _schema(btf, spec.value_type) or untyped(spec.value_size)

    def require_entries(self) -> None:
        """Raises BadMapAccess for a map of a kind that has none."""
        if self._is_ring:
            raise BadMapAccess(f"map {self.name} is a ring buffer, which has no entries")

    def write(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Write entries, keys and values as the map holds them; of a map with a value for each CPU, to all. Raises
        BadMapAccess at the first that is refused, behind those that are written."""
        self.require_entries()
        match self.present:
            case KernelMap():
                try:
                    self.present.update_batch(entries)
                except KernelError as error:
                    raise BadMapAccess(str(error)) from None
            case SimulatedMap():
                for key, value in entries:
                    if refused := self.present.update(key, value):
                        raise BadMapAccess(f"map {self.name}: writing {key.hex()}: {os.strerror(-refused)}")


def program_maps(engine: Engine, number: int, program: Program) -> dict[str, ProgramMap]:
    """The maps of a program that the engine runs as `number`, by their full names."""
    names = [spec.name for spec in program.maps]
    return {
        name: ProgramMap(short_name(name, names), spec, program.btf, engine.maps[f"{number}.{name}"])
        for name, spec in zip(names, program.maps, strict=True)
    }


def _schema(btf: Btf | None, type_id: int) -> Schema | None:
    return schema(btf, type_id) if btf is not None and type_id else None
