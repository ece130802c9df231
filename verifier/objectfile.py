"""The parts of an ELF file that matter here: sections, symbols and relocations of a 64-bit little-endian BPF object."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Any, Final

from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_ST_INFO_TYPE

from oko.errors import NotReadable

_HEADER_SIZE: Final = 64
_SECTION_HEADER_SIZE: Final = 64
_MACHINE_OFFSET: Final = 18
_MACHINE_BPF: Final = 247
_REL: Final = struct.Struct("<QII")
"""Elf64_Rel: offset; type and number of the symbol, which are r_info."""
_SYM: Final = struct.Struct("<IBxHQQ")
"""Elf64_Sym: name, binding and type (the lower four bits), section, value, size; between them st_other."""
_UNDEFINED: Final = 0
_SYMBOL_TYPES: Final = {number: name for name, number in ENUM_ST_INFO_TYPE.items() if name.startswith("STT_")}


@dataclass(frozen=True, slots=True)
class Section:
    """A section. `size` is in bytes; `data` is empty for a section that takes no room in the file (.bss)."""

    index: int
    name: str
    type: str
    size: int
    data: bytes
    executable: bool


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol: `value` bytes into section number `section`, which is None for an undefined one and -1 for one that
    lies in no section at all. `type` is STT_FUNC, STT_OBJECT, …"""

    name: str
    type: str
    section: int | None
    value: int
    size: int


@dataclass(frozen=True, slots=True)
class Relocation:
    """The 8 bytes (or fewer) at `offset` of a section refer to `symbol`. `type` is an R_BPF_* number."""

    offset: int
    type: int
    symbol: Symbol


@dataclass(frozen=True, slots=True)
class ObjectFile:
    """`relocations` are by the index of the section they change, ascending by offset."""

    sections: tuple[Section, ...]
    symbols: tuple[Symbol, ...]
    relocations: dict[int, tuple[Relocation, ...]]

    @staticmethod
    def read(data: bytes) -> ObjectFile:
        """Reads the bytes of an object file. Raises NotReadable, whatever they are."""
        _check_header(data)
        try:
            return _read(data)
        except NotReadable:
            raise
        except Exception as error:  # pyelftools meets bad bytes with whatever its parser happens to raise
            raise NotReadable(f"the ELF file is malformed: {error or type(error).__name__}") from error

    def section(self, name: str) -> Section | None:
        """The section of this name, if there is one."""
        return next((section for section in self.sections if section.name == name), None)


def _check_header(data: bytes) -> None:
    if data[:4] != b"\x7fELF":
        raise NotReadable("not an ELF file: compile the program with clang -target bpf -c")
    if len(data) < _MACHINE_OFFSET + 2:
        raise NotReadable(f"truncated: the ELF header ends beyond the {len(data)} bytes of the file")
    if data[4] != 2:
        raise NotReadable("a 32-bit ELF file: BPF objects are 64-bit; compile with clang -target bpf")
    if data[5] != 1:
        raise NotReadable("a big-endian ELF file: compile with clang -target bpfel")
    machine = int.from_bytes(data[_MACHINE_OFFSET : _MACHINE_OFFSET + 2], "little")
    if machine != _MACHINE_BPF:
        raise NotReadable(f"an object for machine {_machine_name(machine)}, not BPF: compile with clang -target bpf")
    if len(data) < _HEADER_SIZE:
        raise NotReadable(f"truncated: the ELF header ends beyond the {len(data)} bytes of the file")


def _machine_name(number: int) -> str:
    return {3: "x86", 62: "x86-64", 40: "ARM", 183: "AArch64", 243: "RISC-V"}.get(number, f"number {number}")


def _read(data: bytes) -> ObjectFile:
    elf = ELFFile(io.BytesIO(data))
    header = elf.header
    if header.e_type != "ET_REL":
        raise NotReadable("a linked ELF file, not an object file: compile with -c")
    count, start = header.e_shnum, header.e_shoff
    if not count or header.e_shentsize != _SECTION_HEADER_SIZE:
        raise NotReadable("the ELF file has no sections")
    if start + count * _SECTION_HEADER_SIZE > len(data):
        raise NotReadable(f"truncated: the section headers end beyond the {len(data)} bytes of the file")
    headers = [elf._get_section_header(index) for index in range(count)]
    for section_header in headers:
        _check_extent(section_header, len(data))
    # Read by slicing: pyelftools would make up the zeros of a .bss of any size and inflate compressed sections.
    sections = tuple(
        Section(
            index,
            elf._get_section_name(header),
            str(header.sh_type),
            header.sh_size,
            b"" if header.sh_type == "SHT_NOBITS" else data[header.sh_offset :][: header.sh_size],
            bool(header.sh_flags & 0x4),
        )
        for index, header in enumerate(headers)
    )
    tables = [index for index, header in enumerate(headers) if header.sh_type == "SHT_SYMTAB"]
    if len(tables) != 1:
        raise NotReadable(f"the object file has {len(tables)} symbol tables, expected one")
    (table,) = tables
    symbols = _symbols(sections[table], headers[table].sh_entsize, headers[table].sh_link, sections)
    relocations: dict[int, tuple[Relocation, ...]] = {}
    for index, header in enumerate(headers):
        if header.sh_type == "SHT_RELA":
            raise NotReadable(
                f"section {sections[index].name}: relocations with addends, which BPF objects do not have"
            )
        if header.sh_type == "SHT_REL":
            if not 0 < header.sh_info < len(sections) or header.sh_info in relocations:
                raise NotReadable(f"section {sections[index].name}: relocates section number {header.sh_info}")
            relocations[header.sh_info] = _relocations(sections[index], header.sh_entsize, symbols)
    return ObjectFile(sections, symbols, relocations)


def _check_extent(header: Any, length: int) -> None:
    if header.sh_type in ("SHT_NOBITS", "SHT_NULL"):
        return
    if header.sh_offset + header.sh_size > length:
        raise NotReadable(
            f"truncated: a section of {header.sh_size} bytes at {header.sh_offset} ends beyond the {length} bytes of"
            " the file"
        )


def _symbols(table: Section, entry_size: int, strings: int, sections: tuple[Section, ...]) -> tuple[Symbol, ...]:
    """`strings` is the number of the section with the names."""
    if entry_size != _SYM.size or table.size % _SYM.size:
        raise NotReadable("the symbol table is malformed")
    if not strings < len(sections) or sections[strings].type != "SHT_STRTAB":
        raise NotReadable(f"the symbol table has its names in section number {strings}")
    names = sections[strings].data
    symbols = []
    # Not by pyelftools, which is slow: there are hundreds, and okod reads objects whenever it starts.
    for name, info, where, value, size in _SYM.iter_unpack(table.data):
        number: int | None = where if where < len(sections) else -1
        if where == _UNDEFINED:
            number = None
        kind = _SYMBOL_TYPES.get(info & 0xF, "STT_?")
        text = sections[number].name if kind == "STT_SECTION" and number else _string(names, name)
        symbols.append(Symbol(text, kind, number, value, size))
    return tuple(symbols)


def _string(table: bytes, start: int) -> str:
    """The text that begins at `start` and ends with a NUL, empty where there is none."""
    end = table.find(b"\0", start)
    return table[start:end].decode(errors="replace") if end >= 0 else ""


def _relocations(table: Section, entry_size: int, symbols: tuple[Symbol, ...]) -> tuple[Relocation, ...]:
    if entry_size != _REL.size or table.size % _REL.size:
        raise NotReadable(f"section {table.name}: the relocations are malformed")
    found = []
    # Not by pyelftools, which is slow: there are thousands, most of them for debug information.
    for offset, kind, number in _REL.iter_unpack(table.data):
        if number >= len(symbols):
            raise NotReadable(f"section {table.name}: symbol number {number} of {len(symbols)}")
        found.append(Relocation(offset, kind, symbols[number]))
    return tuple(sorted(found, key=lambda relocation: relocation.offset))
