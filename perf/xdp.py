"""`XdpObject`: a program of ``perf/programs`` or ``perf/baselines`` in the kernel."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self

from oko.errors import NotReadable
from oko.kernel.btf import load_btf
from oko.kernel.maps import DEVMAP, PROG_ARRAY, Map
from oko.kernel.program import load_program
from oko.switch.loaded_image import create_map
from verifier import elf, isa
from verifier.program import ReferenceKind

_ROOT: Final = Path(__file__).parents[1]
SOURCES: Final = (_ROOT / "bpf_programs", _ROOT / "perf" / "programs", _ROOT / "perf" / "baselines")
OBJECTS: Final = _ROOT / "build" / "perf"

INDEX_0: Final = bytes(4)

_UNTYPED: Final = {DEVMAP, PROG_ARRAY}
"""Types of maps that the kernel takes no BTF for."""


def build() -> None:
    """Compile what has changed. Raises NotReadable with what the compiler says."""
    for directory in SOURCES:
        command = ["make", "--no-print-directory", "-C", str(directory)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise NotReadable(f"the programs in {directory} do not compile:\n{done.stderr}")


class XdpObject:
    """Owns the program in section ``xdp`` of the object called `name`, and its maps."""

    def __init__(self, name: str, shared: Mapping[str, Map] = MappingProxyType({})) -> None:
        """`shared` are maps of others that take the place of its own. Raises NotReadable, KernelError."""
        source = elf.load((OBJECTS / f"{name}.o").read_bytes(), section="xdp")
        with contextlib.ExitStack() as own:
            btf = own.enter_context(load_btf(source.btf.raw)) if source.btf is not None else None
            self.maps: dict[str, Map] = {
                spec.name: own.enter_context(create_map(spec.name, spec, None if spec.type in _UNTYPED else btf))
                for spec in source.maps
                if spec.name not in shared
            } | dict(shared)
            references = {
                reference.instruction: (
                    self.maps[reference.name],
                    reference.offset if reference.kind is ReferenceKind.MAP_VALUE else None,
                )
                for reference in source.references
            }
            self.program = own.enter_context(
                load_program(name, isa.encode(source.instructions), source.license, references=references)
            )
            self._own = own.pop_all()

    def count(self, name: str) -> int:
        """The u64 per CPU that the map `name` begins with, added up."""
        values = self.maps[name].lookup_percpu(INDEX_0) or ()
        return sum(int.from_bytes(value[:8], "little") for value in values)

    def aim(self, ifindex: int, *, at: int = 0) -> None:
        """Let the program redirect to this interface of the caller's network namespace, by its element `at`."""
        self.maps["target"].update(at.to_bytes(4, "little"), ifindex.to_bytes(4, "little"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._own.close()
