from __future__ import annotations

import contextlib
import hashlib
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oko.errors import LimitExceeded, NotReadable, OkoError
from tests.verifier.conftest import HERE, Compile
from verifier import isa
from verifier.btf import Datasec, Func, Struct, Var
from verifier.elf import load, load_sections
from verifier.program import MapType, Program, ReferenceKind

ROOT = HERE.parents[1]
SHT_SYMTAB = 2


def names(program: Program) -> list[str]:
    return [function.name for function in program.functions]


def test_program(compiled: Compile) -> None:
    data = compiled("accepted/connections")
    program = load(data)
    assert program.name == "connections_filter"
    assert program.license == "Dual BSD/GPL"
    assert program.digest == hashlib.sha256(data).hexdigest()
    assert set(names(program)) == {"connections_filter", "is_within", "report"}
    assert program.functions[0].start == 0
    ends = [function.end for function in program.functions]
    assert [function.start for function in program.functions[1:]] == ends[:-1]
    assert ends[-1] == len(program.instructions)


def test_calls_meet_their_functions(compiled: Compile) -> None:
    program = load(compiled("accepted/subprograms"))
    assert names(program) == ["subprograms", "sum_of_squares", "square"]
    by_start = {function.start: function.name for function in program.functions}
    called = [
        (function.name, by_start[index + 1 + program.instructions[index].imm])
        for function in program.functions
        for index in range(function.start, function.end)
        if program.instructions[index].opcode == isa.OPCODE_CALL
    ]
    assert called == [
        ("subprograms", "sum_of_squares"),
        ("subprograms", "square"),
        ("sum_of_squares", "square"),
        ("sum_of_squares", "square"),
    ]


def test_maps(compiled: Compile) -> None:
    program = load(compiled("accepted/connections"))
    maps = {spec.name: spec for spec in program.maps}
    btf = program.btf
    assert btf is not None
    connections = maps["connections"]
    assert (connections.type, connections.key_size, connections.value_size) == (MapType.HASH, 16, 16)
    assert connections.max_entries == 1024
    assert btf.type_of(connections.key_type, Struct).name == "connection_key"
    assert btf.type_of(connections.value_type, Struct).name == "connection"
    events = maps["events"]
    assert (events.type, events.key_size, events.value_size, events.max_entries) == (MapType.RINGBUF, 0, 0, 4096)
    assert (maps["unused"].key_size, maps["unused"].value_size, maps["unused"].key_type) == (4, 8, 0)


def test_data_sections(compiled: Compile) -> None:
    program = load(compiled("accepted/connections"))
    maps = {spec.name: spec for spec in program.maps}
    assert maps[".rodata"].initial == struct.pack("<I", 3)
    assert (maps[".rodata"].frozen, maps[".rodata"].flags) == (True, 0x80)
    assert maps[".data"].initial == struct.pack("<I", 7)
    assert (maps[".data"].frozen, maps[".data"].flags) == (False, 0)
    assert maps[".bss"].value_size >= 12
    assert maps[".bss"].initial == bytes(maps[".bss"].value_size)
    assert program.btf is not None
    assert program.btf.type_of(maps[".bss"].value_type, Datasec).size == maps[".bss"].value_size


def test_named_data_sections(compiled: Compile) -> None:
    program = load(compiled("accepted/sections"))
    maps = {spec.name: spec for spec in program.maps}
    assert maps[".rodata.cst16"].initial == bytes(range(1, 17))
    assert maps[".data.tuning"].initial == struct.pack("<II", 10, 20)
    offsets = {(item.name, item.offset) for item in program.references if item.kind is ReferenceKind.MAP_VALUE}
    assert {(".rodata.cst16", 0), (".data.tuning", 0)} <= offsets
    assert (".bss", 12) in offsets


def test_references(compiled: Compile) -> None:
    program = load(compiled("accepted/connections"))
    assert {(item.kind, item.name) for item in program.references} == {
        (ReferenceKind.MAP, "connections"),
        (ReferenceKind.MAP, "events"),
        (ReferenceKind.MAP_VALUE, ".rodata"),
        (ReferenceKind.MAP_VALUE, ".data"),
        (ReferenceKind.MAP_VALUE, ".bss"),
        (ReferenceKind.RUNTIME, "oko_in_port"),
    }
    for item in program.references:
        instruction = program.instructions[item.instruction]
        if item.kind is ReferenceKind.RUNTIME:
            assert (instruction.opcode, instruction.src, instruction.imm) == (isa.OPCODE_CALL, isa.CALL_LOCAL, -1)
        else:
            assert (instruction.opcode, instruction.src, instruction.imm) == (isa.LDDW, 0, 0)
            assert program.instructions[item.instruction + 1] == isa.Instruction(0)


def test_source_lines(compiled: Compile) -> None:
    program = load(compiled("accepted/connections"))
    lookup = next(
        index
        for index, instruction in enumerate(program.instructions)
        if instruction.opcode == isa.OPCODE_CALL and instruction.imm == 1
    )
    line = program.line_at(lookup)
    assert line is not None
    assert line.text == "\tknown = bpf_map_lookup_elem(&connections, &key);"
    source = (HERE / "accepted/connections.c").read_text().splitlines()
    assert line.file.endswith("connections.c")
    for found in program.lines:
        assert found.text == source[found.line - 1].rstrip()


def test_type_information_is_placed(compiled: Compile) -> None:
    btf = load(compiled("accepted/connections")).btf
    assert btf is not None
    sections = {value.name: value for value in btf.types if isinstance(value, Datasec)}
    assert sections[".maps"].size == 32 + 16 + 32
    placed = {btf.type_of(item.type, Var).name: item.offset for item in sections[".bss"].variables}
    assert 0 in placed.values()
    assert abs(placed["seen"] - placed["unknown"]) >= 4
    assert placed.keys() == {"seen", "unknown"}
    assert btf.id_of("oko_in_port", Func) is not None


def test_object_without_type_information(compiled: Compile) -> None:
    program = load(compiled("accepted/instructions", "-g0"))
    assert (program.btf, program.lines, program.maps) == (None, (), ())


REJECTED = {
    "address_in_data": "address of variable is stored in a variable",
    "core": "CO-RE relocations",
    "function_pointer": "takes the address of a function",
    "legacy_maps": "legacy form of map declarations",
    "map_as_number": "map number: it is not declared as a struct",
    "map_attribute": "map shared: attribute 'pinning' is unknown",
    "map_type": "map ports: its type is DEVMAP; a filter program may use ARRAY, HASH",
    "map_with_content": "a map with initial content",
    "map_without_key": "map keyless: it says no key",
    "no_license": "no license",
    "no_program": r'no filter program: an author writes SEC\("filter"\)',
    "small_ring": "map events: max_entries=1000",
    "two_functions": r"section filter has 2 functions \(first, second\)",
    "undefined": "calls oko_no_such_function, which is defined nowhere; the switch provides oko_in_port",
    "undefined_variable": "uses elsewhere, which is defined nowhere",
    "unknown_section": "section xdp is unknown",
}


@pytest.mark.parametrize(("name", "message"), REJECTED.items(), ids=list(REJECTED))
def test_rejected(compiled: Compile, name: str, message: str) -> None:
    with pytest.raises(NotReadable, match=message):
        load(compiled(f"rejected/{name}"))


@pytest.mark.parametrize(
    ("name", "what", "limit"), [("too_long", "instructions", 4096), ("much_data", "bytes in section .bss", 1 << 20)]
)
def test_limits(compiled: Compile, name: str, what: str, limit: int) -> None:
    with pytest.raises(LimitExceeded, match=what) as error:
        load(compiled(f"rejected/{name}"))
    assert error.value.limit == limit < error.value.used


def test_maps_without_type_information(compiled: Compile) -> None:
    with pytest.raises(NotReadable, match="compile with -g"):
        load(compiled("accepted/connections", "-g0"))


def test_several_sections_of_one_object() -> None:
    data = (ROOT / "build/bpf/runtime/actions.o").read_bytes()
    sections = [f"runtime/{name}" for name in ("set_field", "push_vlan", "pop_vlan")]
    programs = list(load_sections(data, sections))
    assert programs == [load(data, section=section) for section in sections]
    assert [program.name for program in programs] == ["oko_set_field", "oko_push_vlan", "oko_pop_vlan"]
    with pytest.raises(NotReadable, match="no runtime/nothing program"):
        list(load_sections(data, [*sections, "runtime/nothing"]))


@pytest.mark.parametrize(
    ("section", "allowed"), [("filter", False), ("xdp", True)], ids=["filter-program", "object-of-the-runtime"]
)
def test_map_types_of_the_runtime(compiled: Compile, section: str, allowed: bool) -> None:
    data = compiled("rejected/map_type").replace(b"\0filter\0", b"\0" + section.encode().ljust(6, b"\0") + b"\0")
    data = data.replace(b".relfilter\0", b".rel" + section.encode().ljust(6, b"\0") + b"\0")
    if not allowed:
        with pytest.raises(NotReadable, match="DEVMAP"):
            load(data, section=section)
    else:
        assert load(data, section=section).maps[0].type is MapType.DEVMAP


def _host_object(tmp_path: Path, *flags: str) -> bytes:
    source, target = tmp_path / "host.c", tmp_path / "host.o"
    source.write_text("int f(void) { return 1; }\n")
    subprocess.run(["clang", *flags, "-c", source, "-o", target], check=True)
    return target.read_bytes()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        pytest.param(("-target", "x86_64-linux-gnu"), "machine x86-64, not BPF", id="x86-64"),
        pytest.param(("-target", "i386-linux-gnu"), "32-bit ELF", id="32-bit"),
        pytest.param(("-target", "aarch64-linux-gnu"), "machine AArch64, not BPF", id="aarch64"),
        pytest.param(("-target", "bpfeb"), "big-endian", id="big-endian"),
    ],
)
def test_other_machines(tmp_path: Path, flags: tuple[str, ...], message: str) -> None:
    with pytest.raises(NotReadable, match=message):
        load(_host_object(tmp_path, *flags))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "not an ELF file", id="empty"),
        pytest.param(b"#!/bin/sh\n", "not an ELF file", id="script"),
        pytest.param(b"\x7fELF", "truncated", id="magic-only"),
    ],
)
def test_other_files(data: bytes, message: str) -> None:
    with pytest.raises(NotReadable, match=message):
        load(data)


def test_every_truncation_is_refused(compiled: Compile) -> None:
    data = compiled("accepted/subprograms")
    for length in range(4, len(data), 7):
        with pytest.raises(NotReadable, match="truncated"):
            load(data[:length])


def test_section_beyond_the_end(compiled: Compile) -> None:
    data = bytearray(compiled("accepted/subprograms"))
    (start,) = struct.unpack_from("<Q", data, 0x28)
    struct.pack_into("<Q", data, start + 2 * 64 + 0x20, 1 << 40)
    with pytest.raises(NotReadable, match="truncated: a section of 1099511627776 bytes"):
        load(bytes(data))


@pytest.mark.parametrize("strings", [0, 1 << 31], ids=["no-strings", "no-section"])
def test_symbols_without_names(compiled: Compile, strings: int) -> None:
    data = bytearray(compiled("accepted/subprograms"))
    start, count = struct.unpack_from("<Q", data, 0x28)[0], struct.unpack_from("<H", data, 0x3C)[0]
    headers = range(start, start + count * 64, 64)
    (table,) = (header for header in headers if struct.unpack_from("<I", data, header + 4)[0] == SHT_SYMTAB)
    struct.pack_into("<I", data, table + 0x28, strings)
    with pytest.raises(NotReadable, match=f"the symbol table has its names in section number {strings}"):
        load(bytes(data))


def test_linked_file(compiled: Compile) -> None:
    data = bytearray(compiled("accepted/subprograms"))
    struct.pack_into("<H", data, 16, 2)
    with pytest.raises(NotReadable, match="compile with -c"):
        load(bytes(data))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_mutations_raise_nothing_else(compiled: Compile, data: st.DataObject) -> None:
    raw = bytearray(compiled("accepted/connections"))
    (headers,) = struct.unpack_from("<Q", raw, 0x28)
    # Half of the mutations in the section headers, where they reach furthest.
    place = st.integers(0, len(raw) - 1) | st.integers(headers, len(raw) - 1)
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(place)] = data.draw(st.integers(0, 255))
    with contextlib.suppress(OkoError):
        load(bytes(raw))
