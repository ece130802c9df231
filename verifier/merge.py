"""Keeping the number of states at a point small: states that another covers are dropped, and of too many the most alike
are joined into one that covers both.

Joining loses what held on one way only, so a few states are kept apart at every point; their number is bounded, and
with it the work, however many ways lead here.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final

from verifier.scalar import Scalar
from verifier.state import Frame, Place, Slot, State
from verifier.values import (
    UNSET,
    MapPointer,
    MapValue,
    MapValueOrNull,
    Number,
    Packet,
    Record,
    RecordOrNull,
    Stack,
    Unset,
    Value,
)

KEPT: Final = 16
"""States that are kept apart at one point."""

_FAR: Final = 1000
"""What a difference costs that a join would turn into a lost pointer."""

Fresh = Callable[[], int]
"""Gives an identity that was never given before."""


def reduce(states: Sequence[State], fresh: Fresh) -> list[State]:
    """At most KEPT states that together cover `states`."""
    groups: dict[tuple[object, ...], list[State]] = {}
    for state in sorted(states, key=lambda state: state.way.length if state.way else 0):
        groups.setdefault(_held(state), []).append(state)
    kept = [state for group in groups.values() for state in _uncovered(group)]
    if len(kept) > KEPT:
        kept = _join_down(kept, fresh)
    return kept


def _uncovered(states: list[State]) -> list[State]:
    """Those of some states, which may be joined, that no other covers; of two that cover each other, the first."""
    kept: list[State] = []
    for state in states:
        if not any(_allows(other, state) for other in kept):
            kept = [other for other in kept if not _allows(state, other)]
            kept.append(state)
    return kept


def _join_down(states: list[State], fresh: Fresh) -> list[State]:
    """The states, the two most alike joined time and again; more than KEPT only when no two can be."""
    signatures = {id(state): _signature(state) for state in states}
    distances: dict[tuple[int, int], int | None] = {}
    alive = list(states)  # the keys above are good as long as the states exist
    ordered = sorted(states, key=lambda state: signatures[id(state)])
    while len(ordered) > KEPT:
        best: tuple[int, int] | None = None
        for index, (one, other) in enumerate(pairwise(ordered)):
            pair = id(one), id(other)
            if pair not in distances:
                distances[pair] = _distance(one, other)
            distance = distances[pair]
            if distance is not None and (best is None or distance < best[0]):
                best = (distance, index)
        if best is None:
            break
        index = best[1]
        joined = join(ordered[index], ordered[index + 1], fresh)
        alive.append(joined)
        signatures[id(joined)] = _signature(joined)
        ordered[index : index + 2] = []
        ordered = [other for other in ordered if not covers(joined, other)]
        insort(ordered, joined, key=lambda state: signatures[id(state)])
    return ordered


def _signature(state: State) -> tuple[object, ...]:
    """Sorts states so that those worth joining stand together: by the kinds of what they hold, then by numbers."""
    kinds = tuple(_kind(value) for frame in state.frames for value in frame.registers)
    slots = tuple((offset, _kind(slot.value)) for frame in state.frames for offset, slot in sorted(frame.stack.items()))
    numbers = tuple(
        value.scalar.umin if isinstance(value, Number) else 0 for frame in state.frames for value in frame.registers
    )
    return (sorted(state.records), state.lock or 0, kinds, slots, numbers)


def _distance(one: State, other: State) -> int | None:
    """How much a join would lose; None when the two cannot be joined."""
    if not _alike(one, other):
        return None
    distance = 0
    for mine, theirs in zip(one.frames, other.frames, strict=True):
        for left, right in zip(mine.registers, theirs.registers, strict=True):
            distance += _difference(left, right)
        for offset in mine.stack.keys() | theirs.stack.keys():
            a, b = mine.stack.get(offset), theirs.stack.get(offset)
            if a is None or b is None:
                distance += 1
            elif a.value is not None and b.value is not None:
                distance += _difference(a.value, b.value)
            elif a != b:
                distance += 2
    for base in one.places.keys() & other.places.keys():
        distance += 10 * (one.places[base].safe != other.places[base].safe)
    return distance


def _difference(one: Value, other: Value) -> int:
    if one == other:
        return 0
    if isinstance(one, Unset) or isinstance(other, Unset):
        return 1
    return 2 if _kind(one) == _kind(other) else _FAR


def _kind(value: Value | None) -> str:
    """What a value must have in common with another for the two to be joined without becoming Unset."""
    name = type(value).__name__
    match value:
        case MapPointer() | MapValue() | MapValueOrNull():
            return f"{name} {value.name}"
        case Record() | RecordOrNull():
            return f"{name} {value.id}"
        case Stack():
            return f"{name} {value.frame} {value.offset}"
        case _:
            return name


def _held(state: State) -> tuple[object, ...]:
    """What two states must have in common to be joined: the functions that run, the record and the lock held."""
    return (state.records, state.lock, *((frame.function, frame.returns_to) for frame in state.frames))


def _alike(one: State, other: State) -> bool:
    """Whether the two may be joined at all."""
    return _held(one) == _held(other)


# ---- covering


class _Renaming:
    """Which identities of one state stand for which of the other."""

    __slots__ = ("ids", "places")

    def __init__(self) -> None:
        self.places = {0: (0, 0)}
        self.ids: dict[int, int] = {}

    def place(self, general: Packet, special: Packet) -> bool:
        """The general state's place stands for one in the special state, or for one a fixed way behind it."""
        ahead = special.offset - general.offset
        return ahead >= 0 and self.places.setdefault(general.base, (special.base, ahead)) == (special.base, ahead)

    def id(self, general: int, special: int) -> bool:
        """A tie of the general state must hold in the special one; ties that only the latter has do not matter."""
        if general == 0:
            return True
        if general not in self.ids:
            self.ids[general] = special
            return True
        return special != 0 and self.ids[general] == special


def covers(general: State, special: State) -> bool:
    """Whether whatever `special` allows, `general` allows too: what is proved of `general` holds for `special`."""
    return _alike(general, special) and _allows(general, special)


def _allows(general: State, special: State) -> bool:
    """The same of two states that may be joined."""
    for wide, narrow in zip(general.frames[-1].registers, special.frames[-1].registers, strict=True):
        # Most states differ in the range of a register, which is cheap to see.
        if isinstance(wide, Number) and isinstance(narrow, Number) and not wide.scalar.spans(narrow.scalar):
            return False
    renaming = _Renaming()
    if general.lock is not None:
        renaming.ids[general.lock] = general.lock
    for mine, theirs in zip(general.frames, special.frames, strict=True):
        for wide, narrow in zip(mine.registers, theirs.registers, strict=True):
            if wide is not UNSET and not _value_covers(wide, narrow, renaming):
                return False
        for offset, slot in mine.stack.items():
            other = theirs.stack.get(offset)
            if other is None or not _slot_covers(slot, other, renaming):
                return False
    for base, (its, ahead) in renaming.places.items():
        wide_place, narrow_place = general.places[base], _moved(special.places[its], ahead)
        if wide_place.safe > narrow_place.safe or not wide_place.distance.covers(narrow_place.distance):
            return False
    return True


def _slot_covers(wide: Slot, narrow: Slot, renaming: _Renaming) -> bool:
    if wide.written & ~narrow.written or wide.zero & ~narrow.zero:
        return False
    if isinstance(wide.value, Unset):
        return True
    if wide.value is None:
        # Bytes that read as an unknown number must not be a pointer's.
        return narrow.value is None or isinstance(narrow.value, Number) or not wide.written
    return narrow.value is not None and wide.size == narrow.size and _value_covers(wide.value, narrow.value, renaming)


def _value_covers(wide: Value, narrow: Value, renaming: _Renaming) -> bool:
    if isinstance(wide, Unset):
        return True
    if isinstance(wide, Number) and isinstance(narrow, Number):  # most of them
        return wide.scalar.covers(narrow.scalar) and renaming.id(wide.id, narrow.id)
    match wide, narrow:
        case Packet(), Packet():
            return renaming.place(wide, narrow)
        case MapValue(), MapValue():
            return wide.name == narrow.name and renaming.id(wide.id, narrow.id) and wide.offset.covers(narrow.offset)
        case MapValueOrNull(), MapValueOrNull():
            return wide.name == narrow.name and renaming.id(wide.id, narrow.id)
        case MapValueOrNull(), MapValue():
            at_begin = narrow.offset == Scalar.constant(0)
            return wide.name == narrow.name and at_begin and renaming.id(wide.id, narrow.id)
        case RecordOrNull(), Record():
            return narrow == Record(wide.size, Scalar.constant(0), wide.id)
        case Record(), Record():
            return wide.id == narrow.id and wide.size == narrow.size and wide.offset.covers(narrow.offset)
        case _:
            return wide == narrow


# ---- joining


class _Join:
    """One join. The same pair of values, wherever it stands, becomes the same value."""

    def __init__(self, one: State, other: State, fresh: Fresh) -> None:
        self._one, self._other, self._fresh = one, other, fresh
        self._ids: dict[tuple[int, int], int] = {}
        self._bases: dict[tuple[int, int, int], int] = {}
        self.places: dict[int, Place] = {0: _join_places(one.places[0], other.places[0])}

    def slot(self, one: Slot | None, other: Slot | None) -> Slot | None:
        if one is None or other is None:
            return None
        written, zero = one.written & other.written, one.zero & other.zero
        if one.value is None and other.value is None:
            return Slot(written, zero)
        if one.value is not None and other.value is not None and one.size == other.size:
            value = self.value(one.value, other.value)
            return Slot(written, 0 if isinstance(value, Unset) else zero, value, one.size)
        for slot in (one, other):
            if slot.value is not None and not isinstance(slot.value, Number):
                return Slot(written, 0, _mixed(slot.value))
        return Slot(written, zero)

    def value(self, one: Value, other: Value) -> Value:
        match one, other:
            case Number(), Number():
                return Number(one.scalar.join(other.scalar), self._id(one.id, other.id))
            case Packet(), Packet():
                return self._packet(one, other)
            case MapValue(), MapValue() if one.name == other.name:
                return MapValue(one.name, one.offset.join(other.offset), self._id(one.id, other.id))
            case ((MapValue() | MapValueOrNull()), (MapValue() | MapValueOrNull())) if one.name == other.name:
                if any(isinstance(v, MapValue) and v.offset != Scalar.constant(0) for v in (one, other)):
                    return _lost(one, other)
                return MapValueOrNull(one.name, self._id(one.id, other.id) or self._fresh())
            case Record(), Record() if (one.id, one.size) == (other.id, other.size):
                return Record(one.size, one.offset.join(other.offset), one.id)
            case ((Record() | RecordOrNull()), (Record() | RecordOrNull())) if (one.id, one.size) == (
                other.id,
                other.size,
            ):
                if any(isinstance(v, Record) and v.offset != Scalar.constant(0) for v in (one, other)):
                    return _lost(one, other)
                return RecordOrNull(one.size, one.id)
            case _:
                return one if one == other else _lost(one, other)

    def _id(self, one: int, other: int) -> int:
        if one == other:
            return one
        if one == 0 or other == 0:
            return 0
        if (one, other) not in self._ids:
            self._ids[one, other] = self._fresh()
        return self._ids[one, other]

    def _packet(self, one: Packet, other: Packet) -> Packet:
        """Pointers the same distance apart on both ways share their place, so that one check serves them all."""
        ahead = one.offset - other.offset
        key = (one.base, other.base, ahead)
        base = self._bases.get(key)
        if base is None:
            at_start = one.base <= 0 and other.base <= 0 and not ahead
            base = one.base if one.base == other.base and not ahead else -self._fresh() if at_start else self._fresh()
            self._bases[key] = base
            mine = _moved(self._one.places[one.base], max(0, ahead))
            theirs = _moved(self._other.places[other.base], max(0, -ahead))
            self.places[base] = _join_places(mine, theirs)
        return Packet(base, min(one.offset, other.offset))


def _moved(place: Place, ahead: int) -> Place:
    """The place `ahead` bytes behind this one."""
    if not ahead:
        return place
    distance = place.distance
    return Place(Scalar.between(distance.umin + ahead, distance.umax + ahead), max(0, place.safe - ahead), place.proof)


def _join_places(one: Place, other: Place) -> Place:
    weaker = min((one, other), key=lambda place: place.safe)
    return Place(one.distance.join(other.distance), weaker.safe, weaker.proof)


def _mixed(pointer: Value) -> Unset:
    return pointer if isinstance(pointer, Unset) else Unset(f"{pointer} or numbers, depending on the way")


def _lost(one: Value, other: Value) -> Value:
    if isinstance(one, Unset):
        return one
    if isinstance(other, Unset):
        return other
    return Unset(f"{one} or {other}, depending on the way")


def join(one: State, other: State, fresh: Fresh) -> State:
    """A state that covers both, which must be alike. The way to it is the shorter one."""
    merge = _Join(one, other, fresh)
    frames = []
    for mine, theirs in zip(one.frames, other.frames, strict=True):
        registers = [merge.value(a, b) for a, b in zip(mine.registers, theirs.registers, strict=True)]
        stack = {}
        for offset in mine.stack.keys() & theirs.stack.keys():
            slot = merge.slot(mine.stack[offset], theirs.stack[offset])
            if slot is not None and slot.written:
                stack[offset] = slot
        frames.append(Frame(registers, stack, mine.function, mine.returns_to))
    shorter = min((one, other), key=lambda state: state.way.length if state.way else 0)
    return State(frames, merge.places, one.records, one.lock, shorter.way, one.ways + other.ways)
