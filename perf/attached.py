"""What attaching costs and gives: packets per second, and TCP between two hosts, beside Open vSwitch alone.

Packets are short ones of the testbed's generator. TCP is iperf3's, between two network namespaces. All cases take turns
in each round, and are compared with Open vSwitch alone of the same round.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from math import ceil
from pathlib import Path
from statistics import median
from typing import Any, Final

from demo.lab import CLIENT_AND_SERVER, HOST_INTERFACE, SWITCH, Lab
from ofext.extension import FilterRulesShow
from oko.cli.client import Client
from oko.cli.flow import flows_of, rule_of
from oko.errors import OkoError
from oko.kernel.ethtool import offloads, set_offloads
from oko.kernel.namespace import HERE, run_in
from oko.kernel.offloads import REQUIRED
from perf.attachment import attached
from perf.forward import spread
from perf.machine import Neighbours, machine
from perf.okod_process import OkodProcess
from perf.open_vswitch import BRIDGE, no_open_vswitch, open_vswitch
from perf.scenarios import PORTS, PROGRAM_ID
from perf.testbed import Run, Testbed
from perf.traffic import Traffic, segments
from perf.xdp import OBJECTS

_NORMAL: Final = ("actions=NORMAL",)
_DECIDED: Final = tuple(f"in_port={port},filter_prog={PROGRAM_ID},actions=output:{3 - port}" for port in (1, 2))
_CONTINUED: Final = (f"filter_prog={PROGRAM_ID},actions=NORMAL",)
_PROGRAM: Final = OBJECTS / "any.o"
_FLOWS: Final = 10
_OPENING_RATE: Final = 1_000  # packets per second, so that the switch learns where each end is
_NAMESPACES: Final = Path("/run/netns")
_PATIENCE: Final = 30  # seconds, beside those of the measurement
_CONNECTING: Final = 3_000  # ms
_IPERF: Final = "iperf3"
_LINUX_BRIDGE: Final = "bridge0"


@dataclass(frozen=True, slots=True)
class Case:
    """What stands between two hosts. `kind` is that of Open vSwitch's ports; None is a bridge of Linux instead. With
    `attached`, okod is, and has these `rules`. `offloads` are set at the hosts, unless okod does it, and `hosts` says
    which. They do not concern the generator's `packets`, which are only measured in one of several cases with the same
    switch."""

    name: str
    text: str
    kind: str | None
    hosts: str
    offloads: Mapping[str, bool] = field(default_factory=dict)
    packets: bool = True
    attached: bool = False
    rules: Sequence[str] = ()


_CHECKSUMS: Final = {name: state for name, state in REQUIRED.items() if name.startswith("tx-checksum")}
_MADE, _SUMMED, _NEEDED = "as the kernel makes them", "checksums off", "as attaching needs them"
ALONE: Final = "alone"
CASES: Final = (
    Case(ALONE, "Open vSwitch alone", "system", _NEEDED, REQUIRED),
    Case("alone-checksums", "Open vSwitch alone", "system", _SUMMED, _CHECKSUMS, packets=False),
    Case("alone-made", "Open vSwitch alone", "system", _MADE, packets=False),
    Case("plain", "attached, only plain rules", "system", _NEEDED, attached=True),
    Case("decided", "attached, a filter rule decided in XDP", "system", _NEEDED, attached=True, rules=_DECIDED),
    Case("continued", "attached, a filter rule continued", "system", _NEEDED, attached=True, rules=_CONTINUED),
    Case("afxdp", "Open vSwitch alone, AF_XDP ports", "afxdp", _NEEDED, REQUIRED),
    Case("bridge", "a bridge of Linux", None, _NEEDED, REQUIRED, packets=False),
    Case("bridge-made", "a bridge of Linux", None, _MADE, packets=False),
)


@dataclass(slots=True)
class Figures:
    """Of a case, a value for each round: Mpps that arrived when as much was sent as could be, the share of it that was
    lost, and Gbit/s of TCP, 0 if there was no connection; `reason` says why not."""

    mpps: list[float] = field(default_factory=list)
    lost: list[float] = field(default_factory=list)
    gigabits: list[float] = field(default_factory=list)
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class AttachedCost:
    """The figures of each case, by its name. `warning` is about the machine."""

    machine: str
    seconds: float
    warning: str | None
    figures: Mapping[str, Figures]

    def ratios(self, name: str, column: str) -> list[float]:
        """The figures `column` of a case, divided by those of Open vSwitch alone in the same round."""
        own, its = (getattr(self.figures.get(which, Figures()), column) for which in (name, ALONE))
        return [mine / other for mine, other in zip(own, its, strict=False) if other]

    def to_json(self) -> dict[str, Any]:
        """The result as json.dumps takes it."""
        ratios = {name: {column: self.ratios(name, column) for column in ("mpps", "gigabits")} for name in self.figures}
        return asdict(self) | {"ratios": ratios}

    def __str__(self) -> str:
        """The table of docs/ovs.md."""
        lines = [
            "| between the hosts | offloads of the hosts | Mpps | lost | × alone | TCP, Gbit/s | × alone |",
            "|---|---|---|---|---|---|---|",
        ]
        for case in (case for case in CASES if case.name in self.figures):
            found = self.figures[case.name]
            lost = f"{median(found.lost):.0%}" if found.lost else "–"
            cells = (
                case.text,
                case.hosts,
                _cell(found.mpps, 3),
                lost,
                _cell(self.ratios(case.name, "mpps"), 2),
                _cell(found.gigabits, 2),
                _cell(self.ratios(case.name, "gigabits"), 2),
            )
            lines.append(f"| {' | '.join(cells)} |")
        lines += [f"{name}: {found.reason}" for name, found in self.figures.items() if found.reason is not None]
        return "\n".join((*lines, *([self.warning] if self.warning else []), self.machine))


def _cell(values: Sequence[float], digits: int) -> str:
    return spread(values, digits) if any(values) else "none" if values else "–"


def measure_attached(rounds: int, seconds: float, names: Collection[str] = ()) -> AttachedCost:
    """Measure the cases of these names, all if there are none, for so many seconds, so many times, by turns; TCP for
    whole seconds. Raises OkoError."""
    if (reason := no_open_vswitch()) is not None:
        raise OkoError(reason)
    if shutil.which(_IPERF) is None:
        raise OkoError(f"{_IPERF} is not installed: run 'apt-get install {_IPERF}'")
    cases = [case for case in CASES if not names or case.name in names]
    figures = {case.name: Figures() for case in cases}
    traffic = segments(_FLOWS)
    with Neighbours() as neighbours, Testbed() as testbed, Lab(CLIENT_AND_SERVER) as lab:
        for number in range(rounds):
            start = number % len(cases)
            for case in cases[start:] + cases[:start]:
                _take(figures[case.name], case, testbed, traffic, lab, seconds)
                print(f"round {number + 1}: {case.name}", file=sys.stderr)
    return AttachedCost(machine(), seconds, neighbours.warning, figures)


def _take(found: Figures, case: Case, testbed: Testbed, traffic: Traffic, lab: Lab, seconds: float) -> None:
    """One round of a case."""
    if case.packets:
        run = _packets(case, testbed, traffic, seconds)
        found.mpps.append(run.rate)
        found.lost.append(1 - run.share)
    try:
        found.gigabits.append(_tcp(case, lab, ceil(seconds)))
    except _NoConnection as error:
        found.gigabits.append(0.0)
        found.reason = str(error)


def _packets(case: Case, testbed: Testbed, traffic: Traffic, seconds: float) -> Run:
    """As fast as they can be sent, from p1 to p2. Raises OkoError."""
    testbed.rewind()
    with ExitStack() as own:
        for name in PORTS:
            # A veth without XDP takes what the generator sends only when it polls, which it does with GRO on.
            own.enter_context(_with_offloads(name, {"rx-gro": True}))
        own.enter_context(_bound())
        own.enter_context(_switch(case))
        for phase in traffic.opening:
            testbed.send(phase, _OPENING_RATE)
        return testbed.run(traffic.steady, seconds)


def _tcp(case: Case, lab: Lab, seconds: int) -> float:
    """Gbit/s from client to server. Raises OkoError, _NoConnection."""
    prefix = ("nsenter", f"--net={_NAMESPACES / lab.namespace(SWITCH)}", "--")
    with ExitStack() as own:
        for host in lab.hosts:
            own.enter_context(_with_offloads(HOST_INTERFACE, case.offloads, _NAMESPACES / lab.namespace(host)))
        with _bound():  # the switch; hosts run where they like
            own.enter_context(_switch(case, prefix) if case.kind is not None else _bridge(prefix))
        server = lab.popen("server", [_IPERF, "--server", "--forceflush"], stderr=subprocess.DEVNULL)
        own.callback(lab.stop, server)
        lab.await_line(server, "Server listening")
        address = lab.hosts["server"].address.partition("/")[0]
        words = [_IPERF, "--json", f"--time={seconds}", f"--connect-timeout={_CONNECTING}", "--client", address]
        done = lab.run("client", words, timeout=seconds + _PATIENCE)
    report = json.loads(done.stdout)
    if "error" in report:
        raise _NoConnection(report["error"])
    return float(report["end"]["sum_received"]["bits_per_second"]) / 1e9


class _NoConnection(OkoError):
    """iperf3 could not do what it was to."""


@contextlib.contextmanager
def _switch(case: Case, prefix: Sequence[str] = ()) -> Iterator[None]:
    """Open vSwitch at PORTS, and okod if the case says so."""
    assert case.kind is not None
    # What filter rules do not decide, plain ones do.
    with open_vswitch(PORTS, case.kind, _NORMAL, prefix=prefix) as switch, ExitStack() as own:
        if case.attached:
            program = _PROGRAM if case.rules else None
            okod = own.enter_context(attached(switch, BRIDGE, len(PORTS), case.rules, program=program, prefix=prefix))
        yield
        if case.rules and not _counted(okod):
            raise OkoError(f"{case.name}: no packet has met a filter rule")


def _counted(okod: OkodProcess) -> int:
    """The packets that filter rules decided."""
    with Client.connect(okod.name, okod.rundir) as client:
        client.command(FilterRulesShow())
        return sum(entry.packet_count for entry in flows_of(client) if rule_of(entry).match.program is not None)


@contextlib.contextmanager
def _bridge(prefix: Sequence[str]) -> Iterator[None]:
    """A bridge of Linux with PORTS."""

    def ip(*words: str) -> None:
        subprocess.run([*prefix, "ip", "link", *words], check=True)

    ip("add", _LINUX_BRIDGE, "type", "bridge", "forward_delay", "0")
    try:
        for name in PORTS:
            ip("set", name, "master", _LINUX_BRIDGE)
        ip("set", _LINUX_BRIDGE, "up")
        yield
    finally:
        ip("del", _LINUX_BRIDGE)


@contextlib.contextmanager
def _bound() -> Iterator[None]:
    """This process, which sends, has a processor that switches started meanwhile leave alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def _with_offloads(interface: str, wanted: Mapping[str, bool], namespace: Path | str = HERE) -> Iterator[None]:
    """These offloads while the context lasts."""
    found = run_in(namespace, partial(offloads, interface))
    run_in(namespace, partial(set_offloads, interface, wanted))
    try:
        yield
    finally:
        run_in(namespace, partial(set_offloads, interface, {name: found[name].wanted for name in wanted}))
