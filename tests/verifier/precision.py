"""The precision measurement: what the kernel and the verifier say of every program of the corpus, compiled by several
compilers for several versions of the instruction set.

`python -m tests.verifier.precision` prints the table of docs/verifier.md (root).
"""

from __future__ import annotations

import functools
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, NamedTuple

from oko.compiler.runtime import Runtime
from oko.errors import NotReadable, Rejected
from tests.verifier.kernel import Kernel, Verdict, Way, with_few_rights
from verifier.check import check
from verifier.elf import load
from verifier.program import Program

CORPUS: Final = Path(__file__).parent / "corpus"
ROOT: Final = Path(__file__).parents[2]
COMPILERS: Final = ("clang-14", "clang-16", "clang-19")
CPUS: Final = ("v1", "v2", "v3")

OUTSIDE: Final = frozenset({"cycle", "uninitialised"})
"""Codes of what the kernel lets root do and the model does not: loops, and bytes of the stack that nobody wrote."""

_REGISTER: Final = re.compile(r"R\d+ |\d{3,}")


class Build(NamedTuple):
    """One program of the corpus, as one compiler makes it."""

    name: str
    compiler: str
    cpu: str

    def __str__(self) -> str:
        return f"{self.name} {self.compiler} {self.cpu}"


def names() -> list[str]:
    """The programs of the corpus, as its list has them."""
    return [line.split()[0] for line in (CORPUS / "LIST").read_text().splitlines() if not line.startswith("#")]


def compile_corpus(build: Build, directory: Path) -> bytes:
    """The object file. Raises CalledProcessError."""
    target = directory / f"{build}.o"
    include = [f"-isystem/usr/include/{platform.machine()}-linux-gnu", f"-I{ROOT / 'bpf_programs/include'}"]
    options = ["-O2", "-g", "-target", "bpf", f"-mcpu={build.cpu}", "-Wno-pass-failed", *include]
    subprocess.run([build.compiler, *options, "-c", CORPUS / f"{build.name}.c", "-o", target], check=True)
    return target.read_bytes()


def compile_all(builds: list[Build]) -> Iterator[tuple[Build, bytes]]:
    """The object files, two compilers running at once."""
    with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor(2) as pool:
        yield from zip(builds, pool.map(lambda build: compile_corpus(build, Path(directory)), builds), strict=True)


def ours(program: Program) -> Verdict:
    """What the verifier says."""
    try:
        check(program)
    except Rejected as rejected:
        return Verdict(rejected.code, str(rejected))
    return Verdict()


def kernels(program: Program, runtime: Runtime, *, few_rights: bool = False) -> Verdict:
    """What the kernel says of the program in an image, to root or to a process with CAP_BPF and CAP_NET_ADMIN alone."""
    with Kernel(program.maps, program.btf) as kernel:
        answer = functools.partial(kernel.verdict, program, Way.IMAGE, runtime)
        return with_few_rights(answer) if few_rights else answer()


class Outcome(NamedTuple):
    """What was said of a build: by the verifier, by the kernel to root, and to a process with few rights."""

    build: Build
    ours: Verdict
    root: Verdict
    few: Verdict

    @property
    def counts(self) -> bool:
        """Whether the build is one that should be accepted: the kernel does, and it obeys the model."""
        return not self.root.code and self.ours.code not in OUTSIDE


def outcome(build: Build, data: bytes, runtime: Runtime) -> Outcome:
    """Ask both."""
    try:
        program = load(data)
    except NotReadable as refused:
        unreadable = Verdict("not-readable", str(refused))
        return Outcome(build, unreadable, unreadable, unreadable)
    return Outcome(build, ours(program), kernels(program, runtime), kernels(program, runtime, few_rights=True))


def main() -> int:
    runtime = Runtime.read(lambda name: (ROOT / f"build/bpf/runtime/{name}.o").read_bytes())
    compilers = [name for name in COMPILERS if shutil.which(name)]
    builds = [Build(name, compiler, cpu) for compiler in compilers for cpu in CPUS for name in names()]
    outcomes = [outcome(build, data, runtime) for build, data in compile_all(builds)]
    print("| compiler | -mcpu | objects | the kernel accepts | obey the model | accepted by ours | precision |")
    print("|---|---|---|---|---|---|---|")
    for compiler in compilers:
        for cpu in CPUS:
            _row(compiler, cpu, [one for one in outcomes if (one.build.compiler, one.build.cpu) == (compiler, cpu)])
    _row("all", "", outcomes)
    print("\nrefused by ours, accepted or not by the kernel (root):")
    refused = Counter((one.build.name, one.ours.code, one.root.code or "accepted") for one in outcomes if one.ours.code)
    for (name, code, kernel), count in sorted(refused.items()):
        print(f"{name}: {code} in {count} builds; kernel: {kernel}")
    print("\naccepted by ours, refused by the kernel:")
    for one in outcomes:
        if not one.ours.code and one.root.code:
            print(f"{one.build}: {one.root.reason}")
    print("\naccepted by ours, refused to a process with CAP_BPF and CAP_NET_ADMIN alone:")
    reasons = Counter(_REGISTER.sub("", one.few.reason.split(" (at:")[0]) for one in outcomes if not one.ours.code)
    for reason, count in reasons.most_common():
        print(f"{count} × {reason or 'accepted'}")
    return 0


def _row(compiler: str, cpu: str, outcomes: list[Outcome]) -> None:
    wanted = [one for one in outcomes if one.counts]
    accepted = sum(not one.ours.code for one in wanted)
    root = sum(not one.root.code for one in outcomes)
    shown = f"{len(outcomes)} | {root} | {len(wanted)} | {accepted} | {accepted / len(wanted):.1%}"
    print(f"| {compiler} | {cpu} | {shown} |")


if __name__ == "__main__":
    sys.exit(main())
