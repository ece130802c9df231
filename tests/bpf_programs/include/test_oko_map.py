"""What the SDK has for maps, as the tools see it: configuration with its defaults, the meaning of maps, reports."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import cast

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from oko.compiler.compile import compile_trial
from oko.compiler.image import Filter
from oko.compiler.runtime import Runtime
from oko.switch.loaded_image import LoadedImage, create_map
from oko.switch.schema import read, schema, write
from tests.bpf_programs.harness import build, build_test_object
from verifier import elf
from verifier.btf import Btf, DeclTag, Var
from verifier.check import check
from verifier.interpreter import Interpreter
from verifier.maps import RingBuffer
from verifier.program import Program

CONFIG = ".data.config"
DEFAULTS = {"config": {"openers": 4, "timeout": [10, 20, 30], "router": "0.0.0.0"}}
FRAME = bytes(Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(src="10.0.0.1", dst="10.0.0.2") / UDP())


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    source = Path(__file__).with_name("map_sample.c")
    program = elf.load(build_test_object(source, tmp_path_factory.mktemp("map")).read_bytes())
    check(program)
    return program


def test_configuration_has_its_defaults_by_name(program: Program) -> None:
    (spec,) = (spec for spec in program.maps if spec.name == CONFIG)
    assert spec.initial is not None
    assert not spec.frozen
    assert read(schema(cast(Btf, program.btf), spec.value_type), spec.initial) == DEFAULTS


def test_configuration_changes_what_the_program_does(program: Program) -> None:
    running = Interpreter(program)
    (spec,) = (spec for spec in program.maps if spec.name == CONFIG)
    described = schema(cast(Btf, program.btf), spec.value_type)

    def matching_ports() -> list[int]:
        return [port for port in range(70) if running.run(FRAME, in_port=port, now=0, random=int)]

    assert matching_ports() == [2]
    present = bytes(running.maps[CONFIG].lookup(bytes(4)) or b"")
    running.maps[CONFIG].update(bytes(4), write(described, {"config": {"openers": 1 << 63 | 1 << 5}}, present))
    assert matching_ports() == [5, 63]


def test_meaning_of_maps(program: Program) -> None:
    btf = cast(Btf, program.btf)
    tags = {(btf.type_of(tag.type, Var).name, tag.name) for tag in btf.types if isinstance(tag, DeclTag)}
    assert tags == {
        ("flows", "oko:key=flow"),
        ("flows", "oko:value=flow_state"),
        ("events", "oko:value=report"),
        ("config", "oko:value=configuration"),
    }


def test_a_report_is_a_record(program: Program) -> None:
    running = Interpreter(program)
    for _ in range(2):
        running.run(FRAME, in_port=1, now=7, random=int)
    (record,) = cast(RingBuffer, running.maps["events"]).records
    ends = (bytes(10) + b"\xff\xff" + bytes((10, 0, 0, last)) for last in (1, 2))
    assert record == (7).to_bytes(8, "little") + b"".join(ends) + bytes(4) + bytes((17, 0, 0, 0))


@pytest.mark.needs_bpf
def test_the_kernel_takes_it_as_a_global_function(program: Program, tmp_path: Path) -> None:
    build(tmp_path)
    runtime = Runtime.read(lambda name: (tmp_path / "runtime" / f"{name}.o").read_bytes())
    image = compile_trial(Filter(1, 0, program), {1: 1}, runtime)
    with ExitStack() as owned:
        shared = {item.name: owned.enter_context(create_map(item.name, item.spec)) for item in image.maps}
        owned.enter_context(LoadedImage.load("trial", image, shared))
