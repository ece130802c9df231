"""Whole switches, made at random: the image in the kernel does what the reference switch does, to the byte.

`python -m perf datapath-fuzz` does the same with as many cases as one likes. A case that once differed stays here.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import pytest

from oko.flow.drop import Drop
from oko.flow.rule import Command, FlowMod
from oko.flow.tables import Tables
from oko.flow.trace import Entered, Event
from oko.replay.engine import KernelEngine, ReferenceEngine
from tests.oko.compiler.differential import Different, compare, programs, reduce, without_refused
from tests.oko.compiler.generator import PORTS, Case, attached_case, case
from tests.oko.compiler.objects import runtime

pytestmark = pytest.mark.needs_bpf

CASES = int(os.environ.get("OKO_CASES", "300"))
CHUNKS = 10


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_does_as_the_reference(chunk: int) -> None:
    packets = 0
    for number in range(chunk, CASES, CHUNKS):
        packets += compare(without_refused(case(number)))
    assert packets >= 5 * CASES // CHUNKS


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_does_as_the_reference_when_attached(chunk: int) -> None:
    packets = 0
    for number in range(chunk, CASES // 2, CHUNKS):
        packets += compare(without_refused(attached_case(number)))
    assert packets >= 5 * CASES // 2 // CHUNKS


def test_the_attached_cases_are_not_trivial() -> None:
    """That packets are passed by rules, by none and as reserved, are continued, and dropped for every reason of an
    attached switch."""
    passed = missed = reserved = continued = 0
    drops: Counter[Drop | None] = Counter()
    for number in range(150):
        made = without_refused(attached_case(number))
        reference = ReferenceEngine(made.tables(), programs(), PORTS, runtime(), made.attachment)
        reference.set_shims(made.shims)
        for arrival in made.arrivals:
            events: list[Event] = []
            reference.switch.tell = events.append
            decision = reference.switch.decide(arrival.frame, arrival.in_port, arrival.now)
            drops[decision.drop] += 1
            continued += decision.left is not None and decision.left != arrival.frame
            if decision.left == arrival.frame:
                passed += bool(decision.entries)
                missed += not decision.entries and any(isinstance(event, Entered) for event in events)
                reserved += not any(isinstance(event, Entered) for event in events)
    found = (passed, missed, reserved, continued, *(drops[why] for why in (Drop.FORGED, Drop.TOO_LONG, Drop.SUSPENDED)))
    assert min(found) >= 10, found


def test_the_cases_are_not_trivial() -> None:
    """What the comparison is good for: that packets come through several tables, are changed, and reach the
    controller."""
    several = rewritten = told = 0
    for number in range(60):
        made = without_refused(case(number))
        reference = ReferenceEngine(made.tables(), programs(), PORTS, runtime())
        for arrival in made.arrivals:
            decision = reference.switch.decide(arrival.frame, arrival.in_port, arrival.now)
            several += len(decision.entries) > 1
            rewritten += any(frame != arrival.frame for _, frame in decision.sent)
            told += bool(decision.packet_ins)
    assert min(several, rewritten, told) >= 10, (several, rewritten, told)


def test_what_differs_is_found_and_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that forgets the rules of the highest priority."""
    whole = KernelEngine.__init__

    def forgetful(engine: KernelEngine, tables: Tables, *rest: Any) -> None:
        fewer = tables.copy()
        highest = max(tables, key=lambda entry: entry.rule.priority)
        fewer.apply(FlowMod(Command.DELETE_STRICT, highest.rule))
        whole(engine, fewer, *rest)

    def differs(tried: Case) -> bool:
        try:
            compare(tried)
        except (Different, ValueError):  # ValueError: no rule is left
            return len(tried.changes) > 0
        return False

    monkeypatch.setattr(KernelEngine, "__init__", forgetful)
    found = next(made for made in map(case, range(200)) if len(made.changes) > 5 and differs(without_refused(made)))
    smaller = reduce(without_refused(found), differs)
    assert (len(smaller.changes), len(smaller.arrivals)) < (len(found.changes), len(found.arrivals))
