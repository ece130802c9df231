"""`load_whole`: a program of the runtime that is loaded as it is, not linked into an image."""

from __future__ import annotations

from collections.abc import Mapping

from oko.kernel.maps import Map
from oko.kernel.program import XDP, LoadedProgram, load_program
from verifier import isa
from verifier.program import Program, ReferenceKind


def load_whole(name: str, program: Program, maps: Mapping[str, Map], *, program_type: int = XDP) -> LoadedProgram:
    """Load the program, with these for the maps that it declares. Raises KernelError."""
    references = {
        reference.instruction: (maps[reference.name], None)
        for reference in program.references
        if reference.kind is ReferenceKind.MAP
    }
    return load_program(
        name, isa.encode(program.instructions), program.license, references=references, program_type=program_type
    )
