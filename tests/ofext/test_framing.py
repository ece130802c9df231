"""Framing: the same messages however the bytes arrive."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofext.framing import Splitter
from ofext.messages import EchoRequest, encode
from oko.errors import ProtocolError

MESSAGES = [encode(EchoRequest(bytes(size)), size) for size in (0, 1, 100)]


@given(st.lists(st.sampled_from(MESSAGES), max_size=6), st.lists(st.integers(0, 400), max_size=8))
def test_messages_come_whole_however_they_arrive(messages: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(messages)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    splitter = Splitter()
    received = [message for start, stop in pairwise(edges) for message in splitter.feed(stream[start:stop])]
    assert received == messages
    assert splitter.pending == 0


def test_a_cut_off_message_is_pending() -> None:
    splitter = Splitter()
    assert list(splitter.feed(MESSAGES[2][:50])) == []
    assert splitter.pending == 50


@pytest.mark.parametrize("length", [0, 7])
def test_a_length_below_the_header_ends_the_stream(length: int) -> None:
    splitter = Splitter()
    messages = splitter.feed(MESSAGES[0] + bytes([4, 2, 0, length]))
    assert next(messages) == MESSAGES[0]
    with pytest.raises(ProtocolError) as caught:
        next(messages)
    assert (caught.value.error_type, caught.value.error_code) == (1, 6)
    with pytest.raises(ProtocolError):
        list(splitter.feed(MESSAGES[0]))
