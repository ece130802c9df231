"""`Bundles`: the bundles of one connection, from their opening to their end (`ofext.bundles`).

As the ONF's extension 230 and OpenFlow 1.4 (7.3.9) have it. Every bundle takes effect at one instant and in order,
whether its flags ask for that or not. A request that does not fit the bundle it names ends the bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from ofext.bundles import BundleAdd, BundleCommand, BundleControl, BundleError, BundleFlag
from ofext.messages import Message, decode, encode
from oko.errors import BundleFailed, LimitExceeded, OkoError
from oko.flow.change import Change
from oko.switch.bridge import Bridge
from oko.wire.change import ChangeMessage, read_change

BUNDLE_LIMIT: Final = 16
"""Bundles of a connection."""
MESSAGE_LIMIT: Final = 1 << 17
"""Messages in all bundles of a connection."""
BYTE_LIMIT: Final = 64 << 20
"""Bytes of these messages."""


@dataclass(slots=True)
class _Bundle:
    flags: int
    closed: bool = False
    changes: list[Change] = field(default_factory=list)
    messages: list[bytes] = field(default_factory=list)
    bytes: int = 0
    """Of its messages."""


class Bundles:
    """They end with the connection."""

    def __init__(
        self, bridge: Bridge, require_right: Callable[[Message], None], refusal: Callable[[OkoError, bytes], bytes]
    ) -> None:
        """`require_right` raises ProtocolError for a message that the peer may not send. `refusal` makes what tells it
        of an error that a message has met."""
        self._bridge = bridge
        self._require_right = require_right
        self._refusal = refusal
        self._open: dict[int, _Bundle] = {}

    def control(self, message: BundleControl, xid: int) -> Iterator[bytes]:
        """Carry out a command; the encoded answers to it. Raises BundleError, and what `Bridge.change_together`
        raises but for BundleFailed."""
        number = message.bundle_id
        match message.type:
            case BundleCommand.OPEN_REQUEST:
                if self._open.pop(number, None) is not None:
                    raise BundleError("bundle-failed/bad-id", f"bundle {number} was open already, and is discarded")
                self._new(number, message.flags)
                answer = BundleCommand.OPEN_REPLY
            case BundleCommand.CLOSE_REQUEST:
                self._usable(number, message.flags).closed = True
                answer = BundleCommand.CLOSE_REPLY
            case BundleCommand.COMMIT_REQUEST:
                bundle = self._agreeing(number, message.flags)
                del self._open[number]
                try:
                    if bundle.changes:
                        self._bridge.change_together(bundle.changes)
                except BundleFailed as error:
                    yield self._refusal(error.cause, bundle.messages[error.index])
                    raise BundleError("bundle-failed/msg-failed", f"bundle {number}: {error}") from error
                answer = BundleCommand.COMMIT_REPLY
            case BundleCommand.DISCARD_REQUEST:
                self._known(number)
                del self._open[number]
                answer = BundleCommand.DISCARD_REPLY
            case _:
                raise BundleError("bundle-failed/bad-type", f"{message.type} is no command for bundles")
        yield encode(BundleControl(number, answer, message.flags), xid)

    def add(self, message: BundleAdd, xid: int) -> None:
        """Put a message into a bundle, which is opened if there is none. Raises BundleError, and for the message in it
        ProtocolError and FlowError."""
        number = message.bundle_id
        bundle = self._usable(number, message.flags) if number in self._open else self._new(number, message.flags)
        inner, inner_xid = decode(message.message)
        if inner_xid != xid:
            raise BundleError(
                "bundle-failed/msg-bad-xid", f"bundle {number}: transaction {inner_xid:#x} inside of {xid:#x}"
            )
        if not isinstance(inner, ChangeMessage):
            raise BundleError(
                "bundle-failed/msg-unsup", f"bundle {number}: a message {type(inner).__name__} cannot be in a bundle"
            )
        self._require_right(inner)
        self._require_room(number, len(message.message))
        bundle.changes.append(read_change(inner))
        bundle.messages.append(message.message)
        bundle.bytes += len(message.message)

    def _require_room(self, number: int, size: int) -> None:
        """Raises BundleError when one more message, of `size` bytes, is beyond what the bundles may hold."""
        bundles = self._open.values()
        for what, used, limit in (
            ("messages", sum(len(bundle.messages) for bundle in bundles) + 1, MESSAGE_LIMIT),
            ("bytes of messages", sum(bundle.bytes for bundle in bundles) + size, BYTE_LIMIT),
        ):
            if used > limit:
                beyond = LimitExceeded(
                    f"{what} in the bundles of a connection", used, limit, advice="commit or discard a bundle first"
                )
                raise BundleError("bundle-failed/msg-too-many", f"bundle {number}: {beyond}") from beyond

    def _new(self, number: int, flags: int) -> _Bundle:
        unknown = flags & ~sum(BundleFlag)
        if unknown:
            raise BundleError("bundle-failed/bad-flags", f"bundle {number}: flags {unknown:#x} are none of a bundle's")
        if len(self._open) >= BUNDLE_LIMIT:
            raise BundleError("bundle-failed/out-of-bundles", f"{BUNDLE_LIMIT} bundles are open already")
        return self._open.setdefault(number, _Bundle(flags))

    def _known(self, number: int) -> _Bundle:
        try:
            return self._open[number]
        except KeyError:
            raise BundleError("bundle-failed/bad-id", f"bundle {number} is not open") from None

    def _agreeing(self, number: int, flags: int) -> _Bundle:
        """The bundle; with other flags than these it ends."""
        bundle = self._known(number)
        if bundle.flags != flags:
            del self._open[number]
            raise BundleError(
                "bundle-failed/bad-flags",
                f"bundle {number} was opened with flags {bundle.flags:#x}, not {flags:#x}, and is discarded",
            )
        return bundle

    def _usable(self, number: int, flags: int) -> _Bundle:
        """The bundle; a closed one ends."""
        bundle = self._known(number)
        if bundle.closed:
            del self._open[number]
            raise BundleError("bundle-failed/bundle-closed", f"bundle {number} was closed, and is discarded")
        return self._agreeing(number, flags)
