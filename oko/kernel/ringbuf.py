"""`RingBuffer`: the records that programs send to user space through a BPF_MAP_TYPE_RINGBUF (kernel 5.8)."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Callable
from ctypes import CFUNCTYPE, c_int, c_size_t, c_void_p
from functools import cache
from types import TracebackType
from typing import Any, Self

from oko.errors import KernelError
from oko.kernel.libbpf import failure, library
from oko.kernel.maps import Map

RINGBUF = 27
"""BPF_MAP_TYPE_RINGBUF of <linux/bpf.h>. Keys and values have 0 bytes; `max_entries` is the ring's size in bytes,
a power of two and a multiple of the page size."""

_TAKEN = CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)  # ring_buffer_sample_fn
_ENOUGH = -errno.ECANCELED


@cache
def _functions() -> tuple[Callable[..., Any], Callable[..., None]]:
    """ring_buffer__new, which gives a null pointer and an errno on failure, and ring_buffer__free."""
    new = CFUNCTYPE(c_void_p, c_int, _TAKEN, c_void_p, c_void_p, use_errno=True)(("ring_buffer__new", library()))
    free = CFUNCTYPE(None, c_void_p)(("ring_buffer__free", library()))
    return new, free


class RingBuffer:
    """The reading end of `source`, a map of type RINGBUF, which must stay open as long as this.

    There is one reader: a second one on the same map would take records away from the first. libbpf does the reading
    because the order of the accesses to the shared pages matters, and Python has no acquire and release.
    Raises KernelError when the map is no ring buffer or cannot be mapped.
    """

    def __init__(self, source: Map) -> None:
        self._ring: int | None = None
        self._source = source
        self._records: list[bytes] = []
        self._limit = 0
        self._taken = _TAKEN(self._take)  # the library keeps only the address of it
        if source.type != RINGBUF:
            message = f"the map {source.name} is of type {source.type}, not a ring buffer (type {RINGBUF})"
            raise KernelError(message, errno=errno.EINVAL)
        new, _ = _functions()
        self._ring = new(source.fd, self._taken, None, None)
        if self._ring is None:
            raise failure(f"mapping the ring buffer {source.name}", ctypes.get_errno())

    def fileno(self) -> int:
        """A descriptor for epoll or an event loop's add_reader, readable while there are records.

        It is the map's own. Take it out of the loop before the map is closed.
        """
        return self._source.fd

    def read(self, limit: int) -> list[bytes]:
        """Up to `limit` (at least 1) records in the order in which programs reserved their room; never waits.

        A record that a program has reserved and not submitted yet holds back those behind it. Discarded records are
        passed over. What is left keeps the descriptor readable. Raises KernelError once the ring buffer is closed.
        """
        if self._ring is None:
            raise KernelError("this ring buffer is closed", errno=errno.EBADF)
        if limit < 1:
            raise KernelError(f"reading {limit} records of a ring buffer: ask for at least one", errno=errno.EINVAL)
        self._records, self._limit = [], limit
        ring = c_void_p(self._ring)
        consume = library().ring_buffer__consume
        if (result := consume(ring)) < 0 and result != _ENOUGH:
            raise failure(f"reading the ring buffer {self._source.name}", -result)
        return self._records

    def close(self) -> None:
        """Unmap the ring. The map stays open; closing twice is harmless."""
        if self._ring is not None:
            _, free = _functions()
            free(self._ring)
            self._ring = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _take(self, context: int | None, address: int | None, size: int) -> int:
        """libbpf's call for one record. A negative result ends the round, this record being consumed already."""
        self._records.append(ctypes.string_at(address or 0, size))
        return _ENOUGH if len(self._records) == self._limit else 0
