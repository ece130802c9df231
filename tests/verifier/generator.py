"""Random programs that look as if a compiler had made them, each slightly wrong now and then.

A program is a sequence of idioms: parse a header behind a check, look an element up and compare it with null, index a
map's value, spill and fill, call a function, and so on. While it writes, the generator keeps in mind what each register
holds, so that most of what it does makes sense; with the probability `wrong` a step is done badly, left out, or done to
whatever is there. What it writes passes the structural checks: jumps go forward, everything can be reached.

The same `random.Random` gives the same programs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Final, NamedTuple

from verifier import isa
from verifier.btf import Btf, Int, Member, Struct, Void
from verifier.isa import Instruction
from verifier.program import Function, MapSpec, MapType, Program, Reference, ReferenceKind

_TYPES: Final = (
    Void(),
    Int("unsigned int", 4, 32),
    Struct("bpf_spin_lock", 4, (Member("val", 1, 0),)),
    Struct("locked", 32, (Member("before", 1, 0), Member("lock", 2, 64), Member("behind", 1, 96))),
)
BTF: Final = Btf.of(_TYPES)
"""Says of the map `locked` that a spin lock is at byte 8 of its 32."""

MAPS: Final = (
    MapSpec("array", MapType.ARRAY, 4, 64, 4),
    MapSpec("hash", MapType.HASH, 8, 48, 16),
    MapSpec("lru", MapType.LRU_HASH, 4, 8, 16),
    MapSpec("trie", MapType.LPM_TRIE, 8, 16, 16, 1),
    MapSpec("percpu", MapType.PERCPU_ARRAY, 4, 24, 2),
    MapSpec("locked", MapType.HASH, 4, 32, 8, 0, 1, 3),
    MapSpec("ring", MapType.RINGBUF, 0, 0, 4096),
    MapSpec(".bss", MapType.ARRAY, 4, 32, 1, initial=bytes(32)),
    MapSpec(".rodata", MapType.ARRAY, 4, 32, 1, 0x80, initial=bytes(range(1, 65, 2)), frozen=True),
)
"""The maps of every generated program, so that they need to be made in the kernel only once."""

_SPECS: Final = {spec.name: spec for spec in MAPS}
_LOOKED_UP: Final = ("array", "hash", "lru", "trie", "percpu", "locked")
_SECTIONS: Final = (".bss", ".rodata")
_LOCK: Final = 8
_SIZES: Final = (1, 2, 4, 8)
_SIZE_BITS: Final = {1: isa.B, 2: isa.H, 4: isa.W, 8: isa.DW}
_ALU: Final = (isa.ADD, isa.SUB, isa.MUL, isa.DIV, isa.OR, isa.AND, isa.LSH, isa.RSH, isa.MOD, isa.XOR, isa.ARSH)
_COMPARISONS: Final = (
    *(isa.JEQ, isa.JGT, isa.JGE, isa.JSET, isa.JNE, isa.JSGT),
    *(isa.JSGE, isa.JLT, isa.JLE, isa.JSLT, isa.JSLE),
)
_ATOMICS: Final = (
    *(isa.ADD, isa.OR, isa.AND, isa.XOR),
    *(operation | isa.FETCH for operation in (isa.ADD, isa.OR, isa.AND, isa.XOR)),
    *(isa.XCHG, isa.CMPXCHG),
)
_NUMBERS: Final = (0, 1, 2, 3, 4, 6, 7, 8, 14, 15, 16, 20, 31, 32, 34, 60, 63, 64, 127, 128, 255, 256, 1500, 0x7FFF, -1)
_EDGES: Final = (0xFFFF, 0x10000, 0x7FFFFFFF, -0x80000000, -2, -8, -128, -129, 0x800, 0x0608)
_MASKS: Final = (1, 3, 7, 0xF, 0x1C, 0x1F, 0x3C, 0x3F, 0x7F, 0xFF, 0xFC, 0x3FF, 0xFFFF, -4, -16)
_HEADERS: Final = (1, 2, 4, 8, 14, 18, 20, 34, 38, 42, 54)
_DEEPEST: Final = -64


class Kind(NamedTuple):
    """What a register holds: `what` it is, and of which map, identity or size. `proven` bytes may be read."""

    what: str
    name: str = ""
    number: int = 0


_NUMBER: Final = Kind("number")
_CONTEXT: Final = Kind("context")
_END: Final = Kind("end")


@dataclass(slots=True)
class _Function:
    """A function that is being written. Jumps are kept as (instruction, label) until the end."""

    code: list[Instruction] = field(default_factory=list)
    jumps: list[tuple[int, int]] = field(default_factory=list)
    labels: dict[int, int] = field(default_factory=dict)
    references: list[tuple[int, ReferenceKind, str, int]] = field(default_factory=list)
    calls: list[tuple[int, int]] = field(default_factory=list)
    held: dict[int, Kind] = field(default_factory=dict)
    written: dict[int, Kind | None] = field(default_factory=dict)  # stack slot → what was spilled there
    proven: dict[int, int] = field(default_factory=dict)  # identity of a packet pointer → bytes
    failure: int = 0  # label of the way out
    failed: bool = False
    level: int = 0


class Generator:
    """Makes programs out of `random`; `wrong` is the probability that one step of an idiom is done badly."""

    def __init__(self, random: Random, *, wrong: float = 0.02, idioms: int = 9) -> None:
        self._random = random
        self._wrong_probability = wrong
        self._idioms = idioms
        self._functions: list[_Function] = []
        self._here = _Function()
        self._last = 0
        self._choices: list[Callable[[], None]] = []
        for weight, idiom in (
            (3, self._parse),
            (5, self._read_packet),
            (3, self._advance_packet),
            (3, self._look_up),
            (5, self._use_value),
            (2, self._index_value),
            (3, self._stack),
            (6, self._scalar),
            (5, self._branch),
            (2, self._call_function),
            (1, self._ring),
            (1, self._lock),
            (2, self._helper),
            (1, self._section),
            (1, self._read_context),
            (1, self._update),
            (1, self._copy),
            (1, self._packet_length),
            (1, self._anything),
        ):
            self._choices += [idiom] * weight

    def program(self) -> Program:
        """The next program."""
        self._functions = []
        self._last = 0
        self._write_function({1: _CONTEXT}, self._random.randint(1, self._idioms))
        return self._link()

    # ---- functions

    def _write_function(self, held: dict[int, Kind], idioms: int) -> int:
        """Writes a function and answers its number; registers hold `held` when it begins."""
        outer, number = self._here, len(self._functions)
        self._here = here = _Function(level=outer.level + 1 if self._functions else 0)
        self._functions.append(here)
        here.held = {**held, 10: Kind("stack")}
        here.failure = self._label()
        for pointer in held.values():
            if pointer.what == "packet" and self._coin():
                here.proven[pointer.number] = outer.proven.get(pointer.number, 0)
        if not number:
            self._move(6, 1)
            self._load_ends(7, 8)
            if self._coin(0.8):
                self._check_packet(7, 8, self._random.choice(_HEADERS))
        else:
            self._save_arguments(held)
        for _ in range(idioms):
            self._random.choice(self._choices)()
        self._end()
        self._here = outer
        return number

    def _save_arguments(self, held: dict[int, Kind]) -> None:
        for target, source in zip((6, 7, 8, 9), held, strict=False):
            self._move(target, source)

    def _end(self) -> None:
        here = self._here
        numbers = [register for register, kind in here.held.items() if kind == _NUMBER and register]
        if numbers and self._coin():
            self._move(0, self._random.choice(numbers))
        elif not (here.held.get(0) == _NUMBER and self._coin()) and not self._wrong():
            self._emit(isa.ALU64 | isa.MOV, 0, imm=self._random.choice((0, 1)))
        if 0 not in here.held:
            self._emit(isa.ALU64 | isa.MOV, 0, imm=1)
        self._emit(isa.OPCODE_EXIT)
        if here.failed:
            self._place(here.failure)
            self._emit(isa.ALU64 | isa.MOV, 0)
            self._emit(isa.OPCODE_EXIT)

    def _link(self) -> Program:
        instructions: list[Instruction] = []
        functions: list[Function] = []
        references: list[Reference] = []
        starts: list[int] = []
        start = 0
        for function in self._functions:
            starts.append(start)
            start += len(function.code)
        for number, function in enumerate(self._functions):
            base = len(instructions)
            code = function.code
            for index, label in function.jumps:
                code[index] = replace(code[index], offset=function.labels[label] - index - 1)
            for index, callee in function.calls:
                code[index] = replace(code[index], imm=starts[callee] - (base + index) - 1)
            references += (
                Reference(base + index, kind, name, offset) for index, kind, name, offset in function.references
            )
            instructions += code
            functions.append(Function(f"f{number}", base, len(instructions)))
        return Program("f0", "GPL", tuple(instructions), tuple(functions), MAPS, tuple(references), (), BTF, "")

    # ---- small things

    def _coin(self, probability: float = 0.5) -> bool:
        return self._random.random() < probability

    def _wrong(self) -> bool:
        return self._random.random() < self._wrong_probability

    def _number(self) -> int:
        return self._random.choice(_NUMBERS if self._coin(0.8) else _EDGES)

    def _emit(self, opcode: int, dst: int = 0, src: int = 0, offset: int = 0, imm: int = 0) -> int:
        self._here.code.append(Instruction(opcode, dst, src, offset, imm))
        return len(self._here.code) - 1

    def _label(self) -> int:
        self._last += 1
        return self._last

    def _place(self, label: int) -> None:
        self._here.labels[label] = len(self._here.code)

    def _jump(self, label: int, opcode: int, dst: int = 0, src: int = 0, imm: int = 0) -> None:
        if label == self._here.failure:
            self._here.failed = True
        self._here.jumps.append((self._emit(opcode, dst, src, 0, imm), label))

    def _move(self, target: int, source: int) -> None:
        self._emit(isa.ALU64 | isa.MOV | isa.X, target, source)
        held = self._here.held
        if source in held:
            held[target] = held[source]
        else:
            held.pop(target, None)

    def _set(self, register: int, value: int) -> None:
        self._emit(isa.ALU64 | isa.MOV, register, imm=value)
        self._here.held[register] = _NUMBER

    def _add(self, register: int, value: int) -> None:
        if value or self._coin(0.1):
            self._emit(isa.ALU64 | isa.ADD, register, imm=value)

    def _pick(self, *whats: str) -> int | None:
        found = [register for register, kind in self._here.held.items() if kind.what in whats and register != 10]
        if self._wrong():
            found = list(self._here.held)
        return self._random.choice(found) if found else None

    def _target(self) -> int:
        """A register to write; the more lasting ones are spared."""
        return self._random.choice((0, 1, 2, 3, 4, 5, 9) if self._coin(0.9) else (6, 7, 8))

    def _other(self, *taken: int) -> int:
        return self._random.choice([register for register in (1, 2, 3, 4, 5) if register not in taken])

    def _number_register(self) -> int:
        """A register that holds a number."""
        found = self._pick("number")
        if found is None or self._coin(0.1):
            found = self._target()
            if self._coin():
                self._set(found, self._number())
            else:
                self._call(7)
                self._move(found, 0)
        return found

    def _lose(self) -> None:
        for register in range(1, 6):
            self._here.held.pop(register, None)

    def _call(self, helper: int) -> None:
        self._emit(isa.OPCODE_CALL, imm=helper)
        self._lose()
        self._here.held[0] = _NUMBER

    def _address(self, register: int, kind: ReferenceKind, name: str, offset: int = 0) -> None:
        index = self._emit(isa.LDDW, register)
        self._emit(0)
        self._here.references.append((index, kind, name, offset))

    # ---- packets

    def _context(self) -> int:
        found = self._pick("context")
        return 6 if found is None else found

    def _load_ends(self, data: int, end: int) -> None:
        context = self._context()
        self._emit(isa.LDX | isa.MEM | isa.W, data, context, 0)
        if data != context:
            self._emit(isa.LDX | isa.MEM | isa.W, end, context, 4)
            self._here.held[end] = _END
        self._here.held[data] = Kind("packet")

    def _parse(self) -> None:
        pointer, end = self._pick("packet"), self._pick("end")
        if pointer is None or end is None:
            if self._pick("context") is None:
                return
            pointer, end = self._random.choice(((7, 8), (2, 3), (7, 9)))
            self._load_ends(pointer, end)
        self._check_packet(pointer, end, self._random.choice(_HEADERS))

    def _check_packet(self, pointer: int, end: int, size: int) -> None:
        """Leaves, or skips something, unless `size` bytes are behind `pointer`."""
        probe = self._other(pointer, end)
        self._move(probe, pointer)
        self._add(probe, size)
        identity = self._here.held.get(pointer, _NUMBER).number
        outside, inside = self._random.choice(
            (
                ((isa.JGT, probe, end), (isa.JLE, probe, end)),
                ((isa.JLT, end, probe), (isa.JGE, end, probe)),
                ((isa.JGE, probe, end), (isa.JLT, probe, end)),
                ((isa.JLE, end, probe), (isa.JGT, end, probe)),
            )
        )
        if self._wrong():
            outside = (self._random.choice(_COMPARISONS), *outside[1:])
        self._here.held.pop(probe)
        if self._coin(0.7):
            operation, left, right = outside
            self._jump(self._here.failure, isa.JMP | operation | isa.X, left, right)
            self._here.proven[identity] = max(self._here.proven.get(identity, 0), size)
            return
        # The code that needs the check is inside it.
        operation, left, right = outside if self._coin() else inside
        behind = self._label()
        within = self._label()
        if operation == outside[0]:
            self._jump(behind, isa.JMP | operation | isa.X, left, right)
        else:
            self._jump(within, isa.JMP | operation | isa.X, left, right)
            self._jump(behind, isa.GOTO)
            self._place(within)
        before = dict(self._here.held), dict(self._here.proven), dict(self._here.written)
        self._here.proven[identity] = max(self._here.proven.get(identity, 0), size)
        self._read_from(pointer)
        if self._coin():
            self._some()
        self._place(behind)
        self._rejoin(before)

    def _rejoin(self, before: tuple[dict[int, Kind], dict[int, int], dict[int, Kind | None]]) -> None:
        """What is known behind a branch: what was known before it and was not changed."""
        held, proven, written = before
        here = self._here
        here.held = {number: kind for number, kind in here.held.items() if held.get(number) == kind or self._wrong()}
        here.written = {slot: kind for slot, kind in here.written.items() if slot in written and written[slot] == kind}
        here.proven = proven

    def _read_packet(self) -> None:
        pointer = self._pick("packet")
        if pointer is not None:
            self._read_from(pointer)

    def _read_from(self, pointer: int) -> None:
        size = self._random.choice(_SIZES)
        reach = self._here.proven.get(self._here.held.get(pointer, _NUMBER).number, 0)
        if self._wrong():
            reach += self._random.choice((1, 4))
        if reach < size:
            if not self._wrong():
                return
            reach = size
        offset = self._random.choice((0, reach - size, self._random.randint(0, reach - size)))
        target = self._target()
        if target == pointer:
            return
        self._load(target, pointer, offset, size)
        if self._coin(0.2):
            self._emit(self._random.choice((isa.ALU | isa.END | isa.X, isa.ALU | isa.END)), target, imm=16)
        if self._coin(0.3):
            self._bound(target)

    def _load(self, target: int, pointer: int, offset: int, size: int) -> None:
        signed = size < 8 and self._coin(0.1)
        mode = isa.MEMSX if signed else isa.MEM
        self._emit(isa.LDX | mode | _SIZE_BITS[size], target, pointer, offset)
        self._here.held[target] = _NUMBER

    def _advance_packet(self) -> None:
        """A pointer behind a header, of fixed or variable length."""
        pointer = self._pick("packet")
        if pointer is None:
            return
        target = self._random.choice((9, 7, 1, 2, 3))
        kind = self._here.held[pointer]
        if self._coin(0.4):
            step = self._random.choice((1, 2, 4, 8, 14, 20))
            self._move(target, pointer)
            self._add(target, step)
            if kind.what == "packet":
                self._last += 1
                self._here.held[target] = Kind("packet", "", self._last)
                self._here.proven[self._last] = max(0, self._here.proven.get(kind.number, 0) - step)
            return
        length = self._number_register()
        if length in (pointer, target):
            return
        if not self._wrong():
            self._bound(length)
        if self._coin(0.8):
            self._move(target, pointer)
            self._emit(isa.ALU64 | isa.ADD | isa.X, target, length)
        else:
            self._move(target, length)
            self._emit(isa.ALU64 | isa.ADD | isa.X, target, pointer)
        self._last += 1
        self._here.held[target] = Kind("packet", "", self._last)
        end = self._pick("end")
        if end is not None and end != target and self._coin(0.8):
            self._check_packet(target, end, self._random.choice(_HEADERS))
            self._read_from(target)

    def _bound(self, register: int) -> None:
        """Gives a number bounds, by a mask, a comparison, a shift or a sum."""
        if register == 10:
            return
        self._here.held[register] = _NUMBER
        match self._random.randrange(6):
            case 0 | 1:
                self._emit(self._random.choice((isa.ALU64, isa.ALU)) | isa.AND, register, imm=self._mask())
                if self._coin(0.3):
                    self._emit(isa.ALU64 | isa.LSH, register, imm=self._random.choice((1, 2, 3)))
            case 2:
                limit = self._random.choice((3, 4, 8, 20, 40, 60, 64, 255))
                operation = self._random.choice((isa.JGT, isa.JGE, isa.JSGT))
                jump = isa.JMP if self._coin(0.7) else isa.JMP32
                self._jump(self._here.failure, jump | operation, register, imm=limit)
                if self._coin(0.3):
                    low = self._random.choice((0, 4, 5, 20))
                    self._jump(self._here.failure, jump | self._random.choice((isa.JLT, isa.JSLT)), register, imm=low)
            case 3:
                self._emit(isa.ALU64 | isa.RSH, register, imm=self._random.choice((56, 58, 60, 61)))
            case 4:
                self._emit(isa.ALU | isa.RSH, register, imm=self._random.choice((24, 26, 28, 29)))
            case _:
                self._emit(isa.ALU64 | isa.AND, register, imm=self._mask())
                self._emit(isa.ALU64 | isa.ADD, register, imm=self._random.choice((0, 1, 4, 20, -1, -4)))

    def _mask(self) -> int:
        return self._random.choice(_MASKS)

    # ---- maps

    def _key(self, register: int, name: str) -> None:
        """`register` points to a key of the map."""
        size = _SPECS[name].key_size
        pointer = self._pick("packet") if self._coin(0.15) else None
        if pointer is not None:
            kind = self._here.held[pointer]
            if self._here.proven.get(kind.number, 0) >= size or self._wrong():
                self._move(register, pointer)
                return
        offset = -8 * self._random.randint(1, 4)
        for at in range(offset, offset + size, 4):
            source = self._pick("number")
            if source is not None and self._coin():
                self._emit(isa.STX | isa.MEM | isa.W, 10, source, at)
            elif not self._wrong():
                imm = self._random.choice((0, 0, 1, 2, 3, 32))
                self._emit(isa.ST | isa.MEM | isa.W, 10, 0, at, imm)
        self._here.written[offset] = None
        self._move(register, 10)
        self._add(register, offset)

    def _look_up(self) -> None:
        self._look_up_in(self._random.choice(_LOOKED_UP))

    def _look_up_in(self, name: str) -> int | None:
        """Leaves a pointer to a value in a register, compared with null or not."""
        self._key(2, name)
        self._address(1, ReferenceKind.MAP, name)
        self._call(1)
        target = self._random.choice((0, 0, 9, 7, 8))
        self._here.held[0] = Kind("value?", name)
        if target:
            self._move(target, 0)
        if self._wrong():
            self._here.held[target] = Kind("value", name)
            return target
        if self._coin(0.05):
            return None
        compared = target if self._coin() else 0
        if self._coin(0.7):
            self._jump(self._here.failure, isa.JMP | isa.JEQ, compared)
            for register in {0, target}:
                self._here.held[register] = Kind("value", name)
            return target
        behind = self._label()
        self._jump(behind, isa.JMP | isa.JEQ, compared)
        before = dict(self._here.held), dict(self._here.proven), dict(self._here.written)
        for register in {0, target}:
            self._here.held[register] = Kind("value", name)
        self._use_value()
        if self._coin():
            self._some()
        self._place(behind)
        self._rejoin(before)
        return None

    def _place_in(self, limit: int, size: int) -> int:
        if self._wrong():
            return self._random.choice((limit - size + 1, -1, limit))
        if limit < size:
            return 0
        offset = self._random.choice((0, limit - size, self._random.randint(0, limit - size)))
        return offset - offset % size if self._coin(0.8) else offset

    def _use_value(self) -> None:
        pointer = self._pick("value")
        if pointer is None:
            return
        kind = self._here.held[pointer]
        limit = _SPECS[kind.name].value_size if kind.name in _SPECS else 8
        self._access(pointer, limit - kind.number, kind.name)

    def _access(self, pointer: int, limit: int, name: str = "") -> None:
        """A load, a store or an atomic operation in the `limit` bytes behind `pointer`."""
        size = self._random.choice(_SIZES)
        offset = self._place_in(limit, size)
        if name == "locked" and offset < _LOCK + 4 and offset + size > _LOCK and not self._wrong():
            offset, size = 16, 8
        match self._random.randrange(6):
            case 0 | 1:
                target = self._target()
                if target != pointer or self._coin(0.2):
                    self._load(target, pointer, offset, size)
            case 2:
                self._emit(isa.ST | isa.MEM | _SIZE_BITS[size], pointer, 0, offset, self._number())
            case 3 | 4:
                source = self._number_register()
                self._emit(isa.STX | isa.MEM | _SIZE_BITS[size], pointer, source, offset)
            case _:
                size = max(size, 4)
                offset = self._place_in(limit, size)
                self._atomic(pointer, offset if self._wrong() else offset - offset % size, size)

    def _atomic(self, pointer: int, offset: int, size: int) -> None:
        source = self._number_register()
        operation = self._random.choice(_ATOMICS)
        if operation == isa.CMPXCHG and self._here.held.get(0) != _NUMBER:
            operation = isa.ADD
        if source == 10:
            return
        self._emit(isa.STX | isa.ATOMIC | _SIZE_BITS[size], pointer, source, offset, operation)
        if operation == isa.CMPXCHG:
            self._here.held[0] = _NUMBER
        elif operation & isa.FETCH:
            self._here.held[source] = _NUMBER

    def _index_value(self) -> None:
        """A variable index into a map's value: bounded, scaled, added."""
        pointer = self._pick("value")
        if pointer is None:
            return
        kind = self._here.held[pointer]
        limit = _SPECS[kind.name].value_size if kind.name in _SPECS else 8
        size = self._random.choice(_SIZES)
        index = self._number_register()
        target = self._other(pointer, index)
        self._move(target, index)
        scale = self._random.choice((0, 1, 2, 3))
        room = max(1, (limit - size >> scale) + 1)
        power = 1 << room.bit_length() - 1
        wrong = self._wrong()
        match self._random.randrange(5):
            case 0 | 1:
                width = self._random.choice((isa.ALU64, isa.ALU))
                self._emit(width | isa.AND, target, imm=power - 1 if not wrong else 2 * power - 1)
            case 2:
                limit_at = room - 1 + wrong
                self._jump(self._here.failure, isa.JMP | isa.JGT, target, imm=limit_at)
            case 3:
                self._jump(self._here.failure, isa.JMP | isa.JSGT, target, imm=room - 1)
                if not wrong:
                    self._jump(self._here.failure, isa.JMP | isa.JSLT, target, imm=0)
            case _:
                self._emit(isa.ALU | isa.MOD, target, imm=room)
                self._jump(self._here.failure, isa.JMP | isa.JGE, target, imm=room)
        if scale:
            if self._coin(0.6):
                self._emit(self._random.choice((isa.ALU64, isa.ALU)) | isa.LSH, target, imm=scale)
            else:
                self._emit(isa.ALU64 | isa.MUL, target, imm=1 << scale)
        if self._coin():
            self._emit(isa.ALU64 | isa.ADD | isa.X, target, pointer)
        else:
            other = self._other(pointer, target)
            self._move(other, pointer)
            self._emit(isa.ALU64 | isa.ADD | isa.X, other, target)
            target = other
        self._here.held.pop(target, None)
        self._here.held[target] = Kind("value", kind.name, limit - size)
        self._access(target, size, kind.name)

    def _section(self) -> None:
        name = self._random.choice(_SECTIONS)
        offset = self._random.choice((0, 4, 8, 16, 31))
        target = self._random.choice((1, 2, 3, 9))
        self._address(target, ReferenceKind.MAP_VALUE, name, offset)
        self._here.held[target] = Kind("value", name, offset)
        size = self._random.choice(_SIZES)
        if name == ".rodata" and not self._wrong():
            if offset + size <= 32:
                self._load(self._target(), target, 0, size)
            self._here.held.pop(target)
            return
        self._access(target, 32 - offset)

    def _update(self) -> None:
        name = self._random.choice(("array", "hash", "lru", "percpu"))
        size = _SPECS[name].value_size
        value = self._pick("value")
        if value is not None and self._here.held[value] == Kind("value", name) and value > 5:
            self._move(3, value)
        else:
            offset = -(_SPECS[name].value_size + 7 & ~7) - 32
            for at in range(offset, offset + size, 8):
                if not self._wrong():
                    self._emit(isa.ST | isa.MEM | isa.DW, 10, 0, at, self._random.choice((0, 1)))
                    self._here.written[at] = None
            self._move(3, 10)
            self._add(3, offset)
        self._key(2, name)
        if self._here.held.get(2) is None:
            return
        self._address(1, ReferenceKind.MAP, name)
        self._set(4, 0)
        self._call(self._random.choice((2, 2, 3)))

    def _lock(self) -> None:
        pointer = self._look_up_in("locked")
        if pointer is None or self._here.held.get(pointer) != Kind("value", "locked"):
            return
        self._move(9, pointer)
        for helper in (93, 94):
            if self._wrong():
                continue
            self._move(1, 9)
            self._add(1, _LOCK)
            self._emit(isa.OPCODE_CALL, imm=helper)
            self._lose()
            self._here.held.pop(0, None)
            if helper == 93:
                self._emit(isa.ALU64 | isa.MOV, 1, imm=self._number())
                self._here.held[1] = _NUMBER
                self._access(9, 32, "locked")

    def _ring(self) -> None:
        size = self._random.choice((1, 8, 16, 24))
        if self._coin(0.3):
            offset = -self._random.choice((8, 16))
            for at in range(offset, 0, 8):
                self._emit(isa.ST | isa.MEM | isa.DW, 10, 0, at, 7)
                self._here.written[at] = None
            self._move(2, 10)
            self._add(2, offset)
            self._address(1, ReferenceKind.MAP, "ring")
            self._set(3, -offset if not self._wrong() else -offset + 1)
            self._set(4, 0)
            self._call(130)
            return
        self._address(1, ReferenceKind.MAP, "ring")
        self._set(2, size)
        self._set(3, 0)
        self._call(131)
        self._here.held.pop(0)
        self._move(9, 0)
        behind = self._label()
        if not self._wrong():
            self._jump(behind, isa.JMP | isa.JEQ, 9)
        for _ in range(self._random.randint(0, 2)):
            self._set(self._other(), self._number())
            self._access(9, size)
        if not self._wrong():
            self._move(1, 9)
            self._set(2, 0)
            self._emit(isa.OPCODE_CALL, imm=self._random.choice((132, 133)))
        self._lose()
        self._place(behind)
        self._here.held.pop(0, None)
        self._here.held.pop(9, None)

    # ---- stack

    def _stack(self) -> None:
        slot = -8 * self._random.randint(1, 8)
        written = self._here.written
        match self._random.randrange(8):
            case 0 | 1:  # spill
                source = self._pick(*{kind.what for kind in self._here.held.values()})
                if source is None or source == 10:
                    return
                self._emit(isa.STX | isa.MEM | isa.DW, 10, source, slot)
                written[slot] = self._here.held[source]
            case 2 | 3:  # fill
                if not written:
                    return
                slot = self._random.choice(list(written))
                kind = written[slot]
                target = self._target()
                if kind is None:
                    self._load(target, 10, slot, self._random.choice((4, 8)))
                else:
                    self._emit(isa.LDX | isa.MEM | isa.DW, target, 10, slot)
                    self._here.held[target] = kind
            case 4:  # part of a slot
                size = self._random.choice((1, 2, 4))
                at = slot + self._random.randrange(0, 8, size)
                source = self._number_register()
                self._emit(isa.STX | isa.MEM | _SIZE_BITS[size], 10, source, at)
                if slot in written:
                    written[slot] = None
                if self._coin():
                    self._load(self._target(), 10, at, size)
            case 5:  # part of what is there
                if written:
                    slot = self._random.choice(list(written))
                    size = self._random.choice(_SIZES)
                    kind = written[slot]
                    if kind is None or kind == _NUMBER or self._wrong():
                        self._load(self._target(), 10, slot + self._random.randrange(0, 8, size), size)
            case 6:
                size = self._random.choice(_SIZES)
                self._emit(isa.ST | isa.MEM | _SIZE_BITS[size], 10, 0, slot, self._number())
                if size == 8 or slot in written:
                    written[slot] = _NUMBER if size == 8 else None
            case _:
                if slot in written and written[slot] in (None, _NUMBER):
                    self._atomic(10, slot, self._random.choice((4, 8)))
                    written[slot] = None

    # ---- numbers

    def _scalar(self) -> None:
        for _ in range(self._random.randint(1, 3)):
            self._one_scalar()

    def _one_scalar(self) -> None:
        register = self._number_register()
        if register == 10:
            return
        match self._random.randrange(10):
            case 0:
                self._emit(self._random.choice((isa.ALU64, isa.ALU)) | isa.NEG, register)
            case 1:
                width = self._random.choice((isa.ALU64, isa.ALU))
                bits = self._random.choice((8, 16, 32) if width == isa.ALU64 else (8, 16))
                target = self._target()
                self._emit(width | isa.MOV | isa.X, target, register, bits)
                self._here.held[target] = _NUMBER
            case 2:
                opcode = self._random.choice((isa.ALU | isa.END, isa.ALU | isa.END | isa.X, isa.ALU64 | isa.END))
                self._emit(opcode, register, imm=self._random.choice((16, 32, 64)))
            case 3:
                target = self._target()
                self._emit(isa.ALU | isa.MOV | isa.X, target, register)
                self._here.held[target] = _NUMBER
            case 4 | 5:
                self._bound(register)
            case 6 | 7:
                source = self._number_register()
                operation = self._random.choice(_ALU)
                signed = int(operation in (isa.DIV, isa.MOD) and self._coin(0.2))
                width = self._random.choice((isa.ALU64, isa.ALU))
                self._emit(width | operation | isa.X, register, source, signed)
                if source != register:
                    self._here.held[register] = _NUMBER
            case _:
                operation = self._random.choice(_ALU)
                width = self._random.choice((isa.ALU64, isa.ALU))
                imm = self._number()
                if operation in (isa.LSH, isa.RSH, isa.ARSH):
                    imm = self._random.randrange(64 if width == isa.ALU64 else 32)
                elif operation in (isa.DIV, isa.MOD):
                    imm = imm or 3
                self._emit(width | operation, register, imm=imm)

    def _packet_length(self) -> None:
        """The length of the packet, or of what is behind a pointer."""
        pointer, end = self._pick("packet"), self._pick("end")
        if pointer is None or end is None:
            return
        target = self._other(pointer)
        self._move(target, end)
        self._emit(isa.ALU64 | isa.SUB | isa.X, target, pointer)
        self._here.held[target] = _NUMBER
        if self._coin():
            self._bound(target)

    def _copy(self) -> None:
        source = self._random.choice(list(self._here.held))
        self._move(self._target(), source)

    def _branch(self) -> None:
        register = self._number_register()
        operation = self._random.choice(_COMPARISONS)
        width = self._random.choice((isa.JMP, isa.JMP, isa.JMP32))
        source, by_register = self._pick("number"), self._coin(0.25)
        label = self._here.failure if self._coin(0.35) else self._label()
        if by_register and source is not None:
            self._jump(label, width | operation | isa.X, register, source)
        else:
            self._jump(label, width | operation, register, imm=self._number())
        if label == self._here.failure:
            return
        before = dict(self._here.held), dict(self._here.proven), dict(self._here.written)
        self._some()
        if self._coin(0.4):
            end = self._label()
            self._jump(end, isa.GOTO)
            self._place(label)
            after = self._here.held
            self._here.held, self._here.proven, self._here.written = (dict(part) for part in before)  # type: ignore[assignment]
            self._some()
            self._here.held = {
                number: kind for number, kind in self._here.held.items() if after.get(number) == kind or self._wrong()
            }
            label = end
            self._here.proven = before[1]
            self._here.written = {
                slot: kind for slot, kind in self._here.written.items() if before[2].get(slot) == kind
            }
        else:
            self._rejoin(before)
        self._place(label)

    def _some(self) -> None:
        for _ in range(self._random.randint(1, 2)):
            # Branches in branches, but not without end.
            if self._coin(0.15):
                self._random.choice(self._choices)()
            else:
                self._random.choice((self._scalar, self._read_packet, self._use_value, self._stack, self._copy))()

    def _anything(self) -> None:
        """An operation on whatever a register holds, which most often is a fault."""
        if not self._coin(self._wrong_probability * 5):
            return
        registers = list(self._here.held)
        one, other = self._random.choice(registers), self._random.choice(registers)
        match self._random.randrange(6):
            case 0 if one != 10:
                self._emit(isa.ALU64 | self._random.choice((isa.ADD, isa.SUB, isa.AND)) | isa.X, one, other)
            case 1:
                self._emit(isa.LDX | isa.MEM | isa.W, self._target(), one, 0)
            case 2:
                self._emit(isa.STX | isa.MEM | isa.DW, one, other, self._random.choice((-8, 0, 16)))
            case 3:
                self._jump(
                    self._here.failure,
                    isa.JMP | self._random.choice((isa.JEQ, isa.JNE, isa.JGT)) | isa.X,
                    one,
                    other,
                )
            case 4:
                self._jump(self._here.failure, isa.JMP | self._random.choice((isa.JEQ, isa.JNE)), one)
            case 5 if one != 10 and self._coin(0.7):
                self._emit(isa.ALU64 | isa.ADD, one, imm=self._random.choice((1, -8, 14, 1 << 28)))

    # ---- calls

    def _call_function(self) -> None:
        if len(self._functions) >= 4 or self._here.level >= 3:
            return
        here = self._here
        arguments: dict[int, Kind] = {}
        for register in range(1, self._random.randint(1, 4) + 1):
            source = self._random.choice(list(here.held))
            self._move(register, source)
            kind = here.held[register]
            if kind.what == "stack" and not self._wrong():
                slots = list(here.written)
                self._add(register, self._random.choice(slots) if slots else -8)
                kind = here.held[register] = Kind("frame")
            arguments[register] = kind
        callee = self._write_function(arguments, self._random.randint(1, 3))
        here.calls.append((self._emit(isa.OPCODE_CALL, 0, isa.CALL_LOCAL), callee))
        self._lose()
        here.held[0] = _NUMBER

    def _read_context(self) -> None:
        context = self._pick("context")
        if context is None:
            return
        if self._coin(0.3) and context != 10:
            self._move(1, context)
            index = self._emit(isa.OPCODE_CALL, 0, isa.CALL_LOCAL, 0, -1)
            self._here.references.append((index, ReferenceKind.RUNTIME, "oko_in_port", 0))
            self._lose()
            self._here.held[0] = _NUMBER
            return
        target = self._target()
        offset = self._random.choice((12, 16) if not self._wrong() else (8, 20, 13))
        self._emit(isa.LDX | isa.MEM | isa.W, target, context, offset)
        self._here.held[target] = _NUMBER

    def _helper(self) -> None:
        match self._random.randrange(5):
            case 0:
                self._call(self._random.choice((5, 7, 8, 125, 160)))
            case 1:
                self._checksum()
            case 2:
                self._load_bytes()
            case 3:
                pointer = self._pick("frame", "value")
                if pointer is not None:
                    self._load(self._target(), pointer, 0, self._random.choice(_SIZES))
            case _:
                pointer = self._pick("frame")
                if pointer is not None:
                    self._access(pointer, 8)

    def _checksum(self) -> None:
        slots = list(self._here.written)
        packet = self._pick("packet")
        self._set(1, 0)
        self._set(2, 0)
        if packet is not None and packet > 5 and self._coin():
            self._move(3, packet)
            reach = self._here.proven.get(self._here.held.get(packet, _NUMBER).number, 0)
            self._set(4, reach & ~3 if not self._wrong() else reach + 4)
        elif slots:
            self._move(3, 10)
            self._add(3, self._random.choice(slots))
            self._set(4, 8)
        else:
            return
        self._set(5, self._number())
        self._call(28)

    def _load_bytes(self) -> None:
        context = self._pick("context")
        if context is None or context < 6:
            return
        size = self._random.choice((4, 8, 16))
        variable = self._number_register() if self._coin(0.3) else None
        if variable is not None and variable != 10:
            self._move(4, variable)
            self._emit(isa.ALU64 | isa.AND, 4, imm=size - 1)
            self._here.held[4] = _NUMBER
            if not self._wrong():
                self._emit(isa.ALU64 | isa.ADD, 4, imm=1)
            if self._coin(0.8):
                for at in range(-32, -32 + size, 8):
                    self._emit(isa.ST | isa.MEM | isa.DW, 10, 0, at, 0)
        else:
            self._set(4, size)
        self._move(1, context)
        self._set(2, self._random.choice((0, 14, 26)))
        self._move(3, 10)
        self._add(3, -32)
        for at in range(-32, -32 + size, 8):
            self._here.written[at] = None
        self._call(189)


def subject(seed: int, originals: Sequence[Program] = ()) -> Program:
    """The program number `seed`: a generated one, which may be mutated, or a mutant of one of `originals`."""
    random = Random(seed)
    if originals and random.random() < 0.15:
        return mutated(random.choice(originals), random)
    program = Generator(random, wrong=random.choice((0.002, 0.01, 0.04))).program()
    return mutated(program, random) if random.random() < 0.3 else program


# ---- mutations

_ALTERNATIVES: Final = {
    isa.ALU64: _ALU,
    isa.ALU: _ALU,
    isa.JMP: _COMPARISONS,
    isa.JMP32: _COMPARISONS,
}
_NOP: Final = Instruction(isa.GOTO)


def mutated(program: Program, random: Random, *, changes: int = 2) -> Program:
    """`program` with up to `changes` instructions changed: a constant, an offset, the operation, the size or a
    register is another, or the instruction does nothing. It may fail the structural checks."""
    code = list(program.instructions)
    fixed = {reference.instruction for reference in program.references}
    candidates = [
        index
        for index, instruction in enumerate(code)
        if index not in fixed and instruction.opcode not in (0, isa.LDDW, isa.OPCODE_EXIT, isa.GOTO)
    ]
    for _ in range(random.randint(1, changes)):
        index = random.choice(candidates)
        code[index] = _mutate(code, index, random)
    return replace(program, instructions=tuple(code))


def _mutate(code: Sequence[Instruction], index: int, random: Random) -> Instruction:
    instruction = code[index]
    kind = instruction.opcode & isa.CLASS_MASK
    if instruction.opcode == isa.OPCODE_CALL:
        return instruction
    jumps = kind in (isa.JMP, isa.JMP32)
    match random.randrange(7):
        case 0:
            return _NOP
        case 1 if kind in _ALTERNATIVES and instruction.opcode & isa.OPERATION_MASK not in (isa.END, isa.NEG):
            operation = random.choice(_ALTERNATIVES[kind])
            return replace(instruction, opcode=instruction.opcode & ~isa.OPERATION_MASK | operation)
        case 1 if kind in (isa.LDX, isa.ST, isa.STX):
            size = _SIZE_BITS[random.choice(_SIZES)]
            return replace(instruction, opcode=instruction.opcode & ~isa.SIZE_MASK | size)
        case 2 if kind in (isa.LDX, isa.ST, isa.STX):
            return replace(instruction, offset=instruction.offset + random.choice((-8, -4, -1, 1, 2, 4, 8)))
        case 2 if jumps:
            return replace(instruction, offset=random.randint(0, max(1, min(40, len(code) - index - 2))))
        case 3 if instruction.opcode & isa.X and kind not in (isa.LDX, isa.ST, isa.STX):
            return replace(instruction, src=instruction.dst, dst=instruction.src)
        case 4:
            return replace(instruction, dst=random.randrange(10))
        case 5 if instruction.opcode & isa.X or kind in (isa.LDX, isa.STX):
            return replace(instruction, src=random.randrange(11))
        case 6 if kind in (isa.ALU64, isa.ALU):
            return replace(instruction, opcode=instruction.opcode ^ (isa.ALU64 ^ isa.ALU))
        case _ if not instruction.opcode & isa.X and kind in (isa.ALU, isa.ALU64, isa.JMP, isa.JMP32):
            changed = random.choice((instruction.imm + 1, instruction.imm - 1, random.choice(_NUMBERS)))
            return replace(instruction, imm=max(-(1 << 31), min(changed, (1 << 31) - 1)))
    return instruction
