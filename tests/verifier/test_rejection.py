"""What a rejection says. The programs are numbered from their first line, the include."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from oko.errors import Rejected
from tests.verifier.assembly import EXIT, ZERO, branch, program
from tests.verifier.generator import Generator
from tests.verifier.source import compile_source
from verifier import isa
from verifier.check import check
from verifier.elf import load
from verifier.isa import Instruction
from verifier.program import Program
from verifier.rejection import Rejection

FRAME = """#include "oko.h"
{declarations}
SEC("filter") int example(struct xdp_md *ctx)
{{
	void *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + 14;
	__u32 zero = 0;
{body}
}}

char LICENSE[] SEC("license") = "GPL";
"""
"""The body begins on line 8."""

ARRAY = (
    "struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32);"
    ' __type(value, __u32[16]); } table SEC(".maps");'
)
KEYED = (
    "struct key { __u32 address; __u8 protocol; __u16 port; };"
    " struct { __uint(type, BPF_MAP_TYPE_HASH); __uint(max_entries, 4); __type(key, struct key);"
    ' __type(value, __u64); } flows SEC(".maps");'
)
RING = 'struct { __uint(type, BPF_MAP_TYPE_RINGBUF); __uint(max_entries, 4096); } events SEC(".maps");'
DEEP = "static __attribute__((noinline)) int inner(int x) { volatile char a[160] = {}; a[0] = x; return a[0]; }"


def rejection_of(made: Program) -> Rejection:
    with pytest.raises(Rejected) as rejected:
        check(made)
    rejection = rejected.value.rejection
    assert isinstance(rejection, Rejection)
    assert rejected.value.code == rejection.code
    assert str(rejected.value) == rejection.message
    assert "\n" not in rejection.message
    assert rejected.value.details == rejection.details
    return rejection


def rejected(directory: Path, body: str, declarations: str = "") -> Rejection:
    source = FRAME.format(declarations=declarations, body=body)
    return rejection_of(load(compile_source(source, directory / "example.o").read_bytes()))


def notes(rejection: Rejection) -> list[tuple[int, str]]:
    return [(note.line.line if note.line else 0, note.text) for note in rejection.notes]


SAYS: dict[str, tuple[str, str, str, int, str, str, list[tuple[int, str]]]] = {
    # name: declarations, body, code, line, a part of why, a part of mend, notes
    "check-too-short": (
        "",
        "\tif (data + 14 > data_end)\n\t\treturn 0;\n\treturn ip->protocol == 6;",
        "packet-bounds",
        10,
        "byte 23 of the packet is read, but the check on line 8 proves 14 bytes only",
        "if (data + 24 > data_end) return OKO_NO_MATCH; (or, for all of *ip: if ((void *)(ip + 1) > data_end)",
        [(8, "proves 14 bytes")],
    ),
    "no-check": (
        "",
        "\treturn ip->tot_len == 6;",
        "packet-bounds",
        8,
        "bytes 16 to 17 of the packet are read, and no check on the way proves that the packet has them",
        "before it, check the length: if (data + 18 > data_end)",
        [],
    ),
    "check-without-effect": (
        "",
        "\tif (data + 34 > data_end)\n\t\tzero = 1;\n\treturn ip->protocol == 6;",
        "packet-bounds",
        10,
        "no check on the way",
        "if (data + 24 > data_end)",
        [],
    ),
    "check-behind-the-access": (
        "",
        "\t__u8 protocol = *(volatile __u8 *)&ip->protocol;\n\tif (data + 34 > data_end)\n\t\treturn 0;\n"
        "\treturn protocol;",
        "packet-bounds",
        8,
        "no check on the way",
        "if (data + 24 > data_end)",
        [(9, "is a check, but stands behind the access")],
    ),
    "variable-step": (
        "",
        "\tif (data + 34 > data_end)\n\t\treturn 0;\n\tstruct tcphdr *tcp = (void *)ip + ip->ihl * 4;\n"
        "\treturn tcp->dest == 80;",
        "packet-bounds",
        11,
        "bytes 16 to 17 behind a variable step of 0–60 bytes are read, and no check",
        "check again behind the variable step: if ((void *)(tcp + 1) > data_end) return OKO_NO_MATCH;",
        [(8, "proves 34 bytes of the packet's beginning: not of this pointer")],
    ),
    "step-too-long": (
        "",
        "\tif (data + 34 > data_end)\n\t\treturn 0;\n\tstruct udphdr *udp = data + *(__u16 *)(data + 16);\n"
        "\tif ((void *)(udp + 1) > data_end)\n\t\treturn 0;\n\treturn udp->dest == 80;",
        "packet-bounds",
        13,
        "behind a variable step of 0–65535 bytes are read: no check behind so long a step proves anything",
        "if (length > 1500) return OKO_NO_MATCH;",
        [],
    ),
    "length-compared": (
        "",
        "\t__u32 length = data_end - data;\n\tif (length < 34)\n\t\treturn 0;\n\treturn ip->protocol == 6;",
        "packet-bounds",
        11,
        "no check on the way",
        "if (data + 24 > data_end)",
        [(8, "computes a length: what is compared with it proves nothing about pointers")],
    ),
    "untested-lookup": (
        ARRAY,
        "\t__u32 *value = bpf_map_lookup_elem(&table, &zero);\n\treturn *value;",
        "maybe-null",
        9,
        "the lookup in table on line 8 gives NULL when there is no such key",
        "if (!value) return OKO_NO_MATCH;",
        [(8, "may return NULL")],
    ),
    "untested-record": (
        RING,
        "\t__u32 *record = bpf_ringbuf_reserve(&events, 4, 0);\n\t*record = 1;\n\tbpf_ringbuf_submit(record, 0);\n"
        "\treturn 1;",
        "maybe-null",
        9,
        "the reservation on line 8 gives NULL when the ring buffer is full",
        "if (!record) return",
        [(8, "may return NULL")],
    ),
    "padding-of-a-key": (
        KEYED,
        "\tstruct key key;\n\tkey.address = 1;\n\tkey.protocol = 6;\n\tkey.port = 80;\n"
        "\treturn bpf_map_lookup_elem(&flows, &key) != NULL;",
        "uninitialised",
        12,
        "byte 5 of `key`, which bpf_map_lookup_elem reads as a key of flows, was never written:"
        " padding behind member protocol",
        "__builtin_memset(&key, 0, sizeof(key));",
        [],
    ),
    "member-of-a-key": (
        KEYED,
        "\tstruct key key;\n\tkey.address = 1;\n\tkey.protocol = 6;\n"
        "\treturn bpf_map_lookup_elem(&flows, &key) != NULL;",
        "uninitialised",
        11,
        "bytes 5 to 7 of `key`, which bpf_map_lookup_elem reads as a key of flows, were never written: member port",
        "sizeof(key)",
        [],
    ),
    "index-of-a-value": (
        ARRAY,
        "\t__u32 index = ctx->rx_queue_index & 63;\n\t__u32 *value = bpf_map_lookup_elem(&table, &zero);\n"
        "\tif (!value)\n\t\treturn 0;\n\treturn value[index];",
        "map-bounds",
        12,
        "may touch bytes 0 to 255 of a value of table, which has 64 bytes:"
        " the index can be 0 to 63 (elements of 4 bytes)",
        "if (index >= 16) return OKO_NO_MATCH;",
        [],
    ),
    "end-of-a-value": (
        ARRAY,
        "\t__u32 *value = bpf_map_lookup_elem(&table, &zero);\n\tif (!value)\n\t\treturn 0;\n\treturn value[16];",
        "map-bounds",
        11,
        "touches bytes 64 to 67 of a value of table, which has 64 bytes",
        "stay within the 64 bytes",
        [],
    ),
    "chain-of-frames": (
        DEEP,
        "\tvolatile char b[120] = {};\n\tb[0] = inner(ctx->rx_queue_index);\n\treturn b[0];",
        "stack-bounds",
        2,
        "the frames of a chain of calls take 288 bytes, limit 256: example 120, inner 160",
        "per-CPU map",
        [(2, "inner uses 160 bytes"), (3, "example uses 120 bytes")],
    ),
    "large-variable": (
        "",
        "\tvolatile char large[300] = {};\n\tlarge[0] = 1;\n\treturn large[0];",
        "stack-bounds",
        8,
        "local variables reach beyond the frame",
        "per-CPU map",
        [(8, "takes about 304 bytes of stack")],
    ),
    "written-loop": (
        "",
        "\tfor (__u32 i = 0; i < ctx->rx_queue_index; i++)\n\t\tzero += i * zero + 1;\n\treturn zero;",
        "cycle",
        8,
        "so the program might not end",
        "#pragma unroll",
        [(9, "in the loop"), (8, "the loop")],
    ),
    "forbidden": (
        "",
        '\tbpf_printk("x");\n\treturn 1;',
        "forbidden-helper",
        8,
        "calls bpf_trace_printk",
        "report through a ring buffer with bpf_ringbuf_output",
        [],
    ),
    "kept-record": (
        RING,
        "\t__u32 *record = bpf_ringbuf_reserve(&events, 4, 0);\n\treturn record != NULL;",
        "record-leak",
        9,
        "the ring-buffer record reserved on line 8 is neither submitted nor discarded",
        "also on early returns",
        [(8, "reserves the record")],
    ),
    "moved-end": (
        "",
        '\tasm volatile("%0 += -34" : "+r"(data_end));\n\treturn data > data_end;',
        "pointer-arithmetic",
        8,
        "data_end is moved",
        "data + N > data_end",
        [],
    ),
}


@pytest.mark.parametrize(
    ("declarations", "body", "code", "line", "why", "mend", "noted"), SAYS.values(), ids=list(SAYS)
)
def test_says(
    declarations: str,
    body: str,
    code: str,
    line: int,
    why: str,
    mend: str,
    noted: list[tuple[int, str]],
    tmp_path: Path,
) -> None:
    rejection = rejected(tmp_path, body, declarations)
    assert rejection.code == code
    assert rejection.line is not None
    assert (rejection.line.line, rejection.place) == (line, f"{rejection.line.file}:{line}")
    assert why in rejection.why
    assert mend in rejection.mend
    assert notes(rejection)[: len(noted)] == noted


def test_report(tmp_path: Path) -> None:
    """The whole of it, and that colours are only added."""
    rejection = rejected(tmp_path, "\tif (data + 14 > data_end)\n\t\treturn 0;\n\treturn ip->protocol == 6;")
    report = rejection.report().replace(f"{tmp_path}/", "")
    assert report.splitlines()[:-1] == [
        "example.c:10: packet-bounds: byte 23 of the packet is read, but the check on line 8 proves 14 bytes only",
        "    10 | return ip->protocol == 6;",
        "       |            ^",
        f"         instruction {rejection.instruction} of example: {rejection.text}",
        "         R1: packet",
        "what matters:",
        "     8 | if (data + 14 > data_end)   ← proves 14 bytes",
        "the way there:",
        "     8 | if (data + 14 > data_end)   ← goes on at line 10",
    ]
    kinds: set[str] = set()

    def paint(kind: str, text: str) -> str:
        kinds.add(kind)
        return f"<{text}>"

    painted = rejection.report(paint)
    assert painted.replace("<", "").replace(">", "") == rejection.report().replace("<", "").replace(">", "")
    assert kinds == {"place", "code", "source", "mark", "label", "mend"}


def test_json(tmp_path: Path) -> None:
    rejection = rejected(tmp_path, "\tif (data + 14 > data_end)\n\t\treturn 0;\n\treturn ip->protocol == 6;")
    read = json.loads(json.dumps(rejection.to_json()))
    assert read["code"] == "packet-bounds"
    assert read["source"]["line"] == 10
    assert read["registers"] == {"R1": "packet"}
    assert [(step["source"]["line"], step["taken"], step["to"]["line"]) for step in read["way"]] == [(8, False, 10)]
    assert read["notes"] == [
        {"instruction": read["way"][0]["instruction"], "text": "proves 14 bytes", "source": read["way"][0]["source"]}
    ]


def test_a_loop_that_nobody_wrote(tmp_path: Path) -> None:
    """The text of its lines shows a macro, no loop."""
    declarations = "#define ALL(n) for (__u32 i = 0; i < n; i++) zero += i * zero + 1"
    rejection = rejected(tmp_path, "\tALL(ctx->rx_queue_index);\n\treturn zero;", declarations)
    assert "the compiler made the loop" in rejection.why
    assert rejection.mend.startswith("look at macros")
    assert notes(rejection) == [(8, "in the loop")]


def test_code_of_a_header(tmp_path: Path) -> None:
    (tmp_path / "reader.h").write_text(
        "static __always_inline int reader(struct xdp_md *ctx)\n{\n\treturn *(__u8 *)(long)ctx->data;\n}\n"
    )
    rejection = rejected(
        tmp_path, "\tif (oko_in_port(ctx) == 1)\n\t\treturn 0;\n\treturn reader(ctx);", '#include "reader.h"'
    )
    assert rejection.place.endswith("reader.h:3")
    assert notes(rejection)[-1][1] == "is the last line of this file before it"
    assert "example.c:8 | if (oko_in_port(ctx) == 1)" in rejection.details


def test_registers_lost_in_a_call() -> None:
    made = program([Instruction(isa.OPCODE_CALL, imm=5), Instruction(isa.ALU64 | isa.MOV | isa.X, 0, 1), EXIT])
    rejection = rejection_of(made)
    assert rejection.code == "uninitialised"
    assert rejection.why == "R1 was lost in the call at instruction 0: a call destroys R1 to R5"
    assert [(note.instruction, note.text) for note in rejection.notes] == [(0, "destroys R1 to R5")]
    assert rejection.place == "instruction 1 of f0"
    assert rejection.message.startswith("instruction 1 of f0: R1 was lost")


def test_a_long_way_is_cut() -> None:
    """The last decisions are shown, and how many are not."""
    branches = [Instruction(isa.JMP | isa.JEQ, 6, offset=0, imm=value) for value in range(20)]
    load_queue = Instruction(isa.LDX | isa.MEM | isa.W, 6, 1, 16)
    made = program([load_queue, *branches, Instruction(isa.ALU64 | isa.MOV | isa.X, 0, 7), EXIT])
    rejection = rejection_of(made)
    assert len(rejection.way) == 20
    assert "… 8 branches before" in rejection.details


def test_without_source() -> None:
    rejection = rejection_of(program([ZERO, branch(-2), EXIT]))
    assert (rejection.code, rejection.line, rejection.place) == ("cycle", None, "instruction 1 of f0")
    assert rejection.details.splitlines()[0] == "         instruction 1 of f0: if r1 == 0 goto -2"


def test_whatever_is_rejected_can_be_explained() -> None:
    random = Random(3)
    codes = set()
    for _ in range(300):
        made = Generator(random, wrong=0.1).program()
        try:
            check(made)
        except Rejected as error:
            rejection = error.rejection
            assert isinstance(rejection, Rejection)
            assert "\n" not in rejection.message
            assert rejection.report().endswith(rejection.mend)
            json.dumps(rejection.to_json())
            codes.add(rejection.code)
    assert len(codes) > 8
