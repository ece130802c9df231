"""Emits the main function of an image: ingress port, parser, lookup, programs, action.

Registers: R6 the context, R7 the slot and R8 the output of the candidate rule, R9 the order of the best hashed
rule and then the program's counters. The stack holds the key and, below it, what helpers take by reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from oko.compiler.assembler import Assembler, Label, Register
from oko.compiler.counters import Drop
from oko.compiler.image import Filter
from oko.compiler.layout import WORD, KeyLayout
from oko.compiler.plan import Candidate, Group, Plan, Segment
from oko.errors import BadAction
from oko.flow.action import Output
from oko.flow.rule import Entry, Rule
from verifier import isa

R0, R1, R2, R3, R6, R7, R8, R9, FRAME = (
    Register.R0,
    Register.R1,
    Register.R2,
    Register.R3,
    Register.R6,
    Register.R7,
    Register.R8,
    Register.R9,
    Register.FRAME,
)

XDP_DROP: Final = 1
XDP_REDIRECT: Final = 4

# Offsets in struct xdp_md (<linux/bpf.h>).
CTX_DATA: Final = 0
CTX_DATA_END: Final = 4
CTX_IFINDEX: Final = 12

HELPER_LOOKUP: Final = 1
HELPER_REDIRECT_MAP: Final = 51

# A value of the hashed rules: order u64, slot u32, output u32, host order.
ORDER_OFFSET: Final = 0
SLOT_OFFSET: Final = 8
OUTPUT_OFFSET: Final = 12
RULE_SIZE: Final = 16
RULES: Final = "rules"
"""How the names of the maps of hashed rules begin."""

NO_OUTPUT: Final = 0
"""R8 of a rule that drops; otherwise one more than the port's index in the devmap."""

# `struct replay`, the single element of the array `replay`: u64 now, u64 random, u32 in_port, then the decision.
REPLAY_NOW: Final = 0
REPLAY_RANDOM: Final = 8
REPLAY_IN_PORT: Final = 16
REPLAY_RULE: Final = 20
REPLAY_OUTPUT: Final = 24
REPLAY_DROP: Final = 28
REPLAY_SIZE: Final = 32

NO_ORDER: Final = (1 << 64) - 1
"""The `order` of no rule: every rule's is lower."""


def order(entry: Entry) -> int:
    """The rank of an entry among those of one segment, as a number: lower wins. 16 bits priority, 48 age."""
    return (0xFFFF - entry.rule.priority) << 48 | entry.age


def age_of(value: bytes) -> int:
    """The age of the hashed rule that has this value."""
    return int.from_bytes(value[ORDER_OFFSET : ORDER_OFFSET + 6], "little")


def rules_map(words: int) -> str:
    """The map of the hashed rules whose masks span `words` words of the key."""
    return f"{RULES}{words}"


def hash_key(layout: KeyLayout, group: int, mask: int, value: int) -> bytes:
    """The key of a hashed rule: the number of its group, then the words that the mask looks at."""
    words = zip(layout.words(mask), layout.words(value), strict=True)
    return group.to_bytes(WORD, "little") + b"".join(word for masked, word in words if any(masked))


def rule_value(entry: Entry, indices: Mapping[int, int]) -> bytes:
    """The value of a hashed rule."""
    return (
        order(entry).to_bytes(8, "little")
        + entry.slot.to_bytes(4, "little")
        + output_of(entry.rule, indices).to_bytes(4, "little")
    )


def output_of(rule: Rule, indices: Mapping[int, int]) -> int:
    """What R8 says of a rule's actions. `indices` are the devmap's, by port number.

    Raises BadAction for an unknown port and for actions that the pipeline does not do.
    """
    actions = rule.actions
    if not actions:
        return NO_OUTPUT
    if len(actions) > 1:
        raise BadAction(f"{len(actions)} actions: a rule sends to one port for now", reason="too-many")
    (action,) = actions
    if not isinstance(action, Output) or action.port not in indices:
        raise BadAction(f"output:{action.port}: the bridge has no port {action.port}", reason="bad-out-port")
    return indices[action.port] + 1


@dataclass(slots=True)
class Ingress:
    """How the pipeline knows the port that a packet came in by.

    `ports` is what the interface is compared with → (port number, index in the devmap). Live that is the ifindex of
    the context; in a replay image the port's number, which the one who replays put into the map `replay`.
    """

    ports: dict[int, tuple[int, int]]
    replay: bool

    def load(self, asm: Assembler, context: Register) -> None:
        """R1 = the number that `ports` is keyed by."""
        if self.replay:
            asm.map_value(R1, "replay", REPLAY_IN_PORT)
            asm.load(4, R1, R1, 0)
        else:
            asm.load(4, R1, context, CTX_IFINDEX)

    def search(self, asm: Assembler, found: Sequence[tuple[int, Label]], unknown: Label) -> None:
        """Jump to the label of the key in R1, by halving. `found` ascends."""
        if len(found) <= 3:
            for key, label in found:
                asm.jump_if_value(isa.JEQ, R1, key, label)
            asm.jump(unknown)
            return
        middle = len(found) // 2
        upper = Label("upper half of the ports")
        asm.jump_if_value(isa.JGE, R1, found[middle][0], upper)
        self.search(asm, found[:middle], unknown)
        asm.place(upper)
        self.search(asm, found[middle:], unknown)

    def labels(self) -> list[tuple[int, Label]]:
        return [(key, Label(f"port {self.ports[key][0]}")) for key in sorted(self.ports)]


def emit_in_port(ingress: Ingress) -> Assembler:
    """The runtime function `oko_in_port`: from the context the number of the port, 0 for a stranger."""
    asm = Assembler()
    asm.note("oko_in_port")
    ingress.load(asm, R1)
    labels = ingress.labels()
    stranger = Label("stranger")
    ingress.search(asm, labels, stranger)
    for key, label in labels:
        asm.place(label)
        asm.set(R0, ingress.ports[key][0])
        asm.exit()
    asm.place(stranger)
    asm.set(R0, 0)
    asm.exit()
    return asm


class Pipeline:
    """Emits one main function. Make one, call `emit`, and drop it."""

    def __init__(
        self, plan: Plan, layout: KeyLayout, filters: Mapping[int, Filter], ingress: Ingress, indices: Mapping[int, int]
    ) -> None:
        self._plan = plan
        self._layout = layout
        self._filters = filters
        self._ingress = ingress
        self._indices = indices
        self._asm = Assembler()
        self._groups = 0
        self._key = -layout.size
        self._scratch = self._key - 4
        self._port_index = self._key - 8
        self._sequence = self._key - 16
        self._hash_key = self._sequence - WORD - layout.size
        self._action = Label("action")
        self._drop = Label("drop")
        self.hashed: list[tuple[int, Group]] = []

    def emit(self) -> Assembler:
        """The whole function. Afterwards `hashed` lists the groups that were hashed, with their numbers."""
        asm = self._asm
        asm.note("start")
        asm.copy(R6, R1)
        self._emit_sequence()
        self._emit_parser()
        self._emit_ingress()
        for number, segment in enumerate(self._plan.segments):
            self._emit_segment(number, segment)
        self._emit_miss()
        self._emit_action()
        self._emit_drop()
        return asm

    def remembers(self, program: int) -> bool:
        """Whether the answer of `program` must be remembered for the rest of the packet."""
        return self._plan.occurrences(program) > 1

    def _emit_sequence(self) -> None:
        if not any(self.remembers(program) for program in self._plan.programs):
            return
        asm = self._asm
        found = Label("sequence found")
        asm.note("number of the packet")
        asm.store_value(4, FRAME, self._scratch, 0)
        self._lookup("sequence", self._scratch)
        asm.jump_if_value(isa.JNE, R0, 0, found, wide=True)
        asm.set(R0, XDP_DROP)
        asm.exit()
        asm.place(found)
        asm.load(8, R1, R0, 0)
        asm.operate_value(isa.ADD, R1, 1)
        asm.store(8, R0, 0, R1)
        # The memo keeps 63 bits of it, so only those are compared.
        asm.operate_value(isa.LSH, R1, 1)
        asm.operate_value(isa.RSH, R1, 1)
        asm.store(8, FRAME, self._sequence, R1)

    def _emit_parser(self) -> None:
        asm = self._asm
        words = self._layout.words(self._plan.mask)
        offset, size = self._layout.members["in_port"]
        in_port = ((1 << size * 8) - 1) << (self._layout.size - offset - size) * 8
        if not self._plan.mask & ~in_port:
            for index, word in enumerate(words):
                if any(word):
                    asm.store_value(8, FRAME, self._key + index * WORD, 0)
            return
        asm.note("parser")
        parsed = Label("parsed")
        asm.copy(R1, R6)
        asm.copy(R2, FRAME)
        asm.operate_value(isa.ADD, R2, self._key)
        asm.call("oko_parse")
        asm.jump_if_value(isa.JEQ, R0, 0, parsed)
        self._goto_drop(Drop.RUNT)
        asm.place(parsed)

    def _emit_ingress(self) -> None:
        asm = self._asm
        asm.note("ingress port")
        self._ingress.load(asm, R6)
        labels = self._ingress.labels()
        stranger, known = Label("stranger"), Label("ingress known")
        self._ingress.search(asm, labels, stranger)
        asm.place(stranger)
        self._goto_drop(Drop.STRANGER)
        offset, _ = self._layout.members["in_port"]
        for key, label in labels:
            number, index = self._ingress.ports[key]
            asm.place(label)
            asm.store_value(4, FRAME, self._key + offset, int.from_bytes(number.to_bytes(4, "big"), "little"))
            asm.store_value(4, FRAME, self._port_index, index + 1)
            asm.jump(known)
        asm.place(known)

    def _emit_segment(self, number: int, segment: Segment) -> None:
        asm = self._asm
        following = Label(f"after segment {number}")
        found = Label(f"candidate of segment {number}")
        asked = "no program" if segment.program is None else f"program {segment.program}"
        asm.note(f"segment {number}, {asked}")
        hashed = segment.hashed
        if hashed:
            self._emit_hashes(hashed)
        for candidate in segment.inline:
            self._emit_inline(candidate, found, outranked=bool(hashed))
        if hashed:
            asm.jump_if_value(isa.JEQ, R9, -1, following, wide=True)  # NO_ORDER, as it is sign-extended
        else:
            asm.jump(following)
        asm.place(found)
        if segment.program is not None:
            self._emit_program(segment.program, following)
        asm.jump(self._action)
        asm.place(following)

    def _emit_hashes(self, groups: Sequence[Group]) -> None:
        """R9 = the order of the best hashed rule that matches, all ones if none; its slot and output in R7, R8."""
        asm = self._asm
        done = Label("hashes done")
        asm.set(R9, NO_ORDER)
        asm.set(R7, 0)
        asm.set(R8, 0)
        for position, group in enumerate(groups):
            number = self._groups
            self._groups += 1
            self.hashed.append((number, group))
            worse = Label("no better rule in this group")
            asm.note(
                f"hash {number}: {len(words_of(self._layout, group.mask))} words, priority up to {group.top_priority}"
            )
            if position:
                asm.set(R1, (0xFFFF - group.top_priority) << 48)
                asm.jump_if(isa.JLT, R9, R1, done)
            asm.store_value(8, FRAME, self._hash_key, number)
            at = self._hash_key + WORD
            for index, mask in enumerate(self._layout.words(group.mask)):
                if not any(mask):
                    continue
                asm.load(8, R1, FRAME, self._key + index * WORD)
                self._mask(int.from_bytes(mask, "little"), 8)
                asm.store(8, FRAME, at, R1)
                at += WORD
            self._lookup(rules_map(len(words_of(self._layout, group.mask))), self._hash_key)
            asm.jump_if_value(isa.JEQ, R0, 0, worse, wide=True)
            asm.load(8, R1, R0, ORDER_OFFSET)
            asm.jump_if(isa.JGE, R1, R9, worse)
            # Loaded anew: of a copy the kernel would know that it is below the last one, and keep each way apart.
            asm.load(8, R9, R0, ORDER_OFFSET)
            asm.load(4, R7, R0, SLOT_OFFSET)
            asm.load(4, R8, R0, OUTPUT_OFFSET)
            asm.place(worse)
        asm.place(done)

    def _emit_inline(self, candidate: Candidate, found: Label, *, outranked: bool) -> None:
        asm = self._asm
        entry = candidate.entry
        following = Label(f"after rule {entry.slot}")
        asm.note(f"rule in slot {entry.slot}, priority {entry.rule.priority}")
        if outranked:
            asm.set(R1, order(entry))
            asm.jump_if(isa.JLT, R9, R1, found)
        value, mask = self._layout.words(candidate.lowered.value), self._layout.words(candidate.lowered.mask)
        for index, word in enumerate(mask):
            if any(word):
                self._compare(self._key + index * WORD, value[index], word, following)
        asm.set(R7, entry.slot)
        asm.set(R8, output_of(entry.rule, self._indices))
        asm.jump(found)
        asm.place(following)

    def _compare(self, offset: int, value: bytes, mask: bytes, different: Label) -> None:
        """Jump to `different` unless the word at `offset` of the stack agrees with `value` under `mask`."""
        asm = self._asm
        start, width = _narrowest(mask)
        part, wanted = mask[start : start + width], value[start : start + width]
        asm.load(width, R1, FRAME, offset + start)
        self._mask(int.from_bytes(part, "little"), width)
        number = int.from_bytes(wanted, "little")
        if width < WORD:
            asm.jump_if_value(isa.JNE, R1, number, different)
        else:
            asm.set(R2, number)
            asm.jump_if(isa.JNE, R1, R2, different)

    def _mask(self, mask: int, width: int) -> None:
        """R1 &= mask, where R1 is the `width` bytes just loaded."""
        if mask == (1 << width * 8) - 1:
            return
        if mask < 1 << 31:
            self._asm.operate_value(isa.AND, R1, mask)
        else:
            self._asm.set(R2, mask)
            self._asm.operate(isa.AND, R1, R2)

    def _emit_program(self, program: int, no: Label) -> None:
        """Ask the program, once per packet: on to the next instruction if it matches, to `no` if not."""
        asm = self._asm
        there = Label(f"counters of program {program}")
        matched, yes = Label(f"program {program} matched"), Label(f"program {program} says yes")
        remembers = self.remembers(program)
        asm.note(f"ask program {program}")
        asm.store_value(4, FRAME, self._scratch, self._filters[program].slot)
        self._lookup("programs", self._scratch)
        asm.jump_if_value(isa.JNE, R0, 0, there, wide=True)
        asm.jump(no)
        asm.place(there)
        asm.copy(R9, R0)
        if remembers:
            fresh = Label(f"program {program} has not run")
            asm.load(8, R1, R9, 16)
            asm.copy(R2, R1)
            asm.operate_value(isa.RSH, R2, 1)
            asm.load(8, R3, FRAME, self._sequence)
            asm.jump_if(isa.JNE, R2, R3, fresh)
            asm.jump_if_value(isa.JSET, R1, 1, yes)
            asm.jump(no)
            asm.place(fresh)
        self._increment(R9, 0)
        asm.copy(R1, R6)
        asm.call(f"{program}")
        if remembers:
            asm.load(8, R1, FRAME, self._sequence)
            asm.operate_value(isa.LSH, R1, 1)
            remember = Label(f"remember program {program}")
            asm.jump_if_value(isa.JEQ, R0, 0, remember)
            asm.operate_value(isa.OR, R1, 1)
            asm.place(remember)
            asm.store(8, R9, 16, R1)
        asm.jump_if_value(isa.JNE, R0, 0, matched)
        asm.jump(no)
        asm.place(matched)
        self._increment(R9, 8)
        asm.place(yes)

    def _emit_miss(self) -> None:
        self._asm.note("table miss")
        self._goto_drop(Drop.MISS)

    def _emit_action(self) -> None:
        asm = self._asm
        counted, outputs, away, gone = Label("counted"), Label("outputs"), Label("away"), Label("gone")
        asm.note("count the rule")
        asm.place(self._action)
        self._count("counters", counted)
        asm.place(counted)
        asm.note("action")
        if self._ingress.replay:
            asm.map_value(R1, "replay")
            asm.operate_value(isa.ADD, R7, 1)
            asm.store(4, R1, REPLAY_RULE, R7)
        asm.jump_if_value(isa.JNE, R8, NO_OUTPUT, outputs)
        asm.set(R0, XDP_DROP)
        asm.exit()
        asm.place(outputs)
        asm.load(4, R1, FRAME, self._port_index)
        asm.jump_if(isa.JNE, R1, R8, away)
        self._goto_drop(Drop.TO_INGRESS)
        asm.place(away)
        if self._ingress.replay:
            asm.map_value(R1, "replay")
            asm.store(4, R1, REPLAY_OUTPUT, R8)
            asm.set(R0, XDP_DROP)
            asm.exit()
            return
        asm.map(R1, "ports")
        asm.copy(R2, R8)
        asm.operate_value(isa.ADD, R2, -1)
        asm.set(R3, XDP_DROP)
        asm.call_helper(HELPER_REDIRECT_MAP)
        asm.jump_if_value(isa.JNE, R0, XDP_REDIRECT, gone)
        asm.exit()
        asm.place(gone)
        self._goto_drop(Drop.NO_PORT)

    def _goto_drop(self, reason: Drop) -> None:
        self._asm.set(R7, reason)
        self._asm.jump(self._drop)

    def _emit_drop(self) -> None:
        asm = self._asm
        counted = Label("drop counted")
        asm.note("count the drop")
        asm.place(self._drop)
        self._count("drops", counted)
        asm.place(counted)
        if self._ingress.replay:
            asm.map_value(R1, "replay")
            asm.operate_value(isa.ADD, R7, 1)
            asm.store(4, R1, REPLAY_DROP, R7)
        asm.set(R0, XDP_DROP)
        asm.exit()

    def _count(self, counters: str, done: Label) -> None:
        """One more packet, and its bytes, at index R7 of the map `counters`."""
        asm = self._asm
        asm.store(4, FRAME, self._scratch, R7)
        self._lookup(counters, self._scratch)
        asm.jump_if_value(isa.JEQ, R0, 0, done, wide=True)
        self._increment(R0, 0)
        asm.load(4, R1, R6, CTX_DATA_END)
        asm.load(4, R2, R6, CTX_DATA)
        asm.operate(isa.SUB, R1, R2)
        asm.load(8, R2, R0, 8)
        asm.operate(isa.ADD, R2, R1)
        asm.store(8, R0, 8, R2)

    def _increment(self, register: Register, offset: int) -> None:
        asm = self._asm
        asm.load(8, R1, register, offset)
        asm.operate_value(isa.ADD, R1, 1)
        asm.store(8, register, offset, R1)

    def _lookup(self, name: str, key: int) -> None:
        """R0 = the value in the map `name` under the key at `key` of the stack, or null."""
        asm = self._asm
        asm.map(R1, name)
        asm.copy(R2, FRAME)
        asm.operate_value(isa.ADD, R2, key)
        asm.call_helper(HELPER_LOOKUP)


def words_of(layout: KeyLayout, mask: int) -> list[bytes]:
    """The words of the key that `mask` looks at."""
    return [word for word in layout.words(mask) if any(word)]


def _narrowest(mask: bytes) -> tuple[int, int]:
    """Offset and width of the narrowest aligned load that covers every set bit of a word's mask."""
    for width in (1, 2, 4):
        for start in range(0, WORD, width):
            if not any(mask[:start]) and not any(mask[start + width :]):
                return start, width
    return 0, WORD
