"""A byte stream cut into OpenFlow messages."""

from __future__ import annotations

from collections.abc import Iterator

from .codec import malformed
from .messages import HEADER_SIZE


class Splitter:
    """Takes the bytes of one connection as they come and gives complete messages, whose type and content are not
    looked at."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that `data` completes. Raises ProtocolError, after the messages before it, at a header whose
        length is below 8: there is no way to find the next message then, so the connection must be closed."""
        self._buffer += data
        return self._complete()

    @property
    def pending(self) -> int:
        """Bytes of the message that is not complete yet. Not zero at the end of the stream means that it was cut
        off."""
        return len(self._buffer)

    def _complete(self) -> Iterator[bytes]:
        buffer = self._buffer
        while len(buffer) >= 4:
            length = int.from_bytes(buffer[2:4], "big")
            if length < HEADER_SIZE:
                raise malformed(f"a message header says {length} bytes, the header alone has {HEADER_SIZE}")
            if len(buffer) < length:
                return
            message = bytes(buffer[:length])
            del buffer[:length]
            yield message
