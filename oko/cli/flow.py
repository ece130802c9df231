"""`oko flow`: the rules of a bridge, in the syntax of ovs-ofctl."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import click

from ofext.extension import FilterRulesShow
from ofext.messages import FlowMod
from ofext.multipart import FlowStats, FlowStatsReply, FlowStatsRequest
from oko.cli.changes import files_option, gather, send
from oko.cli.client import Client
from oko.cli.entry import Invocation, client_options
from oko.cli.output import json_option, print_json
from oko.errors import FlowError
from oko.flow.rule import Command, Rule
from oko.flow.text import parse_flow_mod, parse_selection, print_rule
from oko.wire.change import read_flow_mod, write_flow_mod


@click.group()
@client_options
def flow() -> None:
    """Add, change, delete and list the rules of a bridge."""


@flow.command()
@client_options
@click.argument("bridge")
@click.argument("flows", metavar="[FLOW]...", nargs=-1)
@files_option
@click.pass_obj
def add(invocation: Invocation, bridge: str, flows: tuple[str, ...], files: tuple[Path, ...]) -> None:
    """Add flows.

    Such as: 'priority=10,tcp,tp_dst=80,filter_prog=1 actions=output:2'. A FLOW or FILE of - is the standard input.

    All are read before the first is sent. Each takes effect whole or not at all; one that is refused leaves the others.
    """
    _change(invocation, bridge, Command.ADD, flows, files)


@flow.command()
@client_options
@click.argument("bridge")
@click.argument("flows", metavar="[FLOW]...", nargs=-1)
@files_option
@click.option("--strict", is_flag=True, help="Only the flow with exactly this match and priority.")
@click.pass_obj
def mod(invocation: Invocation, bridge: str, flows: tuple[str, ...], files: tuple[Path, ...], strict: bool) -> None:
    """Give the flows that each FLOW covers its actions. Their counters go on."""
    _change(invocation, bridge, Command.MODIFY_STRICT if strict else Command.MODIFY, flows, files)


@flow.command("del")
@client_options
@click.argument("bridge")
@click.argument("selection", default="")
@click.option("--strict", is_flag=True, help="Only the flow with exactly this match and priority.")
@click.pass_obj
def delete(invocation: Invocation, bridge: str, selection: str, strict: bool) -> None:
    """Delete the flows that SELECTION covers, all without one."""
    message = write_flow_mod(parse_selection(selection, strict=strict))
    with invocation.connect(bridge) as client:
        client.command(message)


@flow.command("list")
@client_options
@click.argument("bridge")
@click.argument("selection", default="")
@json_option
@click.pass_obj
def list_(invocation: Invocation, bridge: str, selection: str, as_json: bool) -> None:
    """Print the flows that SELECTION covers, all without one.

    Each with what it has counted.
    """
    with invocation.connect(bridge) as client:
        # A bridge of Open vSwitch's tells of filter rules only to those who ask for it.
        client.command(FilterRulesShow())
        entries = flows_of(client, selection)
    if as_json:
        print_json([_described(entry) for entry in entries])
    else:
        for entry in entries:
            click.echo(_line(entry))


def flows_of(client: Client, selection: str = "") -> tuple[FlowStats, ...]:
    """The flows that the selection covers."""
    wanted = write_flow_mod(parse_selection(selection))
    request = FlowStatsRequest(
        wanted.table_id, wanted.out_port, wanted.out_group, wanted.cookie, wanted.cookie_mask, wanted.match
    )
    return cast(FlowStatsReply, client.report(request)).entries


def rule_of(entry: FlowStats) -> Rule:
    """The rule that the switch tells of."""
    message = FlowMod(
        cookie=entry.cookie,
        table_id=entry.table_id,
        idle_timeout=entry.idle_timeout,
        hard_timeout=entry.hard_timeout,
        priority=entry.priority,
        flags=entry.flags,
        match=entry.match,
        instructions=entry.instructions,
    )
    return read_flow_mod(message, open_vswitch=True).rule


def _change(
    invocation: Invocation, bridge: str, command: Command, flows: tuple[str, ...], files: tuple[Path, ...]
) -> None:
    mods = gather(partial(parse_flow_mod, command=command, open_vswitch=True), flows, files)
    send(invocation, bridge, "flows", mods, write_flow_mod, lambda mod: print_rule(mod.rule))


def _line(entry: FlowStats) -> str:
    """The entry as ``ovs-ofctl dump-flows`` prints it."""
    return (
        f"cookie={entry.cookie:#x}, duration={entry.duration_sec}.{entry.duration_nsec // 1_000_000:03}s, "
        f"table={entry.table_id}, n_packets={entry.packet_count}, n_bytes={entry.byte_count}, "
        + _text(replace(entry, cookie=0, table_id=0))
    )


def _text(entry: FlowStats) -> str:
    """The rule; of one of Open vSwitch's that has no text here, its priority."""
    try:
        return print_rule(rule_of(entry))
    except FlowError as error:
        return f"priority={entry.priority} (only ovs-ofctl has words for it: {error})"


def _described(entry: FlowStats) -> dict[str, object]:
    return {
        "flow": _text(entry),
        "table": entry.table_id,
        "priority": entry.priority,
        "cookie": entry.cookie,
        "idle_timeout": entry.idle_timeout,
        "hard_timeout": entry.hard_timeout,
        "duration": entry.duration_sec + entry.duration_nsec / 1e9,
        "packets": entry.packet_count,
        "bytes": entry.byte_count,
    }
