"""What the commands that change a bridge share: texts from the command line and from files, and refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from oko.cli.entry import Invocation, read_file
from oko.errors import FlowError, OkoError
from oko.flow.text import parse_lines
from oko.flow.words import read_number

if TYPE_CHECKING:
    from ofext.messages import Message

T = TypeVar("T")

files_option = click.option(
    "--file",
    "files",
    metavar="FILE",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A file of them, one a line.",
)


def gather(parse: Callable[[str], T], texts: Iterable[str], files: Iterable[Path]) -> list[T]:
    """What `parse` makes of texts of the command line, and then of the lines of files. A text or file of - is the
    standard input. Raises OkoError."""
    texts = list(texts)
    parsed = [parse(text) for text in texts if text != "-"]
    for path in (*files, *(Path(text) for text in texts if text == "-")):
        parsed += read_lines(parse, path)
    if not parsed and not files and not texts:
        raise click.UsageError("nothing to send: give it as arguments, with --file, or - for the standard input")
    return parsed


def read_lines(parse: Callable[[str], T], path: Path) -> list[T]:
    """What `parse` makes of the lines of a file; - is the standard input. Raises OkoError."""
    source = "standard input" if str(path) == "-" else str(path)
    return parse_lines(parse, read_file(path).decode("utf-8", "surrogateescape").splitlines(), source)


def send(
    invocation: Invocation,
    bridge: str,
    what: str,
    changes: Sequence[T],
    write: Callable[[T], Message],
    name: Callable[[T], str],
) -> None:
    """Send changes, each as the message that `write` makes of it; `what` is the plural of what they are.

    Raises OkoError if one is refused: one line about the first, all in the details, by their `name`.
    """
    with invocation.connect(bridge) as client:
        refusals = client.send_all(map(write, changes))
    refused = [f"{name(change)}: {error}" for change, error in zip(changes, refusals, strict=True) if error is not None]
    if refused:
        count = f"{len(refused)} of {len(changes)} {what} refused, the first: " if len(changes) > 1 else ""
        raise OkoError(count + refused[0], details="\n".join(refused) if len(refused) > 1 else "")


def number_of(key: str) -> Callable[[click.Context, click.Parameter, str | None], int | None]:
    """The callback of an argument that is a number, alone or as ``key=NUMBER``."""

    def read(_context: click.Context, _parameter: click.Parameter, text: str | None) -> int | None:
        if text is None:
            return None
        try:
            return read_number(key, text.removeprefix(f"{key}="), 32, FlowError)
        except OkoError as error:
            raise click.BadParameter(str(error)) from None

    return read
