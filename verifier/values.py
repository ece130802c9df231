"""What a register or a stack slot can hold, as the checker sees it: a number, or a pointer of some kind.

Every value is immutable. Identities (`id`) tie together copies of one value: what a branch proves of one holds for all.
An identity of 0 ties to nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from verifier.scalar import Scalar


@dataclass(frozen=True, slots=True)
class Unset:
    """Never written, or lost: `why` says how, `instruction` where."""

    why: str = "never written"
    instruction: int | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return self.why


@dataclass(frozen=True, slots=True)
class Number:
    """A plain number."""

    scalar: Scalar
    id: int = 0

    def __str__(self) -> str:
        return f"number {self.scalar}"


@dataclass(frozen=True, slots=True)
class Context:
    """The program's argument, `struct xdp_md *`."""

    def __str__(self) -> str:
        return "context"


@dataclass(frozen=True, slots=True)
class Packet:
    """A pointer `offset` bytes behind the place `base` in the packet. Place 0 is the packet's first byte, and so are
    those below 0, of which less is proved; the others lie a number of bytes behind it that varies (State.places)."""

    base: int
    offset: int

    def __str__(self) -> str:
        place = "packet" if self.base <= 0 else f"packet + variable {self.base}"
        return f"{place} + {self.offset}" if self.offset else place


@dataclass(frozen=True, slots=True)
class PacketEnd:
    """The first byte behind the packet."""

    def __str__(self) -> str:
        return "end of the packet"


@dataclass(frozen=True, slots=True)
class MapPointer:
    """A map itself, as helpers take it."""

    name: str

    def __str__(self) -> str:
        return f"map {self.name}"


@dataclass(frozen=True, slots=True)
class MapValue:
    """A pointer `offset` (signed) bytes into a value of a map. The same `id` is the same lookup."""

    name: str
    offset: Scalar
    id: int = 0

    def __str__(self) -> str:
        return f"value of {self.name} + {self.offset}"


@dataclass(frozen=True, slots=True)
class MapValueOrNull:
    """What a lookup returns before it is compared with null."""

    name: str
    id: int

    def __str__(self) -> str:
        return f"value of {self.name}, or null"


@dataclass(frozen=True, slots=True)
class Stack:
    """A pointer into the frame number `frame` (0 is the entry's), `offset` bytes from its top: -8 is the first slot."""

    frame: int
    offset: int

    def __str__(self) -> str:
        return f"stack{self.offset:+d}" if self.offset else "top of the stack"


@dataclass(frozen=True, slots=True)
class Record:
    """A pointer `offset` bytes into a reserved ring-buffer record of `size` bytes."""

    size: int
    offset: Scalar
    id: int

    def __str__(self) -> str:
        return f"ring-buffer record + {self.offset}"


@dataclass(frozen=True, slots=True)
class RecordOrNull:
    """What a reservation returns before it is compared with null."""

    size: int
    id: int

    def __str__(self) -> str:
        return "ring-buffer record, or null"


Pointer = Context | Packet | PacketEnd | MapPointer | MapValue | MapValueOrNull | Stack | Record | RecordOrNull
Value = Unset | Number | Pointer

UNSET: Final = Unset()
CONTEXT: Final = Context()
PACKET_END: Final = PacketEnd()
