"""What the compiler makes: an `Image`, everything the kernel needs for one pipeline, as plain data."""

from __future__ import annotations

from dataclasses import dataclass, field

from verifier.isa import Instruction
from verifier.program import Function, MapSpec, Program, Reference


@dataclass(frozen=True, slots=True)
class Filter:
    """A loaded program as the compiler sees it: `id` names it in rules, `slot` is the index of its counters."""

    id: int
    slot: int
    program: Program

    def map_name(self, name: str) -> str:
        """What a map of this program is called in an image."""
        return f"{self.id}.{name}"


@dataclass(frozen=True, slots=True)
class ImageMap:
    """A map of the image.

    `name` is unique in the image; a program's map is called ``ID.NAME``. `program` is the id of the filter
    program that owns it, None for Oko's own. `entries` is the content that the compiler decides (key bytes →
    value bytes), empty for maps whose content belongs to programs. `shared` maps outlive the image.
    """

    name: str
    spec: MapSpec
    program: int | None = None
    shared: bool = True
    entries: dict[bytes, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Image:
    """One linked pipeline.

    `references` name the maps of `maps` by their image name. `btf`, `func_info` and `line_info` are the bytes that
    BPF_PROG_LOAD takes. `notes` says of instructions (by index, ascending) what stage or rule they begin.
    """

    instructions: tuple[Instruction, ...]
    functions: tuple[Function, ...]
    references: tuple[Reference, ...]
    maps: tuple[ImageMap, ...]
    license: str
    btf: bytes
    func_info: bytes
    line_info: bytes
    notes: tuple[tuple[int, str], ...] = ()

    def same_shape(self, other: Image) -> bool:
        """Whether the two differ in nothing but the entries of their maps."""
        return (
            self.instructions == other.instructions
            and self.references == other.references
            and [(mine.name, mine.spec) for mine in self.maps] == [(theirs.name, theirs.spec) for theirs in other.maps]
        )
