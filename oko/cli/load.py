"""`oko-load`: put a filter program into a bridge. The file goes over as it is: the switch reads and verifies it."""

from __future__ import annotations

from pathlib import Path

import click

import oko
from ofext.extension import LoadFlag, ProgramLoaded
from ofext.load import chunks
from oko.cli.entry import Invocation, client_options, read_file, run
from oko.cli.program import PROGRAM_ID
from oko.errors import OkoError, ProtocolError, RemoteError


@click.command("oko-load")
@client_options
@click.version_option(oko.__version__, prog_name="oko-load")
@click.argument("bridge")
@click.argument("program_id", metavar="ID", type=PROGRAM_ID)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--fresh-maps", is_flag=True, help="Give up what the maps of the program that it replaces hold.")
@click.option("--verify-only", is_flag=True, help="Only say whether the switch would accept it.")
@click.pass_obj
def command(
    invocation: Invocation, *, bridge: str, program_id: int, file: Path, fresh_maps: bool, verify_only: bool
) -> None:
    """Load the object FILE into BRIDGE as filter program ID, in the place of one of that ID.

    No packet is lost to it. Maps of the same name and shape keep their content.
    """
    elf = read_file(file)
    flags = LoadFlag(0)
    if fresh_maps:
        flags |= LoadFlag.FRESH_MAPS
    if verify_only:
        flags |= LoadFlag.VERIFY_ONLY
    with invocation.connect(bridge) as client:
        try:
            loaded = client.request(*chunks(program_id, "", elf, flags))
        except RemoteError as error:
            raise OkoError(f"{file}: {error}", details=error.details) from None
    if not isinstance(loaded, ProgramLoaded):
        raise ProtocolError(f"{bridge} answered a load with {type(loaded).__name__}")
    verb = "would be accepted" if verify_only else "loaded"
    click.echo(
        f"program {loaded.program} ({loaded.name}) {verb}: {loaded.instructions} instructions, {loaded.maps} maps"
    )


def main() -> None:
    """The entry point of `oko-load`."""
    run(command)
