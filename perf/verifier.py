"""What the verifier costs: `python -m perf verifier`.

Times are CPU time of this process, so that others on the machine disturb less; memory is the peak of a process of its
own, interpreter included.
"""

from __future__ import annotations

import multiprocessing
import platform
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from oko.errors import OkoError, Rejected
from perf.machine import machine
from verifier import isa
from verifier.check import check
from verifier.elf import MAX_INSTRUCTIONS, load
from verifier.isa import Instruction
from verifier.program import Function, Program

_ROOT: Final = Path(__file__).parents[1]
_SOURCES: Final = ("tests/verifier/corpus/*.c", "bpf_programs/*.c", "demo/**/*.c")
_TYPICAL: Final = range(50, 501)
"""Instructions of the programs that the goal is about."""
_BRANCHES: Final = (8, 16, 32, 64, 128, 256, 512, 1362)
"""The last makes as many instructions as a program may have."""
_SIZES: Final = (256, 512, 1024, 2048, MAX_INSTRUCTIONS)
_CHECKED: Final = 64  # bytes of the packet that the made programs check


@dataclass(frozen=True, slots=True)
class Cost:
    """Median CPU time in ms of reading (for made programs, 0) and checking a program."""

    name: str
    instructions: int
    load: float
    check: float
    accepted: bool

    @property
    def total(self) -> float:
        return self.load + self.check


@dataclass(frozen=True, slots=True)
class VerifierCost:
    """`branches` and `sizes` are made programs that grow, `memory` is the peak in MiB, for the
    largest and for nothing."""

    machine: str
    programs: tuple[Cost, ...]
    branches: tuple[Cost, ...]
    sizes: tuple[Cost, ...]
    memory: tuple[float, float]

    def __str__(self) -> str:
        typical = [cost for cost in self.programs if cost.instructions in _TYPICAL]
        lines = [self.machine]
        for title, costs in (
            ("all programs", self.programs),
            (f"{_TYPICAL[0]}–{_TYPICAL[-1]} instructions", typical),
            ("fewer than 100", [cost for cost in typical if cost.instructions < 100]),
            ("100–199", [cost for cost in typical if 100 <= cost.instructions < 200]),
            ("200–500", [cost for cost in typical if cost.instructions >= 200]),
        ):
            lines.append(_summary(title, costs))
        lines.append("slowest: " + ", ".join(_told(cost) for cost in sorted(self.programs, key=_total)[:-4:-1]))
        lines.append("branches in a row: " + ", ".join(_told(cost) for cost in self.branches))
        lines.append("straight growth: " + ", ".join(_told(cost) for cost in self.sizes))
        largest, nothing = self.memory
        lines.append(f"peak memory: {largest:.0f} MiB with {MAX_INSTRUCTIONS} instructions, {nothing:.0f} without any")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure_verifier(repeats: int) -> VerifierCost:
    """Every program is read and checked `repeats` times. Raises OkoError when a program does not compile."""
    return VerifierCost(
        machine(),
        tuple(_cost(name, repeats, partial(load, data)) for name, data in _objects()),
        tuple(_made(f"{count}", branches(count), repeats) for count in _BRANCHES),
        tuple(_made(f"{size}", growing(size), repeats) for size in _SIZES),
        (_peak(MAX_INSTRUCTIONS), _peak(0)),
    )


def branches(count: int) -> Program:
    """So many branches in a row on bytes of the packet, each with an effect on the result."""
    code = _beginning()
    for number in range(count):
        code += [
            Instruction(isa.LDX | isa.MEM | isa.B, 1, 2, number % _CHECKED),
            Instruction(isa.JMP | isa.JNE, 1, offset=1, imm=number % 256),
            Instruction(isa.ALU64 | isa.ADD, 0, imm=1 << number % 16),
        ]
    return _program(code)


def growing(size: int) -> Program:
    """A program of so many instructions: reads of the packet, arithmetic, the stack, and a branch in every eight."""
    code = _beginning()
    for number in range((size - len(code) - 1) // 8):
        slot = -8 - 8 * (number % 16)
        code += [
            Instruction(isa.LDX | isa.MEM | isa.H, 1, 2, number * 2 % _CHECKED),
            Instruction(isa.ALU64 | isa.MOV | isa.X, 3, 1),
            Instruction(isa.ALU64 | isa.AND, 3, imm=0xFF),
            Instruction(isa.STX | isa.MEM | isa.DW, 10, 3, slot),
            Instruction(isa.JMP | isa.JGT, 1, offset=2, imm=number),
            Instruction(isa.ALU64 | isa.LSH, 3, imm=3),
            Instruction(isa.ALU64 | isa.XOR | isa.X, 0, 3),
            Instruction(isa.LDX | isa.MEM | isa.DW, 4, 10, slot),
        ]
    code += [Instruction(isa.ALU64 | isa.ADD, 0, imm=1)] * (size - len(code) - 1)
    return _program(code)


def _beginning() -> list[Instruction]:
    """R2 is the packet, of which _CHECKED bytes are there; R0 is 0."""
    return [
        Instruction(isa.ALU64 | isa.MOV, 0),
        Instruction(isa.LDX | isa.MEM | isa.W, 2, 1),
        Instruction(isa.LDX | isa.MEM | isa.W, 3, 1, 4),
        Instruction(isa.ALU64 | isa.MOV | isa.X, 4, 2),
        Instruction(isa.ALU64 | isa.ADD, 4, imm=_CHECKED),
        Instruction(isa.JMP | isa.JLE | isa.X, 4, 3, 1),
        Instruction(isa.OPCODE_EXIT),
    ]


def _program(code: list[Instruction]) -> Program:
    code = [*code, Instruction(isa.OPCODE_EXIT)]
    return Program("made", "GPL", tuple(code), (Function("made", 0, len(code)),), (), (), (), None, "")


def _made(name: str, program: Program, repeats: int) -> Cost:
    return _cost(name, repeats, lambda: program)


def _cost(name: str, repeats: int, read: Callable[[], Program]) -> Cost:
    loads, checks = [], []
    accepted = True
    program = read()
    for _ in range(repeats):
        begun = time.process_time_ns()
        program = read()
        loaded = time.process_time_ns()
        try:
            check(program)
        except Rejected:
            accepted = False
        checks.append((time.process_time_ns() - loaded) / 1e6)
        loads.append((loaded - begun) / 1e6)
    return Cost(name, len(program.instructions), statistics.median(loads), statistics.median(checks), accepted)


def _objects() -> list[tuple[str, bytes]]:
    """The corpus and the samples, compiled; each by its file's name."""
    include = [f"-isystem/usr/include/{platform.machine()}-linux-gnu", f"-I{_ROOT / 'bpf_programs/include'}"]
    command = ["clang", "-O2", "-g", "-target", "bpf", "-mcpu=v3", "-Wno-pass-failed", *include]
    found = []
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory) / "object.o"
        for source in sorted(path for pattern in _SOURCES for path in _ROOT.glob(pattern)):
            made = subprocess.run([*command, "-c", source, "-o", target], check=False, capture_output=True, text=True)
            if made.returncode:
                raise OkoError(f"{source.name} does not compile: {made.stderr.strip()}")
            data = target.read_bytes()
            try:
                load(data)
            except OkoError:
                continue  # the compiler left a call of memcmp in it, or it is no filter program
            found.append((source.stem, data))
    return found


def _peak(size: int) -> float:
    """MiB that a fresh process needs at most that checks a program of `size` instructions."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_peak_here, size).result()


def _peak_here(size: int) -> float:
    if size:
        check(growing(size))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _total(cost: Cost) -> float:
    return cost.total


def _told(cost: Cost) -> str:
    return f"{cost.name} {cost.total:.1f} ms"


def _summary(title: str, costs: Sequence[Cost]) -> str:
    if not costs:
        return f"{title}: none"
    times = sorted(cost.total for cost in costs)
    ninth = times[min(len(times) - 1, len(times) * 9 // 10)]
    return (
        f"{title}: {len(costs)} programs, in the median {statistics.median(cost.instructions for cost in costs):.0f}"
        f" instructions; median {statistics.median(times):.1f} ms, p90 {ninth:.1f} ms, most {times[-1]:.1f} ms,"
        f" of which reading the object {statistics.median(cost.load for cost in costs):.1f} ms"
    )
