"""A trial: the packets of a table through one program, and what came out otherwise than expected."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from oko.author.map_content import Difference, MapContent
from oko.author.packets import VERDICTS, PacketTest
from oko.compiler.runtime import Runtime
from oko.errors import BadPacketTable, MapError
from oko.flow.text import parse_rule
from oko.replay.engine import Engine, KernelEngine, ReferenceEngine, usual
from oko.replay.program_map import program_maps
from oko.replay.replay import make_tables
from oko.switch.map_names import full_name
from verifier.program import Program

PROGRAM: Final = 1
_RULE: Final = f"filter_prog={PROGRAM},actions=drop"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one packet: whether the program matched, and how that and its maps differ from the table."""

    test: PacketTest
    matched: bool
    differences: tuple[Difference, ...]


class Trial:
    """A program with maps of its own, in the kernel or in the reference switch; nothing else sees its packets. A
    context manager."""

    def __init__(self, program: Program, tests: Sequence[PacketTest], runtime: Runtime, *, in_kernel: bool) -> None:
        """Raises KernelError and LimitExceeded."""
        self._tests = tests
        programs = {PROGRAM: program}
        tables = make_tables([parse_rule(_RULE)], programs)
        ports = usual(sorted({test.in_port for test in tests}))
        self._engine: Engine
        with contextlib.ExitStack() as own:
            if in_kernel:
                self._engine = own.enter_context(KernelEngine(tables, programs, ports, runtime))
            else:
                self._engine = ReferenceEngine(tables, programs, ports, runtime)
            self._own = own.pop_all()
        self._contents = {
            name: MapContent(found) for name, found in program_maps(self._engine, PROGRAM, program).items()
        }

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._own.close()

    def run(self) -> Iterator[Outcome]:
        """The outcomes, packet by packet. Raises BadPacketTable for a map or a value that the program has not."""
        for test in self._tests:
            differences: list[Difference] = []
            try:
                for name, entries in test.updates.items():
                    self._find(name).update(entries)
                matched = self._engine.decide(test.frame, test.in_port, test.time).slot is not None
                if matched != test.matches:
                    differences.append(Difference("verdict", word(matched), word(test.matches)))
                for name, entries in test.expected.items():
                    differences += self._find(name).differences(entries)
            except MapError as error:
                raise BadPacketTable(f"packet {test.name!r}: {error}") from None
            yield Outcome(test, matched, tuple(differences))

    def _find(self, name: str) -> MapContent:
        return self._contents[full_name(name, self._contents, PROGRAM)]


def word(matched: bool) -> str:
    """What a program said, as tables and messages have it."""
    return next(word for word, meaning in VERDICTS.items() if meaning is matched)
