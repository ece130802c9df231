"""The budgets of an image: what is at the limit loads, what is beyond is refused with what it uses and the limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import pytest

from oko.compiler.compile import INSTRUCTION_LIMIT, MAP_LIMIT
from oko.compiler.counters import PROGRAM_LIMIT
from oko.compiler.image import Image
from oko.compiler.link import FUNCTION_LIMIT
from oko.compiler.lookup import RULES
from oko.compiler.lowering import WAY_LIMIT
from oko.compiler.portset import LIST_LIMIT, PORT_LIMIT
from oko.compiler.wants import ARGUMENTS_LIMIT, DATA_LIMIT
from oko.errors import BadFlowMod, LimitExceeded, Rejected
from oko.flow.action import LAST_TABLE, GotoTable, Group, Output
from oko.flow.group import GroupType
from oko.flow.rule import Command, FlowMod, Rule
from oko.flow.tables import Tables
from oko.flow.text import parse_rule
from tests.oko.compiler.objects import compiled
from tests.oko.compiler.strategies import make_tables, written
from tests.oko.compiler.test_compile import (
    PARSER,
    STATELESS,
    image_of,
    info,
    interleaved,
    mac,
    with_masks,
)
from tests.oko.compiler.test_pipeline import run_both
from tests.oko.flow.written import bucket, group, rule, tables_of
from verifier.elf import MAX_INSTRUCTIONS
from verifier.limits import DEFAULT
from verifier.program import Program

TABLES = LAST_TABLE + 1
LICENSE = 'char LICENSE[] SEC("license") = "Dual BSD/GPL";'
TWO_PORTS = {1: 1, 2: 2}


def load(image: Image, programs: Mapping[int, Program] | None = None) -> int:
    """Load an image whose ports need not exist; how many instructions the kernel's verifier looked at."""
    for found in image.maps:
        for devmap in (found, *found.inner.values()):
            if devmap.name in ("ports", "port_list"):
                devmap.entries.clear()
    return info(image, programs).verified_instructions


# ---- programs


@cache
def stateless() -> Program:
    return compiled(STATELESS)


def spread(rules: list[Rule], tables: int) -> list[Rule]:
    """The same rules in so many tables, each of which goes on to the next."""
    each = -(-len(rules) // tables)
    return [
        rule(
            f"priority={old.priority}",
            Output(1) if n // each == tables - 1 else GotoTable(n // each + 1),
            match=old.match,
            table=n // each,
        )
        for n, old in enumerate(rules)
    ]


@pytest.mark.needs_bpf
@pytest.mark.parametrize("tables", [1, 4, 128])
def test_64_programs_in_128_rules(tables: int) -> None:
    programs = dict.fromkeys(range(1, PROGRAM_LIMIT + 1), stateless())
    image = image_of(make_tables(spread(interleaved(programs), tables)), programs)
    assert sum(note.startswith("ask program") for _, note in image.notes) == 128
    assert load(image, programs) < 3 * PARSER


@pytest.mark.needs_bpf
def test_64_programs_times_128_rules() -> None:
    """Any packet may match rules of all of them, and those of one program stand together."""
    programs = dict.fromkeys(range(1, PROGRAM_LIMIT + 1), stateless())
    rules = [
        parse_rule(f"priority={program},filter_prog={program},dl_src={mac(n)},actions=output:1")
        for program in programs
        for n in range(128)
    ]
    image = image_of(make_tables(rules), programs)
    assert sum(len(found.entries) for found in image.maps if found.name.startswith(RULES)) == len(rules)
    assert load(image, programs) < 3 * PARSER


@pytest.mark.needs_bpf
def test_64_programs_asked_a_thousand_times() -> None:
    programs = dict.fromkeys(range(1, PROGRAM_LIMIT + 1), stateless())
    rules = [
        parse_rule(f"priority={n},filter_prog={program},in_port=1,tp_dst={n}/0xff0{n:x},tcp,actions=output:1")
        for n in range(16)
        for program in programs
    ]
    image = image_of(make_tables(rules), programs)
    assert sum(note.startswith("ask program") for _, note in image.notes) == 1024
    assert load(image, programs) < 2.25 * len(image.instructions) + PARSER


@cache
def with_instructions(count: int) -> Program:
    """A program of so many instructions."""
    body = f'asm volatile(".rept {count - 3}\\n\\t%0 += 1\\n\\t.endr" : "+r"(sum));'
    return compiled(
        "#include <oko.h>\n"
        f'SEC("filter") int sum(struct xdp_md *ctx) {{ __u32 sum = ctx->ingress_ifindex; {body} return sum & 1; }}\n'
        f"{LICENSE}"
    )


@cache
def with_frames(count: int, stack: int) -> Program:
    """A program with a chain of calls of so many functions that take so many bytes of stack together."""
    small = 32
    large = stack - small * (count - 1)

    def function(name: str, size: int, called: str) -> str:
        return (
            f"int {name}(struct xdp_md *ctx) {{ __u64 room[{size // 8}]; room[0] = ctx->ingress_ifindex;"
            ' asm volatile("" : : "r"(room) : "memory");'
            f" return room[0] + {called}; }}\n"
        )

    helpers = "".join(
        "static __attribute__((noinline)) "
        + function(f"f{number}", small, f"f{number + 1}(ctx)" if number < count - 1 else "1")
        for number in range(count - 1, 0, -1)
    )
    return compiled(f'#include <oko.h>\n{helpers}SEC("filter") {function("deep", large, "f1(ctx)")}{LICENSE}')


@pytest.mark.needs_bpf
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: with_instructions(MAX_INSTRUCTIONS), id="instructions"),
        pytest.param(lambda: with_frames(DEFAULT.frames, DEFAULT.stack), id="frames and stack"),
    ],
)
def test_the_largest_program_behind_all_of_ours(make: Callable[[], Program]) -> None:
    """In an image that uses every word of its own frame."""
    table = tables_of(
        "table=0,priority=2,tcp,actions=set_field:192.0.2.1->nw_src,dec_ttl,write_metadata:0x1/0x1,goto_table:1",
        *(f"table=1,priority=4,in_port={n},actions=output:2" for n in range(20)),
        "table=1,priority=3,in_port=1,filter_prog=1,actions=output:2",
        "table=1,priority=2,actions=drop",
        "table=1,priority=1,filter_prog=1,actions=write_actions(output:2)",
    )
    programs = {1: make()}
    load(image_of(table, programs, TWO_PORTS), programs)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: with_instructions(MAX_INSTRUCTIONS + 1), "4097 used, limit 4096"),
        (lambda: with_frames(DEFAULT.frames + 1, DEFAULT.stack), "7 functions deep, limit 6"),
        (lambda: with_frames(DEFAULT.frames, DEFAULT.stack + 32), "take 288 bytes, limit 256"),
    ],
    ids=["instructions", "frames", "stack"],
)
def test_a_larger_program(make: Callable[[], Program], message: str) -> None:
    with pytest.raises((LimitExceeded, Rejected), match=message):
        make()


# ---- maps and functions


@cache
def with_maps(count: int) -> Program:
    """A program with so many maps."""
    declared = "".join(
        f"struct {{ __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u32);"
        f' }} map{number} SEC(".maps");\n'
        for number in range(count)
    )
    used = "".join(f"if (!bpf_map_lookup_elem(&map{number}, &index)) return 0;" for number in range(count))
    return compiled(
        f"#include <oko.h>\n{declared}"
        f'SEC("filter") int many(struct xdp_md *ctx) {{ __u32 index = 0; (void)ctx; {used} return 1; }}\n{LICENSE}'
    )


@cache
def with_functions(count: int) -> Program:
    """A program of so many functions."""
    helpers = "".join(
        f"static __attribute__((noinline)) int f{number}(struct xdp_md *ctx)"
        f" {{ return ctx->ingress_ifindex ^ {number}; }}\n"
        for number in range(count - 1)
    )
    calls = " + ".join(f"f{number}(ctx)" for number in range(count - 1))
    return compiled(
        f'#include <oko.h>\n{helpers}SEC("filter") int many(struct xdp_md *ctx) {{ return {calls}; }}\n{LICENSE}'
    )


SIMPLE = "filter_prog=1,in_port=1,actions=output:1"
REWRITING = "filter_prog=1,tcp,actions=dec_ttl,set_field:192.0.2.1->nw_src,output:1"


def of_maps(count: int, flow: str) -> tuple[Image, dict[int, Program]]:
    """An image with so many maps."""
    own = len(image_of(written(flow), {1: with_maps(1)}).maps) - 1
    programs = {1: with_maps(count - own)}
    return image_of(written(flow), programs), programs


def of_functions(count: int, flow: str) -> tuple[Image, dict[int, Program]]:
    """An image with so many functions."""
    own = len(image_of(written(flow), {1: with_functions(2)}).functions) - 2
    programs = {1: with_functions(count - own)}
    return image_of(written(flow), programs), programs


@pytest.mark.needs_bpf
@pytest.mark.parametrize("flow", [SIMPLE, REWRITING], ids=["simple", "rewriting"])
@pytest.mark.parametrize(
    ("make", "limit", "what"),
    [(of_maps, MAP_LIMIT, "maps of the image"), (of_functions, FUNCTION_LIMIT, "functions of the image")],
    ids=["maps", "functions"],
)
def test_maps_and_functions(
    make: Callable[[int, str], tuple[Image, dict[int, Program]]], limit: int, what: str, flow: str
) -> None:
    load(*make(limit, flow))
    with pytest.raises(LimitExceeded, match=f"{what}: {limit + 1} used, limit {limit}; unload a filter program"):
        make(limit + 1, flow)


# ---- ports and port sets


def test_too_many_ports() -> None:
    ports = dict.fromkeys(range(1, PORT_LIMIT + 2), 1)
    with pytest.raises(LimitExceeded, match="ports: 257 used, limit 256"):
        image_of(Tables(), {}, ports)


def with_lists(count: int) -> Tables:
    """Tables in which each of `count` sets of ports may be joined with each of 64."""
    rules = [f"dl_src={mac(n)},actions=output:{n + 1},goto_table:1" for n in range(count)]
    return written(*rules, *(f"table=1,dl_dst={mac(n)},actions=output:{n + 129}" for n in range(64)))


@pytest.mark.needs_bpf
def test_lists_of_ports() -> None:
    ports = {number: 1000 + number for number in range(1, PORT_LIMIT + 1)}
    image = image_of(with_lists(LIST_LIMIT // 64), ports=ports)
    (lists,) = (found for found in image.maps if found.name == "port_sets")
    assert len(lists.inner) == lists.spec.max_entries == LIST_LIMIT
    load(image)
    with pytest.raises(LimitExceeded, match=f"{LIST_LIMIT + 1} used, limit {LIST_LIMIT}"):
        image_of(with_lists(LIST_LIMIT // 64 + 1), ports=ports)


# ---- tables


def chain(rules_of_a_table: Callable[[int], list[str]]) -> Tables:
    """All tables, each with these rules and with a goto to the next."""
    tables = []
    for table in range(TABLES):
        end = f"goto_table:{table + 1}" if table < LAST_TABLE else "output:1"
        tables += [f"table={table},{flow},actions={end}" for flow in rules_of_a_table(table)]
    return written(*tables)


@pytest.mark.needs_bpf
@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(lambda table: [f"dl_src={mac(table)}"], id="a compare"),
        pytest.param(lambda table: [f"priority={n + 1},dl_src={mac(n)}" for n in range(17)], id="a hash"),
        pytest.param(
            lambda table: [f"priority={n + 1},dl_src={mac(n)}/{mac((1 << 48) - 1 - n)}" for n in range(16)],
            id="16 masks",
        ),
        pytest.param(lambda table: [f"filter_prog={table % PROGRAM_LIMIT + 1}"], id="a program"),
    ],
)
def test_all_tables(rules: Callable[[int], list[str]]) -> None:
    programs = dict.fromkeys(range(1, PROGRAM_LIMIT + 1), stateless())
    image = image_of(chain(rules), programs)
    assert sum(note.endswith(", miss") for _, note in image.notes) == TABLES
    assert load(image, programs) < 2 * len(image.instructions) + PARSER


def test_one_table_too_many() -> None:
    with pytest.raises(BadFlowMod, match="254") as raised:
        written("table=254,actions=drop")
    assert raised.value.reason == "bad-table-id"


# ---- groups


@pytest.mark.needs_bpf
@pytest.mark.parametrize("written_to_the_set", [False, True], ids=["applied", "written"])
def test_thousands_of_groups_share_their_code(written_to_the_set: bool) -> None:
    """Those of action sets alone take instructions of their own."""
    count = 100 if written_to_the_set else 3000
    groups = [group(n, GroupType.SELECT, *(bucket(1 + (n + b) % 4) for b in range(4))) for n in range(1, count + 1)]
    rules: list[Rule | str]
    if written_to_the_set:
        rules = [f"dl_src={mac(n)},actions=write_actions(group:{n}),goto_table:1" for n in range(1, count + 1)]
        rules.append("table=1,actions=drop")
    else:
        rules = [rule(f"dl_src={mac(n)}", Group(n)) for n in range(1, count + 1)]
    image = image_of(tables_of(*groups, *rules), ports={number: number for number in range(1, 5)})
    assert load(image) < (300 * count if written_to_the_set else 0) + PARSER


@pytest.mark.needs_bpf
def test_a_group_of_a_thousand_buckets() -> None:
    image = image_of(of_buckets(1000), ports=TWO_PORTS)
    assert load(image) < 2 * len(image.instructions) + PARSER


def test_data_of_a_list_of_actions() -> None:
    """Of a bucket there are the end of its share, the slot of its counters and a set of ports, 16 bytes with the gap;
    of each group the total and its slot."""
    most = DATA_LIMIT // 16 - 2 * (GROUPS + 1)
    image = image_of(of_buckets(most), ports=TWO_PORTS)
    (arguments,) = (found for found in image.maps if found.name == "arguments")
    assert arguments.spec.value_size == DATA_LIMIT
    with pytest.raises(
        LimitExceeded, match=rf"bytes of data of one list of actions: \d+ used, limit {DATA_LIMIT}; use"
    ):
        image_of(of_buckets(DATA_LIMIT // 16), ports=TWO_PORTS)


GROUPS = 4


def of_buckets(count: int) -> Tables:
    """A rule for a group that leads to others, which have so many buckets together: a single one takes fewer."""
    shares = [range(number, count, GROUPS) for number in range(GROUPS)]
    groups = [
        group(2 + number, GroupType.SELECT, *(bucket(1 + n % 2) for n in share)) for number, share in enumerate(shares)
    ]
    chained = group(1, GroupType.SELECT, *(bucket(Group(2 + number)) for number in range(GROUPS)))
    return tables_of(*groups, chained, rule("", Group(1)))


def test_data_of_all_actions() -> None:
    """Each takes as much as the longest, as does the group."""
    most = ARGUMENTS_LIMIT // DATA_LIMIT - 1
    tables = of_buckets(DATA_LIMIT // 32)
    for n in range(most):
        tables.change(FlowMod(Command.ADD, parse_rule(f"dl_src={mac(n)},actions=set_field:{mac(n)}->eth_dst,output:1")))
    image = image_of(tables, ports=TWO_PORTS)
    (arguments,) = (found for found in image.maps if found.name == "arguments")
    assert len(arguments.entries) == most + 1
    assert arguments.spec.value_size * arguments.spec.max_entries == ARGUMENTS_LIMIT
    tables.change(FlowMod(Command.ADD, parse_rule(f"dl_src={mac(most)},actions=set_field:{mac(most)}->eth_dst")))
    with pytest.raises(LimitExceeded, match="bytes of the data of all actions") as raised:
        image_of(tables, ports=TWO_PORTS)
    assert (raised.value.used, raised.value.limit) == (2 * ARGUMENTS_LIMIT, ARGUMENTS_LIMIT)


def test_ways_to_a_table() -> None:
    """Table 2 is reached with each output of table 0 beside each that table 1 writes, and then in one way more."""
    each = 128
    ports = {number: 1000 + number for number in range(1, 2 * each + 1)}
    flows = [f"dl_src={mac(n)},actions=output:{n + 1},goto_table:1" for n in range(each)]
    flows += (
        f"table=1,dl_dst={mac(n)},actions=write_actions(output:{each + n + 1}),goto_table:2"
        for n in range(WAY_LIMIT // each)
    )
    flows += ("table=2,actions=goto_table:3", "table=3,actions=clear_actions")
    assert image_of(written(*flows), ports=ports).wants
    with pytest.raises(LimitExceeded, match="ways in which packets come to a table") as raised:
        image_of(written("priority=1,actions=goto_table:2", *flows), ports=ports)
    assert (raised.value.used, raised.value.limit) == (WAY_LIMIT + 1, WAY_LIMIT)


# ---- instructions


def with_lists_of_actions(count: int) -> list[Rule]:
    """Rules of one mask, each with another sequence of actions."""
    kinds = (
        *(
            "dec_ttl",
            "push_vlan:0x8100",
            "set_field:02:00:00:00:00:01->eth_src",
            "set_field:02:00:00:00:00:01->eth_dst",
        ),
        *("set_field:1->ip_dscp", "set_field:1->ip_ecn", "set_field:192.0.2.1->nw_src", "set_field:192.0.2.2->nw_dst"),
        *("set_field:1->tcp_src", "set_field:1->tcp_dst"),
    )
    return [
        parse_rule(
            f"tcp,nw_src=10.0.{n >> 8}.{n & 255},actions="
            + ",".join([*(kind for bit, kind in enumerate(kinds) if n >> bit & 1), "output:1"])
        )
        for n in range(count)
    ]


@pytest.mark.needs_bpf
@pytest.mark.parametrize(
    "rules",
    [
        pytest.param(lambda: with_masks(3000), id="3000 masks"),
        pytest.param(lambda: with_lists_of_actions(1000), id="1000 lists of actions"),
    ],
)
def test_images_longer_than_a_jump(rules: Callable[[], list[Rule]]) -> None:
    image = image_of(make_tables(rules()))
    assert len(image.instructions) > 32767
    assert load(image) < 2 * len(image.instructions) + PARSER


@pytest.mark.needs_bpf
def test_a_long_image_decides_as_the_reference() -> None:
    """Rules before, on and behind the islands, and the miss."""
    count = 3000
    full = (1 << 48) - 1
    rules = [
        f"priority={count - n},in_port=1,dl_src={mac(n)}/{mac(full - n)},actions=output:2" for n in range(1, count)
    ]
    frames = [
        bytes.fromhex("020000000009") + source.to_bytes(6, "big") + bytes.fromhex("0806") + bytes(46)
        for source in (1, 2, 1023, 1024, 1489, 1490, 1491, 2047, 2048, 2999, full)
    ]
    decisions = run_both(written(*rules), {}, [(frame, 1, 0) for frame in frames])
    assert len({decision.slot for decision in decisions}) == len(frames)


def of_tables(each: int) -> Image:
    """254 tables with rules of so many masks."""
    full = (1 << 48) - 1
    return image_of(chain(lambda table: [f"priority={n + 1},dl_src={mac(n)}/{mac(full - n)}" for n in range(each)]))


@pytest.mark.needs_bpf
def test_instructions() -> None:
    size = [len(of_tables(each).instructions) for each in (1, 2)]
    most = 1 + (INSTRUCTION_LIMIT - size[0]) // (size[1] - size[0])
    image = of_tables(most - 1)
    assert len(image.instructions) > INSTRUCTION_LIMIT * 0.9
    assert load(image) < 2 * len(image.instructions)
    with pytest.raises(
        LimitExceeded, match=rf"instructions of the image: \d+ used, limit {INSTRUCTION_LIMIT}; use"
    ) as r:
        of_tables(most + 1)
    assert r.value.used < INSTRUCTION_LIMIT * 1.1
