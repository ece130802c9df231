"""The port stubs: they jump to what is in the slot, else they count, and drop the packet or pass it."""

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

XDP_DROP, XDP_PASS, XDP_TX = 1, 2, 3
OTHERWISE = {"stub": XDP_DROP, "stub_open": XDP_PASS}
FRAME = bytes(60)
ONLY = bytes(4)


@pytest.fixture(params=OTHERWISE)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def stub(name: str, tmp_path: Path) -> Iterator[Harness]:
    build(tmp_path)
    with Harness(tmp_path / "runtime" / f"{name}.o") as harness:
        yield harness


def fallthrough(stub: Harness) -> int:
    values = stub.maps["fallthrough"].lookup_percpu(ONLY)
    assert values is not None
    return sum(int.from_bytes(value, "little") for value in values)


def pipeline() -> LoadedProgram:
    """A pipeline that sends every packet back."""
    code = (Instruction(isa.ALU64 | isa.MOV | isa.K, dst=0, imm=XDP_TX), Instruction(isa.OPCODE_EXIT))
    return load_program("back", isa.encode(code), "GPL", references={})


def test_what_finds_an_empty_slot_is_counted(name: str, stub: Harness) -> None:
    assert stub.run(FRAME, repeat=3).retval == OTHERWISE[name]
    assert fallthrough(stub) == 3


def test_a_filled_slot_decides_and_nothing_is_counted(stub: Harness) -> None:
    with pipeline() as program:
        stub.maps["slot"].update(ONLY, struct.pack("=I", program.fd))
        assert stub.run(FRAME).retval == XDP_TX
    assert fallthrough(stub) == 0


def test_an_emptied_slot_is_one(name: str, stub: Harness) -> None:
    with pipeline() as program:
        stub.maps["slot"].update(ONLY, struct.pack("=I", program.fd))
    stub.maps["slot"].delete(ONLY)
    assert stub.run(FRAME).retval == OTHERWISE[name]
    assert fallthrough(stub) == 1
