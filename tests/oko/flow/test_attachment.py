from __future__ import annotations

import pytest

from oko.errors import AttachError
from oko.flow.attachment import Attachment
from tests.oko.flow.written import match

HEAD = bytes.fromhex("020000000002 020000000001")
UNTAGGED = HEAD + bytes.fromhex("0800")
TAGGED = HEAD + bytes.fromhex("8100 0005 0800")
SERVICE = HEAD + bytes.fromhex("88a8 0005 8100 0006 0800")


@pytest.mark.parametrize(
    ("head", "length", "wanted"),
    [
        pytest.param(UNTAGGED, 1518, False, id="untagged"),
        pytest.param(UNTAGGED, 1519, True, id="untagged and too long"),
        pytest.param(TAGGED, 1522, False, id="tagged"),
        pytest.param(TAGGED, 1523, True, id="tagged and too long"),
        pytest.param(SERVICE, 1522, False, id="two tags: the kernel takes one out"),
        pytest.param(SERVICE, 1523, True, id="two tags and too long"),
    ],
)
def test_how_long_a_frame_may_be(head: bytes, length: int, wanted: bool) -> None:
    attachment = Attachment(longest={1: 1518})
    frame = head.ljust(length, b"\0")
    assert attachment.is_too_long(frame, 1) is wanted
    assert not attachment.is_too_long(frame, 2)


@pytest.mark.parametrize("limit", [0, 3])
def test_a_vlan_limit_that_is_none(limit: int) -> None:
    with pytest.raises(AttachError, match=f"VLAN limit of {limit}"):
        Attachment(limit)


def test_reserved_frames_ask_no_program() -> None:
    with pytest.raises(AttachError, match="program 7"):
        Attachment(reserved=(match("filter_prog=7"),))
