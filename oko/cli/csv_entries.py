"""Entries of a map in a CSV file: a line for each, and a header that says what the columns are.

    key,value.rate,value.unit
    # one customer
    192.0.2.0/24,1000,PACKETS

A column is `key`, `value`, or a member of either: `value.rate`, `key.addr.word`. A cell is what `oko map update` takes
on the command line. Columns for the whole value may be left out, if it is a struct: its members are then zero, as are
those without a column and those whose cell is empty. Empty lines and lines that begin with # are skipped.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from oko.errors import BadMapAccess
from oko.switch.schema import Schema, Value, write

Entry = tuple[bytes, bytes]

BATCH: Final = 32_768
"""Bytes of keys and values that are worth a message of their own: two bytes more for each still fit in 64 KiB."""


def read_entries(
    lines: Iterable[str], source: str, key: Schema, value: Schema, parse: Callable[[Schema, str], Value]
) -> Iterator[Entry]:
    """The bytes of every key and value, in the order of the lines. `source` is what the lines are called in messages,
    `parse` makes a value of a cell.

    Raises BadMapAccess, which names the line.
    """
    rows = _rows(lines, source)
    number, header = next(rows, (1, []))
    columns = _located(source, number, lambda: _columns(header, {"key": key, "value": value}))
    for number, row in rows:
        yield _located(source, number, lambda row=row: _entry(row, columns, key, value, parse))  # type: ignore[misc]


def batches(entries: Iterable[Entry], size: int = BATCH) -> Iterator[tuple[Entry, ...]]:
    """The entries in groups of at most `size` bytes, or of one that is larger."""
    batch: list[Entry] = []
    used = 0
    for key, value in entries:
        if batch and used + len(key) + len(value) > size:
            yield tuple(batch)
            batch, used = [], 0
        batch.append((key, value))
        used += len(key) + len(value)
    if batch:
        yield tuple(batch)
