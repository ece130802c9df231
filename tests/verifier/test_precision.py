"""Every program of the corpus is accepted, or refused as recorded; and what is accepted, the kernel accepts."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

import pytest

from oko.compiler.runtime import Runtime
from tests.verifier.precision import CORPUS, ROOT, Build, compile_all, kernels, names, ours
from verifier.elf import load
from verifier.program import Program

COMPILER = next((name for name in ("clang-14", "clang") if shutil.which(name)), "clang")
CPU = "v3"

# The compiler is clang 14; that it did not unroll is its own affair, and another one may have.
REFUSED = {
    "checksum_packet": "packet-bounds",  # the kernel does too: the length is checked, but not behind a variable step
    "clamped_output": "pointer-leak",  # the kernel does too: the compiler spills half of a pointer
    "dhcp_server": "cycle",
    "lru_flows": "uninitialised",  # padding: the kernel forgives it root only
    "masked_byte": "packet-bounds",  # the kernel does too
    "min_max": "map-bounds",  # the kernel does too
    "sctp_chunks": "cycle",
    "stack_index": "pointer-arithmetic",  # a variable index into the stack: the kernel allows it root only
}
UNREADABLE = {"arp_binding", "compare_macs"}
"""In which clang 14 leaves a call of memcmp, which no program can link."""


@pytest.fixture(scope="module")
def programs() -> dict[str, Program]:
    builds = [Build(name, COMPILER, CPU) for name in names() if name not in UNREADABLE]
    return {build.name: load(data) for build, data in compile_all(builds)}


def test_the_list_is_the_one_that_was_fixed() -> None:
    listed = (CORPUS / "LIST").read_text()
    told = re.search(r"^# names: (\w+)$", listed, re.MULTILINE)
    assert told is not None
    assert hashlib.sha256("".join(f"{name}\n" for name in names()).encode()).hexdigest() == told[1]
    digests = dict(line.split() for line in listed.splitlines() if not line.startswith("#"))
    sources = {path.stem: path for path in CORPUS.glob("*.c")}
    assert digests == {name: _digest(path) for name, path in sources.items()}


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def codes(programs: dict[str, Program]) -> dict[str, str]:
    """The code of each program's rejection, empty for those that are accepted."""
    return {name: ours(program).code for name, program in programs.items()}


@pytest.mark.skipif(COMPILER != "clang-14", reason="the verdicts are recorded for clang 14")
def test_verdicts_are_as_recorded(codes: dict[str, str]) -> None:
    assert {name: code for name, code in codes.items() if code} == REFUSED


@pytest.mark.needs_bpf
def test_the_kernel_accepts_what_is_accepted(
    programs: dict[str, Program], codes: dict[str, str], runtime: Runtime
) -> None:
    accepted = {name: program for name, program in programs.items() if not codes[name]}
    assert len(accepted) > 70
    assert {name: kernels(program, runtime).reason for name, program in accepted.items()} == dict.fromkeys(accepted, "")


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return Runtime.read(lambda name: (ROOT / f"build/bpf/runtime/{name}.o").read_bytes())
