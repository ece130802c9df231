from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.verifier.conftest import Compile
from verifier import isa
from verifier.elf import load
from verifier.isa import Instruction
from verifier.text import listing, text, text_at

V4 = {
    "movsx8": (Instruction(isa.ALU64 | isa.MOV | isa.X, 1, 2, 8), "r1 = (s8)r2"),
    "movsx16-32": (Instruction(isa.ALU | isa.MOV | isa.X, 1, 2, 16), "w1 = (s16)w2"),
    "ldsx": (Instruction(isa.LDX | isa.MEMSX | isa.H, 1, 2, -6), "r1 = *(s16 *)(r2 - 6)"),
    "bswap": (Instruction(isa.ALU64 | isa.END, 1, imm=32), "r1 = bswap32 r1"),
    "sdiv": (Instruction(isa.ALU64 | isa.DIV | isa.X, 1, 2, 1), "r1 s/= r2"),
    "smod": (Instruction(isa.ALU | isa.MOD, 1, offset=1, imm=-3), "w1 s%= -3"),
    "gotol": (Instruction(isa.GOTO_LONG, imm=70000), "gotol +70000"),
    "store-immediate": (Instruction(isa.ST | isa.MEM | isa.B, 1, offset=3, imm=-1), "*(u8 *)(r1 + 3) = -1"),
}
OTHERS = {
    "helper": (Instruction(isa.OPCODE_CALL, imm=51), "call bpf_redirect_map#51"),
    "helper-unknown": (Instruction(isa.OPCODE_CALL, imm=9999), "call helper#9999"),
    "local": (Instruction(isa.OPCODE_CALL, src=1, imm=-7), "call -7"),
    "le": (Instruction(isa.ALU | isa.END, 4, imm=64), "r4 = le64 r4"),
    "neg": (Instruction(isa.ALU64 | isa.NEG, 3), "r3 = -r3"),
    "jset32": (Instruction(isa.JMP32 | isa.JSET, 3, offset=-1, imm=4), "if w3 & 4 goto -1"),
    "add": (Instruction(isa.STX | isa.ATOMIC | isa.W, 1, 2, 4, isa.ADD), "lock *(u32 *)(r1 + 4) += w2"),
    "fetch-or": (
        Instruction(isa.STX | isa.ATOMIC | isa.DW, 1, 2, 0, isa.OR | isa.FETCH),
        "r2 = atomic_fetch_or((u64 *)(r1 + 0), r2)",
    ),
    "xchg": (Instruction(isa.STX | isa.ATOMIC | isa.W, 1, 2, 0, isa.XCHG), "w2 = xchg32_32(r1 + 0, w2)"),
    "cmpxchg": (Instruction(isa.STX | isa.ATOMIC | isa.DW, 1, 2, 0, isa.CMPXCHG), "r0 = cmpxchg_64(r1 + 0, r0, r2)"),
    "atomic-unknown": (Instruction(isa.STX | isa.ATOMIC | isa.DW, 1, 2, 0, 0x77), "<unknown opcode 0xdb>"),
    "alu-unknown": (Instruction(0xE7), "<unknown opcode 0xe7>"),
    "jump-unknown": (Instruction(0xF5), "<unknown opcode 0xf5>"),
    "kernel-function": (Instruction(isa.OPCODE_CALL, src=2, imm=5), "<unknown opcode 0x85>"),
    "packet-load": (Instruction(isa.LD | isa.ABS | isa.W), "<unknown opcode 0x20>"),
}


@pytest.mark.parametrize(("instruction", "expected"), (V4 | OTHERS).values(), ids=list(V4 | OTHERS))
def test_text(instruction: Instruction, expected: str) -> None:
    assert text(instruction) == expected


def test_wide_load() -> None:
    assert text(Instruction(isa.LDDW, 2, imm=-1), Instruction(0, imm=0x12345678)) == "r2 = 0x12345678ffffffff ll"


def test_every_opcode_has_a_text() -> None:
    for opcode in range(256):
        assert text(Instruction(opcode, 1, 2, 8, 16))


def _objdump(data: bytes, directory: Path) -> dict[int, str]:
    """What LLVM says of section `filter`, by instruction, in the spelling of verifier/text.py."""
    file = directory / "object.o"
    file.write_bytes(data)
    command = ["llvm-objdump", "-d", "--no-show-raw-insn", "--section=filter", file]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = {}
    for line in output.splitlines():
        match = re.fullmatch(r"\s*(\d+):\s+(.*)", line)
        if match:
            found[int(match[1])] = re.sub(r" <.*?>$", "", match[2])
    return found


def _normal(line: str) -> str:
    return re.sub(r"= (\S+) ll$", lambda match: f"= {int(match[1], 0) % (1 << 64)} ll", line)


@pytest.mark.parametrize("cpu", ["v1", "v2", "v3"])
def test_agrees_with_llvm(compiled: Compile, tmp_path: Path, cpu: str) -> None:
    data = compiled("accepted/instructions", f"-mcpu={cpu}", *(["-DNO_ATOMICS"] if cpu != "v3" else []))
    program = load(data)
    theirs = _objdump(data, tmp_path)
    assert len(theirs) > 50
    for index, line in theirs.items():
        if line != "<unknown>":
            assert _normal(text_at(program, index)) == _normal(line)


def test_names_of_maps_and_functions(compiled: Compile) -> None:
    lines = [line.split(": ", 1)[-1] for line in listing(load(compiled("accepted/connections")))]
    assert any(re.fullmatch(r"r\d = value of \.rodata ll", line) for line in lines)
    for expected in (
        "r1 = map connections ll",
        "call bpf_map_lookup_elem#1",
        "call report",
        "call oko_in_port",
        "report:",
    ):
        assert expected in lines
    assert any(line.endswith("known->packets++;") for line in lines)
