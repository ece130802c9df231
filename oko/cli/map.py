"""`oko map`: the maps of filter programs, their entries written by the types that the program gave them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from itertools import starmap
from pathlib import Path
from typing import Final, cast

import click

from ofext.extension import (
    MapDelete,
    MapDescription,
    MapDumpReply,
    MapDumpRequest,
    MapEntry,
    MapKey,
    MapListReply,
    MapListRequest,
    MapLookupReply,
    MapLookupRequest,
    MapUpdate,
    UpdateFlag,
)
from oko.cli.client import Client
from oko.cli.csv_entries import batches, read_csv
from oko.cli.entry import Invocation, client_options
from oko.cli.output import json_option, print_columns, print_json
from oko.cli.program import PROGRAM_ID
from oko.cli.target import is_remote
from oko.cli.value_text import entry_text
from oko.errors import BadMapAccess, RemoteError
from oko.switch.map_names import full_name, short_name
from oko.switch.schema import Schema, Value, parse, read, untyped, write
from verifier.program import MapType

_ARRAYS: Final = frozenset({MapType.ARRAY, MapType.PERCPU_ARRAY})
_AS_MANY_AS_FIT: Final = (1 << 32) - 1
"""The limit of a page that is as long as a message can be; 0 would be no page, but the map."""
_PER_CPU: Final = frozenset({MapType.PERCPU_HASH, MapType.PERCPU_ARRAY, MapType.LRU_PERCPU_HASH})


@click.group("map")
@client_options
def map() -> None:
    """List, dump and update the maps of filter programs.

    A data section is a map: .data.config may be named config, if the program has no other map of that name.
    """


@map.command("list")
@client_options
@click.argument("bridge")
@click.argument("program_id", metavar="[ID]", type=PROGRAM_ID, required=False)
@json_option
@click.pass_obj
def list_(invocation: Invocation, bridge: str, program_id: int | None, as_json: bool) -> None:
    """Print the maps of program ID, or of all programs."""
    with invocation.connect(bridge) as client:
        maps = _maps(client, program_id or 0)
    names = {number: [found.name for found in maps if found.program == number] for number in {m.program for m in maps}}
    shown = [(found, short_name(found.name, names[found.program])) for found in maps]
    if as_json:
        print_json(
            [
                {
                    "program": found.program,
                    "name": name,
                    "type": _type_name(found.type),
                    "key_size": found.key_size,
                    "value_size": found.value_size,
                    "max_entries": found.max_entries,
                    **dict(zip(("key", "value"), _schemas(found), strict=True)),
                }
                for found, name in shown
            ]
        )
    else:
        print_columns(
            ("PROGRAM", "MAP", "TYPE", "KEY", "VALUE", "MAX"),
            (
                (found.program, name, _type_name(found.type), found.key_size, found.value_size, found.max_entries)
                for found, name in shown
            ),
        )


@map.command()
@client_options
@click.argument("bridge")
@click.argument("program_id", metavar="ID", type=PROGRAM_ID)
@click.argument("name", metavar="MAP")
@json_option
@click.pass_obj
def dump(invocation: Invocation, bridge: str, program_id: int, name: str, as_json: bool) -> None:
    """Print the entries of a map. A per-CPU map has a list of values, one for each CPU.

    Of flows, the state, the time since the last packet, and the packets of each side stand on the line; with --json
    there is all that the map holds.
    """
    with invocation.connect(bridge) as client:
        described = _described(client, program_id, name)
        entries = _entries(client, described)
    shown = [_shown(entry, described) for entry in entries]
    if as_json:
        print_json(shown)
        return
    # Only on this host the clock is the switch's.
    now = None if is_remote(bridge) else time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    for columns in shown:
        click.echo(entry_text(*_schemas(described), columns, now))


@map.command()
@client_options
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
    """Write one entry, or with --from-csv many.

    Such as: oko map update br0 1 config 0 '{"config": {"openers": 6}}'

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
            for batch in batches(read_csv(file, key_schema, value_schema)):
                client.command(MapUpdate(program_id, 0, described.name, tuple(starmap(MapEntry, batch))))
            return
        assert key is not None
        assert value is not None
        key_bytes = write(key_schema, parse(key_schema, key))
        parsed = parse(value_schema, value)
        base = _present(client, described, key_bytes) if _is_partial(value_schema, parsed) else None
        entry = MapEntry(key_bytes, write(value_schema, parsed, base))
        client.command(MapUpdate(program_id, 0, described.name, (entry,)))


@map.command()
@client_options
@click.argument("bridge")
@click.argument("program_id", metavar="ID", type=PROGRAM_ID)
@click.argument("name", metavar="MAP")
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@click.pass_obj
def delete(invocation: Invocation, *, bridge: str, program_id: int, name: str, keys: tuple[str, ...]) -> None:
    """Take the entries of KEYs out of a map, which is no array.

    A KEY is written as for 'map update'. Entries before one that is not there are taken out.
    """
    with invocation.connect(bridge) as client:
        described = _described(client, program_id, name)
        key_schema, _ = _schemas(described)
        written = [(write(key_schema, parse(key_schema, key)), b"") for key in keys]
        for batch in batches(written):
            gone = tuple(MapKey(key) for key, _ in batch)
            client.command(MapDelete(program_id, UpdateFlag.PRESENT, described.name, gone))


def _maps(client: Client, program_id: int) -> tuple[MapDescription, ...]:
    return cast(MapListReply, client.report(MapListRequest(program_id))).entries


def _described(client: Client, program_id: int, name: str) -> MapDescription:
    """Raises RemoteError and UnknownMap."""
    maps = {found.name: found for found in _maps(client, program_id)}
    return maps[full_name(name, maps, program_id)]


def _entries(client: Client, described: MapDescription) -> Sequence[MapEntry]:
    """In pages, as a switch may not dump a large map whole; but whole when the map changes so fast that a page cannot
    be followed by another. Raises RemoteError."""
    found: dict[bytes, MapEntry] = {}
    cursor = b""
    try:
        while True:
            page = _dump(client, described, _AS_MANY_AS_FIT, cursor)
            found |= {entry.key: entry for entry in page.entries}
            if not page.cursor:
                return list(found.values())
            cursor = page.cursor
    except RemoteError:
        if not cursor:
            raise
        return _dump(client, described, 0, b"").entries


def _dump(client: Client, described: MapDescription, limit: int, cursor: bytes) -> MapDumpReply:
    return cast(MapDumpReply, client.report(MapDumpRequest(described.program, limit, described.name, cursor)))


def _present(client: Client, described: MapDescription, key: bytes) -> bytes | None:
    """The value that the map has for `key` now, None without one."""
    if described.type in _PER_CPU:
        raise BadMapAccess(
            f"map {described.name} of program {described.program} has a value for each CPU, and an update writes the "
            "same to all: name every member"
        )
    if described.type == MapType.LPM_TRIE:  # whose look-up finds the longest prefix that covers the key
        return next((entry.value for entry in _entries(client, described) if entry.key == key), None)
    request = MapLookupRequest(described.program, described.name, (MapKey(key),))
    found = cast(MapLookupReply, client.report(request)).entries
    return found[0].value if found else None


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
    key = json.loads(described.key_schema) if described.key_schema else None
    value = json.loads(described.value_schema) if described.value_schema else None
    return (
        key or untyped(described.key_size, is_index=described.type in _ARRAYS),
        value or untyped(described.value_size),
    )


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


def _type_name(number: int) -> str:
    try:
        return MapType(number).name.lower()
    except ValueError:
        return str(number)
