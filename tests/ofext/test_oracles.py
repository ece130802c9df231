"""What a switch sends, with any content, is what os-ken reads: number by number."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given

from ofext.messages import FeaturesReply, GetConfigReply, encode
from ofext.multipart import (
    Aggregate,
    GroupFeatures,
    GroupStatsReply,
    MeterFeatures,
    MeterStatsReply,
    MultipartReply,
    PortDescReply,
    PortStatsReply,
    QueueStatsReply,
    TableStatsReply,
)
from tests.ofext.oracles import osken_read
from tests.ofext.strategies import of_class

BODIES = (
    Aggregate,
    GroupFeatures,
    GroupStatsReply,
    MeterFeatures,
    MeterStatsReply,
    PortDescReply,
    PortStatsReply,
    QueueStatsReply,
    TableStatsReply,
)


def assert_same_numbers(ours: Any, theirs: Any) -> None:
    """Every number of ours that has a name of theirs; there is one at least."""
    names = [field.name for field in fields(ours) if hasattr(theirs, field.name)]
    numbers = {name: getattr(ours, name) for name in names if isinstance(getattr(ours, name), int)}
    rows = {name: list(getattr(ours, name)) for name in names if name == "max_groups"}
    assert numbers
    assert {name: getattr(theirs, name) for name in {**numbers, **rows}} == {**numbers, **rows}


@pytest.mark.parametrize("structure", [FeaturesReply, GetConfigReply], ids=lambda cls: cls.__name__)
def test_messages(structure: type) -> None:
    @given(of_class(structure))
    def check(message: Any) -> None:
        assert_same_numbers(message, osken_read(encode(message)))

    check()


@pytest.mark.parametrize("structure", BODIES, ids=lambda cls: cls.__name__)
def test_multipart_replies(structure: type) -> None:
    @given(of_class(structure))
    def check(body: Any) -> None:
        theirs = osken_read(encode(MultipartReply(body))).body
        if hasattr(body, "entries"):
            for ours, entry in zip(body.entries, theirs, strict=True):
                assert_same_numbers(ours, entry)
        else:
            assert_same_numbers(body, theirs[0] if isinstance(theirs, list) else theirs)

    check()
