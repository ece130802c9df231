from __future__ import annotations

from contextlib import ExitStack

import pytest

from oko.kernel.program import SCHED_CLS
from oko.switch.loaded_image import create_map
from oko.switch.objects import read_guard, read_stub
from oko.switch.whole_program import load_whole

pytestmark = pytest.mark.needs_bpf

XDP_DROP, NEXT = 1, 0xFFFFFFFF  # TCX_NEXT as the kernel returns it
FRAME = bytes(60)


def test_a_program_of_xdp_with_its_maps() -> None:
    stub = read_stub()
    with ExitStack() as own:
        maps = {spec.name: own.enter_context(create_map(spec.name, spec)) for spec in stub.maps}
        program = own.enter_context(load_whole("stub", stub, maps))
        assert program.test_run(FRAME, repeat=3).retval == XDP_DROP
        counted = maps["fallthrough"].lookup_percpu(bytes(4)) or ()
        assert sum(int.from_bytes(value, "little") for value in counted) == 3


def test_a_program_of_another_type() -> None:
    guard = read_guard()
    with ExitStack() as own:
        maps = {spec.name: own.enter_context(create_map(spec.name, spec)) for spec in guard.maps}
        program = own.enter_context(load_whole("guard", guard, maps, program_type=SCHED_CLS))
        assert program.info().type == SCHED_CLS
        assert program.test_run(FRAME).retval == NEXT
