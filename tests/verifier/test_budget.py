"""What is foreseen of the kernel's budget, beside what the kernel says."""

from __future__ import annotations

from pathlib import Path

import pytest

from oko.compiler.compile import compile_trial
from oko.compiler.image import Filter
from oko.errors import KernelRejected, Rejected
from oko.switch.datapath import make_program_maps
from oko.switch.loaded_image import LoadedImage
from oko.switch.objects import read_runtime
from tests.verifier.assembly import assemble
from tests.verifier.source import compile_source
from verifier.check import check
from verifier.elf import load
from verifier.limits import Limits

SOURCE = """
#include <oko.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u8[4096]);
} table SEC(".maps");

SEC("filter")
int branches(struct xdp_md *ctx)
{
	volatile __u8 *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u32 key = 0, index = 0;
	__u8 *values = bpf_map_lookup_elem(&table, &key);

	if (!values || (void *)(data + 64) > end)
		return OKO_NO_MATCH;
BRANCHES
	return index < 4096 ? values[index] : 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
"""


def verified(elf: bytes) -> int:
    """How many instructions the kernel's verifier looked at."""
    item = Filter(1, 0, load(elf))
    maps = make_program_maps(item, item.program.maps)
    try:
        with LoadedImage.load("budget", compile_trial(item, {1: 1}, read_runtime()), maps) as loaded:
            return loaded.program.info().verified_instructions
    finally:
        for held in maps.values():
            held.close()


def branches(count: int, directory: Path) -> bytes:
    """Branches in a row that all feed one index."""
    text = "\n".join(f"if (data[{n}] > {n}) index += {3 * n + 1};" for n in range(count))
    return compile_source(SOURCE.replace("BRANCHES", text), directory / "branches.o").read_bytes()


@pytest.mark.needs_bpf
@pytest.mark.parametrize("count", [4, 10, 14])
def test_ways_are_about_what_the_kernel_looks_at(count: int, tmp_path: Path) -> None:
    elf = branches(count, tmp_path)
    found = check(load(elf))
    assert 0.6 < found.ways / verified(elf) < 1.2
    assert not found.may_exceed_the_kernel


@pytest.mark.needs_bpf
def test_what_the_kernel_gives_up_on_is_foreseen(tmp_path: Path) -> None:
    elf = branches(20, tmp_path)
    found = check(load(elf))
    assert found.work < 5000
    assert found.may_exceed_the_kernel
    with pytest.raises(KernelRejected) as caught:
        verified(elf)
    assert caught.value.code == "kernel-budget"


def test_limits_are_settings() -> None:
    program, _ = assemble("u64[r10-200] = 0; r0 = 0; exit")
    check(program)
    with pytest.raises(Rejected) as caught:
        check(program, Limits(stack=128))
    assert caught.value.code == "stack-bounds"
