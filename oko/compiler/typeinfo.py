"""The BTF of an image, with its func_info and line_info records (Documentation/bpf/btf.rst of Linux).

It holds what the kernel asks for and no more: `int`, `struct xdp_md`, a pointer to it, two prototypes, a FUNC
for each function and the strings. The types of maps stay with the object that declared them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_MAGIC: Final = 0xEB9F
_HEADER: Final = struct.Struct("<HBBIIIII")
_TYPE: Final = struct.Struct("<III")
_KIND_INT: Final = 1
_KIND_PTR: Final = 2
_KIND_STRUCT: Final = 4
_KIND_FUNC: Final = 12
_KIND_FUNC_PROTO: Final = 13
_INT_SIGNED_32: Final = 1 << 24 | 32
_INT_ID: Final = 1
_STRUCT_ID: Final = 2
_POINTER_ID: Final = 3
_CONTEXT_PROTO_ID: Final = 4
_STATIC_PROTO_ID: Final = 5
_STATIC: Final = 0
_GLOBAL: Final = 1

FUNC_INFO: Final = struct.Struct("<II")
LINE_INFO: Final = struct.Struct("<IIII")


@dataclass(frozen=True, slots=True)
class FunctionInfo:
    """A function of the image. A global one takes the context, returns int, and is verified on its own."""

    name: str
    start: int
    is_global: bool


@dataclass(frozen=True, slots=True)
class SourceLine:
    """The instruction at `instruction` begins this line. `line` and `column` are those of the source file."""

    instruction: int
    file: str
    text: str
    line: int
    column: int


class _Strings:
    def __init__(self) -> None:
        self._data = bytearray(b"\0")
        self._offsets: dict[str, int] = {"": 0}

    def add(self, text: str) -> int:
        if text not in self._offsets:
            self._offsets[text] = len(self._data)
            self._data += text.encode() + b"\0"
        return self._offsets[text]

    def __bytes__(self) -> bytes:
        return bytes(self._data)


def type_information(functions: Sequence[FunctionInfo], lines: Sequence[SourceLine]) -> tuple[bytes, bytes, bytes]:
    """BTF, func_info and line_info for functions and lines, both ascending by instruction.

    Every function must have a line at its first instruction, as the kernel demands.
    """
    strings = _Strings()
    types = bytearray()
    types += _TYPE.pack(strings.add("int"), _KIND_INT << 24, 4) + struct.pack("<I", _INT_SIGNED_32)
    types += _TYPE.pack(strings.add("xdp_md"), _KIND_STRUCT << 24, 0)
    types += _TYPE.pack(0, _KIND_PTR << 24, _STRUCT_ID)
    types += _TYPE.pack(0, _KIND_FUNC_PROTO << 24 | 1, _INT_ID) + struct.pack("<II", strings.add("ctx"), _POINTER_ID)
    types += _TYPE.pack(0, _KIND_FUNC_PROTO << 24, _INT_ID)
    func_info = bytearray()
    for type_id, function in enumerate(functions, start=_STATIC_PROTO_ID + 1):
        prototype = _CONTEXT_PROTO_ID if function.is_global else _STATIC_PROTO_ID
        linkage = _GLOBAL if function.is_global else _STATIC
        types += _TYPE.pack(strings.add(function.name), _KIND_FUNC << 24 | linkage, prototype)
        func_info += FUNC_INFO.pack(function.start, type_id)
    line_info = bytearray()
    for line in lines:
        line_info += LINE_INFO.pack(
            line.instruction, strings.add(line.file), strings.add(line.text), line.line << 10 | min(line.column, 1023)
        )
    text = bytes(strings)
    header = _HEADER.pack(_MAGIC, 1, 0, _HEADER.size, 0, len(types), len(types), len(text))
    return header + bytes(types) + text, bytes(func_info), bytes(line_info)
