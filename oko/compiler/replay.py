"""What a replay image has in place of the world: a clock and random numbers that repeat, and a single processor.

The array `replay` holds one `struct replay`: who replays sets the time and the port, the image answers with its
decision. Calls of the helpers that ask the world become calls of the functions here.
"""

from __future__ import annotations

from typing import Final

from oko.compiler.assembler import Assembler, Register
from verifier import isa
from verifier.program import MapSpec, MapType

# `struct replay`: u64 now, u64 random, u32 in_port, then the decision: u32 one more than the slot of the last rule that
# won, u32 the port set, u32 one more than the Drop.
REPLAY_NOW: Final = 0
REPLAY_RANDOM: Final = 8
REPLAY_IN_PORT: Final = 16
REPLAY_RULE: Final = 20
REPLAY_OUTPUT: Final = 24
REPLAY_DROP: Final = 28
REPLAY_SIZE: Final = 32

BPF_F_MMAPABLE: Final = 1 << 10

REPLAY: Final = MapSpec("replay", MapType.ARRAY, 4, REPLAY_SIZE, 1, BPF_F_MMAPABLE)

SUBSTITUTES: Final = {
    5: "oko_replay_now",  # bpf_ktime_get_ns
    7: "oko_replay_random",  # bpf_get_prandom_u32
    8: "oko_replay_processor",  # bpf_get_smp_processor_id
    125: "oko_replay_now",  # bpf_ktime_get_boot_ns
    160: "oko_replay_now",  # bpf_ktime_get_coarse_ns
}
"""Helper number → the function that stands in for it in a replay image."""

_MASK64: Final = (1 << 64) - 1


def emit_now() -> Assembler:
    """The time that the capture gives the packet, ns."""
    asm = Assembler()
    asm.map_value(Register.R1, "replay", REPLAY_NOW)
    asm.load(8, Register.R0, Register.R1, 0)
    asm.exit()
    return asm


def emit_random() -> Assembler:
    """The upper half of the next xorshift64 number (Marsaglia 2003: shifts 13, 7, 17)."""
    asm = Assembler()
    asm.map_value(Register.R1, "replay", REPLAY_RANDOM)
    asm.load(8, Register.R0, Register.R1, 0)
    for operation, shift in ((isa.LSH, 13), (isa.RSH, 7), (isa.LSH, 17)):
        asm.copy(Register.R2, Register.R0)
        asm.operate_value(operation, Register.R2, shift)
        asm.operate(isa.XOR, Register.R0, Register.R2)
    asm.store(8, Register.R1, 0, Register.R0)
    asm.operate_value(isa.RSH, Register.R0, 32)
    asm.exit()
    return asm


def emit_processor() -> Assembler:
    """Processor 0, whichever runs the replay."""
    asm = Assembler()
    asm.set(Register.R0, 0)
    asm.exit()
    return asm


class Random:
    """The same numbers as `emit_random`, for the reference switch. `state` is 64 bits, not zero."""

    def __init__(self, state: int) -> None:
        self.state = state

    def __call__(self) -> int:
        state = self.state
        state ^= state << 13 & _MASK64
        state ^= state >> 7
        state ^= state << 17 & _MASK64
        self.state = state
        return state >> 32
