"""`oko observer`: programs that look at the packets that enter a table, and decide nothing."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import click

from ofext.extension import ObserverListReply, ObserverListRequest
from oko.cli.changes import files_option, gather, send
from oko.cli.client import Client
from oko.cli.entry import Invocation, client_options
from oko.cli.output import json_option, print_json
from oko.flow.observer import Observer, ObserverMod
from oko.flow.observer_text import parse_observer, print_observer
from oko.wire.change import write_observer_mod
from oko.wire.match import read_match


@click.group()
@client_options
def observer() -> None:
    """Add, delete and list the observers of a bridge."""


@observer.command()
@client_options
@click.argument("bridge")
@click.argument("observers", metavar="[OBSERVER]...", nargs=-1)
@files_option
@click.pass_obj
def add(invocation: Invocation, bridge: str, observers: tuple[str, ...], files: tuple[Path, ...]) -> None:
    """Add observers: programs that see packets and decide nothing.

    With 'table=0,ip,filter_prog=3' program 3 runs for every IP packet that enters table 0, before any flow is looked
    at. An OBSERVER or FILE of - is the standard input.
    """
    _change(invocation, bridge, observers, files, add=True)


@observer.command("del")
@client_options
@click.argument("bridge")
@click.argument("observers", metavar="[OBSERVER]...", nargs=-1)
@files_option
@click.pass_obj
def delete(invocation: Invocation, bridge: str, observers: tuple[str, ...], files: tuple[Path, ...]) -> None:
    """Delete observers, each named as it was added."""
    _change(invocation, bridge, observers, files, add=False)


@observer.command("list")
@client_options
@click.argument("bridge")
@json_option
@click.pass_obj
def list_(invocation: Invocation, bridge: str, as_json: bool) -> None:
    """Print the observers, by table and program."""
    with invocation.connect(bridge) as client:
        observers = observers_of(client)
    if as_json:
        print_json(
            [
                {"observer": print_observer(found), "table": found.table, "program": found.match.program}
                for found in observers
            ]
        )
    else:
        for found in observers:
            click.echo(print_observer(found))


def observers_of(client: Client) -> list[Observer]:
    """The observers of the switch."""
    entries = cast(ObserverListReply, client.report(ObserverListRequest())).entries
    return [Observer(entry.table_id, read_match(entry.match)) for entry in entries]


def _change(
    invocation: Invocation, bridge: str, observers: tuple[str, ...], files: tuple[Path, ...], *, add: bool
) -> None:
    named = gather(parse_observer, observers, files)
    mods = [ObserverMod(found, add) for found in named]
    send(invocation, bridge, "observers", mods, write_observer_mod, lambda mod: print_observer(mod.observer))
