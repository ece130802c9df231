"""A replay: every packet of a capture through a switch, and what came of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from oko.compiler.portset import PORT_LIMIT
from oko.errors import LimitExceeded, PortError, UnknownProgram
from oko.flow.action import LOCAL, MAX_PORT, Output
from oko.flow.drop import Drop
from oko.flow.group import GroupCommand, GroupMod, GroupSpec
from oko.flow.meter import MeterCommand, MeterMod, MeterSpec
from oko.flow.observer import Observer, ObserverMod
from oko.flow.observer_text import print_observer
from oko.flow.rule import Command, Entry, FlowMod, Rule
from oko.flow.tables import Tables
from oko.flow.text import print_rule
from oko.replay.capture import Packet
from oko.replay.engine import LONGEST, SHORTEST, Decided, Engine
from verifier.program import Program

INTERFACES: Final = 64
"""Interfaces of a pcapng file that have a port: interface 0 is port 1."""

OutputHook = Callable[[int, Packet], None]


def make_tables(
    rules: Iterable[Rule],
    programs: Collection[int],
    groups: Iterable[GroupSpec] = (),
    meters: Iterable[MeterSpec] = (),
    observers: Iterable[Observer] = (),
) -> Tables:
    """The tables that these make, added in order. Raises FlowError, UnknownProgram."""
    tables = Tables()
    for meter in meters:
        tables.change(MeterMod(MeterCommand.ADD, meter))
    for group in groups:
        tables.change(GroupMod(GroupCommand.ADD, group))
    for rule in rules:
        _expect_program(rule.match.program, programs, f"the rule '{print_rule(rule)}'")
        tables.change(FlowMod(Command.ADD, rule))
    for observer in observers:
        _expect_program(observer.match.program, programs, f"the observer '{print_observer(observer)}'")
        tables.change(ObserverMod(observer))
    return tables


def _expect_program(number: int | None, programs: Collection[int], who: str) -> None:
    if number is not None and number not in programs:
        raise UnknownProgram(f"{who} names program {number}: give it with --program")


def ports_of(tables: Tables, in_port: int | None) -> list[int]:
    """The ports of the switch that a replay imagines: those that rules and groups name or that packets may come from.

    Raises LimitExceeded, as a switch would.
    """
    ports = set(range(1, INTERFACES + 1)) if in_port is None else {in_port}
    actions = [action for entry in tables for action in entry.rule.actions]
    buckets = [bucket for group in tables.groups.values() for bucket in group.spec.buckets]
    actions += [action for bucket in buckets for action in bucket.actions]
    named = {action.port for action in actions if isinstance(action, Output)}
    named |= {bucket.watch_port for bucket in buckets if bucket.watch_port is not None}
    ports |= {port for port in named if port <= MAX_PORT or port == LOCAL}
    if len(ports) > PORT_LIMIT:
        raise LimitExceeded("ports", len(ports), PORT_LIMIT, advice="with --in-port, packets come in by one port only")
    return sorted(ports)


@dataclass(slots=True)
class Report:
    """What a replay counted. Bytes are whole frames on the wire, without FCS.

    `rules` are by table and rank with (packets, bytes), `programs` by id with (runs, matches), `ports` by number with
    (packets, bytes) sent; `told` are packets for the controller. `snapped` packets were cut off by the capture and
    filled up with zeros to their length on the wire; `oversize` ones no XDP program can see, so they were left out.
    """

    engine: str
    packets: int = 0
    snapped: int = 0
    oversize: int = 0
    told: int = 0
    rules: list[tuple[Entry, int, int]] = field(default_factory=list)
    programs: dict[int, tuple[str, int, int]] = field(default_factory=dict)
    ports: dict[int, tuple[int, int]] = field(default_factory=dict)
    drops: dict[Drop, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The report as json.dumps takes it."""
        return {
            "engine": self.engine,
            "packets": self.packets,
            "snapped": self.snapped,
            "oversize": self.oversize,
            "told": self.told,
            "rules": [
                {"rule": print_rule(entry.rule), "packets": packets, "bytes": size}
                for entry, packets, size in self.rules
            ],
            "programs": [
                {"id": number, "name": name, "runs": runs, "matches": matches}
                for number, (name, runs, matches) in self.programs.items()
            ],
            "ports": [
                {"port": port, "packets": packets, "bytes": size} for port, (packets, size) in self.ports.items()
            ],
            "drops": {reason.name.lower(): packets for reason, packets in self.drops.items()},
        }


def replay(
    packets: Iterable[Packet],
    engine: Engine,
    tables: Tables,
    programs: Mapping[int, Program],
    *,
    in_port: int | None = None,
    output: OutputHook | None = None,
) -> Report:
    """Let `engine`, which was made of `tables` and `programs`, decide all packets.

    They come in by `in_port`, or else by the port of their interface. The clock is the capture's, and stands still
    where the capture's goes back. `output` gets every packet that leaves, with its port, without what a packet that the
    capture cut off was filled up with.

    Raises PortError for an interface beyond INTERFACES, and what the iteration raises.
    """
    report = Report(engine.name)
    sent: Counter[int] = Counter()
    sent_bytes: Counter[int] = Counter()
    drops: Counter[Drop] = Counter()
    now = 0
    for packet in packets:
        report.packets += 1
        now = max(now, packet.time_ns)
        frame = whole(packet)
        missing = len(frame) - len(packet.data)
        report.snapped += packet.wire_length > len(packet.data)
        if len(frame) > LONGEST:
            report.oversize += 1
            continue
        if len(frame) < SHORTEST:
            decided = Decided(drop=Drop.RUNT)
        else:
            decided = engine.decide(frame, port_of(packet) if in_port is None else in_port, now)
        report.told += len(decided.told)
        for port, after in decided.sent:
            sent[port] += 1
            sent_bytes[port] += len(after)
            if output is not None:
                captured = after[: len(after) - missing]
                output(port, replace(packet, data=captured, wire_length=len(after)))
        if decided.drop is not None:
            drops[decided.drop] += 1
    report.rules = [
        (entry, *engine.counts(entry.slot))
        for entry in sorted(tables, key=lambda entry: (entry.rule.table, *entry.rank))
    ]
    report.programs = {
        number: (program.name, *engine.program_counts(number)) for number, program in sorted(programs.items())
    }
    report.ports = {port: (sent[port], sent_bytes[port]) for port in sorted(sent)}
    report.drops = {reason: drops[reason] for reason in Drop if drops[reason]}
    return report


def whole(packet: Packet) -> bytes:
    """The packet as it was on the wire, what the capture cut off filled up with zeros; longer than LONGEST by one byte
    only if it is longer than that."""
    return packet.data.ljust(min(packet.wire_length, LONGEST + 1), b"\0")


def port_of(packet: Packet) -> int:
    """The port of the interface that the packet came from. Raises PortError."""
    if packet.interface >= INTERFACES:
        raise PortError(
            f"the capture has an interface {packet.interface}, a replay has {INTERFACES} ports: use --in-port"
        )
    return packet.interface + 1
