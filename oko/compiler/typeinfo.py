"""The BTF of an image, with its func_info and line_info records (Documentation/bpf/btf.rst of Linux).

It holds what the kernel asks for and no more: `int`, `struct xdp_md`, a pointer to it, two prototypes, a FUNC for
each function and the strings. The types of maps stay with the object that declared them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from verifier.btf import GLOBAL, STATIC, Func, FuncProto, Int, Parameter, Ptr, Struct, Type, Void, encode

_INT_ID: Final = 1
_CONTEXT_ID: Final = 3
_CONTEXT_PROTO_ID: Final = 4
_STATIC_PROTO_ID: Final = 5
_TYPES: Final[tuple[Type, ...]] = (
    Void(),
    Int("int", 4, 32, signed=True),
    Struct("xdp_md", 0, ()),  # a size of 0 will do: only the name counts
    Ptr(2),
    FuncProto(_INT_ID, (Parameter("ctx", _CONTEXT_ID),)),
    FuncProto(_INT_ID, ()),
)

_NO_IDENTIFIER: Final = re.compile(r"\A[^A-Za-z_]|[^A-Za-z0-9_]")
_LONGEST_NAME: Final = 127
"""KSYM_NAME_LEN of Linux 6.1, less the NUL."""

_FUNC_INFO: Final = struct.Struct("<II")
_LINE_INFO: Final = struct.Struct("<IIII")
_LAST_COLUMN: Final = 1023


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


def type_information(functions: Sequence[FunctionInfo], lines: Sequence[SourceLine]) -> tuple[bytes, bytes, bytes]:
    """BTF, func_info and line_info for functions and lines, both ascending by instruction.

    Every function must have a line at its first instruction, as the kernel demands.
    """
    functions_by_id = dict(enumerate(functions, start=len(_TYPES)))
    types = list(_TYPES)
    for function in functions:
        prototype = _CONTEXT_PROTO_ID if function.is_global else _STATIC_PROTO_ID
        types.append(Func(_identifier(function.name), prototype, GLOBAL if function.is_global else STATIC))
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
