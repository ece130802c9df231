"""Programs from every clang and for every -mcpu: both verifiers take them, as the global function they are in an
image."""

from __future__ import annotations

import platform
import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from oko.compiler.compile import compile_trial
from oko.compiler.image import Filter
from oko.compiler.runtime import Runtime
from oko.switch.datapath import make_program_maps
from oko.switch.loaded_image import LoadedImage, create_shared
from tests.bpf_programs.harness import SOURCES, build
from verifier import elf
from verifier.check import check

pytestmark = pytest.mark.needs_bpf

CLANGS = ("clang-14", "clang-16", "clang-19")
CPUS = ("v1", "v2", "v3")
PROGRAMS = ("blocklist", "firewall", "p0f", "token_bucket")


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    directory = tmp_path_factory.mktemp("runtime")
    build(directory)
    return Runtime.read(lambda name: (directory / "runtime" / f"{name}.o").read_bytes())


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("clang", CLANGS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_both_verifiers_take_it(runtime: Runtime, tmp_path: Path, name: str, clang: str, cpu: str) -> None:
    if shutil.which(clang) is None:
        pytest.skip(f"{clang} is not installed")
    path = tmp_path / f"{name}.o"
    include = [f"-isystem/usr/include/{platform.machine()}-linux-gnu", f"-I{SOURCES / 'include'}"]
    options = ["-O2", "-g", "-target", "bpf", f"-mcpu={cpu}", "-Wall", "-Wextra", "-Werror", *include]
    subprocess.run([clang, *options, "-c", str(SOURCES / f"{name}.c"), "-o", str(path)], check=True)
    program = elf.load(path.read_bytes())
    check(program)
    item = Filter(1, 0, program)
    image = compile_trial(item, {1: 1}, runtime)
    with ExitStack() as owned:
        shared = make_program_maps(item, program.maps)
        for made in shared.values():
            owned.enter_context(made)
        for wanted in image.maps:
            if wanted.program is None:
                shared[wanted.name] = owned.enter_context(create_shared(wanted))
        owned.enter_context(LoadedImage.load("trial", image, shared))
