"""What a peer is told about an error: the OpenFlow message that each class of errors becomes."""

from __future__ import annotations

from typing import Final

from ofext.answers import extension_error, refusal
from ofext.errors import BY_NAME
from ofext.extension import EXPERIMENTER, Reason
from ofext.messages import Error, ExperimenterError
from oko.errors import (
    BadAction,
    BadFlowMod,
    BadGroup,
    BadInstruction,
    BadMapAccess,
    BadMatch,
    BadMeter,
    BundleFailed,
    FlowError,
    KernelError,
    KernelRejected,
    LimitExceeded,
    MapShapeChanged,
    NotReadable,
    OkoError,
    PortError,
    ProgramInUse,
    ProtocolError,
    Rejected,
    UnknownMap,
    UnknownProgram,
)

_REASONS: Final[dict[type[FlowError], str]] = {
    BadMatch: "bad-match",
    BadAction: "bad-action",
    BadInstruction: "bad-instruction",
    BadFlowMod: "flow-mod-failed",
    BadGroup: "group-mod-failed",
    BadMeter: "meter-mod-failed",
}
"""The error type that a class of errors has on the wire; its `reason` is the code's name."""

_EXTENSION: Final[dict[type[OkoError], str]] = {
    NotReadable: "program-not-readable",
    Rejected: "program-rejected",
    UnknownProgram: "unknown-program",
    ProgramInUse: "program-in-use",
    UnknownMap: "unknown-map",
    BadMapAccess: "bad-map-access",
    MapShapeChanged: "map-shape-changed",
    LimitExceeded: "limit-exceeded",
    PortError: "port",
    KernelError: "kernel",
}
"""The extension's error for what OpenFlow has no words for, most derived class first."""


def refused(name: str, message: str) -> ProtocolError:
    """The exception that answers with the OpenFlow error called `name` (`ofext.errors.ERRORS`)."""
    known = BY_NAME[name]
    return ProtocolError(message, error_type=known.type, error_code=known.code)


def no_buffer(number: int) -> ProtocolError:
    """The exception for a packet that is said to be in a buffer."""
    return refused("bad-request/buffer-unknown", f"buffer {number:#x}: this switch has no buffers, send the packet")


def explained(error: OkoError, request: bytes) -> tuple[Reason | Error | ExperimenterError, ...]:
    """What tells a peer about `error` that has asked for reasons; errors of the extension have theirs in them."""
    answer = answer_to(error, request)
    if isinstance(answer, ExperimenterError) and answer.experimenter == EXPERIMENTER:
        return (answer,)
    return Reason(str(error)), answer


def answer_to(error: OkoError, request: bytes) -> Error | ExperimenterError:
    """The error message that tells the peer about `error`, which `request` has met."""
    if isinstance(error, ProtocolError):
        return refusal(error, request)
    if isinstance(error, BundleFailed):
        return answer_to(error.cause, request)
    for kind, prefix in _REASONS.items():
        if isinstance(error, kind):
            name = f"{prefix}/{error.reason}"
            return refusal(refused(name if name in BY_NAME else "flow-mod-failed/unknown", str(error)), request)
    if isinstance(error, KernelRejected):
        return extension_error(error.code, str(error), error.details)
    for other, name in _EXTENSION.items():
        if isinstance(error, other):
            message = f"{error.code}: {error}" if isinstance(error, Rejected) else str(error)
            return extension_error(name, message, error.details)
    return extension_error("kernel", str(error), error.details)
