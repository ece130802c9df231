"""The lookup of one table: observers, segments with their hashes and compares, the miss."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

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
    TEMPLATE,
    Emission,
    narrowest,
)
from oko.compiler.image import Want
from oko.compiler.layout import WORD, KeyLayout, Lowered
from oko.compiler.plan import Candidate, Group, Plan, Segment
from oko.flow.drop import Drop
from oko.flow.rule import Entry
from verifier import isa

# A value of the hashed rules: order u64, slot u32, argument u32, template u32, zeros; host order.
ORDER_OFFSET: Final = 0
SLOT_OFFSET: Final = 8
ARGUMENT_OFFSET: Final = 12
TEMPLATE_OFFSET: Final = 16
_VALUE: Final = struct.Struct("<QIII4x")
RULE_SIZE: Final = _VALUE.size
RULES: Final = "rules"
"""How the names of the maps of hashed rules begin."""

_ANY_PRIORITY: Final = 0xFFFF

NO_ORDER: Final = (1 << 64) - 1
"""The `order` of no rule: every rule's is lower."""


def order(entry: Entry) -> int:
    """The rank of an entry among those of one segment, as a number: lower wins. 16 bits priority, 48 age."""
    return (_ANY_PRIORITY - entry.rule.priority) << 48 | entry.age


def age_of(value: bytes) -> int:
    """The age of the hashed rule that has this value."""
    return int.from_bytes(value[ORDER_OFFSET : ORDER_OFFSET + 6], "little")


def slot_of(value: bytes) -> int:
    """The slot of the hashed rule that has this value."""
    return int.from_bytes(value[SLOT_OFFSET : SLOT_OFFSET + 4], "little")


def group_of(name: str, key: bytes) -> int | None:
    """The number of the group of hashed rules that an element of the map `name` belongs to, None if it is no rule."""
    return int.from_bytes(key[:WORD], "little") if name.startswith(RULES) else None


def rules_map(words: int) -> str:
    """The map of the hashed rules whose masks span `words` words of the key."""
    return f"{RULES}{words}"


class HashedGroup:
    """Where the rules of the hashed group `number`, with this mask of `size` bytes, have their elements: in the map
    called `map`."""

    def __init__(self, size: int, number: int, mask: int) -> None:
        data = mask.to_bytes(size, "big")
        self._size = size
        self._number = number.to_bytes(WORD, "little")
        self._words = [slice(at, at + WORD) for at in range(0, size, WORD) if any(data[at : at + WORD])]
        self.map = rules_map(len(self._words))

    def key(self, value: int) -> bytes:
        """The key of the rule with this value: the number of its group, then the words that the mask looks at."""
        data = value.to_bytes(self._size, "big")
        return self._number + b"".join([data[word] for word in self._words])


@lru_cache(maxsize=1 << 12)
def hashed_group(size: int, number: int, mask: int) -> HashedGroup:
    """That group. Remembered: rules of it come by the ten thousand."""
    return HashedGroup(size, number, mask)


def rule_value(entry: Entry, want: Want) -> bytes:
    """The value of a hashed rule."""
    return _VALUE.pack(order(entry), entry.slot, want.argument, want.template)


def words_of(layout: KeyLayout, mask: int) -> list[bytes]:
    """The words of the key that `mask` looks at."""
    return [word for word in layout.words(mask) if any(word)]


@dataclass
class Lookup:
    """Emits the lookup of table after table. Afterwards `hashed` lists the groups that were hashed, by number."""

    emission: Emission
    want: Callable[[Entry], Want]
    hashed: list[Group] = field(default_factory=list)

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
        hashed = segment.hashed
        if hashed:
            self._hashes(hashed, several=several)
        key = self.emission.key()
        for candidate in segment.inline:
            self._inline(candidate, found, outranked=bool(hashed), several=several, key=key)
        if hashed:
            asm.jump_if_value(isa.JEQ, R9, -1, following, wide=True)  # NO_ORDER, as it is sign-extended
        else:
            asm.jump(following)
        asm.place(found)
        if segment.program is not None:
            self.emission.ask(segment.program, following)
        asm.jump(won)
        asm.place(following)

    def _hashes(self, groups: Sequence[Group], *, several: bool) -> None:
        """R9 = the order of the best hashed rule that matches, all ones if none; its slot and argument in R7, R8."""
        asm = self.emission.asm
        layout = self.emission.layout.key
        done = Label("hashes done")
        asm.set(R9, NO_ORDER)
        asm.set(R7, 0)
        asm.set(R8, 0)
        if several:
            asm.store_value(4, FRAME, TEMPLATE, 0)
        for position, group in enumerate(groups):
            number = group.number = len(self.hashed)
            group.reach = group.top_priority if position else _ANY_PRIORITY
            self.hashed.append(group)
            worse = Label("no better rule in this group")
            words = words_of(layout, group.mask)
            asm.note(f"hash {number}: {len(words)} words, priority up to {group.top_priority}")
            if position:
                asm.set(R1, (_ANY_PRIORITY - group.reach) << 48)
                asm.jump_if(isa.JLT, R9, R1, done)
            register, key = self.emission.key()
            target, at = (R3, self.emission.layout.offsets["lookup"]) if register is R3 else (FRAME, HASH_KEY)
            start = at
            asm.store_value(8, target, at, number)
            for index, mask in enumerate(layout.words(group.mask)):
                if not any(mask):
                    continue
                asm.load(8, R1, register, key + index * WORD)
                self.emission.mask(mask)
                at += WORD
                asm.store(8, target, at, R1)
            asm.copy(R2, target)
            asm.operate_value(isa.ADD, R2, start)
            asm.map(R1, rules_map(len(words)))
            asm.call_helper(HELPER_LOOKUP)
            asm.jump_if_value(isa.JEQ, R0, 0, worse, wide=True)
            asm.load(8, R1, R0, ORDER_OFFSET)
            asm.jump_if(isa.JGE, R1, R9, worse)
            # Loaded anew: of a copy the kernel would know that it is below the last one, and keep each way apart.
            asm.load(8, R9, R0, ORDER_OFFSET)
            asm.load(4, R7, R0, SLOT_OFFSET)
            asm.load(4, R8, R0, ARGUMENT_OFFSET)
            if several:
                asm.load(4, R1, R0, TEMPLATE_OFFSET)
                asm.store(4, FRAME, TEMPLATE, R1)
            asm.place(worse)
        asm.place(done)

    def _inline(
        self, candidate: Candidate, found: Label, *, outranked: bool, several: bool, key: tuple[Register, int]
    ) -> None:
        asm = self.emission.asm
        entry = candidate.entry
        following = Label(f"after rule {entry.slot}")
        asm.note(f"rule in slot {entry.slot}, priority {entry.rule.priority}")
        if outranked:
            asm.set(R1, order(entry))
            asm.jump_if(isa.JLT, R9, R1, found)
        self._compare_at(key, candidate.lowered, following)
        want = self.want(entry)
        asm.set(R7, entry.slot)
        asm.set(R8, want.argument)
        if several:
            asm.store_value(4, FRAME, TEMPLATE, want.template)
        asm.jump(found)
        asm.place(following)

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
        number = int.from_bytes(value[start : start + width], "little")
        if width < WORD:
            asm.jump_if_value(isa.JNE, R1, number, different)
        else:
            asm.set(R2, number)
            asm.jump_if(isa.JNE, R1, R2, different)
