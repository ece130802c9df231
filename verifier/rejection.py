"""A rejection, explained: what is wrong, where in the source, how the program gets there, and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from verifier.program import Line, Program
from verifier.state import Step
from verifier.text import text_at
from verifier.tracking import Found

_WAY_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Branch:
    """A decision on the way: the branch at `instruction` was taken, or not."""

    instruction: int
    text: str
    taken: bool
    line: Line | None

    @staticmethod
    def of(program: Program, step: Step) -> Branch:
        """The decision that `step` was."""
        index = step.instruction
        return Branch(index, text_at(program, index), step.taken, program.line_at(index))


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a program is rejected.

    `code` is one of verifier/codes.py. `registers` says what those involved hold, by name. `way` has the branches that
    lead to the instruction, in order, on a shortest way among those that were followed.
    """

    code: str
    why: str
    mend: str
    function: str
    instruction: int
    text: str
    line: Line | None
    registers: tuple[tuple[str, str], ...]
    way: tuple[Branch, ...]

    @staticmethod
    def of(program: Program, found: Found) -> Rejection:
        """The explanation of what register tracking found."""
        state = found.state
        held = state.registers
        steps: list[Step] = []
        step = state.way
        while step is not None:
            steps.append(step)
            step = step.before
        return Rejection(
            found.fault.code,
            found.fault.why,
            found.fault.mend,
            function_of(program, found.index),
            found.index,
            text_at(program, found.index),
            program.line_at(found.index),
            tuple((f"R{number}", str(held[number])) for number in dict.fromkeys(found.registers)),
            tuple(Branch.of(program, step) for step in reversed(steps)),
        )

    @property
    def message(self) -> str:
        """One line: where, and what is wrong."""
        return f"{self.place}: {self.why}; {self.mend}"

    @property
    def place(self) -> str:
        """The source line, or the instruction where none is known."""
        if self.line is not None and self.line.line:
            return f"{self.line.file}:{self.line.line}"
        return f"instruction {self.instruction} of {self.function}"

    @property
    def details(self) -> str:
        """All the rest, a few lines for people."""
        lines = []
        if self.line is not None and self.line.text:
            lines.append(f"    {self.line.text.strip()}")
        lines.append(f"instruction {self.instruction} of {self.function}: {self.text}")
        lines += [f"  {name} is: {value}" for name, value in self.registers]
        if self.way:
            lines.append("the way there:")
            shown = self.way[-_WAY_SHOWN:]
            if len(shown) < len(self.way):
                lines.append(f"  … {len(self.way) - len(shown)} branches before")
            lines += [f"  {_describe(branch)}" for branch in shown]
        lines.append(f"to mend it: {self.mend}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The explanation as json.dumps takes it."""
        return {
            "code": self.code,
            "why": self.why,
            "mend": self.mend,
            "function": self.function,
            "instruction": self.instruction,
            "text": self.text,
            "source": _line(self.line),
            "registers": dict(self.registers),
            "way": [
                {
                    "instruction": branch.instruction,
                    "text": branch.text,
                    "taken": branch.taken,
                    "source": _line(branch.line),
                }
                for branch in self.way
            ],
        }


def function_of(program: Program, index: int) -> str:
    """The name of the function that an instruction is in."""
    return next(function.name for function in program.functions if function.start <= index < function.end)


def _describe(branch: Branch) -> str:
    side = "taken" if branch.taken else "not taken"
    if branch.line is not None and branch.line.line:
        return f"line {branch.line.line}, {branch.line.text.strip()}: {side} ({branch.instruction}: {branch.text})"
    return f"{branch.instruction}: {branch.text}: {side}"


def _line(line: Line | None) -> dict[str, Any] | None:
    if line is None:
        return None
    return {"file": line.file, "line": line.line, "column": line.column, "text": line.text.strip()}
