"""What commands print: JSON for programs, aligned columns for people."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_json(value: Any) -> None:
    """`value` as JSON, indented."""
    click.echo(json.dumps(value, indent=1, ensure_ascii=False))


def print_columns(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table as wide as its content; without rows nothing. Numbers stand on the right."""
    body = list(rows)
    if not body:
        return
    numeric = [all(isinstance(row[column], int) for row in body) for column in range(len(header))]
    lines = [list(header), *([str(cell) for cell in row] for row in body)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ]
        click.echo("  ".join(cells).rstrip())
