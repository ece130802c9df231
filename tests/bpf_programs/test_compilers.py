"""Programs from every clang and for every -mcpu: both verifiers take them, the kernel's as the global function that
they are in an image."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path

import pytest

from oko.compiler.compile import compile_trial
from oko.compiler.image import Filter
from oko.switch.datapath import make_program_maps
from oko.switch.loaded_image import LoadedImage, create_shared
from tests.bpf_programs.builds import BUILDS, Build
from tests.oko.compiler.objects import runtime
from verifier import elf
from verifier.check import check
from verifier.program import Program


@pytest.fixture(params=BUILDS, ids=str)
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Program:
    build: Build = request.param
    if shutil.which(build.clang) is None:
        pytest.skip(f"{build.clang} is not installed")
    return elf.load(build.path(tmp_path).read_bytes())


def test_the_verifier_takes_it(program: Program) -> None:
    check(program)


@pytest.mark.needs_bpf
def test_the_kernel_takes_it(program: Program) -> None:
    item = Filter(1, 0, program)
    image = compile_trial(item, {1: 1}, runtime())
    with ExitStack() as owned:
        shared = make_program_maps(item, program.maps)
        for made in shared.values():
            owned.enter_context(made)
        for wanted in image.maps:
            if wanted.program is None:
                shared[wanted.name] = owned.enter_context(create_shared(wanted))
        owned.enter_context(LoadedImage.load("trial", image, shared))
