"""The front end: an ELF object file in, a `Program` out.

The entry is the one function of the section; the functions that it calls are laid out after it, in the order in which
they are first called. Calls between them become relative to the program counter (RFC 9669, 4.3.1), references to maps
and to functions of the runtime stay symbolic.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import struct
from collections.abc import Iterable, Iterator
from typing import Final

from oko.errors import LimitExceeded, NotReadable
from verifier import isa
from verifier.btf import EXTERN, GLOBAL, Btf, BtfExt, Const, Datasec, Func, FuncProto, Type, Var
from verifier.declarations import (
    AUTHOR_MAP_TYPES,
    MAPS_SECTION,
    data_map,
    declared_maps,
    is_data_section,
)
from verifier.isa import SLOT_SIZE, Instruction
from verifier.objectfile import ObjectFile, Relocation, Section, Symbol
from verifier.program import Function, Line, MapSpec, MapType, Program, Reference, ReferenceKind
from verifier.runtime import RUNTIME_FUNCTIONS

FILTER_SECTION: Final = "filter"
MAX_INSTRUCTIONS: Final = 4096
MAX_SECTION_SIZE: Final = 1 << 20

_TEXT: Final = ".text"
_LICENSE: Final = "license"
# Relocation types, as LLVM calls them: R_BPF_64_64 for addresses, R_BPF_64_32 for calls, and for the words of .BTF
# R_BPF_64_ABS32 and R_BPF_64_NODYLD32.
_R_64_64: Final = 1
_R_64_32: Final = 10
_RELOCATIONS_OF_BTF: Final = frozenset({3, 4})
_VOID: Final = 0
_U32: Final = struct.Struct("<I")

# Sections that the compiler adds and that have no effect on the program.
_IGNORED: Final = re.compile(r"\.debug_.*|\.llvm.*|\.comment|\.note\..*")
_IGNORED_TYPES: Final = frozenset({"SHT_NULL", "SHT_STRTAB", "SHT_SYMTAB", "SHT_REL"})


def load(data: bytes, *, section: str = FILTER_SECTION) -> Program:
    """The program in `section` of an object file, whose bytes are `data`.

    A filter program may declare maps of AUTHOR_MAP_TYPES only; objects of the runtime, which have other sections, of
    any type. Beside a section ``ROOM/NAME`` there may be others of the same room, which are left alone. Raises
    NotReadable for anything that is not such an object, LimitExceeded beyond 4096 instructions or 1 MiB in a section.
    """
    (program,) = load_sections(data, [section])
    return program


def load_sections(data: bytes, sections: Iterable[str]) -> Iterator[Program]:
    """The program in each of these sections of an object file, which is read once. Raises as `load` does."""
    elf = ObjectFile.read(data)
    digest = hashlib.sha256(data).hexdigest()
    types: tuple[Btf | None, BtfExt | None] | None = None
    for section in sections:
        _check_sections(elf, section)
        types = types or _type_information(elf)
        yield _program(elf, section, *types, digest)


def _program(elf: ObjectFile, section: str, btf: Btf | None, ext: BtfExt | None, digest: str) -> Program:
    map_types = AUTHOR_MAP_TYPES if section == FILTER_SECTION else frozenset(MapType)
    linker = _Linker(elf, section, btf, declared_maps(elf, btf, map_types))
    linker.link()
    return Program(
        name=linker.functions[0].name,
        license=_license(elf),
        instructions=tuple(linker.instructions),
        functions=tuple(linker.functions),
        maps=tuple(linker.maps.values()),
        references=tuple(linker.references),
        lines=_lines(ext, linker) if ext is not None else (),
        btf=btf,
        digest=digest,
    )


def _check_sections(elf: ObjectFile, wanted: str) -> None:
    known = {wanted, _TEXT, _LICENSE, MAPS_SECTION, ".BTF", ".BTF.ext"}
    seen: set[str] = set()
    for section in elf.sections:
        if section.type in _IGNORED_TYPES or _IGNORED.fullmatch(section.name):
            continue
        if section.name == "maps":
            raise NotReadable('section maps: the legacy form of map declarations; declare maps in SEC(".maps")')
        if section.name not in known and not _beside(section.name, wanted) and not is_data_section(section.name):
            raise NotReadable(f'section {section.name} is unknown: a filter program has SEC("{wanted}") and no other')
        if section.name in seen:
            raise NotReadable(f"there are two sections {section.name}")
        seen.add(section.name)
        if section.size > MAX_SECTION_SIZE:
            raise LimitExceeded(
                f"bytes in section {section.name}", section.size, MAX_SECTION_SIZE, advice="use a map instead"
            )
        relocated = elf.relocations.get(section.index)
        if relocated and is_data_section(section.name):
            raise NotReadable(
                f"section {section.name}: the address of {relocated[0].symbol.name} is stored in a variable;"
                " addresses cannot be data"
            )


def _beside(name: str, wanted: str) -> bool:
    """Whether a section is of the same room as the wanted one."""
    return "/" in wanted and name.partition("/")[0] == wanted.partition("/")[0]


def _license(elf: ObjectFile) -> str:
    section = elf.section(_LICENSE)
    if section is None:
        raise NotReadable('no license: write char LICENSE[] SEC("license") = "Dual BSD/GPL";')
    text = section.data.split(b"\0", 1)[0]
    if not text or not text.isascii() or len(text) == len(section.data):
        raise NotReadable("section license is not a text that ends with a NUL")
    return text.decode("ascii")


class _Linker:
    """Lays out the functions that are reachable from the entry and resolves their relocations."""

    def __init__(self, elf: ObjectFile, section: str, btf: Btf | None, declared: dict[int, MapSpec]) -> None:
        self._elf = elf
        self._btf = btf
        self._declared = declared
        self._found: dict[tuple[int, int], Symbol] = {}  # (section, offset) → function
        self._placed: dict[tuple[int, int], int] = {}  # (section, offset) → first instruction
        self._queue: list[Symbol] = []
        self._calls: list[tuple[int, tuple[int, int]]] = []  # (instruction, function called)
        self.instructions: list[Instruction] = []
        self.functions: list[Function] = []
        self.places: list[tuple[str, int, Function]] = []  # section, offset in it in bytes, function
        self.references: list[Reference] = []
        self.maps: dict[str, MapSpec] = {spec.name: spec for spec in declared.values()}
        self._entry = self._find_functions(section)

    def link(self) -> None:
        """Fills `instructions`, `functions`, `places`, `references` and `maps`."""
        self._enqueue(self._entry)
        for function in self._queue:  # grows while it is walked
            self._lay_out(function)
        if len(self.instructions) > MAX_INSTRUCTIONS:
            raise LimitExceeded(
                "instructions of the program", len(self.instructions), MAX_INSTRUCTIONS, advice="split the program"
            )
        for index, callee in self._calls:
            self._replace(index, imm=self._placed[callee] - index - 1)

    def _find_functions(self, name: str) -> Symbol:
        section = self._elf.section(name)
        own = []
        for symbol in self._elf.symbols:
            if symbol.type != "STT_FUNC" or symbol.section is None:
                continue
            home = self._elf.sections[symbol.section]
            if home.name != name and _beside(home.name, name):
                continue
            if symbol.section < 0 or home.name not in (name, _TEXT):
                raise NotReadable(f"function {symbol.name} lies in section {home.name}")
            if symbol.value % SLOT_SIZE or symbol.size % SLOT_SIZE or not symbol.size:
                raise NotReadable(
                    f"function {symbol.name}: its {symbol.size} bytes at {symbol.value} are not whole slots"
                )
            if symbol.value + symbol.size > len(home.data):
                raise NotReadable(f"function {symbol.name} ends beyond section {home.name}")
            self._found.setdefault((symbol.section, symbol.value), symbol)
            if home.name == name:
                own.append(symbol)
        if section is None or not own:
            raise NotReadable(f'no {name} program: an author writes SEC("{name}") before the function')
        if len(own) > 1:
            names = ", ".join(symbol.name for symbol in own)
            raise NotReadable(
                f"section {name} has {len(own)} functions ({names}): only the program itself belongs there"
            )
        if own[0].value:
            raise NotReadable(f"section {name}: {own[0].name} begins at byte {own[0].value}, not at 0")
        return own[0]

    def _enqueue(self, function: Symbol) -> tuple[int, int]:
        assert function.section is not None
        key = (function.section, function.value)
        if key not in self._placed:
            end = 0
            if self._queue:
                last = self._queue[-1]
                assert last.section is not None
                end = self._placed[last.section, last.value] + last.size // SLOT_SIZE
            self._placed[key] = end
            self._queue.append(function)
        return key

    def _lay_out(self, function: Symbol) -> None:
        assert function.section is not None
        home = self._elf.sections[function.section]
        start = len(self.instructions)
        end = function.value + function.size
        self.instructions += isa.decode(home.data[function.value : end])
        placed = Function(function.name, start, len(self.instructions))
        self.functions.append(placed)
        self.places.append((home.name, function.value, placed))
        relocations = {
            relocation.offset: relocation
            for relocation in self._elf.relocations.get(home.index, ())
            if function.value <= relocation.offset < end
        }
        index = start
        while index < placed.end:
            offset = function.value + (index - start) * SLOT_SIZE
            instruction = self.instructions[index]
            relocation = relocations.pop(offset, None)
            if instruction.opcode == isa.LDDW:
                if relocation is not None:
                    self._relocate_address(placed, index, relocation)
                index += 1
            elif instruction.opcode == isa.OPCODE_CALL and instruction.src == isa.CALL_LOCAL:
                self._relocate_call(placed, index, home, offset, relocation)
            elif relocation is not None:
                raise _bad_relocation(placed, relocation)
            index += 1
        if relocations:
            raise _bad_relocation(placed, next(iter(relocations.values())))

    def _relocate_call(
        self, caller: Function, index: int, home: Section, offset: int, relocation: Relocation | None
    ) -> None:
        instruction = self.instructions[index]
        if relocation is None:
            key = (home.index, offset + (instruction.imm + 1) * SLOT_SIZE)
        else:
            symbol = relocation.symbol
            if relocation.type != _R_64_32:
                raise _bad_relocation(caller, relocation)
            if symbol.section is None:
                self._call_runtime(caller, index, symbol.name)
                return
            key = (symbol.section, symbol.value + (instruction.imm + 1) * SLOT_SIZE)
        callee = self._found.get(key)
        if callee is None:
            raise NotReadable(f"function {caller.name}: instruction {index} calls an address where no function begins")
        self._calls.append((index, self._enqueue(callee)))

    def _call_runtime(self, caller: Function, index: int, name: str) -> None:
        if name not in RUNTIME_FUNCTIONS:
            known = ", ".join(sorted(RUNTIME_FUNCTIONS))
            raise NotReadable(
                f"function {caller.name} calls {name}, which is defined nowhere; the switch provides {known}"
            )
        self._replace(index, imm=-1)
        self.references.append(Reference(index, ReferenceKind.RUNTIME, name))

    def _relocate_address(self, function: Function, index: int, relocation: Relocation) -> None:
        symbol = relocation.symbol
        if relocation.type != _R_64_64:
            raise _bad_relocation(function, relocation)
        if symbol.section is None:
            raise NotReadable(f"function {function.name} uses {symbol.name}, which is defined nowhere")
        if symbol.section < 0:
            raise _bad_relocation(function, relocation)
        home = self._elf.sections[symbol.section]
        offset = symbol.value + self.instructions[index].imm
        if home.name == MAPS_SECTION:
            spec = self._declared.get(offset)
            if spec is None:
                raise NotReadable(f"function {function.name}: instruction {index} refers to the middle of a map")
            reference = Reference(index, ReferenceKind.MAP, spec.name)
        elif is_data_section(home.name):
            if not 0 <= offset < home.size:
                raise NotReadable(
                    f"function {function.name}: instruction {index} refers to byte {offset} of section {home.name},"
                    f" which has {home.size}"
                )
            self.maps.setdefault(home.name, data_map(home, self._btf))
            reference = Reference(index, ReferenceKind.MAP_VALUE, home.name, offset)
        else:
            what = "a function" if home.executable else f"{symbol.name} in section {home.name}"
            raise NotReadable(f"function {function.name} takes the address of {what}: only maps and variables have one")
        self._replace(index, src=0, imm=0)
        self.references.append(reference)

    def _replace(self, index: int, **changes: int) -> None:
        self.instructions[index] = dataclasses.replace(self.instructions[index], **changes)


def _bad_relocation(function: Function, relocation: Relocation) -> NotReadable:
    return NotReadable(
        f"function {function.name}: relocation type {relocation.type} against {relocation.symbol.name or 'no symbol'}"
        f" at byte {relocation.offset} is not one of a filter program"
    )


def _lines(ext: BtfExt, linker: _Linker) -> tuple[Line, ...]:
    found: dict[int, Line] = {}
    for section, start, function in linker.places:
        size = (function.end - function.start) * SLOT_SIZE
        for info in ext.line_info.get(section, ()):
            # Line 0 is code that the compiler made for no line in particular: it counts to the line before.
            if info.line and start <= info.offset < start + size and not info.offset % SLOT_SIZE:
                index = function.start + (info.offset - start) // SLOT_SIZE
                found.setdefault(index, Line(index, info.file, info.text, info.line, info.column))
    return tuple(found[index] for index in sorted(found))


# --- type information ---------------------------------------------------------------------------------------------


def _type_information(elf: ObjectFile) -> tuple[Btf | None, BtfExt | None]:
    section = elf.section(".BTF")
    if section is None:
        return None, None
    raw = bytearray(section.data)
    for relocation in elf.relocations.get(section.index, ()):
        if relocation.type not in _RELOCATIONS_OF_BTF or relocation.offset + _U32.size > len(raw):
            raise NotReadable(f"section .BTF: relocation type {relocation.type} at byte {relocation.offset}")
        (addend,) = _U32.unpack_from(raw, relocation.offset)
        _U32.pack_into(raw, relocation.offset, addend + relocation.symbol.value & 0xFFFFFFFF)
    btf = Btf.parse(bytes(raw))
    extension = elf.section(".BTF.ext")
    ext = BtfExt.parse(extension.data, btf) if extension is not None else None
    if ext is not None and ext.core_relocations:
        raise NotReadable(
            "the program asks for CO-RE relocations, which filter programs have no use for: include <linux/bpf.h>, not"
            " vmlinux.h, and use no preserve_access_index"
        )
    return Btf.of(_loadable(btf, elf)), ext


def _loadable(btf: Btf, elf: ObjectFile) -> list[Type]:
    """The types as the kernel takes them. Type ids stay as they are."""
    prototypes = {value.type for value in btf.types if isinstance(value, Func)}
    types: list[Type] = []
    for type_id, value in enumerate(btf.types):
        match value:
            case Datasec():
                types.append(_placed(value, btf, elf))
            case Func(linkage=linkage) if linkage == EXTERN:
                # The kernel keeps this linkage for its own functions.
                types.append(dataclasses.replace(value, linkage=GLOBAL))
            case FuncProto() if type_id in prototypes:
                types.append(_named(value))
            case _:
                types.append(value)
    return types


def _placed(value: Datasec, btf: Btf, elf: ObjectFile) -> Type:
    """The data section with its size, which clang leaves 0. One without content (externs) is refused by the kernel and
    becomes `const void`."""
    section = elf.section(value.name)
    if (
        section is None
        or not section.size
        or not all(isinstance(btf.types[item.type], Var) for item in value.variables)
    ):
        return Const(_VOID)
    return Datasec(value.name, section.size, tuple(sorted(value.variables, key=lambda variable: variable.offset)))


def _named(prototype: FuncProto) -> FuncProto:
    """The prototype with a name for every parameter, which declarations may leave out and the kernel insists on."""
    return dataclasses.replace(
        prototype,
        parameters=tuple(
            dataclasses.replace(parameter, name=f"argument{number}")
            if not parameter.name and parameter.type
            else parameter
            for number, parameter in enumerate(prototype.parameters, 1)
        ),
    )
