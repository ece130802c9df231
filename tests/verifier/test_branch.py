"""Comparisons of the packet with its end. What other branches prove: tests/verifier/test_tracking.py."""

from __future__ import annotations

import pytest

from tests.verifier.snippets import PACKET, VARIABLE, run
from verifier.findings import Found

# comparison with the packet pointer on the left → where, of a pointer moved by 8, that many bytes are proved
SIDES = {">": ("no", 8), ">=": ("no", 9), "<": ("yes", 9), "<=": ("yes", 8)}
MIRRORED = {">": "<", ">=": "<=", "<": ">", "<=": ">="}


@pytest.mark.parametrize("variable", [False, True], ids=["fixed", "variable"])
@pytest.mark.parametrize("mirrored", [False, True], ids=["end-on-the-right", "end-on-the-left"])
@pytest.mark.parametrize("comparison", SIDES)
def test_packet_comparison(comparison: str, mirrored: bool, variable: bool) -> None:
    begin = f"{VARIABLE} r6 = r9;" if variable else PACKET
    test = f"if r7 {MIRRORED[comparison]} r3 goto yes" if mirrored else f"if r3 {comparison} r7 goto yes"
    proving, size = SIDES[comparison]

    def program(side: str, at: int) -> str:
        reads = {"yes": "", "no": "", side: f"r0 = u8[r6+{at}];"}
        return f"{begin} r3 = r6; r3 += 8; {test}; {reads['no']} r0 = 0; exit; yes:; {reads['yes']} r0 = 0; exit"

    run(program(proving, size - 1))
    for side, at in ((proving, size), ("yes" if proving == "no" else "no", 0)):
        with pytest.raises(Found) as found:
            run(program(side, at))
        assert found.value.fault.code == "packet-bounds"


@pytest.mark.parametrize(("comparison", "goes"), [("<", "on"), (">=", "out")])
def test_comparison_of_a_pointer_that_has_not_moved_proves_nothing(comparison: str, goes: str) -> None:
    """The kernel (find_good_pkt_pointers) leaves that one byte out."""
    other = "goto out" if goes == "on" else "goto on"
    with pytest.raises(Found) as found:
        run(f"{PACKET} if r6 {comparison} r7 goto {goes}; {other}; on:; r0 = u8[r6+0]")
    assert found.value.fault.code == "packet-bounds"
