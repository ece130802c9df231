"""The lookup of one table: observers, segments with their hashes and compares, the miss."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Final, NamedTuple

from oko.compiler.assembler import Label, Register
from oko.compiler.emission import (
    FRAME,
    HASH_KEY,
    HELPER_LOOKUP,
    R0,
    R1,
    R2,
    R3,
    R7,
    R8,
    R9,
    SCRATCH,
    TEMPLATE,
    Emission,
    narrowest,
)
from oko.compiler.hint import FACTOR, Hint
from oko.compiler.hints import HINTS, MOST_GROUPS, Hints
from oko.compiler.image import Want
from oko.compiler.layout import WORD, Lowered
from oko.compiler.plan import Candidate, Group, Plan, Segment
from oko.flow.drop import Drop
from oko.flow.rule import Entry
from verifier import isa

# A value of the hashed rules: slot u32, argument u32, order u64, template u32, zeros; host order. What every lookup
# needs comes first: that is behind the key, mostly in one cache line with it.
SLOT_OFFSET: Final = 0
ARGUMENT_OFFSET: Final = 4
ORDER_OFFSET: Final = 8
TEMPLATE_OFFSET: Final = 16
_VALUE: Final = struct.Struct("<IIQI4x")
RULE_SIZE: Final = _VALUE.size
RULES: Final = "rules"
"""How the names of the maps of hashed rules begin."""

_UNIT: Final = 4
"""Bytes of the unit in which keys are hashed. The key of an element is the number of its group, u32, then the units of
the packet's key that the group looks at, then zeros up to a multiple of eight bytes."""

_ANY_PRIORITY: Final = 0xFFFF
_BITS: Final = 8
"""Groups of which one load says whether to look into them."""
_FEWEST_HINTED: Final = 4
"""Groups that hints may be worth it for."""

NO_ORDER: Final = (1 << 64) - 1
"""The `order` of no rule: every rule's is lower."""


def order(entry: Entry) -> int:
    """The rank of an entry among those of one segment, as a number: lower wins. 16 bits priority, 48 age."""
    return (_ANY_PRIORITY - entry.rule.priority) << 48 | entry.age


def order_of(value: bytes) -> int:
    """The order of the hashed rule that has this value."""
    return int.from_bytes(value[ORDER_OFFSET : ORDER_OFFSET + 8], "little")


def slot_of(value: bytes) -> int:
    """The slot of the hashed rule that has this value."""
    return int.from_bytes(value[SLOT_OFFSET : SLOT_OFFSET + 4], "little")


def group_of(name: str, key: bytes) -> int | None:
    """The number of the group of hashed rules that an element of the map `name` belongs to, None if it is no rule."""
    return int.from_bytes(key[:_UNIT], "little") if name.startswith(RULES) else None


def rules_map(words: int) -> str:
    """The map of the hashed rules whose elements have keys of `words` words."""
    return f"{RULES}{words}"


class HashedGroup:
    """Where the rules of the hashed group `number` have their elements, of which this mask over `size` bytes of the
    packet's key tells them apart: in the map called `map`, under `words` words. `units` are the offsets of what they
    are made of, behind the number."""

    def __init__(self, size: int, number: int, mask: int) -> None:
        data = mask.to_bytes(size, "big")
        self.units = [at for at in range(0, size, _UNIT) if any(data[at : at + _UNIT])]
        self.words = len(self.units) * _UNIT // WORD + 1
        self.map = rules_map(self.words)
        self._size = size
        self._mask = mask
        self._number = number.to_bytes(_UNIT, "little")

    def key(self, value: int) -> bytes:
        """The key of the rule with this value."""
        data = (value & self._mask).to_bytes(self._size, "big")
        units = b"".join([data[at : at + _UNIT] for at in self.units])
        return (self._number + units).ljust(self.words * WORD, b"\0")


@lru_cache(maxsize=1 << 12)
def _hashed_group(size: int, number: int, mask: int) -> HashedGroup:
    """That group. Remembered: rules of it come by the ten thousand."""
    return HashedGroup(size, number, mask)


def hashed_group(size: int, group: Group) -> HashedGroup:
    """Where the rules of a group that the code hashes have their elements."""
    assert group.number is not None, "it is hashed"
    return _hashed_group(size, group.number, group.mask & ~group.kind.mask)


def rule_value(entry: Entry, want: Want) -> bytes:
    """The value of a hashed rule."""
    return _VALUE.pack(entry.slot, want.argument, order(entry), want.template)


class _Leaf(NamedTuple):
    """Where the search of a run leads: to `found`, or to what is `following`. `outranked` and `several` as of a run."""

    found: Label
    following: Label
    outranked: bool
    several: bool


@dataclass
class Lookup:
    """Emits the lookup of table after table. Afterwards `hashed` lists the groups that were hashed, by number, and
    `hints` has the hints for them."""

    emission: Emission
    want: Callable[[Entry], Want]
    hashed: list[Group]
    hints: Hints

    def emit(
        self,
        table: int,
        plan: Plan,
        observers: Sequence[tuple[int, Lowered]],
        won: Label,
        templates: int,
        *,
        sent: bool,
    ) -> None:
        """From the beginning of the table to `won`, where R7 is the slot and R8 the argument of the winner, and its
        template on the stack if there are several `templates`. `observers` are programs and what they look at; `sent`:
        packets may come here that have to leave by some port already."""
        asm = self.emission.asm
        for program, lowered in observers:
            following = Label(f"after observer {program}")
            asm.note(f"table {table}, observer {program}")
            self._compare_at(self.emission.key(), lowered, following)
            self.emission.ask(program, following)
            asm.place(following)
        for number, segment in enumerate(plan.segments):
            self._segment(table, number, segment, won, several=templates > 1)
        asm.note(f"table {table}, miss")
        if self.emission.attachment is not None:
            asm.jump(self.emission.passing)
            return
        if sent:
            self.emission.packet(R3)
            asm.load(4, R8, R3, self.emission.layout.offsets["outputs"])
            asm.jump_if_value(isa.JNE, R8, 0, self.emission.sending)
        self.emission.drop(Drop.MISS)

    def emit_reserved(self, reserved: Sequence[Lowered]) -> None:
        """Before the tables of an attached switch: pass what these match."""
        asm = self.emission.asm
        for number, lowered in enumerate(reserved):
            following = Label(f"after reserved frames {number}")
            asm.note(f"reserved frames {number}")
            self._compare_at(self.emission.key(), lowered, following)
            asm.jump(self.emission.passing)
            asm.place(following)

    def _segment(self, table: int, number: int, segment: Segment, won: Label, *, several: bool) -> None:
        asm = self.emission.asm
        following = Label(f"after segment {number}")
        found = Label(f"candidate of segment {number}")
        asked = "no program" if segment.program is None else f"program {segment.program}"
        asm.note(f"table {table}, segment {number}, {asked}")
        hashed, runs = segment.hashed, segment.runs
        if len(hashed) == 1 and not runs:
            hashed[0].reach = _ANY_PRIORITY
            self._hash(hashed[0], following)
            self._take(several=several)
        elif hashed:
            self._hashes(hashed, several=several)
            self._runs(runs, found, outranked=True, several=several)
            asm.jump_if_value(isa.JEQ, R9, -1, following, wide=True)  # NO_ORDER, as it is sign-extended
        else:
            self._runs(runs, found, outranked=False, several=several)
            asm.jump(following)
        asm.place(found)
        if segment.program is not None:
            self.emission.ask(segment.program, following)
        asm.jump(won)
        asm.place(following)

    def _hashes(self, groups: Sequence[Group], *, several: bool) -> None:
        """R9 = the order of the best hashed rule that matches, all ones if none; its slot and argument in R7, R8."""
        asm = self.emission.asm
        asm.set(R9, NO_ORDER)
        asm.set(R7, 0)
        asm.set(R8, 0)
        if several:
            asm.store_value(4, FRAME, TEMPLATE, 0)
        done = Label("hashes done")
        for start in range(0, len(groups), MOST_GROUPS):
            chunk = groups[start : start + MOST_GROUPS]
            hint = self.hints.add(chunk) if len(chunk) >= _FEWEST_HINTED else None
            if hint is not None:
                self._hint(hint)
            for first in range(0, len(chunk), _BITS):
                unnamed = Label("none of these groups")
                if hint is not None:
                    self._load_hint(first)
                    asm.jump_if_value(isa.JEQ, R1, 0, unnamed)
                for bit, group in enumerate(chunk[first : first + _BITS], start=first):
                    if hint is not None:
                        group.hint, group.bit = hint, 1 << bit
                    self._better(group, done, first=start + bit == 0, several=several)
                asm.place(unnamed)
        asm.place(done)

    def _better(self, group: Group, done: Label, *, first: bool, several: bool) -> None:
        """If this group has a rule that is better than the one that was found, that is the one. To `done` if neither it
        nor a later group can have one."""
        asm = self.emission.asm
        worse = Label("no better rule in this group")
        if group.hint is not None:
            byte, bit = divmod(group.bit.bit_length() - 1, _BITS)
            self._load_hint(byte * _BITS)
            asm.operate_value(isa.AND, R1, 1 << bit)
            asm.jump_if_value(isa.JEQ, R1, 0, worse)
        group.reach = _ANY_PRIORITY if first else group.top_priority
        if not first:
            asm.set(R1, (_ANY_PRIORITY - group.reach) << 48)
            asm.jump_if(isa.JLT, R9, R1, done)
        self._hash(group, worse)
        asm.load(8, R1, R0, ORDER_OFFSET)
        asm.jump_if(isa.JGE, R1, R9, worse)
        # Loaded anew: of a copy the kernel would know that it is below the last one, and keep each way apart.
        asm.load(8, R9, R0, ORDER_OFFSET)
        self._take(several=several)
        asm.place(worse)

    def _hint(self, hint: Hint) -> None:
        """Find out which groups may have a rule."""
        asm, layout = self.emission.asm, self.emission.layout
        found = Label("hint found")
        masks = [(index, mask) for index, mask in enumerate(layout.key.words(hint.mask)) if any(mask)]
        asm.note(f"hints of {len(masks)} words")
        register, key = self.emission.key()
        asm.set(R0, 0)
        for index, mask in masks:
            asm.load(8, R1, register, key + index * WORD)
            self.emission.mask(mask)
            asm.operate(isa.XOR, R0, R1)
            asm.set(R1, FACTOR)
            asm.operate(isa.MUL, R0, R1)
            asm.copy(R1, R0)
            asm.operate_value(isa.RSH, R1, 32)
            asm.operate(isa.XOR, R0, R1)
        asm.operate_value(isa.RSH, R0, 64 - hint.bits)
        asm.operate_value(isa.ADD, R0, hint.base)
        asm.store(4, FRAME, SCRATCH, R0)
        self.emission.lookup(HINTS, SCRATCH)
        asm.jump_if_value(isa.JNE, R0, 0, found, wide=True)
        self.emission.leave()
        asm.place(found)
        asm.load(8, R1, R0, 0)
        self.emission.packet(R3)
        asm.store(8, R3, layout.offsets["hint"], R1)

    def _load_hint(self, first: int) -> None:
        """R1 = the bits of the hint from this one on."""
        self.emission.packet(R3)
        self.emission.asm.load(1, R1, R3, self.emission.layout.offsets["hint"] + first // _BITS)

    def _hash(self, group: Group, absent: Label) -> None:
        """R0 = the element of the rule of this group that matches; to `absent` if none does."""
        asm = self.emission.asm
        layout = self.emission.layout.key
        number = group.number = len(self.hashed)
        group.kind = group.shared(layout.kind)
        self.hashed.append(group)
        hashed = hashed_group(layout.size, group)
        asm.note(f"hash {number}: {hashed.words} words, priority up to {group.top_priority}")
        key = self.emission.key()
        self._compare_at(key, group.kind, absent)
        register, offset = key
        target, start = (R3, self.emission.layout.offsets["lookup"]) if register is R3 else (FRAME, HASH_KEY)
        asm.store_value(4, target, start, number)
        data = (group.mask & ~group.kind.mask).to_bytes(layout.size, "big")
        at = start
        for unit in hashed.units:
            asm.load(_UNIT, R1, register, offset + unit)
            self.emission.mask(data[unit : unit + _UNIT])
            at += _UNIT
            asm.store(_UNIT, target, at, R1)
        if (at + _UNIT - start) % WORD:
            asm.store_value(4, target, at + _UNIT, 0)
        asm.copy(R2, target)
        asm.operate_value(isa.ADD, R2, start)
        asm.map(R1, hashed.map)
        asm.call_helper(HELPER_LOOKUP)
        asm.jump_if_value(isa.JEQ, R0, 0, absent, wide=True)

    def _take(self, *, several: bool) -> None:
        """Let the rule of the element R0 be the one that is found."""
        asm = self.emission.asm
        asm.load(4, R7, R0, SLOT_OFFSET)
        asm.load(4, R8, R0, ARGUMENT_OFFSET)
        if several:
            asm.load(4, R1, R0, TEMPLATE_OFFSET)
            asm.store(4, FRAME, TEMPLATE, R1)

    def _runs(self, runs: Sequence[Group], found: Label, *, outranked: bool, several: bool) -> None:
        """To `found` with the slot and argument of the rule that matches in the first run, or, if it is `outranked` by
        the best hashed rule, with those of that. On if there is no rule."""
        asm = self.emission.asm
        best = [order(next(iter(run.candidates.values())).entry) for run in runs]
        from_here = list(accumulate(reversed(best), min))
        for number, run in enumerate(runs):
            if outranked:
                asm.set(R1, from_here.pop())
                asm.jump_if(isa.JLT, R9, R1, found)
            following = Label(f"after run {number}")
            words = [index for index, mask in enumerate(self.emission.layout.key.words(run.mask)) if any(mask)]
            leaf = _Leaf(found, following, outranked, several)
            self._search(list(run.candidates.values()), words, self.emission.key(), leaf)
            asm.place(following)

    def _search(
        self, candidates: Sequence[Candidate], words: Sequence[int], key: tuple[Register, int], leaf: _Leaf
    ) -> None:
        """Find the one of `candidates`, which are of one mask, that agrees with the key in these words."""
        if not words:
            self._won(candidates[0], leaf)
            return
        layout = self.emission.layout.key
        values = {index: [layout.words(candidate.lowered.value)[index] for candidate in candidates] for index in words}
        index = min(words, key=lambda index: len(set(values[index])))
        register, offset = key
        mask = layout.words(candidates[0].lowered.mask)[index]
        start, width = narrowest(mask)
        parts: dict[int, list[Candidate]] = {}
        for candidate, value in zip(candidates, values[index], strict=True):
            number = int.from_bytes(value[start : start + width], "little")
            parts.setdefault(number, []).append(candidate)
        asm = self.emission.asm
        asm.load(width, R1, register, offset + index * WORD + start)
        self.emission.mask(mask[start : start + width])
        rest = [other for other in words if other != index]
        self._halve(sorted(parts.items()), width, rest, key, leaf)

    def _halve(
        self,
        parts: Sequence[tuple[int, Sequence[Candidate]]],
        width: int,
        words: Sequence[int],
        key: tuple[Register, int],
        leaf: _Leaf,
    ) -> None:
        """Go on with the part that has the number in R1, `width` bytes; `parts` ascend."""
        asm = self.emission.asm
        if len(parts) == 1:
            ((number, candidates),) = parts
            self._jump_by(isa.JNE, width, number, leaf.following)
            self._search(candidates, words, key, leaf)
            return
        middle = len(parts) // 2
        upper = Label("upper half")
        self._jump_by(isa.JGE, width, parts[middle][0], upper)
        self._halve(parts[:middle], width, words, key, leaf)
        asm.place(upper)
        self._halve(parts[middle:], width, words, key, leaf)

    def _won(self, candidate: Candidate, leaf: _Leaf) -> None:
        asm = self.emission.asm
        entry = candidate.entry
        asm.note(f"rule in slot {entry.slot}, priority {entry.rule.priority}")
        if leaf.outranked:
            asm.set(R1, order(entry))
            asm.jump_if(isa.JLT, R9, R1, leaf.found)
        want = self.want(entry)
        asm.set(R7, entry.slot)
        asm.set(R8, want.argument)
        if leaf.several:
            asm.store_value(4, FRAME, TEMPLATE, want.template)
        asm.jump(leaf.found)

    def _compare_at(self, key: tuple[Register, int], lowered: Lowered, different: Label) -> None:
        """Jump to `different` unless the key agrees with `lowered`."""
        layout = self.emission.layout.key
        register, offset = key
        for index, (mask, value) in enumerate(
            zip(layout.words(lowered.mask), layout.words(lowered.value), strict=True)
        ):
            if any(mask):
                self._compare(register, offset + index * WORD, value, mask, different)

    def _compare(self, register: Register, offset: int, value: bytes, mask: bytes, different: Label) -> None:
        """Jump to `different` unless the word at `register` + `offset` agrees with `value` under `mask`."""
        asm = self.emission.asm
        start, width = narrowest(mask)
        asm.load(width, R1, register, offset + start)
        self.emission.mask(mask[start : start + width])
        self._jump_by(isa.JNE, width, int.from_bytes(value[start : start + width], "little"), different)

    def _jump_by(self, comparison: int, width: int, number: int, label: Label) -> None:
        """Jump when R1, which has been loaded `width` bytes wide, `comparison` number."""
        asm = self.emission.asm
        if width < WORD:
            asm.jump_if_value(comparison, R1, number, label)
        else:
            asm.set(R2, number)
            asm.jump_if(comparison, R1, R2, label)
