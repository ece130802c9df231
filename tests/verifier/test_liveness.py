from __future__ import annotations

import pytest

from tests.verifier.assembly import assemble
from verifier import cfg
from verifier.liveness import live_registers, order

# name → program, and the registers that are live where it begins, and where each further block begins
CASES: dict[str, tuple[str, list[set[int]]]] = {
    "nothing": ("r0 = 0; exit", [set()]),
    "result": ("exit", [{0}]),
    "move-kills": ("r6 = 1; r0 = r6; exit", [set()]),
    "arithmetic-reads": ("r0 += r6; exit", [{0, 6}]),
    "negation-reads": ("r0 = -r0; exit", [{0}]),
    "swap-reads-no-source": ("r0 = be16; exit", [{0}]),
    "load": ("r0 = u8[r6+0]; exit", [{6}]),
    "store": ("u8[r6+0] = r7; r0 = 0; exit", [{6, 7}]),
    "store-immediate": ("u8[r6+0] = 7; r0 = 0; exit", [{6}]),
    "wide-load": ("r6 = 5 ll; r0 = r6; exit", [set()]),
    "atomic": ("add u64[r6+0], r7; r0 = 0; exit", [{6, 7}]),
    "fetch": ("fetch_add u64[r6+0], r7; r0 = r7; exit", [{6, 7}]),
    "compare-and-exchange": ("cmpxchg u64[r6+0], r7; exit", [{0, 6, 7}]),
    "helper": ("call map_lookup_elem; exit", [{1, 2}]),
    "helper-without-arguments": ("r0 = r5; call ktime_get_ns; exit", [{5}]),
    "helper-clobbers": ("call ktime_get_ns; r0 = r3; exit", [set()]),
    "switch": ("call oko_in_port; r0 = r6; exit", [{1, 6}]),
    "function": ("fn a; call b; exit; fn b; r0 = r3; exit", [{3}, {3}]),
    "function-through-another": (
        "fn a; call b; exit; fn b; r1 = 0; call c; exit; fn c; r0 = r1; r0 += r2; exit",
        [{2}, {2}, {1, 2}],
    ),
    "function-saves": ("fn a; call b; r0 = r6; exit; fn b; r0 = 0; exit", [{6}, set()]),
    "branch": ("if r6 > r7 goto on; r0 = r8; exit; on:; r0 = r9; exit", [{6, 7, 8, 9}, {8}, {9}]),
    "branch-immediate": ("if r6 > 7 goto on; on:; r0 = r9; exit", [{6, 9}, {9}]),
    "join": ("if r6 > 7 goto on; r8 = 1; on:; r0 = r8; exit", [{6, 8}, set(), {8}]),
    "jump-back": ("goto first; second:; r0 = r6; exit; first:; r6 = r7; goto second", [{7}, {6}, {7}]),
}


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=list(CASES))
def test_live(text: str, expected: list[set[int]]) -> None:
    program, _ = assemble(text)
    live = live_registers(program, [cfg.graph(program, function) for function in program.functions])
    found = [{number for number in range(10) if live[start] >> number & 1} for start in sorted(live)]
    assert found == expected


def test_order_goes_forward_along_every_edge() -> None:
    text = "if r1 == 0 goto c; a:; if r1 == 1 goto d; b:; goto e; c:; goto b; d:; goto c; e:; r0 = 0; exit"
    program, _ = assemble(text)
    graph = cfg.graph(program, program.functions[0])
    place = {start: position for position, start in enumerate(order(graph))}
    assert place.keys() == graph.blocks.keys()
    assert all(
        place[block.start] < place[following] for block in graph.blocks.values() for following in block.successors
    )
