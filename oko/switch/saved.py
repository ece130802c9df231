"""What is written on disk of a bridge: the records, declared as messages are (`ofext.codec`), and how tables say them.

A record is a sequence of elements that take effect together. An element is a type (8 bits), the length of its body in
bytes (32 bits) and the body. All numbers are in network order; matches, instructions, buckets and bands are as OpenFlow
1.3 has them on the wire. Only the actions that leave a packet to Open vSwitch have no form there: they are an
experimenter's action, Oko's, here.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Final

from ofext import instructions as wire
from ofext.bands import Bands
from ofext.buckets import Buckets
from ofext.codec import U8, U16, U32, U64, Array, Exactly, Family, Layout, Prefixed, Repeat, Text, malformed
from ofext.instructions import Instructions
from ofext.oxm import Match as Oxms
from ofext.oxm import Oxm, read_oxm, write_oxm
from oko.errors import ProtocolError
from oko.flow.action import Action, ApplyActions, Continue, Instruction, Pass
from oko.flow.fields import OKO, Field
from oko.flow.group import GroupEntry
from oko.flow.match import Condition, Match
from oko.flow.meter import MeterEntry
from oko.flow.observer import Observer
from oko.flow.rule import Entry, Rule
from oko.switch.datapath import Count
from oko.wire.action import read_instructions, write_instructions
from oko.wire.change import meter_flags, read_group, read_meter, write_bands, write_buckets
from oko.wire.match import read_match, write_match

_ENTRY: Final = struct.Struct(">QQQIHHHBBHI")
"""Of a rule: age, ns of its addition, cookie, slot, priority, idle and hard timeout, table, whether controllers hear
when it goes, bytes of its match fields, bytes of its instructions."""
_ELEMENT: Final = struct.Struct(">BI")
_CACHED: Final = 1 << 12


class _EntryPart:
    """A rule in its table. Not a `Layout`, for the sake of flow_mods by the ten thousand."""

    extent: Final = "n"

    def read(self, data: bytes, offset: int, end: int) -> tuple[Entry, int]:
        start = offset + _ENTRY.size
        if start > end:
            raise malformed("a rule is cut off")
        age, installed, cookie, slot, priority, idle, hard, table, told, fields, instructions = _ENTRY.unpack_from(
            data, offset
        )
        middle = start + fields
        stop = middle + instructions
        if stop > end:
            raise malformed("a rule is cut off")
        match = _read_match(data, start, middle)
        rule = Rule(
            match, _read_instructions(data[middle:stop]), priority, table, cookie, idle, hard, send_removed=bool(told)
        )
        return Entry(rule, age, slot, installed), stop

    def write(self, value: Entry) -> bytes:
        rule = value.rule
        match = b"".join([_write_condition(condition) for condition in rule.match.conditions])
        instructions = _write_instructions(rule.instructions)
        head = _ENTRY.pack(
            value.age,
            value.installed,
            rule.cookie,
            value.slot,
            rule.priority,
            rule.idle_timeout,
            rule.hard_timeout,
            rule.table,
            rule.send_removed,
            len(match),
            len(instructions),
        )
        return head + match + instructions


@dataclass(frozen=True, slots=True)
class _Instructions:
    items: Instructions


_INSTRUCTIONS: Final = Layout(_Instructions)


def _read_match(data: bytes, offset: int, end: int) -> Match:
    fields: list[Oxm] = []
    while offset < end:
        oxm, offset = read_oxm(data, offset, end)
        fields.append(oxm)
    return read_match(fields)


def _write_condition(condition: Condition) -> bytes:
    """A match field: its value, between what recurs."""
    field, value, mask = condition
    head, tail = _around_value(field, mask)
    return head + value.to_bytes(field.size, "big") + tail


@lru_cache(_CACHED)
def _around_value(field: Field, mask: int) -> tuple[bytes, bytes]:
    """The head of a match field, and its mask, if it is not exact."""
    (oxm,) = write_match(Match((Condition(field, 0, mask),)))
    tail = oxm.mask or b""
    return write_oxm(oxm)[: -field.size - len(tail)], tail


@lru_cache(_CACHED)
def _write_instructions(instructions: tuple[Instruction, ...]) -> bytes:
    match instructions:
        case (ApplyActions((Pass() | Continue() as action,)),):
            written: tuple[wire.Instruction, ...] = (wire.ApplyActions((_write_leaving(action),)),)
        case _:
            written = write_instructions(instructions)
    return _INSTRUCTIONS.write(_Instructions(written))


@lru_cache(_CACHED)
def _read_instructions(data: bytes) -> tuple[Instruction, ...]:
    found, _ = _INSTRUCTIONS.read(data, 0, len(data))
    match found.items:
        case (wire.ApplyActions((wire.ExperimenterAction(experimenter, content),)),) if experimenter == OKO:
            return (ApplyActions((_read_leaving(content),)),)
    return read_instructions(found.items)


_LEAVING: Final = struct.Struct(">II")
"""What leaves a packet to Open vSwitch: the id of the shim, 0 for none, and the bytes of the instructions that follow,
which padding follows."""


def _write_leaving(action: Pass | Continue) -> wire.Action:
    shim_id, instructions = (0, b"") if isinstance(action, Pass) else (action.shim_id, action.instructions)
    content = _LEAVING.pack(shim_id, len(instructions)) + instructions
    return wire.ExperimenterAction(OKO, content + bytes(-len(content) % 8))


def _read_leaving(content: bytes) -> Action:
    if len(content) < _LEAVING.size:
        raise malformed("an action is cut off")
    shim_id, length = _LEAVING.unpack_from(content)
    return Continue(shim_id, content[_LEAVING.size : _LEAVING.size + length]) if shim_id else Pass()


# ---- what the elements are

ELEMENTS: Final = Family("element of a saved change")
_U32S: Final = Repeat(Array("I", 1))
_U64S: Final = Repeat(Array("Q", 1))


@ELEMENTS.member(1)
@dataclass(frozen=True, slots=True)
class SavedRules:
    """The rules with these ages are gone; then these are there."""

    removed: Annotated[tuple[tuple[int], ...], Prefixed("I", _U64S)]
    added: Annotated[tuple[Entry, ...], Repeat(_EntryPart())]


@dataclass(frozen=True, slots=True)
class SavedGroup:
    """A group; `slots` are of its buckets."""

    number: U32
    type: U8
    slot: U32
    installed: U64
    slots: Annotated[tuple[tuple[int], ...], Prefixed("I", _U32S)]
    buckets: Annotated[Any, Prefixed("I", Buckets.__metadata__[0])]


@ELEMENTS.member(2)
@dataclass(frozen=True, slots=True)
class SavedGroups:
    """All groups."""

    groups: Annotated[tuple[SavedGroup, ...], Repeat(Layout(SavedGroup))]


@dataclass(frozen=True, slots=True)
class SavedMeter:
    """A meter, with the flags of OpenFlow."""

    number: U32
    flags: U16
    slot: U32
    installed: U64
    bands: Annotated[Any, Prefixed("I", Bands.__metadata__[0])]


@ELEMENTS.member(3)
@dataclass(frozen=True, slots=True)
class SavedMeters:
    """All meters."""

    meters: Annotated[tuple[SavedMeter, ...], Repeat(Layout(SavedMeter))]


@dataclass(frozen=True, slots=True)
class SavedObserver:
    table: U8
    match: Oxms


@ELEMENTS.member(4)
@dataclass(frozen=True, slots=True)
class SavedObservers:
    """All observers."""

    observers: Annotated[tuple[SavedObserver, ...], Repeat(Layout(SavedObserver))]


@ELEMENTS.member(5)
@dataclass(frozen=True, slots=True)
class SavedProgram:
    """A program is loaded: `slot` is of its counters, `digest` the SHA-256 of its object file."""

    id: U32
    slot: U32
    digest: Annotated[bytes, Exactly(32)]
    name: Annotated[str, Text("H")]


@ELEMENTS.member(6)
@dataclass(frozen=True, slots=True)
class SavedUnload:
    """A program is not loaded any more."""

    id: U32


@dataclass(frozen=True, slots=True)
class SavedCount:
    slot: U32
    packets: U64
    bytes: U64


@ELEMENTS.member(7)
@dataclass(frozen=True, slots=True)
class SavedCounts:
    """What these slots have counted that is not in the kernel's map."""

    counts: Annotated[tuple[SavedCount, ...], Repeat(Layout(SavedCount))]


@ELEMENTS.member(8)
@dataclass(frozen=True, slots=True)
class SavedEnd:
    """A snapshot is whole; it has so many rules."""

    rules: U32


@ELEMENTS.member(9)
@dataclass(frozen=True, slots=True)
class SavedInherited:
    """Packets are decided by a pinned pipeline of which nobody knows the tables, until an element says some of them."""


Element = (
    SavedRules
    | SavedGroups
    | SavedMeters
    | SavedObservers
    | SavedProgram
    | SavedUnload
    | SavedCounts
    | SavedEnd
    | SavedInherited
)


def write_record(elements: Iterable[Element]) -> bytes:
    """The bytes of a record."""
    pieces: list[bytes] = []
    for element in elements:
        number = ELEMENTS.number(element)
        body = ELEMENTS.parts[number].write(element)
        pieces += (_ELEMENT.pack(number, len(body)), body)
    return b"".join(pieces)


def read_record(data: bytes) -> Iterator[Element]:
    """The elements of a record. Raises ProtocolError and FlowError for what `write_record` does not write."""
    offset = 0
    while offset < len(data):
        if offset + _ELEMENT.size > len(data):
            raise malformed("the head of an element is cut off")
        number, length = _ELEMENT.unpack_from(data, offset)
        offset += _ELEMENT.size
        part = ELEMENTS.parts.get(number)
        if part is None:
            raise ProtocolError(f"{number} is no type of element")
        stop = offset + length
        if stop > len(data):
            raise malformed("an element is cut off")
        element, reached = part.read(data, offset, stop)
        if reached != stop:
            raise malformed(f"an element of {length} bytes ends after {reached - offset}")
        yield element
        offset = stop


# ---- how tables say them


def save_rules(removed: Iterable[Entry], added: Collection[Entry]) -> SavedRules:
    return SavedRules(tuple((entry.age,) for entry in removed), tuple(added))


def save_groups(groups: Mapping[int, GroupEntry]) -> SavedGroups:
    return SavedGroups(
        tuple(
            SavedGroup(
                number,
                entry.spec.type.value,
                entry.slot,
                entry.installed,
                tuple((slot,) for slot in entry.slots),
                write_buckets(entry.spec),
            )
            for number, entry in groups.items()
        )
    )


def read_groups(saved: SavedGroups) -> dict[int, GroupEntry]:
    """Raises BadGroup, BadAction."""
    return {
        each.number: GroupEntry(
            read_group(each.number, each.type, each.buckets),
            each.slot,
            tuple(slot for (slot,) in each.slots),
            each.installed,
        )
        for each in saved.groups
    }


def save_meters(meters: Mapping[int, MeterEntry]) -> SavedMeters:
    return SavedMeters(
        tuple(
            SavedMeter(number, meter_flags(entry.spec), entry.slot, entry.installed, write_bands(entry.spec))
            for number, entry in meters.items()
        )
    )


def read_meters(saved: SavedMeters) -> dict[int, MeterEntry]:
    """Raises BadMeter."""
    return {
        each.number: MeterEntry(read_meter(each.number, each.flags, each.bands), each.slot, each.installed)
        for each in saved.meters
    }


def save_observers(observers: Iterable[Observer]) -> SavedObservers:
    return SavedObservers(tuple(SavedObserver(each.table, write_match(each.match)) for each in observers))


def read_observers(saved: SavedObservers) -> tuple[Observer, ...]:
    """Raises BadMatch."""
    return tuple(Observer(each.table, read_match(each.match)) for each in saved.observers)


def save_counts(counts: Mapping[int, Count]) -> SavedCounts:
    return SavedCounts(tuple(SavedCount(slot, count.packets, count.bytes) for slot, count in counts.items()))
