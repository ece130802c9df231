"""`oko-verify`: judge filter programs without a switch, and explain what is wrong with them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

import click

import oko
import verifier
from oko.cli.entry import read_file, run
from oko.cli.output import json_option
from oko.errors import LimitExceeded, NotReadable, OkoError, Rejected
from verifier.cfg import dot
from verifier.check import check, check_structure
from verifier.codes import CODES
from verifier.elf import MAX_INSTRUCTIONS, load
from verifier.findings import Tracking
from verifier.limits import DEFAULT, KERNEL_BUDGET
from verifier.program import Program
from verifier.rejection import Paint, Rejection, plain
from verifier.trace import trace

_INSTALLED: Final = Path(verifier.__file__).parent / "rejections"
PAGES: Final = _INSTALLED if _INSTALLED.is_dir() else Path(verifier.__file__).parents[1] / "docs" / "rejections"
"""The page of every code, ``CODE.md``: in an installed package, or in the source tree."""

_LOOKS: Final[dict[str, dict[str, Any]]] = {
    "place": {"bold": True},
    "code": {"fg": "red", "bold": True},
    "source": {"fg": "cyan"},
    "mark": {"fg": "red", "bold": True},
    "label": {"bold": True},
    "mend": {"fg": "green"},
}


_BEYOND_BUDGET: Final = (
    f"the kernel may give up on it (kernel-budget): it follows more ways than we do, and looks at {KERNEL_BUDGET}"
    " instructions at most; use fewer branches whose results are used together"
)
_HAVE_GRAPH: Final = frozenset({"bad-call", "forbidden-helper", "unreachable", "cycle", "recursion"})
"""Structural faults of programs whose jumps are sound."""


class Verdict(IntEnum):
    """The outcome for one file, which is the exit status for one file; the highest counts."""

    ACCEPTED = 0
    REJECTED = 1
    NOT_READABLE = 2


def _explain(context: click.Context, _parameter: click.Parameter, code: str | None) -> None:
    if code is None:
        return
    path = PAGES / f"{code}.md"
    click.echo(read_file(path).decode().rstrip("\n"))
    context.exit()


@click.command("oko-verify")
@click.version_option(oko.__version__, prog_name="oko-verify")
@click.argument("files", metavar="FILE...", type=click.Path(path_type=Path), nargs=-1, required=True)
@json_option
@click.option("--trace", "as_trace", is_flag=True, help="Print the program with what is known before each instruction.")
@click.option("--cfg", "as_graph", is_flag=True, help="Print the control-flow graph for Graphviz.")
@click.option(
    "--explain",
    metavar="CODE",
    type=click.Choice(sorted(CODES)),
    is_eager=True,
    expose_value=False,
    callback=_explain,
    help="Print the page on a kind of fault, and exit.",
)
def command(files: tuple[Path, ...], *, as_json: bool, as_trace: bool, as_graph: bool) -> int:
    """Say of every object FILE whether the switch would accept it as a filter program, and if not, why.

    Exit status: 0 if all are accepted, 1 if one is rejected, 2 if one is not readable.
    """
    if as_json + as_trace + as_graph > 1:
        raise click.UsageError("choose one of --json, --trace and --cfg")
    if as_json:
        results = [_json(path) for path in files]
        click.echo(json.dumps([result for _, result in results], indent=1, ensure_ascii=False))
        return max(verdict for verdict, _ in results)
    show: Callable[[Path], Verdict] = _graph if as_graph else _trace if as_trace else report
    return max(show(path) for path in files)


def main() -> None:
    """The entry point of `oko-verify`."""
    run(command)


def _judge(path: Path) -> tuple[Program, Tracking]:
    """Raises NotReadable, LimitExceeded and Rejected."""
    try:
        data = read_file(path)
    except OkoError as error:
        raise NotReadable(str(error).removeprefix(f"{path}: ")) from None
    program = load(data)
    return program, check(program)


def report(path: Path) -> Verdict:
    """Print for people what becomes of an object file: one line if it is accepted, else what is wrong."""
    try:
        program, tracking = _judge(path)
    except Rejected as error:
        rejection = error.rejection
        assert isinstance(rejection, Rejection)
        click.echo(f"{path}: rejected\n\n{rejection.report(_paint())}")
        click.echo(f"more about it: oko-verify --explain {rejection.code}")
        return Verdict.REJECTED
    except LimitExceeded as error:
        click.echo(f"{path}: rejected: {error}")
        return Verdict.REJECTED
    except NotReadable as error:
        click.echo(f"{path}: not readable: {error}", err=True)
        return Verdict.NOT_READABLE
    maps = ", ".join(spec.name for spec in program.maps)
    click.echo(
        f"{path}: accepted: {program.name}, {len(program.instructions)} of {MAX_INSTRUCTIONS} instructions,"
        f" {tracking.stack} of {DEFAULT.stack} bytes of stack, {tracking.work} steps of work,"
        f" {f'maps {maps}' if maps else 'no maps'}"
    )
    if tracking.may_exceed_the_kernel:
        click.echo(f"{path}: warning: {_BEYOND_BUDGET}", err=True)
    return Verdict.ACCEPTED


def _json(path: Path) -> tuple[Verdict, dict[str, Any]]:
    """For programs."""
    result: dict[str, Any] = {"file": str(path)}
    try:
        program, tracking = _judge(path)
    except Rejected as error:
        rejection = error.rejection
        assert isinstance(rejection, Rejection)
        return Verdict.REJECTED, {**result, "verdict": "rejected", "rejection": rejection.to_json()}
    except LimitExceeded as error:
        limit = {"what": error.what, "used": error.used, "limit": error.limit}
        return Verdict.REJECTED, {**result, "verdict": "rejected", "limit": limit}
    except NotReadable as error:
        return Verdict.NOT_READABLE, {**result, "verdict": "not readable", "error": str(error)}
    return Verdict.ACCEPTED, {
        **result,
        "verdict": "accepted",
        "name": program.name,
        "instructions": len(program.instructions),
        "stack": tracking.stack,
        "work": tracking.work,
        "warning": _BEYOND_BUDGET if tracking.may_exceed_the_kernel else None,
        "maps": [spec.name for spec in program.maps],
    }


def _trace(path: Path) -> Verdict:
    return _dump(path, trace)


def _graph(path: Path) -> Verdict:
    return _dump(path, lambda program: iter(dot(program).splitlines()), _HAVE_GRAPH)


def _dump(path: Path, lines: Callable[[Program], Iterator[str]], faults: frozenset[str] = frozenset()) -> Verdict:
    """Print what `lines` makes of the program, if its structure has no faults but of these codes; the verdict is that
    of all checks."""
    try:
        program = load(read_file(path))
        try:
            check_structure(program)
        except Rejected as error:
            if error.code not in faults:
                raise
        for line in lines(program):
            click.echo(line)
        check(program)
    except Rejected as error:
        click.echo(f"{path}: {error.code}: {error}", err=True)
        return Verdict.REJECTED
    except LimitExceeded as error:
        click.echo(f"{path}: rejected: {error}", err=True)
        return Verdict.REJECTED
    except OkoError as error:
        click.echo(f"{path}: not readable: {error}", err=True)
        return Verdict.NOT_READABLE
    return Verdict.ACCEPTED


def _paint() -> Paint:
    """Colours, when a terminal watches."""
    if not sys.stdout.isatty():
        return plain
    return lambda kind, text: click.style(text, **_LOOKS[kind])
