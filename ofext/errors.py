"""Error types and codes: those of OpenFlow 1.3.5 (section 7.4.4), of the extension and of bundles, each declared once.

An error of OpenFlow has a name like ``bad-match/bad-field`` for its type and code. An error of the extension is an
OFPET_EXPERIMENTER error of experimenter 0xff4f4b4f and has a one-word name like ``unknown-program``; one of bundles is
the ONF's (experimenter 0x4f4e4600) and has a name like ``bundle-failed/bad-id``, as in OpenFlow 1.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

EXPERIMENTER_ERROR: Final = 0xFFFF
"""OFPET_EXPERIMENTER: the error's code is then a number that the experimenter has chosen."""


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One (type, code) of OpenFlow. `name` is ``type/code``; `sentence` says what the sender did wrong."""

    type: int
    code: int
    name: str
    sentence: str


@dataclass(frozen=True, slots=True)
class ExtensionErrorKind:
    """One error of an experimenter: `exp_type` on the wire, `name`, and what happened in one `sentence`."""

    exp_type: int
    name: str
    sentence: str


_TYPES: Final[tuple[tuple[int, str, tuple[tuple[str, str], ...]], ...]] = (
    (
        0,
        "hello-failed",
        (
            ("incompatible", "The two sides speak no common version of OpenFlow."),
            ("eperm", "The peer may not connect."),
        ),
    ),
    (
        1,
        "bad-request",
        (
            ("bad-version", "The version in the header is not the one agreed upon."),
            ("bad-type", "No message has this type."),
            ("bad-multipart", "No multipart request has this type."),
            ("bad-experimenter", "The experimenter is not known here."),
            ("bad-exp-type", "The experimenter has no message of this type."),
            ("eperm", "The sender may not do this."),
            ("bad-len", "A length does not agree with the message."),
            ("buffer-empty", "The buffer has been used already."),
            ("buffer-unknown", "There is no such buffer."),
            ("bad-table-id", "There is no such table, or it cannot be used so."),
            ("is-slave", "The connection has the slave role, which may only read."),
            ("bad-port", "There is no such port."),
            ("bad-packet", "Bytes in the message cannot be read as what they should be."),
            ("multipart-buffer-overflow", "The parts of the request are more than can be kept."),
        ),
    ),
    (
        2,
        "bad-action",
        (
            ("bad-type", "There is no such action, or it is not done here."),
            ("bad-len", "The length of an action is wrong."),
            ("bad-experimenter", "The experimenter of an action is not known here."),
            ("bad-exp-type", "The experimenter has no action of this type."),
            ("bad-out-port", "An output names a port that is not there or cannot be output to."),
            ("bad-argument", "The argument of an action is out of range."),
            ("eperm", "The sender may not use this action."),
            ("too-many", "There are more actions than can be done."),
            ("bad-queue", "There is no such queue."),
            ("bad-out-group", "There is no such group, or it cannot be forwarded to."),
            ("match-inconsistent", "The action does not fit the packets that are matched."),
            ("unsupported-order", "The actions cannot be done in this order."),
            ("bad-tag", "The tag to push has an unknown ethertype."),
            ("bad-set-type", "The field cannot be set."),
            ("bad-set-len", "The field to set has the wrong length."),
            ("bad-set-argument", "The field cannot be set to this value."),
        ),
    ),
    (
        3,
        "bad-instruction",
        (
            ("unknown-inst", "There is no such instruction."),
            ("unsup-inst", "The instruction is not done here."),
            ("bad-table-id", "The table to go to is not there or does not come later."),
            ("unsup-metadata", "The metadata cannot hold this value."),
            ("unsup-metadata-mask", "The metadata cannot be written under this mask."),
            ("bad-experimenter", "The experimenter of an instruction is not known here."),
            ("bad-exp-type", "The experimenter has no instruction of this type."),
            ("bad-len", "The length of an instruction is wrong."),
            ("eperm", "The sender may not use this instruction."),
        ),
    ),
    (
        4,
        "bad-match",
        (
            ("bad-type", "The match is of a kind that is not read here."),
            ("bad-len", "The length of the match or of a field in it is wrong."),
            ("bad-tag", "The match uses an encapsulation that is not known here."),
            ("bad-dl-addr-mask", "Link-layer addresses cannot be matched under this mask."),
            ("bad-nw-addr-mask", "Network addresses cannot be matched under this mask."),
            ("bad-wildcards", "These fields cannot be left out together, or a value has bits that its mask hides."),
            ("bad-field", "There is no such field, or it is not matched here."),
            ("bad-value", "A field cannot have this value."),
            ("bad-mask", "A field cannot have this mask."),
            ("bad-prereq", "A field is matched without the field that it depends on."),
            ("dup-field", "A field is matched twice."),
            ("eperm", "The sender may not match on this."),
        ),
    ),
    (
        5,
        "flow-mod-failed",
        (
            ("unknown", "The flows could not be changed, for a reason that has no code."),
            ("table-full", "The table holds no more flows."),
            ("bad-table-id", "There is no such table."),
            ("overlap", "A flow of the same priority overlaps, and the check was asked for."),
            ("eperm", "The sender may not change flows so."),
            ("bad-timeout", "The timeouts are not honoured here."),
            ("bad-command", "There is no such command."),
            ("bad-flags", "There are no such flags, or they cannot be combined."),
        ),
    ),
    (
        6,
        "group-mod-failed",
        (
            ("group-exists", "The group is there already."),
            ("invalid-group", "The group is not valid as described."),
            ("weight-unsupported", "Buckets share the load equally here."),
            ("out-of-groups", "There is no room for another group."),
            ("out-of-buckets", "There is no room for another bucket."),
            ("chaining-unsupported", "A group cannot forward to a group here."),
            ("watch-unsupported", "What the bucket watches cannot be watched here."),
            ("loop", "The group would forward to itself."),
            ("unknown-group", "There is no such group."),
            ("chained-group", "Another group forwards to this one."),
            ("bad-type", "There is no such type of group."),
            ("bad-command", "There is no such command."),
            ("bad-bucket", "A bucket is not valid."),
            ("bad-watch", "A bucket watches a port or group that is not there."),
            ("eperm", "The sender may not change groups so."),
        ),
    ),
    (
        7,
        "port-mod-failed",
        (
            ("bad-port", "There is no such port."),
            ("bad-hw-addr", "The hardware address is not that of the port."),
            ("bad-config", "The port cannot be configured so."),
            ("bad-advertise", "The port cannot advertise these features."),
            ("eperm", "The sender may not change ports so."),
        ),
    ),
    (
        8,
        "table-mod-failed",
        (
            ("bad-table", "There is no such table."),
            ("bad-config", "The table cannot be configured so."),
            ("eperm", "The sender may not change tables so."),
        ),
    ),
    (
        9,
        "queue-op-failed",
        (
            ("bad-port", "There is no such port."),
            ("bad-queue", "There is no such queue."),
            ("eperm", "The sender may not ask for this queue."),
        ),
    ),
    (
        10,
        "switch-config-failed",
        (
            ("bad-flags", "There are no such flags."),
            ("bad-len", "The length of packet to send is out of range."),
            ("eperm", "The sender may not configure the switch."),
        ),
    ),
    (
        11,
        "role-request-failed",
        (
            ("stale", "A newer generation has been seen."),
            ("unsup", "Roles cannot be changed here."),
            ("bad-role", "There is no such role."),
        ),
    ),
    (
        12,
        "meter-mod-failed",
        (
            ("unknown", "The meters could not be changed, for a reason that has no code."),
            ("meter-exists", "The meter is there already."),
            ("invalid-meter", "The meter is not valid as described."),
            ("unknown-meter", "There is no such meter."),
            ("bad-command", "There is no such command."),
            ("bad-flags", "There are no such flags, or they are not honoured here."),
            ("bad-rate", "The rate is not possible."),
            ("bad-burst", "The burst size is not possible."),
            ("bad-band", "There is no such band."),
            ("bad-band-value", "The value of a band is not possible."),
            ("out-of-meters", "There is no room for another meter."),
            ("out-of-bands", "The meter has too many bands."),
        ),
    ),
    (
        13,
        "table-features-failed",
        (
            ("bad-table", "There is no such table."),
            ("bad-metadata", "The metadata mask is not possible."),
            ("bad-type", "There is no such property."),
            ("bad-len", "The length of a property is wrong."),
            ("bad-argument", "The value of a property is not possible."),
            ("eperm", "The sender may not change table features."),
        ),
    ),
)

ERRORS: Final[tuple[ErrorKind, ...]] = tuple(
    ErrorKind(type_, code, f"{type_name}/{name}", sentence)
    for type_, type_name, codes in _TYPES
    for code, (name, sentence) in enumerate(codes)
)

EXTENSION_ERRORS: Final[tuple[ExtensionErrorKind, ...]] = (
    ExtensionErrorKind(1, "program-not-readable", "The bytes are not an object file that holds a filter program."),
    ExtensionErrorKind(2, "program-rejected", "The program breaks a rule of the filter model."),
    ExtensionErrorKind(3, "unknown-program", "No program has this id."),
    ExtensionErrorKind(
        4, "program-in-use", "A flow or observer names the program, so it cannot be unloaded without FORCE."
    ),
    ExtensionErrorKind(5, "kernel-verifier", "The kernel's verifier refused the image."),
    ExtensionErrorKind(6, "kernel-budget", "The image is too complex for the kernel's verifier."),
    ExtensionErrorKind(7, "limit-exceeded", "A limit would be exceeded; the text says which, with used and limit."),
    ExtensionErrorKind(8, "unknown-map", "The program has no map of this name."),
    ExtensionErrorKind(9, "bad-map-access", "A key, value, cursor or flag does not fit the map."),
    ExtensionErrorKind(10, "map-shape-changed", "A map has another shape than the one it would replace."),
    ExtensionErrorKind(11, "load-out-of-order", "A chunk does not continue the load that is in progress."),
    ExtensionErrorKind(12, "load-digest-mismatch", "The bytes received do not have the digest announced."),
    ExtensionErrorKind(13, "too-many-loads", "Too many loads are in progress at once."),
    ExtensionErrorKind(14, "kernel", "The kernel refused an operation; the text says which and why."),
    ExtensionErrorKind(15, "port", "A port cannot be used as it is."),
)

_BUNDLE_ERRORS: Final[tuple[tuple[str, str], ...]] = (
    ("unknown", "The bundle could not be handled, for a reason that has no code."),
    ("eperm", "The sender may not use bundles."),
    ("bad-id", "There is no such bundle."),
    ("bundle-exist", "The bundle is there already."),
    ("bundle-closed", "The bundle is closed."),
    ("out-of-bundles", "There is no room for another bundle."),
    ("bad-type", "There is no such bundle command."),
    ("bad-flags", "There are no such flags, or they are not those that the bundle was opened with."),
    ("msg-bad-len", "The length of the message to add is wrong."),
    ("msg-bad-xid", "The message to add has another transaction id than the message that it comes in."),
    ("msg-unsup", "A message of this kind cannot be in a bundle."),
    ("msg-conflict", "The messages cannot be in one bundle."),
    ("msg-too-many", "There is no room for another message in the bundle."),
    ("msg-failed", "A message of the bundle failed, so none took effect."),
    ("timeout", "The bundle was open for too long."),
    ("bundle-in-progress", "Another bundle is in the way."),
)
_BUNDLE_BASE: Final = 2300

BUNDLE_ERRORS: Final[tuple[ExtensionErrorKind, ...]] = tuple(
    ExtensionErrorKind(_BUNDLE_BASE + number, f"bundle-failed/{name}", sentence)
    for number, (name, sentence) in enumerate(_BUNDLE_ERRORS)
)

BY_CODE: Final[dict[tuple[int, int], ErrorKind]] = {(kind.type, kind.code): kind for kind in ERRORS}
BY_NAME: Final[dict[str, ErrorKind]] = {kind.name: kind for kind in ERRORS}
EXTENSION_BY_TYPE: Final[dict[int, ExtensionErrorKind]] = {kind.exp_type: kind for kind in EXTENSION_ERRORS}
EXTENSION_BY_NAME: Final[dict[str, ExtensionErrorKind]] = {kind.name: kind for kind in EXTENSION_ERRORS}
BUNDLE_BY_TYPE: Final[dict[int, ExtensionErrorKind]] = {kind.exp_type: kind for kind in BUNDLE_ERRORS}
BUNDLE_BY_NAME: Final[dict[str, ExtensionErrorKind]] = {kind.name: kind for kind in BUNDLE_ERRORS}
