"""The wire at a host: frames out of its interface, and those that it receives."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from pathlib import Path

from demo.lab import HOST_INTERFACE
from oko.kernel.namespace import run_in
from tests.patience import patience

EXPERIMENTAL = 0x88B5  # IEEE 802, for local experiments
_PATIENCE = patience(10)
_FROM_HERE = 4  # PACKET_OUTGOING of <linux/if_packet.h>


class Wire:
    """Of the host in the network namespace at `path`. Only frames of type EXPERIMENTAL are received."""

    def __init__(self, path: Path) -> None:
        self._socket = run_in(path, self._open)

    @staticmethod
    def _open() -> socket.socket:
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EXPERIMENTAL))
        raw.bind((HOST_INTERFACE, EXPERIMENTAL))
        return raw

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """Readable when a frame has come in, or was sent."""
        return self._socket.fileno()

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def receive(self) -> bytes:
        """The next frame that came in."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            frame, (_, _, kind, *_) = self._socket.recvfrom(1 << 16)
            if kind != _FROM_HERE:
                return frame

    def waiting(self) -> list[bytes]:
        """The frames that have come in and were not received yet."""
        frames = []
        self._socket.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                frame, (_, _, kind, *_) = self._socket.recvfrom(1 << 16)
                if kind != _FROM_HERE:
                    frames.append(frame)
        return frames


def frame(number: int = 0, *, source: int = 1, size: int = 60) -> bytes:
    """A frame of type EXPERIMENTAL from 02:00:00:00:00:`source` to another address, with a number in it."""
    head = bytes.fromhex("0200000000ff0200000000") + source.to_bytes(1) + EXPERIMENTAL.to_bytes(2)
    return (head + number.to_bytes(4)).ljust(size, b"\xa5")
