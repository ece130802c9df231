"""`oko replay`: a capture through flows and filter programs, without a switch, a port or a namespace."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import click

from oko.cli.entry import common_options
from oko.cli.offline import (
    MapFiles,
    ProgramFiles,
    fill_maps,
    map_option,
    program_option,
    read_programs,
    read_tables,
    tables_options,
)
from oko.cli.output import json_option, print_columns, print_json
from oko.flow.action import MAX_PORT
from oko.flow.text import print_rule
from oko.kernel.features import can_load_bpf
from oko.replay.capture import Capture, PortCaptures
from oko.replay.engine import Engine, KernelEngine, ReferenceEngine, usual
from oko.replay.replay import Report, ports_of
from oko.replay.replay import replay as run_replay
from oko.switch.objects import read_runtime

_LONG_INPUT = 8 << 20
"""Bytes of a capture that takes long enough to show progress."""


@click.command()
@common_options
@click.argument("pcap", type=click.Path(path_type=Path))
@program_option
@map_option
@tables_options(flows_required=True)
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
def replay(
    pcap: Path,
    programs: ProgramFiles,
    maps: MapFiles,
    flows: Path,
    groups: Path | None,
    meters: Path | None,
    observers: Path | None,
    in_port: int | None,
    out_dir: Path | None,
    *,
    as_json: bool,
) -> None:
    """Send the packets of a capture through flows, without a switch.

    PCAP is a pcap or pcapng file. What is printed is what each rule, program and port got.

    The pipeline runs in the kernel, with the capture's clock. Without the right to load BPF, the reference switch and
    the interpreter do the same in Python, slower.
    """
    loaded = read_programs(programs)
    tables = read_tables(flows, groups, meters, observers, loaded)
    ports = ports_of(tables, in_port)
    with contextlib.ExitStack() as stack:
        reason = can_load_bpf()
        engine: Engine
        if reason is None:
            engine = stack.enter_context(KernelEngine(tables, loaded, usual(ports), read_runtime()))
        else:
            engine = ReferenceEngine(tables, loaded, usual(ports), read_runtime())
            click.echo(f"oko: the reference switch decides, in Python: {reason}", err=True)
        fill_maps(maps, engine, loaded)
        progress = stack.enter_context(_progress(pcap))
        capture = stack.enter_context(Capture(pcap, progress))
        output = stack.enter_context(PortCaptures(out_dir)).write if out_dir is not None else None
        report = run_replay(capture, engine, tables, loaded, in_port=in_port, output=output)
    if as_json:
        print_json(report.to_json())
    else:
        _print(report, pcap)


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
    console = import_module("rich.console").Console(stderr=True)
    with import_module("rich.progress").Progress(console=console, transient=True) as bar:
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
    if report.told:
        click.echo(f"given to the controller: {report.told}")
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
