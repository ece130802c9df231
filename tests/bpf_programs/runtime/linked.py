"""A function of the runtime in the kernel: linked as an image has it, global, behind a main function that only calls
it."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from oko.compiler.assembler import Assembler, Register
from oko.compiler.image import ImageMap
from oko.compiler.layout import PacketLayout
from oko.compiler.link import from_program, generated, link
from oko.compiler.replay import REPLAY, REPLAY_SIZE, SUBSTITUTES, emit_now
from oko.compiler.runtime import FUNCTIONS
from oko.compiler.typeinfo import Prototype, type_information
from oko.kernel.btf import load_btf
from oko.kernel.program import RunResult, load_program
from oko.switch.loaded_image import create_map, create_shared
from tests.bpf_programs.harness import build
from verifier import elf, isa
from verifier.program import MapSpec, MapType, ReferenceKind

ONLY = bytes(4)


def build_runtime(directory: Path, *objects: str, clang: str = "clang") -> None:
    """Build these objects of the runtime under `directory`."""
    sources = " ".join(f"runtime/{name}.c" for name in objects)
    build(directory, f"SOURCES={sources}", f"CLANG={clang}")


class LinkedFunction:
    """The function `name`, whose object is under `directory`. Its time is what `now` says (ns), if it asks for it."""

    def __init__(self, directory: Path, name: str) -> None:
        source, prototype = FUNCTIONS[name]
        section = f"runtime/{name.removeprefix('oko_')}"
        program = elf.load((directory / "runtime" / f"{source}.o").read_bytes(), section=section)
        assert program.btf is not None
        self.layout = PacketLayout.of(program.btf)
        self.now = 0
        parts = [
            generated("main", _main(name, prototype), "test"),
            from_program(name, program, prototype, SUBSTITUTES),
        ]
        if any(called == "oko_replay_now" for _, called in parts[1].calls):
            parts.append(generated("oko_replay_now", emit_now(), "test"))
        linked = link(parts)
        btf, func_info, line_info = type_information(linked.infos, linked.lines, self.layout.size)
        own = {"packet": self.layout.size, "argument": 16, "number": 4}
        with ExitStack() as owned:
            self.maps = {
                item.name: owned.enter_context(create_shared(ImageMap(item.name, item, btf=program.btf.raw)))
                for item in program.maps
            }
            for item, size in own.items():
                self.maps[item] = owned.enter_context(create_map(item, MapSpec(item, MapType.ARRAY, 4, size, 1)))
            self.maps["replay"] = owned.enter_context(create_map("replay", REPLAY))
            references = {
                reference.instruction: (
                    self.maps[reference.name],
                    reference.offset if reference.kind is ReferenceKind.MAP_VALUE else None,
                )
                for reference in linked.references
            }
            with load_btf(btf) as types:
                self.program = owned.enter_context(
                    load_program(
                        name,
                        isa.encode(linked.instructions),
                        program.license,
                        references=references,
                        btf=types,
                        func_info=func_info,
                        line_info=line_info,
                    )
                )
            self._owned = owned.pop_all()

    def call(
        self, frame: bytes, packet: Mapping[str, bytes], argument: bytes = b"", number: int = 0, repeat: int = 1
    ) -> RunResult:
        """Call it for `frame`. `packet` has members of `struct oko_packet` by name, as they lie in memory; those of the
        key are called ``key.NAME``."""
        state = bytearray(self.layout.size)
        for name, value in packet.items():
            offset = self._offset(name)
            state[offset : offset + len(value)] = value
        self.maps["packet"].update(ONLY, bytes(state))
        self.maps["argument"].update(ONLY, argument.ljust(16, b"\0"))
        self.maps["number"].update(ONLY, struct.pack("=I", number))
        self.maps["replay"].update(ONLY, struct.pack("=Q", self.now).ljust(REPLAY_SIZE, b"\0"))
        return self.program.test_run(frame, repeat=repeat)

    def member(self, name: str, size: int) -> int:
        """A member of the packet after the call, a number in host order."""
        return int.from_bytes(self._bytes(self._offset(name), size), "little")

    def key(self, name: str) -> bytes:
        """A member of the key after the call, as it lies in memory."""
        return self._bytes(self._offset(f"key.{name}"), self.layout.key.members[name][1])

    def _bytes(self, offset: int, size: int) -> bytes:
        state = self.maps["packet"].lookup(ONLY)
        assert state is not None
        return state[offset : offset + size]

    def _offset(self, name: str) -> int:
        if name.startswith("key."):
            return self.layout.offsets["key"] + self.layout.key.members[name.removeprefix("key.")][0]
        return self.layout.offsets[name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._owned.close()


def _main(name: str, prototype: Prototype) -> Assembler:
    """Calls the function with what is in the maps, and returns what it returns."""
    asm = Assembler()
    asm.copy(Register.R6, Register.R1)
    if prototype is Prototype.ACTION:
        asm.map_value(Register.R3, "argument")
        asm.map_value(Register.R4, "number")
        asm.load(4, Register.R4, Register.R4, 0)
    asm.map_value(Register.R2, "packet")
    asm.copy(Register.R1, Register.R6)
    asm.call(name)
    asm.exit()
    return asm
