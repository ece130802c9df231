"""What the front end makes of an object file: a `Program`, a frozen value that everything else reads.

The instructions are exactly those that will be loaded: calls between the program's own functions are
resolved, references to maps and to functions of the runtime stay symbolic in `references`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

from verifier.btf import Btf
from verifier.isa import Instruction


class MapType(IntEnum):
    """enum bpf_map_type of <linux/bpf.h>: the types a filter program may declare, and Oko's own."""

    HASH = 1
    ARRAY = 2
    PROG_ARRAY = 3
    PERCPU_HASH = 5
    PERCPU_ARRAY = 6
    LRU_HASH = 9
    LRU_PERCPU_HASH = 10
    LPM_TRIE = 11
    ARRAY_OF_MAPS = 12
    DEVMAP = 14
    DEVMAP_HASH = 25
    RINGBUF = 27


@dataclass(frozen=True, slots=True)
class MapSpec:
    """A map as declared, apart from any kernel object.

    Sizes are bytes. `flags` are BPF_F_* of <linux/bpf.h>. `key_type` and `value_type` are type ids in the
    program's BTF, 0 when it says nothing; a ring buffer has sizes of 0, and `value_type` is that of its records.
    `initial` is the content of a data section (one array element), None for other maps; `frozen` marks .rodata, which
    nobody may write once the program is loaded.
    """

    name: str
    type: MapType
    key_size: int
    value_size: int
    max_entries: int
    flags: int = 0
    key_type: int = 0
    value_type: int = 0
    initial: bytes | None = None
    frozen: bool = False


@dataclass(frozen=True, slots=True)
class Function:
    """A function at instructions `start` … `end`-1."""

    name: str
    start: int
    end: int


class ReferenceKind(Enum):
    """What a symbolic operand stands for."""

    MAP = "map"  # lddw of a map: the instruction becomes PSEUDO_MAP_FD
    MAP_VALUE = "map value"  # lddw of an address in a data section: PSEUDO_MAP_VALUE plus `offset`
    RUNTIME = "runtime"  # call of a function that the switch provides, e.g. oko_in_port


@dataclass(frozen=True, slots=True)
class Reference:
    """The instruction at `instruction` refers to the map or runtime function called `name`."""

    instruction: int
    kind: ReferenceKind
    name: str
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """From BTF line info: the instruction at `instruction` begins the code of this source line. `text` is as in the
    file, with its indentation; `column` counts its characters from 1, 0 is unknown."""

    instruction: int
    file: str
    text: str
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Program:
    """A filter program (or an object of the runtime) as read from its ELF file.

    `functions` ascend by `start`; the first is the entry, at instruction 0, and every function is
    reachable from it. `lines` ascend by instruction. `digest` is the SHA-256 of the file, hexadecimal.
    """

    name: str
    license: str
    instructions: tuple[Instruction, ...]
    functions: tuple[Function, ...]
    maps: tuple[MapSpec, ...]
    references: tuple[Reference, ...]
    lines: tuple[Line, ...]
    btf: Btf | None
    digest: str

    def line_at(self, instruction: int) -> Line | None:
        """The source line that the instruction belongs to, if the object says."""
        found = None
        for line in self.lines:
            if line.instruction > instruction:
                break
            found = line
        return found
