"""What a map holds while a program is tried, by the types that the program gave it, in the kernel or simulated."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from oko.errors import BadMapAccess
from oko.kernel.maps import Map as KernelMap
from oko.replay.program_map import ProgramMap
from oko.switch.schema import Value, parse, read, write
from verifier.maps import Map as SimulatedMap

_ABSENT: Final = "no such entry"


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that is not as expected: `what` it is, and what was `found` and `expected`, all for people."""

    what: str
    found: str
    expected: str


class MapContent:
    """The entries of a map. Keys are text as on a command line, values as `oko.switch.schema.read` gives them. Of a map
    with a value for each CPU, the value is that of the CPU which runs the program."""

    def __init__(self, described: ProgramMap) -> None:
        self._described = described
        self._name = described.name
        self._map = described.present
        self._key = described.key
        self._value = described.value

    def update(self, entries: Mapping[str, Value]) -> None:
        """Write entries; members that a value leaves out stay as they are, or are zero in a new entry. Raises
        BadMapAccess."""
        for text, value in entries.items():
            key = self._key_bytes(text)
            self._described.write([(key, self._value_bytes(text, value, self._lookup(key)))])

    def differences(self, expected: Mapping[str, Value]) -> Iterator[Difference]:
        """How the map differs from these entries. Members that a value leaves out may be anything; a map that is no
        array has no other entries. Raises BadMapAccess for an entry that cannot be."""
        wanted = {self._key_bytes(text): text for text in expected}
        for key, text in wanted.items():
            found = self._lookup(key)
            data = self._value_bytes(text, expected[text], found)
            if found is None or data != found:
                shown = _ABSENT if found is None else _json(read(self._value, found))
                yield Difference(f"map {self._name}, key {text}", shown, _json(expected[text]))
        if self._described.is_array:
            return
        for key, found in self._items():
            if key not in wanted:
                text = _json(read(self._key, key)).strip('"')
                yield Difference(f"map {self._name}, key {text}", _json(read(self._value, found)), _ABSENT)

    def _key_bytes(self, text: str) -> bytes:
        self._described.require_entries()
        try:
            return write(self._key, parse(self._key, text))
        except BadMapAccess as error:
            raise BadMapAccess(f"map {self._name}, key {text}: {error}") from None

    def _value_bytes(self, text: str, value: Value, base: bytes | None) -> bytes:
        try:
            return write(self._value, value, base)
        except BadMapAccess as error:
            raise BadMapAccess(f"map {self._name}, key {text}: {error}") from None

    def _lookup(self, key: bytes) -> bytes | None:
        """The value of exactly this key, which is not what a look-up in a trie of prefixes finds."""
        if self._described.is_array:
            match self._map:
                case KernelMap() if self._map.per_cpu:
                    values = self._map.lookup_percpu(key)
                    return None if values is None else values[_cpu()]
                case KernelMap() | SimulatedMap():
                    found = self._map.lookup(key)
                    return None if found is None else bytes(found)
        return next((value for present, value in self._items() if present == key), None)

    def _items(self) -> Iterator[tuple[bytes, bytes]]:
        if isinstance(self._map, KernelMap) and self._map.per_cpu:
            return ((key, values[_cpu()]) for key, values in self._map.items_percpu())
        return self._map.items()


def _cpu() -> int:
    """The CPU that an engine in the kernel keeps its thread on."""
    return min(os.sched_getaffinity(0))


def _json(value: Value) -> str:
    return json.dumps(value, ensure_ascii=False)
