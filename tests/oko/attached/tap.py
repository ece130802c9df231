"""The wire at a host, with all that comes in: frames of every type, tags in their place."""

from __future__ import annotations

import socket
import struct
import time
from pathlib import Path

from demo.lab import HOST_INTERFACE
from oko.kernel.namespace import run_in
from tests.patience import patience

_ALL = 0x0003  # ETH_P_ALL
_FROM_HERE = 4  # PACKET_OUTGOING of <linux/if_packet.h>
_SOL_PACKET, _PACKET_AUXDATA = 263, 8
_SO_RCVBUFFORCE = 33  # <asm-generic/socket.h>
_AUXDATA = struct.Struct("=IIIHHHH")  # struct tpacket_auxdata
_VLAN_VALID, _TPID_VALID = 0x10, 0x40
_PATIENCE = patience(10)


class Tap:
    """Of the host in the network namespace at `path`."""

    def __init__(self, path: Path) -> None:
        self._socket = run_in(path, self._open)

    @staticmethod
    def _open() -> socket.socket:
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
        raw.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20)
        raw.bind((HOST_INTERFACE, _ALL))
        raw.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        return raw

    def close(self) -> None:
        self._socket.close()

    def send(self, frame: bytes) -> None:
        self._socket.send(frame)

    def until(self, last: bytes) -> list[bytes]:
        """The frames that come in up to `last`, without it."""
        deadline = time.monotonic() + _PATIENCE
        frames: list[bytes] = []
        while True:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            found = self._receive()
            if found == last:
                return frames
            if found is not None:
                frames.append(found)

    def _receive(self) -> bytes | None:
        """A frame, with the tag that the kernel has taken off; None for one that the host itself has sent."""
        data, ancillary, _, address = self._socket.recvmsg(1 << 16, 256)
        if address[2] == _FROM_HERE:
            return None
        for level, kind, content in ancillary:
            if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
                status, _, _, _, _, tci, tpid = _AUXDATA.unpack(content[: _AUXDATA.size])
                if status & _VLAN_VALID:
                    tag = struct.pack(">HH", tpid if status & _TPID_VALID else 0x8100, tci)
                    return data[:12] + tag + data[12:]
        return data
