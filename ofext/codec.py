"""How structures of the wire are declared, one line per field, and from that read and written.

A structure is a frozen dataclass whose annotations say both the Python type and the shape on the wire, in wire order::

    @dataclass(frozen=True, slots=True)
    class TableStats:
        table_id: Annotated[U8, Pad(3)]
        active_count: U32
        lookup_count: U64
        matched_count: U64

    TABLE_STATS = Layout(TableStats)

`Layout` compiles the declaration once: every run of numbers and padding becomes one precompiled `struct.Struct`,
every other field keeps its `Part`. A `Family` tells structures apart by the number in front of them.

All numbers are in network order. Readers ignore the content of padding, writers fill it with zeros (OpenFlow 1.3.5,
7.1). Every reader gets the whole message with an offset and an end, and raises ProtocolError, never anything else,
for bytes that do not fit; every writer raises ProtocolError for values that do not fit, and LimitExceeded for too
many bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Annotated, Any, Final, Generic, Protocol, TypeVar, get_type_hints

from oko.errors import LimitExceeded, ProtocolError

from .errors import BY_NAME

T = TypeVar("T")

Fault = tuple[int, int]
"""Error type and code that a malformed structure answers with."""


def fault(name: str) -> Fault:
    """The type and code of an OpenFlow error, by name."""
    kind = BY_NAME[name]
    return kind.type, kind.code


BAD_LEN: Final = fault("bad-request/bad-len")
BAD_PACKET: Final = fault("bad-request/bad-packet")


def malformed(message: str, what: Fault = BAD_LEN) -> ProtocolError:
    """The error to raise for bytes that cannot be read."""
    return ProtocolError(message, error_type=what[0], error_code=what[1])


class Part(Protocol):
    """One piece of a structure that can be read and written. `extent` is its size in bytes as documentation writes
    it."""

    @property
    def extent(self) -> str: ...

    def read(self, data: bytes, offset: int, end: int) -> tuple[Any, int]:
        """The value at `offset` and the offset behind it, which is at most `end`."""

    def write(self, value: Any) -> bytes:
        """The bytes of `value`."""


@dataclass(frozen=True, slots=True)
class Number:
    """An unsigned integer, as a format character of `struct`."""

    format: str


@dataclass(frozen=True, slots=True)
class Pad:
    """Bytes of padding behind the field."""

    size: int


U8 = Annotated[int, Number("B")]
U16 = Annotated[int, Number("H")]
U32 = Annotated[int, Number("I")]
U64 = Annotated[int, Number("Q")]


@dataclass(frozen=True, slots=True)
class Exactly:
    """`size` bytes."""

    size: int

    @property
    def extent(self) -> str:
        return str(self.size)

    def read(self, data: bytes, offset: int, end: int) -> tuple[bytes, int]:
        stop = offset + self.size
        if stop > end:
            raise malformed(f"{self.size} bytes expected, {end - offset} left")
        return data[offset:stop], stop

    def write(self, value: bytes) -> bytes:
        if len(value) != self.size:
            raise malformed(f"{self.size} bytes expected, got {len(value)}")
        return value


@dataclass(frozen=True, slots=True)
class Chars:
    """Text in `size` bytes, ended by a NUL. Bytes that are not UTF-8 survive as surrogate escapes: names of ports are
    bytes to the kernel, and one odd name must not make the rest unreadable."""

    size: int

    @property
    def extent(self) -> str:
        return str(self.size)

    def read(self, data: bytes, offset: int, end: int) -> tuple[str, int]:
        stop = offset + self.size
        if stop > end:
            raise malformed(f"{self.size} bytes of text expected, {end - offset} left")
        return data[offset : stop - 1].split(b"\0", 1)[0].decode("utf-8", "surrogateescape"), stop

    def write(self, value: str) -> bytes:
        encoded = value.encode("utf-8", "surrogateescape")
        if len(encoded) >= self.size or b"\0" in encoded:
            raise malformed(f"the text {value!r} is not {self.size - 1} bytes or fewer without NUL")
        return encoded.ljust(self.size, b"\0")


@dataclass(frozen=True, slots=True)
class Array:
    """`count` unsigned integers of one `struct` format character, as a tuple."""

    format: str
    count: int

    @property
    def extent(self) -> str:
        return str(self.count * struct.calcsize(f">{self.format}"))

    def read(self, data: bytes, offset: int, end: int) -> tuple[tuple[int, ...], int]:
        layout = f">{self.count}{self.format}"
        stop = offset + struct.calcsize(layout)
        if stop > end:
            raise malformed(f"{self.count} numbers expected in {stop - offset} bytes, {end - offset} left")
        return struct.unpack_from(layout, data, offset), stop

    def write(self, value: tuple[int, ...]) -> bytes:
        try:
            return struct.pack(f">{self.count}{self.format}", *value)
        except struct.error as error:
            raise malformed(f"{value} are not {self.count} numbers that fit ({error})") from None


@dataclass(frozen=True, slots=True)
class Rest:
    """All bytes up to the end of the structure: a multiple of `multiple`."""

    multiple: int = 1

    @property
    def extent(self) -> str:
        return "n"

    def read(self, data: bytes, offset: int, end: int) -> tuple[bytes, int]:
        self._check(end - offset)
        return data[offset:end], end

    def write(self, value: bytes) -> bytes:
        self._check(len(value))
        return value

    def _check(self, length: int) -> None:
        if length % self.multiple:
            raise malformed(f"{length} bytes are not a multiple of {self.multiple}")


class Counted:
    """Bytes behind their number, which is a `struct` format character, and at most `most`."""

    def __init__(self, format_: str, most: int | None = None) -> None:
        self._count = struct.Struct(f">{format_}")
        self.most = (1 << 8 * self._count.size) - 1 if most is None else most
        self.extent = f"{self._count.size} + n"

    def read(self, data: bytes, offset: int, end: int) -> tuple[bytes, int]:
        start = offset + self._count.size
        if start > end:
            raise malformed("the length of a byte string is cut off")
        (length,) = self._count.unpack_from(data, offset)
        stop = start + length
        if stop > end or length > self.most:
            raise malformed(f"a byte string of {length} bytes: {end - start} are left, {self.most} allowed")
        return data[start:stop], stop

    def write(self, value: bytes) -> bytes:
        if len(value) > self.most:
            raise LimitExceeded("bytes of a byte string", len(value), self.most)
        return self._count.pack(len(value)) + value


class Text(Counted):
    """UTF-8 text behind the number of its bytes."""

    def read(self, data: bytes, offset: int, end: int) -> tuple[Any, int]:
        value, stop = super().read(data, offset, end)
        try:
            return value.decode(), stop
        except UnicodeDecodeError as error:
            raise malformed(f"text is not UTF-8: {error.reason} at byte {error.start}", BAD_PACKET) from None

    def write(self, value: Any) -> bytes:
        try:
            encoded = value.encode()
        except UnicodeEncodeError as error:
            raise malformed(f"text cannot be written as UTF-8: {error.reason}", BAD_PACKET) from None
        return super().write(encoded)


class Repeat:
    """A tuple of parts that follow each other up to the end of the structure."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.extent = f"n × {part.extent}"

    def read(self, data: bytes, offset: int, end: int) -> tuple[tuple[Any, ...], int]:
        items = []
        while offset < end:
            item, offset = self.part.read(data, offset, end)
            items.append(item)
        return tuple(items), offset

    def write(self, value: tuple[Any, ...]) -> bytes:
        return b"".join([self.part.write(item) for item in value])


class Sized:
    """A part behind a 16-bit length, which counts itself."""

    def __init__(self, part: Part) -> None:
        self.part = part
        self.extent = f"2 + {part.extent}"

    def read(self, data: bytes, offset: int, end: int) -> tuple[Any, int]:
        if end - offset < 2:
            raise malformed("the length of an entry is cut off")
        length = int.from_bytes(data[offset : offset + 2], "big")
        stop = offset + length
        if length < 2 or stop > end:
            raise malformed(f"an entry of {length} bytes, {end - offset} are left")
        item, reached = self.part.read(data, offset + 2, stop)
        if reached != stop:
            raise malformed(f"an entry of {length} bytes ends after {reached - offset}")
        return item, stop

    def write(self, value: Any) -> bytes:
        body = self.part.write(value)
        if len(body) + 2 > 0xFFFF:
            raise LimitExceeded("bytes of an entry", len(body) + 2, 0xFFFF)
        return (len(body) + 2).to_bytes(2, "big") + body


class Spanned:
    """A part that contains its own 16-bit length, `at` bytes behind its start. The part's declaration has padding
    there."""

    def __init__(self, part: Part, at: int) -> None:
        self.part = part
        self.at = at
        self.extent = part.extent

    def read(self, data: bytes, offset: int, end: int) -> tuple[Any, int]:
        behind = offset + self.at + 2
        if behind > end:
            raise malformed("the length of an entry is cut off")
        length = int.from_bytes(data[behind - 2 : behind], "big")
        stop = offset + length
        if stop < behind or stop > end:
            raise malformed(f"an entry of {length} bytes, {end - offset} are left")
        item, reached = self.part.read(data, offset, stop)
        if reached != stop:
            raise malformed(f"an entry of {length} bytes ends after {reached - offset}")
        return item, stop

    def write(self, value: Any) -> bytes:
        body = self.part.write(value)
        if len(body) > 0xFFFF:
            raise LimitExceeded("bytes of an entry", len(body), 0xFFFF)
        return body[: self.at] + len(body).to_bytes(2, "big") + body[self.at + 2 :]


class Prefixed:
    """A part behind the number of its bytes. `head` is the `struct` format of that number and its padding."""

    def __init__(self, head: str, part: Part) -> None:
        self._head = struct.Struct(f">{head}")
        self.part = part
        self.extent = f"{self._head.size} + {part.extent}"

    def read(self, data: bytes, offset: int, end: int) -> tuple[Any, int]:
        start = offset + self._head.size
        if start > end:
            raise malformed("the length of a list is cut off")
        (length,) = self._head.unpack_from(data, offset)
        stop = start + length
        if stop > end:
            raise malformed(f"a list of {length} bytes, {end - start} are left")
        item, reached = self.part.read(data, start, stop)
        if reached != stop:
            raise malformed(f"a list of {length} bytes ends after {reached - start}")
        return item, stop

    def write(self, value: Any) -> bytes:
        body = self.part.write(value)
        try:
            return self._head.pack(len(body)) + body
        except struct.error:
            raise LimitExceeded("bytes of a list", len(body), 0xFFFF) from None


class Aligned:
    """A part with padding behind it: `before` bytes, the part and the padding are a multiple of 8."""

    def __init__(self, part: Part, *, before: int, what: Fault) -> None:
        self.part = part
        self._before = before
        self._what = what
        self.extent = part.extent

    def read(self, data: bytes, offset: int, end: int) -> tuple[Any, int]:
        item, reached = self.part.read(data, offset, end)
        stop = reached + -(self._before + reached - offset) % 8
        if stop > end:
            raise malformed(f"padding of {stop - reached} bytes expected, {end - reached} left", self._what)
        return item, stop

    def write(self, value: Any) -> bytes:
        body = self.part.write(value)
        return body + bytes(-(self._before + len(body)) % 8)


@dataclass(frozen=True, slots=True)
class Row:
    """A field as documentation shows it. `offset` is empty behind a field of variable size."""

    offset: str
    size: str
    name: str


class Layout(Generic[T]):
    """The compiled declaration of `cls`. `lead` bytes of padding come first; `what` answers a structure that is too
    short."""

    def __init__(self, cls: type[T], *, lead: int = 0, what: Fault = BAD_LEN) -> None:
        self.cls = cls
        self._what = what
        self._fields: list[tuple[str, str, int]] = []
        # Each segment: the numbers up to a part, as one Struct, and that part. The last one may have no part.
        self._segments: list[tuple[struct.Struct, tuple[str, ...], str, Part | None]] = []
        self._lead = lead
        format_ = f">{lead}x"
        names: list[str] = []
        for name, hint in get_type_hints(cls, include_extras=True).items():
            marks = getattr(hint, "__metadata__", ())
            if not marks:
                continue
            shape = marks[0]
            pad = sum(mark.size for mark in marks if isinstance(mark, Pad))
            if isinstance(shape, Number):
                format_ += f"{shape.format}{pad}x"
                names.append(name)
                self._fields.append((name, str(struct.calcsize(f">{shape.format}")), pad))
            else:
                self._segments.append((struct.Struct(format_), tuple(names), name, shape))
                self._fields.append((name, shape.extent, pad))
                format_, names = f">{pad}x", []
        if names or format_ != ">0x":
            self._segments.append((struct.Struct(format_), tuple(names), "", None))

    @property
    def extent(self) -> str:
        """The size in bytes: a number if it is fixed."""
        if all(size.isdigit() for _, size, _ in self._fields):
            return str(self._lead + sum(int(size) + pad for _, size, pad in self._fields))
        return self.cls.__name__

    def rows(self, start: int = 0) -> list[Row]:
        """The fields with their offsets, for documentation. `start` is the offset of the structure."""
        rows = []
        offset: int | None = start + self._lead
        for name, size, pad in self._fields:
            rows.append(Row("" if offset is None else str(offset), size, name))
            offset = offset + int(size) + pad if offset is not None and size.isdigit() else None
        return rows

    def read(self, data: bytes, offset: int, end: int) -> tuple[T, int]:
        values: list[Any] = []
        for numbers, _, _, part in self._segments:
            start = offset
            offset += numbers.size
            if offset > end:
                raise malformed(
                    f"{self.cls.__name__} is cut off: {end - start} bytes left of {numbers.size}", self._what
                )
            values += numbers.unpack_from(data, start)
            if part is not None:
                value, offset = part.read(data, offset, end)
                values.append(value)
        return self.cls(*values), offset

    def write(self, value: T) -> bytes:
        pieces = []
        for numbers, names, name, part in self._segments:
            try:
                pieces.append(numbers.pack(*[getattr(value, each) for each in names]))
            except struct.error as error:
                written = ", ".join(f"{each}={getattr(value, each)}" for each in names)
                raise malformed(f"{self.cls.__name__}: a number does not fit its field ({error}): {written}") from None
            if part is not None:
                pieces.append(part.write(getattr(value, name)))
        return b"".join(pieces)


class Family:
    """Structures that the wire tells apart by a number. `noun` names them in error messages."""

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self.parts: dict[int, Part] = {}
        self.numbers: dict[type, int] = {}

    def member(self, number: int, *, lead: int = 0, what: Fault = BAD_LEN) -> Callable[[type[T]], type[T]]:
        """Class decorator: `number` announces this structure, declared by its annotations."""

        def register(cls: type[T]) -> type[T]:
            self.add(number, Layout(cls, lead=lead, what=what), cls)
            return cls

        return register

    def add(self, number: int, part: Part, *classes: type) -> None:
        """`number` announces what `part` reads and writes: values of `classes`."""
        self.parts[number] = part
        for cls in classes:
            self.numbers[cls] = number

    def __or__(self, other: Family) -> Family:
        """The structures of both, which share their numbers' space."""
        both = Family(f"{self.noun} or {other.noun}")
        both.parts = {**self.parts, **other.parts}
        both.numbers = {**self.numbers, **other.numbers}
        return both

    def number(self, value: object) -> int:
        """The number that announces `value`. Raises TypeError for a value of another kind."""
        number = self.numbers.get(type(value))
        if number is None:
            raise TypeError(f"{type(value).__name__} is no {self.noun}")
        return number


_TLV: Final = struct.Struct(">HH")


class Recurring:
    """What `part` reads up to the end of the structure, which is often the same: the bytes of the last `limit` values
    are remembered, and give the same object again; and as many values give the same bytes. Only for immutable
    values."""

    def __init__(self, part: Part, *, limit: int = 1 << 12, longest: int = 512) -> None:
        self.extent = part.extent
        self.part = part
        self._limit = limit
        self._longest = longest  # bytes; of longer ones few recur
        self._written: dict[Any, bytes] = {}
        self._recall = lru_cache(maxsize=limit)(self._read)

    def read(self, data: bytes, offset: int, end: int) -> tuple[Any, int]:
        if end - offset > self._longest:
            return self.part.read(data, offset, end)
        value, length = self._recall(data[offset:end])
        return value, offset + length

    def write(self, value: Any) -> bytes:
        known = self._written.get(value)
        if known is not None:
            return known
        written = self.part.write(value)
        if len(written) <= self._longest:
            if len(self._written) >= self._limit:
                self._written.clear()
            self._written[value] = written
        return written

    def _read(self, data: bytes) -> tuple[Any, int]:
        return self.part.read(data, 0, len(data))


class Padding(Enum):
    """How elements of a list are aligned to 8 bytes."""

    COUNTED = "counted"
    """An element is padded, and its length counts the padding: actions, instructions, bands."""
    BEHIND = "behind"
    """An element is padded, and its length does not count the padding: hello elements, table properties."""
    NONE = "none"
    """Elements follow each other without padding."""


class Elements:
    """Elements with a 16-bit type and a 16-bit length, which counts these four bytes, up to the end of the structure.

    `unknown(type, body)` keeps an element whose type the family lacks.
    """

    extent: Final = "n"

    def __init__(self, family: Family, unknown: type[Any], *, padding: Padding, what: Fault) -> None:
        self.family = family
        self.unknown = unknown
        self.padding = padding
        self._multiple = 8 if padding is Padding.COUNTED else 1
        self._alignment = 8 if padding is Padding.BEHIND else 1
        self._least = 8 if padding is Padding.COUNTED else 4
        self._what = what

    def read(self, data: bytes, offset: int, end: int) -> tuple[tuple[Any, ...], int]:
        items = []
        parts = self.family.parts
        while offset < end:
            if end - offset < 4:
                raise malformed(f"{self.family.noun}: the header is cut off", self._what)
            kind, length = _TLV.unpack_from(data, offset)
            stop = offset + length
            if length < self._least or stop > end or length % self._multiple:
                raise malformed(f"{self.family.noun} {kind} has length {length}, {end - offset} bytes left", self._what)
            part = parts.get(kind)
            if part is None:
                item = self.unknown(kind, data[offset + 4 : stop])
            else:
                item, reached = part.read(data, offset + 4, stop)
                if reached != stop:
                    raise malformed(
                        f"{self.family.noun} {kind} has length {length}, it ends after {reached - offset}", self._what
                    )
            items.append(item)
            offset = stop + -length % self._alignment
        if offset > end:
            raise malformed(f"{self.family.noun}: the padding of the last one is cut off", self._what)
        return tuple(items), offset

    def write(self, value: tuple[Any, ...]) -> bytes:
        pieces = []
        for item in value:
            if isinstance(item, self.unknown):
                kind, body = item.type, item.body
            else:
                kind = self.family.number(item)
                body = self.family.parts[kind].write(item)
            length = 4 + len(body)
            if length > 0xFFFF:
                raise LimitExceeded(f"bytes of one {self.family.noun}", length, 0xFFFF)
            if length < self._least or length % self._multiple:
                raise malformed(f"{self.family.noun} {kind}: {length} bytes are not a multiple of 8", self._what)
            try:
                pieces.append(_TLV.pack(kind, length))
            except struct.error:
                raise malformed(f"{self.family.noun} {kind}: the type has not 16 bits", self._what) from None
            pieces.append(body)
            pieces.append(bytes(-length % self._alignment))
        return b"".join(pieces)
