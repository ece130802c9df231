"""`LoadedImage`: an image in the kernel."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from itertools import islice
from types import TracebackType
from typing import Final, Self

from oko.compiler.image import Image, ImageMap
from oko.kernel.btf import Btf, load_btf
from oko.kernel.maps import Map
from oko.kernel.program import LoadedProgram, load_program
from verifier import isa
from verifier.program import MapSpec, ReferenceKind

_INNER_MAPS: Final = 256
"""Maps that are put into a map of maps at a time. Together, as the kernel waits for its programs after each command;
not all, as each takes a descriptor until it is in."""


def create_map(name: str, spec: MapSpec, btf: Btf | None = None, inner: Map | None = None) -> Map:
    """The map that `spec` describes, with its initial content; frozen if the spec says so. `inner` is the pattern of
    the maps that a map of maps takes. Raises KernelError."""
    # A ring buffer has types of records, which the kernel does not want to know of.
    typed = btf is not None and spec.value_type != 0 and spec.value_size != 0 and spec.initial is None
    created = Map.create(
        name,
        spec.type,
        spec.key_size,
        spec.value_size,
        spec.max_entries,
        flags=spec.flags,
        btf_fd=btf.fd if btf is not None and typed else 0,
        key_type=spec.key_type if typed else 0,
        value_type=spec.value_type if typed else 0,
        inner=inner,
    )
    try:
        if spec.initial is not None:
            created.update(bytes(spec.key_size), spec.initial)
        if spec.frozen:
            created.freeze()
    except BaseException:
        created.close()
        raise
    return created


def create_shared(wanted: ImageMap) -> Map:
    """A map of Oko's own that outlives an image. Raises KernelError."""
    if wanted.btf is None:
        return create_map(wanted.name, wanted.spec)
    with load_btf(wanted.btf) as btf:
        return create_map(wanted.name, wanted.spec, btf)


def _create(wanted: ImageMap) -> Map:
    """A map that is an image's alone, with its content."""
    with contextlib.ExitStack() as made:
        pattern = made.enter_context(_create(wanted.pattern)) if wanted.pattern is not None else None
        created = made.enter_context(create_map(wanted.name, wanted.spec, inner=pattern))
        created.update_batch(wanted.entries.items())
        inner = iter(wanted.inner.items())
        while some := list(islice(inner, _INNER_MAPS)):
            with contextlib.ExitStack() as held:
                maps = [(key, held.enter_context(_create(each))) for key, each in some]
                created.update_batch((key, each.fd.to_bytes(4, "little")) for key, each in maps)
        made.pop_all()
        if pattern is not None:
            pattern.close()
        return created


class LoadedImage:
    """Owns the program and those maps that are the image's alone; shared maps are the caller's."""

    def __init__(self, image: Image, program: LoadedProgram, maps: dict[str, Map], own: contextlib.ExitStack) -> None:
        self.image = image
        self.program = program
        self.maps = maps
        self._own = own

    @classmethod
    def load(cls, name: str, image: Image, shared: Mapping[str, Map]) -> Self:
        """Load `image` under `name`. Raises KernelRejected (the kernel's verifier), KernelError."""
        with contextlib.ExitStack() as own:
            maps: dict[str, Map] = {}
            for wanted in image.maps:
                maps[wanted.name] = shared[wanted.name] if wanted.shared else own.enter_context(_create(wanted))
            references = {
                reference.instruction: (
                    maps[reference.name],
                    reference.offset if reference.kind is ReferenceKind.MAP_VALUE else None,
                )
                for reference in image.references
            }
            with load_btf(image.btf) as btf:
                program = own.enter_context(
                    load_program(
                        name,
                        isa.encode(image.instructions),
                        image.license,
                        references=references,
                        btf=btf,
                        func_info=image.func_info,
                        line_info=image.line_info,
                    )
                )
            return cls(image, program, maps, own.pop_all())

    def close(self) -> None:
        """Give up the program and its own maps; what the kernel still runs stays alive there."""
        self._own.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
