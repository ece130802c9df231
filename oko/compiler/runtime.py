"""The C half of every image: the functions of bpf_programs/runtime, and the structures that they share with the emitted
code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from oko.compiler.image import ImageMap
from oko.compiler.layout import PacketLayout
from oko.compiler.typeinfo import Prototype
from verifier import elf
from verifier.program import MapSpec, MapType, Program

_PACKET, _ACTION = Prototype.PACKET, Prototype.ACTION

FUNCTIONS: Final[Mapping[str, tuple[str, Prototype]]] = {
    "oko_parse": ("parser", _PACKET),
    "oko_parse_one_tag": ("parser", _PACKET),
    "oko_set_field": ("actions", _ACTION),
    "oko_push_vlan": ("actions", _ACTION),
    "oko_pop_vlan": ("actions", _PACKET),
    "oko_push_mpls": ("actions", _ACTION),
    "oko_pop_mpls": ("actions", _ACTION),
    "oko_dec_ttl": ("actions", _PACKET),
    "oko_set_ttl": ("actions", _ACTION),
    "oko_dec_mpls_ttl": ("actions", _PACKET),
    "oko_set_mpls_ttl": ("actions", _ACTION),
    "oko_copy_ttl_out": ("actions", _PACKET),
    "oko_copy_ttl_in": ("actions", _PACKET),
    "oko_meter": ("meter", _ACTION),
    "oko_packet_in": ("packet_in", _ACTION),
    "oko_select_hash": ("select", _PACKET),
}
"""By name: the object that has the function, in a section ``runtime/NAME`` without oko_, and its prototype."""


@dataclass(frozen=True)
class Runtime:
    """`functions` by name, and the `layout` of what they know of a packet."""

    functions: Mapping[str, Program]
    layout: PacketLayout

    @property
    def maps(self) -> tuple[ImageMap, ...]:
        """The maps that the functions and the emitted code share; they outlive images."""
        packet = ImageMap("packet", MapSpec("packet", MapType.PERCPU_ARRAY, 4, self.layout.size, 1))
        found = {packet.name: packet}
        for program in self.functions.values():
            btf = program.btf.raw if program.btf is not None else None
            found |= {spec.name: ImageMap(spec.name, spec, btf=btf) for spec in program.maps}
        return tuple(found.values())

    @staticmethod
    def read(read: Callable[[str], bytes]) -> Runtime:
        """The runtime whose objects `read` gives by name. Raises NotReadable."""
        functions: dict[str, Program] = {}
        for name in dict.fromkeys(name for name, _ in FUNCTIONS.values()):
            inside = [function for function, (home, _) in FUNCTIONS.items() if home == name]
            sections = [f"runtime/{function.removeprefix('oko_')}" for function in inside]
            functions |= zip(inside, elf.load_sections(read(name), sections), strict=True)
        return Runtime(functions, PacketLayout.of(functions["oko_parse"].btf))
