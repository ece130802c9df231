from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofext import messages as of13
from ofext.constants import TABLE_ALL
from ofext.oxm import Oxm
from ofext.v10 import messages as of10
from ofext.v10.match import Match
from oko.attached.relay.dialect import Of10, Of13
from oko.attached.relay.reserved import LOWEST_PRIORITY, TRACES, find_trace
from oko.attached.shim import OWN_COOKIE

Said = tuple[int, int, int, int, bool]
"""Command, table, priority, cookie, and whether the message is longer than others."""

SAID = st.tuples(
    st.sampled_from((0, 0, 0, 0, 1, 2, 3, 4)),
    st.sampled_from((0, 0, 1, 5, 254, TABLE_ALL)),
    st.sampled_from((0, 1, 0x8000, 0xFEFF, 0xFF00, LOWEST_PRIORITY - 1, LOWEST_PRIORITY, 0xFFFF)),
    st.sampled_from((0, 1, OWN_COOKIE - 1, OWN_COOKIE, (1 << 64) - 1)),
    st.booleans(),
)


def encoded13(said: Said) -> bytes:
    command, table, priority, cookie, long = said
    match = (Oxm(0x8000, 0, b"\0\0\0\1"),) if long else ()
    return of13.encode(of13.FlowMod(cookie, 0, table, command, priority=priority, match=match))


def encoded10(said: Said) -> bytes:
    command, table, priority, cookie, long = said
    if long:
        match = (Oxm(0, 0, b"\0\1"),)
        return of10.encode(of10.NxmFlowMod(cookie, table << 8 | command, priority=priority, match=match))
    return of10.encode(of10.FlowMod(Match(), cookie, table << 8 | command, priority=priority))


def is_nothing_to_oko(said: Said, *, idle: bool) -> bool:
    command, table, priority, cookie, _ = said
    if command != 0 or cookie & OWN_COOKIE:
        return False
    return 0 < table < TABLE_ALL or (idle and priority < LOWEST_PRIORITY)


@given(said=st.lists(SAID, min_size=1, max_size=12), idle=st.booleans())
def test_what_is_relayed_unseen_is_nothing_to_oko(said: list[Said], idle: bool) -> None:
    messages = [encoded13(each) for each in said]
    block, length = b"".join(messages), len(messages[0])
    count = Of13().harmless(block, 0, length, idle)
    assert block[: count * length] == b"".join(messages[:count])
    assert all(is_nothing_to_oko(each, idle=idle) for each in said[:count])


@given(said=st.lists(SAID, min_size=1, max_size=12), idle=st.booleans())
def test_what_is_relayed_unseen_of_1_0_is_nothing_to_oko(said: list[Said], idle: bool) -> None:
    dialect = Of10()
    dialect.table_ids = True
    messages = [encoded10(each) for each in said]
    block, length = b"".join(messages), len(messages[0])
    count = dialect.harmless(block, 0, length, idle)
    assert block[: count * length] == b"".join(messages[:count])
    assert all(is_nothing_to_oko(each, idle=idle) for each in said[:count])


@pytest.mark.parametrize("idle", [False, True])
def test_many_that_are_alike_are_seen_at_once(idle: bool) -> None:
    block = b"".join(encoded13((0, 1, number, number, False)) for number in range(1000))
    length = len(block) // 1000
    assert Of13().harmless(block, 0, length, idle) == 1000
    assert Of13().harmless(block + encoded13((3, 1, 0, 0, False)), 0, length, idle) == 1000
    assert Of13().harmless(block[: 10 * length - 1], 0, length, idle) == 9
    assert Of13().harmless(block, 990 * length, length, idle) == 10


def test_a_message_that_is_cut_off_is_left_to_open_vswitch() -> None:
    whole = encoded13((3, 0, 5, 0, False))
    for size in range(8, len(whole)):
        cut = whole[:2] + size.to_bytes(2, "big") + whole[4:size]
        assert Of13().harmless(cut, 0, size, True) == 0
        assert Of13().head(cut) is None


@given(
    pieces=st.lists(
        st.sampled_from((*TRACES, b"\x01\x1e", b"\x00\x01", b"\x80", b"\x0e", b"\x00\x02\x1e")), max_size=8
    ),
    start=st.integers(0, 6),
)
def test_a_trace_of_the_register_is_found(pieces: list[bytes], start: int) -> None:
    data = b"\x05".join(pieces)
    start = min(start, len(data))
    found = [at for trace in TRACES if (at := data.find(trace, start)) >= 0]
    assert find_trace(data, start) == min(found, default=len(data))
