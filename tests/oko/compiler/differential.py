"""One case both ways: the image in the kernel beside the reference switch, packet by packet."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache

from oko.compiler.compile import compile_image
from oko.compiler.image import Filter
from oko.compiler.meter import unpack_meter
from oko.errors import BadAction, FlowError, LimitExceeded
from oko.flow.change import Change
from oko.replay.engine import KernelEngine, ReferenceEngine
from tests.oko.compiler.generator import PORTS, PROGRAMS, Case
from tests.oko.compiler.objects import filter_program, runtime
from tests.oko.compiler.test_pipeline import contents
from verifier.program import Program

_NAMES = ("every_second", "per_source", "odd_port")


class Different(AssertionError):
    """The two do not do the same."""


@cache
def programs() -> dict[int, Program]:
    """The programs that cases name."""
    return {number: filter_program(name) for number, name in zip(PROGRAMS, _NAMES, strict=True)}


def without_refused(case: Case) -> Case:
    """The case without the changes that the compiler refuses. Each is tried behind those before it."""
    if _compiles(case):
        return case
    kept = replace(case, changes=[])
    for change in case.changes:
        longer = replace(kept, changes=[*kept.changes, change])
        with suppress(FlowError):
            if _compiles(longer):
                kept = longer
    return kept


def compare(case: Case) -> int:
    """Returns the number of packets that were compared. Raises Different with what differs."""
    tables = case.tables()
    reference = ReferenceEngine(tables, programs(), PORTS, runtime(), case.attachment)
    reference.set_shims(case.shims)
    with KernelEngine(tables, programs(), PORTS, runtime(), case.attachment) as kernel:
        kernel.set_shims(case.shims)
        for index, arrival in enumerate(case.arrivals):
            expected = reference.decide(arrival.frame, arrival.in_port, arrival.now)
            decided = kernel.decide(arrival.frame, arrival.in_port, arrival.now)
            _same(f"packet {index}", decided, expected)
        for entry in tables:
            _same(f"the rule in slot {entry.slot}", kernel.counts(entry.slot), reference.counts(entry.slot))
        for group in tables.groups.values():
            for slot in (group.slot, *group.slots):
                _same(f"group {group.spec.number}, slot {slot}", kernel.counts(slot), reference.counts(slot))
        for number in programs():
            counts = kernel.program_counts(number), reference.program_counts(number)
            _same(f"program {number}", *counts)
        for name, simulated in reference.maps.items():
            _same(f"map {name}", contents(kernel.maps[name]), dict(simulated.items()))
        if "meters" in kernel.maps:
            for meter in tables.meters.values():
                found = unpack_meter(kernel.maps["meters"].lookup(meter.slot.to_bytes(4, "little")) or b"")
                counters = reference.switch.counters
                bands = [
                    (counters.band_packets[meter.slot, band], counters.band_bytes[meter.slot, band])
                    for band in range(len(meter.spec.bands))
                ]
                wanted = (counters.meter_packets[meter.slot], counters.meter_bytes[meter.slot], bands)
                _same(f"meter {meter.spec.number}", (found.packets, found.bytes, list(found.bands)), wanted)
    return len(case.arrivals)


def reduce(case: Case, fails: Callable[[Case], bool]) -> Case:
    """A smaller case that fails, too: without every change and packet that it can do without."""
    again = True
    while again:
        again = False
        for index in range(len(case.changes) - 1, -1, -1):
            smaller = replace(case, changes=case.changes[:index] + case.changes[index + 1 :])
            if _makes_tables(smaller.changes) and fails(smaller):
                case, again = smaller, True
        for index in range(len(case.arrivals) - 1, -1, -1):
            smaller = replace(case, arrivals=case.arrivals[:index] + case.arrivals[index + 1 :])
            if fails(smaller):
                case, again = smaller, True
    return case


def _compiles(case: Case) -> bool:
    filters = {number: Filter(number, slot, program) for slot, (number, program) in enumerate(programs().items())}
    try:
        compile_image(
            case.tables(),
            filters,
            dict.fromkeys(PORTS, 0),
            runtime(),
            states=PORTS,
            attachment=case.attachment,
            replay=True,
        )
    except (BadAction, LimitExceeded):
        return False
    return True


def _makes_tables(changes: list[Change]) -> bool:
    try:
        Case(0, changes).tables()
    except FlowError:
        return False
    return True


def _same(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise Different(f"{what}:\n  kernel    {found}\n  reference {expected}")
