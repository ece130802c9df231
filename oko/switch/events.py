"""`Events`: what programs put into their ring buffers, read once and given to everybody who asked for it."""

from __future__ import annotations

import contextlib
import os
import select
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from oko.errors import BadMapAccess, KernelError, UnknownMap, UnknownProgram
from oko.kernel.maps import Map
from oko.kernel.ringbuf import RINGBUF, RingBuffer
from verifier.program import MapSpec

Listener = Callable[[bytes | None], None]
"""Told of each record, and of None when there are no more to come."""

_ROUND: Final = 64
"""Records of one ring buffer between two looks at what else has happened."""


@dataclass(slots=True)
class _Stream:
    """One ring buffer: the reader of it, with a map descriptor of its own, and its listeners."""

    source: Map
    reader: RingBuffer
    listeners: list[Listener] = field(default_factory=list)


class Events:
    """The ring buffers of a bridge's programs that somebody listens to. A ring buffer has one reader, and this is it.

    What a program writes while nobody listens stays in its ring buffer, until that is full.
    """

    def __init__(self, find: Callable[[int, str], tuple[MapSpec, Map]]) -> None:
        """`find` gives a map of a program; it raises UnknownProgram and UnknownMap."""
        self._find = find
        self._streams: dict[tuple[int, str], _Stream] = {}
        self._poll = select.epoll()

    def fileno(self) -> int:
        """A descriptor for an event loop, readable while `deliver` has something to do."""
        return self._poll.fileno()

    def listen(self, program: int, name: str, listener: Listener) -> Callable[[], None]:
        """Tell `listener` of every record of this map that is read from now on, until what is returned is called, which
        may be done more than once. Raises UnknownProgram, UnknownMap, BadMapAccess, KernelError."""
        key = program, name
        stream = self._streams.get(key)
        if stream is None:
            stream = self._open(program, name)
            self._add(key, stream)
        stream.listeners.append(listener)

        def leave() -> None:
            current = self._streams.get(key)
            if current is not None and listener in current.listeners:
                current.listeners.remove(listener)
                if not current.listeners:
                    self._close(key)

        return leave

    def deliver(self) -> None:
        """Tell the listeners of the records that wait; of many, some."""
        ready = {descriptor for descriptor, _ in self._poll.poll(0)}
        for stream in list(self._streams.values()):
            if stream.source.fd in ready:
                _pass_on(stream, _ROUND)

    def refresh(self, program: int) -> None:
        """The program was loaded or unloaded: go on with the maps that it has now. Where it has none of that name, the
        listeners are told that it is over."""
        for key in [key for key in self._streams if key[0] == program]:
            stream = self._streams[key]
            try:
                _, found = self._find(*key)
                if found.id == stream.source.id:
                    continue
                renewed = self._open(*key)
            except (UnknownProgram, UnknownMap, BadMapAccess, KernelError):
                renewed = None
            # What the old program wrote comes before what the new one writes.
            while _pass_on(stream, _ROUND):
                pass
            self._close(key)
            if renewed is not None:
                renewed.listeners = stream.listeners
                self._add(key, renewed)
                continue
            for listener in list(stream.listeners):
                listener(None)

    def _open(self, program: int, name: str) -> _Stream:
        spec, found = self._find(program, name)
        if spec.type != RINGBUF:
            raise BadMapAccess(f"map {name} of program {program} is no ring buffer: programs report through those only")
        with contextlib.ExitStack() as undo:
            source = undo.enter_context(Map(os.dup(found.fd)))
            stream = _Stream(source, RingBuffer(source))
            undo.pop_all()
        return stream

    def _add(self, key: tuple[int, str], stream: _Stream) -> None:
        self._streams[key] = stream
        self._poll.register(stream.source.fd, select.EPOLLIN)

    def _close(self, key: tuple[int, str]) -> None:
        stream = self._streams.pop(key)
        self._poll.unregister(stream.source.fd)
        stream.reader.close()
        stream.source.close()


def _pass_on(stream: _Stream, limit: int) -> int:
    """Tell the listeners of up to `limit` records, and return how many there were."""
    records = stream.reader.read(limit)
    for record in records:
        for listener in list(stream.listeners):
            listener(record)
    return len(records)
