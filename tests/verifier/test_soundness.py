"""Accepted programs do nothing bad, and never what tracking has ruled out; what fuzzing found is kept by name.

The long run is ``python -m perf verifier-fuzz``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest

from oko.errors import Rejected
from tests.oko.compiler.objects import FILTERS, filter_program
from tests.verifier.assembly import EXIT, ZERO, call, program
from tests.verifier.generator import subject
from tests.verifier.witness import Unsound, Witness, witness
from verifier import isa
from verifier.check import check_structure
from verifier.codes import CODES
from verifier.findings import Found
from verifier.isa import Instruction
from verifier.program import Program
from verifier.rejection import Rejection
from verifier.scalar import Scalar
from verifier.tracking import track
from verifier.values import Number

BLOCK = 500
RANDOM = call(7)
COPY = Instruction(isa.ALU64 | isa.MOV | isa.X, 2, 0)


@pytest.fixture(scope="module")
def originals() -> list[Program]:
    return [filter_program(path.stem) for path in sorted(FILTERS.glob("*.c"))]


def well_formed(seeds: range, originals: list[Program]) -> Iterator[tuple[int, Program]]:
    for seed in seeds:
        made = subject(seed, originals)
        try:
            check_structure(made)
        except Rejected:
            continue
        yield seed, made


@pytest.mark.parametrize("first", range(0, 3000, BLOCK))
def test_accepted_programs_stay_within_their_states(first: int, originals: list[Program]) -> None:
    accepted = 0
    for seed, made in well_formed(range(first, first + BLOCK), originals):
        try:
            witness(made, Random(seed))
        except Found as found:
            rejection = Rejection.of(made, found)
            assert rejection.code in CODES, f"seed {seed}"
            assert rejection.message, f"seed {seed}"
            continue
        except Exception as error:
            error.add_note(f"seed {seed}")
            raise
        accepted += 1
    assert accepted > BLOCK // 3


def test_generated_programs_are_well_formed() -> None:
    for seed in range(300):
        made = subject(seed)
        again = subject(seed)
        assert made == again
    assert len(list(well_formed(range(300), []))) > 280


def test_the_witness_sees_a_wrong_claim() -> None:
    """A state that says something false of R2 is noticed."""
    made = program([RANDOM, COPY, EXIT])
    states = track(made, keep_states=True).states
    for state in states[2]:
        state.registers[2] = Number(Scalar.between(0, 1 << 40))
    Witness(made, states).run(bytes(14), in_port=1, now=0, random=lambda: 7)
    for state in states[2]:
        state.registers[2] = Number(Scalar.between(0, 6))
    with pytest.raises(Unsound, match=r"instruction 2 `exit`"):
        Witness(made, states).run(bytes(14), in_port=1, now=0, random=lambda: 7)


def test_the_witness_sees_a_wrong_tie() -> None:
    """Two registers that a state calls copies of one number must be equal."""
    made = program([RANDOM, COPY, Instruction(isa.ALU64 | isa.ADD, 2, imm=1), EXIT])
    states = track(made, keep_states=True).states
    for state in states[3]:
        state.registers[0] = state.registers[2] = Number(Scalar.unknown(), 99)
    with pytest.raises(Unsound, match=r"instruction 3 `exit`"):
        Witness(made, states).run(bytes(14), in_port=1, now=0, random=lambda: 7)


FOUND = {
    # A state in which R0 and R2 were copies covered one in which R2 had been changed: the tie was not looked at when
    # R0 held the very same value, and an untied number passed for one that is tied to nothing else.
    "changed-copy-covered-by-tied-one": [
        RANDOM,
        COPY,
        Instruction(isa.JMP | isa.JNE | isa.X, 2, 2, 1),
        Instruction(isa.ALU64 | isa.AND, 2, imm=34),
        Instruction(isa.ALU64 | isa.MOV | isa.X, 2, 2),
        EXIT,
    ],
    "changed-copy-of-a-branch-on-halves": [
        RANDOM,
        COPY,
        Instruction(isa.JMP32 | isa.JNE | isa.X, 2, 0, 1),
        Instruction(isa.ALU | isa.LSH | isa.X, 2, 0),
        Instruction(isa.JMP | isa.JGT, 2, 0, 1, 34),
        ZERO,
        Instruction(isa.ALU64 | isa.ADD | isa.X, 0, 2),
        EXIT,
    ],
}


@pytest.mark.parametrize("instructions", FOUND.values(), ids=list(FOUND))
def test_found_by_fuzzing(instructions: list[Instruction]) -> None:
    made = replace(program(instructions), license="GPL")
    for seed in range(20):
        witness(made, Random(seed))
