"""A concrete interpreter: runs a program on a packet, with every access to memory checked.

Each basic block is translated once into a Python function on the list of registers, one line per instruction or a few;
running is calling these until one says that the program has ended. Semantics: RFC 9669.

Memory consists of regions. An address is the number of a region shifted left by 24, plus an offset into it, so it is
a plain integer and 64-bit arithmetic needs no special case; region 0 is nothing, hence null and small numbers point
nowhere. The packet is region 1: that its addresses fit in 32 bits lets the context be the 24 bytes of struct xdp_md.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NoReturn

from oko.errors import ProgramError
from verifier import cfg, isa
from verifier.isa import Instruction
from verifier.maps import Map, RingBuffer, simulate
from verifier.program import Program, ReferenceKind
from verifier.text import text_at

STACK_SIZE: Final = 512
MAX_FRAMES: Final = 8

_SHIFT: Final = 24
_OFFSET_MASK: Final = (1 << _SHIFT) - 1
_PACKET: Final = 1
_CONTEXT: Final = 2
_FIRST_FREE: Final = 3
_INGRESS_IFINDEX: Final = 1

_M64: Final = 0xFFFFFFFFFFFFFFFF
_M32: Final = 0xFFFFFFFF
_MASKS: Final = {1: 0xFF, 2: 0xFFFF, 4: _M32, 8: _M64}
_CONTEXT_LAYOUT: Final = struct.Struct("<6I")
_ENDED: Final = -1
_FILE: Final = "<filter program>"

_Region = bytearray | bytes | Map | None
_Registers = list[int]
_Block = Callable[[_Registers], int]


class InterpreterFault(ProgramError):
    """The program did what no accepted program may do: the message names the instruction and its source line."""


class _Fault(Exception):
    """A helper met a bad argument."""


class Interpreter:
    """A program with its maps, ready to run.

    `maps` are its maps by name and outlive the interpreter; left out, they are made new from the program's specs. The
    program must be one that verifier.check accepts. `observe`, if there is one, is told of every instruction before it
    runs: its index and the registers.
    """

    def __init__(
        self,
        program: Program,
        maps: dict[str, Map] | None = None,
        observe: Callable[[int, list[int]], None] | None = None,
    ) -> None:
        self.program = program
        self.maps = {spec.name: simulate(spec) for spec in program.maps} if maps is None else maps
        self._regions: list[_Region] = [None] * _FIRST_FREE
        self._handles: dict[int, Map] = {}
        self._frames: list[tuple[int, int, _Registers]] = []  # return to, region of the stack, r6 … r10
        self._records: dict[int, RingBuffer] = {}  # address of a reserved record → its buffer
        self._in_port = self._now = 0
        self._random: Callable[[], int] = int
        self._observe = observe
        addresses = self._place_maps()
        self._fixed = len(self._regions)
        self._lines: list[int] = []  # line of the translation → instruction
        self._blocks = self._translate(addresses)

    def run(self, packet: bytes, *, in_port: int, now: int, random: Callable[[], int]) -> int:
        """The low 32 bits of R0 at the end of a run on `packet`, unsigned.

        `in_port` is the port that the packet came in on, `now` the time of every clock in ns, `random` gives the random
        numbers (its low 32 bits are used). Raises InterpreterFault.
        """
        regions = self._regions
        del regions[self._fixed :]
        data = _PACKET << _SHIFT
        regions[_PACKET] = bytes(packet)
        regions[_CONTEXT] = _CONTEXT_LAYOUT.pack(data, data + len(packet), data, _INGRESS_IFINDEX, 0, 0)
        self._frames.clear()
        self._records.clear()
        self._in_port, self._now, self._random = in_port, now, random
        registers = [0] * 11
        registers[1] = _CONTEXT << _SHIFT
        registers[isa.FRAME_POINTER] = self._allocate(bytearray(STACK_SIZE)) + STACK_SIZE
        blocks = self._blocks
        at = 0
        try:
            while at >= 0:
                at = blocks[at](registers)
        except (_Fault, struct.error, IndexError, TypeError) as error:
            self._explain(error, registers)
        return registers[0] & _M32

    def _place_maps(self) -> dict[int, int]:
        """Gives each map a region for its handle and each data section one for its content: the addresses that the
        64-bit loads with a reference load, by instruction."""
        handles: dict[str, int] = {}
        sections: dict[str, int] = {}
        addresses = {}
        for reference in self.program.references:
            if reference.kind is ReferenceKind.MAP:
                if reference.name not in handles:
                    handles[reference.name] = self._allocate(self.maps[reference.name])
                    self._handles[handles[reference.name]] = self.maps[reference.name]
                addresses[reference.instruction] = handles[reference.name]
            elif reference.kind is ReferenceKind.MAP_VALUE:
                if reference.name not in sections:
                    sections[reference.name] = self._allocate(self.maps[reference.name].lookup(bytes(4)))
                addresses[reference.instruction] = sections[reference.name] + reference.offset
        return addresses

    def _allocate(self, region: _Region) -> int:
        """The address of a new region."""
        self._regions.append(region)
        return len(self._regions) - 1 << _SHIFT

    # --- translation ----------------------------------------------------------------------------------------------

    def _translate(self, addresses: dict[int, int]) -> Sequence[_Block]:
        """The function of each block, at the index of its first instruction."""
        program = self.program
        names = {item.instruction: item.name for item in program.references if item.kind is ReferenceKind.RUNTIME}
        lines: list[str] = []
        starts = []

        def emit(index: int, *statements: str) -> None:
            lines.extend(statements)
            self._lines.extend([index] * len(statements))

        for function in program.functions:
            for block in cfg.graph(program, function).blocks.values():
                starts.append(block.start)
                emit(block.start, f"def b{block.start}(r):")
                index = block.start
                while index < block.end:
                    instruction = program.instructions[index]
                    behind = index + cfg.width(instruction)
                    if self._observe is not None:
                        emit(index, f" observe({index}, r)")
                    if instruction.opcode == isa.LDDW:
                        value = instruction.imm & _M32 | (program.instructions[index + 1].imm & _M32) << 32
                        emit(index, f" r[{instruction.dst}] = {addresses.get(index, value)}")
                    elif instruction.opcode == isa.OPCODE_CALL:
                        emit(index, *self._call(index, instruction, names.get(index)))
                        if instruction.src == isa.CALL_LOCAL and index not in names and behind < block.end:
                            starts.append(behind)
                            emit(behind, f"def b{behind}(r):")
                    else:
                        emit(index, *(f" {line}" for line in _statements(index, instruction)))
                    index = behind
                if not lines[-1].startswith(" return"):
                    emit(block.start, f" return {block.end}")
        namespace: dict[str, Any] = {
            "regions": self._regions,
            "observe": self._observe,
            "enter": self._enter,
            "leave": self._leave,
            "sdiv": _signed_divide,
            "smod": _signed_modulo,
            "swap": _swap,
            **{f"call{number}": getattr(self, f"_{name}") for number, name in _HELPERS.items()},
            **{f"call_{name}": getattr(self, f"_{name}") for name in names.values()},
            **{f"load{size}": struct.Struct(f"<{code}").unpack_from for size, code in ((2, "H"), (4, "I"), (8, "Q"))},
            **{f"load{size}s": struct.Struct(f"<{code}").unpack_from for size, code in ((1, "b"), (2, "h"), (4, "i"))},
            **{f"store{size}": struct.Struct(f"<{code}").pack_into for size, code in ((2, "H"), (4, "I"), (8, "Q"))},
        }
        exec(compile("\n".join(lines), _FILE, "exec"), namespace)
        blocks: list[Any] = [None] * (len(program.instructions) + 1)
        for start in starts:
            blocks[start] = namespace[f"b{start}"]
        return blocks

    @staticmethod
    def _call(index: int, instruction: Instruction, runtime: str | None) -> tuple[str, ...]:
        if runtime is not None:
            return (f" r[0] = call_{runtime}(r)",)
        if instruction.src == isa.CALL_LOCAL:
            return (f" return enter(r, {index + 1}, {index + 1 + instruction.imm})",)
        return (f" r[0] = call{instruction.imm}(r)",)

    def _enter(self, registers: _Registers, back: int, function: int) -> int:
        if len(self._frames) + 1 >= MAX_FRAMES:
            raise _Fault(f"calls more than {MAX_FRAMES} functions deep")
        stack = self._allocate(bytearray(STACK_SIZE))
        self._frames.append((back, stack >> _SHIFT, registers[6:]))
        registers[isa.FRAME_POINTER] = stack + STACK_SIZE
        return function

    def _leave(self, registers: _Registers) -> int:
        if not self._frames:
            return _ENDED
        back, stack, saved = self._frames.pop()
        self._regions[stack] = None
        registers[6:] = saved
        return back

    # --- faults ---------------------------------------------------------------------------------------------------

    def _explain(self, error: Exception, registers: _Registers) -> NoReturn:
        """Raises the fault that an error in a block is. An error anywhere else is one of the interpreter's own."""
        trace = error.__traceback__
        last = found = None
        while trace is not None:
            last = trace.tb_frame.f_code.co_filename == _FILE
            found = trace.tb_lineno if last else found
            trace = trace.tb_next
        if found is None or not (last or isinstance(error, _Fault)):
            raise error
        index = self._lines[found - 1]
        why = str(error) if isinstance(error, _Fault) else self._bad_access(self.program.instructions[index], registers)
        line = self.program.line_at(index)
        source = f" ({line.file}:{line.line}: {line.text})" if line else ""
        raise InterpreterFault(f"instruction {index} `{text_at(self.program, index)}`{source}: {why}") from error

    def _bad_access(self, instruction: Instruction, registers: _Registers) -> str:
        loads = instruction.opcode & isa.CLASS_MASK == isa.LDX
        register = instruction.src if loads else instruction.dst
        size = isa.SIZES[instruction.opcode & isa.SIZE_MASK]
        address = registers[register] + instruction.offset & _M64
        return f"{'reads' if loads else 'writes'} {size} bytes at {self._where(address)}"

    def _where(self, address: int) -> str:
        number, offset = address >> _SHIFT, address & _OFFSET_MASK
        region = self._regions[number] if number < len(self._regions) else None
        if region is None:
            return f"{address:#x}, which is no address"
        if isinstance(region, Map):
            return f"the map {region.spec.name} itself"
        kind = {_PACKET: "the packet", _CONTEXT: "the context"}.get(number, "a stack, map value or record")
        return f"offset {offset} of {kind}, which has {len(region)} {'read-only ' * isinstance(region, bytes)}bytes"

    # --- helpers: each takes the registers and answers the new R0 ---------------------------------------------------

    def _read(self, address: int, size: int) -> bytes:
        number, offset = address >> _SHIFT, address & _OFFSET_MASK
        region = self._regions[number] if number < len(self._regions) else None
        if not isinstance(region, bytearray | bytes) or offset + size > len(region):
            raise _Fault(f"the helper reads {size} bytes at {self._where(address)}")
        return bytes(region[offset : offset + size])

    def _write(self, address: int, data: bytes) -> None:
        number, offset = address >> _SHIFT, address & _OFFSET_MASK
        region = self._regions[number] if number < len(self._regions) else None
        if not isinstance(region, bytearray) or offset + len(data) > len(region):
            raise _Fault(f"the helper writes {len(data)} bytes at {self._where(address)}")
        region[offset : offset + len(data)] = data

    def _map(self, registers: _Registers) -> Map:
        found = self._handles.get(registers[1])
        if found is None:
            raise _Fault("R1 is not a map")
        return found

    def _ring(self, registers: _Registers) -> RingBuffer:
        found = self._map(registers)
        if not isinstance(found, RingBuffer):
            raise _Fault(f"map {found.spec.name} is not a ring buffer")
        return found

    def _map_lookup(self, registers: _Registers) -> int:
        found = self._map(registers)
        value = found.lookup(self._read(registers[2], found.spec.key_size))
        return 0 if value is None else self._allocate(value)

    def _map_update(self, registers: _Registers) -> int:
        found = self._map(registers)
        key = self._read(registers[2], found.spec.key_size)
        value = self._read(registers[3], found.spec.value_size)
        return found.update(key, value, registers[4]) & _M64

    def _map_delete(self, registers: _Registers) -> int:
        found = self._map(registers)
        return found.delete(self._read(registers[2], found.spec.key_size)) & _M64

    def _clock(self, _: _Registers) -> int:
        return self._now & _M64

    def _random_number(self, _: _Registers) -> int:
        return self._random() & _M32

    def _processor(self, _: _Registers) -> int:
        return 0

    def _lock(self, registers: _Registers) -> int:
        """Nothing, as there is one CPU; but the lock must be there."""
        self._read(registers[1], 4)
        return 0

    def _oko_in_port(self, registers: _Registers) -> int:
        if registers[1] != _CONTEXT << _SHIFT:
            raise _Fault("R1 is not the context")
        return self._in_port & _M32

    def _csum_diff(self, registers: _Registers) -> int:
        """The difference of two blocks of 32-bit words as the kernel from 6.13 on has it: folded to 16 bits."""
        before, before_size, after, after_size, seed = registers[1:6]
        if before_size % 4 or after_size % 4:
            return -errno.EINVAL & _M64
        removed = self._read(before, before_size) if before_size else b""
        added = self._read(after, after_size) if after_size else b""
        total = seed & _M32
        for (word,) in struct.iter_unpack("<I", added):
            total += word
        for (word,) in struct.iter_unpack("<I", removed):
            total += word ^ _M32
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        return total

    def _load_bytes(self, registers: _Registers) -> int:
        offset, buffer, size = registers[2] & _M32, registers[3], registers[4] & _M32
        if registers[1] != _CONTEXT << _SHIFT:
            raise _Fault("R1 is not the context")
        packet = self._regions[_PACKET]
        assert isinstance(packet, bytes)
        if offset > 0xFFFF or size > 0xFFFF:
            return -errno.EFAULT & _M64
        if offset + size > len(packet):
            return -errno.EINVAL & _M64
        self._write(buffer, packet[offset : offset + size])
        return 0

    def _ring_output(self, registers: _Registers) -> int:
        return self._ring(registers).output(self._read(registers[2], registers[3])) & _M64

    def _ring_reserve(self, registers: _Registers) -> int:
        ring = self._ring(registers)
        if registers[3] or not ring.fits(registers[2]):
            return 0
        record = self._allocate(bytearray(registers[2]))
        self._records[record] = ring
        return record

    def _ring_submit(self, registers: _Registers) -> int:
        ring = self._records.get(registers[1])
        record = self._regions[registers[1] >> _SHIFT] if ring is not None else None
        if ring is None or not isinstance(record, bytearray):
            raise _Fault("R1 is not a reserved record")
        ring.output(bytes(record))
        return self._ring_discard(registers)

    def _ring_discard(self, registers: _Registers) -> int:
        if self._records.pop(registers[1], None) is None:
            raise _Fault("R1 is not a reserved record")
        self._regions[registers[1] >> _SHIFT] = None
        return 0


# The method of each helper in verifier/helpers.py.
_HELPERS: Final = {
    1: "map_lookup",
    2: "map_update",
    3: "map_delete",
    5: "clock",
    7: "random_number",
    8: "processor",
    28: "csum_diff",
    93: "lock",
    94: "lock",
    125: "clock",
    130: "ring_output",
    131: "ring_reserve",
    132: "ring_submit",
    133: "ring_discard",
    160: "clock",
    189: "load_bytes",
}

# --- one instruction in Python: {d} and {s} are the operands as unsigned numbers, {m} the mask of their width ---------

_EXPRESSIONS: Final = {
    isa.ADD: "{d} + {s} & {m}",
    isa.SUB: "{d} - {s} & {m}",
    isa.MUL: "{d} * {s} & {m}",
    isa.DIV: "{d} // {s} if {s} else 0",
    isa.OR: "{d} | {s}",
    isa.AND: "{d} & {s}",
    isa.LSH: "{d} << ({s} & {shift}) & {m}",
    isa.RSH: "{d} >> ({s} & {shift})",
    isa.MOD: "{d} % {s} if {s} else {d}",
    isa.XOR: "{d} ^ {s}",
    isa.MOV: "{s}",
    isa.ARSH: "({d} ^ {sign}) - {sign} >> ({s} & {shift}) & {m}",
    isa.NEG: "-{d} & {m}",
}
_SIGNED_DIVISIONS: Final = {isa.DIV: "sdiv({d}, {s}, {sign}) & {m}", isa.MOD: "smod({d}, {s}, {sign}) & {m}"}
# Flipping the sign bit of both sides turns a signed comparison into an unsigned one.
_COMPARISONS: Final = {
    isa.JEQ: "{d} == {s}",
    isa.JGT: "{d} > {s}",
    isa.JGE: "{d} >= {s}",
    isa.JSET: "{d} & {s}",
    isa.JNE: "{d} != {s}",
    isa.JSGT: "({d} ^ {sign}) > ({s} ^ {sign})",
    isa.JSGE: "({d} ^ {sign}) >= ({s} ^ {sign})",
    isa.JLT: "{d} < {s}",
    isa.JLE: "{d} <= {s}",
    isa.JSLT: "({d} ^ {sign}) < ({s} ^ {sign})",
    isa.JSLE: "({d} ^ {sign}) <= ({s} ^ {sign})",
}


def _statements(index: int, instruction: Instruction) -> Iterator[str]:
    """The statements that do what an instruction other than a call or a 64-bit load does."""
    match instruction.opcode & isa.CLASS_MASK:
        case isa.ALU | isa.ALU64:
            yield f"r[{instruction.dst}] = {_expression(instruction)}"
        case isa.LDX:
            yield from _load(instruction)
        case isa.ST | isa.STX:
            yield from _store(instruction)
        case _ if instruction.opcode == isa.OPCODE_EXIT:
            yield "return leave(r)"
        case _ if instruction.opcode in (isa.GOTO, isa.GOTO_LONG):
            yield f"return {cfg.jump_target(index, instruction)}"
        case _:
            condition = _COMPARISONS[instruction.opcode & isa.OPERATION_MASK].format(**_operands(instruction, isa.JMP))
            yield f"return {cfg.jump_target(index, instruction)} if {condition} else {index + 1}"


def _operands(instruction: Instruction, wide_class: int) -> dict[str, int | str]:
    wide = instruction.opcode & isa.CLASS_MASK == wide_class
    bits, mask = (64, _M64) if wide else (32, _M32)
    narrow = "" if wide else f" & {mask}"
    source = f"(r[{instruction.src}]{narrow})" if instruction.opcode & isa.X else str(instruction.imm & mask)
    destination = f"(r[{instruction.dst}]{narrow})"
    return {"d": destination, "s": source, "m": mask, "shift": bits - 1, "sign": 1 << bits - 1}


def _expression(instruction: Instruction) -> str:
    operation = instruction.opcode & isa.OPERATION_MASK
    operands = _operands(instruction, isa.ALU64)
    if operation == isa.END:
        size = instruction.imm // 8
        low = f"r[{instruction.dst}] & {_MASKS[size]}"
        wide = instruction.opcode & isa.CLASS_MASK == isa.ALU64
        return f"swap({low}, {size})" if wide or instruction.opcode & isa.X else low
    if operation == isa.MOV and instruction.offset:
        sign = 1 << instruction.offset - 1
        return f"((r[{instruction.src}] & {2 * sign - 1} ^ {sign}) - {sign}) & {operands['m']}"
    template = (
        _SIGNED_DIVISIONS[operation]
        if operation in _SIGNED_DIVISIONS and instruction.offset
        else _EXPRESSIONS[operation]
    )
    return template.format(**operands)


def _address(register: int, offset: int) -> str:
    # A negative sum would index the regions from the end; one beyond 64 bits indexes none. No stack begins so low.
    if offset >= 0:
        return f"a = r[{register}] + {offset}"
    return f"a = r[{register}] - {-offset}" + ("" if register == isa.FRAME_POINTER else f" & {_M64}")


def _load(instruction: Instruction) -> Iterator[str]:
    size = isa.SIZES[instruction.opcode & isa.SIZE_MASK]
    yield _address(instruction.src, instruction.offset)
    if instruction.opcode & isa.MODE_MASK == isa.MEMSX:
        yield f"r[{instruction.dst}] = load{size}s(regions[a >> {_SHIFT}], a & {_OFFSET_MASK})[0] & {_M64}"
    elif size == 1:
        yield f"r[{instruction.dst}] = regions[a >> {_SHIFT}][a & {_OFFSET_MASK}]"
    else:
        yield f"r[{instruction.dst}], = load{size}(regions[a >> {_SHIFT}], a & {_OFFSET_MASK})"


def _store(instruction: Instruction) -> Iterator[str]:
    size = isa.SIZES[instruction.opcode & isa.SIZE_MASK]
    mask = _MASKS[size]
    yield _address(instruction.dst, instruction.offset)
    if instruction.opcode & isa.MODE_MASK == isa.ATOMIC:
        yield from _atomic(instruction, size, mask)
        return
    registers = instruction.opcode & isa.CLASS_MASK == isa.STX
    narrow = "" if size == 8 else f" & {mask}"
    value = f"r[{instruction.src}]{narrow}" if registers else str(instruction.imm & mask)
    if size == 1:
        yield f"regions[a >> {_SHIFT}][a & {_OFFSET_MASK}] = {value}"
    else:
        yield f"store{size}(regions[a >> {_SHIFT}], a & {_OFFSET_MASK}, {value})"


def _atomic(instruction: Instruction, size: int, mask: int) -> Iterator[str]:
    place = f"regions[a >> {_SHIFT}], a & {_OFFSET_MASK}"
    source = f"(r[{instruction.src}] & {mask})"
    yield f"v, = load{size}({place})"
    if instruction.imm == isa.CMPXCHG:
        yield f"store{size}({place}, {source} if v == r[0] & {mask} else v)"
        yield "r[0] = v"
        return
    if instruction.imm == isa.XCHG:
        yield f"store{size}({place}, {source})"
    else:
        value = _EXPRESSIONS[instruction.imm & ~isa.FETCH].format(d="v", s=source, m=mask)
        yield f"store{size}({place}, {value})"
    if instruction.imm & isa.FETCH:
        yield f"r[{instruction.src}] = v"


def _signed(value: int, sign: int) -> int:
    return (value ^ sign) - sign


def _signed_divide(dividend: int, divisor: int, sign: int) -> int:
    """Truncates towards zero; 0 if the divisor is 0."""
    left, right = _signed(dividend, sign), _signed(divisor, sign)
    if not right:
        return 0
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def _signed_modulo(dividend: int, divisor: int, sign: int) -> int:
    """Has the sign of the dividend; the dividend itself if the divisor is 0."""
    return dividend - _signed_divide(dividend, divisor, sign) * _signed(divisor, sign)


def _swap(value: int, size: int) -> int:
    return int.from_bytes(value.to_bytes(size, "little"), "big")
