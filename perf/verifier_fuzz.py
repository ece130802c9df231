"""Random programs against the verifier: what it accepts must run without a fault, within the states that it computed,
and the kernel must accept it too.

Program number N of a run with the seed S is ``tests.verifier.generator.subject(S + N)``, so that every program that is
found can be made again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

from oko.compiler.runtime import Runtime
from oko.errors import Rejected
from perf.progress import Progress
from tests.oko.compiler.objects import FILTERS, filter_program, runtime
from tests.verifier.generator import MAPS, subject
from tests.verifier.kernel import Kernel, Verdict, Way, with_few_rights
from tests.verifier.witness import Unsound, witness
from verifier import elf
from verifier.check import check
from verifier.findings import Found
from verifier.interpreter import InterpreterFault
from verifier.program import Program

_OBJECTS: Final = Path(__file__).resolve().parents[1] / "build" / "bpf"
_BATCH: Final = 500
_SHOWN: Final = 5
_STRUCTURE: Final = "structure"
_WAYS: Final = tuple((way, few) for way in Way for few in (False, True))


@dataclass(slots=True)
class FuzzResult:
    """Counts of programs. `verdicts` are by the code of a rejection, ``accepted``, and ``structure`` for those that
    fail the structural checks; `faults` are the messages about unsound ones. `kernel` counts what the kernel said of
    the accepted ones, by the way and the rights; `disagreements` are the seeds and messages that no document explains.
    `too_strict` counts, by our code, programs that only we reject."""

    seed: int
    programs: int = 0
    seconds: float = 0.0
    runs: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    kernel: dict[str, Counter[str]] = field(default_factory=dict)
    disagreements: list[str] = field(default_factory=list)
    too_strict: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    slowest_seed: int = 0

    @property
    def failed(self) -> bool:
        return bool(self.faults or self.disagreements)

    def to_json(self) -> dict[str, Any]:
        """As json.dumps takes it."""
        return {
            "seed": self.seed,
            "programs": self.programs,
            "seconds": round(self.seconds, 1),
            "runs": self.runs,
            "verdicts": dict(self.verdicts.most_common()),
            "faults": self.faults,
            "kernel": {name: dict(counts) for name, counts in self.kernel.items()},
            "disagreements": self.disagreements,
            "too_strict": dict(self.too_strict.most_common()),
            "slowest_ms": round(self.slowest * 1e3, 1),
            "slowest_seed": self.slowest_seed,
        }

    def __str__(self) -> str:
        accepted = self.verdicts["accepted"]
        lines = [
            f"{self.programs} programs, seeds {self.seed} to {self.seed + self.programs - 1}, in {self.seconds:.0f} s",
            f"accepted {accepted}, each run {self.runs} times: {len(self.faults)} faults",
            *(f"  {fault}" for fault in self.faults[:_SHOWN]),
            "rejected: "
            + ", ".join(f"{code} {count}" for code, count in self.verdicts.most_common() if code != "accepted"),
            f"slowest: {self.slowest * 1e3:.0f} ms (seed {self.slowest_seed})",
        ]
        for name, counts in self.kernel.items():
            lines.append(f"kernel, {name}: " + ", ".join(f"{what} {count}" for what, count in counts.most_common()))
        if self.kernel:
            lines.append(f"disagreements: {len(self.disagreements)}")
            lines += [f"  {one}" for one in self.disagreements[:_SHOWN]]
            lines.append(
                "only we reject: " + ", ".join(f"{code} {count}" for code, count in self.too_strict.most_common())
            )
        return "\n".join(lines)


def fuzz(programs: int, seed: int, runs: int, *, kernel: bool) -> FuzzResult:
    """Try `programs` programs from `seed` on, each accepted one `runs` times on random packets; with `kernel`, load
    those with the generator's maps in every way. SIGINT ends it early, with what was tried so far; standard error hears
    of it every minute."""
    result, progress = FuzzResult(seed, runs=runs), Progress()
    originals = _originals()
    switch = runtime() if kernel else None
    for first in range(seed, seed + programs, _BATCH):
        numbers = range(first, min(first + _BATCH, seed + programs))
        try:
            _batch(result, numbers, originals, switch)
        except KeyboardInterrupt:
            break
        finally:
            result.programs = result.verdicts.total()
            result.seconds = progress.seconds
        progress.tell(f"{result.programs} programs, {len(result.faults)} faults")
    return result


def _batch(result: FuzzResult, numbers: Iterable[int], originals: list[Program], switch: Runtime | None) -> None:
    """Tries the programs of some seeds; with `switch`, in the kernel too."""
    batch: list[tuple[int, Program, str]] = []
    for number in numbers:
        made = subject(number, originals)
        code = _one(result, number, made)
        if made.maps == MAPS and code != _STRUCTURE:
            batch.append((number, made, "" if code == "accepted" else code))
    if switch is not None:
        with Kernel() as loader:
            _compare(result, loader, batch, switch)


def _originals() -> list[Program]:
    """Real programs to mutate."""
    found = [filter_program(path.stem) for path in sorted(FILTERS.glob("*.c"))]
    for path in sorted(_OBJECTS.glob("*.o")):
        program = elf.load(path.read_bytes())
        check(program)
        found.append(program)
    return found


def _one(result: FuzzResult, number: int, made: Program) -> str:
    """Checks and runs one program, and answers how it is counted."""
    began = time.perf_counter()
    try:
        check(made)
        code = "accepted"
    except Rejected as rejected:
        code = rejected.code if isinstance(rejected.__cause__ or rejected.__context__, Found) else _STRUCTURE
    took = time.perf_counter() - began
    if took > result.slowest:
        result.slowest, result.slowest_seed = took, number
    result.verdicts[code] += 1
    if code == "accepted" and result.runs:
        try:
            witness(made, Random(number), runs=result.runs)
        except (Unsound, InterpreterFault) as fault:
            result.faults.append(f"seed {number}: {fault}")
    return code


def _compare(result: FuzzResult, loader: Kernel, batch: list[tuple[int, Program, str]], switch: Runtime) -> None:
    """What the kernel says of programs, the third of each being our code or nothing."""
    accepted = [(number, made) for number, made, code in batch if not code]
    for way, few_rights in _WAYS:

        def load(way: Way = way) -> list[Verdict]:
            return [loader.verdict(made, way, switch) for _, made in accepted]

        name = f"{way.value}, {'few rights' if few_rights else 'root'}"
        counts = result.kernel.setdefault(name, Counter())
        verdicts = with_few_rights(load) if few_rights else load()
        for (number, _), verdict in zip(accepted, verdicts, strict=True):
            if verdict.disagrees(few_rights=few_rights):
                counts["disagrees"] += 1
                result.disagreements.append(f"seed {number}, {name}: {verdict.reason}")
            elif verdict.code == "kernel-verifier":
                counts["documented"] += 1
            else:
                counts[verdict.code or "accepted"] += 1
    for _, made, code in batch:
        if code and not loader.verdict(made, Way.DIRECT).code:
            result.too_strict[code] += 1
