"""Entries of a map in a CSV file: a line for each, and a header that says what the columns are.

    key,value.rate,value.unit
    # one customer
    192.0.2.0/24,1000,PACKETS

A column is `key`, `value`, or a member of either: `value.rate`, `value.hosts.first`. A cell is what `oko map update`
takes on the command line. Members of a struct that have no column, or whose cell is empty, are zero; the value of a
struct needs no column at all. Empty lines and lines that begin with # are skipped.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from oko.cli.entry import read_file
from oko.errors import BadMapAccess
from oko.switch.schema import Schema, Value, parse, write

Entry = tuple[bytes, bytes]
Parse = Callable[[Schema, str], Value]

BATCH: Final = 60_000
"""Bytes of entries in a message of 64 KiB, to leave room for what else is in it."""

_OVERHEAD: Final = 4  # bytes that a message has for the lengths of a key and a value


def read_csv(path: Path, key: Schema, value: Schema) -> Iterator[Entry]:
    """The bytes of every key and value in a file; ``-`` is the standard input. Raises OkoError."""
    lines = read_file(path).decode("utf-8", "surrogateescape").splitlines(keepends=True)
    return read_entries(lines, str(path), key, value, parse)


def write_entries(entries: Iterable[tuple[Value, Value]]) -> str:
    """The text of a file with these entries, keys and values as `oko.switch.schema.read` gives them. All have the same
    members; there is a column for each that is no struct."""
    rows = [{**_flat("key", key), **_flat("value", value)} for key, value in entries]
    text = io.StringIO()
    columns = list(rows[0]) if rows else ["key", "value"]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _flat(column: str, value: Value) -> dict[str, str]:
    """The cells of a value, by column."""
    if not isinstance(value, dict):
        return {column: value if isinstance(value, str) else json.dumps(value)}
    return {name: cell for member, inner in value.items() for name, cell in _flat(f"{column}.{member}", inner).items()}


def read_entries(lines: Iterable[str], source: str, key: Schema, value: Schema, parse: Parse) -> Iterator[Entry]:
    """The bytes of every key and value, in the order of the lines, read as they are asked for.

    `source` is what the lines are called in messages, `key` and `value` say what a cell means, and `parse` makes a
    value of its text. Raises BadMapAccess, which names the line.
    """
    roots = {"key": key, "value": value}
    telling = _TellingLines(lines)
    rows = ([cell.strip() for cell in row] for row in csv.reader(telling, strict=True, skipinitialspace=True))
    try:
        header = next(rows, None)
        if header is None:
            raise BadMapAccess("the header is missing: it names the columns, as in key,value")
        columns = _columns(header, roots)
        for row in rows:
            found = _values(row, columns, roots, parse)
            yield write(key, found["key"]), write(value, found["value"])
    except (BadMapAccess, csv.Error) as error:
        raise BadMapAccess(f"{source}, line {telling.number}: {error}") from None


def batches(entries: Iterable[Entry], size: int = BATCH) -> Iterator[tuple[Entry, ...]]:
    """The entries in groups that take at most `size` bytes of a message."""
    batch: list[Entry] = []
    used = 0
    for key, value in entries:
        needed = len(key) + len(value) + _OVERHEAD
        if batch and used + needed > size:
            yield tuple(batch)
            batch, used = [], 0
        batch.append((key, value))
        used += needed
    if batch:
        yield tuple(batch)


class _TellingLines:
    """The lines that are neither empty nor comments. `number` is that of the last one given, from 1 on."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.number = 1
        self._numbered = enumerate(lines, 1)

    def __iter__(self) -> Iterator[str]:
        for number, line in self._numbered:
            if line.strip() and not line.lstrip().startswith("#"):
                self.number = number
                yield line


def _columns(header: list[str], roots: dict[str, Schema]) -> list[tuple[str, ...]]:
    """The columns, each a way down from `key` or `value`."""
    columns: list[tuple[str, ...]] = []
    for title in header:
        column = tuple(title.split("."))
        if column[0] not in roots:
            raise BadMapAccess(f"no column {title!r}: there are key, value and their members, such as value.NAME")
        _schema_of(column, roots)
        for other in columns:
            if column[: len(other)] == other or other[: len(column)] == column:
                raise BadMapAccess(f"the columns {'.'.join(other)!r} and {title!r} are of the same thing")
        columns.append(column)
    for root, described in roots.items():
        wanted = root == "key" or described["kind"] != "struct"
        if wanted and not any(column[0] == root for column in columns):
            raise BadMapAccess(f"no column for the {root}: name it, or its members, in the header")
    return columns


def _schema_of(column: tuple[str, ...], roots: dict[str, Schema]) -> Schema:
    described = roots[column[0]]
    for name in column[1:]:
        members = {member["name"]: member["type"] for member in described.get("members", ())}
        if name not in members:
            raise BadMapAccess(f"no member {name!r} in column {'.'.join(column)!r}: there are {', '.join(members)}")
        described = members[name]
    return described


def _values(row: list[str], columns: list[tuple[str, ...]], roots: dict[str, Schema], parse: Parse) -> dict[str, Value]:
    """The key and the value of a line."""
    if len(row) != len(columns):
        raise BadMapAccess(f"{len(row)} cells, but {len(columns)} columns")
    found: dict[str, Value] = {"value": {}}
    for column, cell in zip(columns, row, strict=True):
        if len(column) > 1 and not cell:
            continue
        inner = found
        for name in column[:-1]:
            deeper = inner.setdefault(name, {})
            assert isinstance(deeper, dict)
            inner = deeper
        inner[column[-1]] = parse(_schema_of(column, roots), cell)
    if "key" not in found:
        raise BadMapAccess("all cells of the key are empty")
    return found
