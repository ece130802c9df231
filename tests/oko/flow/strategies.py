"""Hypothesis strategies for this room's values and for frames. The domains are small, so that rules meet packets."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from oko.flow.action import (
    ALL,
    CONTROLLER,
    FLOOD,
    IN_PORT,
    LAST_GROUP,
    LAST_TABLE,
    LOCAL,
    MAX_PORT,
    Action,
    ApplyActions,
    ClearActions,
    CopyTtlIn,
    CopyTtlOut,
    DecMplsTtl,
    DecTtl,
    GotoTable,
    Group,
    Instruction,
    Meter,
    Output,
    PopMpls,
    PopVlan,
    PushMpls,
    PushVlan,
    SetField,
    SetMplsTtl,
    SetTtl,
    WriteActions,
    WriteMetadata,
)
from oko.flow.consistency import Known, in_order
from oko.flow.fields import BY_NAME, FIELDS, FRAGMENT_ANY, FRAGMENT_LATER, VLAN_PRESENT, Field
from oko.flow.group import Bucket, GroupSpec, GroupType
from oko.flow.match import PROGRAM_IDS, Condition, Match, implied
from oko.flow.meter import BAND_LIMIT, Band, MeterSpec
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
    value = draw(st.integers(low, high)) & mask
    if field.name == "vlan_vid" and value and mask & VLAN_PRESENT:
        value |= VLAN_PRESENT
    if field.name == "ip_frag" and value == FRAGMENT_LATER and mask & FRAGMENT_ANY:
        value |= FRAGMENT_ANY
    return Condition(field, value, mask)


@st.composite
def matches(draw: st.DrawFn, fields: Sequence[Field] = FIELDS) -> Match:
    """Any match: some of these fields, and the prerequisites of each."""
    made: dict[str, Condition] = {}
    for field in draw(st.lists(st.sampled_from(fields), unique_by=lambda field: field.name, max_size=8)):
        missing = [need for need in field.prerequisites if not implied(need, made)]
        if field.name in made or any(need.field in made for need in missing):
            continue
        for need in missing:
            needed = BY_NAME[need.field]
            mask = needed.full if need.mask is None else need.mask
            made[need.field] = Condition(needed, draw(st.sampled_from(need.values)), mask)
        made[field.name] = draw(conditions(field))
    return Match.of(made.values())


_OUTPUTS = st.one_of(st.integers(1, MAX_PORT), st.sampled_from((IN_PORT, FLOOD, ALL, CONTROLLER, LOCAL)))
_ETH_TYPES = st.one_of(st.sampled_from((0x0800, 0x0806, 0x86DD, 0x8847)), st.integers(0, 0xFFFF))


@st.composite
def _set_fields(draw: st.DrawFn) -> SetField:
    field = draw(st.sampled_from([field for field in FIELDS if field.settable]))
    value = draw(st.integers(0, field.full))
    return SetField(field, value | VLAN_PRESENT if field.name == "vlan_vid" else value)


def actions() -> SearchStrategy[Action]:
    """Any action, whatever it is done to."""
    return st.one_of(
        _OUTPUTS.map(Output),
        st.integers(0, LAST_GROUP).map(Group),
        _set_fields(),
        st.sampled_from(TPIDS).map(PushVlan),
        st.sampled_from((0x8847, 0x8848)).map(PushMpls),
        _ETH_TYPES.map(PopMpls),
        st.integers(0, 255).map(SetTtl),
        st.integers(0, 255).map(SetMplsTtl),
        st.sampled_from((PopVlan(), DecTtl(), DecMplsTtl(), CopyTtlOut(), CopyTtlIn())),
    )


@st.composite
def fitting_actions(draw: st.DrawFn, match: Match) -> tuple[Action, ...]:
    """Actions that can be done, one after the other, to the packets that `match` describes."""
    known, fitting = Known(match), list[Action]()
    for action in draw(st.lists(actions(), max_size=8)):
        if known.lacks(action) is None:
            known.follow(action)
            fitting.append(action)
    return tuple(fitting)


@st.composite
def instructions(draw: st.DrawFn, match: Match, table: int = 0) -> tuple[Instruction, ...]:
    """What a rule in `table` may do with the packets that `match` describes, in canonical form."""
    metadata = st.integers(0, 2**64 - 1)
    choices: tuple[SearchStrategy[Instruction], ...] = (
        st.integers(1, 0xFFFF0000).map(Meter),
        fitting_actions(match).map(ApplyActions),
        st.just(ClearActions()),
        fitting_actions(match).map(WriteActions),
        st.builds(WriteMetadata, metadata, metadata),
        st.integers(min(table + 1, LAST_TABLE), LAST_TABLE).map(GotoTable),
    )
    return in_order(draw(choice) for choice in choices if draw(st.booleans()))


_SECONDS = st.one_of(st.just(0), st.integers(0, 65535))


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    """Any rule, with its instructions in canonical form."""
    match, table = draw(matches()), draw(st.one_of(st.just(0), st.integers(0, LAST_TABLE - 1)))
    return Rule(
        match,
        draw(instructions(match, table)),
        draw(st.one_of(st.just(32768), st.integers(0, 65535))),
        table,
        draw(st.one_of(st.just(0), st.integers(0, 2**64 - 1))),
        draw(_SECONDS),
        draw(_SECONDS),
        draw(st.booleans()),
    )


@st.composite
def groups(draw: st.DrawFn) -> GroupSpec:
    """Any group, in canonical form: weights other than 1 are a select group's."""
    type_ = draw(st.sampled_from(GroupType))
    watches = type_ in (GroupType.SELECT, GroupType.FAST_FAILOVER)
    buckets = st.builds(
        Bucket,
        actions=st.lists(actions(), max_size=4).map(tuple),
        weight=st.integers(0, 65535) if type_ is GroupType.SELECT else st.just(1),
        watch_port=st.none() | st.integers(0, MAX_PORT) if watches else st.none(),
        watch_group=st.none() | st.integers(0, LAST_GROUP) if watches else st.none(),
    )
    count = (1, 1) if type_ is GroupType.INDIRECT else (0, 3)
    made = draw(st.lists(buckets, min_size=count[0], max_size=count[1]))
    return GroupSpec(draw(st.integers(0, LAST_GROUP)), type_, tuple(made))


def meters() -> SearchStrategy[MeterSpec]:
    """Any meter with bands."""
    number = st.integers(0, 2**32 - 1)
    bands = st.lists(st.builds(Band, number, number), min_size=1, max_size=BAND_LIMIT).map(tuple)
    return st.builds(MeterSpec, st.integers(1, 0xFFFF0000), bands, st.booleans(), st.booleans())
