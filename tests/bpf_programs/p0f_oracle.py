"""SYNs made of their parts, and p0f's own opinion of them."""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from oko.cli.p0f_signatures import QUIRKS, Signature

DATABASE = Path("/etc/p0f/p0f.fp")

_SYN, _PSH, _URG = 0x02, 0x08, 0x20
_ETHERNET = bytes.fromhex("020000000002 020000000001")
# p0f says "sendsyn probe" of the SYNs that its own tool sends.
_OBSERVATION = re.compile(r"mod=(?:syn|sendsyn probe)\|cli=[^/]+/(?P<port>\d+)\|.*?\|(?:os|app)=(?P<label>[^|]*)\|")
_PCAP_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)


@dataclass(frozen=True, slots=True)
class Syn:
    """A SYN over IPv4 or IPv6. `encode` makes a frame of it; checksums stay zero, nobody here looks at them."""

    version: int = 4
    ttl: int = 64
    df: bool = True
    identification: int = 1
    reserved_flag: bool = False
    ip_ecn: int = 0
    flow_label: int = 0
    ip_options: bytes = b""
    seq: int = 1
    ack: int = 0
    flags: int = _SYN
    ns: bool = False
    window: int = 0
    urgent: int = 0
    options: bytes = b""
    payload: bytes = b""
    tags: bytes = b""
    """TPIDs and TCIs of VLAN tags; p0f reads no tagged frames from Ethernet."""

    def encode(self, port: int = 1) -> bytes:
        """The frame, from TCP port `port`."""
        tcp = struct.pack(
            ">HHIIBBHHH",
            *(port, 80, self.seq, self.ack),
            (20 + len(self.options)) // 4 << 4 | self.ns,
            *(self.flags, self.window, 0, self.urgent),
        )
        tcp += self.options + self.payload
        if self.version == 6:
            first = 6 << 28 | self.ip_ecn << 20 | self.flow_label
            ip = struct.pack(">IHBB", first, len(tcp), 6, self.ttl) + bytes([0xFD, *(0,) * 14, 1, 0xFD, *(0,) * 14, 2])
            return _ETHERNET + self.tags + b"\x86\xdd" + ip + tcp
        length = 20 + len(self.ip_options)
        ip = struct.pack(
            ">BBHHHBBH4s4s",
            *(4 << 4 | length // 4, self.ip_ecn, length + len(tcp), self.identification),
            self.reserved_flag << 15 | self.df << 14,
            *(self.ttl, 6, 0, bytes((10, 0, 0, 1)), bytes((10, 0, 0, 2))),
        )
        return _ETHERNET + self.tags + b"\x08\x00" + ip + self.ip_options + tcp


def options_of(kinds: Sequence[int], padding: int, mss: int, scale: int, timestamps: tuple[int, int]) -> bytes:
    """TCP options of these kinds, filled up with zeros behind the last if they end in the middle of a word."""
    known = {
        0: bytes(1 + padding),
        1: b"\x01",
        2: struct.pack(">BBH", 2, 4, mss),
        3: struct.pack(">BBB", 3, 3, scale),
        4: b"\x04\x02",
        5: b"\x05\x0a" + bytes(8),
        8: struct.pack(">BBII", 8, 10, *timestamps),
    }
    made = b"".join(known.get(kind, bytes((kind, 2))) for kind in kinds)
    return made + bytes(-len(made) % 4)


def syn_of(signature: Signature, version: int = 4, mss: int = 1460) -> Syn:
    """A SYN that fits a signature, with `mss` where it may have any."""
    quirks = {name for name, bit in QUIRKS.items() if signature.quirks & bit}
    chosen_mss = mss if signature.mss is None else signature.mss
    window = signature.window
    unit = 1
    if window is not None:
        unit = {"UNIT_BYTES": 1, "UNIT_MSS": chosen_mss, "UNIT_MTU": chosen_mss + 40}[window.unit]
    return Syn(
        version=version,
        ttl=signature.ttl,
        df="df" in quirks,
        identification=int("id+" in quirks or not quirks & {"df", "id-"}),
        reserved_flag="0+" in quirks,
        ip_ecn=int("ecn" in quirks),
        flow_label=int("flow" in quirks),
        ip_options=b"\x01" * signature.layout.ip_options,
        seq=int("seq-" not in quirks),
        ack=0x01000000 if "ack+" in quirks else 0,
        flags=_SYN | _PSH * ("pushf+" in quirks) | _URG * ("urgf+" in quirks),
        window=12345 if window is None else min(window.number * unit, 0xFFFF),
        urgent=int("uptr+" in quirks),
        options=options_of(
            signature.layout.kinds,
            signature.layout.padding,
            chosen_mss,
            9 if signature.scale is None else signature.scale,
            (int("ts1-" not in quirks), int("ts2+" in quirks)),
        ),
        payload=b"\x01" if signature.payload else b"",
    )


def with_port(frame: bytes, port: int) -> bytes:
    """An untagged frame with another TCP source port."""
    at = 54 if frame[12:14] == b"\x86\xdd" else 14 + (frame[14] & 0x0F) * 4
    return frame[:at] + port.to_bytes(2, "big") + frame[at + 2 :]


def ask_p0f(frames: Sequence[bytes], directory: Path) -> list[str | None]:
    """The label that p0f has for each of at most 65,535 untagged frames, "???" where it knows none; None for those that
    it does not look at."""
    capture, log = directory / "syns.pcap", directory / "p0f.log"
    records = [with_port(frame, port) for port, frame in enumerate(frames, 1)]
    capture.write_bytes(
        _PCAP_HEADER
        + b"".join(
            struct.pack("<IIII", 1, number, len(record), len(record)) + record for number, record in enumerate(records)
        )
    )
    log.unlink(missing_ok=True)
    subprocess.run(["p0f", "-f", DATABASE, "-r", capture, "-o", log], check=True, capture_output=True)
    labels: list[str | None] = [None] * len(frames)
    for found in _OBSERVATION.finditer(log.read_text()):
        labels[int(found["port"]) - 1] = found["label"]
    return labels
