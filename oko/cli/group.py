"""`oko group`: the groups of a bridge, in the syntax of ovs-ofctl."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import click

from ofext.multipart import GroupDescReply, GroupDescRequest, GroupStats, GroupStatsReply, GroupStatsRequest
from oko.cli.changes import files_option, gather, number_of, send
from oko.cli.client import Client
from oko.cli.entry import Invocation, client_options
from oko.cli.output import json_option, print_json
from oko.flow.group import GroupCommand, GroupMod, GroupSpec, GroupType
from oko.flow.group_text import parse_group, print_group
from oko.wire.change import read_group, write_group_mod


@click.group()
@client_options
def group() -> None:
    """Add, change, delete and list the groups of a bridge."""


@group.command()
@client_options
@click.argument("bridge")
@click.argument("groups", metavar="[GROUP]...", nargs=-1)
@files_option
@click.pass_obj
def add(invocation: Invocation, bridge: str, groups: tuple[str, ...], files: tuple[Path, ...]) -> None:
    """Add groups.

    Such as: 'group_id=1,type=select,bucket=weight:2,actions=output:1,bucket=output:2'. A GROUP or FILE of - is the
    standard input.
    """
    _change(invocation, bridge, GroupCommand.ADD, groups, files)


@group.command()
@client_options
@click.argument("bridge")
@click.argument("groups", metavar="[GROUP]...", nargs=-1)
@files_option
@click.pass_obj
def mod(invocation: Invocation, bridge: str, groups: tuple[str, ...], files: tuple[Path, ...]) -> None:
    """Give groups that are there another type and other buckets.

    All packets see either the old ones or the new ones.
    """
    _change(invocation, bridge, GroupCommand.MODIFY, groups, files)


@group.command("del")
@client_options
@click.argument("bridge")
@click.argument("group_id", metavar="[ID]", callback=number_of("group_id"), required=False)
@click.pass_obj
def delete(invocation: Invocation, bridge: str, group_id: int | None) -> None:
    """Delete the group ID, or all groups, and the flows that use them."""
    spec = GroupSpec(group_id or 0, GroupType.ALL)
    with invocation.connect(bridge) as client:
        client.command(write_group_mod(GroupMod(GroupCommand.DELETE, spec, all_groups=group_id is None)))


@group.command("list")
@client_options
@click.argument("bridge")
@json_option
@click.pass_obj
def list_(invocation: Invocation, bridge: str, as_json: bool) -> None:
    """Print the groups, and behind a # what they have counted."""
    with invocation.connect(bridge) as client:
        specs = groups_of(client)
        counted = {entry.group_id: entry for entry in cast(GroupStatsReply, client.report(GroupStatsRequest())).entries}
    found = [(spec, counted[spec.number]) for spec in specs if spec.number in counted]
    if as_json:
        print_json([_described(spec, stats) for spec, stats in found])
    else:
        for spec, stats in found:
            buckets = " ".join(f"{bucket.packet_count}/{bucket.byte_count}" for bucket in stats.bucket_stats)
            click.echo(
                f"{print_group(spec)}  # ref_count={stats.ref_count}, n_packets={stats.packet_count}, "
                f"n_bytes={stats.byte_count}, buckets {buckets or '-'}"
            )


def groups_of(client: Client) -> list[GroupSpec]:
    """The groups of the switch, by number."""
    entries = cast(GroupDescReply, client.report(GroupDescRequest())).entries
    specs = [read_group(entry.group_id, entry.type, entry.buckets) for entry in entries]
    return sorted(specs, key=lambda spec: spec.number)


def _change(
    invocation: Invocation, bridge: str, command: GroupCommand, groups: tuple[str, ...], files: tuple[Path, ...]
) -> None:
    specs = gather(parse_group, groups, files)
    mods = [GroupMod(command, spec) for spec in specs]
    send(invocation, bridge, "groups", mods, write_group_mod, lambda mod: print_group(mod.spec))


def _described(spec: GroupSpec, stats: GroupStats) -> dict[str, object]:
    return {
        "group": print_group(spec),
        "id": spec.number,
        "type": spec.type.name.lower(),
        "ref_count": stats.ref_count,
        "duration": stats.duration_sec + stats.duration_nsec / 1e9,
        "packets": stats.packet_count,
        "bytes": stats.byte_count,
        "buckets": [{"packets": bucket.packet_count, "bytes": bucket.byte_count} for bucket in stats.bucket_stats],
    }
