from __future__ import annotations

import errno
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from oko.errors import KernelError, KernelRejected
from oko.kernel import maps
from oko.kernel.btf import load_btf
from oko.kernel.interface import interface, set_up
from oko.kernel.link import attach_xdp
from oko.kernel.maps import Map
from oko.kernel.namespace import run_in
from oko.kernel.program import LoadedProgram, load_program
from tests.oko.kernel import assembler as asm
from tests.oko.kernel.waiting import wait_until

pytestmark = pytest.mark.needs_bpf

FRAME = bytes.fromhex("ffffffffffff 020000000001 0800".replace(" ", "")) + bytes(50)
KEY = bytes(4)


def load(instructions: bytes, references: dict[int, tuple[Map, int | None]] | None = None) -> LoadedProgram:
    return load_program("tested", instructions, "GPL", references=references or {})


def counter() -> Map:
    return Map.create("count", maps.ARRAY, 4, 16, 1)


def u64(value: bytes | None, offset: int = 0) -> int:
    assert value is not None
    return int.from_bytes(value[offset : offset + 8], "little")


def test_run_gives_verdict_and_packet() -> None:
    with load(asm.returns(asm.XDP_TX)) as program:
        result = program.test_run(FRAME)
        assert (result.retval, result.data) == (asm.XDP_TX, FRAME)


def test_run_shows_what_the_program_wrote() -> None:
    write_first_byte = (
        asm.load_word(2, 1, 0)  # data
        + asm.load_word(3, 1, 4)  # data_end
        + asm.mov_reg(4, 2)
        + asm.add(4, 1)
        + asm.op(0x2D, 4, 3, 1)  # past the end: skip the store
        + asm.op(0x72, 2, imm=0xAB)
        + asm.returns(asm.XDP_PASS)
    )
    with load(write_first_byte) as program:
        assert program.test_run(FRAME).data == b"\xab" + FRAME[1:]


def test_run_on_an_ingress_interface() -> None:
    verdict_is_ifindex = asm.load_word(0, 1, 12) + asm.EXIT
    with load(verdict_is_ifindex) as program:
        assert program.test_run(FRAME, ingress_ifindex=1).retval == 1
        with pytest.raises(KernelError, match="test run: "):
            program.test_run(FRAME, ingress_ifindex=999999)


def test_run_repeats() -> None:
    with counter() as count, load(asm.count_and_return(asm.XDP_DROP), {0: (count, 0)}) as program:
        result = program.test_run(FRAME, repeat=1000)
        assert u64(count.lookup(KEY)) == 1000
        assert result.duration_ns < 1_000_000


def test_run_refuses_a_packet_shorter_than_an_ethernet_header() -> None:
    with load(asm.returns(0)) as program, pytest.raises(KernelError) as refused:
        program.test_run(bytes(13))
    assert refused.value.errno == errno.EINVAL


def test_references_reach_the_value_at_an_offset_and_the_map() -> None:
    looks_up = (
        asm.store_word(10, -4, 0)
        + asm.mov_reg(2, 10)
        + asm.add(2, -4)
        + asm.lddw(1)
        + asm.call(asm.MAP_LOOKUP)
        + asm.op(0x15, 0, off=2)  # no element: return 0
        + asm.load_word(0, 0, 8)
        + asm.EXIT
        + asm.EXIT
    )
    with counter() as count:
        with load(asm.count_and_return(asm.XDP_DROP), {0: (count, 8)}) as adds:
            for _ in range(3):
                adds.test_run(FRAME)
        value = count.lookup(KEY)
        assert (u64(value), u64(value, 8)) == (0, 3)
        with load(looks_up, {3: (count, None)}) as reads:
            assert reads.test_run(FRAME).retval == 3


@pytest.mark.parametrize("slot", [1, 2, 99], ids=["second half", "another instruction", "beyond the end"])
def test_reference_to_no_lddw(slot: int) -> None:
    with counter() as count, pytest.raises(KernelError, match=f"slot {slot} is to refer to the map count"):
        load(asm.count_and_return(asm.XDP_DROP), {slot: (count, 0)})


def test_refusal_says_why_and_at_which_source_line() -> None:
    btf, func_info, line_info = asm.btf_of_function("filter", "return packet[2000];", 12)
    reads_past_the_stack = asm.load_word(0, 10, 0) + asm.EXIT
    with load_btf(btf) as loaded, pytest.raises(KernelRejected) as refused:
        load_program(
            "bad",
            reads_past_the_stack,
            "GPL",
            references={},
            btf=loaded,
            func_info=func_info,
            line_info=line_info,
        )
    error = refused.value
    assert (error.code, error.errno) == ("kernel-verifier", errno.EACCES)
    assert str(error).startswith("the kernel refused the program bad: invalid read from stack")
    assert "return packet[2000];" in str(error)
    assert "\n" not in str(error)
    assert "processed 1 insns" in error.details


def counting_loop(iterations: int, body: bytes = b"") -> bytes:
    """A loop that the verifier follows round by round."""
    inner = asm.add(6, 1) + body
    back = -(len(inner) // 8 + 1)
    return asm.mov(6, 0) + inner + asm.op(0xA5, 6, off=back, imm=iterations) + asm.returns(asm.XDP_DROP)


def nested_frames(depth: int) -> bytes:
    """`depth` functions with a large frame each, every one calling the next."""
    frame = asm.op(0x7A, 10, off=-400)
    calling = frame + asm.op(0x85, 0, 1, imm=1) + asm.EXIT
    return calling * (depth - 1) + frame + asm.returns(0)


@pytest.mark.parametrize(
    ("instructions", "reason"),
    [
        pytest.param(counting_loop(1_000_000), "too large", id="a million instructions"),
        pytest.param(nested_frames(3), "combined stack size", id="stack of a call chain"),
        pytest.param(asm.returns(0) * 600_000, "larger than the kernel takes", id="program text"),
    ],
)
def test_beyond_the_budget(instructions: bytes, reason: str) -> None:
    with pytest.raises(KernelRejected, match=reason) as refused:
        load(instructions)
    assert refused.value.code == "kernel-budget"


def test_too_many_maps_is_a_budget() -> None:
    made = [counter() for _ in range(65)]
    try:
        instructions = asm.lddw(1) * 65 + asm.returns(0)
        with pytest.raises(KernelRejected) as refused:
            load(instructions, {2 * number: (target, None) for number, target in enumerate(made)})
        assert refused.value.code == "kernel-budget"
        assert refused.value.errno == errno.E2BIG
    finally:
        for target in made:
            target.close()


def test_licence_that_a_helper_needs() -> None:
    uses_gpl_helper = asm.mov(1, 0) + asm.mov(2, 1) + asm.mov(3, 0) + asm.call(6) + asm.returns(0)  # trace_printk
    with pytest.raises(KernelRejected, match="GPL"):
        load_program("closed", uses_gpl_helper, "Apache-2.0", references={})


def test_info_names_the_program() -> None:
    with load(asm.returns(asm.XDP_PASS)) as program:
        info = program.info()
        assert (info.name, info.type, info.translated_size, info.verified_instructions) == ("tested", 6, 16, 2)
        assert len(info.tag) == 16
        assert info.jited_size > 0


def test_pinned_program_is_found_again_and_only_as_a_program(bpffs: Path) -> None:
    pin = bpffs / "pipeline"
    with load(asm.returns(asm.XDP_TX)) as program:
        program.pin(pin)
        tag = program.info().tag
    with LoadedProgram.open(pin) as found:
        assert found.info().tag == tag
        assert found.test_run(FRAME).retval == asm.XDP_TX
    with pytest.raises(KernelError, match="is pinned as bpf-prog, not as a map"):
        Map.open(pin)


def test_tail_call_through_a_slot() -> None:
    stub = asm.lddw(2) + asm.mov(3, 0) + asm.call(asm.TAIL_CALL) + asm.returns(asm.XDP_PASS)
    with (
        Map.create("slots", maps.PROG_ARRAY, 4, 4, 1) as slots,
        load(stub, {0: (slots, None)}) as port,
        load(asm.returns(asm.XDP_TX)) as pipeline,
    ):
        assert port.test_run(FRAME).retval == asm.XDP_PASS
        slots.update(KEY, pipeline.fd.to_bytes(4, "little"))
        assert port.test_run(FRAME).retval == asm.XDP_TX
        assert list(slots.items()) == [(KEY, pipeline.info().id.to_bytes(4, "little"))]
        assert slots.delete(KEY)
        assert port.test_run(FRAME).retval == asm.XDP_PASS


def test_live_frames_arrive_at_the_other_end_of_a_veth(namespace: Callable[[str], Path]) -> None:
    here = namespace("live")
    portion, portions = 250, 40  # a veth's ring holds 256 frames: nothing is lost while the sink catches up

    def send_and_count() -> int:
        subprocess.run(["ip", "link", "add", "near", "type", "veth", "peer", "name", "far"], check=True)
        near, far = interface("near"), interface("far")
        sends = asm.mov(1, near.index) + asm.mov(2, 0) + asm.call(asm.REDIRECT) + asm.EXIT
        with (
            Map.create("seen", maps.PERCPU_ARRAY, 4, 8, 1) as seen,
            load(counts_in(), {3: (seen, None)}) as sink,
            attach_xdp(sink, far.index),
            load(sends) as generator,
        ):
            set_up(near.index)
            set_up(far.index)
            for sent in range(portion, portion * portions + 1, portion):
                generator.test_run_live(FRAME, portion)
                wait_until(partial(arrived_at_least, seen, sent))
            return arrived(seen)

    assert run_in(here, send_and_count) == portion * portions


def arrived(seen: Map) -> int:
    return sum(u64(value) for value in seen.lookup_percpu(KEY) or ())


def arrived_at_least(seen: Map, frames: int) -> bool:
    return arrived(seen) >= frames


def counts_in() -> bytes:
    """Adds 1 to this CPU's element 0 of the map that slot 3 refers to for our frames, and drops every frame."""
    return (
        asm.store_word(10, -4, 0)
        + asm.mov_reg(2, 10)
        + asm.add(2, -4)
        + asm.lddw(1)
        + asm.call(asm.MAP_LOOKUP)
        + asm.op(0x15, 0, off=3)
        + asm.op(0x79, 1, 0)
        + asm.add(1, 1)
        + asm.op(0x7B, 0, 1)
        + asm.returns(asm.XDP_DROP)
    )
