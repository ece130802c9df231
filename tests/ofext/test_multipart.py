"""Answers divided into parts and joined."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofext.constants import MULTIPART_MORE
from ofext.extension import MapDumpReply, MapEntry, ProgramListReply
from ofext.messages import encode
from ofext.multipart import (
    PART_LIMIT,
    Desc,
    FlowStats,
    FlowStatsReply,
    MultipartReply,
    TableStats,
    TableStatsReply,
    join,
    split,
)
from oko.errors import LimitExceeded, ProtocolError

MULTIPART_HEADERS = 16


@given(st.lists(st.binary(max_size=60), max_size=30), st.integers(90, 300))
def test_split_and_join(values: list[bytes], limit: int) -> None:
    body = MapDumpReply(3, "flows", b"next", tuple(MapEntry(b"key", value) for value in values))
    parts = list(split(body, limit))
    assert join(parts) == body
    assert [part.flags for part in parts] == [MULTIPART_MORE] * (len(parts) - 1) + [0]
    assert all(len(encode(part)) <= limit + MULTIPART_HEADERS for part in parts)
    assert all(isinstance(part.body, MapDumpReply) and part.body.entries for part in parts[:-1])


def test_parts_are_filled() -> None:
    flow = FlowStats(*range(10))
    parts = list(split(FlowStatsReply((flow,) * 3000)))
    assert len(parts) == -(-3000 // (PART_LIMIT // 56))


@pytest.mark.parametrize(
    "body", [Desc("Oko"), ProgramListReply(), FlowStatsReply()], ids=lambda body: type(body).__name__
)
def test_one_part(body: Desc | ProgramListReply | FlowStatsReply) -> None:
    assert list(split(body)) == [MultipartReply(body)]
    assert join([MultipartReply(body)]) == body


def test_an_entry_that_fits_nowhere_is_refused() -> None:
    with pytest.raises(LimitExceeded, match="one entry of a MapDumpReply"):
        list(split(MapDumpReply(1, "m", b"", (MapEntry(b"k", bytes(PART_LIMIT)),))))


FOREIGN_PARTS = {
    "two kinds": [MultipartReply(FlowStatsReply(), 1), MultipartReply(TableStatsReply((TableStats(0, 0, 0, 0),)))],
    "undivided kind": [MultipartReply(Desc(), 1), MultipartReply(Desc())],
}


@pytest.mark.parametrize("parts", FOREIGN_PARTS.values(), ids=FOREIGN_PARTS.keys())
def test_parts_that_do_not_belong_together(parts: list[MultipartReply]) -> None:
    with pytest.raises(ProtocolError, match="do not belong together"):
        join(parts)
