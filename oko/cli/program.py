"""`oko program`: the filter programs of a bridge, and the author's tools. `oko-load` loads programs."""

from __future__ import annotations

from typing import Final, cast

import click

from ofext.extension import ProgramListReply, ProgramListRequest, ProgramUnload, UnloadFlag
from oko.cli.entry import Invocation, client_options
from oko.cli.lazy import LazyGroup
from oko.cli.output import json_option, print_columns, print_json
from oko.flow.match import PROGRAM_IDS

PROGRAM_ID = click.IntRange(PROGRAM_IDS[0], PROGRAM_IDS[-1])
_DIGEST_SHOWN = 12

AUTHOR: Final = dict.fromkeys(("new", "build", "test"), "oko.cli.author")
"""The commands that need no bridge, and their module."""


@click.group(cls=LazyGroup, modules=AUTHOR)
@client_options
def program() -> None:
    """Write, build, test, list and unload filter programs.

    oko-load loads them.
    """


@program.command("list")
@client_options
@click.argument("bridge")
@json_option
@click.pass_obj
def list_(invocation: Invocation, bridge: str, as_json: bool) -> None:
    """Print the loaded programs, and how often they ran and matched."""
    with invocation.connect(bridge) as client:
        entries = cast(ProgramListReply, client.report(ProgramListRequest())).entries
    if as_json:
        print_json(
            [
                {
                    "id": entry.program,
                    "name": entry.name,
                    "instructions": entry.instructions,
                    "maps": entry.maps,
                    "runs": entry.runs,
                    "matches": entry.matches,
                    "digest": entry.digest.hex(),
                }
                for entry in entries
            ]
        )
    else:
        print_columns(
            ("ID", "NAME", "INSTRUCTIONS", "MAPS", "RUNS", "MATCHES", "DIGEST"),
            (
                (
                    entry.program,
                    entry.name,
                    entry.instructions,
                    entry.maps,
                    entry.runs,
                    entry.matches,
                    entry.digest.hex()[:_DIGEST_SHOWN],
                )
                for entry in entries
            ),
        )


@program.command()
@client_options
@click.argument("bridge")
@click.argument("program_id", metavar="ID", type=PROGRAM_ID)
@click.option("--force", is_flag=True, help="Delete the flows that name it, too.")
@click.pass_obj
def unload(invocation: Invocation, bridge: str, program_id: int, force: bool) -> None:
    """Unload a program, with its maps."""
    with invocation.connect(bridge) as client:
        client.command(ProgramUnload(program_id, UnloadFlag.FORCE if force else 0))
