"""The table of packets that tests a filter program: a TOML file, as bpf_programs/template/packets.toml describes it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from oko.author.frame import build_frame
from oko.errors import BadMatch, BadPacketTable, FlowError
from oko.flow.action import MAX_PORT
from oko.flow.match_text import read_match
from oko.flow.words import read_words
from oko.replay.engine import LONGEST, SHORTEST
from oko.switch.schema import Value

VERDICTS: Final = {"match": True, "no match": False}
_FIRST_PORT: Final = 1
_START: Final = 1
"""Seconds on the clock at the first packet: a program may take 0 for never."""
_LAST: Final = 1 << 32
"""Seconds that the clock can show."""
_SECOND: Final = 1_000_000_000
_KEYS: Final[dict[str, type | tuple[type, ...]]] = {
    "name": str,
    "fields": str,
    "payload": str,
    "hex": str,
    "in_port": int,
    "time": (int, Decimal),
    "verdict": str,
    "update": dict,
    "maps": dict,
}
"""What a packet may have, and of which type."""

MapValues = Mapping[str, Mapping[str, Value]]
"""By name of a map and text of a key, a value."""


@dataclass(frozen=True, slots=True)
class PacketTest:
    """A packet, and what a program should say of it.

    `time` is that of the program's clock in ns. `updates` are written into maps before it; `expected` is what maps
    hold after it.
    """

    name: str
    frame: bytes
    in_port: int
    time: int
    matches: bool
    updates: MapValues = field(default_factory=dict)
    expected: MapValues = field(default_factory=dict)


def parse_packets(text: str, source: str) -> list[PacketTest]:
    """The packets of a file called `source`, in its order. Raises BadPacketTable."""
    try:
        content = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise BadPacketTable(f"{source}: {error}") from None
    packets = content.pop("packet", None)
    if content:
        raise BadPacketTable(f"{source}: {min(content)!r} is nothing known: there is only [[packet]]")
    if not isinstance(packets, list) or not packets or not all(isinstance(packet, dict) for packet in packets):
        raise BadPacketTable(f"{source}: no packets: begin each with [[packet]]")
    tests: list[PacketTest] = []
    now = _START * _SECOND
    for number, packet in enumerate(packets, 1):
        where = f"{source}, packet {number}" + (f" ({packet['name']})" if isinstance(packet.get("name"), str) else "")
        try:
            tests.append(_packet(packet, now))
        except (BadPacketTable, FlowError) as error:
            raise BadPacketTable(f"{where}: {error}") from None
        now = tests[-1].time
    return tests


def _packet(packet: dict[str, Any], now: int) -> PacketTest:
    for key, value in packet.items():
        if key not in _KEYS:
            raise BadPacketTable(f"{key!r} is nothing known: there are {', '.join(_KEYS)}")
        if not isinstance(value, _KEYS[key]) or isinstance(value, bool):
            raise BadPacketTable(f"{key} cannot be {value!r}")
    for key in ("name", "verdict"):
        if key not in packet:
            raise BadPacketTable(f"{key} is missing")
    if packet["verdict"] not in VERDICTS:
        raise BadPacketTable(f"verdict cannot be {packet['verdict']!r}: it is one of {', '.join(VERDICTS)}")
    in_port = packet.get("in_port", _FIRST_PORT)
    if not 1 <= in_port <= MAX_PORT:
        raise BadPacketTable(f"in_port cannot be {in_port}: ports are 1 to {MAX_PORT}")
    return PacketTest(
        packet["name"],
        _frame(packet),
        in_port,
        _time(packet["time"], now) if "time" in packet else now,
        VERDICTS[packet["verdict"]],
        _map_values(packet, "update"),
        _map_values(packet, "maps"),
    )


def _frame(packet: dict[str, Any]) -> bytes:
    if ("hex" in packet) == ("fields" in packet):
        raise BadPacketTable("write the packet with fields or with hex")
    if "hex" in packet:
        if "payload" in packet:
            raise BadPacketTable("payload goes with fields: hex is the whole frame")
        frame = _bytes("hex", packet["hex"])
    else:
        match = read_match(list(read_words(packet["fields"], BadMatch)))
        frame = build_frame(match, _bytes("payload", packet.get("payload", "")))
    if not SHORTEST <= len(frame) <= LONGEST:
        raise BadPacketTable(f"a frame of {len(frame)} bytes reaches no program: it has {SHORTEST} to {LONGEST}")
    return frame


def _bytes(key: str, text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise BadPacketTable(f"{key} is not hexadecimal") from None


def _time(seconds: int | Decimal, now: int) -> int:
    is_time = Decimal(seconds).is_finite() and 0 <= seconds <= _LAST
    time = seconds * _SECOND if is_time else 0
    if not is_time or time != int(time):
        raise BadPacketTable(f"time cannot be {seconds}: it is in seconds, 0 to {_LAST}, and whole ns")
    if time < now:
        raise BadPacketTable(f"time goes back to {seconds} s: packets stand in the order of their times")
    return int(time)


def _map_values(packet: dict[str, Any], key: str) -> MapValues:
    found = packet.get(key, {})
    for name, entries in found.items():
        if not isinstance(entries, dict):
            raise BadPacketTable(f"{key}.{name}: write {key}.{name}.KEY = VALUE, or {{}} for no entries")
    return dict(found)
