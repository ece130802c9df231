"""`RelayedBundles`: the bundles of one connection, which are Open vSwitch's, or Oko's if filter rules are in them.

Two places cannot be changed at one instant. So a bundle has plain rules or filter rules, and one with both is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ofext.bundles import BundleAdd, BundleControl, BundleError
from oko.attached.relay.plane import FilterMod
from oko.errors import LimitExceeded, OkoError
from oko.openflow.bundles import BUNDLE_LIMIT, BYTE_LIMIT, MESSAGE_LIMIT

INNER: Final = 24
"""Where the message stands in the message that adds it to a bundle."""


@dataclass(slots=True)
class RelayedBundle:
    """`filters` are changes of filter rules, with the messages that asked for them, which Open vSwitch has not seen.
    `plain` are the flow_mods about table 0 that it has; `others` is set when it has anything. `failed` is why the
    bundle cannot be committed."""

    filters: list[tuple[FilterMod, bytes]] = field(default_factory=list)
    plain: list[bytes] = field(default_factory=list)
    others: bool = False
    failed: OkoError | None = None
    size: int = 0
    """Bytes of the messages that are kept here."""


class RelayedBundles:
    """By number. They end with the connection."""

    def __init__(self) -> None:
        self._open: dict[int, RelayedBundle] = {}

    def begin(self, message: BundleControl) -> None:
        """Open vSwitch is asked to open a bundle; one of that number ends. Raises BundleError."""
        self._open.pop(message.bundle_id, None)
        self._new(message.bundle_id)

    def end(self, message: BundleControl) -> RelayedBundle:
        """A bundle is committed or discarded."""
        return self._open.pop(message.bundle_id, None) or RelayedBundle()

    def keep_filter(self, message: BundleAdd, mod: FilterMod) -> None:
        """A change of filter rules comes into a bundle. Raises BundleError."""
        bundle = self._of(message)
        if bundle.others:
            raise self._mixed(message.bundle_id, bundle)
        self._take(message, bundle)
        bundle.filters.append((mod, message.message))

    def keep_plain(self, message: BundleAdd, *, first_table: bool) -> None:
        """Anything else comes into it: something about table 0, or not. Raises BundleError."""
        bundle = self._of(message)
        if bundle.filters:
            raise self._mixed(message.bundle_id, bundle)
        bundle.others = True
        if first_table:
            self._take(message, bundle)
            bundle.plain.append(message.message)

    def fail(self, message: BundleAdd, error: OkoError) -> None:
        """A message for the bundle was refused: the rest of it must not take effect, either."""
        bundle = self._open.get(message.bundle_id)
        if bundle is not None:
            bundle.failed = bundle.failed or error

    def _of(self, message: BundleAdd) -> RelayedBundle:
        return self._open.get(message.bundle_id) or self._new(message.bundle_id)

    def _new(self, number: int) -> RelayedBundle:
        if len(self._open) >= BUNDLE_LIMIT:
            raise BundleError("bundle-failed/out-of-bundles", f"{BUNDLE_LIMIT} bundles are open already")
        return self._open.setdefault(number, RelayedBundle())

    def _mixed(self, number: int, bundle: RelayedBundle) -> BundleError:
        error = mixed(number)
        bundle.failed = error
        return error

    def _take(self, message: BundleAdd, bundle: RelayedBundle) -> None:
        """Raises BundleError when one more message is beyond what may be kept."""
        bundles = self._open.values()
        for what, used, limit in (
            ("messages", sum(len(each.filters) + len(each.plain) for each in bundles) + 1, MESSAGE_LIMIT),
            ("bytes of messages", sum(each.size for each in bundles) + len(message.message), BYTE_LIMIT),
        ):
            if used > limit:
                beyond = LimitExceeded(
                    f"{what} in the bundles of a connection", used, limit, advice="commit or discard a bundle first"
                )
                bundle.failed = BundleError("bundle-failed/msg-too-many", f"bundle {message.bundle_id}: {beyond}")
                raise bundle.failed from beyond
        bundle.size += len(message.message)


def mixed(number: int) -> BundleError:
    """The refusal of a bundle that is about rules at both places."""
    return BundleError(
        "bundle-failed/msg-conflict",
        f"bundle {number} is about filter rules and about plain ones, which are not in one place: make it two bundles",
    )
