from __future__ import annotations

from collections.abc import Sequence

import pytest

from oko.errors import Rejected
from tests.verifier.assembly import EXIT, ZERO, branch, call, call_local, goto, lddw, program
from tests.verifier.conftest import Compile
from verifier import isa
from verifier.check import check_structure
from verifier.codes import STRUCTURE
from verifier.elf import load
from verifier.isa import Instruction
from verifier.program import Reference, ReferenceKind

ALU64 = isa.ALU64
ATOMIC = isa.STX | isa.ATOMIC | isa.DW

ACCEPTED = {
    "nothing": [ZERO],
    "wide-load": lddw(0, 1 << 40),
    "signed-division": [ZERO, Instruction(ALU64 | isa.DIV, 0, offset=1, imm=-1)],
    "sign-extending-move": [Instruction(ALU64 | isa.MOV | isa.X, 0, 1, 32)],
    "sign-extending-load": [Instruction(isa.LDX | isa.MEMSX | isa.B, 0, 1)],
    "unconditional-swap": [ZERO, Instruction(ALU64 | isa.END, 0, imm=16)],
    "long-jump": [ZERO, Instruction(isa.GOTO_LONG)],
    "jump-back-without-cycle": [ZERO, goto(1), goto(1), goto(-2)],
    "compare-and-exchange": [ZERO, Instruction(ATOMIC, 10, 0, -8, isa.CMPXCHG)],
    "largest-shift": [ZERO, Instruction(ALU64 | isa.LSH, 0, imm=63)],
    "helper": [call(5)],
}

REJECTED: dict[str, tuple[str, int, Sequence[Instruction]]] = {
    "opcode-alu": ("unknown-opcode", 0, [Instruction(0xE7)]),
    "opcode-jump": ("unknown-opcode", 0, [Instruction(0xE5)]),
    "opcode-call-of-jmp32": ("unknown-opcode", 0, [Instruction(isa.JMP32 | isa.CALL)]),
    "opcode-exit-with-x": ("unknown-opcode", 0, [Instruction(isa.OPCODE_EXIT | isa.X)]),
    "opcode-packet-load": ("unknown-opcode", 0, [Instruction(isa.LD | isa.ABS | isa.W)]),
    "opcode-load-sign-64": ("unknown-opcode", 0, [Instruction(isa.LDX | isa.MEMSX | isa.DW)]),
    "opcode-store-immediate-atomic": ("unknown-opcode", 0, [Instruction(isa.ST | isa.ATOMIC | isa.W)]),
    "opcode-store-mode": ("unknown-opcode", 0, [Instruction(isa.STX | isa.IND | isa.W)]),
    "opcode-byte-atomic": ("unknown-opcode", 0, [Instruction(isa.STX | isa.ATOMIC | isa.B)]),
    "opcode-atomic-operation": ("unknown-opcode", 0, [Instruction(ATOMIC, 10, 1, -8, isa.SUB)]),
    "opcode-load-acquire": ("unknown-opcode", 0, [Instruction(ATOMIC, 1, 10, -8, 0x100)]),
    "opcode-neg-with-x": ("unknown-opcode", 0, [Instruction(ALU64 | isa.NEG | isa.X)]),
    "opcode-swap-with-x": ("unknown-opcode", 0, [Instruction(ALU64 | isa.END | isa.X, imm=16)]),
    "reserved-mov-src": ("reserved-field", 0, [Instruction(ALU64 | isa.MOV, 0, 1)]),
    "reserved-mov-imm": ("reserved-field", 0, [Instruction(ALU64 | isa.MOV | isa.X, 0, 1, imm=1)]),
    "reserved-mov-offset": ("reserved-field", 0, [Instruction(ALU64 | isa.MOV | isa.X, 0, 1, offset=4)]),
    "reserved-mov32-offset": ("reserved-field", 0, [Instruction(isa.ALU | isa.MOV | isa.X, 0, 1, offset=32)]),
    "reserved-add-offset": ("reserved-field", 0, [Instruction(ALU64 | isa.ADD, offset=1)]),
    "reserved-neg": ("reserved-field", 0, [Instruction(ALU64 | isa.NEG, imm=1)]),
    "reserved-swap": ("reserved-field", 0, [Instruction(isa.ALU | isa.END, src=1, imm=16)]),
    "reserved-exit": ("reserved-field", 0, [Instruction(isa.OPCODE_EXIT, imm=1)]),
    "reserved-goto": ("reserved-field", 0, [Instruction(isa.GOTO, imm=1)]),
    "reserved-gotol": ("reserved-field", 0, [Instruction(isa.GOTO_LONG, offset=1)]),
    "reserved-branch-src": ("reserved-field", 0, [Instruction(isa.JMP | isa.JEQ, 1, 1)]),
    "reserved-branch-imm": ("reserved-field", 0, [Instruction(isa.JMP | isa.JEQ | isa.X, 1, 1, imm=1)]),
    "reserved-load": ("reserved-field", 0, [Instruction(isa.LDX | isa.MEM | isa.W, 0, 1, imm=1)]),
    "reserved-store": ("reserved-field", 0, [Instruction(isa.STX | isa.MEM | isa.W, 10, 1, -4, imm=1)]),
    "reserved-store-immediate": ("reserved-field", 0, [Instruction(isa.ST | isa.MEM | isa.W, 10, 1, -4)]),
    "reserved-wide-load": ("reserved-field", 0, [Instruction(isa.LDDW, offset=1), Instruction(0)]),
    "reserved-call": ("reserved-field", 0, [Instruction(isa.OPCODE_CALL, offset=1, imm=5)]),
    "register-dst": ("bad-register", 0, [Instruction(ALU64 | isa.MOV, 11)]),
    "register-src": ("bad-register", 0, [Instruction(ALU64 | isa.MOV | isa.X, 0, 15)]),
    "frame-pointer-alu": ("frame-pointer-write", 1, [ZERO, Instruction(ALU64 | isa.ADD, 10, imm=8)]),
    "frame-pointer-load": ("frame-pointer-write", 0, [Instruction(isa.LDX | isa.MEM | isa.W, 10, 1)]),
    "frame-pointer-wide-load": ("frame-pointer-write", 0, lddw(10)),
    "frame-pointer-fetch": ("frame-pointer-write", 0, [Instruction(ATOMIC, 10, 10, -8, isa.XCHG)]),
    "shift-64": ("bad-immediate", 0, [Instruction(ALU64 | isa.LSH, imm=64)]),
    "shift-32": ("bad-immediate", 0, [Instruction(isa.ALU | isa.ARSH, imm=32)]),
    "shift-negative": ("bad-immediate", 0, [Instruction(ALU64 | isa.RSH, imm=-1)]),
    "division-by-zero": ("bad-immediate", 0, [Instruction(ALU64 | isa.DIV)]),
    "modulo-by-zero": ("bad-immediate", 0, [Instruction(isa.ALU | isa.MOD, offset=1)]),
    "swap-width": ("bad-immediate", 0, [Instruction(isa.ALU | isa.END, imm=8)]),
    "wide-load-cut": ("bad-wide-load", 1, [ZERO, Instruction(isa.LDDW)]),
    "wide-load-no-pair": ("bad-wide-load", 0, [Instruction(isa.LDDW), ZERO]),
    "wide-load-by-number": ("bad-wide-load", 0, [Instruction(isa.LDDW, src=isa.PSEUDO_MAP_FD, imm=3), Instruction(0)]),
    "wide-load-jumped-into": ("bad-wide-load", 0, [branch(1), *lddw(0)]),
    "jump-beyond": ("bad-jump", 0, [branch(2)]),
    "jump-before": ("bad-jump", 1, [ZERO, branch(-3)]),
    "jump-long": ("bad-jump", 0, [Instruction(isa.GOTO_LONG, imm=1 << 30)]),
    "call-nowhere": ("bad-call", 0, [call_local(0)]),
    "call-kernel-function": ("bad-call", 0, [Instruction(isa.OPCODE_CALL, src=2, imm=1)]),
    "unreachable": ("unreachable", 1, [goto(1), ZERO]),
    "cycle": ("cycle", 1, [ZERO, branch(-2)]),
    "recursion": ("recursion", 0, [call_local(-1)]),
    "helper-redirect-map": ("forbidden-helper", 0, [call(51)]),
    "helper-tail-call": ("forbidden-helper", 0, [call(12)]),
    "helper-unknown": ("forbidden-helper", 0, [call(-1)]),
}


@pytest.mark.parametrize("instructions", ACCEPTED.values(), ids=list(ACCEPTED))
def test_accepted(instructions: Sequence[Instruction]) -> None:
    check_structure(program([*instructions, EXIT]))


@pytest.mark.parametrize(("code", "index", "instructions"), REJECTED.values(), ids=list(REJECTED))
def test_rejected(code: str, index: int, instructions: Sequence[Instruction]) -> None:
    with pytest.raises(Rejected, match=f"^instruction {index} ") as rejection:
        check_structure(program([*instructions, EXIT]))
    assert rejection.value.code == code


@pytest.mark.parametrize("last", [ZERO, branch(-1), call(5)], ids=["move", "branch", "call"])
def test_falls_off_the_end(last: Instruction) -> None:
    with pytest.raises(Rejected, match="control goes on behind it") as rejection:
        check_structure(program([ZERO, last]))
    assert rejection.value.code == "falls-off-end"


def test_jump_into_another_function() -> None:
    with pytest.raises(Rejected, match="jumps to instruction 3, out of function f0") as rejection:
        check_structure(program([call_local(2), branch(1), EXIT, ZERO, EXIT], starts=[0, 3]))
    assert rejection.value.code == "bad-jump"


def test_call_into_the_middle_of_a_function() -> None:
    with pytest.raises(Rejected, match="where no function begins") as rejection:
        check_structure(program([call_local(2), EXIT, ZERO, ZERO, EXIT], starts=[0, 2]))
    assert rejection.value.code == "bad-call"


def test_unknown_function_of_the_switch() -> None:
    reference = Reference(0, ReferenceKind.RUNTIME, "oko_nothing")
    with pytest.raises(Rejected, match="calls oko_nothing, which the switch does not provide") as rejection:
        check_structure(program([call_local(-1), EXIT], references=[reference]))
    assert rejection.value.code == "bad-call"


def test_every_code_has_a_case() -> None:
    assert STRUCTURE.keys() == {code for code, _, _ in REJECTED.values()} | {"falls-off-end"}


@pytest.mark.parametrize(
    ("clang", "cpu", "name"),
    [
        (clang, cpu, name)
        for clang, cpus in {"clang": "v1 v2 v3", "clang-16": "v1 v2 v3", "clang-19": "v1 v2 v3 v4"}.items()
        for cpu in cpus.split()
        for name in ("connections", "helpers", "sections", "subprograms")
        if name != "helpers" or cpu in ("v3", "v4")  # which brought compare-and-exchange
    ],
)
def test_compiled_programs_are_accepted(compiled: Compile, name: str, cpu: str, clang: str) -> None:
    check_structure(load(compiled(f"accepted/{name}", f"-mcpu={cpu}", clang=clang)))


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("cycle", "cycle", r"rejected/cycle\.c:\d+: .* goes back to instruction"),
        ("recursion", "recursion", r"rejected/recursion\.c:\d+: .*even → odd → even"),
        (
            "forbidden_helper",
            "forbidden-helper",
            r"rejected/forbidden_helper\.c:\d+: .* calls bpf_xdp_adjust_head, a helper",
        ),
    ],
)
def test_compiled_programs_are_rejected_at_their_line(compiled: Compile, name: str, code: str, message: str) -> None:
    with pytest.raises(Rejected, match=message) as rejection:
        check_structure(load(compiled(f"rejected/{name}")))
    assert rejection.value.code == code
