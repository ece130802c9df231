"""A rejection, explained: what is wrong, where in the source, how the program gets there, and how to mend it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from oko.errors import Rejected
from verifier import cfg
from verifier.codes import CODES
from verifier.explanation import Note, explain
from verifier.findings import Found
from verifier.program import Line, Program
from verifier.state import Step
from verifier.text import text_at

_WAY_SHOWN: Final = 12

Paint = Callable[[str, str], str]
"""Gives a piece of text the looks of its kind: place, code, source, mark, label, mend."""


def plain(_kind: str, text: str) -> str:
    """A Paint without colours."""
    return text


@dataclass(frozen=True, slots=True)
class Branch:
    """A decision on the way: the branch at `instruction` (the line `line`) was taken, or not, and led to the line
    `to`."""

    instruction: int
    text: str
    taken: bool
    line: Line | None
    to: Line | None

    @staticmethod
    def of(program: Program, step: Step) -> Branch:
        """The decision that `step` was."""
        index = step.instruction
        target = cfg.jump_target(index, program.instructions[index]) if step.taken else index + 1
        line = program.line_at(index)
        return Branch(index, text_at(program, index), step.taken, line, _next_line(program, target, line))


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a program is rejected.

    `code` is one of verifier/codes.py. `registers` says what those involved hold, by name. `way` has the branches that
    lead to the instruction, in order, on a shortest way among those that were followed. `notes` are other places that
    matter: the check that proves too little, the lookup whose result was not tested.
    """

    code: str
    why: str
    mend: str
    function: str
    instruction: int
    text: str
    line: Line | None
    registers: tuple[tuple[str, str], ...] = ()
    way: tuple[Branch, ...] = ()
    notes: tuple[Note, ...] = ()

    @staticmethod
    def of(program: Program, found: Found) -> Rejection:
        """The explanation of what register tracking found."""
        held = found.state.registers
        steps: list[Step] = []
        step = found.state.way
        while step is not None:
            steps.append(step)
            step = step.before
        explanation = explain(program, found)
        return Rejection(
            found.fault.code,
            explanation.why,
            explanation.mend,
            function_of(program, found.index),
            found.index,
            text_at(program, found.index),
            program.line_at(found.index),
            tuple((f"R{number}", str(held[number])) for number in dict.fromkeys(found.registers)),
            tuple(Branch.of(program, step) for step in reversed(steps)),
            explanation.notes,
        )

    @staticmethod
    def at(program: Program, code: str, index: int, why: str, mend: str, notes: tuple[Note, ...] = ()) -> Rejection:
        """The explanation of what is wrong with the instruction at `index` whatever the registers hold."""
        assert code in CODES
        return Rejection(
            code,
            why,
            mend,
            function_of(program, index),
            index,
            text_at(program, index),
            program.line_at(index),
            notes=notes,
        )

    def error(self) -> Rejected:
        """The exception that carries this explanation, and its text."""
        return Rejected(self.code, self.message, details=self.details, rejection=self)

    @property
    def message(self) -> str:
        """One line: where, what is wrong, and what to do."""
        return f"{self.place}: {self.why}; {self.mend}"

    @property
    def place(self) -> str:
        """The source line, or the instruction where none is known."""
        if self.line is not None:
            return f"{self.line.file}:{self.line.line}"
        return f"instruction {self.instruction} of {self.function}"

    @property
    def details(self) -> str:
        """All but the message, a few lines for people."""
        return "\n".join(self.body())

    def report(self, paint: Paint = plain) -> str:
        """Everything, for people."""
        head = f"{paint('place', self.place)}: {paint('code', self.code)}: {self.why}"
        return "\n".join([head, *self.body(paint)])

    def body(self, paint: Paint = plain) -> Iterator[str]:
        """The lines below the first."""
        if self.line is not None:
            yield paint("source", self._source(self.line))
            yield from self._mark(self.line, paint)
        yield f"{_GUTTER}instruction {self.instruction} of {self.function}: {self.text}"
        for name, value in self.registers:
            yield f"{_GUTTER}{name}: {value}"
        if self.notes:
            yield paint("label", "what matters:")
            yield from self._table([(self._place(note.line, note.instruction), note.text) for note in self.notes])
        if self.way:
            yield paint("label", "the way there:")
            rows = [(self._place(branch.line, branch.instruction), self._outcome(branch)) for branch in self.way]
            rows = [row for row, following in zip(rows, [*rows[1:], None], strict=True) if row != following]
            if len(rows) > _WAY_SHOWN:
                yield f"{_GUTTER}… {len(rows) - _WAY_SHOWN} branches before"
            yield from self._table(rows[-_WAY_SHOWN:])
        yield f"{paint('label', 'to mend it:')} {paint('mend', self.mend)}"

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
            "notes": [
                {"instruction": note.instruction, "text": note.text, "source": _line(note.line)} for note in self.notes
            ],
            "way": [
                {
                    "instruction": branch.instruction,
                    "text": branch.text,
                    "taken": branch.taken,
                    "source": _line(branch.line),
                    "to": _line(branch.to),
                }
                for branch in self.way
            ],
        }

    def _source(self, line: Line) -> str:
        elsewhere = self.line is not None and line.file != self.line.file
        name = f"{line.file.rsplit('/', 1)[-1]}:" if elsewhere else ""
        return f"{f'{name}{line.line}':>{len(_GUTTER) - 3}} | {line.text.strip()}"

    def _mark(self, line: Line, paint: Paint) -> Iterator[str]:
        """A caret below the column."""
        indent = len(line.text) - len(line.text.lstrip())
        if line.column > indent:
            yield f"{'':>{len(_GUTTER) - 3}} | {' ' * (line.column - 1 - indent)}{paint('mark', '^')}"

    def _place(self, line: Line | None, instruction: int) -> str:
        return self._source(line) if line is not None else f"{_GUTTER}instruction {instruction}"

    def _outcome(self, branch: Branch) -> str:
        if branch.to is not None:
            return f"goes on at line {branch.to.line}"
        return f"{branch.text}: {'taken' if branch.taken else 'not taken'}"

    def _table(self, rows: list[tuple[str, str]]) -> Iterator[str]:
        """Two columns."""
        width = min(max(len(left) for left, _ in rows), _WIDEST)
        for left, right in rows:
            yield f"{left:<{width}}   ← {right}"


_GUTTER: Final = " " * 9
_WIDEST: Final = 80


def _next_line(program: Program, index: int, line: Line | None) -> Line | None:
    """The first line from the instruction at `index` on that is another than `line`, before control goes elsewhere."""
    here = program.line_at(index)
    while here is not None and line is not None and (here.file, here.line) == (line.file, line.line):
        instruction = program.instructions[index]
        if cfg.is_jump(instruction) or cfg.successors(index, instruction) == ():
            break
        index += cfg.width(instruction)
        here = program.line_at(index)
    return here


def function_of(program: Program, index: int) -> str:
    """The name of the function that an instruction is in."""
    return next(function.name for function in program.functions if function.start <= index < function.end)


def _line(line: Line | None) -> dict[str, Any] | None:
    if line is None:
        return None
    return {"file": line.file, "line": line.line, "column": line.column, "text": line.text.strip()}
