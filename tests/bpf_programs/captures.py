"""Captures that show sample programs with ``oko replay``, made by ``python -m tests.bpf_programs.captures``.

They are in tests/captures, with the flows and entries of maps that go with them; the pages of the programs show what a
replay prints.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Final

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from oko.author.packets import parse_packets
from oko.cli.p0f_signatures import OPTIONS
from tests.bpf_programs.harness import SOURCES
from tests.bpf_programs.p0f_oracle import Syn, options_of

DIRECTORY: Final = Path(__file__).parents[1] / "captures"

_ETHERNET: Final = 1  # LINKTYPE_ETHERNET
_SECOND: Final = 1_000_000_000

Frame = tuple[int, int, bytes]
"""Time in ns, port from 1 on, bytes."""


def firewall() -> Iterator[Frame]:
    """The table of packets beside the program, up to the packet before which its configuration changes."""
    tests = parse_packets((SOURCES / "firewall.toml").read_text(), "firewall.toml")
    for number, test in enumerate(takewhile(lambda test: not test.updates, tests)):
        yield test.time + number * 1_000_000, test.in_port, test.frame


def token_bucket() -> Iterator[Frame]:
    """For half a second, 4,000 packets/s from one source and 200 from another."""
    link = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    sources = (IP(src=f"198.51.100.{host}", dst="10.0.0.1") for host in (7, 8))
    fast, slow = (bytes(link / source / UDP()).ljust(60, b"\0") for source in sources)
    for number in range(2_000):
        now = _SECOND + number * 250_000
        yield now, 1, fast
        if number % 20 == 0:
            yield now, 1, slow


def blocklist() -> Iterator[Frame]:
    """Datagrams from sources of the list and others, ten of each, and an ARP request."""
    link = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    packets = [
        link / IP(src="203.0.113.9", dst="10.0.0.1") / UDP(),
        link / IP(src="198.51.100.7", dst="10.0.0.1") / UDP(),
        link / IP(src="198.51.100.7", dst="203.0.113.9") / UDP(),
        link / Dot1Q(vlan=7) / IPv6(src="2001:db8:bad::1", dst="2001:db8::1") / UDP(),
        link / IPv6(src="2001:db8:bae::1", dst="2001:db8::1") / UDP(),
    ]
    frames = [bytes(packet) for packet in packets] * 10 + [bytes(link / ARP(psrc="203.0.113.9"))]
    for number, frame in enumerate(frames):
        yield _SECOND + number * 1_000_000, 1, frame.ljust(60, b"\0")


def p0f() -> Iterator[Frame]:
    """SYNs as some systems send them, and segments that are no SYNs."""
    windows, linux, scanner = (
        options_of([OPTIONS[name] for name in names.split()], 0, 1460, factor, (1, 0))
        for names, factor in (("mss nop ws nop nop sok", 8), ("mss sok ts nop ws", 7), ("mss", 0))
    )
    sent = [
        *[Syn(window=8192, ttl=ttl, options=windows) for ttl in (128, 127, 117)],
        *[Syn(window=8192, ttl=119, options=windows, version=6)] * 2,
        *[Syn(window=29200, ttl=ttl, options=linux) for ttl in (64, 63, 52, 50)],
        *[Syn(window=1024, ttl=58, options=scanner, df=False)] * 6,
        *[Syn(window=512, ttl=60)] * 2,
        *[Syn(window=501, flags=0x10)] * 5,
    ]
    for number, packet in enumerate(sent):
        yield _SECOND + number * 1_000_000, 1, packet.encode(40_000 + number).ljust(60, b"\0")


def pcapng(frames: Iterable[Frame]) -> bytes:
    """A pcapng file, compressed, in which port N is the interface N - 1; times are in ns."""
    listed = list(frames)
    interface = struct.pack("<HHIHHBxxxHH", _ETHERNET, 0, 0, 9, 1, 9, 0, 0)  # option if_tsresol: 10^-9 s
    blocks = [_block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))]
    blocks += [_block(1, interface)] * max(port for _, port, _ in listed)
    for now, port, frame in listed:
        head = struct.pack("<IIIII", port - 1, now >> 32, now & 0xFFFFFFFF, len(frame), len(frame))
        blocks.append(_block(6, head + frame + bytes(-len(frame) % 4)))
    return gzip.compress(b"".join(blocks), mtime=0)


def _block(kind: int, body: bytes) -> bytes:
    length = struct.pack("<I", len(body) + 12)
    return struct.pack("<I", kind) + length + body + length


CAPTURES: Final = {"blocklist": blocklist, "firewall": firewall, "p0f": p0f, "token_bucket": token_bucket}


if __name__ == "__main__":
    for name, frames in CAPTURES.items():
        (DIRECTORY / f"{name}.pcapng.gz").write_bytes(pcapng(frames()))
