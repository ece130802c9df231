"""`Traffic`: packets that a benchmark sends, as lists of templates for ``traffic.c``.

A list is sent over and over. With every pass the client's address of each packet moves on, so that a list of one
template and a million variants are a million flows, in an order that is spread over all of them and always the same.
"""

from __future__ import annotations

import json
import os
import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import count, cycle
from math import exp, gcd, log
from pathlib import Path
from random import Random
from typing import Any, Final

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet, Raw

from oko.errors import NotReadable
from oko.replay.capture import Capture

SERVICES: Final = (22, 25, 53, 80, 110, 143, 443, 993, 3306, 8080)
"""The TCP ports of the servers, which ``services.h`` knows too."""

HEADERS: Final = 128
"""Bytes of a packet that are its own; behind them are zeros."""

SHORTEST: Final = 60
LONGEST: Final = 1514
"""Bytes of a frame without FCS."""

MOST_TEMPLATES: Final = 1 << 17
MOST_VARIANTS: Final = 1 << 30

_TEMPLATE: Final = struct.Struct(f"<IBBBB{HEADERS}s")  # struct template of traffic.c
_LINK: Final = 14  # bytes of Ethernet without tags
_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"
_ICMP, _TCP, _UDP, _ICMP6 = 1, 6, 17, 58
_FIN, _SYN, _PSH, _ACK = 1, 2, 8, 16
_SUM_OFFSETS: Final = {_TCP: 16, _UDP: 6}
_CLIENTS: Final = "16.0.0.0"
_SERVER: Final = "192.0.2.80"
_FIRST_CLIENT, _SERVER_NUMBER = int(IPv4Address(_CLIENTS)), int(IPv4Address(_SERVER))
_STATIONS: Final = bytes.fromhex("020000000002 020000000001")  # destination and source of what clients send
_UDP_PORTS: Final = (40_000, 53)
_ATTEMPTS: Final = 1 << 14  # connections that are being opened at a time; the firewall has room for twice as many
_INSIDE, _OUTSIDE = 0, 1  # entrances: before p1, before p2
_LOOP: Final = 1 << 16  # what the addresses of a mix move on by, pass for pass

BACKBONE: Final = {
    "source": "CAIDA, packet lengths at AIX 1999 (plen_hist) and OC48 of 2002-01-30 (protocols); TCP flow lengths of "
    "CAIDA's New York monitor, 2019-01-17",
    "tcp_pkt_pct": 90.24,
    "udp_pkt_pct": 7.77,
    "udp_mean_bytes": 252.2,
    "tcp_bytes_p10_25_50_75_90_95_99": [37, 193, 1236, 5578, 11869, 44690, 579723],
}
"""What the mix `backbone` is made from if there is no fuller model; lengths and flow lengths in bytes."""

MODEL: Final = Path(
    os.environ.get("OKO_BACKBONE_MODEL", Path(__file__).parents[2] / "shared" / "data" / "oc48_model.json")
)
"""A JSON file with more of the same figures: $OKO_BACKBONE_MODEL, or where it lies beside the checkout."""


@dataclass(frozen=True, slots=True)
class Template:
    """A packet. It is sent into gen (entrance 0) or sink (1) and has `length` bytes; `address` is the offset of the
    last 32 bits of the client's address, `sums` those of the checksums that cover it, 0 for none."""

    headers: bytes
    length: int
    entrance: int = _INSIDE
    address: int = 0
    sums: tuple[int, int] = (0, 0)

    def pack(self) -> bytes:
        """As ``traffic.c`` takes it."""
        return _TEMPLATE.pack(self.length, self.entrance, self.address, *self.sums, self.headers[:HEADERS])

    @property
    def frame(self) -> bytes:
        """The frame of variant 0."""
        return self.headers[:HEADERS].ljust(self.length, b"\0")[: self.length]


@dataclass(frozen=True, slots=True)
class Phase:
    """Templates in their order. In each pass the client's addresses are those of the templates and one variant more,
    from `first` on, of so many `variants`; `step` is what variants are multiples of."""

    templates: Sequence[Template]
    variants: int = 1
    first: int = 0
    step: int = 1

    @property
    def frames(self) -> int:
        """How many there are until everything comes again."""
        return len(self.templates) * self.variants

    @property
    def stride(self) -> int:
        """From one variant to the next, modulo `variants`: near its golden section, and without a common divisor."""
        if self.step != 1 or self.variants < 3:
            return self.step % max(self.variants * self.step, 1)
        return next(n for n in count(round(self.variants * 0.618)) if gcd(n, self.variants) == 1)


@dataclass(frozen=True, slots=True)
class Traffic:
    """`opening` is sent first, phase after phase, then `steady` over and over. `mixed` says that a switch need not let
    all of it through."""

    name: str
    steady: Phase
    opening: Sequence[Phase] = ()
    mixed: bool = False


def template(frame: bytes, *, length: int | None = None, entrance: int = _INSIDE, by: str = "source") -> Template:
    """The template of a frame, whose address `by` (source, destination) is the client's.

    Only in IPv4 and IPv6 directly behind Ethernet does it move on. `length` is that of the frame, if more than there
    is of it.
    """
    size = min(max(length or len(frame), len(frame), SHORTEST), LONGEST)
    address, sums = 0, (0, 0)
    behind = frame[_LINK:]
    if frame[12:14] == _IPV4 and len(behind) >= 20 and behind[0] >> 4 == 4:
        address = _LINK + (12 if by == "source" else 16)
        header = (behind[0] & 15) * 4
        fragment = int.from_bytes(behind[6:8], "big") & 0x1FFF
        sums = (_LINK + 10, 0 if fragment else _sum_offset(frame, behind[9], _LINK + header))
    elif frame[12:14] == _IPV6 and len(behind) >= 40 and behind[0] >> 4 == 6:
        address = _LINK + (20 if by == "source" else 36)
        sums = (_sum_offset(frame, behind[6], _LINK + 40), 0)
    return Template(frame[:HEADERS], size, entrance, address, sums)


def _sum_offset(frame: bytes, protocol: int, start: int) -> int:
    """Where the checksum of TCP or UDP is that begins at `start`; 0 if there is none, or it lies too far behind."""
    offset = start + _SUM_OFFSETS.get(protocol, HEADERS)
    if protocol == _ICMP6:
        offset = start + 2
    whole = offset + 2 <= min(len(frame), HEADERS)
    return offset if whole and (protocol != _UDP or frame[offset : offset + 2] != b"\0\0") else 0


# ---- the same packet from many


def segments(flows: int, size: int = SHORTEST) -> Traffic:
    """A segment of data of each of so many TCP connections (a multiple of ten), which are opened before; spread over
    the SERVICES. `size` is that of the data's frames in bytes."""
    passes = max(flows // len(SERVICES), 1)
    syns = [_segment(port, flags="S", seq=1_000, size=0) for port in SERVICES]
    answers = [_segment(port, flags="SA", seq=5_000, ack=1_001, size=0, entrance=_OUTSIDE) for port in SERVICES]
    acks = [_segment(port, flags="A", seq=1_001, ack=5_001, size=0) for port in SERVICES]
    data = [_segment(port, flags="PA", seq=1_001, ack=5_001, size=max(size - 54, 6)) for port in SERVICES]
    most = _ATTEMPTS // len(SERVICES)
    opening = [
        Phase(templates, min(most, passes - first), first)
        for first in range(0, passes, most)
        for templates in (syns, answers, acks)
    ]
    return Traffic(f"{flows:,} flows of {size} bytes", Phase(data, passes), opening)


def datagrams(flows: int, size: int = SHORTEST) -> Traffic:
    """A datagram of UDP from each of so many clients."""
    frame = _frame(UDP(sport=_UDP_PORTS[0], dport=_UDP_PORTS[1]) / Raw(bytes(max(size - 42, 0))))
    return Traffic(f"{flows:,} flows of {size} bytes", Phase([template(frame)], flows))


def destinations(number: int, size: int = SHORTEST) -> Traffic:
    """A datagram to each of so many addresses, from `address` 0 on."""
    link = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    packet = (
        link
        / IP(src=_SERVER, dst=_CLIENTS)
        / UDP(sport=_UDP_PORTS[0], dport=_UDP_PORTS[1])
        / Raw(bytes(max(size - 42, 0)))
    )
    phase = Phase([template(bytes(packet), by="destination")], number)
    return Traffic(f"{number:,} destinations of {size} bytes", phase)


def address(number: int) -> str:
    """Client, or destination, number so many."""
    return str(IPv4Address(_CLIENTS) + number)


def everywhere(destinations: Sequence[int], *, clients: int = 1) -> Traffic:
    """A datagram to each of these addresses in turn, in an order that is always the same, each from the next of so
    many clients."""
    order = list(destinations)
    Random(len(order)).shuffle(order)
    size = SHORTEST - _LINK - 20
    header = struct.pack("!4H", *_UDP_PORTS, size, 0)
    templates = [_made(_UDP, header, size - len(header), (_FIRST_CLIENT, each)) for each in order]
    return Traffic(f"{len(order):,} destinations, {clients:,} clients", Phase(templates, clients))


def syns(flows: int) -> Traffic:
    """A SYN of a Linux from each of so many hosts to the SERVICES."""
    options = [("MSS", 1460), ("SAckOK", b""), ("Timestamp", (1, 0)), ("NOP", None), ("WScale", 7)]
    packets = [TCP(flags="S", seq=1, window=29_200, options=options, sport=40_000, dport=port) for port in SERVICES]
    phase = Phase([template(_frame(packet)) for packet in packets], max(flows // len(SERVICES), 1))
    return Traffic(f"SYNs of {flows:,} hosts", phase)


def syn_flood() -> Traffic:
    """SYNs, each from another address."""
    return Traffic("SYN flood", Phase(syns(len(SERVICES)).steady.templates, MOST_VARIANTS))


def new_flows() -> Traffic:
    """Datagrams, each of another flow."""
    return Traffic("every packet a new flow", Phase(datagrams(1).steady.templates, MOST_VARIANTS))


def _segment(port: int, *, flags: str, seq: int, size: int, ack: int = 0, entrance: int = _INSIDE) -> Template:
    ports = {"sport": 40_000, "dport": port} if entrance == _INSIDE else {"sport": port, "dport": 40_000}
    transport = TCP(flags=flags, seq=seq, ack=ack, window=65_535, **ports)
    frame = _frame(transport / Raw(bytes(size)) if size else transport, from_server=entrance == _OUTSIDE)
    return template(frame, entrance=entrance, by="source" if entrance == _INSIDE else "destination")


def _frame(transport: Packet, *, from_server: bool = False) -> bytes:
    """A frame between the first client and the server, padded as Ethernet pads."""
    ends = {"src": _SERVER, "dst": _CLIENTS} if from_server else {"src": _CLIENTS, "dst": _SERVER}
    stations = ("02:00:00:00:00:01", "02:00:00:00:00:02")
    source, destination = stations[::-1] if from_server else stations
    packet = Ether(src=source, dst=destination) / IP(flags="DF", id=1, **ends) / transport
    return bytes(packet).ljust(SHORTEST, b"\0")


# ---- mixes


def backbone(packets: int = 1 << 16, *, active: int = 256, seed: int = 48) -> Traffic:
    """Connections from SYN to FIN, datagrams and echoes, as a backbone has them, so many `active` at a time.

    They take turns: the generator sends in batches of 64 frames, in which what goes into one end may overtake what goes
    into the other, and that must never happen to two packets of one connection.

    The shares of protocols and the lengths of flows are those of MODEL if it is there, else of BACKBONE. Raises
    NotReadable.
    """
    model = backbone_model()
    random = Random(seed)
    wanted = {_TCP: model["tcp_pkt_pct"], _UDP: model["udp_pkt_pct"]}
    wanted[_ICMP] = 100 - sum(wanted.values())
    sent = dict.fromkeys(wanted, 0)
    numbers = count()
    running: list[tuple[int, Iterator[Template]]] = [(_TCP, iter(()))] * active
    made: list[Template] = []
    for place in cycle(range(active)):
        if len(made) == packets:
            break
        protocol, conversation = running[place]
        following = next(conversation, None)
        if following is None:
            protocol = min(wanted, key=lambda each: sent[each] / wanted[each])
            conversation = _conversation(protocol, next(numbers), model, random)
            running[place] = protocol, conversation
            following = next(conversation)
        sent[protocol] += 1
        made.append(following)
    return Traffic("backbone", Phase(made, MOST_VARIANTS, step=_LOOP), mixed=True)


def backbone_model(path: Path = MODEL) -> dict[str, Any]:
    """BACKBONE, with what is in the file instead. Raises NotReadable for a file that is none of these."""
    if not path.exists():
        return BACKBONE
    try:
        found = json.loads(path.read_text())
        trace = found["traces"]["20020130_dir0"]
        flows = found["nyc_2018_2019_zeek_conns"]["20190117-1300-A"]
        figures = {name: trace[name] for name in ("tcp_pkt_pct", "udp_pkt_pct", "udp_mean_bytes")}
        quantiles = "tcp_bytes_p10_25_50_75_90_95_99"
        return BACKBONE | figures | {quantiles: flows[quantiles]}
    except (OSError, ValueError, KeyError) as error:
        raise NotReadable(f"{path}: no model of a backbone: {error}") from None


def _conversation(protocol: int, number: int, model: dict[str, Any], random: Random) -> Iterator[Template]:
    """The packets of one flow."""
    client = _FIRST_CLIENT + number
    port = random.randrange(1_024, 65_536)
    if protocol == _TCP:
        return _connection(client, port, _flow_bytes(model["tcp_bytes_p10_25_50_75_90_95_99"], random), random)
    if protocol == _UDP:
        answer = min(int(random.expovariate(1 / model["udp_mean_bytes"])), 1_400)
        sizes = ((port, 53, 24), (53, port, answer))
        headers = [(struct.pack("!4H", source, dest, 8 + size, 0), size) for source, dest, size in sizes]
    else:
        headers = [(struct.pack("!BBHHH", kind, 0, 0, number & 0xFFFF, 0), 56) for kind in (8, 0)]
    (there, asked), (back, answered) = headers
    return iter((_mixed(protocol, there, asked, client), _mixed(protocol, back, answered, client, from_server=True)))


def _connection(client: int, port: int, size: int, random: Random) -> Iterator[Template]:
    """A connection in which the server sends so many bytes."""
    service = random.choice(SERVICES)
    most = random.choice((536, 1_460, 1_460, 1_460))
    mine, its = random.getrandbits(31), random.getrandbits(31)

    def segment(flags: int, payload: int = 0, *, from_server: bool = False) -> Template:
        ports = (service, port) if from_server else (port, service)
        numbers = (its, mine) if from_server else (mine, its)
        options = struct.pack("!BBH", 2, 4, most) if flags & _SYN else b""  # the largest segment, RFC 9293, 3.2
        words = (20 + len(options)) << 10 | flags
        header = struct.pack("!HHIIHHHH", *ports, *numbers, words, 65_535, 0, 0) + options
        return _mixed(_TCP, header, payload, client, from_server=from_server)

    acknowledged, its = its, 0
    yield segment(_SYN)
    mine, its = mine + 1, acknowledged
    yield segment(_SYN | _ACK, from_server=True)
    its += 1
    yield segment(_ACK)
    request = random.randrange(60, 600)
    yield segment(_PSH | _ACK, request)
    mine += request
    for number, start in enumerate(range(0, size, most)):
        piece = min(most, size - start)
        yield segment(_ACK, piece, from_server=True)
        its += piece
        if number % 2:
            yield segment(_ACK)
    yield segment(_FIN | _ACK, from_server=True)
    its += 1
    yield segment(_FIN | _ACK)
    mine += 1
    yield segment(_ACK, from_server=True)


def _mixed(protocol: int, header: bytes, payload: int, client: int, *, from_server: bool = False) -> Template:
    """A packet between a client and the server."""
    if from_server:
        return _made(protocol, header, payload, (_SERVER_NUMBER, client), entrance=_OUTSIDE, by="destination")
    return _made(protocol, header, payload, (client, _SERVER_NUMBER))


def _made(
    protocol: int, header: bytes, payload: int, ends: tuple[int, int], *, entrance: int = _INSIDE, by: str = "source"
) -> Template:
    """A packet from the first of these addresses to the second, with this header, whose checksum is 0 so far, and so
    many zeros behind it. Made without scapy, which takes a thousand times as long: there are many."""
    length = len(header) + payload
    pseudo = struct.pack("!IIHH", *ends, protocol, length) if protocol != _ICMP else b""
    offset = {_TCP: 16, _UDP: 6, _ICMP: 2}[protocol]
    header = header[:offset] + _checksum(pseudo + header) + header[offset + 2 :]
    ip = struct.pack("!BBHHHBBHII", 0x45, 0, 20 + length, 1, 0x4000, 64, protocol, 0, *ends)
    ip = ip[:10] + _checksum(ip) + ip[12:]
    stations = _STATIONS[6:] + _STATIONS[:6] if entrance == _OUTSIDE else _STATIONS
    return template(stations + _IPV4 + ip + header, length=_LINK + 20 + length, entrance=entrance, by=by)


def _checksum(data: bytes) -> bytes:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2, "big")


def _flow_bytes(quantiles: Sequence[float], random: Random) -> int:
    """A length between the quantiles 10, 25, 50, 75, 90, 95 and 99, on a logarithmic scale; beyond the last one up to
    ten times as much."""
    places = (0.0, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.99, 1.0)
    values = (1.0, *quantiles, 10 * quantiles[-1])
    draw = random.random()
    place = bisect_right(places, draw) - 1
    share = (draw - places[place]) / (places[place + 1] - places[place])
    return int(exp(log(values[place]) + share * (log(values[place + 1]) - log(values[place]))))


# ---- captures


def capture(path: Path) -> Traffic:
    """The frames of a capture, as many as there is room for, of their length on the wire, at most LONGEST.

    Who sent the first packet of a conversation is its client, and sends into gen; the others into sink. Raises
    CaptureError, and NotReadable for a capture without a frame.
    """
    with Capture(path) as packets:
        frames = ((packet.data, packet.wire_length) for packet in packets if len(packet.data) >= _LINK)
        made = list(_captured(frames))
    if not made:
        raise NotReadable(f"{path}: there is no frame in it")
    return Traffic(path.name, Phase(made, MOST_VARIANTS, step=_LOOP), mixed=True)


def _captured(frames: Iterable[tuple[bytes, int]]) -> Iterator[Template]:
    clients: dict[tuple[bytes, bytes], bytes] = {}
    for (frame, length), _ in zip(frames, range(MOST_TEMPLATES), strict=False):
        source, destination = _ends(frame)
        pair = (min(source, destination), max(source, destination))
        from_client = clients.setdefault(pair, source) == source
        entrance, by = (_INSIDE, "source") if from_client else (_OUTSIDE, "destination")
        yield template(frame, length=length, entrance=entrance, by=by)


def _ends(frame: bytes) -> tuple[bytes, bytes]:
    """Source and destination: addresses and ports of IPv4 without options and IPv6, else the stations."""
    for ethertype, start, size, protocol in ((_IPV4, 26, 4, 23), (_IPV6, 22, 16, 20)):
        ports = start + 2 * size
        if frame[12:14] == ethertype and len(frame) >= ports + 4:
            source, destination = frame[start : start + size], frame[start + size : ports]
            if frame[protocol] in _SUM_OFFSETS:
                source, destination = source + frame[ports : ports + 2], destination + frame[ports + 2 : ports + 4]
            return source, destination
    return frame[6:12], frame[:6]
