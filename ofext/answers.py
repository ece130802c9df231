"""Errors of Python made into error messages, and back."""

from __future__ import annotations

from typing import Final

from oko.errors import ProtocolError, RemoteError

from .bundles import ONF, BundleError
from .constants import MAX_LENGTH
from .errors import BUNDLE_BY_TYPE, BY_CODE, EXPERIMENTER_ERROR, EXTENSION_BY_NAME, EXTENSION_BY_TYPE
from .extension import EXPERIMENTER
from .messages import Error, ExperimenterError

REQUEST_BYTES: Final = MAX_LENGTH - 24
"""How much of a failed request an error carries: all of it, as Open vSwitch does (OpenFlow 1.3.5, section 7.4.4, asks
for 64 bytes), but for what the largest header of an error takes."""

TEXT_LIMIT: Final = 60 * 1024
"""Bytes of text that an error of the extension carries."""


def refusal(error: ProtocolError, request: bytes) -> Error | ExperimenterError:
    """The message that answers `request` with `error`: one of the extension or of bundles if its type says so."""
    if isinstance(error, BundleError):
        return ExperimenterError(error.error_code, ONF, request[:REQUEST_BYTES])
    if error.error_type == EXPERIMENTER_ERROR:
        return ExperimenterError(error.error_code, EXPERIMENTER, _text(str(error), error.details))
    return Error(error.error_type, error.error_code, request[:REQUEST_BYTES])


def extension_error(name: str, message: str, details: str = "") -> ExperimenterError:
    """The error called `name` (`errors.EXTENSION_ERRORS`). Of details that are too long, the beginning is left out:
    a kernel log says at its end what was wrong."""
    return ExperimenterError(EXTENSION_BY_NAME[name].exp_type, EXPERIMENTER, _text(message, details))


def remote_error(answer: Error | ExperimenterError, reason: str = "") -> RemoteError:
    """The exception that tells what `answer` says. For the extension its message is the switch's own, with its
    details; otherwise it is the name of type and code, with the `reason` that the switch gave or else their meaning."""
    if isinstance(answer, Error):
        kind = BY_CODE.get((answer.type, answer.code))
        text = f"{kind.name}: {reason or kind.sentence}" if kind else f"error type {answer.type}, code {answer.code}"
        return RemoteError(f"the switch answered {text}", error_type=answer.type, error_code=answer.code)
    message, _, details = answer.data.decode("utf-8", "replace").partition("\n")
    if answer.experimenter == ONF and answer.exp_type in BUNDLE_BY_TYPE:
        bundle = BUNDLE_BY_TYPE[answer.exp_type]
        message, details = f"the switch answered {bundle.name}: {reason or bundle.sentence}", ""
    elif answer.experimenter != EXPERIMENTER:
        message, details = f"the switch answered error {answer.exp_type} of experimenter {answer.experimenter:#x}", ""
    elif not message:
        known = EXTENSION_BY_TYPE.get(answer.exp_type)
        message = f"{known.name}: {known.sentence}" if known else f"the switch answered error {answer.exp_type}"
    error = RemoteError(message, error_type=EXPERIMENTER_ERROR, error_code=answer.exp_type)
    error.details = details
    return error


def _text(message: str, details: str) -> bytes:
    first = " ".join(message.splitlines()).encode("utf-8", "backslashreplace")[:TEXT_LIMIT]
    rest = details.encode("utf-8", "backslashreplace")
    room = TEXT_LIMIT - len(first) - 1
    if not rest or room <= 0:
        return first
    return first + b"\n" + rest[-room:]
