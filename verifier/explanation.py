"""What register tracking found, in the terms of the author: variables and lines instead of registers and bytes.

The fault says what rule is broken. Here it meets what else is known: where a check stands that proved too little, which
lookup a pointer came from, which member of a struct lies before the gap. Names of variables are read from the source
text of the line, so they are left out where it does not show them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from verifier import cfg, isa
from verifier.findings import Found
from verifier.helpers import HELPERS, Argument, helper_name
from verifier.program import Line, Program
from verifier.scalar import Scalar
from verifier.state import FARTHEST
from verifier.values import MapValue, MapValueOrNull, Packet, PacketEnd, Record, RecordOrNull, Stack, Unset, Value

_AREAS: Final = 4
"""Areas of the stack that are shown, the largest."""
_MEMBER: Final = re.compile(r"([A-Za-z_]\w*)\s*->\s*$")
_ASSIGNED: Final = re.compile(r"([A-Za-z_]\w*)\s*=(?!=)")
_ADDRESS: Final = re.compile(r"&\s*([A-Za-z_]\w*)")
_CHECK: Final = re.compile(r"(?<!-)[<>]=?\s*(\w+(->|\.))?(data_)?end\b|\b(data_)?end\s*[<>]")
_CONTEXT: Final = {
    0: "data",
    4: "data_end",
    8: "data_meta",
    12: "ingress_ifindex",
    16: "rx_queue_index",
    20: "egress_ifindex",
}
_LENGTH: Final = re.compile(r"\b(data_)?end\s*-(?!>)")
_SIZE_REGISTER: Final = {Argument.SIZE, Argument.SIZE_OR_ZERO}


@dataclass(frozen=True, slots=True)
class Note:
    """Another place in the program that matters, and why."""

    text: str
    instruction: int
    line: Line | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why something is wrong and how to mend it, for the author."""

    why: str
    mend: str
    notes: tuple[Note, ...] = ()


def explain(program: Program, found: Found) -> Explanation:
    """The explanation of what register tracking found."""
    site = _Site(program, found)
    special = _SPECIAL.get(found.fault.code)
    explanation = (special(site) if special else None) or Explanation(found.fault.why, found.fault.mend)
    inlined = _inlined(site)
    return replace(explanation, notes=(*explanation.notes, inlined)) if inlined else explanation


def note(program: Program, text: str, instruction: int) -> Note:
    """A note on an instruction."""
    return Note(text, instruction, program.line_at(instruction))


def where(program: Program, instruction: int) -> str:
    """A place for the middle of a sentence: the line, with its file where that is another than the entry's."""
    line = program.line_at(instruction)
    if line is None:
        return f"at instruction {instruction}"
    main = program.lines[0].file
    return f"on line {line.line}" if line.file == main else f"on line {line.line} of {line.file.rsplit('/', 1)[-1]}"


class _Site:
    """The instruction at which a rule is broken."""

    def __init__(self, program: Program, found: Found) -> None:
        self.program, self.found = program, found
        self.fault, self.state, self.tracking = found.fault, found.state, found.tracking
        self.instruction = program.instructions[found.index]
        self.line = program.line_at(found.index)
        self.function = next(item for item in program.functions if item.start <= found.index < item.end)

    def held(self) -> Iterator[tuple[int, Value]]:
        """The registers that matter, and what they hold."""
        for register in dict.fromkeys(self.found.registers):
            yield register, self.state.registers[register]

    def note(self, text: str, instruction: int) -> Note:
        return note(self.program, text, instruction)

    def where(self, instruction: int) -> str:
        return where(self.program, instruction)

    @property
    def pointer_name(self) -> str | None:
        """The variable before `->` at the column of the line, if that is how memory is reached."""
        if self.line is None or self.line.column < 2:
            return None
        match = _MEMBER.search(self.line.text[: self.line.column - 1])
        return match[1] if match else None

    @property
    def helper(self) -> str | None:
        """The name of the helper that is called."""
        instruction = self.instruction
        if instruction.opcode != isa.OPCODE_CALL or instruction.src != isa.CALL_HELPER:
            return None
        return HELPERS[instruction.imm].name

    def way(self) -> set[int]:
        """The branches on the way."""
        found, step = set(), self.state.way
        while step is not None:
            found.add(step.instruction)
            step = step.before
        return found


def _inlined(site: _Site) -> Note | None:
    """For code from a header, the last line of the author's own file before it."""
    if site.line is None or site.line.file == site.program.lines[0].file:
        return None
    main = [
        line.instruction
        for line in site.program.lines
        if site.function.start <= line.instruction < site.found.index and line.file == site.program.lines[0].file
    ]
    return site.note("is the last line of this file before it", main[-1]) if main else None


def _packet_bounds(site: _Site) -> Explanation | None:
    pointer = next((value for _, value in site.held() if isinstance(value, Packet)), None)
    if pointer is None or site.fault.extent is None:
        return None
    first, end = site.fault.extent
    place = site.state.places[pointer.base]
    step = f"behind a variable step of {place.distance} bytes"
    read = f"{_bytes(first, end)} {'of the packet' if pointer.base <= 0 else step}"
    verb = "is" if end - first == 1 else "are"
    if first < 0:
        return Explanation(
            f"{read} {verb} read: that is before {'the packet' if pointer.base <= 0 else 'what was checked'}",
            "read at data or behind it",
        )
    if not place.safe and pointer.base > 0 and place.distance.umax + end > FARTHEST:
        return Explanation(
            f"{read} {verb} read: no check behind so long a step proves anything, the limit is {FARTHEST} bytes",
            "bound the length before it is added: if (length > 1500) return OKO_NO_MATCH; then check the pointer",
        )
    name = site.pointer_name
    whole = f"if ((void *)({name} + 1) > data_end) return OKO_NO_MATCH;" if name else None
    notes = []
    if place.safe and place.proof is not None:
        proved = f"proves {place.safe} byte{'s' if place.safe > 1 else ''}"
        notes.append(site.note(proved, place.proof))
        why = f"{read} {verb} read, but the check {site.where(place.proof)} {proved} only"
        target = f"make the check {site.where(place.proof)} longer, or add one: "
    else:
        why = f"{read} {verb} read, and no check on the way proves that the packet has {_them(first, end)}"
        target = "before it, check the length: "
        notes += _useless_checks(site, pointer)
    if pointer.base <= 0:
        check = f"if (data + {end} > data_end) return OKO_NO_MATCH;"
        mend = f"{target}{check}" + (f" (or, for all of *{name}: {whole})" if whole else "")
    else:
        target = "check again behind the variable step: " if not place.safe else target
        mend = target + (whole or f"if (pointer + {end} > data_end) return OKO_NO_MATCH;")
        if not whole:
            mend += " (pointer: what the variable length was added to)"
    if not notes:
        mend += " A check whose result does not decide whether the access is reached is removed by the compiler."
    return Explanation(why, mend, tuple(notes))


def _useless_checks(site: _Site, pointer: Packet) -> list[Note]:
    """Checks that the author wrote, or thinks to have written, and that prove nothing here."""
    notes = []
    for base, place in site.state.places.items():
        if base != pointer.base and place.safe and place.proof is not None and (base or pointer.base):
            about = "of the packet's beginning" if base <= 0 else "behind another variable place"
            notes.append(site.note(f"proves {place.safe} bytes {about}: not of this pointer", place.proof))
    way = site.way()
    branches: dict[tuple[str, int], list[int]] = {}
    texts: dict[tuple[str, int], tuple[int, str]] = {}
    for index in cfg.indices(site.program, site.function):
        line = site.program.line_at(index)
        if line is None:
            continue
        key = (line.file, line.line)
        texts.setdefault(key, (index, line.text))
        if cfg.is_jump(site.program.instructions[index]):
            branches.setdefault(key, []).append(index)
    for key, (index, text) in texts.items():
        if _LENGTH.search(text):
            notes.append(site.note("computes a length: what is compared with it proves nothing about pointers", index))
        if not _CHECK.search(text):
            continue
        if key not in branches:
            notes.append(site.note("is a check, but no branch is left of it: the compiler removed it", index))
        elif not way.intersection(branches[key]):
            behind = site.line is not None and key[0] == site.line.file and key[1] > site.line.line
            notes.append(
                site.note(
                    "is a check, but stands behind the access" if behind else "is a check, but not on this way", index
                )
            )
    return notes


def _maybe_null(site: _Site) -> Explanation | None:
    for _, value in site.held():
        if not isinstance(value, MapValueOrNull | RecordOrNull):
            continue
        origin = site.tracking.identities.origins.get(value.id)
        if isinstance(value, RecordOrNull):
            what, reason = "the reservation", "when the ring buffer is full"
        else:
            what, reason = f"the lookup in {value.name}", "when there is no such key"
        place = f" {site.where(origin)}" if origin is not None else ""
        line = site.program.line_at(origin) if origin is not None else None
        match = _ASSIGNED.search(line.text) if line else None
        name = match[1] if match else site.pointer_name or "pointer"
        notes = (site.note("may return NULL", origin),) if origin is not None else ()
        return Explanation(
            f"{what}{place} gives NULL {reason}, and its result is used without a test",
            f"test it first: if (!{name}) return OKO_NO_MATCH;",
            notes,
        )
    return None


def _uninitialised(site: _Site) -> Explanation | None:
    for register, value in site.held():
        if isinstance(value, Stack) and site.fault.extent is not None:
            return _unwritten(site, register, value)
        if isinstance(value, Unset) and value.instruction is not None:
            return Explanation(
                f"R{register} was lost in the call {site.where(value.instruction)}: a call destroys R1 to R5",
                "keep what is needed behind a call in R6 to R9 or on the stack; in C, pass it to the function as a"
                " parameter of its prototype",
                (site.note("destroys R1 to R5", value.instruction),),
            )
        if isinstance(value, Unset):
            return Explanation(
                f"R{register} is read, and was {value}"
                if value.why != "never written"
                else f"R{register} is read, but nothing was written to it on this way",
                "give the variable a value on every way, or the function a return statement",
            )
    return None


def _unwritten(site: _Site, register: int, pointer: Stack) -> Explanation | None:
    assert site.fault.extent is not None
    first, end = site.fault.extent
    helper = site.helper
    if helper is None:
        return Explanation(
            f"a local variable is read before it is written: {_bytes(first, end)} of the stack",
            "give the variable a value where it is declared",
        )
    gap = _bytes(first - pointer.offset, end - pointer.offset)
    names = _ADDRESS.findall(site.line.text) if site.line else []
    # A helper's pointers are written in the order of its arguments.
    kinds = HELPERS[site.instruction.imm].arguments
    position = sum(1 for kind in kinds[: register - 1] if kind is not Argument.NUMBER and kind not in _SIZE_REGISTER)
    name = names[position] if len(names) > position else None
    what, members = _pointed_at(site, register, first - pointer.offset, end - pointer.offset)
    target = name or "variable"
    return Explanation(
        f"{gap} of {f'`{name}`' if name else what}, which {helper} reads as {what},"
        f" {'was' if end - first == 1 else 'were'} never written{members}",
        f"clear all of it, padding too, before the members are set: __builtin_memset(&{target}, 0, sizeof({target}));"
        + (" or give the padding a name and a value" if "padding" in members else ""),
    )


def _pointed_at(site: _Site, register: int, first: int, end: int) -> tuple[str, str]:
    """What a helper reads behind its argument, and which members of it the bytes `first` … `end`-1 are."""
    kind = HELPERS[site.instruction.imm].arguments[register - 1]
    if kind not in (Argument.KEY, Argument.VALUE):
        return "its data", ""
    map_value = site.state.registers[1]
    spec = next((item for item in site.program.maps if item.name == getattr(map_value, "name", None)), None)
    assert spec is not None
    what = f"a {'key' if kind is Argument.KEY else 'value'} of {spec.name}"
    type_id = spec.key_type if kind is Argument.KEY else spec.value_type
    return what, _members(site.program, type_id, first, end)


def _members(program: Program, type_id: int, first: int, end: int) -> str:
    btf = program.btf
    if btf is None or not type_id or not hasattr(btf.resolved(type_id), "members"):
        return ""
    before, inside = None, []
    for member in btf.members(type_id):
        size = btf.size_of(member.type)
        if member.offset + size <= first:
            before = member.name
        elif member.offset < end:
            inside.append(member.name)
    if inside:
        return f": member{'s' if len(inside) > 1 else ''} {', '.join(inside)}"
    return f": padding behind member {before}" if before else ": padding"


def _bounds(site: _Site) -> Explanation | None:
    """Bytes beside a map's value, or a ring-buffer record."""
    pointer = next((value for _, value in site.held() if isinstance(value, MapValue | Record)), None)
    if pointer is None or site.fault.extent is None:
        return None
    low, high = site.fault.extent
    if isinstance(pointer, Record):
        what, limit = "the ring-buffer record", pointer.size
    else:
        what = f"the variables in {pointer.name}" if pointer.name.startswith(".") else f"a value of {pointer.name}"
        limit = next(spec.value_size for spec in site.program.maps if spec.name == pointer.name)
    touched = f"{_bytes(low, high)} of {what}, which has {limit} bytes"
    if pointer.offset.is_constant:
        return Explanation(f"touches {touched}", f"stay within the {limit} bytes, or make it larger")
    if low < 0:
        return Explanation(
            f"may touch {touched}: the index may be negative",
            "make the index unsigned, and compare it with the number of elements first",
        )
    size = high - low - (pointer.offset.smax - pointer.offset.smin)
    stride = _stride(pointer.offset)
    elements = (limit - low - size) // stride + 1
    each = f" (elements of {stride} bytes)" if stride > 1 else ""
    return Explanation(
        f"may touch {touched}: the index can be 0 to {(high - size - low) // stride}{each}",
        f"bound the index first: if (index >= {max(elements, 0)}) return OKO_NO_MATCH;",
    )


def _stride(offset: Scalar) -> int:
    """The step between the values that an offset can have."""
    unknown = offset.mask
    return unknown & -unknown if unknown else 1


def _stack_bounds(site: _Site) -> Explanation | None:
    notes = []
    why = site.fault.why
    if site.found.registers and "above" in why:
        return None
    if site.found.registers:
        why = f"local variables reach beyond the frame: {why}"
    else:
        depths = site.tracking.depths
        for number in sorted(depths, key=lambda item: -depths[item]):
            function = site.program.functions[number]
            notes.append(site.note(f"{function.name} uses {depths[number]} bytes", function.start))
    return Explanation(why, site.fault.mend, (*notes, *_areas(site)))


def _areas(site: _Site) -> list[Note]:
    """The lines that take most of the stack, by the offsets from R10 that occur on them."""
    sizes: dict[tuple[str, int], tuple[int, int]] = {}
    for function in site.program.functions:
        first: dict[int, int] = {}
        from_frame: set[int] = set()
        for index in cfg.indices(site.program, function):
            item = site.program.instructions[index]
            kind, operation = item.opcode & isa.CLASS_MASK, item.opcode & isa.OPERATION_MASK
            if kind == isa.ALU64 and operation == isa.MOV and item.opcode & isa.X and item.src == isa.FRAME_POINTER:
                from_frame.add(item.dst)
            elif kind == isa.ALU64 and operation == isa.ADD and not item.opcode & isa.X and item.dst in from_frame:
                first.setdefault(item.imm, index)
                from_frame.discard(item.dst)
            elif kind in (isa.ST, isa.STX) and item.dst == isa.FRAME_POINTER:
                first.setdefault(item.offset, index)
        for offset, following in pairwise([*sorted(offset for offset in first if offset < 0), 0]):
            line = site.program.line_at(first[offset])
            if line is not None:
                key = (line.file, line.line)
                size, index = sizes.get(key, (0, first[offset]))
                sizes[key] = (size + following - offset, index)
    largest = sorted(sizes.values(), reverse=True)[:_AREAS]
    return [site.note(f"takes about {size} bytes of stack", index) for size, index in largest if size >= 16]


def _record_leak(site: _Site) -> Explanation | None:
    made = site.tracking.identities.origins
    origins = [made[item] for item in sorted(site.state.records) if item in made]
    if not origins:
        return None
    return Explanation(
        f"the ring-buffer record reserved {site.where(origins[0])} is neither submitted nor discarded on this way",
        "call bpf_ringbuf_submit or bpf_ringbuf_discard on every way to the end, also on early returns",
        tuple(site.note("reserves the record", index) for index in origins),
    )


def _lock(site: _Site) -> Explanation | None:
    if site.state.lock is None:
        return None
    taken = [
        index
        for index, item in enumerate(site.program.instructions)
        if index != site.found.index
        and item.opcode == isa.OPCODE_CALL
        and item.src == isa.CALL_HELPER
        and helper_name(item.imm) == "bpf_spin_lock"
    ]
    at_end = site.instruction.opcode == isa.OPCODE_EXIT
    return Explanation(
        site.fault.why,
        "call bpf_spin_unlock on every way to the end, also on early returns" if at_end else site.fault.mend,
        tuple(site.note("takes the lock", index) for index in taken),
    )


def _call_depth(site: _Site) -> Explanation | None:
    notes = tuple(
        site.note(f"calls {site.program.functions[frame.function].name}", frame.returns_to)
        for frame in site.state.frames[1:]
    )
    return Explanation(site.fault.why, site.fault.mend, notes)


def _return_value(site: _Site) -> Explanation | None:
    value = site.state.registers[0]
    name = site.function.name
    if isinstance(value, Unset):
        return Explanation(
            f"{name} ends without a result: R0 was {value}", "let every way end with a return of a number"
        )
    return Explanation(f"{name} returns a pointer ({value}), not a number", site.fault.mend)


def _context_access(site: _Site) -> Explanation | None:
    member = _CONTEXT.get(site.instruction.offset)
    if member is None or site.instruction.opcode & isa.SIZE_MASK != isa.W:
        return None
    return Explanation(f"{member} of struct xdp_md is read", site.fault.mend)


def _pointer_arithmetic(site: _Site) -> Explanation | None:
    if not any(isinstance(value, PacketEnd) for _, value in site.held()):
        return None
    return Explanation(
        "data_end is moved or computed with",
        "move the number to the other side of the comparison: not data > data_end - N but data + N > data_end",
    )


def _too_complex(site: _Site) -> Explanation | None:
    return Explanation(f"{site.function.name} costs most here: {site.fault.why}", site.fault.mend)


_SPECIAL: Final[dict[str, Callable[[_Site], Explanation | None]]] = {
    "packet-bounds": _packet_bounds,
    "maybe-null": _maybe_null,
    "uninitialised": _uninitialised,
    "map-bounds": _bounds,
    "bad-record": _bounds,
    "call-depth": _call_depth,
    "return-value": _return_value,
    "context-access": _context_access,
    "pointer-arithmetic": _pointer_arithmetic,
    "stack-bounds": _stack_bounds,
    "record-leak": _record_leak,
    "lock": _lock,
    "too-complex": _too_complex,
}


def _bytes(first: int, end: int) -> str:
    return f"byte {first}" if end - first == 1 else f"bytes {first} to {end - 1}"


def _them(first: int, end: int) -> str:
    return "it" if end - first == 1 else "them"
