"""`oko`: a group of commands per noun, each in a module of its own that is imported when it is used."""

from __future__ import annotations

from typing import Final

import click

import oko
from oko.cli.entry import client_options, run
from oko.cli.lazy import LazyGroup

GROUPS: Final = {
    "bridge": "oko.cli.bridge",
    "event": "oko.cli.event",
    "flow": "oko.cli.flow",
    "group": "oko.cli.group",
    "image": "oko.cli.image",
    "map": "oko.cli.map",
    "meter": "oko.cli.meter",
    "observer": "oko.cli.observer",
    "p0f": "oko.cli.p0f",
    "program": "oko.cli.program",
    "replay": "oko.cli.replay",
    "trace": "oko.cli.trace",
}
"""The modules of the commands; each has a command of that name."""


@click.group("oko", cls=LazyGroup, modules=GROUPS)
@client_options
@click.version_option(oko.__version__, prog_name="oko")
def command() -> None:
    """Control the bridges that okod runs.

    A BRIDGE is named as for okod. Commands that talk OpenFlow also take unix:PATH, tcp:HOST[:PORT], or
    over TLS ssl:HOST[:PORT].
    """


def main() -> None:
    """The entry point of `oko`."""
    run(command)
