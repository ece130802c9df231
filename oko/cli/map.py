"""`oko map`: the maps of filter programs, their entries written by the types that the program gave them."""

from __future__ import annotations

import json
from itertools import starmap
from pathlib import Path
from typing import Final, cast

import click

from ofext.extension import (
    MapDescription,
    MapDumpReply,
    MapDumpRequest,
    MapEntry,
    MapListReply,
    MapListRequest,
    MapUpdate,
)
from oko.cli.client import Client
from oko.cli.csv_entries import batches, read_entries
from oko.cli.entry import Invocation, common_options, read_file
from oko.cli.output import json_option, print_columns, print_json
from oko.cli.program import PROGRAM_ID
from oko.errors import BadMapAccess, UnknownMap
from oko.switch.schema import Schema, Value, read, write
from verifier.program import MapType

_ARRAYS: Final = frozenset({MapType.ARRAY, MapType.PERCPU_ARRAY})
_PER_CPU: Final = frozenset({MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH})


@click.group("map")
@common_options
def map() -> None:
    """List, dump and update the maps of filter programs."""


@map.command("list")
@common_options
@click.argument("bridge")
@click.argument("program_id", metavar="[ID]", type=PROGRAM_ID, required=False)
@json_option
@click.pass_obj
def list_(invocation: Invocation, bridge: str, program_id: int | None, as_json: bool) -> None:
    """Print the maps of program ID, or of all programs."""
    with invocation.connect(bridge) as client:
        maps = _maps(client, program_id or 0)
    if as_json:
        print_json(
            [
                {
                    "program": found.program,
                    "name": found.name,
                    "type": _type_name(found.type),
                    "key_size": found.key_size,
                    "value_size": found.value_size,
                    "max_entries": found.max_entries,
                    **dict(zip(("key", "value"), _schemas(found), strict=True)),
                }
                for found in maps
            ]
        )
    else:
        print_columns(
            ("PROGRAM", "MAP", "TYPE", "KEY", "VALUE", "MAX"),
            (
                (found.program, found.name, _type_name(found.type), found.key_size, found.value_size, found.max_entries)
                for found in maps
            ),
        )


@map.command()
@common_options
@click.argument("bridge")
@click.argument("program_id", metavar="ID", type=PROGRAM_ID)
@click.argument("name", metavar="MAP")
@json_option
@click.pass_obj
def dump(invocation: Invocation, bridge: str, program_id: int, name: str, as_json: bool) -> None:
    """Print the entries of a map. A per-CPU map has a list of values, one for each CPU."""
    with invocation.connect(bridge) as client:
        entries = _entries(client, program_id, name)
        described = _described(client, program_id, name)
    shown = [_shown(entry, described) for entry in entries]
    if as_json:
        print_json(shown)
    else:
        for columns in shown:
            click.echo("  ".join(f"{title}: {_text(value)}" for title, value in columns.items()))


@map.command()
@common_options
@click.argument("bridge")
@click.argument("program_id", metavar="ID", type=PROGRAM_ID)
@click.argument("name", metavar="MAP")
@click.argument("key", required=False)
@click.argument("value", required=False)
@click.option(
    "--from-csv",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Write the entries of a CSV file; - is the standard input.",
)
@click.pass_obj
def update(
    invocation: Invocation,
    *,
    bridge: str,
    program_id: int,
    name: str,
    key: str | None,
    value: str | None,
    file: Path | None,
) -> None:
    """Write one entry: oko map update br0 1 config 0 '{"openers": 6}'. Or many: --from-csv FILE.

    KEY and VALUE are JSON, as 'map dump --json' prints them; where bytes stand, hexadecimal. Members of a struct that
    VALUE leaves out stay as they are, or are zero in a new entry.

    The first line of FILE says what its columns are: key, value, or a member of either, such as value.rate. Members
    without a column are zero. Entries before one that is refused are written.
    """
    if (key is None) != (value is None) or (key is None) == (file is None):
        raise click.UsageError("give a KEY and a VALUE, or --from-csv FILE")
    with invocation.connect(bridge) as client:
        described = _described(client, program_id, name)
        key_schema, value_schema = _schemas(described)
        if file is not None:
            lines = read_file(file).decode("utf-8", "surrogateescape").splitlines(keepends=True)
            for batch in batches(read_entries(lines, str(file), key_schema, value_schema, _parse)):
                client.command(MapUpdate(program_id, 0, name, tuple(starmap(MapEntry, batch))))
            return
        assert key is not None
        assert value is not None
        key_bytes = write(key_schema, _parse(key_schema, key))
        parsed = _parse(value_schema, value)
        base = _present(client, described, key_bytes) if _is_partial(value_schema, parsed) else None
        entry = MapEntry(key_bytes, write(value_schema, parsed, base))
        client.command(MapUpdate(program_id, 0, name, (entry,)))


def _maps(client: Client, program_id: int) -> tuple[MapDescription, ...]:
    return cast(MapListReply, client.report(MapListRequest(program_id))).entries


def _described(client: Client, program_id: int, name: str) -> MapDescription:
    """Raises RemoteError and UnknownMap."""
    maps = _maps(client, program_id)
    for found in maps:
        if found.name == name:
            return found
    names = ", ".join(found.name for found in maps) or "none"
    raise UnknownMap(f"program {program_id} has no map {name!r}; it has: {names}")


def _entries(client: Client, program_id: int, name: str) -> tuple[MapEntry, ...]:
    return cast(MapDumpReply, client.report(MapDumpRequest(program_id, 0, name))).entries


def _present(client: Client, described: MapDescription, key: bytes) -> bytes | None:
    """The value that the map has for `key` now, None without one."""
    if described.type in _PER_CPU:
        raise BadMapAccess(
            f"map {described.name} of program {described.program} has a value for each CPU, and an update writes the "
            "same to all: name every member"
        )
    found = _entries(client, described.program, described.name)
    return next((entry.value for entry in found if entry.key == key), None)


def _is_partial(described: Schema, value: Value) -> bool:
    """Whether `value` leaves out members of a struct."""
    return isinstance(value, dict) and (
        any(
            member["name"] not in value or _is_partial(member["type"], value[member["name"]])
            for member in described.get("members", ())
        )
    )


def _schemas(described: MapDescription) -> tuple[Schema, Schema]:
    """How keys and values are written. Where the program says nothing, an index of an array is a number, all else
    bytes."""
    key: Schema = {"kind": "bytes", "size": described.key_size}
    if described.type in _ARRAYS:
        key = {"kind": "int", "size": described.key_size, "signed": False, "network": False}
    value: Schema = {"kind": "bytes", "size": described.value_size}
    return (
        json.loads(described.key_schema) if described.key_schema else key,
        json.loads(described.value_schema) if described.value_schema else value,
    )


def _parse(described: Schema, text: str) -> Value:
    """A value as it stands in the command line: JSON, and without its quotes what is a string there."""
    kind = described["kind"]
    if kind == "bytes" and not text.startswith('"'):
        return text.removeprefix("0x")
    try:
        if kind in ("int", "enum") and text.startswith("0x"):
            return int(text, 16)
        value: Value = json.loads(text)
    except ValueError:
        if text[:1] in ("{", "[", '"'):
            raise BadMapAccess(f"{text!r} is not JSON") from None
        return text
    return value


def _shown(entry: MapEntry, described: MapDescription) -> dict[str, Value]:
    key_schema, value_schema = _schemas(described)
    key = read(key_schema, entry.key)
    if described.type not in _PER_CPU:
        return {"key": key, "value": read(value_schema, entry.value)}
    size = described.value_size
    return {
        "key": key,
        "values": [read(value_schema, entry.value[at : at + size]) for at in range(0, len(entry.value), size)],
    }


def _text(value: Value) -> str:
    """A value on one line, without the quotes of JSON."""
    match value:
        case dict():
            return "{" + ", ".join(f"{name}: {_text(member)}" for name, member in value.items()) + "}"
        case list():
            return "[" + ", ".join(_text(element) for element in value) + "]"
        case bool():
            return str(value).lower()
        case _:
            return str(value)


def _type_name(number: int) -> str:
    try:
        return MapType(number).name.lower()
    except ValueError:
        return str(number)
