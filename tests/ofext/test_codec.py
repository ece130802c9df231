"""The declarations: one struct per run of numbers, the parts one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from ofext.codec import (
    BAD_LEN,
    U8,
    U16,
    U32,
    U64,
    Aligned,
    Array,
    Chars,
    Counted,
    Elements,
    Exactly,
    Family,
    Layout,
    Pad,
    Padding,
    Part,
    Prefixed,
    Recurring,
    Repeat,
    Rest,
    Row,
    Sized,
    Spanned,
    Text,
)
from oko.errors import LimitExceeded, ProtocolError


@dataclass(frozen=True, slots=True)
class Sample:
    """Numbers, a part in the middle, numbers again, a part at the end."""

    a: Annotated[U8, Pad(3)]
    b: U32
    c: Annotated[bytes, Exactly(2), Pad(2)]
    d: U64
    e: U16
    f: Annotated[str, Text("B", 3)]
    unwritten: int = 9


LAYOUT = Layout(Sample, lead=4)
SAMPLE = Sample(1, 2, b"cc", 4, 5, "f")
BYTES = bytes.fromhex("00000000 01000000 00000002 6363 0000 0000000000000004 0005 01 66")


def test_a_layout_there_and_back() -> None:
    assert LAYOUT.write(SAMPLE) == BYTES
    assert LAYOUT.read(b"??" + BYTES + b"??", 2, 2 + len(BYTES)) == (SAMPLE, 2 + len(BYTES))


def test_runs_of_numbers_are_one_struct() -> None:
    assert [numbers.format for numbers, _, _, _ in LAYOUT._segments] == [">4xB3xI0x", ">2xQ0xH0x"]


@pytest.mark.parametrize("length", range(len(BYTES)))
def test_a_layout_cut_anywhere(length: int) -> None:
    with pytest.raises(ProtocolError):
        LAYOUT.read(BYTES, 0, length)


def test_the_same_bytes_give_the_same_value() -> None:
    part = Recurring(Repeat(Exactly(2)), longest=4)
    first, end = part.read(b"?abcd", 1, 5)
    assert (first, end) == ((b"ab", b"cd"), 5)
    assert part.read(b"abcd", 0, 4)[0] is first
    assert part.read(b"abcdef", 0, 6)[0] is not part.read(b"abcdef", 0, 6)[0]


def test_the_same_value_gives_the_same_bytes() -> None:
    part = Recurring(Repeat(Exactly(2)), limit=2, longest=4)
    first = part.write((b"ab", b"cd"))
    assert first == b"abcd"
    assert part.write((b"ab", b"cd")) is first
    assert part.write((b"ab", b"cd", b"ef")) is not part.write((b"ab", b"cd", b"ef"))
    assert [part.write((each,)) for each in (b"ab", b"cd", b"ef", b"ab")] == [b"ab", b"cd", b"ef", b"ab"]


def test_rows() -> None:
    assert LAYOUT.rows(8) == [
        Row("12", "1", "a"),
        Row("16", "4", "b"),
        Row("20", "2", "c"),
        Row("24", "8", "d"),
        Row("32", "2", "e"),
        Row("34", "1 + n", "f"),
    ]


@dataclass(frozen=True, slots=True)
class Gap:
    """A number, a gap for the length, and the rest."""

    number: Annotated[U8, Pad(2)]
    rest: Annotated[bytes, Rest()]


@dataclass(frozen=True, slots=True)
class Raw:
    """An element of no class."""

    type: int
    body: bytes


def elements(padding: Padding) -> Elements:
    return Elements(Family("element"), Raw, padding=padding, what=BAD_LEN)


PARTS: dict[str, tuple[Part, Any, bytes]] = {
    "exactly": (Exactly(3), b"abc", b"abc"),
    "chars": (Chars(6), "p1", b"p1\0\0\0\0"),
    "chars, full": (Chars(3), "p1", b"p1\0"),
    "chars, not UTF-8": (Chars(4), "p\udcff", b"p\xff\0\0"),
    "rest": (Rest(), b"abc", b"abc"),
    "counted": (Counted("H"), b"abc", b"\0\3abc"),
    "text": (Text("B"), "né", b"\3n\xc3\xa9"),
    "repeat": (Repeat(Exactly(2)), (b"ab", b"cd"), b"abcd"),
    "repeat, none": (Repeat(Exactly(2)), (), b""),
    "sized": (Sized(Exactly(2)), b"ab", b"\0\4ab"),
    "rest, even": (Rest(2), b"abcd", b"abcd"),
    "recurring": (Recurring(Repeat(Exactly(2))), (b"ab", b"cd"), b"abcd"),
    "recurring, long": (Recurring(Rest(), longest=2), b"abc", b"abc"),
    "array": (Array("H", 2), (1, 2), b"\0\1\0\2"),
    "spanned": (Spanned(Layout(Gap), 1), Gap(7, b"abc"), b"\7\0\6abc"),
    "prefixed": (Prefixed("Hx", Rest()), b"abc", b"\0\3\0abc"),
    "aligned": (Aligned(Exactly(5), before=4, what=BAD_LEN), b"abcde", b"abcde" + bytes(7)),
    "aligned, nothing to pad": (Aligned(Exactly(4), before=4, what=BAD_LEN), b"abcd", b"abcd"),
    "elements, padding counted": (elements(Padding.COUNTED), (Raw(1, b"abcd"),), b"\0\1\0\10abcd"),
    "elements, padding behind": (elements(Padding.BEHIND), (Raw(1, b"a"),), b"\0\1\0\5a\0\0\0"),
    "elements, no padding": (elements(Padding.NONE), (Raw(1, b"a"), Raw(2, b"")), b"\0\1\0\5a\0\2\0\4"),
}


@pytest.mark.parametrize(("part", "value", "data"), PARTS.values(), ids=PARTS.keys())
def test_a_part_there_and_back(part: Part, value: Any, data: bytes) -> None:
    assert part.write(value) == data
    assert part.read(b"?" + data, 1, 1 + len(data)) == (value, 1 + len(data))


def test_chars_end_at_the_first_nul_and_are_never_unended() -> None:
    assert Chars(6).read(b"p1\0p2\0", 0, 6) == ("p1", 6)
    assert Chars(3).read(b"abc", 0, 3) == ("ab", 3)


UNREADABLE: dict[str, tuple[Part, bytes]] = {
    "exactly": (Exactly(3), b"ab"),
    "chars": (Chars(3), b"ab"),
    "counted, no count": (Counted("H"), b"\0"),
    "counted, too few": (Counted("H"), b"\0\3ab"),
    "counted, too many": (Counted("B", 2), b"\3abc"),
    "text": (Text("B"), b"\1\xff"),
    "repeat": (Repeat(Exactly(2)), b"abc"),
    "sized, no length": (Sized(Rest()), b"\0"),
    "sized, below the length": (Sized(Rest()), b"\0\1"),
    "sized, too few": (Sized(Rest()), b"\0\4a"),
    "sized, too many": (Sized(Exactly(1)), b"\0\4ab"),
    "rest, odd": (Rest(2), b"abc"),
    "array": (Array("H", 2), b"\0\1\0"),
    "spanned, no length": (Spanned(Layout(Gap), 1), b"\7\0"),
    "spanned, length before its end": (Spanned(Layout(Gap), 1), b"\7\0\2abc"),
    "spanned, too few": (Spanned(Layout(Gap), 1), b"\7\0\7abc"),
    "spanned, too many": (Spanned(Array("B", 3), 1), b"\7\0\4a"),
    "prefixed, no length": (Prefixed("Hx", Rest()), b"\0\0"),
    "prefixed, too few": (Prefixed("Hx", Rest()), b"\0\2\0a"),
    "prefixed, too many": (Prefixed("Hx", Exactly(1)), b"\0\2\0ab"),
    "aligned, no padding": (Aligned(Exactly(5), before=4, what=BAD_LEN), b"abcde"),
    "elements, padding counted": (elements(Padding.COUNTED), b"\0\1\0\11abcde"),
    "elements, padding cut off": (elements(Padding.BEHIND), b"\0\1\0\5a"),
}


@pytest.mark.parametrize(("part", "data"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_part_that_cannot_be_read(part: Part, data: bytes) -> None:
    with pytest.raises(ProtocolError):
        part.read(data, 0, len(data))


UNWRITABLE: dict[str, tuple[Part, Any, type[Exception]]] = {
    "exactly": (Exactly(3), b"ab", ProtocolError),
    "chars, too long": (Chars(3), "abc", ProtocolError),
    "chars, NUL": (Chars(3), "\0", ProtocolError),
    "counted": (Counted("B", 2), b"abc", LimitExceeded),
    "text, too long": (Text("B", 2), "né", LimitExceeded),
    "text, surrogate": (Text("B"), "\udcff", ProtocolError),
    "sized": (Sized(Rest()), bytes(0xFFFE), LimitExceeded),
    "rest, odd": (Rest(2), b"abc", ProtocolError),
    "array, too few": (Array("H", 2), (1,), ProtocolError),
    "array, too large": (Array("H", 2), (1, 0x10000), ProtocolError),
    "spanned": (Spanned(Rest(), 0), bytes(0x10000), LimitExceeded),
    "prefixed": (Prefixed("H", Rest()), bytes(0x10000), LimitExceeded),
    "elements, padding counted": (elements(Padding.COUNTED), (Raw(1, b"abc"),), ProtocolError),
    "elements, type": (elements(Padding.NONE), (Raw(1 << 16, b""),), ProtocolError),
    "elements, length": (elements(Padding.NONE), (Raw(1, bytes(0xFFFC)),), LimitExceeded),
}


@pytest.mark.parametrize(("part", "value", "error"), UNWRITABLE.values(), ids=UNWRITABLE.keys())
def test_a_part_that_cannot_be_written(part: Part, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        part.write(value)
