"""The sample programs by their tables of packets, which lie beside them: in the kernel and in Python the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from oko.author.packets import parse_packets
from oko.author.trial import Trial
from oko.switch.objects import read_runtime
from tests.bpf_programs.harness import SOURCES, build
from verifier import elf

PROGRAMS = ("blocklist", "firewall", "p0f", "token_bucket")


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("objects")
    build(directory, f"SOURCES={' '.join(f'{name}.c' for name in PROGRAMS)}")
    return directory


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize(
    "in_kernel", [pytest.param(True, marks=pytest.mark.needs_bpf, id="kernel"), pytest.param(False, id="Python")]
)
def test_every_packet_is_as_its_table_says(objects: Path, name: str, in_kernel: bool) -> None:
    program = elf.load((objects / f"{name}.o").read_bytes())
    tests = parse_packets((SOURCES / f"{name}.toml").read_text(), name)
    with Trial(program, tests, read_runtime(), in_kernel=in_kernel) as trial:
        wrong = [(outcome.test.name, outcome.differences) for outcome in trial.run() if outcome.differences]
    assert wrong == []
