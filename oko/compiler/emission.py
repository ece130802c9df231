"""`Emission`: one main function in the making, and what all its stages share.

Registers: R6 the context; R7 the ingress port, then the slot of the rule that won; R8 its argument, then the port set
that the packet has to leave by; R9 the order of the best hashed rule, then a program's counters, then the data of the
rule's steps. The stack holds a few words and what helpers take by reference; what is known of the packet is in the map
`packet`, so that the kernel's verifier has nothing to tell the ways apart by.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from oko.compiler.assembler import Assembler, Label, Register
from oko.compiler.image import Filter
from oko.compiler.ingress import Ingress
from oko.compiler.layout import WORD, PacketLayout
from oko.compiler.replay import REPLAY_DROP
from oko.flow.attachment import Attachment
from oko.flow.drop import Drop
from verifier import isa

R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, FRAME = (
    Register.R0,
    Register.R1,
    Register.R2,
    Register.R3,
    Register.R4,
    Register.R5,
    Register.R6,
    Register.R7,
    Register.R8,
    Register.R9,
    Register.FRAME,
)

XDP_DROP: Final = 1
XDP_PASS: Final = 2
XDP_REDIRECT: Final = 4

# Offsets in struct xdp_md (<linux/bpf.h>).
CTX_DATA: Final = 0
CTX_DATA_END: Final = 4

HELPER_LOOKUP: Final = 1
HELPER_REDIRECT_MAP: Final = 51

# The stack, in bytes below the frame.
PACKET: Final = -8
"""Address of the packet's `struct oko_packet`."""
SCRATCH: Final = -12
"""A key of four bytes."""
PORT_INDEX: Final = -16
"""Index of the ingress port, u32."""
TEMPLATE: Final = -20
"""Which procedure the winning rule wants, u32."""
TABLE: Final = -24
"""While an action set is executed: why the controller is told of the packet, and << 8 the last table, u32."""
IN_PORT: Final = -32
"""In an image that looks at nothing but the ingress port, the first word of the key."""
HASH_KEY: Final = -40
"""And the key of a hash, one word."""
KEPT: Final = -48
"""R7, while something else than a rule is counted."""


class Emission:
    """Collects the instructions of one main function in `asm`. `keeps_packet`: there is a `struct oko_packet`;
    `remembers`: the programs whose answer is needed more than once; `attachment`: that to Open vSwitch, None without
    one."""

    def __init__(
        self,
        layout: PacketLayout,
        filters: Mapping[int, Filter],
        ingress: Ingress,
        *,
        keeps_packet: bool,
        remembers: frozenset[int],
        attachment: Attachment | None,
    ) -> None:
        self.asm = Assembler()
        self.layout = layout
        self.filters = filters
        self.ingress = ingress
        self.keeps_packet = keeps_packet
        self.remembers = remembers
        self.attachment = attachment
        self.parser = "oko_parse_one_tag" if attachment is not None and attachment.vlan_limit == 1 else "oko_parse"
        self.dropping = Label("drop")
        self.sending = Label("send")
        self.passing = Label("pass")
        self.continuing = Label("continue")

    def lookup(self, name: str, key: int) -> None:
        """R0 = the value in the map `name` under the key at `key` of the stack, or null."""
        asm = self.asm
        asm.map(R1, name)
        asm.copy(R2, FRAME)
        asm.operate_value(isa.ADD, R2, key)
        asm.call_helper(HELPER_LOOKUP)

    def lookup_scratch(self, name: str) -> None:
        """The same under the key at `lookup` of the packet."""
        asm = self.asm
        self.packet(R2)
        asm.map(R1, name)
        asm.operate_value(isa.ADD, R2, self.layout.offsets["lookup"])
        asm.call_helper(HELPER_LOOKUP)

    def packet(self, register: Register) -> None:
        """`register` = the address of the packet's `struct oko_packet`."""
        self.asm.load(8, register, FRAME, PACKET)

    def key(self) -> tuple[Register, int]:
        """Where the lookup key stands: a register, R3 after this if it has to be loaded, and an offset."""
        if not self.keeps_packet:
            return FRAME, IN_PORT
        self.packet(R3)
        return R3, self.layout.offsets["key"]

    def drop(self, reason: Drop) -> None:
        """Drop the packet, and count it for this reason."""
        self.asm.set(R7, reason)
        self.asm.jump(self.dropping)

    def leave(self) -> None:
        """Drop the packet at once."""
        self.asm.set(R0, XDP_DROP)
        self.asm.exit()

    def count(self, counters: str) -> None:
        """One more packet, and its bytes, at index R7 of the map `counters`."""
        asm = self.asm
        done = Label("counted")
        asm.store(4, FRAME, SCRATCH, R7)
        self.lookup(counters, SCRATCH)
        asm.jump_if_value(isa.JEQ, R0, 0, done, wide=True)
        self.increment(R0, 0)
        asm.load(4, R1, R6, CTX_DATA_END)
        asm.load(4, R2, R6, CTX_DATA)
        asm.operate(isa.SUB, R1, R2)
        asm.load(8, R2, R0, 8)
        asm.operate(isa.ADD, R2, R1)
        asm.store(8, R0, 8, R2)
        asm.place(done)

    def increment(self, register: Register, offset: int) -> None:
        """One more in the 8 bytes at `register` + `offset`."""
        asm = self.asm
        asm.load(8, R1, register, offset)
        asm.operate_value(isa.ADD, R1, 1)
        asm.store(8, register, offset, R1)

    def ask(self, program: int, no: Label) -> None:
        """Ask the program, once per packet: on to the next instruction if it matches, to `no` if not. R9 is lost."""
        asm = self.asm
        there = Label(f"counters of program {program}")
        matched, yes = Label(f"program {program} matched"), Label(f"program {program} says yes")
        slot = self.filters[program].slot
        remembers = program in self.remembers
        asm.note(f"ask program {program}")
        if remembers:
            fresh = Label(f"program {program} has not run")
            self.packet(R3)
            asm.load(8, R1, R3, self.layout.offsets["ran"])
            asm.set(R2, 1 << slot)
            asm.operate(isa.AND, R1, R2)
            asm.jump_if_value(isa.JEQ, R1, 0, fresh, wide=True)
            asm.load(8, R1, R3, self.layout.offsets["said"])
            asm.operate(isa.AND, R1, R2)
            asm.jump_if_value(isa.JNE, R1, 0, yes, wide=True)
            asm.jump(no)
            asm.place(fresh)
            self._or(R3, "ran", 1 << slot)
        asm.store_value(4, FRAME, SCRATCH, slot)
        self.lookup("programs", SCRATCH)
        asm.jump_if_value(isa.JNE, R0, 0, there, wide=True)
        asm.jump(no)
        asm.place(there)
        asm.copy(R9, R0)
        self.increment(R9, 0)
        asm.copy(R1, R6)
        asm.call(f"{program}")
        asm.jump_if_value(isa.JNE, R0, 0, matched)
        asm.jump(no)
        asm.place(matched)
        self.increment(R9, 8)
        if remembers:
            self.packet(R3)
            self._or(R3, "said", 1 << slot)
        asm.place(yes)

    def emit_drop(self) -> None:
        """Where packets go that no rule dropped: R7 is the reason."""
        asm = self.asm
        asm.note("count the drop")
        asm.place(self.dropping)
        self.count("drops")
        if self.ingress.replay:
            asm.map_value(R1, "replay")
            asm.operate_value(isa.ADD, R7, 1)
            asm.store(4, R1, REPLAY_DROP, R7)
        self.leave()

    def mask(self, mask: bytes) -> None:
        """R1 &= mask, where R1 is the bytes just loaded, as many as `mask` has."""
        number = int.from_bytes(mask, "little")
        if number == (1 << len(mask) * 8) - 1:
            return
        if number < 1 << 31:
            self.asm.operate_value(isa.AND, R1, number)
        else:
            self.asm.set(R2, number)
            self.asm.operate(isa.AND, R1, R2)

    def _or(self, packet: Register, member: str, bits: int) -> None:
        """Set bits of a member of the packet. R1 and R2 are lost."""
        asm = self.asm
        asm.load(8, R1, packet, self.layout.offsets[member])
        asm.set(R2, bits)
        asm.operate(isa.OR, R1, R2)
        asm.store(8, packet, self.layout.offsets[member], R1)


def narrowest(mask: bytes) -> tuple[int, int]:
    """Offset and width of the narrowest aligned load that covers every set bit of a word's mask."""
    for width in (1, 2, 4):
        for start in range(0, WORD, width):
            if not any(mask[:start]) and not any(mask[start + width :]):
                return start, width
    return 0, WORD
