"""Observers on the wire, byte by byte."""

from __future__ import annotations

import pytest

from ofext.extension import (
    EXPERIMENTER,
    FILTER_PROG_CLASS,
    FILTER_PROG_FIELD,
    FilterRulesShow,
    Observe,
    ObserverEntry,
    ObserverListReply,
    ObserverListRequest,
    Unobserve,
)
from ofext.messages import Message, decode, encode
from ofext.multipart import MultipartReply, MultipartRequest
from ofext.oxm import Oxm
from oko.errors import LimitExceeded, ProtocolError

FILTER = Oxm(FILTER_PROG_CLASS, FILTER_PROG_FIELD, (7).to_bytes(4, "big"), None, EXPERIMENTER)
ETH_TYPE = Oxm(0x8000, 5, b"\x08\x00")
MATCH = "0012 80000a02 0800 ffff0208 ff4f4b4f 00000007"

EXPECTED: dict[str, tuple[Message, str]] = {
    "observe": (Observe(3, (ETH_TYPE, FILTER)), f"0404 0028 00000005 ff4f4b4f 00000005 03000000 {MATCH}"),
    "unobserve": (Unobserve(3, ()), "0404 0016 00000005 ff4f4b4f 00000006 03000000 0000"),
    "show filter rules": (FilterRulesShow(), "0404 0010 00000005 ff4f4b4f 0000000b"),
    "list request": (
        MultipartRequest(ObserverListRequest()),
        "0412 0018 00000005 ffff 0000 00000000 ff4f4b4f 00000014",
    ),
    "list reply": (
        MultipartReply(ObserverListReply((ObserverEntry(1, ()), ObserverEntry(3, (ETH_TYPE, FILTER))))),
        f"0413 0036 00000005 ffff 0000 00000000 ff4f4b4f 00000014 01000000 0000 03000000 {MATCH}",
    ),
}


@pytest.mark.parametrize(("message", "data"), EXPECTED.values(), ids=EXPECTED.keys())
def test_observers(message: Message, data: str) -> None:
    assert encode(message, 5) == bytes.fromhex(data)
    assert decode(bytes.fromhex(data)) == (message, 5)


MALFORMED = {
    "no match": ("03000000", (1, 6)),
    "match beyond the end": ("03000000 0007 80000a02 0800", (1, 6)),
    "bytes behind the match": ("03000000 0000 00", (1, 6)),
    "field beyond the match": ("03000000 0005 80000a02 08", (4, 1)),
}


@pytest.mark.parametrize(("body", "code"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed(body: str, code: tuple[int, int]) -> None:
    content = bytes.fromhex("ff4f4b4f 00000005" + body)
    with pytest.raises(ProtocolError) as caught:
        decode(bytes([4, 4]) + (8 + len(content)).to_bytes(2, "big") + bytes(4) + content)
    assert (caught.value.error_type, caught.value.error_code) == code


def test_a_match_that_is_too_long_is_refused() -> None:
    with pytest.raises(LimitExceeded):
        encode(Observe(0, (Oxm(0x8000, 0, bytes(200)),) * 400))
