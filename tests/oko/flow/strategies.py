"""Hypothesis strategies for this room's values and for frames. The domains are small, so that rules meet packets."""

from __future__ import annotations

import struct

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from oko.flow.action import MAX_PORT, ApplyActions, Output
from oko.flow.fields import BY_NAME, FIELDS, Field
from oko.flow.match import PROGRAM_IDS, Condition, Match
from oko.flow.rule import Rule

PORTS = (1, 2, 3)
MACS = (bytes.fromhex("020000000001"), bytes.fromhex("020000000002"), b"\xff" * 6)
ADDRESSES = (bytes([10, 0, 0, 1]), bytes([10, 0, 1, 2]), bytes([192, 0, 2, 1]))
L4_PORTS = (0, 53, 80, 0x51)
TPIDS = (0x8100, 0x88A8)
SNAP = bytes.fromhex("aaaa03000000")


@st.composite
def ipv4_packets(draw: st.DrawFn) -> bytes:
    """IPv4 packets, most of them whole, some that lie about their lengths. The bytes behind the ports make a TCP
    header without options, whatever the protocol."""
    options = 4 * draw(st.sampled_from((0, 0, 0, 1, 10)))
    ports = draw(st.sampled_from(L4_PORTS)), draw(st.sampled_from(L4_PORTS))
    l4 = struct.pack("!HHQB", *ports, 0, 5 << 4) + bytes(draw(st.sampled_from((7, 7, 20))))
    l4 = l4[: draw(st.sampled_from((33,) * 4 + (19, 8, 7, 3, 0)))]
    ihl = draw(st.sampled_from((5 + options // 4,) * 6 + (4, 0, 15)))
    total = 20 + options + len(l4)
    total = draw(st.sampled_from((total,) * 6 + (total + 1, total - 1, 20, 19, 0, 65535)))
    fragment = draw(st.sampled_from((0, 0, 0, 0x4000, 0x2000, 0x2001, 0x00B9)))
    version = draw(st.sampled_from((4, 4, 4, 6)))
    header = struct.pack(
        "!BBHHHBBH4s4s",
        version << 4 | ihl,
        draw(st.sampled_from((0, 0xB8, 0x03, 0xFF))),
        total,
        0,
        fragment,
        64,
        draw(st.sampled_from((6, 6, 17, 17, 1, 132))),
        0,
        draw(st.sampled_from(ADDRESSES)),
        draw(st.sampled_from(ADDRESSES)),
    )
    return header + b"\x01" * options + l4


@st.composite
def frames(draw: st.DrawFn) -> bytes:
    """Ethernet frames, from everyday to absurd."""
    link = draw(st.sampled_from(MACS)) + draw(st.sampled_from(MACS))
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 2, 3)))):
        link += struct.pack("!HH", draw(st.sampled_from(TPIDS)), draw(st.integers(0, 0xFFFF)))
    eth_type = draw(st.sampled_from((0x0800,) * 8 + (0x0806, 0x86DD, 0x0600, 0x05FF, 0x0000, 0x8100)))
    body = draw(ipv4_packets())
    if draw(st.sampled_from((False, False, False, True))):
        llc = draw(st.sampled_from((SNAP, SNAP, b"\x42\x42\x03\x00\x00\x00", b"\xaa\xaa\x03\x00\x00\x0c")))
        inner = draw(st.sampled_from((0x0800, 0x0800, 0x05FF, 0x0806)))
        link += struct.pack("!H", draw(st.sampled_from((8 + len(body), 0, 0x05FF)))) + llc + struct.pack("!H", inner)
    else:
        link += struct.pack("!H", eth_type)
    frame = link + body + bytes(draw(st.sampled_from((0, 0, 6, 26))))
    return frame[: draw(st.one_of(st.just(len(frame)), st.just(len(frame)), st.integers(0, len(frame))))]


def _masks(field: Field) -> SearchStrategy[int]:
    if not field.maskable:
        return st.just(field.full)
    prefixes = st.integers(1, field.bits).map(lambda length: field.full & ~(field.full >> length))
    return st.one_of(st.just(field.full), prefixes, st.integers(1, field.full))


@st.composite
def conditions(draw: st.DrawFn, field: Field) -> Condition:
    """Any condition that `field` can have."""
    mask = draw(_masks(field))
    low, high = (PROGRAM_IDS[0], PROGRAM_IDS[-1]) if field.name == "filter_prog" else (0, field.full)
    return Condition(field, draw(st.integers(low, high)) & mask, mask)


@st.composite
def matches(draw: st.DrawFn) -> Match:
    """Any match: some fields, and the prerequisites of each."""
    chosen = draw(st.lists(st.sampled_from(FIELDS), unique_by=lambda field: field.name))
    made: dict[str, Condition] = {}
    for field in chosen:
        needed = {need.field: need.values[0] for need in field.prerequisites}
        if any(name in made and made[name].value != value for name, value in needed.items()):
            continue
        for name, value in needed.items():
            made[name] = Condition(BY_NAME[name], value, BY_NAME[name].full)
        if field.name not in made:
            made[field.name] = draw(conditions(field))
    return Match.of(made.values())


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    """Any rule, with its instructions in canonical form: none, or one non-empty ApplyActions."""
    outputs = tuple(Output(port) for port in draw(st.lists(st.integers(0, MAX_PORT), max_size=4)))
    return Rule(
        draw(matches()),
        (ApplyActions(outputs),) if outputs else (),
        draw(st.one_of(st.just(32768), st.integers(0, 65535))),
        draw(st.one_of(st.just(0), st.integers(0, 254))),
        draw(st.one_of(st.just(0), st.integers(0, 2**64 - 1))),
    )
