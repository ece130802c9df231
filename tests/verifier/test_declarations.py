from __future__ import annotations

from pathlib import Path

import pytest

from oko.errors import NotReadable
from tests.verifier.source import compile_source
from verifier.btf import Struct
from verifier.elf import load
from verifier.program import MapType, Program

SOURCE = """
#include <oko.h>
struct event { __u32 port; };
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
	%s
} events SEC(".maps");
SEC("filter") int reporting(struct xdp_md *ctx)
{
	struct event event = {.port = oko_in_port(ctx)};

	return oko_report(&events, &event, sizeof(event)) ? OKO_NO_MATCH : OKO_MATCH;
}
char LICENSE[] SEC("license") = "GPL";
"""


def with_ring(directory: Path, attribute: str) -> Program:
    """A program whose ring buffer has one more attribute."""
    return load(compile_source(SOURCE % attribute, directory / "ring.o").read_bytes())


def test_a_ring_buffer_may_say_what_its_records_are(tmp_path: Path) -> None:
    program = with_ring(tmp_path, "__type(value, struct event);")
    (ring,) = program.maps
    assert (ring.type, ring.key_size, ring.value_size) == (MapType.RINGBUF, 0, 0)
    assert program.btf is not None
    record = program.btf.resolved(ring.value_type)
    assert isinstance(record, Struct)
    assert record.name == "event"


def test_a_ring_buffer_need_not_say_it(tmp_path: Path) -> None:
    (ring,) = with_ring(tmp_path, "").maps
    assert ring.value_type == 0


@pytest.mark.parametrize("attribute", ["__type(key, __u32);", "__uint(key_size, 4);", "__uint(value_size, 4);"])
def test_a_ring_buffer_has_no_sizes(tmp_path: Path, attribute: str) -> None:
    with pytest.raises(NotReadable, match="map events: a ring buffer has no keys, and records of any size"):
        with_ring(tmp_path, attribute)
