"""`FilterRules`: the filter rules of an attached bridge, as controllers gave them and ask for them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final

from ofext.messages import FlowMod, FlowRemoved
from ofext.multipart import Aggregate, FlowStats, FlowStatsRequest
from oko.attached.continuation import id_of
from oko.attached.filter_table import ChangeMessage, FilterTable, given, selects
from oko.attached.order import Order
from oko.attached.upstream import TABLE
from oko.errors import BundleFailed, OkoError
from oko.flow.rule import Command, Entry
from oko.openflow.packets import NO_COOKIE, write_removed
from oko.switch.bridge import Bridge, Event, Removed
from oko.switch.datapath import Count
from oko.wire.change import read_flow_mod, rule_flags
from oko.wire.match import write_match

_NS: Final = 1_000_000_000


class FilterRules:
    """Of an attached `bridge`; changes are carried out by `order`."""

    def __init__(self, bridge: Bridge, order: Order) -> None:
        self._bridge = bridge
        self._order = order
        self._table: FilterTable = order.table

    async def change(self, messages: Sequence[ChangeMessage]) -> list[OkoError | None]:
        """Carry changes out, in order: flow_mods for filter rules, also those that mean filter rules among others, and
        changes of observers. For each what was wrong with it. They are in effect when it returns."""
        try:
            await self._order.filters(messages)
            return [None] * len(messages)
        except BundleFailed as error:
            if len(messages) == 1:
                return [error.cause]
        except OkoError as error:
            if len(messages) == 1:
                return [error]
        return [outcome for message in messages for outcome in await self.change([message])]

    async def change_together(self, messages: Sequence[ChangeMessage]) -> None:
        """Carry changes out at one instant. Raises BundleFailed, and none is carried out then; AttachError without a
        connection to the bridge, and what Open vSwitch or the image say of all of them together."""
        await self._order.filters(messages)

    def flows(self, request: FlowStatsRequest) -> Iterator[FlowStats]:
        """The rules that a request means, with what they have counted."""
        now = time.monotonic_ns()
        for entry in self._selected(request):
            rule, count = entry.rule, self._bridge.count(entry.slot)
            seconds, nanoseconds = divmod(now - entry.installed, _NS)
            yield FlowStats(
                TABLE,
                seconds,
                nanoseconds,
                rule.priority,
                rule.idle_timeout,
                rule.hard_timeout,
                rule_flags(rule),
                rule.cookie,
                count.packets,
                count.bytes,
                write_match(rule.match),
                given(rule),
            )

    def totals(self) -> Aggregate:
        """What they have counted together."""
        counts = [self._bridge.count(entry.slot) for entry in self._table.entries()]
        total = sum(counts, Count())
        return Aggregate(total.packets, total.bytes, len(counts))

    def cookie_of(self, own: int) -> int:
        """The cookie of the rule that an own rule with the cookie `own` continues or stands in for; NO_COOKIE if there
        is none."""
        if (cookie := self._order.stand_ins.cookie_of(own)) is not None:
            return cookie
        shim_id = id_of(own)
        rule = None if shim_id is None else self._table.continued(shim_id)
        return NO_COOKIE if rule is None else rule.cookie

    def listen(self, hear: Callable[[FlowRemoved], None]) -> Callable[[], None]:
        """Let `hear` be called for every rule that is gone and asked to be told of, until what is returned is
        called."""

        def tell(event: Event) -> None:
            if isinstance(event, Removed) and event.entry.rule.send_removed:
                hear(write_removed(replace(event, reason=self._order.removal_reason(event))))

        return self._bridge.listen(tell)

    def _selected(self, request: FlowStatsRequest) -> list[Entry]:
        selection = FlowMod(
            cookie=request.cookie,
            cookie_mask=request.cookie_mask,
            table_id=request.table_id,
            command=Command.DELETE.value,
            out_port=request.out_port,
            out_group=request.out_group,
            match=request.match,
        )
        mod = read_flow_mod(selection)
        if not mod.all_tables and mod.rule.table != TABLE:
            return []
        found = [entry for entry in self._table.entries() if selects(mod, entry.rule)]
        return sorted(found, key=lambda entry: entry.rank)
