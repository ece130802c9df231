"""Exceptions and error messages."""

from __future__ import annotations

import pytest

from ofext.answers import TEXT_LIMIT, extension_error, refusal, remote_error
from ofext.extension import EXPERIMENTER
from ofext.load import LoadError
from ofext.messages import Error, ExperimenterError, decode, encode
from oko.errors import ProtocolError


def test_a_refusal_carries_the_request() -> None:
    error = ProtocolError("no such type", error_type=1, error_code=1)
    assert refusal(error, bytes(range(100))) == Error(1, 1, bytes(range(100)))


def test_a_refused_chunk_is_an_error_of_the_extension() -> None:
    answer = refusal(LoadError("load-out-of-order", "chunk 7 is missing"), b"request")
    assert answer == ExperimenterError(11, EXPERIMENTER, b"chunk 7 is missing")


def test_an_error_of_the_extension_comes_through() -> None:
    answer, _ = decode(encode(extension_error("kernel-verifier", "refused – by the kernel", "line 1\nline 2")))
    assert isinstance(answer, ExperimenterError)
    error = remote_error(answer)
    assert str(error) == "refused – by the kernel"
    assert error.details == "line 1\nline 2"
    assert (error.error_type, error.error_code) == (0xFFFF, 5)


def test_the_end_of_a_long_log_is_kept() -> None:
    answer = extension_error("kernel-verifier", "refused", "x" * 100_000 + "the reason")
    assert len(answer.data) == TEXT_LIMIT
    assert answer.data.startswith(b"refused\nxxx")
    assert answer.data.endswith(b"xxxthe reason")
    encode(answer)


def test_a_message_is_one_line() -> None:
    assert extension_error("port", "one\ntwo").data == b"one two"


REMOTE = {
    "known code": (
        Error(4, 9),
        "the switch answered bad-match/bad-prereq: A field is matched without the field that it depends on.",
    ),
    "unknown code": (Error(4, 99), "the switch answered error type 4, code 99"),
    "no text": (ExperimenterError(3, EXPERIMENTER), "unknown-program: No program has this id."),
    "unknown error without text": (ExperimenterError(99, EXPERIMENTER), "the switch answered error 99"),
    "another experimenter": (
        ExperimenterError(3, 0x2320, b"\xff"),
        "the switch answered error 3 of experimenter 0x2320",
    ),
}


def test_a_reason_takes_the_place_of_a_meaning() -> None:
    error = remote_error(Error(4, 9), "tp_dst needs tcp")
    assert str(error) == "the switch answered bad-match/bad-prereq: tp_dst needs tcp"


@pytest.mark.parametrize(("answer", "message"), REMOTE.values(), ids=REMOTE.keys())
def test_what_a_remote_error_says(answer: Error | ExperimenterError, message: str) -> None:
    assert str(remote_error(answer)) == message
