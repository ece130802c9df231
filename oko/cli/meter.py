"""`oko meter`: the meters of a bridge, in the syntax of ovs-ofctl."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import click

from ofext.multipart import MeterConfigReply, MeterConfigRequest, MeterStats, MeterStatsReply, MeterStatsRequest
from oko.cli.changes import files_option, gather, number_of, send
from oko.cli.client import Client
from oko.cli.entry import Invocation, client_options
from oko.cli.output import json_option, print_json
from oko.flow.meter import MeterCommand, MeterMod, MeterSpec
from oko.flow.meter_text import parse_meter, print_meter
from oko.wire.change import read_meter, write_meter_mod


@click.group()
@client_options
def meter() -> None:
    """Add, change, delete and list the meters of a bridge."""


@meter.command()
@client_options
@click.argument("bridge")
@click.argument("meters", metavar="[METER]...", nargs=-1)
@files_option
@click.pass_obj
def add(invocation: Invocation, bridge: str, meters: tuple[str, ...], files: tuple[Path, ...]) -> None:
    """Add meters.

    Such as: 'meter=1,pktps,burst,bands=type=drop,rate=100,burst_size=10'. A METER or FILE of - is the standard input.
    """
    _change(invocation, bridge, MeterCommand.ADD, meters, files)


@meter.command()
@client_options
@click.argument("bridge")
@click.argument("meters", metavar="[METER]...", nargs=-1)
@files_option
@click.pass_obj
def mod(invocation: Invocation, bridge: str, meters: tuple[str, ...], files: tuple[Path, ...]) -> None:
    """Give meters that are there other bands. They start anew, with full buckets."""
    _change(invocation, bridge, MeterCommand.MODIFY, meters, files)


@meter.command("del")
@client_options
@click.argument("bridge")
@click.argument("meter_id", metavar="[ID]", callback=number_of("meter"), required=False)
@click.pass_obj
def delete(invocation: Invocation, bridge: str, meter_id: int | None) -> None:
    """Delete the meter ID, or all meters, and the flows that use them."""
    spec = MeterSpec(meter_id or 0, ())
    with invocation.connect(bridge) as client:
        client.command(write_meter_mod(MeterMod(MeterCommand.DELETE, spec, all_meters=meter_id is None)))


@meter.command("list")
@client_options
@click.argument("bridge")
@json_option
@click.pass_obj
def list_(invocation: Invocation, bridge: str, as_json: bool) -> None:
    """Print the meters, and behind a # what they counted and dropped."""
    with invocation.connect(bridge) as client:
        specs = meters_of(client)
        counted = {entry.meter_id: entry for entry in cast(MeterStatsReply, client.report(MeterStatsRequest())).entries}
    found = [(spec, counted[spec.number]) for spec in specs if spec.number in counted]
    if as_json:
        print_json([_described(spec, stats) for spec, stats in found])
    else:
        for spec, stats in found:
            bands = " ".join(f"{band.packet_band_count}/{band.byte_band_count}" for band in stats.band_stats)
            click.echo(
                f"{print_meter(spec)}  # flows={stats.flow_count}, n_packets={stats.packet_in_count}, "
                f"n_bytes={stats.byte_in_count}, dropped {bands}"
            )


def meters_of(client: Client) -> list[MeterSpec]:
    """The meters of the switch, by number."""
    entries = cast(MeterConfigReply, client.report(MeterConfigRequest())).entries
    return sorted(
        (read_meter(entry.meter_id, entry.flags, entry.bands) for entry in entries), key=lambda spec: spec.number
    )


def _change(
    invocation: Invocation, bridge: str, command: MeterCommand, meters: tuple[str, ...], files: tuple[Path, ...]
) -> None:
    specs = gather(parse_meter, meters, files)
    mods = [MeterMod(command, spec) for spec in specs]
    send(invocation, bridge, "meters", mods, write_meter_mod, lambda mod: print_meter(mod.spec))


def _described(spec: MeterSpec, stats: MeterStats) -> dict[str, object]:
    return {
        "meter": print_meter(spec),
        "id": spec.number,
        "flows": stats.flow_count,
        "duration": stats.duration_sec + stats.duration_nsec / 1e9,
        "packets": stats.packet_in_count,
        "bytes": stats.byte_in_count,
        "bands": [{"packets": band.packet_band_count, "bytes": band.byte_band_count} for band in stats.band_stats],
    }
