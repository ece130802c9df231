"""The annotated program: its source lines, its instructions, and before each what the checker knows there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from verifier import cfg
from verifier.findings import Found, Tracking
from verifier.program import Program
from verifier.rejection import Rejection
from verifier.state import State
from verifier.text import text_at
from verifier.tracking import track
from verifier.values import Number, Unset

_STATES_SHOWN: Final = 4


def trace(program: Program) -> Iterator[str]:
    """The lines of the annotated program, which has passed the structural checks. Where it is rejected, the fault
    stands below its instruction, and behind it only what was looked at before.

    A line ``| R1 packet + 14`` says what holds before the instruction below it; what has not changed since the one
    above is left out. Where several states are kept apart, each has its number.
    """
    found: Found | None = None
    try:
        tracking = track(program, keep_states=True)
    except Found as fault:
        found, tracking = fault, fault.tracking
    lines = {line.instruction: line for line in program.lines}
    for function in program.functions:
        yield f"{function.name}:"
        shown: list[dict[str, str]] = []
        last: tuple[str, int] | None = None
        for index in cfg.indices(program, function):
            line = lines.get(index)
            if line is not None and (line.file, line.line) != last:
                last = (line.file, line.line)
                yield f"; {line.file}:{line.line}: {line.text.strip()}"
            states = _distinct(tracking, index)
            yield from _changes(shown, states)
            shown = states
            mark = "" if states else "   (not looked at)"
            yield f"{index:5}: {text_at(program, index)}{mark}"
            if found is not None and found.index == index:
                yield f"       ^ {found.fault.code}: {Rejection.of(program, found).why}"


def _distinct(tracking: Tracking, index: int) -> list[dict[str, str]]:
    """What is known before an instruction: one or more descriptions, none twice."""
    described: list[dict[str, str]] = []
    for state in tracking.states.get(index, ()):
        description = _describe(state)
        if description not in described:
            described.append(description)
    return described


def _describe(state: State) -> dict[str, str]:
    """What the registers and the stack of the function that runs hold, by name."""
    described = {}
    for number, value in enumerate(state.registers[:10]):
        if not isinstance(value, Unset):
            described[f"R{number}"] = str(value)
    for offset, slot in sorted(state.frame.stack.items(), reverse=True):
        if slot.value is not None:
            described[f"stack{offset}"] = str(slot.value)
        elif slot.written:
            at = [offset + bit for bit in range(8) if slot.written >> bit & 1]
            described[f"stack{offset}"] = "written" if len(at) == 8 else f"bytes {_runs(at)} written"
    for base, place in sorted(state.places.items()):
        name = "packet" if base <= 0 else f"packet + variable {base}"
        if base:
            described[f"variable {base}"] = str(Number(place.distance)).removeprefix("number ")
        if place.safe:
            described[f"proved from {name}"] = f"{place.safe} bytes"
    if state.records:
        described["records held"] = str(len(state.records))
    if state.lock is not None:
        described["lock"] = "held"
    return described


def _runs(numbers: list[int]) -> str:
    return f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"


def _changes(before: list[dict[str, str]], now: list[dict[str, str]]) -> Iterator[str]:
    """The lines that say what is new."""
    for number, state in enumerate(now[:_STATES_SHOWN], start=1):
        old = before[number - 1] if len(before) == len(now) else {}
        news = [f"{name} {value}" for name, value in state.items() if old.get(name) != value]
        news += [f"{name} forgotten" for name in old if name not in state]
        if news:
            label = f" state {number}:" if len(now) > 1 else ""
            yield f"       |{label} {'; '.join(news)}"
    if len(now) > _STATES_SHOWN and len(before) != len(now):
        yield f"       | and {len(now) - _STATES_SHOWN} states more"
