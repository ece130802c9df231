"""`oko event`: what filter programs report through their ring buffers, as it comes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import cast

import click

from ofext.extension import Event, EventFlag, EventSubscribe, MapListReply, MapListRequest
from oko.cli.client import Client
from oko.cli.entry import Invocation, client_options
from oko.cli.output import json_option
from oko.cli.program import PROGRAM_ID
from oko.cli.target import is_remote
from oko.cli.value_text import value_text
from oko.errors import UnknownMap, UnknownProgram
from oko.switch.schema import Schema, read, untyped
from verifier.program import MapType

_SECOND = 10**9


@click.command()
@client_options
@click.argument("bridge")
@click.argument("program_id", metavar="PROGRAM", type=PROGRAM_ID)
@click.argument("name", metavar="[MAP]", required=False)
@click.option("--count", metavar="N", type=click.IntRange(1), help="End after N events.")
@json_option
@click.pass_obj
def event(
    invocation: Invocation, bridge: str, program_id: int, name: str | None, count: int | None, as_json: bool
) -> None:
    """Print what PROGRAM reports, until Ctrl-C.

    It reports through ring buffers: MAP, or all that it has.
    A line for each event: the time when okod read it, the map, and the record, by the names of its members if the
    program says what they are. With --json each line is a JSON object; 'lost' counts the events that this connection
    was too slow for.
    """
    with invocation.connect(bridge) as client:
        schemas = _ring_buffers(client, program_id, name)
        lost = dict.fromkeys(schemas, 0)
        # Only on this host the clock is the switch's.
        is_local = not is_remote(bridge)
        for found in islice(_events(client, program_id, schemas), count):
            described = schemas[found.map] or untyped(len(found.data))
            if as_json:
                _print_json(found, described)
            else:
                if found.lost > lost[found.map]:
                    click.echo(f"{found.lost - lost[found.map]} events of {found.map} were lost", err=True)
                    lost[found.map] = found.lost
                now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) if is_local else None
                text = value_text(described, read(described, found.data), now)
                click.echo(f"{_moment(found.time)}  {found.map}  {text}")


def _ring_buffers(client: Client, program_id: int, name: str | None) -> dict[str, Schema | None]:
    """The ring buffers to listen to, with what their records are. Raises UnknownMap."""
    maps = cast(MapListReply, client.report(MapListRequest(program_id))).entries
    rings = {
        found.name: json.loads(found.value_schema) if found.value_schema else None
        for found in maps
        if found.type == MapType.RINGBUF
    }
    if not rings or name not in (None, *rings):
        wanted = "ring buffer" if name is None else f"ring buffer {name!r}"
        raise UnknownMap(f"program {program_id} has no {wanted}; it has: {', '.join(rings) or 'none'}")
    return rings if name is None else {name: rings[name]}


def _events(client: Client, program_id: int, maps: dict[str, Schema | None]) -> Iterator[Event]:
    """The events as they come. Raises UnknownProgram when there can be no more."""
    left = set(maps)
    for message in client.follow([EventSubscribe(program_id, name) for name in maps]):
        if not isinstance(message, Event):
            continue
        if not message.flags & EventFlag.ENDED:
            yield message
            continue
        left.discard(message.map)
        if not left:
            raise UnknownProgram(f"program {program_id} was unloaded or replaced: there are no more events")


def _print_json(found: Event, described: Schema) -> None:
    shown = {
        "time": found.time / _SECOND,
        "program": found.program,
        "map": found.map,
        "lost": found.lost,
        "record": read(described, found.data),
    }
    click.echo(json.dumps(shown, ensure_ascii=False))


def _moment(time_ns: int) -> str:
    """A time of day, UTC, to the microsecond."""
    return datetime.fromtimestamp(time_ns // _SECOND, UTC).strftime("%H:%M:%S") + f".{time_ns % _SECOND // 1000:06d}"
