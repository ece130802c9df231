"""Maps as a program declares them: the variables in `.maps`, described by their BTF type, and its data sections.

A map is declared as libbpf has it: a variable of an anonymous struct in which `__uint(NAME, N)` is a pointer to an
array of N elements and `__type(NAME, T)` a pointer to T.
"""

from __future__ import annotations

import re
from typing import Final

from oko.errors import NotReadable
from verifier.btf import Array, Btf, Datasec, Ptr, Struct, Var
from verifier.objectfile import ObjectFile, Section
from verifier.program import MapSpec, MapType

MAPS_SECTION: Final = ".maps"

AUTHOR_MAP_TYPES: Final = frozenset(
    {
        MapType.HASH,
        MapType.ARRAY,
        MapType.PERCPU_HASH,
        MapType.PERCPU_ARRAY,
        MapType.LRU_HASH,
        MapType.LRU_PERCPU_HASH,
        MapType.LPM_TRIE,
        MapType.RINGBUF,
    }
)
"""The map types that a filter program may declare."""

_DATA_SECTION: Final = re.compile(r"\.(rodata|data|bss)(\..+)?")
_NUMBERS: Final = frozenset({"type", "key_size", "value_size", "max_entries", "map_flags"})
_TYPES: Final = frozenset({"key", "value"})
_RDONLY_PROG: Final = 0x80


def is_data_section(name: str) -> bool:
    """Whether a section of this name holds variables of the program."""
    return _DATA_SECTION.fullmatch(name) is not None


def data_map(section: Section, btf: Btf | None) -> MapSpec:
    """The one-element array that holds a data section; its value type is the section's Datasec, if BTF has one."""
    constant = section.name.startswith(".rodata")
    return MapSpec(
        name=section.name,
        type=MapType.ARRAY,
        key_size=4,
        value_size=section.size,
        max_entries=1,
        flags=_RDONLY_PROG if constant else 0,
        value_type=(btf.id_of(section.name, Datasec) if btf is not None else None) or 0,
        initial=section.data.ljust(section.size, b"\0"),
        frozen=constant,
    )


def declared_maps(elf: ObjectFile, btf: Btf | None, allowed: frozenset[MapType]) -> dict[int, MapSpec]:
    """The maps declared in `.maps`, by their offset in that section. `btf` must have its variables placed.

    Raises NotReadable, naming the map, for a declaration that is not of the form above or a type not in `allowed`.
    """
    section = elf.section(MAPS_SECTION)
    if section is None or not section.size:
        return {}
    if btf is None:
        raise NotReadable("section .maps without type information (.BTF): compile with -g")
    if elf.relocations.get(section.index):
        raise NotReadable(
            "section .maps: a map with initial content (__array values); a filter program cannot have one"
        )
    type_id = btf.id_of(MAPS_SECTION, Datasec)
    if type_id is None:
        raise NotReadable("section .maps is not described in .BTF: declare maps as libbpf has it, and compile with -g")
    maps = {}
    for placed in btf.type_of(type_id, Datasec).variables:
        variable = btf.type_of(placed.type, Var)
        maps[placed.offset] = _Declaration(btf, variable).spec(allowed)
    return maps


class _Declaration:
    """One variable in `.maps`."""

    def __init__(self, btf: Btf, variable: Var) -> None:
        self._btf = btf
        self._name = variable.name
        self._numbers: dict[str, int] = {}
        self._types: dict[str, int] = {}
        definition = btf.resolved(variable.type)
        if not isinstance(definition, Struct):
            raise self._bad("it is not declared as a struct")
        for member in definition.members:
            pointer = btf.resolved(member.type)
            if member.name not in _NUMBERS | _TYPES:
                raise self._bad(f"attribute {member.name!r} is unknown; known: {', '.join(sorted(_NUMBERS | _TYPES))}")
            if not isinstance(pointer, Ptr):
                raise self._bad(f"{member.name} is not declared with __uint or __type")
            if member.name in _TYPES:
                self._types[member.name] = pointer.type
            else:
                array = btf.resolved(pointer.type)
                if not isinstance(array, Array):
                    raise self._bad(f"{member.name} is not declared with __uint")
                self._numbers[member.name] = array.length

    def spec(self, allowed: frozenset[MapType]) -> MapSpec:
        map_type = self._map_type(allowed)
        key_size, value_size = self._size("key"), self._size("value")
        max_entries = self._numbers.get("max_entries", 0)
        if map_type is MapType.RINGBUF:
            if key_size or "value_size" in self._numbers:
                raise self._bad(
                    "a ring buffer has no keys, and records of any size: __type(value, …) may say their type"
                )
            value_size = 0
            if max_entries < 4096 or max_entries & max_entries - 1:
                raise self._bad(f"max_entries={max_entries}: a ring buffer takes a power of two of at least 4096 bytes")
        elif not key_size or not value_size:
            raise self._bad("it says no key or no value: use __type(key, …) and __type(value, …)")
        if map_type in (MapType.ARRAY, MapType.PERCPU_ARRAY) and key_size != 4:
            raise self._bad(f"the key of an array takes 4 bytes, not {key_size}")
        if not max_entries:
            raise self._bad("it says no max_entries")
        return MapSpec(
            name=self._name,
            type=map_type,
            key_size=key_size,
            value_size=value_size,
            max_entries=max_entries,
            flags=self._numbers.get("map_flags", 0),
            key_type=self._types.get("key", 0),
            value_type=self._types.get("value", 0),
        )

    def _map_type(self, allowed: frozenset[MapType]) -> MapType:
        number = self._numbers.get("type")
        if number is None:
            raise self._bad("it says no type")
        known = {int(kind): kind for kind in MapType}.get(number)
        if known not in allowed:
            names = ", ".join(sorted(kind.name for kind in allowed))
            raise self._bad(f"its type is {known.name if known else number}; a filter program may use {names}")
        return known

    def _size(self, what: str) -> int:
        """Bytes of the key or value, which may be given as a type or as a number."""
        stated = self._numbers.get(f"{what}_size")
        if what not in self._types:
            return stated or 0
        size = self._btf.size_of(self._types[what])
        if stated not in (None, size):
            raise self._bad(f"{what}_size={stated}, but its type takes {size} bytes")
        return size

    def _bad(self, why: str) -> NotReadable:
        return NotReadable(f"map {self._name}: {why}")
