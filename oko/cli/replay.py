"""`oko replay`: a capture through flows and filter programs, without a switch, a port or a namespace."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from oko.cli.entry import Invocation, common_options, parsed, read_file
from oko.cli.output import json_option, print_columns, print_json
from oko.errors import OkoError, ProgramError
from oko.flow.action import MAX_PORT
from oko.flow.match import PROGRAM_IDS
from oko.flow.text import parse_rules, print_rule
from oko.kernel.features import can_load_bpf
from oko.replay.capture import Capture, PortCaptures
from oko.replay.engine import Engine, KernelEngine, ReferenceEngine, usual
from oko.replay.replay import Report, make_tables, ports_of
from oko.replay.replay import replay as run_replay
from oko.switch.objects import read_runtime
from verifier.check import check
from verifier.elf import load
from verifier.program import Program

_LONG_INPUT = 8 << 20
"""Bytes of a capture that takes long enough to show progress."""


def _parse_program(text: str) -> tuple[int, Path]:
    number, _, path = text.partition("=")
    if not number.isascii() or not number.isdigit() or int(number) not in PROGRAM_IDS or not path:
        raise ProgramError(f"{text!r} is no program: write ID=FILE, the id from {PROGRAM_IDS[0]} to {PROGRAM_IDS[-1]}")
    return int(number), Path(path)


@click.command()
@common_options
@click.argument("pcap", type=click.Path(path_type=Path))
@click.option(
    "--program",
    "programs",
    metavar="ID=FILE",
    callback=parsed(_parse_program),
    multiple=True,
    help="A filter program, as `filter_prog=ID` names it.",
)
@click.option("--flows", metavar="FILE", type=click.Path(path_type=Path), required=True, help="Flows, one a line.")
@click.option(
    "--in-port",
    metavar="N",
    type=click.IntRange(1, MAX_PORT),
    help="The port that all packets come in by; otherwise 1, and 1 more for each further interface of a pcapng file.",
)
@click.option(
    "--out-dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Write the packets that leave by port N to DIR/port-N.pcap.",
)
@json_option
@click.pass_obj
def replay(
    invocation: Invocation,
    pcap: Path,
    programs: tuple[tuple[int, Path], ...],
    flows: Path,
    in_port: int | None,
    out_dir: Path | None,
    *,
    as_json: bool,
) -> None:
    """Send the packets of PCAP, a pcap or pcapng file, through the flows: what each rule, program and port got.

    The pipeline runs in the kernel, with the capture's clock. Without the right to load BPF, the reference switch and
    the interpreter do the same in Python, slower.
    """
    loaded = {}
    for number, path in programs:
        if number in loaded:
            raise click.UsageError(f"program {number} is given twice")
        loaded[number] = _read_program(path)
    rules = parse_rules(read_file(flows).decode("utf-8", "surrogateescape").splitlines(), str(flows))
    tables = make_tables(rules, loaded)
    ports = ports_of(tables, in_port)
    with contextlib.ExitStack() as stack:
        reason = can_load_bpf()
        engine: Engine
        if reason is None:
            engine = stack.enter_context(KernelEngine(tables, loaded, usual(ports), read_runtime()))
        else:
            engine = ReferenceEngine(tables, loaded, usual(ports), read_runtime())
            click.echo(f"oko: the reference switch decides, in Python: {reason}", err=True)
        progress = stack.enter_context(_progress(pcap))
        capture = stack.enter_context(Capture(pcap, progress))
        output = stack.enter_context(PortCaptures(out_dir)).write if out_dir is not None else None
        report = run_replay(capture, engine, tables, loaded, in_port=in_port, output=output)
    if as_json:
        print_json(report.to_json())
    else:
        _print(report, pcap)


def _read_program(path: Path) -> Program:
    try:
        program = load(read_file(path))
        check(program)
    except ProgramError as error:
        raise OkoError(f"{path}: {error}", details=error.details) from None
    return program


@contextlib.contextmanager
def _progress(pcap: Path) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar where the input is long and a terminal watches."""
    try:
        is_long = pcap.stat().st_size >= _LONG_INPUT
    except OSError:
        is_long = False
    if not is_long or not sys.stderr.isatty():
        yield None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(pcap.name, total=None)
        yield lambda position, size: bar.update(task, completed=position, total=size)


def _print(report: Report, pcap: Path) -> None:
    left_out = f", {report.oversize} longer than XDP sees left out" if report.oversize else ""
    snapped = f", {report.snapped} filled up to their length on the wire" if report.snapped else ""
    where = {"kernel": "in the kernel", "reference": "by the reference switch"}[report.engine]
    click.echo(f"{pcap}: {report.packets} packets decided {where}{snapped}{left_out}\n")
    print_columns(
        ("PACKETS", "BYTES", "RULE"),
        [(packets, size, print_rule(entry.rule)) for entry, packets, size in report.rules],
    )
    for reason, packets in report.drops.items():
        click.echo(f"dropped, {reason.name.lower().replace('_', ' ')}: {packets}")
    if report.programs:
        click.echo()
        print_columns(
            ("PROGRAM", "NAME", "RUNS", "MATCHES"),
            [(number, name, runs, matches) for number, (name, runs, matches) in report.programs.items()],
        )
    if report.ports:
        click.echo()
        print_columns(
            ("PORT", "PACKETS", "BYTES"), [(port, packets, size) for port, (packets, size) in report.ports.items()]
        )
