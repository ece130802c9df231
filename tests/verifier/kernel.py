"""What the running kernel says of generated programs: loaded by themselves or in an image, with the rights of root or
with CAP_BPF and CAP_NET_ADMIN alone."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
from collections.abc import Callable, Iterable
from enum import Enum
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeVar

from oko.compiler.compile import compile_trial
from oko.compiler.image import Filter
from oko.compiler.runtime import Runtime
from oko.errors import KernelRejected
from oko.kernel.btf import load_btf
from oko.kernel.libbpf import failure
from oko.kernel.maps import Map
from oko.kernel.program import load_program
from oko.switch.loaded_image import LoadedImage, create_map
from tests.verifier.generator import BTF, MAPS
from verifier import isa
from verifier.btf import Btf
from verifier.isa import Instruction
from verifier.program import MapSpec, Program, ReferenceKind

_LOOPBACK: Final = 1
_ID: Final = 1
_CAP_NET_ADMIN: Final = 12
_CAP_BPF: Final = 39
_CAPABILITY_VERSION: Final = 0x20080522  # _LINUX_CAPABILITY_VERSION_3 of <linux/capability.h>
_RANDOM_NUMBER: Final = Instruction(isa.OPCODE_CALL, imm=7)

DOCUMENTED: Final = (
    "prohibited for !root",
    "pointer comparison prohibited",
    "pointer -= pointer prohibited",
    "attempt to corrupt spilled pointer",
)
"""What the kernel refuses of a loader without CAP_PERFMON and not of one with it: docs/verifier.md says why filter
programs may do it all the same."""

_Answer = TypeVar("_Answer")


class Way(Enum):
    """How a program is put before the kernel."""

    DIRECT = "by itself"
    IMAGE = "in an image, as a global function"


class Verdict(NamedTuple):
    """`code` is empty for a program that the kernel accepts, else that of KernelRejected; `reason` is the message."""

    code: str = ""
    reason: str = ""

    def disagrees(self, *, few_rights: bool) -> bool:
        """Whether the kernel finds unsafe what was accepted, for a reason that is not documented."""
        documented = few_rights and any(words in self.reason for words in DOCUMENTED)
        return self.code == "kernel-verifier" and not documented


class Kernel:
    """Owns the maps that programs refer to: those of the generator, or the ones given."""

    def __init__(self, specs: Iterable[MapSpec] = MAPS, types: Btf | None = BTF) -> None:
        with contextlib.ExitStack() as owned:
            btf = owned.enter_context(load_btf(types.raw)) if types is not None else None
            self._maps: dict[str, Map] = {
                spec.name: owned.enter_context(create_map(spec.name, spec, btf)) for spec in specs
            }
            self._owned = owned.pop_all()

    def verdict(self, program: Program, way: Way, runtime: Runtime | None = None) -> Verdict:
        """What the kernel says of one program with the rights of this process. An image needs `runtime`."""
        try:
            if way is Way.DIRECT:
                self._load(program)
            else:
                assert runtime is not None
                self._load_image(program, runtime)
        except KernelRejected as refused:
            return Verdict(refused.code, str(refused))
        return Verdict()

    def _load(self, program: Program) -> None:
        code = list(program.instructions)
        references = {}
        for reference in program.references:
            if reference.kind is ReferenceKind.RUNTIME:
                code[reference.instruction] = _RANDOM_NUMBER  # as good as the switch's: R1–R5 are lost, R0 is a number
            else:
                offset = reference.offset if reference.kind is ReferenceKind.MAP_VALUE else None
                references[reference.instruction] = (self._maps[reference.name], offset)
        load_program("fuzzed", isa.encode(code), program.license, references=references).close()

    def _load_image(self, program: Program, runtime: Runtime) -> None:
        item = Filter(_ID, 0, program)
        image = compile_trial(item, {1: _LOOPBACK}, runtime)
        shared = {item.map_name(name): found for name, found in self._maps.items()}
        with contextlib.ExitStack() as own:
            for wanted in image.maps:
                if wanted.shared and wanted.name not in shared:
                    shared[wanted.name] = own.enter_context(create_map(wanted.name, wanted.spec))
            own.enter_context(LoadedImage.load("fuzzed", image, shared))

    def close(self) -> None:
        """Give up the maps."""
        self._owned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def with_few_rights(work: Callable[[], _Answer]) -> _Answer:
    """What `work` answers in a process that has CAP_BPF and CAP_NET_ADMIN and no other capability."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reading)
            _drop_rights()
            with os.fdopen(writing, "wb") as pipe:
                pickle.dump(work(), pipe)
        finally:
            os._exit(0)
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as pipe:
            answer: _Answer = pickle.load(pipe)
    finally:
        os.waitpid(child, 0)
    return answer


def _drop_rights() -> None:
    """Raises KernelError."""
    libc = ctypes.CDLL(None, use_errno=True)
    rights = 1 << _CAP_NET_ADMIN | 1 << _CAP_BPF
    low, high = rights & 0xFFFFFFFF, rights >> 32
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)  # effective, permitted, inheritable; twice
    if libc.capset(header, data) != 0:
        raise failure("giving up capabilities", ctypes.get_errno())
