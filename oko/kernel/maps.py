"""`Map`: a BPF map, and the elements in it as bytes."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Iterable, Iterator
from ctypes import byref, c_uint32, create_string_buffer
from itertools import islice
from typing import Self

from oko.errors import KernelError
from oko.kernel.cpus import possible_cpus
from oko.kernel.descriptor import Descriptor
from oko.kernel.libbpf import (
    ENOTSUPP,
    MapBatchOptions,
    MapCreateOptions,
    attempt,
    call,
    failure,
    information,
    object_name,
    options,
)

# enum bpf_map_type of <linux/bpf.h>
HASH = 1
ARRAY = 2
PROG_ARRAY = 3
PERCPU_HASH = 5
PERCPU_ARRAY = 6
LRU_HASH = 9
LRU_PERCPU_HASH = 10
LPM_TRIE = 11
ARRAY_OF_MAPS = 12
DEVMAP = 14
DEVMAP_HASH = 25

# flags of an update, <linux/bpf.h>
ANY = 0
NOEXIST = 1
EXIST = 2

_PER_CPU = frozenset({PERCPU_HASH, PERCPU_ARRAY, LRU_PERCPU_HASH})
# The kinds whose batch commands neither skip nor repeat an element while others are being deleted: a hash is
# read bucket by bucket, an array has no deletions. (An LPM trie's batch read fails under deletions before 6.14.)
_BATCHED = frozenset({HASH, ARRAY, PERCPU_HASH, PERCPU_ARRAY, LRU_HASH, LRU_PERCPU_HASH, ARRAY_OF_MAPS})
_BATCH = 1024
# A walk by keys starts over when the key it stands on goes away: so many times, before it gives up.
_PATIENCE = 64


class _MapInfo(ctypes.Structure):
    """struct bpf_map_info up to the last member that is read here."""

    _fields_ = [
        ("type", c_uint32),
        ("id", c_uint32),
        ("key_size", c_uint32),
        ("value_size", c_uint32),
        ("max_entries", c_uint32),
        ("map_flags", c_uint32),
        ("name", ctypes.c_char * 16),
    ]


class Map(Descriptor):
    """A BPF map. Keys and values are bytes in the host's order, exactly `key_size` and `value_size` long.

    A per-CPU map has one value per possible CPU behind a key: `lookup_percpu` and `items_percpu` read them all,
    and an update writes the same value for every CPU. User space writes a program array with the u32 fd of
    a program and a devmap with a u32 ifindex (and a u32 program fd), and reads a program array's program ids.
    """

    kind = "map"
    inode = "bpf-map"

    def __init__(self, fd: int) -> None:
        """Take over `fd`, which must be a map's."""
        super().__init__(fd)
        info = _MapInfo()
        information(fd, info, "reading a map's properties")
        self.name: str = info.name.decode()
        self.id: int = info.id
        self.type: int = info.type
        self.key_size: int = info.key_size
        self.value_size: int = info.value_size
        self.max_entries: int = info.max_entries
        self.flags: int = info.map_flags

    def __repr__(self) -> str:
        return f"<map {self.name!r} id {self.id} type {self.type}>"

    @classmethod
    def create(
        cls,
        name: str,
        type: int,
        key_size: int,
        value_size: int,
        max_entries: int,
        *,
        flags: int = 0,
        btf_fd: int = 0,
        key_type: int = 0,
        value_type: int = 0,
        inner: Map | None = None,
    ) -> Self:
        """A new map. Sizes are bytes, `flags` BPF_F_* of <linux/bpf.h>.

        The kernel keeps the first 15 bytes of `name`, which need not be unique. `key_type` and `value_type` are type
        ids in the BTF object `btf_fd`. `inner` is the pattern of the maps that a map of maps takes. Raises KernelError.
        """
        described = options(
            MapCreateOptions,
            map_flags=flags,
            btf_fd=btf_fd,
            btf_key_type_id=key_type,
            btf_value_type_id=value_type,
            inner_map_fd=inner.fd if inner else 0,
        )
        shape = f"type {type}, key {key_size} bytes, value {value_size} bytes, {max_entries} entries, flags {flags:#x}"
        fd = call(
            "bpf_map_create",
            type,
            object_name(name),
            key_size,
            value_size,
            max_entries,
            byref(described),
            what=f"creating the map {name} ({shape})",
        )
        try:
            return cls(fd)
        except BaseException:
            os.close(fd)
            raise

    @property
    def per_cpu(self) -> bool:
        """Whether a key has one value per possible CPU."""
        return self.type in _PER_CPU

    def lookup(self, key: bytes) -> bytes | None:
        """The value behind `key`, None when there is no such element. Raises KernelError."""
        self._require_per_cpu(False)
        return self._lookup(key)

    def lookup_percpu(self, key: bytes) -> tuple[bytes, ...] | None:
        """The values behind `key` of a per-CPU map in the order of the CPUs, None when there is no such element."""
        self._require_per_cpu(True)
        found = self._lookup(key)
        return None if found is None else self._split(found)

    def update(self, key: bytes, value: bytes, flags: int = ANY) -> None:
        """Write one element (ANY, NOEXIST or EXIST); on a per-CPU map the same value for every CPU.

        Raises KernelError: EEXIST and ENOENT as the flags ask, E2BIG or ENOSPC when the map is full.
        """
        result = attempt("bpf_map_update_elem", self.fd, self._key(key), self._value(value), flags)
        if result < 0:
            raise self._refusal(key, -result)

    def update_batch(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Write many elements, in order. Raises KernelError at the first that fails; those before it are written."""
        remaining = iter(entries)
        while chunk := list(islice(remaining, _BATCH)):
            written = self._update_chunk(chunk) if self.type in _BATCHED else 0
            for key, value in chunk[written:]:
                self.update(key, value)

    def delete(self, key: bytes) -> bool:
        """Remove one element; False when there was none. Raises KernelError (EINVAL: an array's elements stay)."""
        result = attempt("bpf_map_delete_elem", self.fd, self._key(key))
        if result < 0 and result != -errno.ENOENT:
            raise failure(f"deleting {key.hex()} from the map {self.name}", -result)
        return result == 0

    def next_key(self, key: bytes | None) -> bytes | None:
        """The key that the kernel has behind `key`, the first one for None; None at the end of the map.

        Behind a key that is not there, the first one follows. Raises KernelError.
        """
        following = create_string_buffer(self.key_size)
        given = None if key is None else self._key(key)
        result = attempt("bpf_map_get_next_key", self.fd, given, following)
        if result == -errno.ENOENT:
            return None
        if result < 0:
            raise failure(f"walking the map {self.name}", -result)
        return following.raw

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """Every element. One that exists during the whole walk comes exactly once, whatever happens to others."""
        self._require_per_cpu(False)
        return self._walk()

    def items_percpu(self) -> Iterator[tuple[bytes, tuple[bytes, ...]]]:
        """Every element of a per-CPU map, as `items`."""
        self._require_per_cpu(True)
        return ((key, self._split(value)) for key, value in self._walk())

    def memory(self) -> mmap.mmap:
        """The elements of an array made with BPF_F_MMAPABLE as memory that is shared with the programs (kernel 5.5).

        Elements stand 8-byte aligned, one behind the other. Raises KernelError.
        """
        stride = (self.value_size + 7) // 8 * 8
        try:
            return mmap.mmap(self.fd, -(-stride * self.max_entries // mmap.PAGESIZE) * mmap.PAGESIZE)
        except OSError as error:
            raise failure(f"mapping the memory of the map {self.name}", error.errno or errno.EIO) from None

    def freeze(self) -> None:
        """Forbid user space to write the map, for ever (kernel 5.2). Raises KernelError."""
        call("bpf_map_freeze", self.fd, what=f"freezing the map {self.name}")

    @property
    def _stride(self) -> int:
        """Bytes that the value of one CPU takes in a per-CPU map: the kernel rounds up to 8."""
        return (self.value_size + 7) // 8 * 8

    @property
    def _transfer_size(self) -> int:
        """Bytes that the kernel reads or writes for one element's value."""
        return self._stride * possible_cpus() if self.per_cpu else self.value_size

    def _require_per_cpu(self, wanted: bool) -> None:
        if self.per_cpu != wanted:
            has = "a value per CPU" if self.per_cpu else "one value"
            raise KernelError(f"the map {self.name} has {has} behind a key", errno=errno.EINVAL)

    def _key(self, key: bytes) -> bytes:
        if len(key) != self.key_size:
            message = f"the map {self.name} takes keys of {self.key_size} bytes, not {len(key)}"
            raise KernelError(message, errno=errno.EINVAL)
        return key

    def _value(self, value: bytes) -> bytes:
        """The value as the kernel reads it from user space."""
        if len(value) != self.value_size:
            message = f"the map {self.name} takes values of {self.value_size} bytes, not {len(value)}"
            raise KernelError(message, errno=errno.EINVAL)
        return value.ljust(self._stride, b"\0") * possible_cpus() if self.per_cpu else value

    def _split(self, transferred: bytes) -> tuple[bytes, ...]:
        return tuple(transferred[start : start + self.value_size] for start in range(0, len(transferred), self._stride))

    def _lookup(self, key: bytes) -> bytes | None:
        value = create_string_buffer(self._transfer_size)
        result = attempt("bpf_map_lookup_elem", self.fd, self._key(key), value)
        if result == -errno.ENOENT:
            return None
        if result < 0:
            raise failure(f"reading {key.hex()} from the map {self.name}", -result)
        return value.raw

    def _refusal(self, key: bytes, error: int) -> KernelError:
        what = f"writing {key.hex()} to the map {self.name}"
        if error == errno.EPERM:
            return KernelError(f"{what}: it is frozen, or not permitted", errno=error)
        if error in {errno.E2BIG, errno.ENOSPC}:
            return KernelError(f"{what}: beyond its {self.max_entries} entries", errno=error)
        return failure(what, error)

    def _update_chunk(self, chunk: list[tuple[bytes, bytes]]) -> int:
        """Write by one command; returns how many were written: 0 where the kernel has no such command."""
        keys = b"".join([self._key(key) for key, _ in chunk])
        values = b"".join([self._value(value) for _, value in chunk])
        count = c_uint32(len(chunk))
        result = attempt("bpf_map_update_batch", self.fd, keys, values, byref(count), byref(options(MapBatchOptions)))
        if result == -ENOTSUPP:
            return 0
        if result < 0:
            raise self._refusal(chunk[min(count.value, len(chunk) - 1)][0], -result)
        return len(chunk)

    def _walk(self) -> Iterator[tuple[bytes, bytes]]:
        return self._walk_batches() if self.type in _BATCHED else self._walk_keys()

    def _walk_batches(self) -> Iterator[tuple[bytes, bytes]]:
        size, room = self._transfer_size, min(_BATCH, self.max_entries)
        # The kernel's place in the map: a u32 for a hash, a key for an array.
        place = create_string_buffer(max(self.key_size, 4))
        started = False
        while True:
            keys, values = create_string_buffer(self.key_size * room), create_string_buffer(size * room)
            count = c_uint32(room)
            result = attempt(
                "bpf_map_lookup_batch",
                self.fd,
                place if started else None,
                place,
                keys,
                values,
                byref(count),
                byref(options(MapBatchOptions)),
            )
            if result == -errno.ENOSPC:  # a bucket of a hash holds more than there is room for
                room *= 2
                continue
            if result == -ENOTSUPP and not started:
                yield from self._walk_keys()
                return
            if result < 0 and result != -errno.ENOENT:
                raise failure(f"reading the map {self.name}", -result)
            key_bytes, value_bytes = keys.raw, values.raw
            for index in range(count.value):
                yield (
                    key_bytes[index * self.key_size : (index + 1) * self.key_size],
                    value_bytes[index * size : (index + 1) * size],
                )
            if result == -errno.ENOENT:
                return
            started = True

    def _walk_keys(self) -> Iterator[tuple[bytes, bytes]]:
        """One key after the other. After a key that has gone the kernel begins again: skip what was seen."""
        seen: set[bytes] = set()
        key: bytes | None = None
        repeated = 0
        while (key := self.next_key(key)) is not None:
            if key in seen:
                repeated += 1
                if repeated > _PATIENCE * len(seen):
                    raise KernelError(f"the map {self.name} changes faster than it can be read", errno=errno.EAGAIN)
                continue
            seen.add(key)
            if (value := self._lookup(key)) is not None:
                yield key, value
