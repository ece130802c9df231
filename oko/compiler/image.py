"""What the compiler makes: an `Image`, everything the kernel needs for one pipeline, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
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
class Want:
    """What a rule that won wants: the procedure with the index `template` among its table's, with `argument`: the index
    of its data, or, of a direct one, the port set or the end of the shim."""

    template: int
    argument: int


@dataclass(frozen=True, slots=True)
class ImageMap:
    """A map of the image.

    `name` is unique in the image; a program's map is called ``ID.NAME``. `program` is the id of the filter
    program that owns it, None for Oko's own. `entries` is the content that the compiler decides (key bytes →
    value bytes), empty for maps whose content belongs to programs; of a map of maps `inner` has the content in its
    place, and `pattern` is what its elements are like. `shared` maps outlive the image. `btf` describes the map, if
    the kernel has to know (for a spin lock).
    """

    name: str
    spec: MapSpec
    program: int | None = None
    shared: bool = True
    entries: dict[bytes, bytes] = field(default_factory=dict)
    inner: dict[bytes, ImageMap] = field(default_factory=dict)
    pattern: ImageMap | None = None
    btf: bytes | None = None


@dataclass(frozen=True, slots=True)
class Image:
    """One linked pipeline.

    `references` name the maps of `maps` by their image name. `btf`, `func_info` and `line_info` are the bytes that
    BPF_PROG_LOAD takes. `notes` says of instructions (by index, ascending) what stage, rule or function they begin, and
    `wants` of rules (by slot) what happens when they win. `destinations` says of the numbers of port sets which ports
    they are, and whether the ingress port is one of them whichever it is.
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
    destinations: Mapping[int, tuple[frozenset[int], bool]] = field(default_factory=dict)
    wants: dict[int, Want] = field(default_factory=dict)

    def same_shape(self, other: Image) -> bool:
        """Whether the two differ in nothing but the entries of their maps."""
        return (
            self.instructions == other.instructions
            and self.references == other.references
            and [(mine.name, mine.spec, mine.inner) for mine in self.maps]
            == [(theirs.name, theirs.spec, theirs.inner) for theirs in other.maps]
        )
