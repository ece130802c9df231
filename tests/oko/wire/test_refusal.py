from __future__ import annotations

import pytest

from ofext.errors import BY_NAME
from ofext.messages import Error, ExperimenterError
from oko.errors import (
    BadAction,
    BadFlowMod,
    BadGroup,
    BadInstruction,
    BadMatch,
    BadMeter,
    BundleFailed,
    KernelError,
    KernelRejected,
    LimitExceeded,
    OkoError,
    PortError,
    Rejected,
    UnknownProgram,
)
from oko.wire.refusal import answer_to, no_buffer, refused
from tests.oko.openflow.peer import error_name

REQUEST = bytes(100)


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (BadMatch("x", reason="bad-field"), "bad-match/bad-field"),
        (BadAction("x", reason="bad-out-group"), "bad-action/bad-out-group"),
        (BadInstruction("x", reason="unsup-inst"), "bad-instruction/unsup-inst"),
        (BadFlowMod("x", reason="overlap"), "flow-mod-failed/overlap"),
        (BadGroup("x", reason="loop"), "group-mod-failed/loop"),
        (BadMeter("x", reason="bad-band"), "meter-mod-failed/bad-band"),
        (BadMatch("x", reason="no such reason"), "flow-mod-failed/unknown"),
        (BundleFailed(3, BadGroup("x", reason="loop")), "group-mod-failed/loop"),
        (no_buffer(7), "bad-request/buffer-unknown"),
        *((refused(name, "x"), name) for name in BY_NAME),
    ],
)
def test_what_openflow_has_words_for(error: OkoError, name: str) -> None:
    answer = answer_to(error, REQUEST)
    assert isinstance(answer, Error)
    assert (error_name(answer), answer.data) == (name, REQUEST)


@pytest.mark.parametrize(
    ("error", "name", "text"),
    [
        (UnknownProgram("7 is not there"), "unknown-program", b"7 is not there"),
        (Rejected("cycle", "goes round", details="at 5"), "program-rejected", b"cycle: goes round\nat 5"),
        (LimitExceeded("rules", 3, 2), "limit-exceeded", b"rules: 3 used, limit 2"),
        (
            KernelRejected("too complex", code="kernel-budget", errno=7, details="log"),
            "kernel-budget",
            b"too complex\nlog",
        ),
        (PortError("is down"), "port", b"is down"),
        (KernelError("no memory"), "kernel", b"no memory"),
        (OkoError("anything else"), "kernel", b"anything else"),
    ],
)
def test_what_only_the_extension_has_words_for(error: OkoError, name: str, text: bytes) -> None:
    answer = answer_to(error, REQUEST)
    assert isinstance(answer, ExperimenterError)
    assert (error_name(answer), answer.data) == (name, text)
