"""`oko p0f`: the signatures of the filter program p0f, from p0f's own database."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import click

from ofext.extension import (
    MapDumpReply,
    MapDumpRequest,
    MapEntry,
    MapListReply,
    MapListRequest,
    MapUpdate,
)
from oko.cli.client import Client
from oko.cli.csv_entries import write_entries
from oko.cli.entry import Invocation, client_options, read_file
from oko.cli.output import json_option, print_columns, print_json
from oko.cli.p0f_signatures import BANK_SIZE, BANKS, Signature, Value, map_entries, parse_database
from oko.cli.program import PROGRAM_ID
from oko.errors import OkoError, UnknownMap
from oko.switch.map_names import short_name
from oko.switch.schema import Schema, read, untyped, write

_DATABASE: Final = Path("/etc/p0f/p0f.fp")
"""Where Debian's package p0f has it."""
_CONFIG: Final = "config"
_MAPS: Final = frozenset({"layouts", "signatures", "names", "counts", _CONFIG})
_BATCH: Final = 100
"""Entries in a message, which has at most 64 KiB."""

Command = TypeVar("Command", bound=Callable[..., object])
IsChosen = Callable[[Signature], bool]


@click.group("p0f")
@client_options
def p0f() -> None:
    """Choose the signatures of SYNs that the program p0f matches.

    And see how often each was seen.
    """


def _choice_options(command: Command) -> Command:
    """Gives a command the options that say which signatures are loaded, and what matches then."""
    for option in (
        click.option(
            "--database",
            metavar="FILE",
            type=click.Path(path_type=Path),
            default=_DATABASE,
            show_default=True,
            help="A database of p0f 3.",
        ),
        click.option("--others", is_flag=True, help="Match all packets that are no SYNs."),
        click.option("--invert", is_flag=True, help="Match the SYNs that have none of the chosen signatures."),
        click.option(
            "--match",
            "patterns",
            metavar="PATTERN",
            multiple=True,
            help="Labels to choose, such as 'Windows*'. May be given more than once.",
        ),
    ):
        command = option(command)
    return command


@p0f.command()
@client_options
@click.argument("bridge")
@click.argument("program_id", metavar="ID", type=PROGRAM_ID)
@_choice_options
@click.pass_obj
def load(
    invocation: Invocation,
    *,
    bridge: str,
    program_id: int,
    patterns: tuple[str, ...],
    invert: bool,
    others: bool,
    database: Path,
) -> None:
    """Put a database into the program p0f, and choose among it.

    The program is ID; chosen are the signatures with one of the labels, which are what 'oko p0f list' and p0f itself
    print. All signatures are loaded, as p0f decides among all of them. Every packet sees either the old signatures and
    options or the new ones. Counts begin anew.
    """
    signatures, is_chosen = _read(database, patterns)
    with invocation.connect(bridge) as client:
        maps = _Maps(client, program_id)
        bank = (maps.bank() + 1) % BANKS
        entries = map_entries(signatures, is_chosen, bank)
        # Entries are never deleted: what was loaded into this bank before must lead nowhere.
        maps.write(
            "layouts", [(key, {"first": 0, "count": 0}) for key, _ in maps.read("layouts") if key["bank"] == bank]
        )
        for name, found in entries.items():
            maps.write(name, found)
        maps.write(_CONFIG, _configuration(bank, invert=invert, others=others))
    click.echo(f"{len(signatures)} signatures loaded, {sum(map(is_chosen, signatures))} chosen")


@p0f.command()
@client_options
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@_choice_options
def export(*, directory: Path, patterns: tuple[str, ...], invert: bool, others: bool, database: Path) -> None:
    """Write what 'oko p0f load' would load as CSV files.

    There is a file DIR/MAP.csv for each map of the program p0f, for 'oko replay --map' and 'oko map update --from-csv'.
    The options are those of load.
    """
    signatures, is_chosen = _read(database, patterns)
    entries = map_entries(signatures, is_chosen, 0) | {_CONFIG: _configuration(0, invert=invert, others=others)}
    try:
        directory.mkdir(exist_ok=True)
        for name, found in entries.items():
            (directory / f"{name}.csv").write_text(write_entries(found))
    except OSError as error:
        raise OkoError(f"{error.filename}: {error.strerror}") from None
    click.echo(f"{len(signatures)} signatures written, {sum(map(is_chosen, signatures))} chosen")


def _read(database: Path, patterns: Sequence[str]) -> tuple[tuple[Signature, ...], IsChosen]:
    """The signatures of a database, and which of them have a label that one of the patterns fits. Raises OkoError, for
    a pattern that fits none, too."""
    signatures = parse_database(read_file(database).decode(errors="replace"), str(database))
    for pattern in patterns:
        if not any(fnmatchcase(signature.label, pattern) for signature in signatures):
            raise OkoError(f"no signature of {database} has a label like {pattern!r}")
    return signatures, lambda signature: any(fnmatchcase(signature.label, pattern) for pattern in patterns)


def _configuration(bank: int, *, invert: bool, others: bool) -> list[tuple[Value, Value]]:
    """The entries of the map `config`."""
    return [(0, {"config": {"bank": bank, "invert": invert, "others": others}})]


@p0f.command("list")
@client_options
@click.argument("bridge")
@click.argument("program_id", metavar="ID", type=PROGRAM_ID)
@json_option
@click.pass_obj
def list_(invocation: Invocation, bridge: str, program_id: int, as_json: bool) -> None:
    """Print the signatures that are loaded.

    And which are chosen, and how many SYNs had each since they were loaded. They stand as program ID considers them: by
    layout, then as in the database. SYNs without a signature come first.
    """
    with invocation.connect(bridge) as client:
        maps = _Maps(client, program_id)
        bank = maps.bank()
        layouts = [value for key, value in maps.read("layouts") if key["bank"] == bank]
        conditions, names, counts = (list(maps.read(name)) for name in ("signatures", "names", "counts"))
    none = bank * BANK_SIZE
    indices = [none, *sorted(index for run in layouts for index in range(run["first"], run["first"] + run["count"]))]
    rows = [
        {
            "label": _text(names[index][1]["label"]),
            "signature": _text(names[index][1]["text"]),
            "chosen": conditions[index][1]["chosen"],
            "syns": counts[index][1],
        }
        for index in indices
    ]
    if as_json:
        print_json(rows)
    else:
        print_columns(
            ("SYNS", "CHOSEN", "LABEL", "SIGNATURE"),
            (
                (row["syns"], "yes" if row["chosen"] else "no", row["label"] or "(none)", row["signature"])
                for row in rows
            ),
        )


class _Maps:
    """The maps of the program p0f in a switch. Keys and values are what their BTF makes of them."""

    def __init__(self, client: Client, program_id: int) -> None:
        """Raises UnknownMap for a program that is not p0f, and RemoteError."""
        self._client = client
        self._program = program_id
        listed = cast(MapListReply, client.report(MapListRequest(program_id))).entries
        names = [found.name for found in listed]
        self._described = {short_name(found.name, names): found for found in listed}
        if not self._described.keys() >= _MAPS:
            raise UnknownMap(
                f"program {program_id} has no map {min(_MAPS - self._described.keys())!r}: it is not p0f; "
                f"load p0f.o as program {program_id}"
            )

    def bank(self) -> int:
        """The one in use."""
        ((_, value),) = self.read(_CONFIG)
        return int(value["config"]["bank"])

    def read(self, name: str) -> Iterator[tuple[Any, Any]]:
        """The entries of a map. Of one with a value for each CPU, which is a number, the value is their sum."""
        key_schema, value_schema = self._schemas(name)
        size = self._described[name].value_size
        request = MapDumpRequest(self._program, 0, self._described[name].name)
        reply = cast(MapDumpReply, self._client.report(request))
        for key, value in reply.entries:
            values = [read(value_schema, value[at : at + size]) for at in range(0, len(value), size)]
            yield read(key_schema, key), values[0] if len(values) == 1 else sum(cast(list[int], values))

    def write(self, name: str, entries: list[tuple[Value, Value]]) -> None:
        """Write entries in their order."""
        key_schema, value_schema = self._schemas(name)
        for batch in _batches(entries):
            written = tuple(MapEntry(write(key_schema, key), write(value_schema, value)) for key, value in batch)
            self._client.command(MapUpdate(self._program, 0, self._described[name].name, written))

    def _schemas(self, name: str) -> tuple[Schema, Schema]:
        found = self._described[name]
        number = untyped(found.key_size, is_index=True)
        return json.loads(found.key_schema) if found.key_schema else number, json.loads(found.value_schema)


def _batches(entries: list[tuple[Value, Value]]) -> Iterator[list[tuple[Value, Value]]]:
    for start in range(0, len(entries), _BATCH):
        yield entries[start : start + _BATCH]


def _text(data: str) -> str:
    """A string of C, of which the bytes are given in hexadecimal."""
    return bytes.fromhex(data).rstrip(b"\0").decode()
