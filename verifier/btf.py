"""BTF, the type information of an eBPF object: parse, look up, encode; and the source lines of `.BTF.ext`.

Layouts: kernel 6.18, Documentation/bpf/btf.rst, and <linux/btf.h>. Only little-endian BTF is read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from oko.errors import NotReadable

_MAGIC: Final = 0xEB9F
_HEADER: Final = struct.Struct("<HBBIIIII")
_EXT_HEADER: Final = struct.Struct("<HBBIIIII")
_TYPE: Final = struct.Struct("<III")
_U32: Final = struct.Struct("<I")
_PAIR: Final = struct.Struct("<II")
_TRIPLE: Final = struct.Struct("<III")
_ENUM: Final = struct.Struct("<Ii")
_UNSIGNED_ENUM: Final = struct.Struct("<II")
_LINE: Final = struct.Struct("<IIII")

POINTER_SIZE: Final = 8
_MAX_DEPTH: Final = 32

STATIC: Final = 0
GLOBAL: Final = 1
EXTERN: Final = 2


@dataclass(frozen=True, slots=True)
class Void:
    """Type id 0."""


@dataclass(frozen=True, slots=True)
class Int:
    """An integer of `size` bytes, of which `bits` bits from bit `offset` on count."""

    name: str
    size: int
    bits: int
    offset: int = 0
    signed: bool = False
    char: bool = False
    boolean: bool = False


@dataclass(frozen=True, slots=True)
class Ptr:
    """A pointer to `type`."""

    type: int


@dataclass(frozen=True, slots=True)
class Array:
    """`length` elements of type `element`; `index` is the type of its index."""

    element: int
    index: int
    length: int


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a struct or union. `bit_size` is 0 unless it is a bit-field."""

    name: str
    type: int
    bit_offset: int
    bit_size: int = 0

    @property
    def offset(self) -> int:
        """Bytes from the start of the struct (of a bit-field: the byte that holds its first bit)."""
        return self.bit_offset // 8


@dataclass(frozen=True, slots=True)
class Struct:
    """A struct of `size` bytes. Without a name it is anonymous."""

    name: str
    size: int
    members: tuple[Member, ...] = ()


@dataclass(frozen=True, slots=True)
class Union:
    """A union of `size` bytes."""

    name: str
    size: int
    members: tuple[Member, ...] = ()


@dataclass(frozen=True, slots=True)
class Enum:
    """An enumeration of 32-bit values, (name, value) each."""

    name: str
    size: int
    signed: bool
    values: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Enum64:
    """An enumeration of 64-bit values, (name, value) each."""

    name: str
    size: int
    signed: bool
    values: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Fwd:
    """A struct or union that is only declared."""

    name: str
    union: bool = False


@dataclass(frozen=True, slots=True)
class Typedef:
    """Another name for `type`."""

    name: str
    type: int


@dataclass(frozen=True, slots=True)
class Volatile:
    """`type`, volatile."""

    type: int


@dataclass(frozen=True, slots=True)
class Const:
    """`type`, const."""

    type: int


@dataclass(frozen=True, slots=True)
class Restrict:
    """`type`, restrict."""

    type: int


@dataclass(frozen=True, slots=True)
class Func:
    """A function with the prototype `type`; `linkage` is STATIC, GLOBAL or EXTERN."""

    name: str
    type: int
    linkage: int = STATIC


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a prototype. A last one with no name and type 0 stands for `...`."""

    name: str
    type: int


@dataclass(frozen=True, slots=True)
class FuncProto:
    """A function prototype that returns `type`."""

    type: int
    parameters: tuple[Parameter, ...] = ()


@dataclass(frozen=True, slots=True)
class Var:
    """A variable; `linkage` is STATIC, GLOBAL or EXTERN."""

    name: str
    type: int
    linkage: int = GLOBAL


@dataclass(frozen=True, slots=True)
class SectionVariable:
    """Where the variable of type id `type` lies in its section, in bytes."""

    type: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Datasec:
    """A data section of `size` bytes and the variables in it."""

    name: str
    size: int
    variables: tuple[SectionVariable, ...] = ()


@dataclass(frozen=True, slots=True)
class Float:
    """A floating point number of `size` bytes."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class DeclTag:
    """The attribute `name` on the declaration `type`, or on its member or parameter number `component`."""

    name: str
    type: int
    component: int = -1


@dataclass(frozen=True, slots=True)
class TypeTag:
    """The attribute `name` on `type`."""

    name: str
    type: int


Modifier = Typedef | Volatile | Const | Restrict | TypeTag
Type = (
    Void
    | Int
    | Ptr
    | Array
    | Struct
    | Union
    | Enum
    | Enum64
    | Fwd
    | Modifier
    | Func
    | FuncProto
    | Var
    | Datasec
    | Float
    | DeclTag
)
_Kind = TypeVar("_Kind", bound=Type)

# Numbers of the kinds (BTF_KIND_* of <linux/btf.h>).
_KINDS: Final[dict[type, int]] = {
    Int: 1,
    Ptr: 2,
    Array: 3,
    Struct: 4,
    Union: 5,
    Enum: 6,
    Fwd: 7,
    Typedef: 8,
    Volatile: 9,
    Const: 10,
    Restrict: 11,
    Func: 12,
    FuncProto: 13,
    Var: 14,
    Datasec: 15,
    Float: 16,
    DeclTag: 17,
    TypeTag: 18,
    Enum64: 19,
}
_BY_NUMBER: Final = {number: kind for kind, number in _KINDS.items()}


@dataclass(frozen=True, slots=True)
class Btf:
    """Parsed BTF: `types` by type id (0 is void), `raw` the bytes it was read from, `strings` its string
    section."""

    raw: bytes
    types: tuple[Type, ...]
    strings: bytes

    @staticmethod
    def parse(raw: bytes) -> Btf:
        """The types in `raw`, the content of a section `.BTF`. Raises NotReadable if it is malformed."""
        header_length, types, strings = _split(raw)
        parsed = tuple(_Parser(types, strings, header_length).types())
        for type_id, value in enumerate(parsed):
            for referred in references(value):
                if referred >= len(parsed):
                    raise NotReadable(f"BTF: type {type_id} refers to type {referred}, the last is {len(parsed) - 1}")
        return Btf(raw, parsed, strings)

    @staticmethod
    def of(types: Sequence[Type]) -> Btf:
        """The BTF of these types, the first of which is Void: the inverse of `parse`, with a new string section."""
        return Btf.parse(encode(types)[0])

    def string(self, offset: int) -> str:
        """The string at `offset` of the string section. Raises NotReadable if there is none."""
        return _string(self.strings, offset)

    def id_of(self, name: str, kind: type[_Kind]) -> int | None:
        """The id of the first type of this kind and name."""
        for type_id, value in enumerate(self.types):
            if isinstance(value, kind) and getattr(value, "name", "") == name:
                return type_id
        return None

    def type_of(self, type_id: int, kind: type[_Kind]) -> _Kind:
        """The type `type_id`, as it is, which must be of this kind. Raises NotReadable if it is of another."""
        value = self._get(type_id)
        if not isinstance(value, kind):
            raise NotReadable(f"BTF: type {type_id} is {type(value).__name__}, expected {kind.__name__}")
        return value

    def resolve(self, type_id: int) -> int:
        """The id of the type behind typedefs, const, volatile, restrict and type tags."""
        for _ in range(len(self.types)):
            value = self._get(type_id)
            if not isinstance(value, Modifier):
                return type_id
            type_id = value.type
        raise NotReadable(f"BTF: type {type_id} is defined by itself")

    def resolved(self, type_id: int) -> Type:
        """The type behind typedefs, const, volatile, restrict and type tags."""
        return self.types[self.resolve(type_id)]

    def size_of(self, type_id: int) -> int:
        """Bytes that a value of this type takes. Raises NotReadable for a type that has no size."""
        count = 1
        for _ in range(len(self.types)):
            value = self.resolved(type_id)
            if isinstance(value, Array):
                count *= value.length
                type_id = value.element
            elif isinstance(value, Var):
                type_id = value.type
            elif isinstance(value, Ptr):
                return count * POINTER_SIZE
            elif isinstance(value, Int | Struct | Union | Enum | Enum64 | Float | Datasec):
                return count * value.size
            else:
                raise NotReadable(f"BTF: type {type_id} ({type(value).__name__}) has no size")
        raise NotReadable(f"BTF: the array of type {type_id} contains itself")

    def members(self, type_id: int) -> tuple[Member, ...]:
        """The members of a struct or union behind `type_id`, in order, with those of anonymous structs and unions
        inside it in their place; offsets count from the outer struct."""
        return tuple(self._members(type_id, 0, 0))

    def _members(self, type_id: int, base: int, depth: int) -> Iterator[Member]:
        value = self.resolved(type_id)
        if not isinstance(value, Struct | Union):
            raise NotReadable(f"BTF: type {type_id} is {type(value).__name__}, not a struct or union")
        if depth > _MAX_DEPTH:
            raise NotReadable(f"BTF: structs are nested deeper than {_MAX_DEPTH}")
        for member in value.members:
            if not member.name and isinstance(self.resolved(member.type), Struct | Union):
                yield from self._members(member.type, base + member.bit_offset, depth + 1)
            else:
                yield Member(member.name, member.type, base + member.bit_offset, member.bit_size)

    def _get(self, type_id: int) -> Type:
        if not 0 <= type_id < len(self.types):
            raise NotReadable(f"BTF: there is no type {type_id}")
        return self.types[type_id]


def references(value: Type) -> tuple[int, ...]:
    """The type ids that a type mentions, in the order of their fields."""
    match value:
        case Array():
            return (value.element, value.index)
        case Struct() | Union():
            return tuple(member.type for member in value.members)
        case FuncProto():
            return (value.type, *(parameter.type for parameter in value.parameters))
        case Datasec():
            return tuple(variable.type for variable in value.variables)
        case Void() | Int() | Enum() | Enum64() | Fwd() | Float():
            return ()
        case _:
            return (value.type,)


def _split(raw: bytes) -> tuple[int, bytes, bytes]:
    """Header length, type section and string section."""
    if len(raw) < _HEADER.size:
        raise NotReadable(f"BTF: {len(raw)} bytes are too short for its header")
    magic, version, _, header_length, type_offset, type_length, string_offset, string_length = _HEADER.unpack_from(raw)
    if magic != _MAGIC or version != 1:
        raise NotReadable(f"BTF: magic {magic:#06x} version {version}, expected {_MAGIC:#06x} version 1")
    for what, offset, length in (("types", type_offset, type_length), ("strings", string_offset, string_length)):
        if header_length < _HEADER.size or header_length + offset + length > len(raw):
            raise NotReadable(f"BTF: the {what} end beyond its {len(raw)} bytes")
    types = raw[header_length + type_offset :][:type_length]
    strings = raw[header_length + string_offset :][:string_length]
    if not strings or strings[0] or strings[-1]:
        raise NotReadable("BTF: the string section does not begin and end with a NUL")
    return header_length, types, strings


def _string(strings: bytes, offset: int) -> str:
    if offset >= len(strings):
        raise NotReadable(f"BTF: string offset {offset} is beyond the {len(strings)} bytes of strings")
    return strings[offset : strings.index(0, offset)].decode("utf-8", "replace")


class _Parser:
    """Reads the type section from front to back."""

    def __init__(self, types: bytes, strings: bytes, base: int) -> None:
        self._data = types
        self._strings = strings
        self._base = base
        self._at = 0

    def types(self) -> Iterator[Type]:
        yield Void()
        while self._at < len(self._data):
            yield self._type()

    def _take(self, layout: struct.Struct) -> tuple[int, ...]:
        try:
            values = layout.unpack_from(self._data, self._at)
        except struct.error:
            raise NotReadable(f"BTF: truncated in the type at byte {self._base + self._at}") from None
        self._at += layout.size
        return values

    def _name(self, offset: int) -> str:
        return _string(self._strings, offset)

    def _type(self) -> Type:
        name_offset, info, size_or_type = self._take(_TYPE)
        count, flag = info & 0xFFFF, bool(info >> 31)
        kind = _BY_NUMBER.get(info >> 24 & 0x1F)
        name = self._name(name_offset)
        if kind is None:
            raise NotReadable(f"BTF: kind {info >> 24 & 0x1F} of type {name!r} is unknown")
        if kind is Int:
            (data,) = self._take(_U32)
            encoding = data >> 24
            return Int(
                name,
                size_or_type,
                data & 0xFF,
                data >> 16 & 0xFF,
                signed=bool(encoding & 1),
                char=bool(encoding & 2),
                boolean=bool(encoding & 4),
            )
        if kind is Array:
            return Array(*self._take(_TRIPLE))
        if kind in (Struct, Union):
            members = tuple(self._member(flag) for _ in range(count))
            return Struct(name, size_or_type, members) if kind is Struct else Union(name, size_or_type, members)
        if kind is Enum:
            layout = _ENUM if flag else _UNSIGNED_ENUM
            pairs = [self._take(layout) for _ in range(count)]
            return Enum(name, size_or_type, flag, tuple((self._name(offset), value) for offset, value in pairs))
        if kind is Enum64:
            return Enum64(name, size_or_type, flag, tuple(self._enumerator64(flag) for _ in range(count)))
        if kind is FuncProto:
            parameters = [self._take(_PAIR) for _ in range(count)]
            return FuncProto(
                size_or_type, tuple(Parameter(self._name(offset), type_id) for offset, type_id in parameters)
            )
        if kind is Datasec:
            return Datasec(name, size_or_type, tuple(SectionVariable(*self._take(_TRIPLE)) for _ in range(count)))
        if kind is Var:
            return Var(name, size_or_type, *self._take(_U32))
        if kind is DeclTag:
            (component,) = self._take(_U32)
            return DeclTag(name, size_or_type, component - (component >> 31 << 32))
        if kind is Func:
            return Func(name, size_or_type, count)
        if kind is Fwd:
            return Fwd(name, flag)
        if kind is Float:
            return Float(name, size_or_type)
        if kind is Typedef:
            return Typedef(name, size_or_type)
        if kind is TypeTag:
            return TypeTag(name, size_or_type)
        unnamed: dict[type, type[Ptr | Volatile | Const | Restrict]] = {
            Ptr: Ptr,
            Volatile: Volatile,
            Const: Const,
            Restrict: Restrict,
        }
        return unnamed[kind](size_or_type)

    def _member(self, bit_fields: bool) -> Member:
        name_offset, type_id, offset = self._take(_TRIPLE)
        if bit_fields:
            return Member(self._name(name_offset), type_id, offset & 0xFFFFFF, offset >> 24)
        return Member(self._name(name_offset), type_id, offset)

    def _enumerator64(self, signed: bool) -> tuple[str, int]:
        name_offset, low, high = self._take(_TRIPLE)
        value = high << 32 | low
        return self._name(name_offset), value - (value >> 63 << 64 if signed else 0)


def encode(types: Sequence[Type], texts: Iterable[str] = ()) -> tuple[bytes, dict[str, int]]:
    """The bytes of these types, the first of which is Void, with `texts` added to the strings; and where in the string
    section every name and text stands."""
    encoder = _Encoder()
    for text in texts:
        encoder.name(text)
    return encoder.encode(types), encoder.offsets


class _Encoder:
    """Writes types and collects their strings, each once."""

    def __init__(self) -> None:
        self._strings = bytearray(b"\0")
        self.offsets: dict[str, int] = {"": 0}

    def encode(self, types: Sequence[Type]) -> bytes:
        body = b"".join(self._type(value) for value in types[1:])
        header = _HEADER.pack(_MAGIC, 1, 0, _HEADER.size, 0, len(body), len(body), len(self._strings))
        return header + body + bytes(self._strings)

    def name(self, name: str) -> int:
        offset = self.offsets.get(name)
        if offset is None:
            offset = self.offsets[name] = len(self._strings)
            self._strings += name.encode() + b"\0"
        return offset

    def _type(self, value: Type) -> bytes:
        count, flag, size_or_type, tail = 0, False, 0, b""
        match value:
            case Int():
                encoding = value.signed | value.char << 1 | value.boolean << 2
                size_or_type, tail = value.size, _U32.pack(encoding << 24 | value.offset << 16 | value.bits)
            case Array():
                tail = _TRIPLE.pack(value.element, value.index, value.length)
            case Struct() | Union():
                count, size_or_type = len(value.members), value.size
                flag = any(member.bit_size for member in value.members)
                tail = b"".join(
                    _TRIPLE.pack(self.name(member.name), member.type, member.bit_size << 24 | member.bit_offset)
                    for member in value.members
                )
            case Enum():
                count, size_or_type, flag = len(value.values), value.size, value.signed
                layout = _ENUM if flag else _UNSIGNED_ENUM
                tail = b"".join(layout.pack(self.name(name), number) for name, number in value.values)
            case Enum64():
                count, size_or_type, flag = len(value.values), value.size, value.signed
                tail = b"".join(
                    _TRIPLE.pack(self.name(name), number & 0xFFFFFFFF, number >> 32 & 0xFFFFFFFF)
                    for name, number in value.values
                )
            case FuncProto():
                count, size_or_type = len(value.parameters), value.type
                tail = b"".join(_PAIR.pack(self.name(item.name), item.type) for item in value.parameters)
            case Datasec():
                count, size_or_type = len(value.variables), value.size
                tail = b"".join(_TRIPLE.pack(item.type, item.offset, item.size) for item in value.variables)
            case Var():
                size_or_type, tail = value.type, _U32.pack(value.linkage)
            case DeclTag():
                size_or_type, tail = value.type, _U32.pack(value.component & 0xFFFFFFFF)
            case Func():
                count, size_or_type = value.linkage, value.type
            case Fwd():
                flag = value.union
            case Float():
                size_or_type = value.size
            case Void():
                raise ValueError("void has no encoding: it is type 0 and only that")
            case _:
                size_or_type = value.type
        info = flag << 31 | _KINDS[type(value)] << 24 | count
        return _TYPE.pack(self.name(getattr(value, "name", "")), info, size_or_type) + tail


# --- .BTF.ext ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FuncInfo:
    """The function that begins `offset` bytes into its section has the BTF type `type` (a Func)."""

    offset: int
    type: int


@dataclass(frozen=True, slots=True)
class LineInfo:
    """The code from `offset` bytes into its section on comes from this source line."""

    offset: int
    file: str
    text: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class BtfExt:
    """The content of `.BTF.ext` by section name. `core_relocations` is the size in bytes of its CO-RE part."""

    func_info: dict[str, tuple[FuncInfo, ...]]
    line_info: dict[str, tuple[LineInfo, ...]]
    core_relocations: int = 0

    @staticmethod
    def parse(raw: bytes, btf: Btf) -> BtfExt:
        """Reads the content of a section `.BTF.ext`, whose strings are in `btf`. Raises NotReadable."""
        if len(raw) < _EXT_HEADER.size:
            raise NotReadable(f".BTF.ext: {len(raw)} bytes are too short for its header")
        magic, version, _, header_length, *parts = _EXT_HEADER.unpack_from(raw)
        if magic != _MAGIC or version != 1:
            raise NotReadable(f".BTF.ext: magic {magic:#06x} version {version}, expected {_MAGIC:#06x} version 1")
        core = 0
        if header_length >= _EXT_HEADER.size + _PAIR.size and len(raw) >= header_length:
            _, core = _PAIR.unpack_from(raw, _EXT_HEADER.size)
        functions: dict[str, tuple[FuncInfo, ...]] = {}
        for section, records in _info(raw, header_length + parts[0], parts[1], _PAIR, btf):
            functions[section] = tuple(FuncInfo(*record) for record in records)
        lines: dict[str, tuple[LineInfo, ...]] = {}
        for section, records in _info(raw, header_length + parts[2], parts[3], _LINE, btf):
            lines[section] = tuple(
                LineInfo(offset, btf.string(file), btf.string(text).rstrip(), where >> 10, where & 0x3FF)
                for offset, file, text, where in records
            )
        return BtfExt(functions, lines, core)


def _info(
    raw: bytes, start: int, length: int, layout: struct.Struct, btf: Btf
) -> Iterator[tuple[str, list[tuple[int, ...]]]]:
    """The records of one part of .BTF.ext, per section. Compilers may append to a record, so it can be longer
    than `layout`."""
    end = start + length
    if end > len(raw):
        raise NotReadable(f".BTF.ext: a part ends at byte {end}, the section at {len(raw)}")
    if not length:
        return
    try:
        (record_size,) = _U32.unpack_from(raw, start)
        at = start + _U32.size
        while at < end:
            name, count = _PAIR.unpack_from(raw, at)
            at += _PAIR.size
            if record_size < layout.size or at + count * record_size > end:
                raise NotReadable(f".BTF.ext: {count} records of {record_size} bytes do not fit at byte {at}")
            yield btf.string(name), [layout.unpack_from(raw, at + i * record_size) for i in range(count)]
            at += count * record_size
    except struct.error:
        raise NotReadable(".BTF.ext: truncated") from None
