"""What is accepted here the kernel accepts too: by itself and in an image, of root and of a loader with few rights.

The long run is ``python -m perf verifier-fuzz --kernel``; docs/verifier.md lists the disagreements.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from oko.errors import Rejected
from tests.oko.compiler.objects import runtime
from tests.verifier.assembly import EXIT, ZERO, assemble, call, program
from tests.verifier.generator import MAPS, subject
from tests.verifier.kernel import Kernel, Verdict, Way, with_few_rights
from tests.verifier.snippets import EITHER, PACKET, complete, run
from verifier import isa
from verifier.check import check_structure
from verifier.findings import Found
from verifier.isa import Instruction
from verifier.program import Program
from verifier.tracking import track

pytestmark = pytest.mark.needs_bpf

PROGRAMS = 1000
CONTEXT, DATA, END = 6, 7, 8
JGT, JLT = (isa.JMP | operation | isa.X for operation in (isa.JGT, isa.JLT))


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with Kernel() as made:
        yield made


@pytest.fixture(scope="module")
def accepted() -> dict[int, Program]:
    found = {}
    for seed in range(PROGRAMS):
        made = subject(seed)
        if made.maps == MAPS and is_accepted(made):
            found[seed] = made
    assert len(found) > PROGRAMS // 3
    return found


def is_accepted(made: Program) -> bool:
    try:
        check_structure(made)
        track(made)
    except (Rejected, Found):
        return False
    return True


@pytest.mark.parametrize("few_rights", [False, True], ids=["root", "few-rights"])
@pytest.mark.parametrize("way", Way, ids=lambda way: way.name.lower())
def test_the_kernel_accepts(way: Way, few_rights: bool, kernel: Kernel, accepted: dict[int, Program]) -> None:
    switch = runtime()

    def load() -> dict[int, Verdict]:
        return {seed: kernel.verdict(made, way, switch) for seed, made in accepted.items()}

    verdicts = with_few_rights(load) if few_rights else load()
    assert len(verdicts) == len(accepted)
    assert [item for item in verdicts.items() if item[1].disagrees(few_rights=few_rights)] == []


def alu(operation: int, dst: int, *, src: int | None = None, imm: int = 0, offset: int = 0) -> Instruction:
    if src is None:
        return Instruction(isa.ALU64 | operation, dst, imm=imm, offset=offset)
    return Instruction(isa.ALU64 | operation | isa.X, dst, src, offset)


def alu32(operation: int, dst: int, *, src: int | None = None, imm: int = 0, offset: int = 0) -> Instruction:
    wide = alu(operation, dst, src=src, imm=imm, offset=offset)
    return Instruction(wide.opcode ^ isa.ALU64 ^ isa.ALU, wide.dst, wide.src, wide.offset, wide.imm)


def load_ends(data: int = DATA, end: int = END) -> list[Instruction]:
    return [
        Instruction(isa.LDX | isa.MEM | isa.W, data, CONTEXT, 0),
        Instruction(isa.LDX | isa.MEM | isa.W, end, CONTEXT, 4),
    ]


PARSE = [alu(isa.MOV, CONTEXT, src=1), *load_ends()]
READ_BEHIND_R0 = [
    # R7 + R0 is checked, and read, if R0 is at most 255.
    Instruction(isa.JMP | isa.JGT, 0, offset=6, imm=255),
    Instruction(isa.JMP | isa.JSLT, 0, offset=5, imm=0),
    alu(isa.ADD, DATA, src=0),
    alu(isa.MOV, 1, src=DATA),
    alu(isa.ADD, 1, imm=4),
    Instruction(JGT, 1, END, 1),
    Instruction(isa.LDX | isa.MEM | isa.W, 0, DATA),
    ZERO,
    EXIT,
]
ADD_R0 = [alu(isa.ADD, DATA, src=0), ZERO, EXIT]

# What this kernel refuses and tracking once accepted, minimised: the kernel rule in the comment. 6.18.
REFUSED = {
    # find_good_pkt_pointers: a check is noted at the pointers that are there, not at those loaded later.
    "data-loaded-again-behind-the-check": [
        *PARSE,
        alu(isa.MOV, 1, src=DATA),
        alu(isa.ADD, 1, imm=20),
        Instruction(JGT, 1, END, 2),
        Instruction(isa.LDX | isa.MEM | isa.W, DATA, CONTEXT, 0),
        Instruction(isa.LDX | isa.MEM | isa.W, 0, DATA, 16),
        ZERO,
        EXIT,
    ],
    # is_safe_to_compute_dst_reg_range: of a remainder nothing is known, not even that its high half is zero.
    "half-of-a-remainder": [
        *PARSE,
        call(7),
        alu32(isa.MOD, 0, src=0),
        Instruction(isa.JMP32 | isa.JGT, 0, offset=1, imm=4),
        alu(isa.ADD, DATA, src=0),
        ZERO,
        EXIT,
    ],
    # The same: a shift by a number that is not constant.
    "shift-by-a-variable": [
        *PARSE,
        call(7),
        alu32(isa.RSH, 0, src=0),
        Instruction(isa.JMP32 | isa.JGT, 0, offset=1, imm=4),
        alu(isa.ADD, DATA, src=0),
        ZERO,
        EXIT,
    ],
    # is_scalar_branch_taken: JSET is decided only by a constant.
    "set-bits-tested-with-a-variable": [
        *PARSE,
        call(7),
        alu(isa.OR, 0, imm=127),
        Instruction(isa.JMP | isa.JSET | isa.X, 0, 0, 1),
        Instruction(isa.LDX | isa.MEM | isa.W, 0, DATA, 0),
        ZERO,
        EXIT,
    ],
    # check_stack_slot_within_bounds: not even nothing may be read at the top of the stack.
    "nothing-at-the-top-of-the-stack": [
        *(alu(isa.MOV, register, imm=0) for register in (1, 2, 4, 5)),
        alu(isa.MOV, 3, src=10),
        call(28),
        EXIT,
    ],
    # coerce_reg_to_size_sx: a number whose high half varies may have either sign when its low half is extended, even if
    # that is known; scalar_min_max_and: a result of either sign has no signed bounds.
    "mask-of-an-extended-half": [
        *PARSE,
        call(7),
        Instruction(isa.JMP32 | isa.JNE, 0, offset=3, imm=127),
        alu(isa.MOV, 0, src=0, offset=32),
        alu(isa.AND, 0, imm=-4),
        *ADD_R0,
    ],
}


@pytest.mark.parametrize("instructions", REFUSED.values(), ids=list(REFUSED))
def test_no_more_is_accepted_than_by_the_kernel(instructions: list[Instruction], kernel: Kernel) -> None:
    made = program(instructions)
    check_structure(made)
    assert kernel.verdict(made, Way.DIRECT).code == "kernel-verifier"
    with pytest.raises(Found):
        track(made)


LOADED = {
    "check-of-data-loaded-again": [
        *PARSE,
        *load_ends(2, 3),
        alu(isa.MOV, 1, src=2),
        alu(isa.ADD, 1, imm=20),
        Instruction(JLT, 3, 1, 1),
        Instruction(isa.LDX | isa.MEM | isa.W, 0, DATA, 16),
        ZERO,
        EXIT,
    ],
    "variable-place": [*PARSE, Instruction(isa.LDX | isa.MEM | isa.W, 0, CONTEXT, 16), *READ_BEHIND_R0],
}


@pytest.mark.parametrize("instructions", LOADED.values(), ids=list(LOADED))
def test_as_much_is_accepted_as_by_the_kernel(instructions: list[Instruction], kernel: Kernel) -> None:
    made = program(instructions)
    check_structure(made)
    assert kernel.verdict(made, Way.DIRECT) == Verdict()
    track(made)


# What compilers make of correct programs, and root may load.
COMPILED = {
    "one-call-for-two-maps": f"{EITHER} if r0 == 0 goto out; r0 = u64[r0+8]",
    "spill-slot-shared-with-half-a-register": f"{PACKET} u64[r10-16] = r6; r9 = 3; u32[r10-16] = r9;r0 = u32[r10-16]",
}


@pytest.mark.parametrize("text", COMPILED.values(), ids=list(COMPILED))
def test_what_compilers_make_is_accepted(text: str) -> None:
    made, _ = assemble(complete(text))
    run(text)
    named = {reference.name for reference in made.references}
    with Kernel([spec for spec in made.maps if spec.name in named], None) as own:
        assert own.verdict(made, Way.DIRECT) == Verdict()


# What needs CAP_PERFMON, and filter programs may do all the same: docs/verifier.md.
DOCUMENTED = {
    "length-of-the-packet": [*PARSE, alu(isa.SUB, END, src=DATA), ZERO, EXIT],
    "variable-place": LOADED["variable-place"],
    "comparison-with-null": [
        alu(isa.MOV, CONTEXT, src=1),
        *load_ends(),
        Instruction(isa.JMP | isa.JEQ, DATA, offset=0),
        ZERO,
        EXIT,
    ],
}


@pytest.mark.parametrize("instructions", DOCUMENTED.values(), ids=list(DOCUMENTED))
def test_documented_disagreement(instructions: list[Instruction], kernel: Kernel) -> None:
    made = program(instructions)
    check_structure(made)
    track(made)
    assert kernel.verdict(made, Way.DIRECT) == Verdict()
    verdict = with_few_rights(lambda: kernel.verdict(made, Way.DIRECT))
    assert verdict.code == "kernel-verifier"
    assert not verdict.disagrees(few_rights=True)
    assert verdict.disagrees(few_rights=False)
