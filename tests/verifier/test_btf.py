from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oko.errors import NotReadable
from oko.kernel.btf import load_btf
from tests.verifier.conftest import Compile
from verifier import btf as kinds
from verifier.btf import Btf, BtfExt, Member
from verifier.elf import load
from verifier.objectfile import ObjectFile

# One type of every kind that a value can have; ids are positions.
TYPES = (
    kinds.Void(),
    kinds.Int("unsigned char", 1, 8),
    kinds.Int("char", 1, 8, signed=True),
    kinds.Int("unsigned int", 4, 32),
    kinds.Int("long", 8, 64, signed=True),
    kinds.Int("_Bool", 1, 8, boolean=True),
    kinds.Typedef("__u32", 3),
    kinds.Typedef("__be32", 6),
    kinds.Const(7),
    kinds.Array(1, 3, 6),
    kinds.Array(1, 3, 4),
    kinds.Array(2, 3, 8),
    kinds.Array(7, 3, 2),
    kinds.Ptr(18),
    kinds.Enum("state", 4, False, (("NEW", 0), ("OPEN", 1))),
    kinds.Enum64("wide", 8, True, (("LOW", -(1 << 63)), ("HIGH", (1 << 63) - 1))),
    kinds.Float("double", 8),
    kinds.Union("", 4, (Member("word", 3, 0), Member("bytes", 10, 0))),
    kinds.Struct(
        "pair",
        16,
        (Member("low", 3, 0, 4), Member("rest", 3, 4, 28), Member("", 17, 32), Member("next", 13, 64)),
    ),
    kinds.Var("counter", 3, kinds.STATIC),
    kinds.Var("table", 12),
    kinds.Datasec(".bss", 12, (kinds.SectionVariable(19, 0, 4), kinds.SectionVariable(20, 4, 8))),
    kinds.Volatile(18),
    kinds.FuncProto(4, (kinds.Parameter("pair", 13), kinds.Parameter("", 0))),
    kinds.Func("function", 23, kinds.EXTERN),
    kinds.Fwd("hidden", True),
    kinds.DeclTag("tag", 18, 2),
    kinds.DeclTag("whole", 18),
    kinds.TypeTag("user", 3),
    kinds.Restrict(13),
    kinds.Typedef("pair_t", 18),
)
BTF = Btf.of(TYPES)


def test_types_survive_encoding() -> None:
    assert BTF.types == TYPES
    assert Btf.parse(BTF.raw) == BTF
    assert BTF.string(1) == "unsigned char"


def test_bpftool_reads_the_encoding(tmp_path: Path) -> None:
    file = tmp_path / "types.btf"
    file.write_bytes(BTF.raw)
    dump = subprocess.run(["bpftool", "btf", "dump", "file", file], check=True, capture_output=True, text=True).stdout
    assert "[18] STRUCT 'pair' size=16 vlen=4\n\t'low' type_id=3 bits_offset=0 bitfield_size=4" in dump
    assert "[15] ENUM64 'wide' encoding=SIGNED size=8 vlen=2\n\t'LOW' val=-9223372036854775808" in dump
    assert "[24] FUNC 'function' type_id=23 linkage=extern" in dump
    assert "[27] DECL_TAG 'whole' type_id=18 component_idx=-1" in dump


def test_lookups() -> None:
    assert BTF.id_of("pair", kinds.Struct) == 18
    assert BTF.id_of("pair", kinds.Union) is None
    assert [(member.name, member.offset) for member in BTF.members(18)] == [
        ("low", 0),
        ("rest", 0),
        ("word", 4),
        ("bytes", 4),
        ("next", 8),
    ]
    assert BTF.resolve(8) == 3
    with pytest.raises(NotReadable, match="type 18 is Struct, expected Func"):
        BTF.type_of(18, kinds.Func)
    with pytest.raises(NotReadable, match="there is no type 99"):
        BTF.resolve(99)


@pytest.mark.parametrize(
    ("type_id", "size"),
    [(1, 1), (8, 4), (9, 6), (12, 8), (13, 8), (14, 4), (15, 8), (16, 8), (18, 16), (20, 8), (21, 12), (22, 16)],
)
def test_size_of(type_id: int, size: int) -> None:
    assert BTF.size_of(type_id) == size


@pytest.mark.parametrize("type_id", [0, 23, 24, 25], ids=["void", "prototype", "function", "forward"])
def test_size_of_what_has_none(type_id: int) -> None:
    with pytest.raises(NotReadable, match="has no size"):
        BTF.size_of(type_id)


def _with_header(**fields: int) -> bytes:
    names = ("magic", "version", "flags", "header", "type_offset", "type_length", "string_offset", "string_length")
    values = dict(zip(names, struct.unpack_from("<HBBIIIII", BTF.raw), strict=True)) | fields
    return struct.pack("<HBBIIIII", *values.values()) + BTF.raw[24:]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(b"", "too short", id="empty"),
        pytest.param(_with_header(magic=0x9FEB), "magic", id="big-endian"),
        pytest.param(_with_header(version=2), "version 2", id="version"),
        pytest.param(_with_header(type_length=1 << 31), "end beyond", id="long"),
        pytest.param(_with_header(header=0), "end beyond", id="no-header"),
        pytest.param(_with_header(type_length=30), "truncated in the type", id="cut-type"),
        pytest.param(_with_header(string_length=0), "NUL", id="no-strings"),
        pytest.param(BTF.raw[:31] + b"\x1f" + BTF.raw[32:], "kind 31", id="kind"),
    ],
)
def test_malformed(raw: bytes, message: str) -> None:
    with pytest.raises(NotReadable, match=message):
        Btf.parse(raw)


def test_reference_to_a_missing_type() -> None:
    with pytest.raises(NotReadable, match="type 1 refers to type 7, the last is 1"):
        Btf.of((kinds.Void(), kinds.Ptr(7)))


def test_types_that_contain_themselves() -> None:
    looping = Btf.of((kinds.Void(), kinds.Typedef("a", 2), kinds.Const(1), kinds.Array(3, 3, 2)))
    with pytest.raises(NotReadable, match="defined by itself"):
        looping.resolve(1)
    with pytest.raises(NotReadable, match="contains itself"):
        looping.size_of(3)
    nested = Btf.of((kinds.Void(), kinds.Struct("a", 4, (Member("", 1, 0),))))
    with pytest.raises(NotReadable, match="nested deeper"):
        nested.members(1)


@given(st.data())
def test_mutations_raise_nothing_else(data: st.DataObject) -> None:
    raw = bytearray(BTF.raw)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        parsed = Btf.parse(bytes(raw))
        for type_id, value in enumerate(parsed.types):
            parsed.size_of(type_id)
            if isinstance(value, kinds.Struct | kinds.Union):
                parsed.members(type_id)
    except NotReadable:
        pass


def test_line_and_function_info(compiled: Compile) -> None:
    elf = ObjectFile.read(compiled("accepted/subprograms"))
    types, extension = elf.section(".BTF"), elf.section(".BTF.ext")
    assert types is not None
    assert extension is not None
    btf = Btf.parse(types.data)
    ext = BtfExt.parse(extension.data, btf)
    names = [btf.type_of(info.type, kinds.Func).name for info in ext.func_info[".text"]]
    assert names == ["never_called", "square", "sum_of_squares"]
    assert "__u32 length = ctx->data_end - ctx->data;" in {info.text.strip() for info in ext.line_info["filter"]}
    assert ext.core_relocations == 0
    for cut in range(len(extension.data)):
        with pytest.raises(NotReadable, match=r"\.BTF\.ext"):
            BtfExt.parse(extension.data[:cut], btf)


@pytest.mark.needs_bpf
@pytest.mark.parametrize("clang", ["clang", "clang-16", "clang-19"])
@pytest.mark.parametrize("name", ["connections", "helpers", "sections", "subprograms"])
def test_kernel_loads_the_types_of_a_program(compiled: Compile, name: str, clang: str) -> None:
    btf = load(compiled(f"accepted/{name}", clang=clang)).btf
    assert btf is not None
    with load_btf(btf.raw):
        pass
