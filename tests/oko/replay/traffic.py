"""Packets to replay: real captures where they lie beside the checkout, and made-up traffic everywhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet as Layers
from scapy.packet import Raw

from oko.replay.capture import Packet

CAPTURES = Path(os.environ.get("OKO_CAPTURES", Path(__file__).parents[4] / "shared" / "data" / "pcaps"))
"""A directory of capture files: $OKO_CAPTURES, or where they lie beside the checkout."""

CLIENT, SERVER = "10.0.0.1", "192.0.2.80"
LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
BACK = Ether(src="02:00:00:00:00:02", dst="02:00:00:00:00:01")
MILLISECOND = 1_000_000


def tcp_session(port: int) -> Iterator[tuple[int, Layers]]:
    """(port of the switch, packet) of a connection from its SYN to its last ACK."""
    there, back = {"sport": port, "dport": 80}, {"sport": 80, "dport": port}
    for flags, from_client, size in (
        *(("S", True, 0), ("SA", False, 0), ("A", True, 0), ("PA", True, 100), ("A", False, 1400), ("A", False, 7)),
        *(("FA", True, 0), ("FA", False, 0), ("A", True, 0)),
    ):
        if from_client:
            yield 1, LINK / IP(src=CLIENT, dst=SERVER) / TCP(flags=flags, **there) / Raw(bytes(size))
        else:
            yield 2, BACK / IP(src=SERVER, dst=CLIENT) / TCP(flags=flags, **back) / Raw(bytes(size))


def exchanges(number: int) -> Iterator[tuple[int, Layers]]:
    """The other traffic of a host: name look-up, ping, ARP, a tagged packet, and a connection that nobody asked for."""
    yield 1, LINK / IP(src=CLIENT, dst=SERVER) / UDP(sport=4000 + number, dport=53) / Raw(b"?")
    yield 2, BACK / IP(src=SERVER, dst=CLIENT) / UDP(sport=53, dport=4000 + number) / Raw(b"!" * number)
    yield 1, LINK / IP(src=CLIENT, dst=SERVER) / ICMP(type=8, id=number)
    yield 2, BACK / IP(src=SERVER, dst=CLIENT) / ICMP(type=0, id=number)
    yield 1, LINK / ARP(psrc=CLIENT, pdst=SERVER)
    yield 1, LINK / Dot1Q(vlan=number) / IP(src=CLIENT, dst=SERVER) / UDP(sport=9, dport=number)
    yield 2, BACK / IP(src=SERVER, dst=CLIENT) / TCP(sport=number, dport=22, flags="S")


@cache
def traffic() -> tuple[Packet, ...]:
    """Sessions of all kinds, and junk, by interfaces 0 and 1; now and then the clock goes back."""
    random = Random(7)
    sane = [
        (port, bytes(layers))
        for number in range(1, 15)
        for port, layers in (*tcp_session(40_000 + number), *exchanges(number))
    ]
    frames = list(sane)
    for _ in range(150):
        port, frame = random.choice(sane)
        damaged = bytearray(frame)
        for _ in range(random.randrange(4)):
            damaged[random.randrange(12, len(damaged))] = random.randrange(256)
        frames.append((port, bytes(damaged[: random.randrange(15, len(damaged) + 1)])))
        frames.append((3, random.randbytes(random.randrange(1, 80))))
    packets = []
    now = 1_700_000_000_000_000_000
    for port, frame in frames:
        now += random.choice((1, 2, 200, -1)) * MILLISECOND
        packets.append(Packet(now, frame, len(frame), port - 1))
    return tuple(packets)
