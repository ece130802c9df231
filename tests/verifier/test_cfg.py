from __future__ import annotations

import pytest

from tests.verifier.assembly import EXIT, ZERO, branch, call_local, goto, lddw, program
from tests.verifier.conftest import Compile
from verifier import cfg
from verifier.cfg import Block, Call
from verifier.elf import load


def test_blocks() -> None:
    made = program([ZERO, branch(3), *lddw(0), goto(1), ZERO, EXIT])
    graph = cfg.graph(made, made.functions[0])
    assert list(graph.blocks.values()) == [
        Block(0, 2, (2, 5)),
        Block(2, 5, (6,)),
        Block(5, 6, (6,)),
        Block(6, 7, ()),
    ]
    assert cfg.reachable(graph) == {0, 2, 5, 6}
    assert cfg.cycle(graph) == ()


def test_negative_offset_without_a_cycle() -> None:
    made = program([ZERO, goto(1), EXIT, goto(-2)])
    assert cfg.cycle(cfg.graph(made, made.functions[0])) == ()


@pytest.mark.parametrize(
    ("instructions", "blocks"),
    [
        pytest.param([goto(-1)], [0], id="itself"),
        pytest.param([ZERO, branch(-2), EXIT], [0], id="the-beginning"),
        pytest.param([ZERO, branch(1), EXIT, ZERO, branch(-2), EXIT], [3], id="behind-a-branch"),
        pytest.param([branch(1), EXIT, branch(1), EXIT, goto(-3)], [2, 4], id="two-blocks"),
    ],
)
def test_cycle(instructions: list[cfg.Instruction], blocks: list[int]) -> None:
    made = program(instructions)
    assert [block.start for block in cfg.cycle(cfg.graph(made, made.functions[0]))] == blocks


def test_long_chain_needs_no_recursion() -> None:
    made = program([*(instruction for _ in range(20000) for instruction in (branch(1), ZERO)), EXIT])
    graph = cfg.graph(made, made.functions[0])
    assert cfg.cycle(graph) == ()
    assert len(cfg.reachable(graph)) == 40001


def test_calls(compiled: Compile) -> None:
    made = load(compiled("accepted/subprograms"))
    assert [(item.caller, item.callee) for item in cfg.calls(made)] == [(0, 1), (0, 2), (1, 2), (1, 2)]
    assert cfg.recursion(made) == ()


def test_recursion() -> None:
    made = program([call_local(1), EXIT, call_local(1), EXIT, call_local(-3), EXIT], starts=[0, 2, 4])
    assert cfg.calls(made) == (Call(0, 0, 1), Call(2, 1, 2), Call(4, 2, 1))
    assert cfg.recursion(made) == (1, 2)


def test_dot() -> None:
    made = program([branch(1), EXIT, EXIT])
    text = cfg.dot(made)
    assert 'b0 [label="0: if r1 == 0 goto +1\\l"];' in text
    assert "b0 -> b1;" in text
    assert "b0 -> b2;" in text
