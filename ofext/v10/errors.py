"""The errors of OpenFlow 1.3 as OpenFlow 1.0 says them (OpenFlow 1.0.1, section 5.4.4).

What OpenFlow 1.0 has no code for, Nicira's extension mostly has: an error of type 0xb0c2 that carries vendor, type and
code in front of the data (`messages.VendorError`). Errors that neither has are UNENCODABLE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

NICIRA_ERROR: Final = 0xB0C2
"""The type of an error whose vendor, type and code are in its data."""


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """An error: OpenFlow's own, or with `nicira` of Nicira's extension."""

    type: int
    code: int
    nicira: bool = False


UNENCODABLE: Final = ErrorKind(1, 521, nicira=True)
"""What happened cannot be said in OpenFlow 1.0."""

_STANDARD: Final[tuple[tuple[int, str, tuple[str, ...]], ...]] = (
    (0, "hello-failed", ("incompatible", "eperm")),
    (
        1,
        "bad-request",
        (
            "bad-version",
            "bad-type",
            "bad-multipart",
            "bad-experimenter",
            "bad-exp-type",
            "eperm",
            "bad-len",
            "buffer-empty",
            "buffer-unknown",
        ),
    ),
    (
        2,
        "bad-action",
        (
            "bad-type",
            "bad-len",
            "bad-experimenter",
            "bad-exp-type",
            "bad-out-port",
            "bad-argument",
            "eperm",
            "too-many",
            "bad-queue",
        ),
    ),
    (4, "port-mod-failed", ("bad-port", "bad-hw-addr")),
    (5, "queue-op-failed", ("bad-port", "bad-queue", "eperm")),
)
"""Types whose codes have the names, in the order, of those of OpenFlow 1.3."""

ERRORS: Final[dict[str, ErrorKind]] = {
    **{
        f"{type_name}/{name}": ErrorKind(type_, code)
        for type_, type_name, names in _STANDARD
        for code, name in enumerate(names)
    },
    "bad-request/is-slave": ErrorKind(1, 5),
    "bad-request/bad-table-id": ErrorKind(1, 512, nicira=True),
    "bad-request/bad-port": ErrorKind(1, 514, nicira=True),
    "bad-action/bad-tag": ErrorKind(2, 5),
    "bad-action/bad-out-group": ErrorKind(2, 9, nicira=True),
    "bad-action/match-inconsistent": ErrorKind(1, 522, nicira=True),
    "bad-action/bad-set-type": ErrorKind(1, 523, nicira=True),
    "bad-action/bad-set-len": ErrorKind(1, 524, nicira=True),
    "bad-action/bad-set-argument": ErrorKind(1, 525, nicira=True),
    "bad-action/unsupported-order": ErrorKind(3, 5),
    "bad-instruction/bad-table-id": ErrorKind(1, 512, nicira=True),
    "bad-instruction/unsup-inst": ErrorKind(2, 257, nicira=True),
    "bad-match/bad-wildcards": ErrorKind(1, 262, nicira=True),
    "bad-match/bad-field": ErrorKind(0, 263, nicira=True),
    "bad-match/bad-value": ErrorKind(1, 258, nicira=True),
    "bad-match/bad-mask": ErrorKind(1, 259, nicira=True),
    "bad-match/bad-prereq": ErrorKind(1, 260, nicira=True),
    "bad-match/dup-field": ErrorKind(1, 261, nicira=True),
    "bad-match/bad-len": ErrorKind(1, 256, nicira=True),
    "flow-mod-failed/table-full": ErrorKind(3, 0),
    "flow-mod-failed/overlap": ErrorKind(3, 1),
    "flow-mod-failed/eperm": ErrorKind(3, 2),
    "flow-mod-failed/bad-timeout": ErrorKind(3, 3),
    "flow-mod-failed/bad-command": ErrorKind(3, 4),
    "flow-mod-failed/bad-table-id": ErrorKind(5, 257, nicira=True),
    "flow-mod-failed/bad-flags": ErrorKind(3, 258, nicira=True),
    "port-mod-failed/bad-config": ErrorKind(1, 5),
    "port-mod-failed/bad-advertise": ErrorKind(1, 5),
    "port-mod-failed/eperm": ErrorKind(1, 5),
    "switch-config-failed/bad-flags": ErrorKind(1, 5),
    "limit-exceeded": ErrorKind(3, 0),
}
"""By the name that `ofext.errors` gives to the error of OpenFlow 1.3 or of the extension."""
