"""Images: what the kernel takes, what the budgets refuse, and that the same input gives the same image."""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from oko.compiler.compile import compile_image, compile_trial
from oko.compiler.counters import COUNTER, PROGRAM
from oko.compiler.image import Filter, Image
from oko.compiler.lookup import RULES
from oko.compiler.portset import PORT_LIMIT
from oko.errors import BadAction
from oko.flow.drop import Drop
from oko.flow.rule import Rule
from oko.flow.tables import Tables
from oko.flow.text import parse_rule, print_rule
from oko.kernel.interface import interface
from oko.kernel.maps import Map
from oko.kernel.namespace import run_in
from oko.kernel.program import ProgramInfo
from oko.switch.datapath import make_program_maps
from oko.switch.loaded_image import LoadedImage, create_shared
from tests.oko.compiler.objects import compiled, filter_program, runtime
from tests.oko.compiler.strategies import make_tables, written
from verifier import isa
from verifier.program import Program

LOOPBACK = 1
ONE_PORT = {1: LOOPBACK}
EMPTY = {1: LOOPBACK, 2: LOOPBACK + 1}
XDP_DROP, XDP_REDIRECT = 1, 4
PARSER = 8_000
"""Instructions that the kernel looks at for the parser, and for what every image has, at most."""
FRAME = bytes.fromhex("020000000001 020000000002 0806") + bytes(46)


STATELESS = """
#include <oko.h>
SEC("filter") int stateless(struct xdp_md *ctx) { return ctx->ingress_ifindex & 1; }
char LICENSE[] SEC("license") = "Dual BSD/GPL";
"""


def filters_of(programs: Mapping[int, Program]) -> dict[int, Filter]:
    return {number: Filter(number, slot, program) for slot, (number, program) in enumerate(programs.items())}


def image_of(
    table: Tables, programs: Mapping[int, Program] | None = None, ports: Mapping[int, int] = ONE_PORT
) -> Image:
    return compile_image(table, filters_of(programs or {}), ports, runtime())


@contextlib.contextmanager
def loaded(image: Image, programs: Mapping[int, Program] | None = None) -> Iterator[tuple[LoadedImage, dict[str, Map]]]:
    """The image in the kernel, and its shared maps."""
    with contextlib.ExitStack() as owned:
        maps: dict[str, Map] = {}
        for item in filters_of(programs or {}).values():
            maps |= {name: owned.enter_context(m) for name, m in make_program_maps(item, item.program.maps).items()}
        for wanted in image.maps:
            if wanted.shared and wanted.program is None:
                maps[wanted.name] = owned.enter_context(create_shared(wanted))
        yield owned.enter_context(LoadedImage.load("tested", image, maps)), maps


def info(image: Image, programs: Mapping[int, Program] | None = None) -> ProgramInfo:
    with loaded(image, programs) as (found, _):
        return found.program.info()


def mac(number: int) -> str:
    return number.to_bytes(6, "big").hex(":")


def with_masks(count: int) -> list[Rule]:
    """Rules of so many masks that overlap each other."""
    full = (1 << 48) - 1
    return [
        parse_rule(f"priority={count - n},in_port=1,dl_src={mac(0)}/{mac(full - n)},actions=output:1")
        for n in range(count)
    ]


def interleaved(programs: Iterable[int]) -> list[Rule]:
    """Two rules for each program, which overlap those of all others, so that each is asked from two segments."""
    return [
        parse_rule(f"priority={priority},filter_prog={program},in_port=1,{shape}actions=output:1")
        for priority, shape in ((2, ""), (1, "tcp,"))
        for program in programs
    ]


@pytest.mark.needs_bpf
class TestLoads:
    """Images that the kernel takes."""

    @pytest.mark.parametrize(
        "rules",
        [
            pytest.param([], id="no rules"),
            pytest.param(["actions=drop"], id="one rule for all"),
            pytest.param(
                ["priority=9,actions=drop", "priority=8,in_port=1,actions=output:1"], id="rules never reached"
            ),
            pytest.param(
                ["priority=9,actions=drop", "priority=8,ip,filter_prog=1,actions=drop"], id="a program never reached"
            ),
            pytest.param(["in_port=1,actions=output:1"], id="no parser"),
        ],
    )
    def test_small_tables(self, rules: list[str]) -> None:
        programs = {1: filter_program("per_source")}
        assert info(image_of(written(*rules), programs), programs).verified_instructions < PARSER

    def test_no_ports(self) -> None:
        programs = {1: filter_program("odd_port")}
        info(image_of(written("filter_prog=1,actions=drop"), programs, {}), programs)

    @pytest.mark.parametrize("rules", [64, 256, 1000])
    def test_rules_of_many_masks_cost_the_kernels_verifier_what_they_are_long(self, rules: int) -> None:
        programs = {number: filter_program("odd_port") for number in (1, 2)}
        for asked in (with_masks(rules), asking(with_masks(rules), 32)):
            assert info(image_of(make_tables(asked), programs), programs).verified_instructions < PARSER + 100 * rules

    def test_many_rules_of_one_mask(self) -> None:
        table = make_tables(
            parse_rule(f"priority={n % 7},ip,nw_src=10.{n // 250}.{n % 250}.1,actions=output:1") for n in range(10_000)
        )
        image = image_of(table)
        (hashed,) = (found for found in image.maps if found.name.startswith(RULES))
        assert (len(hashed.entries), hashed.spec.max_entries) == (10_000, 65_536)
        with loaded(image) as (found, _):
            assert sum(1 for _ in found.maps[hashed.name].items()) == 10_000

    def test_large_masks_share_a_map_by_their_length(self) -> None:
        rules = [f"dl_src={mac(n)},actions=drop" for n in range(20)]
        rules += [f"dl_dst={mac(n)},actions=drop" for n in range(20)]
        rules += [f"dl_src={mac(n)},dl_dst={mac(n)},actions=drop" for n in range(20)]
        image = image_of(written(*rules))
        sizes = {
            found.name: (len(found.entries), found.spec.key_size)
            for found in image.maps
            if found.entries and found.name != "ports"
        }
        assert sizes == {"rules2": (40, 16), "rules3": (20, 24)}
        info(image)

    def test_many_hashes_cost_the_kernels_verifier_what_they_are_long(self) -> None:
        """118 masks of 17 rules: their number squared was 330,000 instructions once."""
        rules = [
            f"priority={mask + 1},ip,nw_dst={10 + rule}.0.0.0/8,nw_src={mask << 1}.0.0.0/254.{mask}.0.0,actions=drop"
            for mask in range(118)
            for rule in range(17)
        ]
        image = image_of(written(*rules))
        assert sum(len(found.entries) for found in image.maps if found.name.startswith(RULES)) == 118 * 17
        assert info(image).verified_instructions < 20_000

    @pytest.mark.parametrize("count", [1, 3, 4, PORT_LIMIT])
    def test_ports(self, count: int) -> None:
        """Live images of many ports load, but for the devmap, which would want as many interfaces."""
        ports = {number: 1000 + 7 * number for number in range(1, count + 1)}
        programs = {1: filter_program("odd_port")}
        image = image_of(written("filter_prog=1,actions=output:1", "in_port=1,actions=drop"), programs, ports)
        (devmap,) = (found for found in image.maps if found.name == "ports")
        assert len(devmap.entries) == count
        devmap.entries.clear()
        assert info(image, programs).verified_instructions < PARSER + 40 * count

    def test_a_trial_is_nothing_but_the_program(self) -> None:
        for name in ("every_second", "per_source", "odd_port", "lottery", "spaced"):
            program = filter_program(name)
            image = compile_trial(Filter(1, 0, program), EMPTY, runtime())
            assert {found.program for found in image.maps} <= {1}
            info(image, {1: program})


def asking(rules: list[Rule], segments: int) -> list[Rule]:
    """The same rules, cut into so many segments of two programs in turn."""
    return [
        parse_rule(print_rule(rule).replace("in_port=1", f"in_port=1,filter_prog={n * segments // len(rules) % 2 + 1}"))
        for n, rule in enumerate(rules)
    ]


def asked(programs: Mapping[int, Program]) -> Image:
    return image_of(written("filter_prog=1,actions=output:1"), programs)


@pytest.mark.parametrize(
    "actions", [pytest.param("output:2", id="unknown port"), pytest.param("output:1,output:1", id="twice to one port")]
)
def test_actions_that_the_pipeline_cannot_do(actions: str) -> None:
    with pytest.raises(BadAction):
        image_of(written(f"actions={actions}"))


def everything() -> Image:
    """An image that has some of all."""
    programs = {3: filter_program("per_source"), 1: filter_program("spaced"), 2: filter_program("odd_port")}
    rules = [*interleaved((2, 3, 1)), *(parse_rule(f"priority=9,dl_src={mac(n)},actions=drop") for n in range(30))]
    return image_of(make_tables(rules), programs, {7: 3, 1: 12, 2: 4})


def fingerprint(image: Image) -> str:
    return hashlib.sha256(repr(image).encode()).hexdigest()


def test_the_same_input_gives_the_same_image() -> None:
    assert everything() == everything()
    code = "from tests.oko.compiler.test_compile import everything, fingerprint; print(fingerprint(everything()))"
    for seed in ("1", "2"):
        other = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[3],
            capture_output=True,
            text=True,
            check=True,
        )
        assert other.stdout.strip() == fingerprint(everything())


OLD_OPERATIONS = {isa.ADD, isa.SUB, isa.MUL, isa.OR, isa.AND, isa.LSH, isa.RSH, isa.XOR, isa.MOV}


def test_only_instructions_that_linux_6_1_knows() -> None:
    """The main function, of which Oko chooses the instructions, is that of -mcpu=v3."""
    image = everything()
    for instruction in image.instructions[: image.functions[0].end]:
        kind = instruction.opcode & isa.CLASS_MASK
        if kind in (isa.ALU, isa.ALU64):
            operation = instruction.opcode & isa.OPERATION_MASK
            assert operation in OLD_OPERATIONS or (kind, operation) == (isa.ALU, isa.END)
            assert instruction.offset == 0
        elif kind in (isa.LDX, isa.ST, isa.STX):
            assert instruction.opcode & isa.MODE_MASK == isa.MEM
        elif kind == isa.LD:
            assert instruction.opcode in (0, isa.LDDW)
        else:
            assert instruction.opcode != isa.GOTO_LONG


def test_the_frame_takes_no_more_than_192_bytes() -> None:
    image = everything()
    main = image.instructions[: image.functions[0].end]
    stores = [i.offset for i in main if i.opcode & isa.CLASS_MASK in (isa.ST, isa.STX) and i.dst == isa.FRAME_POINTER]
    assert min(stores) >= -192


def test_the_licence_is_the_one_that_opens_least() -> None:
    proprietary = compiled(STATELESS.replace("Dual BSD/GPL", "Proprietary"))
    assert asked({1: filter_program("odd_port")}).license == "Dual BSD/GPL"
    assert asked({1: proprietary}).license == "Proprietary"
    assert asked({1: filter_program("odd_port"), 2: proprietary}).license == "Dual BSD/GPL", "program 2 is not linked"


class TestShape:
    """Whether an image can be reached by writing to maps."""

    @pytest.mark.parametrize(
        ("rule", "same"),
        [
            pytest.param("priority=5,dl_src=02:00:00:00:00:99,actions=output:1", True, id="one more of a hash"),
            pytest.param("priority=5,dl_dst=02:00:00:00:00:99,actions=output:1", False, id="a new mask"),
            pytest.param("priority=6,dl_src=02:00:00:00:00:99,actions=output:1", True, id="the best of the first hash"),
            pytest.param(
                "priority=6,in_port=1,dl_src=02:00:00:00:00:99,actions=output:1", False, id="the best of another hash"
            ),
            pytest.param("priority=5,filter_prog=1,actions=output:1", False, id="a program"),
        ],
    )
    def test_one_rule_more(self, rule: str, same: bool) -> None:
        rules = [f"priority=5,dl_src={mac(n)},actions=drop" for n in range(20)]
        rules += [f"priority=5,in_port=1,dl_src={mac(n)},actions=drop" for n in range(20)]
        programs = {1: filter_program("odd_port")}
        before, after = image_of(written(*rules), programs), image_of(written(*rules, rule), programs)
        assert after.same_shape(before) is same


@pytest.mark.needs_bpf
def test_a_live_image(namespace: Callable[[str], Path]) -> None:
    """What differs from a replay: the port comes from the interface, and the packet leaves through a devmap."""
    place = namespace("live")
    for command in (
        "link add p1 type veth peer name far1",
        "link add p2 type veth peer name far2",
        "link set p1 up",
        "link set p2 up",
        "link set far1 up",
        "link set far2 up",
    ):
        subprocess.run(["ip", "-n", place.name, *command.split()], check=True)

    def inside() -> None:
        p1, p2, far1 = (interface(name).index for name in ("p1", "p2", "far1"))
        programs = {5: filter_program("odd_port")}
        table = written("priority=3,filter_prog=5,actions=output:20", "priority=2,dl_type=0x806,actions=output:20")
        image = image_of(table, programs, {11: p1, 20: p2})
        with loaded(image, programs) as (found, maps):
            run = found.program.test_run

            def counted(name: str, index: int, layout: struct.Struct = COUNTER) -> tuple[int, ...]:
                values = maps[name].lookup_percpu(index.to_bytes(4, "little")) or ()
                return tuple(map(sum, zip(*(layout.unpack(value) for value in values), strict=True)))

            assert run(FRAME, ingress_ifindex=p1).retval == XDP_REDIRECT
            assert (counted("counters", 0), counted("counters", 1)) == ((1, 60), (0, 0))
            assert run(FRAME, ingress_ifindex=p2).retval == XDP_DROP
            assert (counted("counters", 1), counted("drops", Drop.TO_INGRESS)) == ((1, 60), (1, 60))
            assert run(FRAME, ingress_ifindex=far1).retval == XDP_DROP
            assert counted("drops", Drop.STRANGER) == (1, 60)
            assert counted("programs", 0, PROGRAM)[:2] == (2, 1)
            subprocess.run(["ip", "-n", place.name, "link", "delete", "p2"], check=True)
            assert run(FRAME, ingress_ifindex=p1).retval == XDP_DROP
            assert counted("drops", Drop.NO_PORT) == (1, 60)
            assert counted("counters", 0) == (2, 120)

    run_in(place, inside)
