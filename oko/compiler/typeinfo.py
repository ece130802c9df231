"""The BTF of an image, with its func_info and line_info records (Documentation/bpf/btf.rst of Linux).

It holds what the kernel asks for and no more: the types of the prototypes, a FUNC for each function and the strings.
Structures have a size and no members. The types of maps stay with the object that declared them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from typing import Final

from verifier.btf import GLOBAL, STATIC, Func, FuncProto, Int, Parameter, Ptr, Struct, Type, Void, encode


class Prototype(Enum):
    """What a function takes. All but static ones are *global*: the kernel verifies them on their own, once, for any
    arguments of these types. All return int."""

    STATIC = 0
    """Anything: it is verified at each call."""
    CONTEXT = 1
    """The context."""
    PACKET = 2
    """The context and the `struct oko_packet`."""
    ACTION = 3
    """The context, the `struct oko_packet`, a `struct oko_argument` and a number of 32 bits."""


_INT: Final = 1
_CONTEXT: Final = 3
_PACKET: Final = 5
_ARGUMENT: Final = 7
_FIRST_PROTOTYPE: Final = 8


def _types(packet_size: int) -> list[Type]:
    context, packet, argument = (
        Parameter(*pair) for pair in (("ctx", _CONTEXT), ("packet", _PACKET), ("argument", _ARGUMENT))
    )
    number = Parameter("number", _INT)
    return [
        Void(),
        Int("int", 4, 32, signed=True),
        Struct("xdp_md", 0, ()),  # a size of 0 will do: only the name counts
        Ptr(2),
        Struct("oko_packet", packet_size, ()),
        Ptr(4),
        Struct("oko_argument", _ARGUMENT_SIZE, ()),
        Ptr(6),
        # In the order of Prototype.
        FuncProto(_INT, ()),
        FuncProto(_INT, (context,)),
        FuncProto(_INT, (context, packet)),
        FuncProto(_INT, (context, packet, argument, number)),
    ]


_ARGUMENT_SIZE: Final = 16
_NO_IDENTIFIER: Final = re.compile(r"\A[^A-Za-z_]|[^A-Za-z0-9_]")
_LONGEST_NAME: Final = 127
"""KSYM_NAME_LEN of Linux 6.1, less the NUL."""

_FUNC_INFO: Final = struct.Struct("<II")
_LINE_INFO: Final = struct.Struct("<IIII")
_LAST_COLUMN: Final = 1023


@dataclass(frozen=True, slots=True)
class FunctionInfo:
    """A function of the image."""

    name: str
    start: int
    prototype: Prototype


@dataclass(frozen=True, slots=True)
class SourceLine:
    """The instruction at `instruction` begins this line. `line` and `column` are those of the source file."""

    instruction: int
    file: str
    text: str
    line: int
    column: int


def type_information(
    functions: Sequence[FunctionInfo], lines: Sequence[SourceLine], packet_size: int
) -> tuple[bytes, bytes, bytes]:
    """BTF, func_info and line_info for functions and lines, both ascending by instruction. `packet_size` is that of
    `struct oko_packet`, in bytes.

    Every function must have a line at its first instruction, as the kernel demands.
    """
    types = _types(packet_size)
    functions_by_id = dict(enumerate(functions, start=len(types)))
    for function in functions:
        linkage = STATIC if function.prototype is Prototype.STATIC else GLOBAL
        types.append(Func(_identifier(function.name), _FIRST_PROTOTYPE + function.prototype.value, linkage))
    btf, offsets = encode(types, chain.from_iterable((line.file, line.text) for line in lines))
    func_info = b"".join(_FUNC_INFO.pack(function.start, type_id) for type_id, function in functions_by_id.items())
    line_info = b"".join(
        _LINE_INFO.pack(
            line.instruction,
            offsets[line.file],
            offsets[line.text],
            line.line << 10 | min(line.column, _LAST_COLUMN),
        )
        for line in lines
    )
    return btf, func_info, line_info


def _identifier(name: str) -> str:
    """The name of a symbol as the kernel takes it: compilers and authors write dots and letters beyond ASCII, too."""
    return _NO_IDENTIFIER.sub("_", name)[:_LONGEST_NAME]
