"""Maps in memory that behave like the kernel's on one CPU: for the interpreter.

Keys and values are bytes of the sizes in the map's spec. Operations answer 0 or a negative errno, as the kernel's do
(kernel 6.18, kernel/bpf/{arraymap,hashtab,lpm_trie,ringbuf}.c). What `lookup` answers is the stored value itself:
a change of it changes the map.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final

from verifier.program import MapSpec, MapType

ANY: Final = 0
NOEXIST: Final = 1
EXIST: Final = 2
_LOCK: Final = 4

_PREFIX_LENGTH_SIZE: Final = 4
_RECORD_HEADER_SIZE: Final = 8


class Map:
    """What all maps have in common. A map of a type that programs cannot look up keeps these answers."""

    def __init__(self, spec: MapSpec) -> None:
        self.spec = spec

    def lookup(self, key: bytes) -> bytearray | bytes | None:
        """The value of `key`, None if there is none; `bytes` if programs may not change it."""
        return None

    def update(self, key: bytes, value: bytes, flags: int = ANY) -> int:
        """Sets the value of `key`. `flags` is ANY, NOEXIST or EXIST."""
        return -errno.EINVAL

    def delete(self, key: bytes) -> int:
        """Removes `key`."""
        return -errno.EINVAL

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Copies of all keys and values."""
        return iter(())


class ArrayMap(Map):
    """ARRAY and PERCPU_ARRAY. The key is the index as an u32; a data section is an array of one element."""

    def __init__(self, spec: MapSpec) -> None:
        super().__init__(spec)
        self._values: list[bytearray | bytes]
        if spec.initial is not None:
            self._values = [spec.initial if spec.frozen else bytearray(spec.initial)]
        else:
            self._values = [bytearray(spec.value_size) for _ in range(spec.max_entries)]

    def lookup(self, key: bytes) -> bytearray | bytes | None:
        index = int.from_bytes(key, "little")
        return self._values[index] if index < len(self._values) else None

    def update(self, key: bytes, value: bytes, flags: int = ANY) -> int:
        flags &= ~_LOCK
        index = int.from_bytes(key, "little")
        if flags > EXIST:
            return -errno.EINVAL
        if index >= len(self._values):
            return -errno.E2BIG
        if flags == NOEXIST:
            return -errno.EEXIST
        stored = self._values[index]
        if isinstance(stored, bytes):
            return -errno.EPERM
        stored[:] = value
        return 0

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        for index, value in enumerate(self._values):
            yield index.to_bytes(4, "little"), bytes(value)


class HashMap(Map):
    """HASH. An update makes a new value, so that who holds the old one does not see it."""

    def __init__(self, spec: MapSpec) -> None:
        super().__init__(spec)
        self._values: dict[bytes, bytearray] = {}

    def lookup(self, key: bytes) -> bytearray | bytes | None:
        return self._values.get(key)

    def update(self, key: bytes, value: bytes, flags: int = ANY) -> int:
        flags &= ~_LOCK
        present = key in self._values
        refused = _refusal(flags, present)
        if refused:
            return refused
        if not present and len(self._values) >= self.spec.max_entries:
            refused = self._make_room()
            if refused:
                return refused
        self._store(key, value)
        return 0

    def delete(self, key: bytes) -> int:
        return 0 if self._values.pop(key, None) is not None else -errno.ENOENT

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        for key, value in list(self._values.items()):
            yield key, bytes(value)

    def _make_room(self) -> int:
        return -errno.E2BIG

    def _store(self, key: bytes, value: bytes) -> None:
        self._values[key] = bytearray(value)


class PercpuHashMap(HashMap):
    """PERCPU_HASH, whose values are changed in place, by the one CPU that there is."""

    def _store(self, key: bytes, value: bytes) -> None:
        self._values.setdefault(key, bytearray(len(value)))[:] = value


class LruHashMap(HashMap):
    """LRU_HASH and LRU_PERCPU_HASH: a full one forgets the entry that was used longest ago. (The kernel comes only
    near to that: it keeps lists per CPU and looks at a few candidates.)"""

    def lookup(self, key: bytes) -> bytearray | bytes | None:
        value = self._values.pop(key, None)
        if value is not None:
            self._values[key] = value
        return value

    def _make_room(self) -> int:
        del self._values[next(iter(self._values))]
        return 0

    def _store(self, key: bytes, value: bytes) -> None:
        self._values.pop(key, None)
        self._values[key] = bytearray(value)


class LpmTrie(Map):
    """LPM_TRIE. A key is the length of a prefix in bits (u32) and then the data, most significant bit first."""

    def __init__(self, spec: MapSpec) -> None:
        super().__init__(spec)
        self._bits = (spec.key_size - _PREFIX_LENGTH_SIZE) * 8
        self._values: dict[tuple[int, int], tuple[bytes, bytearray]] = {}  # (length, prefix) → key, value

    def lookup(self, key: bytes) -> bytearray | bytes | None:
        """The value of the longest prefix that covers `key` and is not longer than it."""
        length, data = self._parse(key)
        for shorter in range(min(length, self._bits), -1, -1):
            found = self._values.get((shorter, data >> self._bits - shorter))
            if found is not None:
                return found[1]
        return None

    def update(self, key: bytes, value: bytes, flags: int = ANY) -> int:
        length, data = self._parse(key)
        if length > self._bits:
            return -errno.EINVAL
        prefix = (length, data >> self._bits - length)
        refused = _refusal(flags, prefix in self._values)
        if refused:
            return refused
        if prefix not in self._values and len(self._values) >= self.spec.max_entries:
            return -errno.ENOSPC
        self._values[prefix] = (bytes(key), bytearray(value))
        return 0

    def delete(self, key: bytes) -> int:
        length, data = self._parse(key)
        if length > self._bits:
            return -errno.EINVAL
        found = self._values.pop((length, data >> self._bits - length), None)
        return 0 if found is not None else -errno.ENOENT

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        for key, value in list(self._values.values()):
            yield key, bytes(value)

    def _parse(self, key: bytes) -> tuple[int, int]:
        length = int.from_bytes(key[:_PREFIX_LENGTH_SIZE], "little")
        return length, int.from_bytes(key[_PREFIX_LENGTH_SIZE:], "big")


class RingBuffer(Map):
    """RINGBUF, read at once: `records` are the records submitted so far, in that order."""

    def __init__(self, spec: MapSpec) -> None:
        super().__init__(spec)
        self.records: list[bytes] = []

    def fits(self, size: int) -> bool:
        """Whether a record of `size` bytes has room in the empty buffer."""
        return _RECORD_HEADER_SIZE + (size + 7 & ~7) <= self.spec.max_entries

    def output(self, record: bytes) -> int:
        """Appends a record."""
        if not self.fits(len(record)):
            return -errno.EAGAIN
        self.records.append(bytes(record))
        return 0


def _refusal(flags: int, present: bool) -> int:
    """What an update with these flags answers before it does anything, 0 if it may go on."""
    if flags > EXIST:
        return -errno.EINVAL
    if flags == NOEXIST and present:
        return -errno.EEXIST
    if flags == EXIST and not present:
        return -errno.ENOENT
    return 0


_CLASSES: Final[dict[MapType, type[Map]]] = {
    MapType.HASH: HashMap,
    MapType.ARRAY: ArrayMap,
    MapType.PERCPU_HASH: PercpuHashMap,
    MapType.PERCPU_ARRAY: ArrayMap,
    MapType.LRU_HASH: LruHashMap,
    MapType.LRU_PERCPU_HASH: LruHashMap,
    MapType.LPM_TRIE: LpmTrie,
    MapType.RINGBUF: RingBuffer,
}


def simulate(spec: MapSpec) -> Map:
    """An empty map (a data section: with its content) of one of the types that filter programs may declare."""
    return _CLASSES[spec.type](spec)
