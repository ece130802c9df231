"""`oko flow`: the rules of a bridge, in the syntax of ovs-ofctl."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import click

from ofext.messages import FlowMod
from ofext.multipart import FlowStats, FlowStatsReply, FlowStatsRequest
from oko.cli.entry import Invocation, common_options, read_file
from oko.cli.output import json_option, print_json
from oko.errors import OkoError, RemoteError
from oko.flow.rule import Command, Rule
from oko.flow.rule import FlowMod as Change
from oko.flow.text import parse_rule, parse_rules, parse_selection, print_rule
from oko.switch.wire import read_flow_mod, write_flow_mod


@click.group()
@common_options
def flow() -> None:
    """Add, delete and list the rules of a bridge."""


@flow.command()
@common_options
@click.argument("bridge")
@click.argument("flows", metavar="[FLOW]...", nargs=-1)
@click.option(
    "--file", "files", metavar="FILE", type=click.Path(path_type=Path), multiple=True, help="Flows, one a line."
)
@click.pass_obj
def add(invocation: Invocation, bridge: str, flows: tuple[str, ...], files: tuple[Path, ...]) -> None:
    """Add flows: 'priority=10,tcp,tp_dst=80,filter_prog=1 actions=output:2'. A FLOW or FILE of - is the standard input.

    All are read before the first is sent. Each takes effect whole or not at all; one that is refused leaves the others.
    """
    rules = [rule for text in flows if text != "-" for rule in [parse_rule(text)]]
    for path in (*files, *(Path(text) for text in flows if text == "-")):
        source = "standard input" if str(path) == "-" else str(path)
        rules += parse_rules(read_file(path).decode("utf-8", "surrogateescape").splitlines(), source)
    if not rules and not files and not flows:
        raise click.UsageError("no flows: give them as arguments, with --file, or - for the standard input")
    with invocation.connect(bridge) as client:
        refusals = client.send_all([write_flow_mod(Change(Command.ADD, rule)) for rule in rules])
    _raise_refusals(rules, refusals)


@flow.command("del")
@common_options
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
@common_options
@click.argument("bridge")
@click.argument("selection", default="")
@json_option
@click.pass_obj
def list_(invocation: Invocation, bridge: str, selection: str, as_json: bool) -> None:
    """Print the flows that SELECTION covers, all without one, with what they have counted."""
    wanted = write_flow_mod(parse_selection(selection))
    request = FlowStatsRequest(
        wanted.table_id, wanted.out_port, wanted.out_group, wanted.cookie, wanted.cookie_mask, wanted.match
    )
    with invocation.connect(bridge) as client:
        entries = cast(FlowStatsReply, client.report(request)).entries
    if as_json:
        print_json([_described(entry) for entry in entries])
    else:
        for entry in entries:
            click.echo(_line(entry))


def _raise_refusals(rules: Sequence[Rule], refusals: Iterable[RemoteError | None]) -> None:
    """Raises OkoError if there is a refusal: one line about the first, all in the details."""
    refused = [f"{print_rule(rule)}: {error}" for rule, error in zip(rules, refusals, strict=True) if error is not None]
    if not refused:
        return
    count = f"{len(refused)} of {len(rules)} flows refused, the first: " if len(rules) > 1 else ""
    raise OkoError(count + refused[0], details="\n".join(refused) if len(refused) > 1 else "")


def _rule(entry: FlowStats) -> Rule:
    message = FlowMod(
        cookie=entry.cookie,
        table_id=entry.table_id,
        priority=entry.priority,
        match=entry.match,
        instructions=entry.instructions,
    )
    return read_flow_mod(message).rule


def _line(entry: FlowStats) -> str:
    """The entry as ``ovs-ofctl dump-flows`` prints it."""
    return (
        f"cookie={entry.cookie:#x}, duration={entry.duration_sec}.{entry.duration_nsec // 1_000_000:03}s, "
        f"table={entry.table_id}, n_packets={entry.packet_count}, n_bytes={entry.byte_count}, "
        + print_rule(replace(_rule(entry), cookie=0, table=0))
    )


def _described(entry: FlowStats) -> dict[str, object]:
    return {
        "flow": print_rule(_rule(entry)),
        "table": entry.table_id,
        "priority": entry.priority,
        "cookie": entry.cookie,
        "duration": entry.duration_sec + entry.duration_nsec / 1e9,
        "packets": entry.packet_count,
        "bytes": entry.byte_count,
    }
