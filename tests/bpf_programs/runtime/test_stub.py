"""The port stub: it jumps to what is in the slot, else it drops and counts."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from oko.kernel.program import LoadedProgram, load_program
from tests.bpf_programs.harness import Harness, build
from verifier import isa
from verifier.isa import Instruction

pytestmark = pytest.mark.needs_bpf

XDP_DROP, XDP_PASS = 1, 2
FRAME = bytes(60)
ONLY = bytes(4)


@pytest.fixture
def stub(tmp_path: Path) -> Iterator[Harness]:
    build(tmp_path)
    with Harness(tmp_path / "runtime" / "stub.o") as harness:
        yield harness


def fallthrough(stub: Harness) -> int:
    values = stub.maps["fallthrough"].lookup_percpu(ONLY)
    assert values is not None
    return sum(int.from_bytes(value, "little") for value in values)


def pass_program() -> LoadedProgram:
    """A pipeline that passes every packet."""
    code = (Instruction(isa.ALU64 | isa.MOV | isa.K, dst=0, imm=XDP_PASS), Instruction(isa.OPCODE_EXIT))
    return load_program("pass", isa.encode(code), "GPL", references={})


def test_an_empty_slot_drops_and_counts(stub: Harness) -> None:
    assert stub.run(FRAME, repeat=3).retval == XDP_DROP
    assert fallthrough(stub) == 3


def test_a_filled_slot_decides_and_nothing_is_counted(stub: Harness) -> None:
    with pass_program() as program:
        stub.maps["slot"].update(ONLY, struct.pack("=I", program.fd))
        assert stub.run(FRAME).retval == XDP_PASS
    assert fallthrough(stub) == 0


def test_an_emptied_slot_drops_again(stub: Harness) -> None:
    with pass_program() as program:
        stub.maps["slot"].update(ONLY, struct.pack("=I", program.fd))
    stub.maps["slot"].delete(ONLY)
    assert stub.run(FRAME).retval == XDP_DROP
    assert fallthrough(stub) == 1
