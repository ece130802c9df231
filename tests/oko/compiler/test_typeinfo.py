from __future__ import annotations

import struct

import pytest

from oko.compiler.step import ARGUMENT
from oko.compiler.typeinfo import FunctionInfo, Prototype, SourceLine, type_information
from verifier.btf import GLOBAL, STATIC, Btf, Func, FuncProto, Int, Ptr, Struct

PACKET = 800
"""Bytes of the structure of a packet."""
FUNCTIONS = (
    FunctionInfo("main", 0, Prototype.STATIC),
    FunctionInfo("filter", 5, Prototype.CONTEXT),
    FunctionInfo("helper", 9, Prototype.STATIC),
    FunctionInfo("parse", 12, Prototype.PACKET),
    FunctionInfo("set_field", 15, Prototype.ACTION),
)
STRUCTURES = [("xdp_md", 0), ("oko_packet", PACKET), ("oko_argument", ARGUMENT)]
LINES = (
    SourceLine(0, "pipeline", "start", 1, 0),
    SourceLine(5, "größe.c", "int filter()", 12, 3),
    SourceLine(9, "größe.c", "start", 70_000, 5000),
)


def test_functions() -> None:
    raw, func_info, _ = type_information(FUNCTIONS, LINES, PACKET)
    btf = Btf.parse(raw)
    described = []
    for start, type_id in struct.iter_unpack("<II", func_info):
        function = btf.type_of(type_id, Func)
        prototype = btf.type_of(function.type, FuncProto)
        described.append((start, function.name, function.linkage, len(prototype.parameters)))
        assert btf.type_of(prototype.type, Int) == Int("int", 4, 32, signed=True)
        taken = [btf.type_of(btf.type_of(parameter.type, Ptr).type, Struct) for parameter in prototype.parameters[:3]]
        assert [(kind.name, kind.size) for kind in taken] == STRUCTURES[: len(taken)]
        for parameter in prototype.parameters[3:]:
            assert btf.type_of(parameter.type, Int).size == 4
    assert described == [
        (0, "main", STATIC, 0),
        (5, "filter", GLOBAL, 1),
        (9, "helper", STATIC, 0),
        (12, "parse", GLOBAL, 2),
        (15, "set_field", GLOBAL, 4),
    ]


def test_lines() -> None:
    raw, _, line_info = type_information(FUNCTIONS, LINES, PACKET)
    btf = Btf.parse(raw)
    read = [
        SourceLine(start, btf.string(file), btf.string(text), place >> 10, place & 1023)
        for start, file, text, place in struct.iter_unpack("<IIII", line_info)
    ]
    assert read == [*LINES[:2], SourceLine(9, "größe.c", "start", 70_000, 1023)]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("parse_tcp", "parse_tcp"),
        ("parse.specialized.1", "parse_specialized_1"),
        ("größe", "gr__e"),
        ("2nd", "_nd"),
        ("x" * 300, "x" * 127),
    ],
)
def test_names_of_functions_are_what_the_kernel_takes(name: str, written: str) -> None:
    raw, _, _ = type_information((FunctionInfo(name, 0, Prototype.CONTEXT),), (SourceLine(0, "", "", 0, 0),), PACKET)
    btf = Btf.parse(raw)
    function = btf.types[-1]
    assert isinstance(function, Func)
    assert (function.name, function.linkage) == (written, GLOBAL)
