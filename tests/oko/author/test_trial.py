"""A program is tried by a table: in the kernel and in Python with the same outcome, for every kind of map."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from oko.author.clang import compile_filter
from oko.author.map_content import Difference
from oko.author.packets import parse_packets
from oko.author.trial import Outcome, Trial
from oko.errors import BadPacketTable
from oko.switch.objects import read_runtime
from verifier import elf
from verifier.check import check
from verifier.program import Program

KERNEL = pytest.param(True, marks=pytest.mark.needs_bpf, id="kernel")
BOTH = pytest.mark.parametrize("in_kernel", [KERNEL, pytest.param(False, id="Python")])
RUNTIME = cache(read_runtime)
COUNTED = ("hash", "lru", "percpu_hash", "array", "percpu_array")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    target = tmp_path_factory.mktemp("kinds") / "kinds_of_maps.o"
    compile_filter(Path(__file__).with_name("kinds_of_maps.c"), target)
    program = elf.load(target.read_bytes())
    check(program)
    return program


def tried(program: Program, *packets: str, in_kernel: bool) -> list[Outcome]:
    """The outcomes of packets with these lines, each with the verdict that is given, or "match"."""
    text = ""
    for number, body in enumerate(packets, 1):
        verdict = "" if "verdict" in body else 'verdict = "match"'
        text += f'[[packet]]\nname = "p{number}"\nfields = "ip"\n{verdict}\n{body}\n'
    with Trial(program, parse_packets(text, "table"), RUNTIME(), in_kernel=in_kernel) as trial:
        return list(trial.run())


def differences(program: Program, *packets: str, in_kernel: bool) -> list[tuple[Difference, ...]]:
    return [outcome.differences for outcome in tried(program, *packets, in_kernel=in_kernel)]


@BOTH
def test_verdicts(program: Program, in_kernel: bool) -> None:
    outcomes = tried(program, "in_port = 3", "in_port = 4", 'in_port = 4\nverdict = "no match"', in_kernel=in_kernel)
    assert [outcome.matched for outcome in outcomes] == [True, False, False]
    assert [outcome.differences for outcome in outcomes] == [(), (Difference("verdict", "no match", "match"),), ()]


@BOTH
@pytest.mark.parametrize("name", COUNTED)
def test_content(program: Program, name: str, in_kernel: bool) -> None:
    found = differences(
        program,
        f"maps.{name}.1 = {{ packets = 1 }}",
        f"in_port = 3\nmaps.{name}.1 = {{ packets = 2, last_port = 3 }}",
        f"update.{name}.1 = {{ packets = 9 }}\nmaps.{name}.1 = {{ packets = 10 }}",
        f"maps.{name}.1 = {{ packets = 10 }}",
        in_kernel=in_kernel,
    )
    shown = '{"packets": 11, "last_port": 1}'
    assert found == [(), (), (), (Difference(f"map {name}, key 1", shown, '{"packets": 10}'),)]


@BOTH
@pytest.mark.parametrize("name", COUNTED)
def test_other_entries(program: Program, name: str, in_kernel: bool) -> None:
    """All that is in a hash was expected, or is told; an array has all entries."""
    (found,) = differences(program, f"maps.{name} = {{}}", in_kernel=in_kernel)
    told = Difference(f"map {name}, key 1", '{"packets": 1, "last_port": 1}', "no such entry")
    assert found == (() if "array" in name else (told,))


@BOTH
def test_an_entry_that_is_not_there(program: Program, in_kernel: bool) -> None:
    (found,) = differences(program, "maps.hash.1 = {}\nmaps.hash.2 = { packets = 1 }", in_kernel=in_kernel)
    assert found == (Difference("map hash, key 2", "no such entry", '{"packets": 1}'),)


@BOTH
def test_prefixes_are_found_by_their_length(program: Program, in_kernel: bool) -> None:
    found = differences(
        program,
        'update.prefixes."10.0.0.0/8" = {}\nmaps.prefixes."10.0.0.0/8" = { packets = 1 }',
        'update.prefixes."10.0.0.0/24" = { packets = 5 }\nmaps.prefixes."10.0.0.0/8" = { packets = 1 }\n'
        'maps.prefixes."10.0.0.0/24" = { packets = 6, last_port = 1 }',
        'maps.prefixes."10.0.0.0/8" = {}\nmaps.prefixes."10.0.0.0/25" = {}',
        in_kernel=in_kernel,
    )
    shown = '{"packets": 7, "last_port": 1}'
    assert found == [
        (),
        (),
        (
            Difference("map prefixes, key 10.0.0.0/25", "no such entry", "{}"),
            Difference("map prefixes, key 10.0.0.0/24", shown, "no such entry"),
        ),
    ]


@BOTH
def test_configuration_by_its_short_name(program: Program, in_kernel: bool) -> None:
    outcomes = tried(
        program,
        "in_port = 7\nmaps.config.0 = { config = 7 }",
        'in_port = 7\nupdate.config.0 = { config = 1 }\nmaps.".data.config".0 = { config = 1 }',
        in_kernel=in_kernel,
    )
    assert [outcome.matched for outcome in outcomes] == [False, True]
    assert outcomes[1].differences == ()


@BOTH
@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("maps.none = {}", "packet 'p1': program 1 has no map 'none'; it has: .*config"),
        ("maps.hash.x = {}", "map hash, key x: 'x' is not hexadecimal"),
        ("maps.hash.1 = { packet = 1 }", "map hash, key 1: no member 'packet': there are packets, last_port"),
        ("update.hash.1 = { packets = -1 }", "map hash, key 1: -1 does not fit in 4 bytes"),
        ("update.array.4 = {}", "map array.*"),
        ("maps.ring.0 = 1", "map ring is a ring buffer"),
    ],
)
def test_maps_that_cannot_be(program: Program, body: str, complaint: str, in_kernel: bool) -> None:
    with pytest.raises(BadPacketTable, match=complaint):
        tried(program, body, in_kernel=in_kernel)
