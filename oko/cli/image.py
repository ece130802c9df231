"""`oko image`: what the switch compiled from the tables."""

from __future__ import annotations

from typing import cast

import click

from ofext.extension import ImageFormat, ImageReply, ImageRequest
from oko.cli.entry import Invocation, client_options


@click.group()
@client_options
def image() -> None:
    """Look at the code that decides the packets of a bridge."""


@image.command("show")
@client_options
@click.argument("bridge")
@click.option("--dot", "as_graph", is_flag=True, help="Draw the way of packets through the tables, for Graphviz.")
@click.pass_obj
def show(invocation: Invocation, bridge: str, as_graph: bool) -> None:
    """Print the instructions, and which stage or flow each is for."""
    request = ImageRequest(ImageFormat.DOT if as_graph else ImageFormat.TEXT)
    with invocation.connect(bridge) as client:
        lines = cast(ImageReply, client.report(request)).entries
    for line in lines:
        click.echo(line.text)
