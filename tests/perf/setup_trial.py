"""``python -m tests.perf.setup_trial SETUP SCENARIO…``: a few packets through a setup, in namespaces of its own.

Prints, as JSON, how many frames of each case were sent and delivered.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether

from perf.guest import Accelerator
from perf.isolation import isolate
from perf.networks import benchmarked, prefixes
from perf.scenarios import Scenario, addressed, forward, limited, masked, routed, served, settings
from perf.setups import SETUPS, VirtualMachine
from perf.switches import Entry
from perf.testbed import Testbed
from perf.traffic import Phase, datagrams, destinations, everywhere, segments, syns, template
from perf.xdp import OBJECTS

RATE: Final = 5_000  # packets per second
CLIENTS: Final = 20
BURST: Final = 3
MASKS: Final = 16

EMULATED_CPU: Final = "x86-64"
"""What clang calls the processor that qemu can be on every machine: not everything that the host's can do."""
EMULATED: Final = VirtualMachine("vm-emulated", Accelerator("tcg", "max", False, OBJECTS / EMULATED_CPU))
"""The setup `vm` where there is no hardware virtualisation: too slow to be measured."""
TRIED: Final = (*SETUPS, EMULATED)

_WINDOWS: Final = [("MSS", 1460), ("NOP", None), ("WScale", 8), ("NOP", None), ("NOP", None), ("SAckOK", b"")]


@dataclass(frozen=True, slots=True)
class Case:
    """A phase that is sent so many times; what is to arrive with the filter program, and without."""

    name: str
    phase: Phase
    filtered: int
    plain: int
    passes: int


def cases(scenario: str) -> Iterator[Case]:
    """What is sent in this scenario, in its order."""
    if scenario == "forward":
        yield _case("everything", datagrams(200).steady, 200)
    elif scenario == "firewall":
        traffic = segments(10 * CLIENTS)
        for number, phase in enumerate(traffic.opening):
            yield _case(f"opening {number}", phase, phase.frames)
        yield _case("data of connections", traffic.steady, 10 * CLIENTS)
        strangers = replace(traffic.steady, first=1 << 20)
        yield Case("data of no connection", strangers, 0, 10 * CLIENTS, CLIENTS)
        yield Case("SYNs for another port", _one(TCP(sport=40_000, dport=81, flags="S")), 0, 0, CLIENTS)
    elif scenario == "p0f":
        yield _case("SYNs of Linux", syns(10 * CLIENTS).steady, 10 * CLIENTS)
        windows = TCP(sport=40_000, dport=80, flags="S", seq=1, window=8_192, options=_WINDOWS)
        yield Case("SYNs of Windows", _one(windows, ttl=128), 0, CLIENTS, CLIENTS)
    elif scenario == "token_bucket":
        frames = [made for made in _one(TCP(sport=40_000, dport=80, flags="S")).templates for _ in range(10)]
        yield Case("ten of each client", Phase(frames, CLIENTS), BURST * CLIENTS, 10 * CLIENTS, CLIENTS)
    elif scenario == "prefixes":
        inside = [network.first for network in prefixes(CLIENTS)]
        yield _case("inside of prefixes", everywhere(inside).steady, CLIENTS)
        yield Case("outside of them", everywhere([each - (1 << 16) for each in inside]).steady, 0, 0, 1)
    elif scenario == "masks":
        listed = [network.first for network in benchmarked(MASKS * 64)]
        yield _case("a packet for each rule", everywhere(listed).steady, len(listed))
        yield Case("other destinations", everywhere([each - (1 << 16) for each in listed]).steady, 0, 0, 1)
    else:
        yield _case("listed destinations", destinations(CLIENTS).steady, CLIENTS)
        others = replace(destinations(CLIENTS).steady, first=CLIENTS)
        yield Case("destinations that no rule has", others, 0, 0, CLIENTS)


SCENARIOS: Final[dict[str, Callable[[], Scenario]]] = {
    "forward": lambda: forward(lambda: datagrams(1), "trial"),
    "firewall": lambda: served("firewall", lambda: segments(10), "trial"),
    "p0f": lambda: served("p0f", lambda: syns(10), "trial"),
    "token_bucket": lambda: served("token_bucket", lambda: segments(10), "trial"),
    "addresses": lambda: addressed(CLIENTS),
    "prefixes": lambda: routed(CLIENTS),
    "masks": lambda: masked(MASKS),
}


def entries(scenario: Scenario) -> list[Entry]:
    """The benchmark's settings, but for a bucket that is soon empty and stays so."""
    if scenario.program is None:
        return []
    return [limited(0, BURST)] if scenario.program == "token_bucket" else settings(scenario.program)


def _case(name: str, phase: Phase, frames: int) -> Case:
    return Case(name, phase, frames, frames, frames // len(phase.templates))


def _one(transport: TCP | UDP, ttl: int = 64) -> Phase:
    link = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
    packet = link / IP(src="16.0.0.0", dst="192.0.2.80", ttl=ttl, flags="DF", id=1) / transport
    return Phase([template(bytes(packet))], CLIENTS)


def trial(name: str, wanted: Sequence[str]) -> dict[str, dict[str, tuple[int, int]]]:
    """Frames sent and delivered, by scenario and case; none for a scenario that cannot be had here."""
    setup = next(setup for setup in TRIED if setup.name == name)
    found: dict[str, dict[str, tuple[int, int]]] = {}
    with Testbed() as testbed:
        for each in wanted:
            scenario = SCENARIOS[each]()
            found[each] = {}
            if setup.missing(scenario) is not None:
                continue
            with setup.run(scenario, testbed, entries(scenario)):
                for case in cases(each):
                    testbed.rewind()
                    run = testbed.send(case.phase, RATE, passes=case.passes)
                    found[each][case.name] = run.sent, run.delivered
    return found


if __name__ == "__main__":
    isolate()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    print(json.dumps(trial(sys.argv[1], sys.argv[2:])))
