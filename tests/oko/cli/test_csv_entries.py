from __future__ import annotations

import json
import struct
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oko.cli.csv_entries import batches, read_csv, read_entries, write_entries
from oko.errors import BadMapAccess, OkoError
from oko.switch.schema import Schema, Value, read
from oko.switch.schema import parse as parse_value

U32: Schema = {"kind": "int", "size": 4, "signed": False, "network": False}
IPV4: Schema = {"kind": "ipv4", "size": 4}
UNIT: Schema = {"kind": "enum", "size": 4, "signed": False, "values": {"PACKETS": 0, "BYTES": 1}}
PREFIX: Schema = {
    "kind": "struct",
    "size": 8,
    "members": [{"name": "length", "offset": 0, "type": U32}, {"name": "addr", "offset": 4, "type": IPV4}],
}
LIMIT: Schema = {
    "kind": "struct",
    "size": 12,
    "members": [{"name": "rate", "offset": 0, "type": U32}, {"name": "unit", "offset": 4, "type": UNIT}],
}
NESTED: Schema = {"kind": "struct", "size": 12, "members": [{"name": "limit", "offset": 0, "type": LIMIT}]}


def parse(described: Schema, text: str) -> Value:
    """As `oko map update` reads its arguments, in short."""
    if described["kind"] in ("ipv4", "enum"):
        return text
    try:
        value: Value = json.loads(text)
    except ValueError:
        raise BadMapAccess(f"{text!r} is not JSON") from None
    return value


def entries(text: str, key: Schema = IPV4, value: Schema = LIMIT) -> list[tuple[bytes, bytes]]:
    return list(read_entries(text.splitlines(keepends=True), "limits.csv", key, value, parse))


ONE = bytes((192, 0, 2, 1))
TEXTS: dict[str, tuple[str, Schema, Schema, list[tuple[bytes, bytes]]]] = {
    "whole values": ("key,value\n1,2\n3,4\n", U32, U32, [(b"\1\0\0\0", b"\2\0\0\0"), (b"\3\0\0\0", b"\4\0\0\0")]),
    "columns in any order": ("value,key\n1,2\n", U32, U32, [(b"\2\0\0\0", b"\1\0\0\0")]),
    "members": ("key,value.unit,value.rate\n192.0.2.1,BYTES,7\n", IPV4, LIMIT, [(ONE, struct.pack("=III", 7, 1, 0))]),
    "members of members": ("key,value.limit.rate\n192.0.2.1,7\n", IPV4, NESTED, [(ONE, struct.pack("=III", 7, 0, 0))]),
    "a member that is a struct": (
        'key,value.limit\n192.0.2.1,"{""rate"": 7}"\n',
        IPV4,
        NESTED,
        [(ONE, struct.pack("=III", 7, 0, 0))],
    ),
    "a struct as JSON": ('key,value\n192.0.2.1,"{""rate"": 7}"\n', IPV4, LIMIT, [(ONE, struct.pack("=III", 7, 0, 0))]),
    "members of the key": ("key.length,key.addr\n32,192.0.2.1\n", PREFIX, LIMIT, [(b"\x20\0\0\0" + ONE, bytes(12))]),
    "keys alone": ("key\n192.0.2.1\n", IPV4, LIMIT, [(ONE, bytes(12))]),
    "an empty cell": (
        "key,value.rate,value.unit\n192.0.2.1,,BYTES\n",
        IPV4,
        LIMIT,
        [(ONE, struct.pack("=III", 0, 1, 0))],
    ),
    "spaces, comments and empty lines": (
        "# limits\n\nkey , value.rate\n  # one\n192.0.2.1 ,  7\n \n",
        IPV4,
        LIMIT,
        [(ONE, struct.pack("=III", 7, 0, 0))],
    ),
    "a quote in a comment": ("key\n# it's \"here\n192.0.2.1\n", IPV4, LIMIT, [(ONE, bytes(12))]),
    "lines that end as on Windows": ("key\r\n192.0.2.1\r\n", IPV4, LIMIT, [(ONE, bytes(12))]),
    "no last line feed": ("key\n192.0.2.1", IPV4, LIMIT, [(ONE, bytes(12))]),
    "no entries": ("key\n", IPV4, LIMIT, []),
}


@pytest.mark.parametrize(("text", "key", "value", "expected"), TEXTS.values(), ids=TEXTS)
def test_texts(text: str, key: Schema, value: Schema, expected: list[tuple[bytes, bytes]]) -> None:
    assert entries(text, key, value) == expected


REFUSED: dict[str, tuple[str, str]] = {
    "nothing": ("", "limits.csv, line 1: the header is missing: it names the columns, as in key,value"),
    "no header": ("192.0.2.1\n", "line 1: no column '192.0.2.1': there are key, value and their members"),
    "no key": ("value.rate\n1\n", "line 1: no column for the key"),
    "another member": ("key,value.burst\n", "no member 'burst' in column 'value.burst': there are rate, unit"),
    "a member of a number": ("key,value.rate.low\n", "no member 'low' in column 'value.rate.low'"),
    "a column twice": ("key,key\n", "the columns 'key' and 'key' are of the same thing"),
    "a struct and its member": ("key,value.rate,value\n", "the columns 'value.rate' and 'value' are of the same thing"),
    "a cell too many": ("# a comment\nkey\n192.0.2.1,7\n", "limits.csv, line 3: 2 cells, but 1 columns"),
    "a cell too few": ("key,value.rate\n192.0.2.1\n", "line 2: 1 cells, but 2 columns"),
    "no address": ("key\n192.0.2.1\n192.0.2\n", "line 3: '192.0.2' is no IPv4 address"),
    "no JSON": ("key,value.rate\n192.0.2.1,x\n", "line 2: 'x' is not JSON"),
    "too large": ("key,value.rate\n192.0.2.1,4294967296\n", "line 2: 4294967296 does not fit in 4 bytes"),
    "a quote without end": ('key,value.rate\n192.0.2.1,"7\n', "line 2: unexpected end of data"),
}


@pytest.mark.parametrize(("text", "complaint"), REFUSED.values(), ids=REFUSED)
def test_texts_that_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(BadMapAccess) as refused:
        entries(text)
    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    ("text", "key", "value", "complaint"),
    [
        pytest.param("key\n1\n", U32, U32, "line 1: no column for the value", id="a value without a column"),
        pytest.param("key.length\n\n,\n", PREFIX, LIMIT, "line 3: 2 cells, but 1 columns", id="cells"),
        pytest.param("key.length,key.addr\n,\n", PREFIX, LIMIT, "all cells of the key are empty", id="an empty key"),
    ],
)
def test_keys_and_values_that_are_missing(text: str, key: Schema, value: Schema, complaint: str) -> None:
    with pytest.raises(BadMapAccess, match=complaint):
        entries(text, key, value)


def test_entries_before_a_fault_are_given() -> None:
    found = read_entries(["key\n", "192.0.2.1\n", "x\n"], "f", IPV4, LIMIT, parse)
    assert next(found) == (ONE, bytes(12))
    with pytest.raises(BadMapAccess):
        next(found)


TEXT: Schema = {"kind": "bytes", "size": 3}
PAIR: Schema = {"kind": "array", "size": 8, "element": U32}
FLAG: Schema = {"kind": "bool", "size": 1}
MIXED: Schema = {
    "kind": "struct",
    "size": 28,
    "members": [
        {"name": name, "offset": offset, "type": described}
        for name, offset, described in (
            *(("text", 0, TEXT), ("flag", 3, FLAG), ("pair", 4, PAIR)),
            *(("limit", 12, LIMIT), ("address", 24, IPV4)),
        )
    ],
}


@given(st.lists(st.tuples(st.binary(min_size=4, max_size=4), st.binary(min_size=28, max_size=28)), max_size=5))
def test_what_is_written_is_read_again(given_entries: list[tuple[bytes, bytes]]) -> None:
    shown = [(read(IPV4, key), read(MIXED, value)) for key, value in given_entries]
    found = read_entries(write_entries(shown).splitlines(keepends=True), "f", IPV4, _described(shown), parse_value)
    assert [(read(IPV4, key), read(MIXED, value)) for key, value in found] == shown


def _described(shown: list[tuple[Value, Value]]) -> Schema:
    """Without entries the columns are key and value, which is then no struct."""
    return MIXED if shown else U32


def test_what_is_written() -> None:
    limits: list[tuple[Value, Value]] = [("192.0.2.1", {"limit": {"rate": 7, "unit": "BYTES"}, "pair": [1, 2]})]
    assert write_entries(limits) == 'key,value.limit.rate,value.limit.unit,value.pair\n192.0.2.1,7,BYTES,"[1, 2]"\n'


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "limits.csv"
    path.write_text("key\n192.0.2.1\nx\n")
    found = read_csv(path, IPV4, LIMIT)
    assert next(found) == (ONE, bytes(12))
    with pytest.raises(BadMapAccess, match=r"limits\.csv, line 3: "):
        next(found)
    with pytest.raises(OkoError, match=r"none\.csv: No such file"):
        read_csv(tmp_path / "none.csv", IPV4, LIMIT)


@given(st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=20))), st.integers(1, 100))
def test_batches(given_entries: list[tuple[bytes, bytes]], size: int) -> None:
    found = list(batches(given_entries, size))
    assert [entry for batch in found for entry in batch] == given_entries
    for batch in found:
        assert len(batch) == 1 or sum(len(key) + len(value) + 4 for key, value in batch) <= size
    for batch, following in pairwise(found):
        key, value = following[0]
        assert sum(len(key) + len(value) + 4 for key, value in batch) + len(key) + len(value) + 4 > size
