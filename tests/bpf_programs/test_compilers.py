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
from oko.switch.loaded_image import LoadedImage, create_map
from tests.bpf_programs.harness import SOURCES, build
from verifier import elf
from verifier.check import check

pytestmark = pytest.mark.needs_bpf

CLANGS = ("clang-14", "clang-16", "clang-19")
CPUS = ("v1", "v2", "v3")
PROGRAMS = ("blocklist", "token_bucket")


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
    image = compile_trial(Filter(1, 0, program), {1: 1}, runtime)
    with ExitStack() as owned:
        shared = {item.name: owned.enter_context(create_map(item.name, item.spec)) for item in image.maps}
        owned.enter_context(LoadedImage.load("trial", image, shared))
