"""What the commands that need no switch share: flows, groups, meters, observers, programs and maps from files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from oko.cli.changes import read_lines
from oko.cli.csv_entries import read_csv
from oko.cli.entry import read_file, repeated_option
from oko.errors import BadMapAccess, OkoError, ProgramError, UnknownProgram
from oko.flow.group_text import parse_group
from oko.flow.match import PROGRAM_IDS
from oko.flow.meter_text import parse_meter
from oko.flow.observer_text import parse_observer
from oko.flow.tables import Tables
from oko.flow.text import parse_rule
from oko.replay.engine import Engine
from oko.replay.program_map import program_maps
from oko.replay.replay import make_tables
from oko.switch.map_names import full_name
from verifier.check import check
from verifier.elf import load
from verifier.program import Program

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., object])
ProgramFiles = tuple[tuple[int, Path], ...]
MapFiles = tuple[tuple[int, str, Path], ...]
"""Programs by id, names of their maps, and CSV files of entries."""


def _is_program_id(text: str) -> bool:
    return text.isascii() and text.isdigit() and int(text) in PROGRAM_IDS


def _parse_program(text: str) -> tuple[int, Path]:
    number, _, path = text.partition("=")
    if not _is_program_id(number) or not path:
        raise ProgramError(f"{text!r} is no program: write ID=FILE, the id from {PROGRAM_IDS[0]} to {PROGRAM_IDS[-1]}")
    return int(number), Path(path)


program_option = repeated_option(
    "--program", "programs", "ID=FILE", _parse_program, "A filter program, as `filter_prog=ID` names it."
)


def _parse_map(text: str) -> tuple[int, str, Path]:
    left, _, path = text.partition("=")
    number, _, name = left.partition(".")
    if not _is_program_id(number) or not name or not path:
        raise BadMapAccess(f"{text!r} is no map: write ID.NAME=FILE, with the id of a program and the name of its map")
    return int(number), name, Path(path)


map_option = repeated_option(
    "--map",
    "maps",
    "ID.NAME=FILE",
    _parse_map,
    "Write the entries of a CSV file into a map of program ID first, as 'oko map update --from-csv' does.",
)


def tables_options(*, flows_required: bool) -> Callable[[Command], Command]:
    """Gives a command the options that name the files that `read_tables` reads."""

    def decorate(command: Command) -> Command:
        for name, required in (
            ("observers", False), ("meters", False), ("groups", False), ("flows", flows_required),
        ):  # fmt: skip
            text = f"{name.capitalize()}, one a line."
            option = click.option(
                f"--{name}", metavar="FILE", type=click.Path(path_type=Path), required=required, help=text
            )
            command = option(command)
        return command

    return decorate


def read_programs(files: ProgramFiles) -> dict[int, Program]:
    """The programs by id, verified. Raises OkoError."""
    programs: dict[int, Program] = {}
    for number, path in files:
        if number in programs:
            raise click.UsageError(f"program {number} is given twice")
        try:
            programs[number] = load(read_file(path))
            check(programs[number])
        except ProgramError as error:
            raise OkoError(f"{path}: {error}", details=error.details) from None
    return programs


def fill_maps(files: MapFiles, engine: Engine, programs: dict[int, Program]) -> None:
    """Write the entries of the files, in the order of the files, into the maps of `programs`, which `engine` runs.
    Raises OkoError."""
    for number, name, path in files:
        if number not in programs:
            raise UnknownProgram(f"{path} is for the map {name} of program {number}: give that with --program")
        maps = program_maps(engine, number, programs[number])
        target = maps[full_name(name, maps, number)]
        target.write(read_csv(path, target.key, target.value))


def read_tables(
    flows: Path, groups: Path | None, meters: Path | None, observers: Path | None, programs: dict[int, Program]
) -> Tables:
    """The tables that the files make. Raises OkoError."""
    return make_tables(
        read_lines(parse_rule, flows),
        programs,
        _lines(parse_group, groups),
        _lines(parse_meter, meters),
        _lines(parse_observer, observers),
    )


def _lines(parse: Callable[[str], T], path: Path | None) -> list[T]:
    return [] if path is None else read_lines(parse, path)
