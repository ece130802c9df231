"""Random switches with random packets: the image in the kernel beside the reference switch.

Case number N of a run with the seed S is ``tests.oko.compiler.generator.case(S + N)``, and one that is attached to Open
vSwitch, ``attached_case(S + N)``: every one can be made again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from oko.errors import OkoError
from perf.progress import Progress
from tests.oko.compiler.differential import Different, compare, reduce, without_refused
from tests.oko.compiler.generator import Case, attached_case, case

_SHOWN: Final = 3


@dataclass(slots=True)
class DatapathFuzzResult:
    """`cases`, each a switch of Oko's own and one that is attached, with `changes` (flow_mods and the like) and
    `packets`; `faults` are descriptions of what differed, by case."""

    seed: int
    cases: int = 0
    changes: int = 0
    packets: int = 0
    seconds: float = 0.0
    faults: dict[int, str] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return bool(self.faults)

    def to_json(self) -> dict[str, Any]:
        """As json.dumps takes it."""
        return {
            "seed": self.seed,
            "cases": self.cases,
            "changes": self.changes,
            "packets": self.packets,
            "seconds": round(self.seconds, 1),
            "faults": self.faults,
        }

    def __str__(self) -> str:
        lines = [
            f"{self.cases} switches, seeds {self.seed} to {self.seed + self.cases - 1}, with {self.changes} changes",
            f"{self.packets} packets: the kernel did as the reference does, but for {len(self.faults)} cases",
            *(f"case {number}:\n{text}" for number, text in list(self.faults.items())[:_SHOWN]),
            f"in {self.seconds:.0f} s",
        ]
        return "\n".join(lines)


def datapath_fuzz(cases: int, seed: int) -> DatapathFuzzResult:
    """Compare `cases` cases from `seed` on. SIGINT ends it early, with what was compared so far; standard error hears
    of it every minute."""
    result, progress = DatapathFuzzResult(seed), Progress()
    for number in range(seed, seed + cases):
        try:
            _one(result, number)
        except KeyboardInterrupt:
            break
        finally:
            result.seconds = progress.seconds
        progress.tell(f"{result.cases} cases, {len(result.faults)} faults")
    return result


def _one(result: DatapathFuzzResult, number: int) -> None:
    for generated in (case(number), attached_case(number)):
        made = without_refused(generated)
        try:
            result.packets += compare(made)
        except (Different, OkoError) as error:
            result.faults[number] = f"{error}\n{_described(reduce(made, _differs))}"
        result.changes += len(made.changes)
    result.cases += 1


def _differs(made: Case) -> bool:
    try:
        compare(made)
    except (Different, OkoError):
        return True
    return False


def _described(made: Case) -> str:
    lines = [f"  {made.attachment}, shims {made.shims.name}"] if made.attachment is not None else []
    lines += [f"  {change}" for change in made.changes]
    lines += [f"  at {arrival.now} by {arrival.in_port}: {arrival.frame.hex()}" for arrival in made.arrivals]
    return "\n".join(lines)
