"""A hypothesis strategy for frames with every header that the parser reads, most of them sound, some that lie."""

from __future__ import annotations

import struct

from hypothesis import strategies as st

ADDRESSES = (bytes.fromhex("020000000001"), bytes.fromhex("02a1b2c3d4e5"), bytes(6), b"\xff" * 6)
NUMBERS = (0, 1, 53, 0x1234, 0xFFFF)
EXTENSIONS = (0, 60, 43, 44, 51)


@st.composite
def tcp_segments(draw: st.DrawFn) -> bytes:
    doff = draw(st.sampled_from((5, 5, 5, 6, 4, 0, 15)))
    ports = draw(st.sampled_from(NUMBERS)), draw(st.sampled_from(NUMBERS))
    flags = doff << 12 | draw(st.integers(0, 0xFFF))
    return struct.pack("!HHIIHHHH", *ports, 1, 2, flags, 3, 4, 5) + bytes(draw(st.sampled_from((0, 4, 40))))


@st.composite
def neighbour_discovery(draw: st.DrawFn, most_options: int) -> bytes:
    data = struct.pack(
        "!BBHI", draw(st.sampled_from((135, 136, 135, 136, 133))), draw(st.sampled_from((0, 0, 0, 1))), 1, 2
    )
    data += draw(st.binary(min_size=16, max_size=16))
    for _ in range(draw(st.integers(0, most_options))):
        units = draw(st.sampled_from((1, 1, 1, 1, 1, 1, 2, 0)))
        address = draw(st.sampled_from(ADDRESSES))
        data += bytes((draw(st.sampled_from((1, 2, 14, 14))), units)) + address + bytes(8 * max(0, units - 1))
    return data


@st.composite
def transports(draw: st.DrawFn, most_options: int) -> tuple[int, bytes]:
    """The ip_proto and what is behind the IP header."""
    proto = draw(st.sampled_from((6, 6, 17, 17, 1, 58, 58, 132, 50, 59, 99)))
    if proto == 6:
        data = draw(tcp_segments())
    elif proto == 58 and draw(st.booleans()):
        data = draw(neighbour_discovery(most_options))
    else:
        data = struct.pack("!HHQ", draw(st.sampled_from(NUMBERS)), draw(st.sampled_from(NUMBERS)), 0)
    if draw(st.sampled_from((False,) * 5 + (True,))):
        data = data[: draw(st.integers(0, len(data)))]
    return proto, data


def lied_about(draw: st.DrawFn, length: int) -> int:
    """Mostly `length`."""
    lies: int = draw(st.sampled_from((length,) * 8 + (length + 1, max(0, length - 1), length // 2, 0, 0xFFFF)))
    return lies


@st.composite
def ipv4_packets(draw: st.DrawFn, most_options: int) -> bytes:
    proto, data = draw(transports(most_options))
    words: int = draw(st.sampled_from((5,) * 6 + (6, 15)))
    claimed = draw(st.sampled_from((words,) * 8 + (4, 0, 15)))
    header = struct.pack(
        "!BBHHHBBH",
        draw(st.sampled_from((0x40, 0x40, 0x60))) | claimed,
        draw(st.sampled_from((0, 0xB9, 0xFF))),
        lied_about(draw, 4 * words + len(data)),
        0,
        draw(st.sampled_from((0, 0, 0, 0x4000, 0x8000, 0x2000, 0x2001, 1, 0x1FFF))),
        64,
        proto,
        0,
    )
    addresses = draw(st.binary(min_size=8, max_size=8))
    return header + addresses + b"\x01" * (4 * words - 20) + data


@st.composite
def extension(draw: st.DrawFn, proto: int, following: int) -> bytes:
    """An extension header of the type `proto` before one of the type `following`."""
    if proto == 44:
        place: int = draw(st.sampled_from((0, 0, 0, 1, 2, 8, 9, 0xFFF8)))
        return struct.pack("!BBHI", following, 0, place, 0)
    length = draw(st.sampled_from((0, 0, 0, 1, 2)))
    size = (length + 2) * 4 if proto == 51 else (length + 1) * 8
    claimed: int = draw(st.sampled_from((length,) * 12 + (255,)))
    return bytes((following, claimed)) + bytes(size - 2)


@st.composite
def ipv6_packets(draw: st.DrawFn, most_extensions: int, most_options: int) -> bytes:
    proto, data = draw(transports(most_options))
    kinds = draw(st.lists(st.sampled_from(EXTENSIONS), max_size=most_extensions))
    if draw(st.booleans()):
        kinds = []
    for kind in reversed(kinds):
        data = draw(extension(kind, proto)) + data
        proto = kind
    if kinds and draw(st.sampled_from((False,) * 5 + (True,))):
        data = data[: draw(st.integers(0, len(data)))]
    first = draw(st.sampled_from((0x60000000, 0x6B912345, 0x4FFFFFFF)))
    header = struct.pack("!IHBB", first, lied_about(draw, len(data)), proto, 64)
    addresses = draw(st.binary(min_size=32, max_size=32))
    return header + addresses + data


@st.composite
def arp_packets(draw: st.DrawFn) -> bytes:
    head = draw(
        st.sampled_from(
            ("0001 0800 0604",) * 5 + ("0006 0800 0604", "0001 86dd 0604", "0001 0800 0804", "0001 0800 0610")
        )
    )
    operation = draw(st.sampled_from((1, 2, 3, 0, 0xFF, 0x100)))
    return bytes.fromhex(head) + struct.pack("!H", operation) + draw(st.binary(min_size=20, max_size=20))


@st.composite
def frames(draw: st.DrawFn, *, most_extensions: int = 10, most_options: int = 10) -> bytes:
    """Frames of at least 14 bytes with at most so many IPv6 extension headers and options of neighbour discovery."""
    eth_type = draw(st.sampled_from((0x0800,) * 4 + (0x86DD,) * 5 + (0x0806, 0x8035, 0x8847, 0x8848, 0x0600, 0x8100)))
    if eth_type in (0x0806, 0x8035):
        packet = draw(arp_packets())
    elif eth_type == 0x86DD:
        packet = draw(ipv6_packets(most_extensions, most_options))
    elif eth_type == 0x0800:
        packet = draw(ipv4_packets(most_options))
    else:
        packet = draw(st.binary(max_size=12))
    tags = b"".join(
        struct.pack("!HH", draw(st.sampled_from((0x8100, 0x8100, 0x88A8, 0x9100))), draw(st.integers(0, 0xFFFF)))
        for _ in range(draw(st.sampled_from((0, 0, 0, 1, 1, 2, 3))))
    )
    link = struct.pack("!H", eth_type)
    if draw(st.sampled_from((False,) * 7 + (True,))):
        llc = draw(st.sampled_from(("aaaa03 000000",) * 3 + ("424203 000000", "aaaa03 00000c")))
        link = struct.pack("!H", draw(st.sampled_from((0, 60, 0x05FF)))) + bytes.fromhex(llc) + link
    addresses = draw(st.sampled_from(ADDRESSES)) + draw(st.sampled_from(ADDRESSES))
    frame = addresses + tags + link + packet + bytes(draw(st.sampled_from((0, 0, 6, 26))))
    if draw(st.sampled_from((False,) * 7 + (True,))):
        frame = frame[: draw(st.integers(14, len(frame)))]
    return frame
