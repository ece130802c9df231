"""The records of the ring buffer `packet_ins`, which bpf_programs/runtime/packet_in.c writes, and what it is told."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from oko.errors import NotReadable
from oko.flow.packet_in import PacketInReason

ARGUMENT: Final = struct.Struct("<IBB10x")
"""The argument of oko_packet_in: slot of the rule, reason (PacketInReason), table."""

_HEADER: Final = struct.Struct("<QQIIIBBxx")
"""`struct oko_packet_in`, in host order; the frame follows it, and then nothing that means anything."""


@dataclass(frozen=True, slots=True)
class PacketInRecord:
    """A packet for the controllers. `slot` is that of the rule in `table` that says so, None without a rule; `time` is
    in ns, monotonic."""

    slot: int | None
    reason: PacketInReason
    table: int
    in_port: int
    metadata: int
    frame: bytes
    time: int = 0


def unpack(record: bytes) -> PacketInRecord:
    """Raises NotReadable for bytes that are no such record."""
    if len(record) < _HEADER.size:
        raise NotReadable(f"a record of packet_ins has {len(record)} bytes, fewer than its header: rebuild the objects")
    time, metadata, slot, in_port, length, reason, table = _HEADER.unpack_from(record)
    frame = record[_HEADER.size : _HEADER.size + length]
    if len(frame) != length:
        raise NotReadable(
            f"a record of packet_ins has {len(frame)} bytes of a frame, and says {length}: rebuild the objects"
        )
    return PacketInRecord(slot, PacketInReason(reason), table, in_port, metadata, frame, time)
