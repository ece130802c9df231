"""`oko program new`, `build` and `test`: from nothing to a filter program that is tested, without a switch."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from oko.author.clang import CLANG, compile_filter
from oko.author.packets import parse_packets
from oko.author.skeleton import write_skeleton
from oko.author.trial import PROGRAM, Outcome, Trial, word
from oko.cli.entry import common_options, read_file
from oko.cli.offline import read_programs
from oko.cli.verify import Verdict, report
from oko.errors import NotCompiled, OkoError
from oko.kernel.features import can_load_bpf
from oko.switch.objects import read_runtime

_SOURCE: Final = ".c"
_OBJECT: Final = ".o"
_TABLE: Final = ".toml"
_WHERE: Final = {"kernel": "in the kernel", "reference": "in Python"}

_clang_option = click.option(
    "--clang", metavar="CLANG", default=CLANG, envvar="CLANG", help="The compiler.  [env: CLANG; default: clang]"
)


@click.command()
@common_options
@click.argument("name")
@click.argument("directory", metavar="[DIR]", type=click.Path(path_type=Path), default=Path())
def new(name: str, directory: Path) -> None:
    """Write the skeleton of a filter program.

    DIR gets NAME.c, and NAME.toml, packets that test it.
    """
    for path in write_skeleton(name, directory):
        click.echo(path)


@click.command()
@common_options
@click.argument("source", metavar="FILE.c", type=click.Path(path_type=Path))
@click.option(
    "-o", "target", metavar="OUT", type=click.Path(path_type=Path), help="The object file.  [default: FILE.o]"
)
@_clang_option
def build(source: Path, target: Path | None, clang: str) -> int:
    """Compile FILE.c, and say whether the switch would accept it.

    The headers of the SDK are found. What is said is what oko-verify says.

    Exit status: 0 if it is accepted, 1 if it does not compile or is rejected.
    """
    return report(_compiled(source, target, clang))


@click.command()
@common_options
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--packets",
    "table",
    metavar="TABLE",
    type=click.Path(path_type=Path),
    help="The table of packets.  [default: FILE.toml]",
)
@click.option(
    "--engine",
    type=click.Choice(tuple(_WHERE)),
    help="Where the program runs: in the kernel, or in the reference switch, in Python, which needs no rights."
    "  [default: in the kernel if it may]",
)
@_clang_option
def test(file: Path, table: Path | None, engine: str | None, clang: str) -> int:
    """Test the program FILE with a table of packets.

    What it says of them is compared, and what its maps hold.

    FILE is an object, or a source in C, which is compiled first. The packets go through it in their order, by the
    clock of the table. 'oko program new' writes a table, with what may stand in one.

    Exit status: 0 if everything is as expected.
    """
    path = table or file.with_suffix(_TABLE)
    tests = parse_packets(read_file(path).decode(errors="replace"), str(path))
    if file.suffix == _SOURCE:
        file = _compiled(file, None, clang)
        verdict = report(file)
        if verdict is not Verdict.ACCEPTED:
            return verdict
    program = read_programs(((PROGRAM, file),))[PROGRAM]
    if engine is None:
        engine = "reference" if can_load_bpf() else "kernel"
    with Trial(program, tests, read_runtime(), in_kernel=engine == "kernel") as trial:
        failed = sum(_shows_failure(outcome) for outcome in trial.run())
    click.echo(f"{len(tests) - failed} of {len(tests)} packets as expected, {_WHERE[engine]}")
    return 1 if failed else 0


def _compiled(source: Path, target: Path | None, clang: str) -> Path:
    """Compile; the compiler's own words go to stderr. Raises OkoError."""
    if source.suffix != _SOURCE:
        raise OkoError(f"{source} is no source: its name ends in {_SOURCE}")
    path = target or source.with_suffix(_OBJECT)
    try:
        compile_filter(source, path, clang)
    except NotCompiled as error:
        click.echo(error.details, nl=False, err=True)
        raise OkoError(str(error)) from None
    return path


def _shows_failure(outcome: Outcome) -> bool:
    """Print the line of a packet, and one for each difference; whether there are any."""
    name, answer = outcome.test.name, word(outcome.matched)
    click.echo(f"{'FAILED' if outcome.differences else 'passed'}  {name}: {answer}")
    for difference in outcome.differences:
        click.echo(f"        {difference.what}: {difference.found}, expected {difference.expected}")
    return bool(outcome.differences)
