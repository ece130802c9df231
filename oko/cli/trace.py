"""`oko trace`: why the switch does with one packet what it does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final, cast

import click

from ofext.constants import PortState as WirePortState
from ofext.extension import (
    AttachmentFlag,
    AttachmentReply,
    AttachmentRequest,
    Concern,
    FilterRulesShow,
    ProgramListReply,
    ProgramListRequest,
)
from ofext.multipart import FlowStats, Port, PortDescReply, PortDescRequest
from oko.attached.filter_table import key_of
from oko.attached.picture import Picture, Question, ask, continued, passed, picture
from oko.cli.client import Client
from oko.cli.entry import Invocation, client_options
from oko.cli.flow import flows_of, rule_of
from oko.cli.group import groups_of
from oko.cli.meter import meters_of
from oko.cli.observer import observers_of
from oko.cli.offline import ProgramFiles, program_option, read_programs, read_tables, tables_options
from oko.errors import CaptureError, LimitExceeded, OkoError, PortError, UnknownProgram
from oko.flow.action import MAX_PORT, Group
from oko.flow.attachment import Attachment
from oko.flow.group import GroupSpec
from oko.flow.headers import parse
from oko.flow.port import PortState
from oko.flow.rule import Rule
from oko.flow.tables import Tables
from oko.flow.text import print_rule
from oko.flow.trace import Event, Won
from oko.kernel.features import can_load_bpf
from oko.replay.capture import Capture
from oko.replay.engine import LONGEST, SHORTEST, Decided, KernelEngine, ReferenceEngine, usual
from oko.replay.replay import make_tables, port_of, ports_of, whole
from oko.replay.trace import explain, headers_of, outcome
from oko.switch.objects import read_runtime
from oko.switch.rundir import RunDirectory
from verifier.program import Program

MOST: Final = 50
"""Rules of a table that do not match and are told all the same."""

_NOW: Final = 10**9
"""The time of a packet that comes from no capture, ns: not 0, which programs may take for never."""


@dataclass(frozen=True, slots=True)
class _Arrival:
    frame: bytes
    in_port: int
    now: int


@dataclass(frozen=True, slots=True)
class _Scene:
    """What decides."""

    tables: Tables
    ports: Mapping[int, PortState]
    programs: Mapping[int, Program]
    attached: _Attached | None = None


@dataclass(frozen=True, slots=True)
class _Attached:
    """What is known of a bridge of Open vSwitch's. `suspended` are filter rules, as Picture.subject has them, with
    reasons, `without_xdp` numbers of ports; `trouble` is why nothing is continued, empty if it is."""

    bridge: str
    picture: Picture
    suspended: Mapping[str, str]
    without_xdp: Collection[int]
    trouble: str
    ask: Callable[[Question], str]


@click.command()
@client_options
@click.argument("words", metavar="[BRIDGE] [FRAME]", nargs=-1)
@tables_options(flows_required=False)
@program_option
@click.option("--in-port", metavar="N", type=click.IntRange(1, MAX_PORT), help="The port that the packet comes in by.")
@click.option("--pcap", metavar="FILE", type=click.Path(path_type=Path), help="A capture to take the packet from.")
@click.option(
    "--packet",
    "number",
    metavar="K",
    type=click.IntRange(1),
    help="Which packet of the capture, from 1. Those before it go first, so that programs and meters know them.",
)
@click.option("--all", "everything", is_flag=True, help=f"Also the rules that do not match, beyond {MOST} in a table.")
@click.pass_obj
def trace(
    invocation: Invocation,
    words: tuple[str, ...],
    flows: Path | None,
    groups: Path | None,
    meters: Path | None,
    observers: Path | None,
    programs: ProgramFiles,
    in_port: int | None,
    pcap: Path | None,
    number: int | None,
    everything: bool,
) -> None:
    """Tell why a packet goes where it goes, rule by rule.

    The packet is FRAME, hexadecimal from the destination address on, or comes from a capture. The rules are those that
    BRIDGE has now, or those of files. The reference switch decides, and beside it the image in the kernel: both begin
    with empty maps and full meters.

    On a bridge of Open vSwitch's, what becomes of a packet that is left to it is asked of ovs-vswitchd (ofproto/trace).
    """
    bridge, frame = _words(words, flows, pcap, number, in_port)
    loaded = read_programs(programs)
    if flows is None:
        if groups or meters or observers:
            raise click.UsageError("a BRIDGE has its own groups, meters and observers: leave the files out")
        with invocation.connect(bridge) as client:
            scene = _running(client, bridge, loaded, invocation.rundir)
    else:
        tables = read_tables(flows, groups, meters, observers, loaded)
        scene = _Scene(tables, usual(ports_of(tables, in_port)), loaded)
    if pcap is None:
        assert in_port is not None
        arrivals = [_Arrival(_read_frame(frame), in_port, _NOW)]
    else:
        assert number is not None
        arrivals = _arrivals(pcap, number, in_port)
    *before, last = arrivals
    if len(last.frame) > LONGEST:
        raise LimitExceeded("bytes of the frame", len(last.frame), LONGEST, advice="no XDP program can see it")
    for line in _told(scene, before, last, None if everything else MOST):
        click.echo(line)


def _words(
    words: tuple[str, ...], flows: Path | None, pcap: Path | None, number: int | None, in_port: int | None
) -> tuple[str, str]:
    """BRIDGE and FRAME, empty where an option stands for it. Raises click.UsageError."""
    wanted = [name for name, given in (("BRIDGE", flows), ("FRAME", pcap)) if given is None]
    if len(words) != len(wanted):
        expected = " and ".join(wanted) or "neither BRIDGE nor FRAME"
        raise click.UsageError(
            f"expected {expected}: name a BRIDGE or give --flows, and write a FRAME or give --pcap and --packet"
        )
    if (pcap is None) != (number is None):
        raise click.UsageError("--pcap and --packet go together")
    if pcap is None and in_port is None:
        raise click.UsageError("say by --in-port where the frame comes in")
    found = dict(zip(wanted, words, strict=True))
    return found.get("BRIDGE", ""), found.get("FRAME", "")


def _read_frame(text: str) -> bytes:
    try:
        return bytes.fromhex(text.replace(":", ""))
    except ValueError:
        raise OkoError(f"the frame {text[:40]!r} is not hexadecimal: write two digits for each byte") from None


def _arrivals(pcap: Path, number: int, in_port: int | None) -> list[_Arrival]:
    """The packets of a capture, up to that with this number."""
    arrivals, now = [], 0
    with Capture(pcap) as capture:
        for packet in islice(capture, number):
            now = max(now, packet.time_ns)
            arrivals.append(_Arrival(whole(packet), port_of(packet) if in_port is None else in_port, now))
    if len(arrivals) < number:
        raise CaptureError(f"{pcap}: it has {len(arrivals)} packets, and no packet {number}")
    return arrivals


def _running(client: Client, bridge: str, programs: Mapping[int, Program], rundir: RunDirectory) -> _Scene:
    """What a bridge decides by. Raises UnknownProgram if an object is missing that flows or observers name."""
    running = {entry.program: entry for entry in cast(ProgramListReply, client.report(ProgramListRequest())).entries}
    attachment = cast(AttachmentReply, client.report(AttachmentRequest()))
    described = cast(PortDescReply, client.report(PortDescRequest())).entries
    attached = None
    if attachment.flags & AttachmentFlag.ATTACHED:
        client.command(FilterRulesShow())
        attached = _attached(attachment, described, flows_of(client, "table=0"), bridge, rundir)
    rules = attached.picture.rules if attached else [rule_of(entry) for entry in flows_of(client)]
    observers = observers_of(client)
    named = {match.program for match in (*(rule.match for rule in rules), *(found.match for found in observers))}
    missing = sorted(number for number in named if number is not None and number not in programs)
    if missing:
        names = ", ".join(
            f"{number} ({running[number].name})" if number in running else str(number) for number in missing
        )
        raise UnknownProgram(
            f"the flows of {bridge} name programs that only files hold: give --program ID=FILE for {names}"
        )
    for number, program in programs.items():
        if number in running and running[number].digest.hex() != program.digest:
            click.echo(f"oko: program {number} of {bridge} came from another file than this one", err=True)
    states = {port.port_no: PortState(live=not port.state & WirePortState.LINK_DOWN) for port in described}
    if attached is None:
        tables = make_tables(rules, programs, _needed_first(groups_of(client)), meters_of(client), observers)
        return _Scene(tables, states, programs)
    inside = {port: state for port, state in states.items() if port not in attached.without_xdp}
    return _Scene(make_tables(rules, programs, observers=observers), inside, programs, attached)


def _attached(
    attachment: AttachmentReply, ports: Iterable[Port], flows: Iterable[FlowStats], bridge: str, rundir: RunDirectory
) -> _Attached:
    concerns: dict[Concern, dict[str, str]] = {kind: {} for kind in Concern}
    for entry in attachment.entries:
        concerns[Concern(entry.kind)][entry.subject] = entry.reason
    numbers = {port.port_no: port.name for port in ports}
    without = {number for number, name in numbers.items() if number > MAX_PORT or name in concerns[Concern.PORT]}
    return _Attached(
        bridge,
        picture(flows, numbers.keys() - without),
        concerns[Concern.FLOW],
        without,
        "; ".join(concerns[Concern.BRIDGE].values()),
        lambda question: asyncio.run(ask(rundir, bridge, question)),
    )


def _needed_first(groups: Iterable[GroupSpec]) -> Iterator[GroupSpec]:
    """The groups, each behind those that it needs: no group needs itself, not even by others."""
    waiting = {group.number: group for group in groups}

    def taken(number: int | None) -> Iterator[GroupSpec]:
        group = waiting.pop(number, None) if number is not None else None
        if group is None:
            return
        for bucket in group.buckets:
            for needed in (bucket.watch_group, *(a.number for a in bucket.actions if isinstance(a, Group))):
                yield from taken(needed)
        yield group

    while waiting:
        yield from taken(next(iter(waiting)))


def _told(scene: _Scene, before: Iterable[_Arrival], last: _Arrival, most: int | None) -> Iterator[str]:
    """The story of the packet `last`, behind those `before` it."""
    attached = scene.attached
    if attached is not None and last.in_port in attached.without_xdp:
        yield f"port {last.in_port} has no XDP: Open vSwitch decides all packets that come in there"
        yield from _answered(attached, passed(attached.bridge, last.in_port, last.frame))
        return
    if last.in_port not in scene.ports:
        raise PortError(f"there is no port {last.in_port}: the ports are {', '.join(map(str, scene.ports)) or 'none'}")
    there = None if attached is None else Attachment()
    engine = ReferenceEngine(scene.tables, scene.programs, scene.ports, read_runtime(), there)
    with contextlib.ExitStack() as stack:
        reason = can_load_bpf()
        kernel = None
        if reason is None:
            kernel = stack.enter_context(KernelEngine(scene.tables, scene.programs, scene.ports, read_runtime(), there))
        for arrival in before:
            if SHORTEST <= len(arrival.frame) <= LONGEST and arrival.in_port in scene.ports:
                for each in (engine, kernel):
                    if each is not None:
                        each.decide(arrival.frame, arrival.in_port, arrival.now)
        events: list[Event] = []
        engine.switch.tell = events.append
        decided = engine.decide(last.frame, last.in_port, last.now)
        headers = parse(last.frame, last.in_port)
        yield f"{len(last.frame)} bytes: {headers_of(headers) if headers else 'a runt'}"
        names = {number: program.name for number, program in scene.programs.items()}
        write = print_rule if attached is None else attached.picture.text
        yield from explain(events, scene.tables, names, most, write)
        if attached is None or decided.left is None:
            yield from outcome(decided)
        if kernel is None:
            yield f"the image in the kernel was not asked: {reason}"
        elif len(last.frame) >= SHORTEST:
            yield from _compared(kernel.decide(last.frame, last.in_port, last.now), decided, kernel, engine, scene)
    if attached is not None and decided.left is not None:
        won = [event.entry.rule for event in events if isinstance(event, Won)]
        yield from _left(attached, last, won[0] if won else None)


def _left(attached: _Attached, arrival: _Arrival, winner: Rule | None) -> Iterator[str]:
    """What becomes of a packet that XDP leaves to Open vSwitch, because of the rule `winner` of the image."""
    bridge, in_port, frame = attached.bridge, arrival.in_port, arrival.frame
    if winner is None or winner.match.program is None:
        why = "no filter rule matches" if winner is None else f"{attached.picture.text(winner)} stands above"
        yield f"passed to Open vSwitch as it came: {why}"
        yield from _answered(attached, passed(bridge, in_port, frame))
        return
    reason = attached.suspended.get(attached.picture.subject(winner)) or attached.trouble
    if reason:
        yield f"not continued now: {reason}"
        yield "dropped, or with --fail open left to the plain rules:"
        yield from _answered(attached, passed(bridge, in_port, frame))
        return
    instructions = attached.picture.given[key_of(winner)]
    question = None if instructions is None else continued(bridge, in_port, frame, instructions)
    if question is None:
        yield "continued by Open vSwitch, which can be asked about actions only: see 'ovs-ofctl dump-flows'"
        return
    yield f"continued by Open vSwitch: {attached.picture.text(winner)}"
    yield from _answered(attached, question)


def _answered(attached: _Attached, question: Question) -> Iterator[str]:
    """A question, and the answer if ovs-vswitchd can be reached from here."""
    yield f"{question}"
    try:
        yield from (f"  {line}".rstrip() for line in attached.ask(question).splitlines())
    except OkoError as error:
        yield f"  (run this where Open vSwitch runs: {error})"


def _compared(
    found: Decided, expected: Decided, kernel: KernelEngine, reference: ReferenceEngine, scene: _Scene
) -> Iterator[str]:
    """Whether the image in the kernel does the same as the reference switch."""
    differing = [
        f"  program {number}: {kernel.program_counts(number)} runs and matches, not {reference.program_counts(number)}"
        for number in sorted(scene.programs)
        if kernel.program_counts(number) != reference.program_counts(number)
    ]
    if found != expected:
        differing += [f"  {line}" for line in outcome(found)]
    yield "the image in the kernel differs:" if differing else "the image in the kernel agrees"
    yield from differing
